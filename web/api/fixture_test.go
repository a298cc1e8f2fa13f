// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	promroute "github.com/prometheus/common/route"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	promrules "github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/features"
	"github.com/prometheus/prometheus/util/notifications"
	"github.com/prometheus/prometheus/util/teststorage"
	promapi "github.com/prometheus/prometheus/web/api/v1"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
)

// pair is our API and Prometheus' own over the same data, rules and targets.
type pair struct {
	ours, theirs http.Handler
	store        *columntest.Store
	admin        *fakeAdmin
	engine       *query.Engine
}

type stored struct {
	ls labels.Labels
	columntest.Sample
}

// data is what both sides hold: ten minutes of floats, integer, float and custom-bucket histograms.
func data() []stored {
	var out []stored
	for _, job := range []string{"api", "db"} {
		for _, instance := range []string{"0", "1", "2"} {
			ls := labels.FromStrings("__name__", "requests_total", "job", job, "instance", instance)
			for k := range int64(41) {
				out = append(out, stored{ls, columntest.Sample{T: k * 15000, V: float64(k) * 3.7}})
			}
		}
	}
	odd := labels.FromStrings("__name__", "odd", "quoted", "a \"quoted\"\tvalue \\ <&> 中\u2028", "my.label", "dotted")
	for k := range int64(41) {
		t := k * 15000
		out = append(out,
			stored{odd, columntest.Sample{T: t, V: -1e-7 * float64(k)}},
			stored{labels.FromStrings("__name__", "latency"), columntest.Sample{T: t, H: tsdbutil.GenerateTestHistogram(k)}},
			stored{labels.FromStrings("__name__", "latency_float"), columntest.Sample{T: t, FH: tsdbutil.GenerateTestFloatHistogram(k)}},
			stored{labels.FromStrings("__name__", "latency_custom"), columntest.Sample{T: t, H: tsdbutil.GenerateTestCustomBucketsHistogram(k)}},
		)
	}
	// Prometheus' head answers series as they were first seen, ours by their labels.
	slices.SortStableFunc(out, func(a, b stored) int { return labels.Compare(a.ls, b.ls) })
	return out
}

func newPair(t *testing.T) *pair {
	t.Helper()
	ours, theirs := &columntest.Store{}, teststorage.New(t)
	app := theirs.Appender(t.Context())
	for _, s := range data() {
		ours.Append(s.ls, s.Sample)
		if err := appendTheirs(app, s); err != nil {
			t.Fatal(err)
		}
	}
	e := exemplar.Exemplar{Labels: labels.FromStrings("trace_id", "abc"), Value: 0.25, Ts: 30500, HasTs: true}
	ls := labels.FromStrings("__name__", "requests_total", "job", "api", "instance", "0")
	ours.AppendExemplar(ls, e)
	if _, err := app.AppendExemplar(0, ls, e); err != nil {
		t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	engine := query.NewEngine(ours, query.Options{})
	admin := &fakeAdmin{}
	groups, targets := promGroups(t), newTargets()
	a, err := New(Sources{
		Engine: engine, Data: ours, Admin: admin, Store: fakeStore{}, Targets: targets, Alertmanagers: targets,
		Rules: converted(groups), Config: func() string { return testConfig().String() }, Flags: testFlags(),
		Features: testFeatures().Get, Build: BuildInfo{Version: "3.15.0"},
	}, Options{EnableAdmin: true, ExternalURL: externalURL(), ListenAddress: "0.0.0.0:9090", Parser: testParser()})
	if err != nil {
		t.Fatal(err)
	}
	a.now = testNow
	r := mux.NewRouter()
	a.Register(r.PathPrefix("/api/v1").Subrouter(), nil)
	return &pair{ours: r, theirs: promHandler(theirs, groups, targets), store: ours, admin: admin, engine: engine}
}

func appendTheirs(app storage.Appender, s stored) error {
	if s.H != nil || s.FH != nil {
		_, err := app.AppendHistogram(0, s.ls, s.T, s.H, s.FH)
		return err
	}
	_, err := app.Append(0, s.ls, s.T, s.V)
	return err
}

func testNow() time.Time { return time.UnixMilli(600_000).UTC() }

func testParser() parser.Parser {
	return parser.NewParser(parser.Options{ExperimentalDurationExpr: true})
}

func externalURL() *url.URL { return &url.URL{Scheme: "https", Host: "metrics.example.com", Path: "/"} }

func testFlags() map[string]string {
	return map[string]string{"storage.tsdb.path": "data/", "web.listen-address": "0.0.0.0:9090"}
}

func testFeatures() features.Collector {
	r := features.NewRegistry()
	r.Enable("api", "admin")
	r.Disable("promql", "x")
	return r
}

func testConfig() *promconfig.Config {
	c := promconfig.DefaultConfig
	c.GlobalConfig.ExternalLabels = labels.FromStrings("cluster", "a")
	return &c
}

// promHandler is Prometheus' own API.
func promHandler(db *teststorage.TestStorage, groups []*promrules.Group, targets *fakeTargets) http.Handler {
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: query.DefaultMaxSamples, Timeout: query.DefaultTimeout, LookbackDelta: query.DefaultLookbackDelta,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
		EnableAtModifier:         true, EnableNegativeOffset: true, Parser: testParser(),
	})
	a := promapi.NewAPI(engine, db, nil, nil, db,
		func(context.Context) promapi.ScrapePoolsRetriever { return targets },
		func(context.Context) promapi.TargetRetriever { return targets },
		func(context.Context) promapi.AlertmanagerRetriever { return targets },
		func() promconfig.Config { return *testConfig() },
		testFlags(),
		promapi.GlobalURLOptions{ListenAddress: "0.0.0.0:9090", Host: externalURL().Host, Scheme: externalURL().Scheme},
		func(f http.HandlerFunc) http.HandlerFunc { return f },
		promAdmin{}, "", true, false, 0, slog.New(slog.DiscardHandler),
		func(context.Context) promapi.RulesRetriever { return promRules(groups) },
		5e7, 10, 1<<20, false, nil, nil, &promapi.PrometheusVersion{Version: "3.15.0"},
		func() []notifications.Notification { return []notifications.Notification{} }, nil,
		promGatherer{}, prometheus.NewRegistry(), nil, false, nil, false, false, false, false, query.DefaultLookbackDelta,
		false, false, nil, testFeatures(), promapi.OpenAPIOptions{}, testParser())
	a.CORSOrigin = promCORS
	r := promroute.New().WithPrefix("/api/v1")
	a.Register(r)
	return r
}

// fakeStore and promAdmin tell the same figures, ours and in Prometheus' types.
type fakeStore struct{}

func (fakeStore) Stats(limit int) (StoreStats, error) {
	if limit == 7 {
		return StoreStats{}, errors.New("no figures for seven")
	}
	return StoreStats{
		Head:                        HeadStats{NumSeries: 3, NumLabelPairs: 4, ChunkCount: 9, MinTime: 1, MaxTime: 2},
		SeriesCountByMetricName:     []Count{{"up", 3}},
		LabelValueCountByLabelName:  []Count{{"job", 2}},
		MemoryInBytesByLabelName:    []Count{{"job", 20}},
		SeriesCountByLabelValuePair: []Count{{"job=a", 1}},
	}, nil
}

// StatsOf answers what it was asked.
func (fakeStore) StatsOf(_ context.Context, q StatsQuery) (StoreStats, annotations.Annotations, error) {
	if q.Limit == 7 {
		return StoreStats{}, nil, errors.New("no figures for seven")
	}
	s := StoreStats{Head: HeadStats{MinTime: q.MinTime, MaxTime: q.MaxTime, NumSeries: uint64(len(q.Sets)), NumLabelPairs: q.Limit}}
	for _, ms := range q.Sets {
		for _, m := range ms {
			s.SeriesCountByLabelValuePair = append(s.SeriesCountByLabelValuePair, Count{Name: m.String()})
		}
	}
	return s, annotations.New().Add(errors.New("a block is missing")), nil
}

func (fakeStore) Blocks() []Block { return nil }
func (fakeStore) Replay() Replay  { return Replay{Min: 1, Max: 5, Current: 3} }

type promAdmin struct{}

func (promAdmin) CleanTombstones() error                                         { return nil }
func (promAdmin) Delete(context.Context, int64, int64, ...*labels.Matcher) error { return nil }
func (promAdmin) Snapshot(string, bool) error                                    { return nil }
func (promAdmin) WALReplayStatus() (promtsdb.WALReplayStatus, error) {
	return promtsdb.WALReplayStatus{Min: 1, Max: 5, Current: 3}, nil
}
func (promAdmin) BlockMetas() ([]promtsdb.BlockMeta, error) { return []promtsdb.BlockMeta{}, nil }

func (promAdmin) Stats(_ string, limit int) (*promtsdb.Stats, error) {
	if limit == 7 {
		return nil, errors.New("no figures for seven")
	}
	return &promtsdb.Stats{NumSeries: 3, MinTime: 1, MaxTime: 2, IndexPostingStats: &index.PostingsStats{
		CardinalityMetricsStats: []index.Stat{{Name: "up", Count: 3}}, CardinalityLabelStats: []index.Stat{{Name: "job", Count: 2}},
		LabelValueStats: []index.Stat{{Name: "job", Count: 20}}, LabelValuePairsStats: []index.Stat{{Name: "job=a", Count: 1}},
		NumLabelPairs: 4,
	}}, nil
}

// fakeAdmin notes what was asked of it.
type fakeAdmin struct {
	deleted  []string
	from, to int64
	cleaned  int
	skipHead bool
	err      error
}

func (f *fakeAdmin) Delete(_ context.Context, mint, maxt int64, ms ...*labels.Matcher) error {
	for _, m := range ms {
		f.deleted = append(f.deleted, m.String())
	}
	f.from, f.to = mint, maxt
	return f.err
}

func (f *fakeAdmin) CleanTombstones(context.Context) error {
	f.cleaned++
	return f.err
}

func (f *fakeAdmin) Snapshot(_ context.Context, skipHead bool) (string, error) {
	f.skipHead = skipHead
	return "20260101T000000Z-0001", f.err
}

// fakeTargets serves both sides.
type fakeTargets struct{ active, dropped map[string][]*scrape.Target }

func newTargets() *fakeTargets {
	target := func(address, err string, extra ...string) *scrape.Target {
		tls := labels.FromMap(map[string]string{
			model.AddressLabel: address, model.SchemeLabel: "http", model.MetricsPathLabel: "/metrics", model.JobLabel: "test",
			model.ScrapeIntervalLabel: "15s", model.ScrapeTimeoutLabel: "5s",
		})
		discovered := model.LabelSet{"extra": "1"}
		for i := 0; i < len(extra); i += 2 {
			discovered[model.LabelName(extra[i])] = model.LabelValue(extra[i+1])
		}
		t := scrape.NewTarget(tls, &promconfig.ScrapeConfig{}, discovered, nil)
		t.SetMetadataStore(metadataStore{})
		var failed error
		if err != "" {
			failed = errors.New(err)
		}
		t.Report(testNow(), 250*time.Millisecond, failed)
		return t
	}
	return &fakeTargets{
		active: map[string][]*scrape.Target{
			"zeta":  {target("localhost:9090", ""), target("localhost:9100", "connection refused")},
			"alpha": {target("10.0.0.1:80", ""), target("localhost", "")},
		},
		dropped: map[string][]*scrape.Target{
			"zeta":  {target("10.0.0.9:80", "")},
			"alpha": {target("10.0.0.8:80", "", "job", "gone"), target("10.0.0.7:80", "")},
		},
	}
}

func (*fakeTargets) ScrapePools() []string                         { return []string{"zeta", "alpha"} }
func (f *fakeTargets) TargetsActive() map[string][]*scrape.Target  { return f.active }
func (f *fakeTargets) TargetsDropped() map[string][]*scrape.Target { return f.dropped }
func (*fakeTargets) TargetsDroppedCounts() map[string]int {
	return map[string]int{"alpha": 0, "zeta": 1}
}

func (*fakeTargets) Alertmanagers() []*url.URL {
	return []*url.URL{{Scheme: "http", Host: "am:9093", Path: "/api/v2/alerts"}}
}

func (*fakeTargets) DroppedAlertmanagers() []*url.URL {
	return []*url.URL{{Scheme: "http", Host: "old:9093"}}
}

func (*fakeTargets) ScrapePoolConfig(pool string) (*promconfig.ScrapeConfig, error) {
	if pool != "alpha" {
		return nil, errors.New("scrape pool " + pool + " not found")
	}
	cfg := promconfig.DefaultScrapeConfig
	cfg.JobName = "alpha"
	cfg.RelabelConfigs = []*relabel.Config{
		{SourceLabels: model.LabelNames{"job"}, Action: relabel.Replace, TargetLabel: "copy", Regex: relabel.MustNewRegexp("(.*)"), Replacement: "$1", NameValidationScheme: model.UTF8Validation},
		{SourceLabels: model.LabelNames{"job"}, Action: relabel.Drop, Regex: relabel.MustNewRegexp("gone"), NameValidationScheme: model.UTF8Validation},
	}
	cfg.MetricRelabelConfigs = []*relabel.Config{
		{Regex: relabel.MustNewRegexp("pod_.*"), Action: relabel.LabelDrop, NameValidationScheme: model.UTF8Validation},
		{SourceLabels: model.LabelNames{"__name__"}, Action: relabel.Drop, Regex: relabel.MustNewRegexp("go_.*"), NameValidationScheme: model.UTF8Validation},
		{SourceLabels: model.LabelNames{"rename"}, Action: relabel.Replace, TargetLabel: "__name__", Regex: relabel.MustNewRegexp("nothing"), Replacement: "", NameValidationScheme: model.UTF8Validation},
	}
	return &cfg, nil
}

type metadataStore struct{}

func (metadataStore) ListMetadata() []scrape.MetricMetadata {
	return []scrape.MetricMetadata{{MetricFamily: "requests_total", Type: model.MetricTypeCounter, Help: "Requests.", Unit: ""}}
}

func (m metadataStore) GetMetadata(name string) (scrape.MetricMetadata, bool) {
	if name != "requests_total" {
		return scrape.MetricMetadata{}, false
	}
	return m.ListMetadata()[0], true
}
func (metadataStore) SizeMetadata() int   { return 0 }
func (metadataStore) LengthMetadata() int { return 0 }

// promGroups are Prometheus' rule groups, evaluated once: one alert fires, one does not, one rule fails.
func promGroups(t *testing.T) []*promrules.Group {
	t.Helper()
	expr := func(s string) parser.Expr {
		e, err := testParser().ParseExpr(s)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	alerting := func(name, q string, hold time.Duration) promrules.Rule {
		return promrules.NewAlertingRule(name, expr(q), hold, time.Minute, labels.FromStrings("severity", name),
			labels.FromStrings("summary", "{{ $value }}"), labels.EmptyLabels(), "", true, nil)
	}
	opts := &promrules.ManagerOptions{
		Context: t.Context(), Logger: slog.New(slog.DiscardHandler), ExternalURL: externalURL(),
		QueryFunc: func(_ context.Context, q string, ts time.Time) (promql.Vector, error) {
			if q == "broken" {
				return nil, errors.New("query failed")
			}
			return promql.Vector{{Metric: labels.FromStrings("job", "a"), T: ts.UnixMilli(), F: 15}}, nil
		},
		Appendable: discard{}, Queryable: emptyQueryable{}, NotifyFunc: func(context.Context, string, ...*promrules.Alert) {},
	}
	group := func(name, file string, list ...promrules.Rule) *promrules.Group {
		g := promrules.NewGroup(promrules.GroupOptions{Name: name, File: file, Interval: time.Minute, Limit: 3, Rules: list, Opts: opts})
		g.Eval(t.Context(), testNow())
		return g
	}
	return []*promrules.Group{
		group("first", "a.yml", alerting("Hot", "x > 1", 0), alerting("Slow", "y", time.Hour),
			promrules.NewRecordingRule("rec:x", expr("sum(x)"), labels.FromStrings("severity", "Hot"))),
		group("second", "a.yml", promrules.NewRecordingRule("rec:broken", expr("broken"), labels.EmptyLabels())),
		group("third", "b.yml", alerting("Other", "z", 0)),
	}
}

type promRules []*promrules.Group

func (p promRules) RuleGroups() []*promrules.Group { return p }
func (p promRules) AlertingRules() []*promrules.AlertingRule {
	var out []*promrules.AlertingRule
	for _, g := range p {
		out = append(out, g.AlertingRules()...)
	}
	return out
}
