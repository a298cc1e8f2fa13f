// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package cache keeps answers of range queries, so that a dashboard that is refreshed computes its new steps only.
//
// The steps of a query text lie on a line: those at Phase + i*Step for all i. The line is cut into blocks of
// BlockSteps; an entry is one contiguous run of steps of one block, complete for all series of the answer. A query
// takes from each of its blocks what an entry has, computes the rest, and puts back what it computed, joined with
// what the entry had.
//
// An entry is valid as long as nothing that it was computed from has changed. That is not guessed by age: the storage
// counts late writes and deletions (column.StampReader), and an entry keeps the count over its input from before it was
// computed. Equal counts, equal input.
//
// Entries are bytes in a fastcache, outside the Go heap; the oldest make room for new ones. Under the key of a block
// there is a head, which says how long the bytes are and under which key they are, so that who reads them is charged
// before there is memory for them. That key is used once: a head never names the bytes of another Put.
//
// A Cache is safe for concurrent use.
package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/VictoriaMetrics/fastcache"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// BlockSteps is the length of a block in steps. What is put back for one refreshed step is one block at most, so
// blocks are short; what a look-up costs beyond its values is the labels of each series, so they are not shorter.
const BlockSteps = 256

// Line is the query and the steps that an entry belongs to. Two queries with equal Lines and an equal time have an
// equal answer at that time.
type Line struct {
	// Query is the text, Semantics whatever else decides about the answer.
	Query     string
	Semantics string
	Step      int64 // milliseconds, positive
	Phase     int64 // in [0, Step)
}

// LineOf returns the line of steps of length step that t lies on.
func LineOf(query, semantics string, t, step int64) Line {
	phase := t % step
	if phase < 0 {
		phase += step
	}
	return Line{Query: query, Semantics: semantics, Step: step, Phase: phase}
}

// Index returns the number of the step at t, which lies on the line.
func (l Line) Index(t int64) int64 { return (t - l.Phase) / l.Step }

// Time returns when step i is, Unix milliseconds.
func (l Line) Time(i int64) int64 { return l.Phase + i*l.Step }

// BlockOf returns the block of step i.
func BlockOf(i int64) int64 {
	b := i / BlockSteps
	if i%BlockSteps < 0 {
		b--
	}
	return b
}

// key is that of a block of the line.
func (l Line) key(block int64) []byte {
	k := make([]byte, 0, len(l.Query)+len(l.Semantics)+40)
	k = binary.AppendVarint(k, block)
	k = binary.AppendVarint(k, l.Step)
	k = binary.AppendVarint(k, l.Phase)
	k = binary.AppendUvarint(k, uint64(len(l.Query)))
	k = append(k, l.Query...)
	return append(k, l.Semantics...)
}

// maxEntry is the largest entry that is kept: more would push out too much else.
const maxEntry = 16 << 20

// Cache keeps entries.
type Cache struct {
	mem          *fastcache.Cache
	puts         atomic.Uint64 // numbers the bytes
	gets, misses atomic.Uint64
}

// head is what is kept under the key of a block.
type head struct{ put, bytes uint64 }

// headBytes is how long a head is.
const headBytes = 16

func (h head) encode() []byte {
	b := make([]byte, 0, headBytes)
	b = binary.LittleEndian.AppendUint64(b, h.put)
	return binary.LittleEndian.AppendUint64(b, h.bytes)
}

// key is that of the bytes. It ends in a zero byte, which the key of a block does not.
func (h head) key() []byte { return binary.LittleEndian.AppendUint64(nil, h.put) }

// head returns that of a block; ok is false where there is none.
func (c *Cache) head(key []byte) (h head, ok bool) {
	var room [headBytes]byte
	b := c.mem.Get(room[:0], key)
	if len(b) != headBytes {
		return head{}, false
	}
	h = head{put: binary.LittleEndian.Uint64(b), bytes: binary.LittleEndian.Uint64(b[8:])}
	return h, h.bytes <= maxEntry
}

// MinBytes is the least memory that a cache works with.
const MinBytes = 32 << 20

// New returns a cache of that many bytes, at least MinBytes.
func New(bytes int) *Cache { return &Cache{mem: fastcache.New(max(bytes, MinBytes))} }

// Close gives the memory back.
func (c *Cache) Close() { c.mem.Reset() }

// Get returns the entry of a block, nil if there is none. What it takes is charged to account before it is read, and is
// the caller's to release: Entry.Bytes. The error is a *budget.ExceededError.
func (c *Cache) Get(l Line, block int64, account *budget.Account) (*Entry, error) {
	c.gets.Add(1)
	e, err := c.get(l, block, account)
	if e == nil && err == nil {
		c.misses.Add(1)
	}
	return e, err
}

func (c *Cache) get(l Line, block int64, account *budget.Account) (*Entry, error) {
	h, ok := c.head(l.key(block))
	if !ok {
		return nil, nil
	}
	n := int64(h.bytes)
	if err := account.Reserve(n); err != nil {
		return nil, err
	}
	raw := c.mem.GetBig(make([]byte, 0, n), h.key())
	if int64(len(raw)) != n {
		account.Release(n)
		return nil, nil // They had to make room, the head has not yet.
	}
	e, err := decode(raw, account)
	if err != nil {
		account.Release(n)
	}
	if errors.Is(err, errDamaged) {
		return nil, nil // As good as none: the cache checks what it keeps, so this is none of ours.
	}
	return e, err
}

// Put keeps an entry for a block, and tells whether it is small enough for that. While it does, it takes as much memory
// as the entry has bytes.
func (c *Cache) Put(l Line, block int64, e *Entry) bool {
	n := e.size()
	if n > maxEntry {
		return false
	}
	b := e.encode(make([]byte, 0, n))
	h := head{put: c.puts.Add(1), bytes: uint64(len(b))}
	c.mem.SetBig(h.key(), b)
	c.mem.Set(l.key(block), h.encode())
	return true
}

// Stats are figures of a cache since the start.
type Stats struct {
	Bytes   uint64
	Entries uint64
	Gets    uint64
	Misses  uint64
}

// Stats returns the figures.
func (c *Cache) Stats() Stats {
	var s fastcache.Stats
	c.mem.UpdateStats(&s)
	return Stats{Bytes: s.BytesSize, Entries: s.EntriesCount, Gets: c.gets.Load(), Misses: c.misses.Load()}
}

// Entry is the answer of a query for the steps [From, To) of its line, which lie in one block.
type Entry struct {
	From, To int64
	// Stamp is the count of changes to the input, from before the answer was computed.
	Stamp uint64
	// Series are those of the answer that have a point there.
	Series []Series
	// Bytes is what Get charged for it.
	Bytes int64
}

// Series is one of an answer: its labels, encoded by AppendLabels, and a point per step. Points that are not Present
// have an undefined value.
type Series struct {
	Labels  []byte
	Present []bool
	Values  []float64
}

// Join returns e with the steps of n added, which begin where e ends or end where it begins, and whether that was so.
// The stamp is the one of e: the two must have the same.
func (e *Entry) Join(n *Entry) (*Entry, bool) {
	switch {
	case e.To == n.From:
		return join(e, n), true
	case n.To == e.From:
		return join(n, e), true
	default:
		return nil, false
	}
}

func join(a, b *Entry) *Entry {
	out := &Entry{From: a.From, To: b.To, Stamp: a.Stamp}
	n, at := int(b.To-a.From), make(map[string]int, len(a.Series))
	add := func(s *Series, from int) {
		i, ok := at[string(s.Labels)]
		if !ok {
			i = len(out.Series)
			at[string(s.Labels)] = i
			out.Series = append(out.Series, Series{Labels: s.Labels, Present: make([]bool, n), Values: make([]float64, n)})
		}
		copy(out.Series[i].Present[from:], s.Present)
		copy(out.Series[i].Values[from:], s.Values)
	}
	for i := range a.Series {
		add(&a.Series[i], 0)
	}
	for i := range b.Series {
		add(&b.Series[i], int(a.To-a.From))
	}
	return out
}

// Slice returns the part of e in [from, to), which lies in it. It shares memory with e.
func (e *Entry) Slice(from, to int64) *Entry {
	out := &Entry{From: from, To: to, Stamp: e.Stamp}
	i, j := from-e.From, to-e.From
	for _, s := range e.Series {
		s.Present, s.Values = s.Present[i:j], s.Values[i:j]
		out.Series = append(out.Series, s)
	}
	return out
}

// check tells whether an entry is possible.
func (e *Entry) check() error {
	if e.To <= e.From || BlockOf(e.From) != BlockOf(e.To-1) {
		return fmt.Errorf("steps %d to %d are not in one block", e.From, e.To)
	}
	return nil
}
