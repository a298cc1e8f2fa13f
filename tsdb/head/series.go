// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/arena"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/index"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// directory knows the labels of every series, and the series of every label set. The slot of a series in it, its
// id, is given to another only after the series has left and no pin can see it any more.
type directory struct {
	account, indexAccount *budget.Account
	index                 *index.Mem
	seed                  index.Seed

	mu      sync.RWMutex
	entries table[entry] // guarded by mu; by id
	bytes   *arena.Arena // guarded by mu; labels
	table   idTable      // guarded by mu; the published series
	free    []uint32     // guarded by mu; ids without a series
}

// entry is what the directory has of one id. 40 bytes.
type entry struct {
	hash   index.Hash128
	since  sample.LSN // of the record that made the series, or of its place in the log to come; 0: from a checkpoint
	labels arena.Ref  // the symbols of the labels, as varints; 0: there is no series
	size   uint32     // bytes of labels; where there is no series: the place of the id in free
	gen    uint32     // generation of the series, or of the last one there was
	state  entryState
	cell   uint8 // of the metric name, see NameCell
}

type entryState uint8

const (
	vacant    entryState = iota
	reserved             // cannot be found yet
	published            // can be found
	leaving              // cannot be found any more
)

func (d *directory) open(a *budget.Account) {
	// The index has an account of its own, so that close knows what it was charged.
	d.account, d.indexAccount = a, a.Child("index", 0)
	d.index, d.seed = index.NewMem(d.indexAccount), index.NewSeed()
	d.entries, d.bytes = newTable[entry](a), arena.New(arena.Options{Account: a})
	d.table.open(a)
}

func (d *directory) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.account.Release(d.indexAccount.Used())
	return errors.Join(d.table.close(), d.entries.records.Close(), d.bytes.Close())
}

// reserve gives ls an id, that of want if it is not 0. The series cannot be found before publish.
func (d *directory) reserve(ls labels.Labels, want sample.Ref) (sample.Ref, error) {
	var stack [128]uint32
	pairs, err := d.index.Intern(ls, stack[:0])
	if err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ref, err := d.enterLocked(ls, pairs, want)
	if err != nil {
		d.index.Release(pairs)
		return 0, err
	}
	return ref, nil
}

func (d *directory) enterLocked(ls labels.Labels, pairs []uint32, want sample.Ref) (sample.Ref, error) {
	var stack [512]byte
	buf := stack[:0]
	for _, sym := range pairs {
		buf = binary.AppendUvarint(buf, uint64(sym))
	}
	id, err := d.takeIDLocked(want)
	if err != nil {
		return 0, err
	}
	e := d.entries.at(id)
	text, err := put(d.bytes, buf)
	if err != nil {
		d.freeLocked(id)
		return 0, err
	}
	gen := e.gen + 1
	if want != 0 {
		gen = want.Generation()
	}
	*e = entry{
		hash: d.seed.Labels(ls), labels: text, size: uint32(len(buf)), since: math.MaxUint64, gen: gen, state: reserved,
		cell: NameCell(ls.Get(labels.MetricName)),
	}
	return sample.MakeRef(gen, id), nil
}

// takeIDLocked takes a free id, that of want if it is not 0.
func (d *directory) takeIDLocked(want sample.Ref) (uint32, error) {
	if want == 0 {
		if n := len(d.free); n > 0 {
			id := d.free[n-1]
			d.free = d.free[:n-1]
			return id, nil
		}
		return d.entries.take()
	}
	id := want.ID()
	for d.entries.len() <= id {
		next, err := d.entries.take()
		if err != nil {
			return 0, err
		}
		d.freeLocked(next)
	}
	i, last := int(d.entries.at(id).size), len(d.free)-1
	if i > last || d.free[i] != id {
		return 0, fmt.Errorf("series id %d is in use", id)
	}
	d.free[i] = d.free[last]
	d.entries.at(d.free[i]).size = uint32(i)
	d.free = d.free[:last]
	return id, nil
}

// freeLocked lets an id be given out, unless its generations are used up.
func (d *directory) freeLocked(id uint32) {
	if e := d.entries.at(id); e.gen < math.MaxUint32 {
		e.size = uint32(len(d.free))
		d.free = append(d.free, id)
	}
}

// publish makes a reserved series findable; since is the LSN of its record.
func (d *directory) publish(ref sample.Ref, since sample.LSN) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entryLocked(ref)
	if e == nil || e.state != reserved {
		return fmt.Errorf("series %d: publish: not reserved", ref)
	}
	if err := d.table.makeRoom(ref.ID(), d.hashLocked); err != nil {
		return err
	}
	var stack [128]uint32
	if err := d.index.Add(ref.ID(), d.pairsLocked(e, stack[:0])); err != nil {
		return err
	}
	d.table.insert(ref.ID(), e.hash)
	e.state, e.since = published, since
	return nil
}

// entryLocked returns the entry of a series, nil if there is none of that generation.
func (d *directory) entryLocked(ref sample.Ref) *entry {
	if ref.ID() >= d.entries.len() {
		return nil
	}
	if e := d.entries.at(ref.ID()); e.gen == ref.Generation() && e.state != vacant {
		return e
	}
	return nil
}

// unreserve forgets a series that was not published.
func (d *directory) unreserve(ref sample.Ref) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entryLocked(ref)
	if e == nil || e.state != reserved {
		return
	}
	var stack [128]uint32
	d.index.Release(d.pairsLocked(e, stack[:0]))
	d.vacateLocked(ref.ID(), e)
}

func (d *directory) vacateLocked(id uint32, e *entry) {
	d.bytes.Free(e.labels)
	*e = entry{gen: e.gen}
	d.freeLocked(id)
}

// lookup returns the published series of ls.
func (d *directory) lookup(ls labels.Labels) (sample.Ref, bool) {
	hash := d.seed.Labels(ls)
	d.mu.RLock()
	defer d.mu.RUnlock()
	id, ok := d.table.find(hash, func(id uint32) bool {
		e := d.entries.at(id)
		return e.hash == hash && d.sameLabelsLocked(e, ls)
	})
	if !ok {
		return 0, false
	}
	return sample.MakeRef(d.entries.at(id).gen, id), true
}

// sameLabelsLocked compares the labels themselves: a series must not be given to another one's rows, however unlikely.
func (d *directory) sameLabelsLocked(e *entry, ls labels.Labels) bool {
	var stack, have [128]uint32
	want, ok := d.index.FindPairs(ls, stack[:0])
	return ok && slices.Equal(want, d.pairsLocked(e, have[:0]))
}

// pairsLocked appends the symbols of the labels, name, value, name, value, ….
func (d *directory) pairsLocked(e *entry, dst []uint32) []uint32 {
	if e.labels == 0 {
		return dst
	}
	sym, shift := uint32(0), uint(0) // numbers as binary.AppendUvarint writes them, without a call for each
	for _, x := range d.bytes.Bytes(e.labels)[:e.size] {
		sym |= uint32(x&0x7f) << (shift & 31)
		if shift += 7; x < 0x80 {
			dst = append(dst, sym)
			sym, shift = 0, 0
		}
	}
	return dst
}

// pairs appends the symbols of the labels of a series.
func (d *directory) pairs(id uint32, dst []uint32) []uint32 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if id >= d.entries.len() {
		return dst
	}
	return d.pairsLocked(d.entries.at(id), dst)
}

func (d *directory) hash(id uint32) index.Hash128 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if id >= d.entries.len() {
		return index.Hash128{}
	}
	return d.entries.at(id).hash
}

func (d *directory) hashLocked(id uint32) index.Hash128 { return d.entries.at(id).hash }

// generation returns that of the series that has id, or had it last; 0 if none did.
func (d *directory) generation(id uint32) uint32 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if id >= d.entries.len() {
		return 0
	}
	return d.entries.at(id).gen
}

// leave makes a series unfindable by its labels. Selecting it goes on working until release.
func (d *directory) leave(ref sample.Ref) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.entryLocked(ref); e != nil && e.state == published {
		e.state = leaving
		d.table.remove(ref.ID(), d.hashLocked)
	}
}

// release frees the ids of series that have left. ids ascend.
func (d *directory) release(ids []uint32) {
	if len(ids) == 0 {
		return
	}
	d.index.Remove(ids, d.pairs)
	for run := range slices.Chunk(ids, leaveRun) {
		d.mu.Lock()
		for _, id := range run {
			d.vacateLocked(id, d.entries.at(id))
		}
		d.mu.Unlock()
	}
}

// Lookup returns the series of ls, if there is one.
func (h *Head) Lookup(ls labels.Labels) (sample.Ref, bool) { return h.dir.lookup(ls) }

// Live reports whether ref names a series.
func (h *Head) Live(ref sample.Ref) bool {
	s := h.shardOf(ref.ID())
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, hd := s.findLocked(ref)
	return hd != nil
}

// Reserve gives ls a Ref. Rows may be committed with it, but Lookup and Select find the series only after Publish.
// The caller holds the sequencer lock and knows that Lookup does not find ls. The error is a
// *budget.ExceededError.
func (h *Head) Reserve(ls labels.Labels) (sample.Ref, error) {
	ref, err := h.reserve(ls, 0)
	if err != nil {
		return 0, fmt.Errorf("reserve series: %w", err)
	}
	return ref, nil
}

func (h *Head) reserve(ls labels.Labels, want sample.Ref) (sample.Ref, error) {
	ref, err := h.dir.reserve(ls, want)
	if err != nil {
		return 0, err
	}
	s := h.shardOf(ref.ID())
	s.mu.Lock()
	defer s.mu.Unlock()
	local := h.local(ref.ID())
	if err := s.takeLocked(local); err != nil {
		h.dir.unreserve(ref)
		return 0, err
	}
	*s.headers.at(local), *s.footers.at(local) = header{gen: ref.Generation()}, footer{}
	s.counts.Series++
	return ref, nil
}

// Unreserve forgets a series that Reserve made and that was not published.
func (h *Head) Unreserve(ref sample.Ref) {
	s := h.shardOf(ref.ID())
	s.mu.Lock()
	defer s.mu.Unlock()
	if local, hd := s.findLocked(ref); hd != nil && hd.changed == 0 {
		s.headers.at(local).gen = 0
		s.counts.Series--
		h.dir.unreserve(ref)
	}
}

// Publish makes a reserved series findable. The caller holds the sequencer lock, has logged the series as lsn, and
// enqueues or skips that in its turn. On error, a *budget.ExceededError, the series is gone again: its rows will be
// StaleRef.
func (h *Head) Publish(ref sample.Ref, lsn sample.LSN) error {
	if err := h.dir.publish(ref, lsn); err != nil {
		h.Unreserve(ref)
		return fmt.Errorf("publish series: %w", err)
	}
	// Rows may have come before it could be found: only now is it a member.
	s := h.shardOf(ref.ID())
	s.mu.RLock()
	defer s.mu.RUnlock()
	if local, hd := s.findLocked(ref); hd != nil && !s.emptyLocked(local, hd) {
		h.members.note(ref.ID(), lsn)
	}
	return nil
}

// Restore makes a series with the Ref it had when it was logged, as the next LSN. One that is there already, from a
// checkpoint, stays as it is. Where its labels or its id belong to another series, which the log has not ended,
// that one was never published for lack of memory; it goes. One whose id the checkpoint says is past its generation
// was not published either, and is left out: its rows are StaleRef, as they were.
func (h *Head) Restore(ref sample.Ref, ls labels.Labels) error {
	if ref.Generation() == 0 {
		return fmt.Errorf("restore series %s: ref %#x has no generation", ls, uint64(ref))
	}
	have, ok := h.dir.lookup(ls)
	if ok && have == ref {
		return nil
	}
	if h.dir.generation(ref.ID()) >= ref.Generation() {
		return nil
	}
	if ok {
		h.evict(have.ID())
	}
	h.evict(ref.ID())
	if h.garbage.Load() {
		h.Reclaim()
	}
	if _, err := h.reserve(ls, ref); err != nil {
		return fmt.Errorf("restore series %s: %w", ls, err)
	}
	return h.Publish(ref, sample.LSN(h.order.enqueued.Load()+1))
}

// evict ends the series that has an id, if there is one.
func (h *Head) evict(id uint32) {
	s := h.shardOf(id)
	s.mu.Lock()
	local := h.local(id)
	if local >= s.headers.len() || s.headers.at(local).gen == 0 {
		s.mu.Unlock()
		return
	}
	s.endLocked(sample.MakeRef(s.headers.at(local).gen, id), 0)
	s.mu.Unlock()
}
