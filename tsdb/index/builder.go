// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

const (
	formatVersion = 2
	firstVersion  = 1  // of those that are read
	headerBytes   = 40 // see docs/format-block.md, index section
	groupSize     = 16 // values of a dictionary, and series, between two restarts of the front coding
	hashSize      = 16 // in version 1
)

// Builder makes the index of a block. It is used by one goroutine: AddSeries for every series in label order,
// then AppendTo, then Close.
type Builder struct {
	meter   meter
	symbols symbols
	pairs   pairTable
	lists   lists

	n      uint32            // series
	set    uint32            // name set of the last series
	sets   [][]uint32        // name symbols of each set
	setOf  map[string]uint32 // set of the name symbols, as bytes
	series pages             // of each series: its set, then its pairs
	last   []uint32          // pairs of the last series
	key    []byte
	next   []uint32
}

// ErrOrder is returned by AddSeries for a series that is not after the one before.
var ErrOrder = errors.New("index: series out of order")

// ErrLabels is returned by AddSeries for labels that are not sorted or have an empty name or value.
var ErrLabels = errors.New("index: malformed labels")

// NewBuilder returns an empty builder whose memory is charged to account until Close.
func NewBuilder(account *budget.Account) *Builder {
	b := &Builder{setOf: map[string]uint32{}}
	b.meter.account = account
	b.symbols = newSymbols(&b.meter)
	b.pairs.meter = &b.meter
	b.lists.meter = &b.meter
	b.lists.noBitmaps = true // ids ascend
	return b
}

// N returns the number of series added.
func (b *Builder) N() int { return int(b.n) }

// AddSeries adds the next series; its id is the number of series before it. Strings are copied. After an error
// the builder is of no use but to Close.
func (b *Builder) AddSeries(ls labels.Labels) error {
	if b.n > maxID {
		return ErrID
	}
	same, order := b.compareLast(ls)
	if b.n > 0 && order <= 0 {
		return fmt.Errorf("%w: %s", ErrOrder, ls)
	}
	b.next, b.key = b.next[:0], b.key[:0]
	lastName := ""
	err := ls.Validate(func(l labels.Label) error {
		if l.Name <= lastName || l.Value == "" {
			return fmt.Errorf("%w: %s", ErrLabels, ls)
		}
		lastName = l.Name
		if i := len(b.next); i < same {
			b.next = append(b.next, b.last[i])
			b.key = binary.LittleEndian.AppendUint32(b.key, b.pairs.at(b.last[i]).name)
			return nil
		}
		return b.addLabel(l)
	})
	if err != nil {
		return err
	}
	if err := b.meter.ensure(int64(len(b.next)+1)*addRoom + pageEntries*4); err != nil {
		return fmt.Errorf("build index: %w", err)
	}
	for _, num := range b.next {
		b.lists.add(&b.pairs.at(num).postings, b.n)
	}
	b.chooseSet()
	b.meter.add(b.series.append(b.set))
	b.meter.add(b.series.append(b.next...))
	b.last = append(b.last[:0], b.next...)
	b.n++
	return nil
}

// addLabel appends the pair of l to next and its name to key.
func (b *Builder) addLabel(l labels.Label) error {
	name, err := b.symbols.intern(l.Name)
	if err != nil {
		return fmt.Errorf("build index: %w", err)
	}
	value, err := b.symbols.intern(l.Value)
	if err != nil {
		return fmt.Errorf("build index: %w", err)
	}
	num, ok := b.pairs.find(name, value)
	if !ok {
		if num, err = b.pairs.open(name, value); err != nil {
			return fmt.Errorf("build index: %w", err)
		}
	}
	b.next = append(b.next, num)
	b.key = binary.LittleEndian.AppendUint32(b.key, name)
	return nil
}

// chooseSet finds the name set of the series whose name symbols are in key.
func (b *Builder) chooseSet() {
	set, ok := b.setOf[string(b.key)]
	if !ok {
		set = uint32(len(b.sets))
		names := make([]uint32, 0, len(b.next))
		for _, num := range b.next {
			names = append(names, b.pairs.at(num).name)
		}
		b.sets = append(b.sets, names)
		b.setOf[string(b.key)] = set
	}
	b.set = set
}

// compareLast compares ls with the series added last, as labels.Compare does, and returns how many of their first
// labels are the same.
func (b *Builder) compareLast(ls labels.Labels) (i, c int) {
	err := ls.Validate(func(l labels.Label) error {
		if i == len(b.last) {
			c = 1
			return ErrOrder
		}
		p := b.pairs.at(b.last[i])
		if c = strings.Compare(l.Name, b.symbols.text(p.name)); c == 0 {
			c = strings.Compare(l.Value, b.symbols.text(p.value))
		}
		if c != 0 {
			return ErrOrder
		}
		i++
		return nil
	})
	if err == nil && i < len(b.last) {
		return i, -1
	}
	return i, c
}

// Close gives the memory back to the account.
func (b *Builder) Close() {
	b.meter.account.Release(b.meter.reserved)
	*b = Builder{}
}

// pages is a growing list that never moves what it holds.
type pages struct {
	all []*[pageEntries]uint32
	n   int
}

// append adds numbers and returns how many bytes the list grew by.
func (p *pages) append(numbers ...uint32) (grown int64) {
	for _, x := range numbers {
		if p.n == len(p.all)*pageEntries {
			p.all = append(p.all, new([pageEntries]uint32))
			grown += pageEntries * 4
		}
		p.all[p.n/pageEntries][p.n%pageEntries] = x
		p.n++
	}
	return grown
}

func (p *pages) at(i int) uint32 { return p.all[i/pageEntries][i%pageEntries] }

func (p *pages) copy(dst []uint32, from, n int) []uint32 {
	for i := range n {
		dst = append(dst, p.at(from+i))
	}
	return dst
}
