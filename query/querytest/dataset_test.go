// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRandomDataIsStoredAndTheSameForASeed(t *testing.T) {
	for seed := range uint64(40) {
		d := RandomData(seed)
		if err := d.Load(t.Context(), NewPrometheusStorage(t)); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if diff := cmp.Diff(render(d), render(RandomData(seed))); diff != "" {
			t.Fatalf("seed %d gives other data the second time:\n%s", seed, diff)
		}
	}
}

func render(d DataSet) string {
	var b strings.Builder
	d.text(&b)
	return b.String()
}

func TestCaseIsReadAsItWasWritten(t *testing.T) {
	for seed := range uint64(20) {
		d := RandomData(seed)
		o := SuiteOptions()
		o.LookbackDelta = 90 * time.Second
		o.Features.TypeAndUnitLabels = seed%2 == 0
		c := NewCase(o, NewGenerator(seed, d).Query(), d)
		c.Note = "because\nof it\n"
		text := c.String()
		again, err := ParseCase(text)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if diff := cmp.Diff(text, again.String()); diff != "" {
			t.Fatalf("seed %d:\n%s", seed, diff)
		}
		if again.Options().LookbackDelta != o.LookbackDelta || again.Options().Features.TypeAndUnitLabels != (seed%2 == 0) {
			t.Fatalf("seed %d: settings %+v", seed, again.Options())
		}
	}
}

func TestBrokenCasesAreRefused(t *testing.T) {
	for _, text := range []string{
		"", "lookback=1\ninstant 5\n", "what\ninstant 5\nm\n", "lookback=1\nat 5\nm\n", "lookback=1\ninstant 5\nm\n5 0 1\n",
		"lookback=1\ninstant 5\nm\nseries {\n", "lookback=1\ninstant 5\nm\nseries m\n5 0\n", "lookback=1\ninstant 5\nm\nseries m\n5 0 {{what}}\n",
		"lookback=1\ninstant 5\nm\nseries m\nx 0 1\n", "lookback=1\ninstant 5\nm\nseries m\n1 x 1\n", "lookback=1\ninstant 5\nm\nseries m\n1 0 x\n",
	} {
		if c, err := ParseCase(text); err == nil {
			t.Errorf("%q is read as %s", text, c)
		}
	}
}

func TestShrinkKeepsWhatFails(t *testing.T) {
	d := RandomData(3)
	q := Between(`sum by (job) (rate(m_total{job="a"}[5m] offset 1m)) / on (job) group_left (ver) (u + 1)`, time.UnixMilli(d.Start), time.UnixMilli(d.End), time.Minute)
	c := Shrink(NewCase(SuiteOptions(), q, d), func(c Case) bool {
		return strings.Contains(c.Query.Text, "rate(") && len(c.Data.Series) > 0 && strings.HasPrefix(c.Data.Series[0].Labels.Get("__name__"), "b_")
	})
	if c.Query.Text != "rate(m_total[5m])" || !c.Query.Instant() || len(c.Data.Series) != 1 || len(c.Data.Series[0].Samples) != 1 {
		t.Fatalf("shrunk to %s", c)
	}
}
