// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

// lateRow is a setting, and what becomes under it of samples that are older than the newest of their series.
type lateRow struct {
	name, config string
	pushed       map[time.Duration]int // how late: the answer
	scraped      map[time.Duration]bool
}

func lateRows() []lateRow {
	window := func(w string) string { return "storage: {tsdb: {out_of_order_time_window: " + w + "}}\n" }
	late := func(windows string) string { return "tidemark: {storage: {late_window: {" + windows + "}}}\n" }
	const minute = time.Minute
	return []lateRow{
		{
			"nothing_set", "",
			map[time.Duration]int{minute: 204, 100 * time.Hour: 204, 400 * time.Hour: 400},
			map[time.Duration]bool{minute: false},
		},
		{
			"window_of_30m", window("30m"),
			map[time.Duration]int{20 * minute: 204, 40 * minute: 400},
			map[time.Duration]bool{20 * minute: true, 40 * minute: false},
		},
		{
			"window_of_0s", window("0s"),
			map[time.Duration]int{minute: 400},
			map[time.Duration]bool{minute: false},
		},
		{
			"window_wins", window("0s") + late("push: retention, scrape: retention"),
			map[time.Duration]int{minute: 400},
			map[time.Duration]bool{minute: false},
		},
		{
			"window_wins_too", window("30m") + late("push: 1m, scrape: 0s"),
			map[time.Duration]int{20 * minute: 204, 40 * minute: 400},
			map[time.Duration]bool{20 * minute: true},
		},
		{
			"each_its_own", late("push: 10m, scrape: 30m"),
			map[time.Duration]int{5 * minute: 204, 20 * minute: 400},
			map[time.Duration]bool{20 * minute: true, 40 * minute: false},
		},
		{
			"scrape_retention", late("push: 0s, scrape: retention"),
			map[time.Duration]int{minute: 400},
			map[time.Duration]bool{100 * time.Hour: true, 400 * time.Hour: false},
		},
	}
}

// lateBench is a server, and a target of it whose page the test writes.
type lateBench struct {
	*hosted

	page atomic.Pointer[string]
	jobs string // the part of the configuration that scrapes it
	n    int    // series so far
}

func newLateBench(t *testing.T) *lateBench {
	t.Helper()
	b := &lateBench{hosted: newHosted(t)}
	empty := ""
	b.page.Store(&empty)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, *b.page.Load()) }))
	t.Cleanup(target.Close)
	at, err := url.Parse(target.URL)
	if err != nil {
		t.Fatal(err)
	}
	b.jobs = fmt.Sprintf("global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\nscrape_configs: [{job_name: late, scrape_interval: 200ms, static_configs: [{targets: [%q]}]}]\n", at.Host)
	b.configure(t, b.jobs)
	return b
}

// points returns the samples of a series over the last weeks.
func (b *lateBench) points(series string) ([]point, error) {
	got, err := instant(b.url(""), series+"[1000h]", time.Now().Add(time.Hour))
	for _, points := range got {
		return points, err
	}
	return nil, err
}

// scrape shows the target's page until it was scraped.
func (b *lateBench) scrape(t *testing.T, page string) {
	t.Helper()
	page += fmt.Sprintf("scraped_%d 1\n", b.n)
	b.n++
	b.page.Store(&page)
	eventually(t, 20*time.Second, "the target is scraped", func() error {
		got, err := b.points(fmt.Sprintf("scraped_%d", b.n-1))
		if err == nil && len(got) == 0 {
			err = errors.New("not yet")
		}
		return err
	})
}

func TestLateSamplesAreTakenAsTheWindowsSay(t *testing.T) {
	t.Parallel()
	b := newLateBench(t)
	b.run(t, 0)
	for _, row := range lateRows() {
		b.reload(t, b.jobs+row.config)
		for late, want := range row.pushed {
			series := fmt.Sprintf("pushed_%s_%d", row.name, int(late.Minutes()))
			now := time.Now()
			first, _ := pushStatus(b.url("/api/v1/write"), writeRequest(t, series, 1, now.UnixMilli(), 1))
			second, _ := pushStatus(b.url("/api/v1/write"), writeRequest(t, series, 1, now.Add(-late).UnixMilli(), 2))
			if first != 204 || second != want {
				t.Errorf("%s: a pushed sample is answered %d and one %s older %d, want %d", row.name, first, late, second, want)
			}
			checkLate(t, b, series, want == 204)
		}
		for late, want := range row.scraped {
			series := fmt.Sprintf("page_%s_%d", row.name, int(late.Minutes()))
			now := time.Now()
			b.scrape(t, fmt.Sprintf("%s 1 %d\n", series, now.UnixMilli()))
			b.scrape(t, fmt.Sprintf("%s 2 %d\n", series, now.Add(-late).UnixMilli()))
			checkLate(t, b, series, want)
		}
	}
}

// checkLate looks whether a series has its first sample and, before it, the late one.
func checkLate(t *testing.T, b *lateBench, series string, late bool) {
	t.Helper()
	got, err := b.points(series)
	if err != nil {
		t.Fatal(err)
	}
	want := "1"
	if late {
		want = "21"
	}
	text := ""
	for _, p := range got {
		text += p.V
	}
	if text != want {
		t.Errorf("%s has the values %q, want %q", series, text, want)
	}
}

func TestSamplesOfTheSameTimeAndOfTheFuture(t *testing.T) {
	t.Parallel()
	for window, config := range map[string]string{"push": "", "none": "storage: {tsdb: {out_of_order_time_window: 0s}}\n"} {
		b := newLateBench(t)
		b.configure(t, b.jobs+config+"tidemark: {storage: {max_future: 1h}}\n")
		b.run(t, 0)
		now := time.Now()
		write := func(series string, ahead time.Duration, v float64, want int) {
			t.Helper()
			if code, _ := pushStatus(b.url("/api/v1/write"), writeRequest(t, series, 1, now.Add(ahead).UnixMilli(), v)); code != want {
				t.Errorf("window %s: %s %s ahead is answered %d, want %d", window, series, ahead, code, want)
			}
		}
		late := 204
		if window == "none" {
			late = 400
		}
		write("same", 0, 1, 204)
		write("same", 0, 1, 204) // the same bits: nothing to do
		write("same", 0, 2, 400) // the first is kept
		write("same", time.Second, 3, 204)
		write("same", 0, 1, late) // not the newest any more: without a window that is out of order, as in Prometheus
		write("same", 0, 2, 400)
		write("future", 59*time.Minute, 1, 204)
		write("future", 62*time.Minute, 1, 400)
		got, err := b.points("same")
		if err != nil || len(got) != 2 || got[0].V != "1" || got[1].V != "3" {
			t.Errorf("window %s: samples %v, %v", window, got, err)
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	}
	b := newLateBench(t)
	b.run(t, 0)
	code, _ := pushStatus(b.url("/api/v1/write"), writeRequest(t, "future", 1, time.Now().Add(9*time.Minute).UnixMilli(), 1))
	far, _ := pushStatus(b.url("/api/v1/write"), writeRequest(t, "future", 1, time.Now().Add(12*time.Minute).UnixMilli(), 1))
	if code != 204 || far != 400 {
		t.Errorf("nothing set: 9 and 12 minutes ahead are answered %d and %d, want 204 and 400", code, far)
	}
}
