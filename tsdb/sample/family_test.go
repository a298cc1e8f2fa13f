// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package sample_test

import (
	"slices"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func TestFamiliesAreNamedWithoutTheEndingsOfTheirType(t *testing.T) {
	for _, c := range []struct{ typ, metric, want string }{
		{"histogram", "h_bucket", "h"},
		{"histogram", "h_sum", "h"},
		{"histogram", "h_count", "h"},
		{"histogram", "h", "h"},
		{"histogram", "_bucket", "_bucket"},
		{"gaugehistogram", "h_gsum", "h"},
		{"gaugehistogram", "h_sum", "h_sum"},
		{"summary", "s_count", "s"},
		{"summary", "s_bucket", "s_bucket"},
		{"counter", "c_total", "c_total"},
		{"gauge", "open_file_count", "open_file_count"},
		{"", "x_sum", "x_sum"},
	} {
		m := sample.Metadata{Type: c.typ}
		got := m.Family(c.metric)
		if got != c.want {
			t.Errorf("the family of %s %s is %s, want %s", c.typ, c.metric, got, c.want)
		}
		if all := sample.FamiliesOf(c.metric); !slices.Contains(all, got) || all[0] != c.metric {
			t.Errorf("the families that %s may be of are %q", c.metric, all)
		}
	}
}
