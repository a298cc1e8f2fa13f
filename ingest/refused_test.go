// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// A store that refuses every series whose name begins with x.
func refusing() *ingesttest.Recorder {
	return &ingesttest.Recorder{Refuse: func(ls labels.Labels) string {
		if strings.HasPrefix(ls.Get(labels.MetricName), "x") {
			return "sample of an x"
		}
		return ""
	}}
}

func TestWhatALimitRefusesIsLeftOutAndCounted(t *testing.T) {
	store := refusing()
	s := newSource(t, store, nil)
	s.add("a", 1)
	s.add("x1", 1, 2)
	s.add("b", 1)
	s.add("x2", 3)
	s.add("c", 2)
	out, err := s.commit()
	if err != nil || out.Floats != 3 || out.Rejected() != 3 {
		t.Errorf("outcome %+v, %v", out, err)
	}
	if want := `3 of 6 samples were not stored: 3 sample of an x (first: {__name__="x1"})`; out.Message() != want {
		t.Errorf("message %q, want %q", out.Message(), want)
	}
	if got, want := stored(store), "a@i b@i c@ii"; got != want {
		t.Errorf("stored %q, want %q", got, want)
	}
	store.Refuse = nil
	s.add("x1", 3)
	if out, err = s.commit(); err != nil || out.Floats != 1 {
		t.Errorf("a series that was refused is not asked about again: %+v, %v", out, err)
	}
}

func TestOfRefusedSeriesAndThoseWithoutMemoryEachHasItsReason(t *testing.T) {
	store := refusing()
	store.MaxSeries = 2
	s := newSource(t, store, nil)
	for _, name := range []string{"x1", "a", "x2", "b", "full1", "x3", "full2", "a", "x4"} {
		s.add(name, int64(len(s.names)+1))
	}
	out, err := s.commit()
	if err != nil {
		t.Fatal(err)
	}
	want := `6 of 9 samples were not stored: 2 sample of an x (first: {__name__="x1"}); ` + // behind full1 nobody was asked
		`4 sample of a new series while the memory budget has no room for it (first: {__name__="full1"})`
	if out.Message() != want {
		t.Errorf("message %q, want %q", out.Message(), want)
	}
	if got, want := stored(store), "a@ii b@iiii a@iiiiiiii"; got != want {
		t.Errorf("stored %q, want %q", got, want)
	}
}

// asking counts how often series are asked for.
type asking struct {
	*ingesttest.Recorder

	calls int
}

func (a *asking) Resolve(ls []labels.Labels, refs []sample.Ref) error {
	a.calls++
	return a.Recorder.Resolve(ls, refs)
}

// Each time costs the store as much as the first: it is asked once for all.
func TestAFullStoreIsAskedOncePerRequest(t *testing.T) {
	store := &asking{Recorder: &ingesttest.Recorder{MaxSeries: 1}}
	s := newSource(t, store, nil)
	s.add("a", 1)
	for range 100 {
		s.add(fmt.Sprint("full", len(s.names)), 1)
	}
	s.req.Define(s.req.Hash(2, []byte("a")), labels.FromStrings("__name__", "a")) // known, by another key
	s.req.Float(0, 2, 2)
	out, err := s.commit()
	if err != nil || out.Floats != 2 || out.Rejected() != 100 || len(out.Problems) != 1 {
		t.Errorf("%+v, %v", out, err)
	}
	if store.calls != 1 {
		t.Errorf("the store was asked %d times", store.calls)
	}
}

// A series that left the store and comes again is a new one.
func TestASeriesThatLeftMayBeRefusedWhenItComesAgain(t *testing.T) {
	store := refusing()
	store.Refuse = nil
	s := newSource(t, store, nil)
	s.add("a", 1)
	s.add("x1", 1)
	s.add("b", 1)
	if out, err := s.commit(); err != nil || out.Floats != 3 {
		t.Fatalf("%+v, %v", out, err)
	}
	store.Refuse = refusing().Refuse
	store.Forget()
	s.add("a", 2)
	s.add("x1", 2)
	s.add("b", 2)
	out, err := s.commit()
	if err != nil || out.Floats != 2 || out.Rejected() != 1 || len(out.Problems) != 1 ||
		out.Problems[0].What != "sample of an x" || !strings.Contains(out.Problems[0].First, "x1") {
		t.Errorf("%+v, %v", out, err)
	}
	if got, want := stored(store), "a@i x1@i b@i a@ii b@ii"; got != want {
		t.Errorf("stored %q, want %q", got, want)
	}
}

// It is no reason to have the whole request sent again, for as long as memory is short.
func TestASeriesThatLeftLosesItsRowsWhereThereIsNoMemory(t *testing.T) {
	store := &ingesttest.Recorder{MaxSeries: 2}
	s := newSource(t, store, nil)
	s.add("back", 1)
	if _, err := s.commit(); err != nil {
		t.Fatal(err)
	}
	store.Forget()
	s.add("a", 1)
	s.add("b", 1)
	if _, err := s.commit(); err != nil {
		t.Fatal(err)
	}
	for round := range int64(2) {
		s.add("a", 2+round)
		s.add("back", 2, 3)
		out, err := s.commit()
		want := `2 of 3 samples were not stored: 2 sample of a new series while the memory budget has no room for it (first: {__name__="back"})`
		if err != nil || out.Floats != 1 || out.Message() != want {
			t.Errorf("%+v, %v", out, err)
		}
	}
	store.MaxSeries = 3
	s.add("back", 4)
	if out, err := s.commit(); err != nil || out.Floats != 1 {
		t.Errorf("there is memory again: %+v, %v", out, err)
	}
	if got, want := stored(store), "back@i a@i b@i a@ii a@iii back@iiii"; got != want {
		t.Errorf("stored %q, want %q", got, want)
	}
	if list := s.in.Rejected().List(); len(list) != 1 || list[0].Reason != sample.OverLimit.String() || list[0].Samples != 4 {
		t.Errorf("rejections %+v", list)
	}
}

func TestAScrapeKeepsTheSeriesThatNoLimitRefuses(t *testing.T) {
	store := refusing()
	in := newSource(t, store, nil).in
	scrape := func(at int64, names ...string) *ingest.Request {
		req := in.Begin()
		for _, name := range names {
			req.Define(ingest.Key{}, labels.FromStrings(labels.MetricName, name))
			req.Scrape(0, at, float64(at), 0)
			req.Metadata(sample.Metadata{Help: name})
		}
		if err := req.Resolve(); err != nil {
			t.Errorf("what a limit refuses is an error: %v", err)
		}
		req.Define(ingest.Key{}, labels.FromStrings(labels.MetricName, "xup"))
		req.Scrape(0, at, 1, 0)
		if err := req.CommitScrape(t.Context(), nil); err != nil {
			t.Error(err)
		}
		return req
	}
	req := scrape(1, "a", "x1", "b")
	for i, want := range []bool{true, false, true, false} {
		if got := req.Fate(i).Stored(); got != want || (req.Ref(i) != 0) != want {
			t.Errorf("series %d: stored %t, ref %d", i, got, req.Ref(i))
		}
	}
	req.Release()
	scrape(2, "x1", "x2").Release()
	if got, want := stored(store), "a@i b@i"; got != want {
		t.Errorf("stored %q, want %q", got, want)
	}
	store.MaxSeries = 2
	req = in.Begin()
	defer req.Release()
	for _, name := range []string{"x1", "full"} {
		req.Define(ingest.Key{}, labels.FromStrings(labels.MetricName, name))
		req.Scrape(0, 3, 3, 0)
	}
	if err := req.Resolve(); err == nil {
		t.Error("no room for a series is no error")
	}
}
