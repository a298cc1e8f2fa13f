// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/tidemarkdb/tidemark/tsdb/decbuf"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// CorruptError says that a checkpoint does not follow its format.
type CorruptError struct {
	Off int64 // of the frame, in bytes
	Msg string
}

// Error names the place and the fault.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("corrupt checkpoint: frame at byte %d: %s", e.Off, e.Msg)
}

// maxFrame is the largest frame that is read. A frame of 512 series with all that a slot can hold is far below.
const maxFrame = 1 << 30

// LoadSnapshot restores what Snapshot wrote, but for the rows that Flushed says are in blocks, and makes the LSN
// after its epoch the next. The head must be new. A *CorruptError, or another error, leaves it half loaded: good
// for Close only.
//
// The samples are loaded by a few goroutines, each those of a share of the shards, and the labels by one more, while
// this one reads.
func (h *Head) LoadSnapshot(r io.Reader) error {
	l := snapshotLoader{
		bodyLoader: bodyLoader{head: h, now: time.Now()}, frames: frameReader{r: r}, registry: registryLoader{dir: &h.dir},
	}
	err := l.load()
	if l.crew != nil {
		err = l.crew.end(err)
	}
	if err == nil {
		err = l.complete()
	}
	l.registry.end()
	if err != nil {
		return fmt.Errorf("load checkpoint: %w", err)
	}
	h.order.start(l.epoch)
	return nil
}

// rawFrame is a frame as it is in the file.
type rawFrame struct {
	off     int64
	lead    [8]byte // its length and its checksum
	payload []byte  // never empty
	charged int64   // for payload
}

// check compares the checksum.
func (f *rawFrame) check() error {
	want := binary.LittleEndian.Uint32(f.lead[4:])
	if sum := frameSum(f.lead[:4], f.payload); sum != want {
		return &CorruptError{Off: f.off, Msg: fmt.Sprintf("checksum %08x, want %08x", sum, want)}
	}
	return nil
}

// frameReader reads the frames of a checkpoint, unchecked.
type frameReader struct {
	r    io.Reader
	read int64
}

// largeFrame is the size from which on memory for a frame is taken as its bytes come: a length may be damaged.
const largeFrame = 1 << 20

// next reads a frame into f, whose memory it uses again.
func (x *frameReader) next(f *rawFrame) error {
	f.off = x.read
	if n, err := io.ReadFull(x.r, f.lead[:]); err != nil {
		return x.short(err, n)
	}
	size := int(binary.LittleEndian.Uint32(f.lead[:]))
	if size <= 0 || size > maxFrame {
		return &CorruptError{Off: f.off, Msg: fmt.Sprintf("a length of %d", size)}
	}
	f.payload = f.payload[:0]
	for have := 0; have < size; have = len(f.payload) {
		f.payload = resizeKeep(f.payload, min(size, max(largeFrame, 2*have)))
		if n, err := io.ReadFull(x.r, f.payload[have:]); err != nil {
			return x.short(err, have+n)
		}
	}
	x.read += 8 + int64(size)
	return nil
}

func (x *frameReader) short(err error, n int) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &CorruptError{Off: x.read, Msg: fmt.Sprintf("the file ends %d bytes into a frame", n)}
	}
	return err
}

// resizeKeep returns s with length n and its bytes.
func resizeKeep(s []byte, n int) []byte {
	if cap(s) >= n {
		return s[:n]
	}
	out := make([]byte, n)
	copy(out, s)
	return out
}

// snapshotLoader reads the frames.
type snapshotLoader struct {
	bodyLoader
	frames frameReader
	frame  rawFrame // that this goroutine reads itself

	started, ended bool
	epoch          sample.LSN
	registry       registryLoader
	crew           *loadCrew // for the frames of version 3
}

// load reads all frames.
func (l *snapshotLoader) load() error {
	for !l.ended {
		f := &l.frame
		if l.crew != nil {
			f = l.crew.frame()
		}
		if err := l.frames.next(f); err != nil {
			return err
		}
		if l.crew != nil {
			if err := l.crew.charge(f); err != nil {
				return err
			}
			if l.crew.takes(f) {
				continue
			}
			// What is behind the series is about all of them.
			l.crew.wait()
			if err := l.crew.failed(); err != nil {
				return err
			}
		}
		if err := l.read(f); err != nil {
			return err
		}
		if f != &l.frame {
			l.crew.put(f)
		}
	}
	return nil
}

// read reads one frame.
func (l *snapshotLoader) read(f *rawFrame) error {
	l.off = f.off
	if err := f.check(); err != nil {
		return err
	}
	kind := f.payload[0]
	l.c = decbuf.Buf{B: f.payload, Off: 1}
	if l.started == (kind == frameHead) {
		return l.corrupt("a frame of kind %d out of place", kind)
	}
	var err error
	switch kind {
	case frameHead:
		err = l.headFrame()
	case frameSymbols:
		err = l.registry.symbolsFrame(&l.c)
	case frameSeries:
		err = l.seriesFrame()
	case frameExemplars:
		err = l.exemplarFrame()
	case frameFamilies:
		err = l.familyFrame()
	case frameEnd:
		err = l.endFrame()
	default:
		err = l.corrupt("a frame of kind %d, which there is not", kind)
	}
	if err != nil {
		return err
	}
	l.c.Finish()
	if x := l.c.Fault(); x != nil {
		return l.corrupt("a frame of kind %d: %v", kind, x)
	}
	return nil
}

// expectMost bounds what memory is taken for ids that a file has not shown yet: 5 MiB.
const expectMost = 1 << 20

func (l *snapshotLoader) headFrame() error {
	h := l.head
	version := l.c.Byte()
	if version > snapshotVersion {
		return &NewerVersionError{Version: version}
	}
	shards, slot := l.c.Uvarint(), l.c.Uvarint()
	l.epoch = sample.LSN(l.c.Uvarint())
	ids := l.c.Uvarint()
	if ids > 1<<31 || shards == 0 {
		return l.corrupt("%d ids in %d shards", ids, shards)
	}
	if !l.c.Failed() && (shards != uint64(len(h.shards)) || slot != uint64(h.opts.SlotMillis)) {
		return fmt.Errorf("the checkpoint has %d shards and slots of %d ms, the store %d and %d",
			shards, slot, len(h.shards), h.opts.SlotMillis)
	}
	h.maxT.Store(l.c.Varint())
	l.upTo, l.started = l.epoch, true
	l.registry.ids = uint32(ids)
	if version >= snapshotSplit {
		if err := h.dir.table.expect(min(l.registry.ids, expectMost)); err != nil {
			return err
		}
		l.registry.bulk = h.dir.index.Bulk()
		l.crew = newLoadCrew(l)
	}
	return nil
}

func (l *snapshotLoader) endFrame() error {
	x := &l.registry
	if ids, series := l.c.Uvarint(), l.c.Uvarint(); ids != uint64(x.nextID) || x.nextID != x.ids || series != uint64(x.series) {
		return l.corrupt("it ends with %d of %d ids and %d series, %d were found", ids, x.ids, series, x.series)
	}
	l.ended = true
	return nil
}

// complete compares what the frames of labels and those of samples say which series there are.
func (l *snapshotLoader) complete() error {
	if l.crew == nil {
		return nil
	}
	h := l.head
	for id := range l.registry.ids {
		gen, s := uint32(0), h.shardOf(id)
		if local := h.local(id); local < s.headers.len() {
			gen = s.headers.at(local).gen
		}
		e := h.dir.entries.at(id)
		if e.state == published && gen != e.gen || e.state != published && gen != 0 {
			return l.corrupt("id %d has samples of generation %d and labels of %d", id, gen, e.gen)
		}
	}
	for _, s := range h.shards {
		for _, lsn := range s.loaded {
			h.loadedTo = max(h.loadedTo, lsn)
		}
	}
	return nil
}

func (l *snapshotLoader) exemplarFrame() error {
	for l.c.Byte() == 1 && !l.c.Failed() {
		id := l.c.Uvarint()
		x := storedExemplar{lsn: sample.LSN(l.c.Uvarint())}
		x.Exemplar = exemplar.Exemplar{Ts: l.c.Varint(), Value: math.Float64frombits(l.c.LE64()), HasTs: l.c.Byte() == 1}
		l.builder.Reset()
		for n := l.c.Count(1); n > 0 && !l.c.Failed(); n-- {
			l.builder.Add(l.c.Text(), l.c.Text())
		}
		x.Labels = l.builder.Labels()
		if id >= uint64(l.registry.nextID) {
			return l.corrupt("an exemplar of series %d, which there is not", id)
		}
		if l.head.dir.entries.at(uint32(id)).state != published {
			return l.corrupt("an exemplar of series %d, which has left", id)
		}
		s := l.head.shardOf(uint32(id))
		x.local = l.head.local(uint32(id))
		s.mu.Lock()
		err := s.addExemplarLocked(x)
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *snapshotLoader) familyFrame() error {
	number := l.c.Uvarint()
	if number >= uint64(len(l.head.shards)) {
		return l.corrupt("descriptions of shard %d", number)
	}
	s := l.head.shards[number]
	s.mu.Lock()
	defer s.mu.Unlock()
	for l.c.Byte() == 1 && !l.c.Failed() {
		family := l.c.Text()
		d := description{Metadata: metadata.Metadata{Type: model.MetricType(l.c.Text()), Unit: l.c.Text(), Help: l.c.Text()}}
		d.lsn = sample.LSN(l.c.Uvarint())
		s.addDescriptionLocked(family, d)
	}
	return nil
}
