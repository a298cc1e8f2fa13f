// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exposition_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
)

// FuzzText holds our reader against Prometheus': what that takes means the same to ours.
func FuzzText(f *testing.F) {
	for _, text := range []string{
		"up 1 5\n", "up{job=\"a\", b=\"c\",} 2 6\nx NaN", "{\"my.metric\",\"l\"=\"x\"} +Inf 5", `x{p="C:\\d\n\"q\""} 1`,
		"# HELP x y\n# TYPE x histogram\nx_bucket{le=\"1\"} 1", "# TYPE q summary\nq{quantile=\"0.50\"} 3 5", "x{a=\"}\"} 0x10 5", "a{b=\"c\"d=\"e\"} 1",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		store := &ingesttest.Recorder{}
		rec := importText(t, store, "", "", text)
		if rec.Code != http.StatusNoContent && rec.Code != http.StatusBadRequest {
			t.Fatalf("answer %d %s", rec.Code, rec.Body)
		}
		want, ok := reference(text)
		if !ok {
			return
		}
		got := []string{}
		for _, r := range store.Rows() {
			at := "now"
			if r.T < 1e12 {
				at = fmt.Sprint(r.T)
			}
			got = append(got, fmt.Sprintf("%s %x@%s", r.Series, math.Float64bits(r.V), at))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (%d %s): %s", text, rec.Code, rec.Body, diff)
		}
	})
}

// reference reads a text by Prometheus' parser; it reports false where that takes a part of it only, or where what it
// takes is of no use: lines within quotes, zero bytes, labels that cannot be stored, times that tests tell from now.
func reference(text string) ([]string, bool) {
	if strings.ContainsAny(text, "\x00\r") {
		return nil, false
	}
	p := textparse.NewPromParser([]byte(text), labels.NewSymbolTable(), false)
	out := []string{}
	for {
		e, err := p.Next()
		if errors.Is(err, io.EOF) {
			return out, true
		}
		if err != nil {
			return nil, false
		}
		if e != textparse.EntrySeries {
			continue
		}
		series, ts, v := p.Series()
		var ls labels.Labels
		p.Labels(&ls)
		_, twice := ls.HasDuplicateLabelNames()
		if twice || !storable(ls) || strings.Contains(string(series), "\n") || ts != nil && *ts >= 1e12 {
			return nil, false
		}
		at := "now"
		if ts != nil {
			at = fmt.Sprint(*ts)
		}
		out = append(out, fmt.Sprintf("%s %x@%s", ls.WithoutEmpty(), math.Float64bits(v), at))
	}
}

func storable(ls labels.Labels) bool {
	ok := ls.Get("__name__") != ""
	ls.Range(func(l labels.Label) {
		ok = ok && l.Name != "" && strings.ToValidUTF8(l.Name+l.Value, "") == l.Name+l.Value
	})
	return ok
}

// FuzzParsed looks for bodies of the other formats that end in anything but an answer.
func FuzzParsed(f *testing.F) {
	f.Add(openMetrics, false)
	f.Add("\n# EOF", false)
	f.Add("\x12\n\x01a\"\x08\x1a\x06\t\x00\x00\x00\x00\x00\x00", true)
	f.Fuzz(func(t *testing.T, body string, protobuf bool) {
		contentType := "application/openmetrics-text; version=1.0.0"
		if protobuf {
			contentType = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
		}
		if rec := importText(t, &ingesttest.Recorder{}, contentType, "", body); rec.Code != http.StatusNoContent && rec.Code != http.StatusBadRequest {
			t.Errorf("answer %d %s", rec.Code, rec.Body)
		}
	})
}
