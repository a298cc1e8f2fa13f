// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"encoding/binary"
	"math"
	"runtime"
	"sync"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/decbuf"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// crewAhead is how many frames of each goroutine may wait for it. A frame is some ten KiB as a rule; of those of more
// than largeFrame only one is read before all are done.
const crewAhead = 8

// loadCrew is the goroutines that load a checkpoint: one for the labels, and some for samples, each with a share of the
// shards. Frames that concern one shard are loaded in the order of the file.
type loadCrew struct {
	account  *budget.Account
	all      []*rawFrame
	free     chan *rawFrame
	registry chan *rawFrame
	samples  []chan *rawFrame
	pending  sync.WaitGroup // frames on their way
	running  sync.WaitGroup

	mu  sync.Mutex
	err error // guarded by mu; of the first frame in the file that is wrong
	off int64 // guarded by mu; of that frame
}

func newLoadCrew(l *snapshotLoader) *loadCrew {
	n := min(runtime.GOMAXPROCS(0), len(l.head.shards))
	c := &loadCrew{account: l.head.opts.Account, free: make(chan *rawFrame, (n+1)*crewAhead), registry: make(chan *rawFrame, crewAhead)}
	for range cap(c.free) {
		f := &rawFrame{}
		c.all = append(c.all, f)
		c.free <- f
	}
	c.running.Add(1 + n)
	go c.run(c.registry, l.registry.read)
	for range n {
		frames := make(chan *rawFrame, crewAhead)
		c.samples = append(c.samples, frames)
		x := &shardLoader{
			bodyLoader: bodyLoader{head: l.head, now: l.now}, epoch: l.epoch, ids: l.registry.ids, next: make([]uint32, len(l.head.shards)),
		}
		go c.run(frames, x.read)
	}
	return c
}

func (c *loadCrew) run(frames chan *rawFrame, read func(*rawFrame) error) {
	defer c.running.Done()
	for f := range frames {
		if err := read(f); err != nil {
			c.fail(f.off, err)
		}
		c.put(f)
		c.pending.Done()
	}
}

// frame returns memory for a frame, as soon as there is some.
func (c *loadCrew) frame() *rawFrame { return <-c.free }

// charge charges the account for the memory of a frame, as far as it was not before.
func (c *loadCrew) charge(f *rawFrame) error {
	more := int64(cap(f.payload)) - f.charged
	if more <= 0 {
		return nil
	}
	if err := c.account.Reserve(more); err != nil {
		return err
	}
	f.charged += more
	return nil
}

// put gives it back.
func (c *loadCrew) put(f *rawFrame) {
	if cap(f.payload) > largeFrame {
		f.payload = nil
		c.account.Release(f.charged)
		f.charged = 0
	}
	c.free <- f
}

// takes hands a frame to the goroutine that it is for, and reports whether there is one.
func (c *loadCrew) takes(f *rawFrame) bool {
	to := c.registry
	switch f.payload[0] {
	case frameSymbols, framePairs, frameIDs:
	case frameShard:
		number, _ := binary.Uvarint(f.payload[1:]) // whoever reads the frame finds what is wrong with it
		to = c.samples[number%uint64(len(c.samples))]
	default:
		return false
	}
	if len(f.payload) > largeFrame {
		c.wait()
	}
	c.pending.Add(1)
	to <- f
	return true
}

// wait waits until all frames that were taken are loaded.
func (c *loadCrew) wait() { c.pending.Wait() }

func (c *loadCrew) fail(off int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil || off < c.off {
		c.err, c.off = err, off
	}
}

func (c *loadCrew) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// end ends the goroutines and returns what is wrong with the first frame in the file that is: err is what the reader
// of the file says, which is ahead of them.
func (c *loadCrew) end(err error) error {
	close(c.registry)
	for _, frames := range c.samples {
		close(frames)
	}
	c.running.Wait()
	for _, f := range c.all {
		c.account.Release(f.charged)
	}
	if c.err != nil {
		return c.err
	}
	return err
}

// shardLoader reads the samples of some shards.
type shardLoader struct {
	bodyLoader
	epoch sample.LSN
	ids   uint32
	next  []uint32 // by shard: the local id that comes next
}

// read reads one frame.
func (x *shardLoader) read(f *rawFrame) error {
	x.off = f.off
	if err := f.check(); err != nil {
		return err
	}
	x.c = decbuf.Buf{B: f.payload, Off: 1}
	number, from := x.c.Uvarint(), x.c.Uvarint()
	x.upTo = sample.LSN(x.c.Uvarint())
	n := x.c.Count(1)
	if x.c.Failed() || number >= uint64(len(x.head.shards)) || from != uint64(x.next[number]) || x.upTo < x.epoch {
		return x.corrupt("series of shard %d from %d on, up to LSN %d", number, from, x.upTo)
	}
	s := x.head.shards[number]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applied = max(s.applied, x.upTo)
	for range n {
		if err := x.seriesLocked(s); err != nil {
			return err
		}
	}
	x.c.Finish()
	if fault := x.c.Fault(); fault != nil {
		return x.corrupt("samples of shard %d: %v", number, fault)
	}
	return nil
}

func (x *shardLoader) seriesLocked(s *shard) error {
	gen, local := x.c.Uvarint(), x.next[s.number]
	if gen > math.MaxUint32 || uint64(local)*uint64(len(x.next))+uint64(s.number) >= uint64(x.ids) {
		return x.corrupt("series %d of shard %d, of generation %d", local, s.number, gen)
	}
	x.next[s.number]++
	if err := s.takeLocked(local); err != nil {
		return err
	}
	if gen == 0 {
		return nil
	}
	hd := s.headers.at(local)
	hd.gen = uint32(gen)
	s.counts.Series++
	if x.upTo > x.epoch {
		if err := s.noteLoadedLocked(local, x.upTo); err != nil {
			return err
		}
	}
	if err := x.bodyLocked(s, local, hd); err != nil {
		return err
	}
	if hd.hasSample() {
		s.head.noteMaxTime(hd.lastT) // it may be newer than what the file begins with
	}
	return nil
}
