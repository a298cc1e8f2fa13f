// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"go.uber.org/goleak"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a storage in memory: columntest's for reading, and an Appender with the storage's rules of
// validation in front of it. Faults can be set between calls.
type store struct {
	columntest.Store

	mu        sync.Mutex
	refs      map[string]sample.Ref
	series    []*storedSeries // by ref-1
	lsn       sample.LSN
	resolved  int // label sets that went through Resolve
	commits   int
	durable   sample.LSN
	refuse    func(labels.Labels) error // of Resolve
	commitErr error
	evicted   map[sample.Ref]bool // refs that have gone stale
	durableFn func(context.Context, sample.LSN) error
}

type storedSeries struct {
	lset  labels.Labels
	lastT int64
	lastV uint64
	any   bool
}

func newStore() *store {
	return &store{refs: map[string]sample.Ref{}, evicted: map[sample.Ref]bool{}}
}

func (s *store) Resolve(ls []labels.Labels, refs []sample.Ref) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(refs)
	for i, l := range ls {
		s.resolved++
		if s.refuse != nil {
			if err := s.refuse(l); err != nil {
				return err
			}
		}
		ref, ok := s.refs[l.String()]
		if !ok || s.evicted[ref] {
			s.series = append(s.series, &storedSeries{lset: l})
			ref = sample.MakeRef(1, uint32(len(s.series)))
			s.refs[l.String()] = ref
		}
		refs[i] = ref
	}
	return nil
}

func (s *store) Commit(_ context.Context, b *sample.Batch, r *sample.Result) (sample.LSN, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*r = sample.Result{}
	s.commits++
	if s.commitErr != nil {
		return 0, s.commitErr
	}
	for i, ref := range b.Ref {
		if ref == 0 {
			return 0, fmt.Errorf("row %d has no ref", i)
		}
		r.Reason = append(r.Reason, s.put(ref, b, i))
	}
	s.lsn++
	return s.lsn, nil
}

func (s *store) put(ref sample.Ref, b *sample.Batch, i int) sample.Reason {
	if s.evicted[ref] {
		return sample.StaleRef
	}
	se, bits := s.series[ref.ID()-1], math.Float64bits(b.V[i])
	x := columntest.Sample{T: b.T[i], V: b.V[i]}
	if b.KindAt(i) == sample.FloatHistogram {
		x.FH = b.FH[i].Copy()
		bits = math.Float64bits(b.FH[i].Sum)
	}
	switch {
	case se.any && x.T == se.lastT && bits == se.lastV:
		return sample.Same
	case se.any && x.T == se.lastT:
		return sample.Conflict
	case se.any && x.T < se.lastT:
		return sample.OutOfOrder
	}
	se.lastT, se.lastV, se.any = x.T, bits, true
	s.Append(se.lset, x)
	return sample.Accepted
}

func (s *store) Durable(ctx context.Context, lsn sample.LSN) error {
	s.mu.Lock()
	fn := s.durableFn
	s.durable = max(s.durable, lsn)
	s.mu.Unlock()
	if fn != nil {
		return fn(ctx, lsn)
	}
	return nil
}

// load puts samples of one series into the store, one per step from start; NaN leaves a gap.
func (s *store) load(series string, start time.Time, step time.Duration, values ...float64) {
	lset, err := parser.NewParser(parser.Options{}).ParseMetric(series)
	if err != nil {
		panic(err)
	}
	for i, v := range values {
		if !math.IsNaN(v) || value.IsStaleNaN(v) {
			s.Append(lset, columntest.Sample{T: millis(start.Add(time.Duration(i) * step)), V: v})
		}
	}
}

// dump returns the samples that the store has of the series a selector picks, as lines of text.
func (s *store) dump(t *testing.T, selector string) string {
	t.Helper()
	return dumpQueryable(t, queryable.New(s), selector)
}

func dumpQueryable(t *testing.T, q storage.Queryable, selector string) string {
	t.Helper()
	ms, err := parser.NewParser(parser.Options{}).ParseMetricSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	querier, err := q.Querier(math.MinInt64/2, math.MaxInt64/2)
	if err != nil {
		t.Fatal(err)
	}
	defer querier.Close()
	var lines []string
	for set := querier.Select(t.Context(), true, nil, ms...); set.Next(); {
		var b strings.Builder
		fmt.Fprint(&b, set.At().Labels())
		for it := set.At().Iterator(nil); ; {
			text, ok := printSample(it.Next(), it)
			if !ok {
				break
			}
			b.WriteString(text)
		}
		lines = append(lines, b.String())
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// recorder is a Notifier that keeps what it gets.
type recorder struct {
	mu  sync.Mutex
	got []Notification
}

func (r *recorder) Notify(_ context.Context, alerts []Notification) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, alerts...)
}

// take returns what came since the last call.
func (r *recorder) take() []Notification {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.got
	r.got = nil
	return got
}

func newEngine() *promql.Engine {
	return promql.NewEngine(promql.EngineOpts{
		Logger: slog.New(slog.DiscardHandler), MaxSamples: 1e6, Timeout: time.Minute,
		Parser: parser.NewParser(parser.Options{}),
	})
}

// fixture is a Manager over a store, whose groups a test evaluates itself.
type fixture struct {
	*testing.T
	store  *store
	notes  *recorder
	opts   Options
	m      *Manager
	dir    string
	config Config
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{T: t, store: newStore(), notes: &recorder{}, dir: t.TempDir()}
	engine := newEngine()
	f.opts = Options{
		Query: EngineQuery(engine, queryable.New(f.store)), Appender: f.store, Source: f.store, Notifier: f.notes,
	}
	f.config = Config{Interval: time.Minute, ExternalURL: "http://tide.example"}
	return f
}

// rules writes a rule file and loads it alone. The text may be indented by tabs.
func (f *fixture) rules(text string) {
	f.Helper()
	if err := f.tryRules(text); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) tryRules(text string) error {
	f.Helper()
	name := filepath.Join(f.dir, "rules.yml")
	if err := os.WriteFile(name, []byte(strings.ReplaceAll(text, "\t", "  ")), 0o600); err != nil {
		f.Fatal(err)
	}
	f.config.Files = []string{name}
	if f.m == nil {
		m, err := New(f.opts)
		if err != nil {
			f.Fatal(err)
		}
		f.m = m
	}
	return f.m.Update(f.config)
}

// group returns a loaded group by name.
func (f *fixture) group(name string) *group {
	f.Helper()
	for _, g := range f.m.mu.groups {
		if g.name == name {
			return g
		}
	}
	f.Fatalf("no group %q", name)
	return nil
}

// restored marks the rules of all groups as restored, as they are after the second evaluation of a fresh server.
func (f *fixture) restored() {
	for _, g := range f.m.mu.groups {
		for _, r := range g.rules {
			if r.alerts != nil {
				r.alerts.restored = true
			}
		}
		g.restoreSeries = false
	}
}

// eval evaluates all groups for a time and delivers what they posted.
func (f *fixture) eval(ts time.Time) {
	f.Helper()
	for _, g := range f.m.mu.groups {
		g.iterate(f.Context(), ts)
	}
	f.m.outbox.deliver(f.Context())
}

// alerts returns the active alerts, one line each.
func (f *fixture) alerts() string {
	var lines []string
	for _, a := range f.m.Alerts() {
		lines = append(lines, fmt.Sprintf("%s %s %s", a.State, a.Labels, a.Value))
	}
	return strings.Join(lines, "\n")
}

func (f *fixture) wantAlerts(when, want string) {
	f.Helper()
	if got := f.alerts(); got != want {
		f.Errorf("%s: alerts\n%s\nwant\n%s", when, got, want)
	}
}

func (f *fixture) wantSeries(selector, want string) {
	f.Helper()
	if got := f.store.dump(f.T, selector); got != want {
		f.Errorf("%s\n%s\nwant\n%s", selector, got, want)
	}
}

var epoch = time.Unix(0, 0).UTC()

func at(d time.Duration) time.Time { return epoch.Add(d) }

var nan = math.NaN()

var _ column.Source = (*store)(nil)
