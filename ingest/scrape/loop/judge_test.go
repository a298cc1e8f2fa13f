// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	commonmodel "github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	promscrape "github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/util/logging"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/scrape/loop"
)

// answer is what a target says to one scrape.
type answer struct {
	contentType string
	text        string
	status      int
}

// script is a target: what it says to one scrape after the other, in which configuration.
type script struct {
	job     string
	config  string // of the job, lines
	answers []answer
}

// contender is a scrape manager under test.
type contender struct {
	name    string
	store   *model
	reg     *prometheus.Registry
	apply   func(*promconfig.Config) error
	targets func() map[string][]*promscrape.Target
	groups  chan map[string][]*targetgroup.Group
	stop    func()

	truncate func(bool)          // of ours
	meta     map[string][]string // when the scripts were over
}

// scene is the two managers and the targets that both scrape.
type scene struct {
	t       *testing.T
	scripts []script
	server  *httptest.Server
	mu      sync.Mutex
	asked   map[string]int // how often, by path
}

func newScene(t *testing.T, scripts []script) *scene {
	t.Helper()
	s := &scene{t: t, scripts: scripts, asked: map[string]int{}}
	s.server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.server.Close)
	return s
}

// serve answers /<contender>/<script>.
func (s *scene) serve(w http.ResponseWriter, r *http.Request) {
	_, which, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
	k, err := strconv.Atoi(which)
	if err != nil || k >= len(s.scripts) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	s.mu.Lock()
	n := s.asked[r.URL.Path]
	s.asked[r.URL.Path]++
	s.mu.Unlock()
	all := s.scripts[k].answers
	a := all[min(n, len(all)-1)]
	if a.contentType != "" {
		w.Header().Set("Content-Type", a.contentType)
	} else {
		w.Header()["Content-Type"] = nil
	}
	if a.status != 0 {
		w.WriteHeader(a.status)
	}
	_, _ = w.Write([]byte(a.text))
}

// interval is long enough that a busy machine does not let scrapes time out.
const interval = 700 * time.Millisecond

func (s *scene) config() *promconfig.Config {
	s.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "global: {scrape_interval: %s, scrape_timeout: %s}\nscrape_configs:\n", interval, interval)
	for _, x := range s.scripts {
		fmt.Fprintf(&b, "- job_name: %s\n", x.job)
		for line := range strings.Lines(x.config) {
			b.WriteString("  " + strings.TrimRight(line, "\n") + "\n")
		}
	}
	c, err := promconfig.Load(b.String(), nil)
	if err != nil {
		s.t.Fatalf("%v in\n%s", err, b.String())
	}
	return c
}

// groupsFor are the targets as a contender finds them. The path is not in their labels.
func (s *scene) groupsFor(name string) map[string][]*targetgroup.Group {
	out := map[string][]*targetgroup.Group{}
	for i, x := range s.scripts {
		out[x.job] = []*targetgroup.Group{{
			Source: x.job,
			Targets: []commonmodel.LabelSet{{
				commonmodel.AddressLabel: commonmodel.LabelValue(s.server.Listener.Addr().String()), commonmodel.InstanceLabel: "target",
				commonmodel.MetricsPathLabel: commonmodel.LabelValue(fmt.Sprintf("/%s/%d", name, i)), "extra": "of target",
			}},
		}}
	}
	return out
}

// features are the options that both have.
func features() promscrape.Options {
	return promscrape.Options{AppendMetadata: true, DiscoveryReloadInterval: commonmodel.Duration(10 * time.Millisecond)}
}

func (s *scene) judge(o promscrape.Options) *contender {
	s.t.Helper()
	c := &contender{name: "judge", store: newModel(), reg: prometheus.NewRegistry(), groups: make(chan map[string][]*targetgroup.Group)}
	m, err := promscrape.NewManager(&o, nil, logging.NewJSONFileLogger, nil, c.store, c.reg)
	if err != nil {
		s.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- m.Run(c.groups) }()
	c.apply, c.targets = m.ApplyConfig, m.TargetsActive
	c.stop = func() { m.Stop(); <-done }
	return c
}

func (s *scene) ours(o promscrape.Options) *contender {
	s.t.Helper()
	c := &contender{name: "ours", store: newModel(), reg: prometheus.NewRegistry(), groups: make(chan map[string][]*targetgroup.Group)}
	in, err := ingest.New(ingest.Options{Appender: c.store, Foreseer: c.store})
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := loop.New(loop.Options{Intake: in, Registerer: c.reg, Scrape: o})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); m.Run(ctx, c.groups) }()
	c.apply, c.targets, c.truncate = m.ApplyConfig, m.TargetsActive, m.Truncate
	c.stop = func() { cancel(); m.Stop(); <-done }
	return c
}

// play lets both contenders scrape all targets to the end of their scripts.
func (s *scene) play(o promscrape.Options) (judge, ours *contender) {
	s.t.Helper()
	judge, ours = s.judge(o), s.ours(o)
	for _, c := range []*contender{judge, ours} {
		if err := c.apply(s.config()); err != nil {
			s.t.Fatal(err)
		}
		c.groups <- s.groupsFor(c.name)
	}
	for deadline := time.Now().Add(time.Minute); !s.over(judge, ours); time.Sleep(interval / 3) {
		if time.Now().After(deadline) {
			s.t.Fatal("the scripts do not come to an end")
		}
	}
	time.Sleep(2 * interval) // until the last answer has been given twice
	judge.meta, ours.meta = metadataOf(judge.targets()), metadataOf(ours.targets())
	judge.stop()
	ours.stop()
	return judge, ours
}

func (s *scene) over(contenders ...*contender) bool {
	for _, c := range contenders {
		for _, x := range s.scripts {
			if len(c.store.of(x.job)) < len(x.answers) {
				return false
			}
		}
	}
	return true
}

// compare fails where a scrape was not stored as the judge stored it.
func (s *scene) compare(judge, ours *contender) {
	s.t.Helper()
	for _, x := range s.scripts {
		want, got := judge.store.of(x.job), ours.store.of(x.job)
		for i, a := range x.answers {
			if diff := cmp.Diff(strings.Split(want[i], "\n"), strings.Split(got[i], "\n")); diff != "" {
				s.t.Errorf("job %s, scrape %d (-judge +ours):\n%s\nconfig:\n%s\nthis answer (%d, %q):\n%s", x.job, i, diff, x.config, a.status, a.contentType, head(a.text))
				if i > 0 {
					s.t.Logf("the answer before:\n%s", head(x.answers[i-1].text))
				}
				break
			}
		}
	}
}

// requireUp fails where less than half of all scrapes were good: then they show little.
func (s *scene) requireUp(judge *contender) {
	s.t.Helper()
	up := 0
	var all []string
	for _, x := range s.scripts {
		all = append(all, judge.store.of(x.job)...)
	}
	for _, c := range all {
		for line := range strings.Lines(c) {
			if strings.HasPrefix(line, `{__name__="up"`) && strings.Contains(line, "} 3ff0000000000000 @now") {
				up++
			}
		}
	}
	if 2*up < len(all) {
		s.t.Errorf("of %d scrapes %d were good", len(all), up)
	}
}

func head(text string) string {
	const most = 3000
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}

func counter(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return -1
}

// truncated is what is counted as beyond a limit.
func (c *contender) truncated(t *testing.T, job, limit string) float64 {
	t.Helper()
	all, err := c.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		for _, m := range f.GetMetric() {
			if l := m.GetLabel(); f.GetName() == "tidemark_scrape_truncated_total" && l[0].GetValue() == limit && l[1].GetValue() == job {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

const plain = "text/plain; version=0.0.4; charset=utf-8"

func texts(contentType string, bodies ...string) []answer {
	var out []answer
	for _, b := range bodies {
		out = append(out, answer{contentType: contentType, text: b})
	}
	return append(out, answer{contentType: contentType, text: "last 1\n# EOF\n"})
}

func seed(t *testing.T) *rand.Rand {
	t.Helper()
	n := rand.Uint64()
	if text := os.Getenv("SCRAPE_SEED"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SCRAPE_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 1))
}

// TestBodiesThatChangeAreStoredAsByTheJudge changes bodies from scrape to scrape, a little and a lot, in every
// configuration.
func TestBodiesThatChangeAreStoredAsByTheJudge(t *testing.T) {
	t.Parallel()
	rng := seed(t)
	configs := []string{
		"", "honor_labels: true", "honor_timestamps: false", "track_timestamps_staleness: true", "sample_limit: 12",
		"label_limit: 5", "extra_scrape_metrics: true", "body_size_limit: 700B", "label_value_length_limit: 12",
		"metric_relabel_configs:\n- {source_labels: [__name__], regex: 'm[13].*', action: drop}\n- {source_labels: [a], target_label: b}",
		"metric_relabel_configs:\n- {regex: 'a', action: labeldrop}",
		"convert_classic_histograms_to_nhcb: true", "fallback_scrape_protocol: PrometheusText0.0.4",
		"relabel_configs:\n- {target_label: a, replacement: mine}",
	}
	var scripts []script
	for i := range 6 * len(configs) {
		w := newWriter(rng)
		x := script{job: fmt.Sprintf("job%d", i), config: configs[i%len(configs)]}
		for range 16 {
			x.answers = append(x.answers, w.next())
		}
		scripts = append(scripts, x)
	}
	s := newScene(t, scripts)
	judge, ours := s.play(features())
	s.compare(judge, ours)
	s.requireUp(judge)
}

// writer makes a body out of the one before.
type writer struct {
	rng    *rand.Rand
	blocks []string // families, each with its comments
	kind   string
	odd    float64 // how often something is odd
}

func newWriter(rng *rand.Rand) *writer {
	w := &writer{rng: rng, kind: plain, odd: []float64{0, 0.05, 0.3}[rng.IntN(3)]}
	for i := range 3 + rng.IntN(6) {
		w.blocks = append(w.blocks, w.family(i))
	}
	return w
}

func (w *writer) family(i int) string {
	name := fmt.Sprintf("m%d", i)
	switch w.rng.IntN(4) {
	case 0:
		return fmt.Sprintf("# HELP %s some help\n# TYPE %s counter\n%s_total{a=\"1\",instance=\"x\"} $V\n%s_total{a=\"2\"} $V\n", name, name, name, name)
	case 1:
		return fmt.Sprintf("# TYPE %s histogram\n%s_bucket{le=\"1\"} 1\n%s_bucket{le=\"+Inf\"} 2\n%s_sum $V\n%s_count 2\n", name, name, name, name, name)
	case 2:
		return fmt.Sprintf("# HELP %s with \\\\ and \\n\n# TYPE %s gauge\n%s{a=\"long value of a label\",b=\"q\\\"uote\"} $V\n", name, name, name)
	}
	return fmt.Sprintf("%s $V\n%s{a=\"%d\"} $V\n", name, name, w.rng.IntN(3))
}

// next returns an answer.
func (w *writer) next() answer {
	if w.rng.Float64() < w.odd {
		switch w.rng.IntN(6) {
		case 0:
			return answer{contentType: w.kind, status: 503}
		case 1:
			return answer{contentType: w.kind}
		case 2:
			return answer{contentType: "", text: w.body()}
		case 3:
			return answer{contentType: "application/openmetrics-text; version=1.0.0", text: "# TYPE om counter\nom_total 3 # {trace_id=\"x\"} 1\n# EOF\n"}
		case 4:
			return answer{contentType: w.kind, text: w.body() + "broken{ 1\n"}
		}
	}
	switch w.rng.IntN(8) {
	case 0:
		i := w.rng.IntN(len(w.blocks))
		w.blocks = slices.Delete(w.blocks, i, i+1)
		if len(w.blocks) == 0 {
			w.blocks = append(w.blocks, w.family(0))
		}
	case 1:
		w.blocks = slices.Insert(w.blocks, w.rng.IntN(len(w.blocks)+1), w.family(w.rng.IntN(10)))
	case 2:
		w.rng.Shuffle(len(w.blocks), func(i, j int) { w.blocks[i], w.blocks[j] = w.blocks[j], w.blocks[i] })
	case 3:
		i := w.rng.IntN(len(w.blocks))
		w.blocks[i] = strings.ReplaceAll(w.blocks[i], "help", "other help")
	}
	return answer{contentType: w.kind, text: w.body()}
}

func (w *writer) body() string {
	var b strings.Builder
	for _, block := range w.blocks {
		for line := range strings.Lines(block) {
			if w.rng.Float64() < w.odd/4 {
				line = w.oddLine(line)
			}
			for strings.Contains(line, "$V") {
				line = strings.Replace(line, "$V", w.value(), 1)
			}
			b.WriteString(line)
		}
	}
	text := b.String()
	if w.rng.Float64() < w.odd {
		text = strings.TrimSuffix(text, "\n")
	}
	return text
}

func (w *writer) oddLine(line string) string {
	bare := strings.TrimSuffix(line, "\n")
	switch w.rng.IntN(9) {
	case 0:
		return ""
	case 1:
		return line + line
	case 2:
		return "\n  \n" + line
	case 3:
		return "# just a comment " + w.value() + "\n" + line
	case 4:
		if !strings.HasPrefix(line, "#") {
			return bare + fmt.Sprintf(" %d\n", 1_700_000_000_000+w.rng.Int64N(5)*1000)
		}
	case 5:
		if !strings.HasPrefix(line, "#") {
			return bare + " 7\n" // out of bounds
		}
	case 6:
		return strings.Replace(line, " ", "   ", 1)
	case 7:
		return fmt.Sprintf("new%d{a=\"1\"} 1\n%s", w.rng.IntN(50), line)
	case 8:
		return line + "# TYPE empty" + strconv.Itoa(w.rng.IntN(3)) + " gauge\n# HELP empty2 h\n"
	}
	return line
}

func (w *writer) value() string {
	switch w.rng.IntN(6) {
	case 0:
		return strconv.Itoa(w.rng.IntN(1000))
	case 1:
		return strconv.FormatFloat(w.rng.NormFloat64(), 'g', -1, 64)
	case 2:
		return []string{"NaN", "+Inf", "-Inf", "-0", "1e300", "0x1p-2", "1_0", "1e-7", ".5", "5."}[w.rng.IntN(9)*(1-w.rng.IntN(2))]
	}
	return "42"
}
