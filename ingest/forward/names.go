// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/prompb"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// outSeries is a series as the receiver is to see it.
type outSeries struct {
	stored labels.Labels // as the store has them
	labels labels.Labels // empty: it is not sent
	hash   uint64
	wire   []byte                          // see labels1
	meta   atomic.Pointer[sample.Metadata] // nil: none is known; messages are made while more of it comes
	family familyOf
}

// description returns the metadata of the series, or that of its family where another one has told it; nil for none.
func (s *outSeries) description() *sample.Metadata {
	if m := s.meta.Load(); m != nil {
		return m
	}
	return s.family.meta.Load()
}

// familyOf is what is known of a series' family.
type familyOf struct {
	meta  atomic.Pointer[sample.Metadata]
	asked atomic.Uint64 // how many changes of families there were when that was found
}

// seriesNames is the series of the epoch that is being read, and those of the one before it.
type seriesNames struct {
	epoch         sample.LSN
	known, before map[sample.Ref]*outSeries
	bytes, old    int64 // that are charged for each of them
}

// restart forgets all series, and returns how many bytes that sets free.
func (n *seriesNames) restart() (freed int64) {
	freed = n.charged()
	n.known, n.before, n.bytes, n.old = map[sample.Ref]*outSeries{}, nil, 0, 0
	return freed
}

// charged returns how many bytes are charged for all of them.
func (n *seriesNames) charged() int64 { return n.bytes + n.old }

// begin begins an epoch, and returns how many bytes that sets free.
func (n *seriesNames) begin(lsn sample.LSN) (freed int64) {
	freed = n.old
	n.epoch, n.before, n.known = lsn, n.known, make(map[sample.Ref]*outSeries, len(n.known))
	n.bytes, n.old = 0, n.bytes
	return freed
}

// of returns a series, nil for one that was not named. One that has left the store may have its name in the epoch before.
func (n *seriesNames) of(ref sample.Ref) *outSeries {
	if s := n.known[ref]; s != nil {
		return s
	}
	return n.before[ref]
}

// name notes the labels of a series. What relabelling makes of them is known where the epoch before had it.
func (e *endpoint) name(x *namedSeries) {
	n := &e.names
	if s := n.before[x.ref]; s != nil && labels.Equal(s.stored, x.labels) {
		n.known[x.ref] = s
		e.charge(seriesMemory / 2) // a place in the map
		return
	}
	e.charge(2*int64(x.labels.ByteSize()) + seriesMemory) // once more as they are sent
	b := labels.NewBuilder(x.labels)
	e.external.Range(func(l labels.Label) {
		if !x.labels.Has(l.Name) {
			b.Set(l.Name, l.Value)
		}
	})
	s := &outSeries{stored: x.labels}
	if relabel.ProcessBuilder(b, e.config.WriteRelabelConfigs...) {
		s.labels = b.Labels()
		s.hash = s.labels.Hash()
	}
	if s.labels.ByteSize() > 0 && !labels.Equal(s.labels, s.stored) {
		e.charge(int64(s.labels.ByteSize()))
	}
	n.known[x.ref] = s
}

// charge charges memory for names.
func (e *endpoint) charge(n int64) {
	if e.room.names.Reserve(n) == nil { // it is never refused
		e.names.bytes += n
	}
}

// describe notes metadata.
func (e *endpoint) describe(all []sample.Metadata) {
	for i := range all {
		s := e.names.of(all[i].Ref)
		if s == nil || s.labels.IsEmpty() {
			continue
		}
		kept, held := e.families.put(s.labels.Get(labels.MetricName), &all[i])
		if !held {
			e.charge(metadataMemory + int64(len(kept.Type)+len(kept.Unit)+len(kept.Help)))
		}
		if e.inline() {
			s.meta.Store(kept)
		}
	}
}

// metadataMemory is what the metadata of a family takes beside its texts.
const metadataMemory = 150

// families is the metadata of metric families. Remote write 1.0 sends it apart from samples, 2.0 with each series, of which
// only one may have told it.
type families struct {
	changes atomic.Uint64
	mu      sync.Mutex
	all     map[string]*sample.Metadata // guarded by mu: what the epoch has that is being read
	before  map[string]*sample.Metadata // guarded by mu: what the one before it had
}

// begin begins an epoch; restart forgets all.
func (f *families) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all, f.before = map[string]*sample.Metadata{}, f.all
}

func (f *families) restart() {
	f.begin()
	f.begin()
}

// put notes what is told of a metric, and returns it; held says that the epoch had it.
func (f *families) put(metric string, m *sample.Metadata) (kept *sample.Metadata, held bool) {
	family := m.Family(metric)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil {
		f.all = map[string]*sample.Metadata{}
	}
	same := func(old *sample.Metadata) bool {
		return old != nil && old.Type == m.Type && old.Unit == m.Unit && old.Help == m.Help
	}
	if old := f.all[family]; same(old) {
		return old, true
	}
	if old := f.before[family]; same(old) && f.all[family] == nil {
		f.all[family] = old
		return old, false
	}
	one := *m // alone: m is one of many
	f.all[family] = &one
	f.changes.Add(1)
	return &one, false
}

// describe finds the metadata of the families of series that have none of their own, where families have changed since.
func (f *families) describe(rows []outRow) {
	changes := f.changes.Load()
	for i := range rows {
		s := rows[i].series
		if s.family.asked.Load() == changes || s.meta.Load() != nil {
			continue
		}
		s.family.meta.Store(f.of(s.labels.Get(labels.MetricName)))
		s.family.asked.Store(changes)
	}
}

// of returns the metadata of the family of a metric, nil for none.
func (f *families) of(metric string) *sample.Metadata {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, known := range []map[string]*sample.Metadata{f.all, f.before} {
		for _, name := range sample.FamiliesOf(metric) {
			if m := known[name]; m != nil && m.Family(metric) == name {
				return m
			}
		}
	}
	return nil
}

// messages returns all families as messages of remote write 1.0.
func (f *families) messages() []prompb.MetricMetadata {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]prompb.MetricMetadata, 0, max(len(f.all), len(f.before)))
	add := func(name string, m *sample.Metadata) {
		out = append(out, prompb.MetricMetadata{
			Type: prompb.FromMetadataType(model.MetricType(m.Type)), MetricFamilyName: name, Help: m.Help, Unit: m.Unit,
		})
	}
	for name, m := range f.all {
		add(name, m)
	}
	for name, m := range f.before {
		if f.all[name] == nil {
			add(name, m)
		}
	}
	return out
}
