// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// Mem is the label index of the head. It is safe for concurrent use.
//
// A series enters in two steps: Intern turns its labels into symbols and counts one use of each, Add puts its
// id into the postings and takes the uses over. Where Add is not reached, Release gives them back. From Add
// until Remove the symbols of a series stay what they are; one that nobody uses may be given to another text.
type Mem struct {
	removeMu sync.Mutex // held by Remove; taken before mu
	sorting  turn       // held while the values of a label are sorted; taken before mu
	mu       struct {
		sync.RWMutex
		meter   meter
		symbols symbols
		pairs   pairTable
		lists   lists
		all     postings
		names   map[uint32]*labelName
		// removals counts the completed Removes: symbols, pairs and ids may have been given to others since
		// it was lower.
		removals uint64
		removing bool // some series are out of all, but not yet of all their postings
	}
}

// labelName is what is known of one label name.
type labelName struct {
	series int      // that have the label
	values []uint32 // pairs, as they came
	// table has the first tabled of them in order, runs the next, runValues at a time. Where somebody asks, the table
	// takes over all.
	table  *valueTable
	tabled int
	runs   [][]uint32
	inRuns int
	bytes  int64  // length of all values
	opened uint32 // how many pairs had been opened after its last one, modulo 1<<32
}

// ErrID is returned for a series id of 1<<31 or above, which postings cannot hold.
var ErrID = errors.New("index: series id above 2147483647")

// ErrSymbol is returned when Add is given a symbol that is not in use.
var ErrSymbol = errors.New("index: symbol is not interned")

// ErrInUse is returned when Add is given the id of a series that is in the index.
var ErrInUse = errors.New("index: series id is in use")

// NewMem returns an empty index whose memory is charged to account.
func NewMem(account *budget.Account) *Mem {
	m := &Mem{sorting: newTurn()}
	m.mu.meter.account = account
	m.mu.symbols = newSymbols(&m.mu.meter)
	m.mu.pairs.meter = &m.mu.meter
	m.mu.lists.meter = &m.mu.meter
	m.mu.names = map[uint32]*labelName{}
	return m
}

// Intern appends to dst the symbols of ls, name, value, name, value, …, in the order of ls, and counts one use
// of each. The strings are copied. On error, a *budget.ExceededError, dst is returned as it was.
func (m *Mem) Intern(ls labels.Labels, dst []uint32) ([]uint32, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	start := len(dst)
	err := ls.Validate(func(l labels.Label) error {
		for _, text := range [2]string{l.Name, l.Value} {
			sym, err := m.mu.symbols.intern(text)
			if err != nil {
				return err
			}
			dst = append(dst, sym)
		}
		return nil
	})
	if err != nil {
		m.releaseLocked(dst[start:])
		return dst[:start], fmt.Errorf("intern labels: %w", err)
	}
	return dst, nil
}

// Release gives back the uses that one Intern counted, for a series that is not added after all.
func (m *Mem) Release(pairs []uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.releaseLocked(pairs)
}

func (m *Mem) releaseLocked(pairs []uint32) {
	for _, sym := range pairs {
		m.mu.symbols.release(sym)
	}
}

// Symbol returns the text of a symbol that is in use, and the empty string for one that is not.
func (m *Mem) Symbol(sym uint32) string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.mu.symbols.live(sym) {
		return ""
	}
	return m.mu.symbols.text(sym)
}

// Texts appends the texts of symbols to dst, as Symbol gives them.
func (m *Mem) Texts(syms []uint32, dst []string) []string {
	for len(syms) > 0 {
		run := syms[:min(len(syms), textRun)]
		syms = syms[len(run):]
		m.mu.RLock()
		for _, sym := range run {
			text := ""
			if m.mu.symbols.live(sym) {
				text = m.mu.symbols.text(sym)
			}
			dst = append(dst, text)
		}
		m.mu.RUnlock()
	}
	return dst
}

// textRun is how many texts are looked up under one hold of the lock: about 50 us.
const textRun = 2048

// Symbols returns how many symbols there may be: they are 0 to one less.
func (m *Mem) Symbols() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return int(m.mu.symbols.n)
}

// PairNumber returns the number of a label of a series that is there: one of a few more than there are labels, and its own
// as long as the series is there.
func (m *Mem) PairNumber(name, value uint32) (num uint32, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.mu.pairs.find(name, value)
}

// FindPairs appends the symbols of ls to dst if all of them are in use, and counts no use. They are good for
// comparing with those of a live series.
func (m *Mem) FindPairs(ls labels.Labels, dst []uint32) (pairs []uint32, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	start := len(dst)
	err := ls.Validate(func(l labels.Label) error {
		for _, text := range [2]string{l.Name, l.Value} {
			sym, ok := m.mu.symbols.find(text)
			if !ok {
				return ErrSymbol
			}
			dst = append(dst, sym)
		}
		return nil
	})
	if err != nil {
		return dst[:start], false
	}
	return dst, true
}

// Add puts series id into the postings of pairs, which Intern has returned for it, and takes over the uses that
// Intern counted. An id that was removed may be added again for another series once Remove has returned. On
// error nothing has changed, and the uses are still the caller's.
func (m *Mem) Add(id uint32, pairs []uint32) error {
	if id > maxID {
		return ErrID
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.lists.overlaps(&m.mu.all, []uint32{id}) {
		return ErrInUse
	}
	var stack [64]uint32
	numbers, err := m.findOrOpenLocked(pairs, stack[:0])
	if err != nil {
		return fmt.Errorf("add series to index: %w", err)
	}
	m.mu.lists.add(&m.mu.all, id)
	for _, num := range numbers {
		p := m.mu.pairs.at(num)
		if m.mu.lists.add(&p.postings, id) {
			m.mu.names[p.name].series++
		}
	}
	m.releaseLocked(pairs)
	return nil
}

// findOrOpenLocked appends the numbers of the pairs to dst, making those that are new, and ensures room for one
// more series in each of them.
func (m *Mem) findOrOpenLocked(pairs, dst []uint32) (numbers []uint32, err error) {
	var opened []uint32
	for i := 0; i+1 < len(pairs) && err == nil; i += 2 {
		num, ok := m.mu.pairs.find(pairs[i], pairs[i+1])
		if !ok {
			if num, err = m.openPairLocked(pairs[i], pairs[i+1]); err == nil {
				opened = append(opened, num)
			}
		}
		dst = append(dst, num)
	}
	if err == nil {
		err = m.mu.meter.ensure(int64(len(dst)+1) * addRoom)
	}
	if err != nil {
		for _, num := range opened {
			m.undoOpenLocked(num)
		}
		return nil, err
	}
	return dst, nil
}

func (m *Mem) openPairLocked(name, value uint32) (uint32, error) {
	if !m.mu.symbols.live(name) || !m.mu.symbols.live(value) {
		return 0, ErrSymbol
	}
	info := m.mu.names[name]
	if info == nil {
		info = &labelName{}
	}
	if before := cap(info.values); len(info.values) == before {
		more := max(4, before/4)
		if err := m.mu.meter.ensure(int64(more) * 4); err != nil {
			return 0, err
		}
		info.values = append(make([]uint32, 0, before+more), info.values...)
		m.mu.meter.add(int64(more) * 4)
	}
	num, err := m.mu.pairs.open(name, value)
	if err != nil {
		return 0, err
	}
	m.mu.symbols.retain(name)
	m.mu.symbols.retain(value)
	info.values = append(info.values, num)
	info.opened = m.mu.pairs.opened
	info.bytes += int64(len(m.mu.symbols.text(value)))
	m.mu.names[name] = info
	m.sortRunLocked(info)
	return num, nil
}

// undoOpenLocked takes back openPairLocked for the pair opened last of its label.
func (m *Mem) undoOpenLocked(num uint32) {
	p := *m.mu.pairs.at(num)
	info := m.mu.names[p.name]
	info.values = info.values[:len(info.values)-1]
	if len(info.values) < info.tabled+info.inRuns {
		m.dropRunsLocked(info) // the last one has it
	}
	info.bytes -= int64(len(m.mu.symbols.text(p.value)))
	m.dropNameIfEmptyLocked(p.name, info)
	m.closePairLocked(num)
}

// closePairLocked frees the number of a pair without series, and its symbols where nobody else uses them.
func (m *Mem) closePairLocked(num uint32) {
	p := *m.mu.pairs.at(num)
	m.mu.pairs.close(num)
	m.mu.symbols.release(p.name)
	m.mu.symbols.release(p.value)
}

// Len returns the number of series.
func (m *Mem) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return int(m.mu.all.n)
}

// All appends the ids of all series to dst, ascending.
func (m *Mem) All(dst []uint32) []uint32 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.mu.lists.appendTo(dst, &m.mu.all)
}

// Bytes returns the memory that the index uses.
func (m *Mem) Bytes() int64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.mu.meter.used
}
