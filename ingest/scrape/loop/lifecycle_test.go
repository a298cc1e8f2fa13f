// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	commonmodel "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
)

// steps are the commits of a job, those only once that are like the one before.
func (c *contender) steps(job string) []string { return slices.Compact(c.store.of(job)) }

// until waits until a job of both contenders has come to a commit that has all the parts.
func (s *scene) until(judge, ours *contender, job string, parts ...string) {
	s.t.Helper()
	is := func(c *contender) bool {
		all := c.store.of(job)
		if len(all) == 0 {
			return false
		}
		for _, p := range parts {
			if !strings.Contains(all[len(all)-1], p) {
				return false
			}
		}
		return true
	}
	for deadline := time.Now().Add(time.Minute); !is(judge) || !is(ours); time.Sleep(interval / 10) {
		if time.Now().After(deadline) {
			s.t.Fatalf("job %s never comes to %q: judge %t, ours %t:\n%s", job, parts, is(judge), is(ours), strings.Join(ours.steps(job), "\n\n"))
		}
	}
}

// TestTargetsThatGoAndConfigurationsThatChangeAreMarkedAsByTheJudge follows both through reloads: of what does not change
// the series, of what does, of a target that goes, and of a job that does.
func TestTargetsThatGoAndConfigurationsThatChangeAreMarkedAsByTheJudge(t *testing.T) {
	t.Parallel()
	always := []answer{{contentType: plain, text: "# TYPE a gauge\na{x=\"1\"} 1\nb 2\n"}}
	scripts := []script{{job: "limits", answers: always}, {job: "relabels", answers: always}, {job: "goes", answers: always}, {job: "removed", answers: always}}
	s := newScene(t, scripts)
	judge, ours := s.judge(features()), s.ours(features())
	apply := func() {
		t.Helper()
		for _, c := range []*contender{judge, ours} {
			if err := c.apply(s.config()); err != nil {
				t.Fatal(err)
			}
		}
	}
	apply()
	for _, c := range []*contender{judge, ours} {
		c.groups <- s.groupsFor(c.name)
	}
	for _, x := range scripts {
		s.until(judge, ours, x.job, `{__name__="up"`, `scrape_series_added", extra="of target", instance="target", job="`+x.job+`"} 0 @`)
	}
	s.scripts = slices.Clone(scripts)
	s.scripts[0].config = "sample_limit: 1"
	s.scripts[1].config = "metric_relabel_configs: [{target_label: new, replacement: label}]"
	s.scripts = s.scripts[:3]
	apply()
	s.until(judge, ours, "limits", `{__name__="up", extra="of target", instance="target", job="limits"} 0 @`)
	s.until(judge, ours, "relabels", `new="label"`)
	for _, c := range []*contender{judge, ours} {
		groups := s.groupsFor(c.name)
		groups["goes"] = []*targetgroup.Group{{Source: "goes"}}
		c.groups <- groups
	}
	s.until(judge, ours, "goes", `{__name__="up", extra="of target", instance="target", job="goes"} stale`, `{__name__="b"`)
	s.until(judge, ours, "relabels", `new="label"`, `scrape_series_added", extra="of target", instance="target", job="relabels"} 0 @`)
	time.Sleep(3 * interval) // the loops before the reload of what changes series have marked them by now
	judge.stop()
	ours.stop()
	for _, x := range scripts {
		if diff := cmp.Diff(judge.steps(x.job), ours.steps(x.job)); diff != "" {
			t.Errorf("job %s (-judge +ours):\n%s", x.job, diff)
		}
	}
	if n := len(ours.steps("removed")); n == 0 || strings.Contains(ours.steps("removed")[n-1], "stale") {
		t.Errorf("a job that is removed has %d steps", n)
	}
}

// TestLimitsTruncate: targets above a limit are up, with what is within it, and the rest is counted.
func TestLimitsTruncate(t *testing.T) {
	t.Parallel()
	text := "a{x=\"1\"} 1\nb{x=\"22222222\"} 2\nc 3\n"
	always := []answer{{contentType: plain, text: text}}
	open := []answer{{contentType: openMetrics, text: "a 1\nb 2\nc 3\n# EOF\n"}}
	hist := []answer{{contentType: protobuf, text: delimited(families(seed(t), 1, false)...)}}
	cases := []struct {
		script
		kept, lost, limit string
		n                 float64 // of each scrape, at least once
	}{
		{script{"samples", "sample_limit: 2", always}, "a b", "c", "sample_limit", 1},
		{script{"labels", "label_value_length_limit: 7", always}, "a c", "b", "label_limit", 1},
		{script{"body", fmt.Sprintf("body_size_limit: %dB", len(text)-1), always}, "a b", "c", "body_size_limit", 1},
		{script{"open", "body_size_limit: 10B", open}, "a b", "c", "body_size_limit", 1},
		{script{"buckets", "scrape_native_histograms: true\nnative_histogram_bucket_limit: 1", hist}, "g", "native", "native_histogram_bucket_limit", 1},
		{script{"none", "sample_limit: 3", always}, "a b c", "d", "sample_limit", -1},
	}
	var scripts []script
	for _, c := range cases {
		c.config += "\nrelabel_configs: [{target_label: extra, replacement: x}]"
		scripts = append(scripts, c.script)
	}
	s := newScene(t, scripts)
	ours := s.ours(features())
	ours.truncate(true)
	if err := ours.apply(s.config()); err != nil {
		t.Fatal(err)
	}
	ours.groups <- s.groupsFor(ours.name)
	has := func(commit, name, job string) bool {
		return strings.Contains(commit, fmt.Sprintf("{__name__=%q, extra=\"x\"", name)) && strings.Contains(commit, fmt.Sprintf("job=%q", job))
	}
	for _, c := range cases {
		s.until(ours, ours, c.job, `{__name__="up", extra="x", instance="target", job="`+c.job+`"} 3ff0000000000000`, `scrape_series_added", extra="x", instance="target", job="`+c.job+`"} 0 @`)
		last := slices.Clone(ours.store.of(c.job))
		for name := range strings.FieldsSeq(c.kept) {
			if !has(last[len(last)-1], name, c.job) {
				t.Errorf("job %s has no %s:\n%s", c.job, name, last[len(last)-1])
			}
		}
		if has(last[len(last)-1], c.lost, c.job) {
			t.Errorf("job %s has %s, which is beyond its limit", c.job, c.lost)
		}
		if n := ours.truncated(t, c.job, c.limit); n < c.n || c.n < 0 && n > 0 {
			t.Errorf("job %s: %g is counted as beyond %s", c.job, n, c.limit)
		}
	}
	ours.stop()
}

// TestTargetsBeyondTheirLimitFailAlone: where limits truncate, as many targets as there may be are scraped.
func TestTargetsBeyondTheirLimitFailAlone(t *testing.T) {
	t.Parallel()
	for _, truncate := range []bool{false, true} {
		t.Run(fmt.Sprint("truncate ", truncate), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, []script{{job: "many", config: "target_limit: 1", answers: []answer{{contentType: plain, text: "a 1\n"}}}})
			ours := s.ours(features())
			ours.truncate(truncate)
			if err := ours.apply(s.config()); err != nil {
				t.Fatal(err)
			}
			groups := s.groupsFor(ours.name)
			second := groups["many"][0].Targets[0].Clone()
			second["instance"] = "second"
			groups["many"][0].Targets = append(groups["many"][0].Targets, second)
			ours.groups <- groups
			for deadline := time.Now().Add(time.Minute); len(ours.store.of("many")) < 6; time.Sleep(interval / 10) {
				if time.Now().After(deadline) {
					t.Fatal("nothing is scraped")
				}
			}
			failed := 0
			for _, target := range ours.targets()["many"] {
				if err := target.LastError(); err != nil && strings.Contains(err.Error(), "target_limit exceeded (number of targets: 2, limit: 1)") {
					failed++
				}
			}
			if want := map[bool]int{false: 2, true: 1}[truncate]; failed != want {
				t.Errorf("%d of 2 targets fail, want %d", failed, want)
			}
			ours.stop()
		})
	}
}

// TestTheFirstTargetsAreTakenOverAtOnce: they do not wait until targets are refreshed.
func TestTheFirstTargetsAreTakenOverAtOnce(t *testing.T) {
	t.Parallel()
	s := newScene(t, []script{{job: "first", answers: []answer{{contentType: plain, text: "a 1\n"}}}})
	o := features()
	o.DiscoveryReloadInterval = 0 // the usual five seconds
	ours := s.ours(o)
	if err := ours.apply(s.config()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	ours.groups <- s.groupsFor(ours.name)
	s.until(ours, ours, "first", `{__name__="a"`)
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the first scrape came after %s, the interval is %s", took, interval)
	}
	ours.stop()
}

// TestAfterAReloadTargetsAreNotLostWhileDiscoveryLooksForThem: jobs keep them, those that are found first are scraped at
// once, and those that are not found again go when targets are refreshed.
func TestAfterAReloadTargetsAreNotLostWhileDiscoveryLooksForThem(t *testing.T) {
	t.Parallel()
	always := []answer{{contentType: plain, text: "a 1\n"}}
	s := newScene(t, []script{{job: "early", answers: always}, {job: "late", answers: always}, {job: "gone", answers: always}})
	o := features()
	o.DiscoveryReloadInterval = commonmodel.Duration(4 * interval)
	ours := s.ours(o)
	counts := func() string {
		all := ours.targets()
		return fmt.Sprint(len(all["early"]), len(all["late"]), len(all["gone"]))
	}
	until := func(want string, within time.Duration) {
		t.Helper()
		for deadline := time.Now().Add(within); counts() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the targets are %s, want %s within %s", counts(), want, within)
			}
		}
	}
	apply := func() {
		t.Helper()
		if err := ours.apply(s.config()); err != nil {
			t.Fatal(err)
		}
	}
	send := func(jobs ...string) {
		groups := s.groupsFor(ours.name)
		for job := range groups {
			if !slices.Contains(jobs, job) {
				groups[job] = []*targetgroup.Group{{Source: job}}
			}
		}
		ours.groups <- groups
	}
	apply()
	send("early", "gone")
	until("1 0 1", 2*interval)
	send("early", "late", "gone")
	until("1 1 1", 2*interval) // that is less than targets are refreshed in
	time.Sleep(5 * interval)   // discovery is as it was
	apply()
	send("early")
	time.Sleep(interval)
	if got := counts(); got != "1 1 1" {
		t.Errorf("targets are %s while they are looked for", got)
	}
	send("early", "late")
	until("1 1 0", 12*interval)
	send("late")
	until("0 1 0", 12*interval)
	ours.stop()
}
