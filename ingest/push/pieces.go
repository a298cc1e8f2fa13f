// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package push

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// pieceTimeout is how long a sender may take for a piece, or for the line that it has begun.
const pieceTimeout = 2 * time.Minute

// fill reads until a piece is full, the body is at its end, or whole lines have waited for long enough. What the buffer
// has not been asked for yet is at its beginning then.
func (f *Feed) fill() error {
	f.end = copy(f.buf[:cap(f.buf)], f.buf[f.start:f.end])
	f.start = 0
	f.buf = f.buf[:f.end]
	if f.eof {
		return nil
	}
	began := time.Now()
	if err := f.deadline(began.Add(f.body.Idle)); err != nil {
		return err
	}
	whole := false // a line has arrived
	for {
		if f.end == cap(f.buf) || f.charged == 0 {
			if f.end >= max(pieceBytes, f.wanted()) {
				return nil
			}
			if err := f.grow(); err != nil {
				return err
			}
		}
		n, err := f.body.Reader.Read(f.buf[f.end:cap(f.buf)])
		first := !whole
		whole = whole || bytes.IndexByte(f.buf[f.end:f.end+n], '\n') >= 0
		f.end += n
		f.buf = f.buf[:f.end]
		switch {
		case errors.Is(err, io.EOF):
			f.eof = true
			return nil
		case whole && f.body.Live && errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return f.broken(err)
		case whole && time.Since(began) > f.body.Linger:
			return nil
		case whole && first && f.body.Live:
			began = time.Now()
			if err := f.deadline(began.Add(f.body.Linger)); err != nil {
				return err
			}
		}
	}
}

func (f *Feed) deadline(t time.Time) error {
	if f.body.Deadline == nil {
		return nil
	}
	return f.body.Deadline(t)
}

// wanted is how long the buffer must be for the line that it begins with: as long as a line may be, where it has no end
// yet.
func (f *Feed) wanted() int {
	if f.end >= pieceBytes && f.lineLength(f.buf[:f.end]) < 0 {
		return f.body.MaxLine + 1
	}
	return 0
}

func (f *Feed) grow() error {
	size := cap(f.buf)
	switch {
	case f.end < size: // a buffer of before, that has not been charged yet
	case size == 0:
		size = firstRead
	default:
		size = min(2*size, max(pieceBytes, f.body.MaxLine+1))
	}
	if err := f.charge(size); err != nil {
		return err
	}
	if size > cap(f.buf) {
		fresh := make([]byte, f.end, size)
		copy(fresh, f.buf)
		f.buf = fresh
	}
	return nil
}

// perByte is what a byte of a body may take: itself, and the marks of series, of which each has a line of four bytes or more.
const perByte = 3

// charge makes the request pay for a buffer of so many bytes.
func (f *Feed) charge(size int) error {
	if size <= f.charged {
		return nil
	}
	if err := f.req.Charge(int64(size-f.charged) * perByte); err != nil {
		return err
	}
	f.charged = size
	return nil
}

// broken stores the whole lines of a body that ended with an error.
func (f *Feed) broken(err error) error {
	if _, serr := f.store(); serr != nil {
		return serr
	}
	return &BodyError{Err: fmt.Errorf("the body ended early, in line %d: %w", f.lineNo+1, err)}
}

// skip drops what is there of a line that is too long, and what follows of it.
func (f *Feed) skip() {
	if !f.skipping {
		f.report.Lines++
		f.lineNo++
		f.reject(f.tooLong())
		f.lineNo-- // it is counted where it ends
		f.skipping = true
	}
	f.start = f.end
}

func (f *Feed) tooLong() *SyntaxError {
	return Bad(f.body.MaxLine, fmt.Sprintf("the line is longer than %d bytes", f.body.MaxLine))
}

// lineLength returns how long the line is that data begins with, without its break, and a negative number where it goes on.
func (f *Feed) lineLength(data []byte) int {
	switch {
	case f.body.Whole && f.eof:
		return len(data)
	case f.body.Whole:
		return -1
	case f.skipping:
		return End(data, f.eof)
	default:
		return f.body.Format.End(data, f.eof)
	}
}

// trim takes the rest of a line break of two bytes off a line.
func (f *Feed) trim(line []byte) []byte {
	if f.body.Whole {
		return line
	}
	return bytes.TrimSuffix(line, []byte{'\r'})
}

// lineEnd returns the index of the first line break, len(data) if there is none.
func lineEnd(data []byte) int {
	if n := bytes.IndexByte(data, '\n'); n >= 0 {
		return n
	}
	return len(data)
}

// End is Format.End of formats whose lines end at the first line break.
func End(data []byte, last bool) int {
	if n := bytes.IndexByte(data, '\n'); n >= 0 || !last {
		return n
	}
	return len(data)
}

func countBreaks(b []byte) int { return bytes.Count(b, []byte{'\n'}) }
