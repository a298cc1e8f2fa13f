// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/query/exec"
)

// span is when a range query is asked about.
type span struct {
	start, end time.Time
	step       time.Duration
}

func (s span) steps() int64 { return int64(s.end.Sub(s.start)/s.step) + 1 }

// analyze runs a query as the API does where it is to be analyzed, and returns what is said about it.
func (k *keeping) analyze(qs string, s span, to exec.Sink, opts query.Opts, nocache bool) *exec.Explanation {
	k.t.Helper()
	pq, err := k.engine.NewRangeQuery(k.t.Context(), nil, opts, qs, s.start, s.end, s.step)
	if err != nil {
		k.t.Fatal(err)
	}
	defer pq.Close()
	q := pq.(*query.Query)
	q.Analyze()
	if nocache {
		q.NoCache()
	}
	if _, err := q.Stream(k.t.Context(), to); err != nil {
		k.t.Fatalf("%s: %v", qs, err)
	}
	x, err := q.Explain()
	if err != nil {
		k.t.Fatal(err)
	}
	return x
}

// used fails unless an analysis says of the cache what is wanted.
func (k *keeping) used(what string, x *exec.Explanation, want exec.CacheUse) {
	k.t.Helper()
	if diff := cmp.Diff(&want, x.Cache); diff != "" {
		k.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
	if line := "result cache: " + want.String() + "\n"; !strings.Contains(x.String(), line) {
		k.t.Errorf("%s: %q is missing in\n%s", what, line, x)
	}
}

func TestAnAnalysisGoesThroughTheResultCacheAndTellsSo(t *testing.T) {
	k := newKeeping(t)
	k.fill("m_total")
	const qs = `sum by (job) (rate(m_total[2m]))`
	s := span{k.start.Add(10 * time.Minute), k.start.Add(50 * time.Minute), 15 * time.Second}
	n := s.steps()
	var cold, warm collect
	first := k.analyze(qs, s, &cold, query.Opts{}, false)
	k.used("the first time", first, exec.CacheUse{Computed: n, Kept: n})
	if first.Plan.Work == nil || len(first.Parts) != 0 || first.Totals.Samples == 0 {
		t.Errorf("the first time: work %v, %d parts, %d samples", first.Plan.Work, len(first.Parts), first.Totals.Samples)
	}
	again := k.analyze(qs, s, &warm, query.Opts{}, false)
	k.used("again", again, exec.CacheUse{Reused: n, Kept: n})
	if again.Plan.Work != nil || len(again.Parts) != 0 || *again.Totals != (exec.Work{Peak: again.Totals.Peak}) {
		t.Errorf("again: work %v, %d parts, %+v in total", again.Plan.Work, len(again.Parts), *again.Totals)
	}
	if diff := cmp.Diff(cold.matrix, warm.matrix, cmpopts.EquateNaNs(), cmp.Comparer(labels.Equal)); len(cold.matrix) == 0 || diff != "" {
		t.Errorf("%d series; kept and computed answers differ:\n%s", len(cold.matrix), diff)
	}

	wider := span{s.start.Add(-5 * s.step), s.end.Add(3 * s.step), s.step}
	x := k.analyze(qs, wider, &collect{}, query.Opts{}, false)
	k.used("more at both ends", x, exec.CacheUse{Reused: n, Computed: 8, Kept: n + 8})
	if len(x.Parts) != 2 || x.Plan.Work != nil || strings.Count(x.String(), "part of the range:\nanswer: ") != 2 {
		t.Fatalf("%d parts of\n%s", len(x.Parts), x)
	}
	if a, b := x.Parts[0].Work, x.Parts[1].Work; x.Totals.Samples == 0 || x.Totals.Own != a.Total+b.Total || x.Totals.Total != x.Totals.Own {
		t.Errorf("the parts took %+v and %+v, in total %+v", *a, *b, *x.Totals)
	}
}

func TestAnAnalysisSaysWhyAnAnswerIsNotKept(t *testing.T) {
	k := newKeeping(t)
	k.fill("m", "m_total")
	app := k.db.Storage().AppenderV2(t.Context())
	for at := k.start; at.Before(time.Now().Add(-time.Hour)); at = at.Add(15 * time.Second) {
		h := &histogram.Histogram{Count: uint64(at.Unix()), ZeroCount: uint64(at.Unix()), ZeroThreshold: 1e-9}
		if _, err := app.Append(0, labels.FromStrings("__name__", "h"), 0, at.UnixMilli(), 0, h, nil, storage.AOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	s := span{k.start.Add(10 * time.Minute), k.start.Add(50 * time.Minute), 15 * time.Second}
	n := s.steps()
	for _, c := range []struct {
		qs, why string
		opts    query.Opts
		nocache bool
	}{
		{qs: `h`, why: "histograms"},
		{qs: `rate(m[5m])`, why: "annotations"}, // no counter by its name
		{qs: `sum(label_replace(m, "a", "b", "", ""))`, why: `not cacheable: label_replace(m, "a", "b", "", "")`},
		{qs: `{job="1"}`, why: `not cacheable: {job="1"}`},
		{qs: `vector(1)`, why: `not cacheable: there is no selector`},
		{qs: `m`, why: "nocache", nocache: true},
	} {
		x := k.analyze(c.qs, s, &collect{}, c.opts, c.nocache)
		k.used(c.qs, x, exec.CacheUse{Computed: n, NotKept: c.why})
		if x.Plan.Work == nil {
			t.Errorf("%s: nothing was run", c.qs)
		}
	}
	x := k.analyze(`m`, s, &enough{rows: 1}, query.Opts{}, false)
	k.used("an answer that is cut off", x, exec.CacheUse{Computed: n, NotKept: "limit"})

	x = k.analyze(`m`, s, &collect{}, query.Opts{}, false)
	k.used("m", x, exec.CacheUse{Computed: n, Kept: n})
	k.write("m", 1, s.end.Add(-time.Minute+time.Millisecond), -5)
	x = k.analyze(`m`, s, &collect{}, query.Opts{}, false)
	if x.Cache.Outdated == 0 || x.Cache.Outdated+x.Cache.Reused != n || x.Cache.Kept != n {
		t.Errorf("after a late write: %s", x.Cache)
	}

	now := span{time.Now().Add(-10 * time.Minute), time.Now(), 15 * time.Second}
	x = k.analyze(`m_total`, now, &collect{}, query.Opts{}, false)
	if c := x.Cache; c.Computed != now.steps() || c.Kept < now.steps()-6 || c.Kept > now.steps()-4 || c.NotKept != "too recent" {
		t.Errorf("of the last ten minutes: %s", c)
	}
	x = k.analyze(`m_total`, now, &collect{}, query.Opts{}, false)
	if c := x.Cache; c.Reused < now.steps()-6 || c.Reused+c.Computed != now.steps() || c.NotKept != "too recent" {
		t.Errorf("of the last ten minutes again: %s", c)
	}
}

func TestAnAnalysisOfAnInstantQueryTellsWhatTheStorageKnew(t *testing.T) {
	k := newKeeping(t)
	k.fill("m")
	for i, cached := range []int64{0, 1} {
		pq, err := k.engine.NewInstantQuery(t.Context(), nil, query.Opts{Explain: true}, `sum(m{job="1"}) > 1 + 1`, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		q := pq.(*query.Query)
		q.Analyze()
		if r := q.Exec(t.Context()); r.Err != nil {
			t.Fatal(r.Err)
		}
		x, err := q.Explain()
		if err != nil {
			t.Fatal(err)
		}
		k.used("an instant query", x, exec.CacheUse{Computed: 1, NotKept: "instant query"})
		if w := x.Totals; w.Selections != 1 || w.SelectionsCached != cached || w.Series != 2 || w.Latest != 2 || w.Samples != 0 {
			t.Errorf("run %d: %+v", i, *w)
		}
		if !strings.Contains(x.String(), "pass constants:\n  sum(m{job=\"1\"}) > (1 + 1)\n  sum(m{job=\"1\"}) > 2\n") {
			t.Errorf("what the passes did is missing in\n%s", x)
		}
		q.Close()
	}
}
