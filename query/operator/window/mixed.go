// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// mixed is what a kernel works on when a series has native histograms: the samples as they came, and apart from each
// other those that are floats and those that are histograms, each with the windows of all steps.
type mixed struct {
	// f is the frame of the cursor: the floats, and the row.
	f *frame
	h histograms
	// all are the windows over s, found on demand.
	all  bounds
	s    *operator.Samples
	st   []int64
	rowH []*histogram.FloatHistogram
	// batch is that of the row, whose memory histograms are made in.
	batch *vector.Batch

	memory memory
	t, fst []int64 // of the floats
	v      []float64
	ht     []int64 // of the histograms
	hst    []int64
	hh     []*histogram.FloatHistogram
	spans  []histogram.Span   // scratch of compact
	rests  []float64          // scratch of denseSums
	places []vector.BucketRun // scratch of combine
	// copied is the histogram of the series that was copied last, and copy what came out.
	copied, copy *histogram.FloatHistogram
	// results is what was charged for histograms that are in the batch now.
	results memory
}

// histograms is the column of histograms of a series.
type histograms struct {
	t  []int64
	st []int64
	h  []*histogram.FloatHistogram
	bounds
	// run is what layouts found; empty before.
	run []int32
	// kin is the same for histograms whose buckets mean the same.
	kin []int32
	// resets are those found by resetsIn, which has looked at the pairs before scanned.
	resets  []int32
	scanned int
	// gauges: at least one is marked as a gauge.
	gauges bool
	// seen says per pair of neighbours, by the later one, whether it is known to be a counter reset.
	seen []resetState
}

type resetState uint8

const (
	unseen resetState = iota
	isReset
	noReset
)

func newMixed(c *cursor) *mixed {
	m := &mixed{f: &c.f}
	m.memory.account, m.results.account = c.node.env.Account, c.node.env.Account
	return m
}

// load splits a series and finds the windows of both parts. v, k and h are the row to fill.
func (m *mixed) load(s *operator.Samples, st []int64, v []float64, k []vector.Kind, h []*histogram.FloatHistogram) error {
	m.s, m.st, m.rowH = s, st, h
	m.copied, m.copy = nil, nil
	floats := 0
	for _, kind := range s.Kind {
		if kind == sample.Float {
			floats++
		}
	}
	f := m.f
	f.begin(s.ID, v, k)
	if floats == 0 {
		m.h.t, m.h.st, m.h.h = s.T, st, s.H
		f.t, f.st, f.v = nil, nil, nil
	} else if err := m.split(s, st, floats); err != nil {
		return err
	}
	if err := f.load(f.t, f.st, f.v); err != nil {
		return err
	}
	var err error
	if m.h.seen, err = room(&m.memory, m.h.seen, len(m.h.t), 1); err != nil {
		return err
	}
	clear(m.h.seen)
	m.h.run = m.h.run[:0]
	return m.h.find(&m.memory, &f.w, m.h.t)
}

func (m *mixed) split(s *operator.Samples, st []int64, floats int) error {
	if err := m.reserve(floats, len(s.T)-floats); err != nil {
		return err
	}
	t, v, fst, ht, hh, hst := m.t[:0], m.v[:0], m.fst[:0], m.ht[:0], m.hh[:0], m.hst[:0]
	for i, kind := range s.Kind {
		if kind == sample.Float {
			t, v = append(t, s.T[i]), append(v, s.V[i])
			if st != nil {
				fst = append(fst, st[i])
			}
			continue
		}
		ht, hh = append(ht, s.T[i]), append(hh, s.H[i])
		if st != nil {
			hst = append(hst, st[i])
		}
	}
	m.f.t, m.f.v, m.f.st = t, v, nil
	m.h.t, m.h.h, m.h.st = ht, hh, nil
	if st != nil {
		m.f.st, m.h.st = fst, hst
	}
	return nil
}

func (m *mixed) reserve(floats, hists int) error {
	var err error
	if m.t, err = room(&m.memory, m.t, floats, 8); err != nil {
		return err
	}
	if m.fst, err = room(&m.memory, m.fst, floats, 8); err != nil {
		return err
	}
	if m.v, err = room(&m.memory, m.v, floats, 8); err != nil {
		return err
	}
	if m.ht, err = room(&m.memory, m.ht, hists, 8); err != nil {
		return err
	}
	if m.hst, err = room(&m.memory, m.hst, hists, 8); err != nil {
		return err
	}
	m.hh, err = room(&m.memory, m.hh, hists, 8)
	return err
}

// whole finds the windows over all samples together.
func (m *mixed) whole() error { return m.all.find(&m.memory, &m.f.w, m.s.T) }

// reset tells whether histogram i, not the first, is a reset of the one before it.
func (h *histograms) reset(i int) bool { return h.newStart(i) || h.detected(i) }

// detected tells whether the contents of histogram i show a reset. It looks at a pair only once.
func (h *histograms) detected(i int) bool {
	if h.seen[i] == unseen {
		h.seen[i] = noReset
		reset := false
		if len(h.run) > 0 && h.uniform(i-1, i+1) {
			reset = fell(h.h[i], h.h[i-1])
		} else {
			reset = h.h[i].DetectReset(h.h[i-1])
		}
		if reset {
			h.seen[i] = isReset
		}
	}
	return h.seen[i] == isReset
}

// newStart tells whether the start timestamp of histogram i says that it is a reset of the one before it.
func (h *histograms) newStart(i int) bool {
	return h.st != nil && startedAnew(h.st[i-1], h.t[i-1], h.st[i], h.t[i])
}

// set makes step i a histogram of our own making.
func (m *mixed) set(i int, h *histogram.FloatHistogram) error {
	if err := m.results.charge(int64(h.Size())); err != nil {
		return err
	}
	m.share(i, h)
	return nil
}

// share makes step i a histogram of the series.
func (m *mixed) share(i int, h *histogram.FloatHistogram) {
	m.f.kind[i], m.rowH[i] = vector.Histogram, h
}

// both tells whether the window of step i holds floats and histograms.
func (m *mixed) both(i int) bool { return m.f.lo[i] < m.f.hi[i] && m.h.lo[i] < m.h.hi[i] }

// excludeBoth makes the windows with floats and histograms empty, and notes that there are some.
func (m *mixed) excludeBoth() {
	for i := range m.f.lo {
		if m.both(i) {
			m.f.noteMixed()
			m.f.hi[i], m.h.hi[i] = m.f.lo[i], m.h.lo[i]
			m.f.gaps, m.h.gaps = true, true
			m.f.forget()
			m.h.forget()
		}
	}
}

// releaseResults gives back what was charged for the histograms of a batch.
func (m *mixed) releaseResults() {
	m.results.release()
}

func (m *mixed) release() {
	m.results.release()
	m.memory.release()
	*m = mixed{}
}

// floatsOnly is for functions that have no use for histograms and say so where there are floats too.
func floatsOnly(m *mixed) error {
	if len(m.f.t) == 0 {
		return nil
	}
	for i := range m.f.lo {
		if m.both(i) {
			m.f.noteIgnored()
			break
		}
	}
	return m.f.fn.floats(m.f)
}

// eitherKind is for functions that take floats or histograms but not both in one window: of fills the steps that see
// histograms only.
func eitherKind(of mixedKernel) mixedKernel {
	return func(m *mixed) error {
		if len(m.f.t) > 0 {
			m.excludeBoth()
			if err := m.f.fn.floats(m.f); err != nil {
				return err
			}
		}
		return of(m)
	}
}
