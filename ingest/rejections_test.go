// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// outOfOrder refuses times above 100 as out of order.
func outOfOrder(r ingesttest.Row) sample.Reason {
	if r.T > 100 {
		return sample.OutOfOrder
	}
	return sample.Accepted
}

func TestRejectedSamplesAreCountedAndTheLastOfThemShown(t *testing.T) {
	s := newSource(t, &ingesttest.Recorder{Fate: outOfOrder}, nil)
	if got := s.in.Rejected().List(); len(got) != 0 {
		t.Fatalf("%v before anything was sent", got)
	}
	for i := range 12 {
		s.req.From("prometheus.WriteRequest", fmt.Sprint("10.0.0.1:", i))
		s.add("a", 1, 2, int64(101+i), 500) // two samples are refused, the first is the example
		s.req.Drop(3, "invalid labels", func() string { return "metric name is missing: {}" })
		s.req.Drop(1, "invalid labels", func() string { panic("only the first is shown") })
		if _, err := s.commit(); err != nil {
			t.Fatal(err)
		}
	}
	got := s.in.Rejected().List()
	if len(got) != 2 || got[0].Reason != "invalid labels" || got[0].Samples != 48 || got[1].Reason != "out_of_order" || got[1].Samples != 24 {
		t.Fatalf("%+v", got)
	}
	for i := range 10 {
		a, b := got[0].Examples[i], got[1].Examples[i]
		sender := fmt.Sprint("10.0.0.1:", 11-i)
		if a.Detail != "metric name is missing: {}" || a.Sender != sender || a.Received.IsZero() {
			t.Errorf("example %d of invalid labels is %+v", i, a)
		}
		if b.Labels.String() != `{__name__="a"}` || b.Time.UnixMilli() != int64(112-i) || b.Sender != sender || b.Protocol != "prometheus.WriteRequest" {
			t.Errorf("example %d of samples out of order is %+v", i, b)
		}
	}
	if len(got[0].Examples) != 10 || len(got[1].Examples) != 10 {
		t.Errorf("%d and %d examples", len(got[0].Examples), len(got[1].Examples))
	}
}

func TestExamplesOfRejectedSamplesAreSmall(t *testing.T) {
	s := newSource(t, &ingesttest.Recorder{Fate: outOfOrder}, nil)
	s.add(strings.Repeat("x", 100_000), 101)
	s.req.Drop(1, "odd", func() string { return strings.Repeat("ä", 100_000) })
	for i := range 100 { // reasons that nobody has thought of
		s.req.Drop(1, fmt.Sprint("reason", i), func() string { return "x" })
	}
	if _, err := s.commit(); err != nil {
		t.Fatal(err)
	}
	got := s.in.Rejected().List()
	text, err := json.Marshal(got)
	if err != nil || len(text) > 30_000 || len(got) != 50 || !json.Valid(text) {
		t.Errorf("%d bytes of JSON, %d reasons, %v", len(text), len(got), err)
	}
}

func TestSeriesWithoutRoomAreRejected(t *testing.T) {
	s := newSource(t, &ingesttest.Recorder{MaxSeries: 1}, nil)
	s.add("a", 1)
	s.add("b", 1, 2)
	s.add("c", 1)
	if _, err := s.commit(); err != nil {
		t.Fatal(err)
	}
	got := s.in.Rejected().List()
	if len(got) != 1 || got[0].Samples != 3 || len(got[0].Examples) != 1 {
		t.Fatalf("%+v", got)
	}
	if diff := cmp.Diff(`{__name__="b"}`, got[0].Examples[0].Labels.String()); diff != "" {
		t.Error(diff)
	}
}
