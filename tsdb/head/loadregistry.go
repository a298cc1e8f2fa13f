// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/decbuf"
	"github.com/tidemarkdb/tidemark/tsdb/index"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// registryLoader reads which series there are and what their labels are. Each label is hashed, interned and looked up
// once, however many series have it; a series then is a sum of hashes and a list of numbers.
type registryLoader struct {
	dir         *directory
	off         int64  // of the frame
	ids, series uint32 // ids there are to be, series loaded so far
	nextID      uint32
	charged     int64 // for what follows
	symbols     []string
	pairs       []knownPair
	bulk        *index.Bulk

	shape []uint32 // names of the series before, which are in order
	text  []byte   // the symbols of a series, as an entry has them

	// The series of a frame, for the index: those of ids[i] have their pairs up to ends[i].
	fresh, ends, numbers []uint32
}

// knownPair is a label that series may have.
type knownPair struct {
	hash   index.Hash128
	name   uint32                          // its number in the file
	text   [2 * binary.MaxVarintLen32]byte // its symbols in the index, as an entry has them
	size   uint8
	cell   uint8 // of the metric name
	metric bool  // it is one
}

func (x *registryLoader) corrupt(format string, args ...any) error {
	return &CorruptError{Off: x.off, Msg: fmt.Sprintf(format, args...)}
}

// charge charges the account for n more bytes until end.
func (x *registryLoader) charge(n int64) error {
	if err := x.dir.account.Reserve(n); err != nil {
		return err
	}
	x.charged += n
	return nil
}

// end gives back what is only needed while series come.
func (x *registryLoader) end() {
	if x.bulk != nil {
		x.bulk.End()
	}
	x.dir.account.Release(x.charged)
	x.charged, x.symbols, x.pairs = 0, nil, nil
}

// read reads one frame.
func (x *registryLoader) read(f *rawFrame) error {
	x.off = f.off
	if err := f.check(); err != nil {
		return err
	}
	c := decbuf.Buf{B: f.payload, Off: 1}
	var err error
	switch f.payload[0] {
	case frameSymbols:
		err = x.symbolsFrame(&c)
	case framePairs:
		err = x.pairsFrame(&c)
	default:
		err = x.idsFrame(&c)
	}
	if err != nil {
		return err
	}
	c.Finish()
	if fault := c.Fault(); fault != nil {
		return x.corrupt("a frame of kind %d: %v", f.payload[0], fault)
	}
	return nil
}

func (x *registryLoader) symbolsFrame(c *decbuf.Buf) error {
	n := c.Count(1)
	if err := x.charge(int64(len(c.B)) + int64(n)*int64(unsafe.Sizeof(""))); err != nil {
		return err
	}
	all := string(c.B) // one copy of all texts
	for ; n > 0 && !c.Failed(); n-- {
		size := len(c.Sized())
		x.symbols = append(x.symbols, all[c.Off-size:c.Off])
	}
	return nil
}

func (x *registryLoader) pairsFrame(c *decbuf.Buf) error {
	n := c.Count(2)
	if err := x.charge(int64(n) * int64(unsafe.Sizeof(knownPair{}))); err != nil {
		return err
	}
	for ; n > 0; n-- {
		name, value := c.Uvarint(), c.Uvarint()
		if c.Failed() || name >= uint64(len(x.symbols)) || value >= uint64(len(x.symbols)) {
			return x.corrupt("label %d: a symbol that is not there", len(x.pairs))
		}
		nameText, valueText := x.symbols[name], x.symbols[value]
		nameSym, valueSym, err := x.bulk.Pair(nameText, valueText)
		if err != nil {
			return err
		}
		p := knownPair{hash: x.dir.seed.Pair(nameText, valueText), name: uint32(name)}
		p.size = uint8(len(binary.AppendUvarint(binary.AppendUvarint(p.text[:0], uint64(nameSym)), uint64(valueSym))))
		if nameText == labels.MetricName {
			p.metric, p.cell = true, NameCell(valueText)
		}
		x.pairs = append(x.pairs, p)
	}
	return nil
}

// idsFrame reads the next ids: the order of the file is that of the ids, so that none can be named before those below
// it, and a file holds at least two bytes for each.
func (x *registryLoader) idsFrame(c *decbuf.Buf) error {
	from, n := c.Uvarint(), c.Uvarint()
	if from != uint64(x.nextID) || n > uint64(x.ids-x.nextID) {
		return x.corrupt("ids from %d on, %d are next", from, x.nextID)
	}
	x.fresh, x.ends, x.numbers = x.fresh[:0], x.ends[:0], x.numbers[:0]
	if err := x.entries(c, uint32(n)); err != nil {
		return err
	}
	if err := x.bulk.Add(x.fresh, x.ends, x.numbers); err != nil {
		return fmt.Errorf("series %d and more: %w", from, err)
	}
	return nil
}

func (x *registryLoader) entries(c *decbuf.Buf, n uint32) error {
	d := x.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	for range n {
		gen, series, err := idState(c)
		if err == nil && series {
			err = x.seriesLocked(c, gen)
		} else if err == nil {
			err = d.skipLocked(x.nextID, gen)
		}
		if err != nil {
			return x.place(err)
		}
		x.nextID++
	}
	return nil
}

// idState reads the generation of an id and whether there is a series.
func idState(c *decbuf.Buf) (gen uint32, series bool, err error) {
	g, state := c.Uvarint(), c.Byte()
	if c.Failed() || g > math.MaxUint32 || state > idSeries || state == idSeries && g == 0 {
		return 0, false, malformed(fmt.Sprintf("generation %d, state %d", g, state))
	}
	return uint32(g), state == idSeries, nil
}

// malformed says what is wrong with an id.
type malformed string

func (m malformed) Error() string { return string(m) }

// place says which id an error is about.
func (x *registryLoader) place(err error) error {
	if m, ok := errors.AsType[malformed](err); ok {
		return x.corrupt("id %d: %s", x.nextID, m)
	}
	return fmt.Errorf("id %d: %w", x.nextID, err)
}

// seriesLocked makes a series with the next id that can be found at once.
func (x *registryLoader) seriesLocked(c *decbuf.Buf, gen uint32) error {
	d := x.dir
	e := entry{gen: gen, state: published}
	if err := x.labels(c, &e); err != nil {
		return err
	}
	same, ok := d.table.find(e.hash, func(id uint32) bool {
		y := d.entries.at(id)
		return y.hash == e.hash && bytes.Equal(d.bytes.Bytes(y.labels)[:y.size], x.text)
	})
	if ok {
		return malformed(fmt.Sprintf("it has the labels of id %d", same))
	}
	if err := d.table.makeRoom(d.entries.len(), d.hashLocked); err != nil {
		return err
	}
	var err error
	if e.labels, err = put(d.bytes, x.text); err != nil {
		return err
	}
	e.size = uint32(len(x.text))
	id, err := d.entries.take()
	if err != nil {
		return err
	}
	*d.entries.at(id) = e
	d.table.insert(id, e.hash)
	x.fresh = append(x.fresh, id)
	x.ends = append(x.ends, uint32(len(x.numbers)))
	x.series++
	return nil
}

// labels reads the labels of a series: what an entry has of them into e and text, their numbers behind numbers.
func (x *registryLoader) labels(c *decbuf.Buf, e *entry) error {
	n := c.Count(1)
	x.text = x.text[:0]
	e.cell = NameCell("")
	known := true // the names so far are those of the series before
	prev := ""
	for i := range n {
		number := c.Uvarint()
		if number >= uint64(len(x.pairs)) {
			return malformed("a label that is not there")
		}
		p := &x.pairs[number]
		if known = known && i < len(x.shape) && x.shape[i] == p.name; !known {
			if i > 0 {
				prev = x.symbols[x.shape[i-1]]
			}
			if x.symbols[p.name] <= prev {
				return malformed(fmt.Sprintf("label %q out of order", x.symbols[p.name]))
			}
			x.shape = append(x.shape[:i], p.name)
		}
		e.hash = e.hash.Plus(p.hash)
		if p.metric {
			e.cell = p.cell
		}
		x.text = append(x.text, p.text[:p.size]...)
		x.numbers = append(x.numbers, uint32(number))
	}
	if x.shape = x.shape[:n]; c.Failed() || n == 0 {
		return malformed("no labels")
	}
	return nil
}

// skipLocked makes the next id one that has no series now.
func (d *directory) skipLocked(id, gen uint32) error {
	for d.entries.len() <= id {
		if _, err := d.entries.take(); err != nil {
			return err
		}
	}
	d.entries.at(id).gen = gen
	d.freeLocked(id)
	return nil
}

// seriesFrame reads ids as versions 1 and 2 have them: labels by symbols, and samples in the same frame.
func (l *snapshotLoader) seriesFrame() error {
	x := &l.registry
	x.off = l.off
	from, n := l.c.Uvarint(), l.c.Uvarint()
	if from != uint64(x.nextID) || n > uint64(x.ids-x.nextID) || l.crew != nil {
		return l.corrupt("ids from %d on, %d are next", from, x.nextID)
	}
	for range n {
		gen, series, err := idState(&l.c)
		switch {
		case err != nil:
			return x.place(err)
		case series:
			err = l.loadSeries(sample.MakeRef(gen, x.nextID))
		default:
			x.dir.mu.Lock()
			err = x.dir.skipLocked(x.nextID, gen)
			x.dir.mu.Unlock()
		}
		if err != nil {
			return err
		}
		x.nextID++
	}
	return nil
}

func (l *snapshotLoader) loadSeries(ref sample.Ref) error {
	symbols := l.registry.symbols
	l.builder.Reset()
	prev := ""
	for n := l.c.Count(1); n > 0 && !l.c.Failed(); n-- {
		name, value := l.c.Uvarint(), l.c.Uvarint()
		if name >= uint64(len(symbols)) || value >= uint64(len(symbols)) {
			return l.corrupt("id %d: a symbol that is not there", ref.ID())
		}
		if symbols[name] <= prev {
			return l.corrupt("id %d: label %q out of order", ref.ID(), symbols[name])
		}
		prev = symbols[name]
		l.builder.Add(prev, symbols[value])
	}
	ls := l.builder.Labels()
	if l.c.Failed() || ls.IsEmpty() {
		return l.corrupt("id %d: no labels", ref.ID())
	}
	if _, ok := l.head.Lookup(ls); ok {
		return l.corrupt("series %s is there twice", ls)
	}
	if _, err := l.head.reserve(ls, ref); err != nil {
		return fmt.Errorf("series %s: %w", ls, err)
	}
	if err := l.head.Publish(ref, 0); err != nil {
		return err
	}
	l.registry.series++
	s := l.head.shardOf(ref.ID())
	s.mu.Lock()
	defer s.mu.Unlock()
	local, hd := s.findLocked(ref)
	return l.bodyLocked(s, local, hd)
}
