// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

const (
	// windowSize is how much of a segment is read at once.
	windowSize = 256 << 10
	// unreadablePiece is the granularity in which a failing disk is read around.
	unreadablePiece = 4 << 10
)

// window is a moving view of a file.
type window struct {
	f    fsx.File
	size int64 // of the file
	off  int64 // of buf in the file
	buf  []byte
	// unreadable is the end of the last piece that the disk did not give; such pieces read as zeros.
	unreadable int64
}

// at returns the bytes of the file from off on: at least n of them, but for the end of the file.
func (w *window) at(off, n int64) []byte {
	n = min(n, w.size-off)
	if n <= 0 {
		return nil
	}
	if off < w.off || off+n > w.off+int64(len(w.buf)) {
		w.fill(off, n)
	}
	return w.buf[off-w.off:]
}

func (w *window) fill(off, n int64) {
	n = min(max(n, windowSize), w.size-off)
	if int64(cap(w.buf)) < n {
		w.buf = make([]byte, n)
	}
	w.off, w.buf = off, w.buf[:n]
	got, err := w.f.ReadAt(w.buf, off)
	if err == nil {
		return
	}
	clear(w.buf[got:])
	if errors.Is(err, io.EOF) {
		return
	}
	for i := int64(got) &^ (unreadablePiece - 1); i < n; i += unreadablePiece {
		piece := w.buf[i:min(i+unreadablePiece, n)]
		if _, err := w.f.ReadAt(piece, off+i); err != nil && !errors.Is(err, io.EOF) {
			clear(piece)
			w.unreadable = max(w.unreadable, off+i+int64(len(piece)))
		}
	}
}

// scanner reads the frames of one segment.
type scanner struct {
	stamp
	w   window
	off int64
	end int64 // where to stop
}

// next reads the frame at the scanner's offset and moves behind it; false if there is none, and the scanner
// stays.
func (s *scanner) next() (frame, bool) {
	f, ok := s.read(s.off)
	if ok {
		s.off += f.size
	}
	return f, ok
}

func (s *scanner) read(off int64) (frame, bool) {
	f, ok := s.open(s.w.at(off, frameHeader), off)
	if !ok || f.off+f.size > s.end {
		return frame{}, false
	}
	if f.payload, ok = s.bodyOf(f, s.w.at(off, f.size)); !ok {
		return frame{}, false
	}
	return f, true
}

// seek moves to the next valid frame, or to the end.
func (s *scanner) seek() {
	for off := s.off + frameAlign; off+frameHeader <= s.end; {
		b := s.w.at(off, frameHeader)
		for len(b) >= frameHeader {
			if binary.LittleEndian.Uint32(b[offSeg:]) == s.segment {
				if _, ok := s.open(b, off); ok {
					break
				}
			}
			b, off = b[frameAlign:], off+frameAlign
		}
		if off+frameHeader > s.end {
			break
		}
		if _, ok := s.read(off); ok {
			s.off = off
			return
		}
		if len(b) >= frameHeader {
			off += frameAlign
		}
	}
	s.off = s.end
}
