// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// TestTheFormatPageShowsTheStateOfALog reads the example of the page as the file, and finds what is written in the page.
func TestTheFormatPageShowsTheStateOfALog(t *testing.T) {
	page, err := os.ReadFile("../../docs/format-prometheus.md")
	if err != nil {
		t.Fatal(err)
	}
	want := headState{Log: "c1fb4e7a0d5c2d6f", Blocks: []string{"01M7YVM4Z7CNE2AN0YAMVATMP3"}}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "\n"+string(text)+"\n") {
		t.Errorf("the page does not show %s", text)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, headFile), append(text, '\n'), 0o666); err != nil {
		t.Fatal(err)
	}
	got, err := readHeadState(dir)
	if err != nil || got == nil || got.Log != want.Log || len(got.Blocks) != 1 || got.Blocks[0] != want.Blocks[0] {
		t.Errorf("read as %+v, error %v", got, err)
	}
}

// TestTheFormatPageShowsWhatABlockHasNoPlaceFor does so with exemplars and descriptions; the page breaks the line.
func TestTheFormatPageShowsWhatABlockHasNoPlaceFor(t *testing.T) {
	page, err := os.ReadFile("../../docs/format-prometheus.md")
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(attachments{
		Exemplars: []seriesExemplars{{
			Series:    labels.FromStrings("__name__", "latency_bucket", "le", "1"),
			Exemplars: []loggedExemplar{{Labels: labels.FromStrings("trace_id", "x"), T: 1_767_254_400_000, Bits: math.Float64bits(1)}},
		}},
		Metadata: map[string]description{"latency": {Type: model.MetricTypeHistogram, Unit: "seconds", Help: "How long."}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.ReplaceAll(string(page), ",\n ", ","); !strings.Contains(text, "\n"+string(want)+"\n") {
		t.Errorf("the page does not show %s", want)
	}
}
