// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Why an exemplar is not stored.
var (
	// ErrSameExemplar: it is the newest of its series already.
	ErrSameExemplar = errors.New("the exemplar is stored already")
	// ErrExemplarOrder: it is older than the newest of its series.
	ErrExemplarOrder = errors.New("the exemplar is older than the newest of its series")
	// ErrExemplarSeries: its Ref names no series.
	ErrExemplarSeries = errors.New("the series of the exemplar is not in the store any more")
	// ErrExemplarLabels: its labels are longer than 128 characters, the limit that OpenMetrics sets.
	ErrExemplarLabels = errors.New("the labels of the exemplar are longer than 128 characters")
	// ErrExemplarMemory: the memory budget has no room for it.
	ErrExemplarMemory = errors.New("the memory budget has no room for the exemplar")
)

// maxExemplars is how many exemplars the head keeps, over all shards; the oldest go first. Each takes about 200 B.
const maxExemplars = 1 << 16

// exemplars are those of a shard: a ring in LSN order, and the place of the newest of each series. Places count
// on, so that one that was overwritten is known by being too far back.
type exemplars struct {
	ring   []storedExemplar
	next   uint32            // place of the next
	newest map[uint32]uint32 // local id -> place + 1
}

type storedExemplar struct {
	exemplar.Exemplar
	lsn   sample.LSN
	local uint32
	older uint32 // place + 1 of the one before it of the series, 0 for none
	bytes int64
}

// at returns the exemplar of a series at place-1, nil if it was overwritten.
func (e *exemplars) at(place, local uint32) *storedExemplar {
	if place == 0 || e.next-(place-1) > uint32(len(e.ring)) {
		return nil
	}
	if x := &e.ring[(place-1)%uint32(len(e.ring))]; x.local == local && x.bytes > 0 {
		return x
	}
	return nil
}

// noSeries is in place of the local id of an exemplar whose series has left.
const noSeries = math.MaxUint32

// forget makes those of a series unfindable; they are overwritten in their turn.
func (e *exemplars) forget(local uint32) {
	for x := e.at(e.newest[local], local); x != nil; x = e.at(x.older, local) {
		x.local = noSeries
	}
	delete(e.newest, local)
}

// CheckExemplar says whether x could be stored now, and why not.
func (h *Head) CheckExemplar(x sample.Exemplar) error {
	s := h.shardOf(x.Ref.ID())
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, err := s.judgeExemplarLocked(&x)
	return err
}

func (s *shard) judgeExemplarLocked(x *sample.Exemplar) (local uint32, err error) {
	local, hd := s.findLocked(x.Ref)
	if hd == nil {
		return 0, ErrExemplarSeries
	}
	runes := 0
	x.Labels.Range(func(l labels.Label) { runes += len([]rune(l.Name)) + len([]rune(l.Value)) })
	if runes > exemplar.ExemplarMaxLabelSetLength {
		return 0, ErrExemplarLabels
	}
	if last := s.examples.at(s.examples.newest[local], local); last != nil {
		if last.Equals(exemplar.Exemplar{Labels: x.Labels, Value: x.V, Ts: x.T, HasTs: x.HasT}) {
			return 0, ErrSameExemplar
		}
		if x.T < last.Ts {
			return 0, ErrExemplarOrder
		}
	}
	return local, nil
}

// exemplarLocked stores an exemplar, or says why it does not.
func (s *shard) exemplarLocked(x *sample.Exemplar, lsn sample.LSN) error {
	local, err := s.judgeExemplarLocked(x)
	if err != nil {
		return err
	}
	ls := cloneLabels(x.Labels)
	return s.addExemplarLocked(storedExemplar{
		Exemplar: exemplar.Exemplar{Labels: ls, Value: x.V, Ts: x.T, HasTs: x.HasT},
		lsn:      lsn, local: local,
	})
}

// cloneLabels copies labels whose texts may be the sender's.
func cloneLabels(ls labels.Labels) labels.Labels {
	var b labels.ScratchBuilder
	ls.Range(func(l labels.Label) { b.Add(strings.Clone(l.Name), strings.Clone(l.Value)) })
	return b.Labels()
}

func (s *shard) addExemplarLocked(x storedExemplar) error {
	e, account := &s.examples, s.head.opts.Account
	x.bytes = 96 + int64(x.Labels.ByteSize())
	if account.Reserve(x.bytes) != nil {
		return ErrExemplarMemory
	}
	limit := maxExemplars / len(s.head.shards)
	if len(e.ring) < limit {
		e.ring = append(e.ring, storedExemplar{})
	}
	if e.newest == nil {
		e.newest = map[uint32]uint32{}
	}
	place := &e.ring[e.next%uint32(len(e.ring))]
	account.Release(place.bytes)
	if place.bytes > 0 && e.newest[place.local] == e.next-uint32(len(e.ring))+1 {
		delete(e.newest, place.local)
	}
	x.older = e.newest[x.local]
	*place = x
	e.next++
	e.newest[x.local] = e.next
	return nil
}

// Exemplars returns the exemplars of a series in [mint, maxt] that the pin sees, in time order. The oldest may
// have gone since the pin was made: the head keeps a fixed number.
func (p *Pin) Exemplars(id uint32, mint, maxt int64) []exemplar.Exemplar {
	s, local := p.head.shardOf(id), p.head.local(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []exemplar.Exemplar
	for x := s.examples.at(s.examples.newest[local], local); x != nil; x = s.examples.at(x.older, local) {
		if x.lsn <= p.epoch && x.Ts >= mint && x.Ts <= maxt {
			out = append(out, x.Exemplar)
		}
	}
	slices.Reverse(out)
	return out
}
