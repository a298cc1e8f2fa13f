// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop_test

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// newest is what a model knows of a series.
type newest struct {
	t        int64
	v        string // as text
	exemplar int64  // the time of the newest
}

// model is a storage that judges rows as Prometheus' does and keeps what each commit stored, as text, by job. It takes
// samples by either interface: from Prometheus' loops as storage.AppendableV2, from ours as sample.Appender.
type model struct {
	mu      sync.Mutex
	refs    map[string]uint64
	series  map[uint64]labels.Labels
	last    map[uint64]newest
	commits map[string][]string // by job
}

func newModel() *model {
	return &model{refs: map[string]uint64{}, series: map[uint64]labels.Labels{}, last: map[uint64]newest{}, commits: map[string][]string{}}
}

func (m *model) resolve(ls labels.Labels) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := ls.String()
	if m.refs[name] == 0 {
		m.refs[name] = uint64(len(m.refs) + 1)
		m.series[m.refs[name]] = ls
	}
	return m.refs[name]
}

// fact is one row.
type fact struct {
	ref       uint64
	st, t     int64
	v         float64
	h         *histogram.Histogram
	fh        *histogram.FloatHistogram
	exemplars []string
	exemplar  int64 // the time of the last one
}

func (f *fact) value() string {
	switch {
	case f.h != nil:
		return f.h.String() + fmt.Sprint(f.h.Schema, f.h.CounterResetHint, f.h.CustomValues)
	case f.fh != nil:
		return f.fh.String() + fmt.Sprint(f.fh.Schema, f.fh.CounterResetHint, f.fh.CustomValues)
	case value.IsStaleNaN(f.v):
		return "stale"
	}
	return fmt.Sprintf("%x", math.Float64bits(f.v))
}

// oldest is the oldest time that is in bounds.
const oldest = 1_000_000

// judgeLocked says what would become of a row now.
func (m *model) judgeLocked(f *fact) sample.Reason {
	last, ok := m.last[f.ref]
	switch {
	case f.t < oldest:
		return sample.TooOld
	case !ok || f.t > last.t:
		return sample.Accepted
	case f.t < last.t:
		return sample.OutOfOrder
	case f.value() == last.v:
		return sample.Same
	}
	return sample.Conflict
}

// store stores the rows of a commit, and notes them under their job.
func (m *model) store(facts []fact) []sample.Reason {
	m.mu.Lock()
	defer m.mu.Unlock()
	var at int64
	job := ""
	for i := range facts {
		ls := m.series[facts[i].ref]
		job = cmp.Or(job, ls.Get("job"))
		if at == 0 || ls.Get(labels.MetricName) == "up" {
			at = facts[i].t
		}
	}
	var lines []string
	reasons := make([]sample.Reason, len(facts))
	for i := range facts {
		f := &facts[i]
		if reasons[i] = m.judgeLocked(f); !reasons[i].Stored() {
			continue
		}
		m.last[f.ref] = newest{f.t, f.value(), max(m.last[f.ref].exemplar, f.exemplar)}
		if reasons[i] == sample.Accepted {
			lines = append(lines, line(m.series[f.ref], f, at))
		}
	}
	slices.Sort(lines)
	m.commits[job] = append(m.commits[job], strings.Join(lines, "\n"))
	return reasons
}

// line is a row as text; times are told from that of the scrape.
func line(ls labels.Labels, f *fact, at int64) string {
	v, t, st := f.value(), fmt.Sprint(f.t), fmt.Sprint(f.st)
	if ls.Get(labels.MetricName) == "scrape_duration_seconds" && v != "stale" {
		v = "some"
	}
	if f.t == at {
		t = "now"
	}
	if f.st > at-100_000 && f.st <= at {
		st = "synthesized"
	}
	es := strings.ReplaceAll(strings.Join(f.exemplars, " "), fmt.Sprint(at), "now")
	return fmt.Sprintf("%s %s @%s st=%s %s", ls, v, t, st, es)
}

// AppenderV2 returns an appender for Prometheus' loops.
func (m *model) AppenderV2(context.Context) storage.AppenderV2 { return &modelAppender{m: m} }

type modelAppender struct {
	m     *model
	facts []fact
}

func (a *modelAppender) Append(_ storage.SeriesRef, ls labels.Labels, st, t int64, v float64,
	h *histogram.Histogram, fh *histogram.FloatHistogram, o storage.AOptions,
) (storage.SeriesRef, error) {
	f := fact{ref: a.m.resolve(ls), st: st, t: t, v: v, h: h, fh: fh}
	switch {
	case h != nil:
		if err := h.Validate(); err != nil {
			return 0, err
		}
	case fh != nil:
		if err := fh.Validate(); err != nil {
			return 0, err
		}
	}
	a.m.mu.Lock()
	reason := a.m.judgeLocked(&f)
	a.m.mu.Unlock()
	switch reason {
	case sample.Accepted, sample.Same:
	case sample.OutOfOrder:
		return 0, storage.ErrOutOfOrderSample
	case sample.Conflict:
		return 0, storage.ErrDuplicateSampleForTimestamp
	default:
		return 0, storage.ErrOutOfBounds
	}
	var partial storage.AppendPartialError
	for _, e := range o.Exemplars {
		if a.m.exemplarLate(f.ref, e.Ts) {
			partial.ExemplarErrors = append(partial.ExemplarErrors, storage.ErrOutOfOrderExemplar)
			continue
		}
		f.exemplars, f.exemplar = append(f.exemplars, fmt.Sprint(e.Labels, e.Value, e.Ts, e.HasTs)), e.Ts
	}
	a.facts = append(a.facts, f)
	return storage.SeriesRef(f.ref), partial.ToError()
}

func (a *modelAppender) Commit() error { a.m.store(a.facts); return nil }

func (*modelAppender) Rollback() error { return nil }

// exemplarLate reports whether an exemplar is older than the newest of its series.
func (m *model) exemplarLate(ref uint64, t int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return t < m.last[ref].exemplar
}

// Resolve implements sample.Appender.
func (m *model) Resolve(ls []labels.Labels, refs []sample.Ref) error {
	for i, l := range ls {
		refs[i] = sample.Ref(m.resolve(l))
	}
	return nil
}

func factOf(b *sample.Batch, i int) fact {
	f := fact{ref: uint64(b.Ref[i]), st: b.STAt(i), t: b.T[i], v: b.V[i]}
	if b.KindAt(i) != sample.Float {
		f.h, f.fh = b.H[i], b.FH[i]
	}
	return f
}

// Commit implements sample.Appender.
func (m *model) Commit(_ context.Context, b *sample.Batch, r *sample.Result) (sample.LSN, error) {
	facts := make([]fact, b.Len())
	at := map[uint64]int{}
	for i := range facts {
		facts[i] = factOf(b, i)
		if _, ok := at[facts[i].ref]; !ok {
			at[facts[i].ref] = i
		}
	}
	for _, e := range b.Exemplars {
		f := &facts[at[uint64(e.Ref)]]
		f.exemplars, f.exemplar = append(f.exemplars, fmt.Sprint(e.Labels, e.V, e.T, e.HasT)), e.T
	}
	r.Reason = m.store(facts)
	return 1, nil
}

// Durable implements sample.Appender.
func (*model) Durable(context.Context, sample.LSN) error { return nil }

// Foresee implements ingest.Foreseer.
func (m *model) Foresee(b *sample.Batch, row int) sample.Reason {
	f := factOf(b, row)
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.judgeLocked(&f)
}

// ForeseeExemplar implements ingest.Foreseer.
func (m *model) ForeseeExemplar(e sample.Exemplar) sample.Reason {
	if m.exemplarLate(uint64(e.Ref), e.T) {
		return sample.OutOfOrder
	}
	return sample.Accepted
}

// of returns the commits of a job.
func (m *model) of(job string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.commits[job])
}
