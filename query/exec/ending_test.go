// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/query/querytest"
)

// agreeing checks that both engines answer a range query over counters the same.
func agreeing(t *testing.T) func(text, wantError string, annotations int) {
	from := counters(20)
	e := newEngine(t)
	e.options.MaxSamples = 50_000_000
	pair := querytest.Pair{Got: e, Want: e.reference(), Compare: querytest.Comparison{NoStatistics: true}}
	return func(text, wantError string, annotations int) {
		t.Helper()
		q := querytest.Between(text, time.Unix(600, 0), time.Unix(1200, 0), time.Minute)
		v := pair.Judge(t.Context(), from, querytest.Foreign(from), q)
		if v.Diff != "" {
			t.Errorf("%s\n%s", text, v.Diff)
		}
		err := v.Want.Failed()
		if err == nil || !strings.Contains(err.Error(), wantError) || len(v.Want.Result.Warnings) != annotations {
			t.Errorf("%s ended with %v and %d annotations, want %q and %d", text, err, len(v.Want.Result.Warnings), wantError, annotations)
		}
	}
}

func TestOfSeveralErrorsTheFirstOperandsCounts(t *testing.T) {
	check := agreeing(t)
	smoothing, parameter := "invalid smoothing factor", "Parameter value is NaN"
	first, second := `double_exponential_smoothing(c_total[5m], 3, 0.5)`, `topk(NaN + scalar(c_total), c_total)`
	check(first+` + `+second, smoothing, 0)
	check(second+` + `+first, parameter, 0)
	check(`c_total * (`+first+` or abs(-(`+second+`)))`, smoothing, 0)
	check(`sum(rate(c_total[5m])) + (c_total unless (`+second+` and `+first+`))`, parameter, 0)
	check(`max_over_time((`+first+` + `+second+`)[5m:1m]) + `+second, smoothing, 0)
	check(`(`+first+` and `+first+`) or `+second, smoothing, 0)
	check(`quantile(scalar(`+second+`), `+first+`)`, parameter, 0)
}

// Names are removed when everything has been evaluated and all annotations are known.
func TestAnnotationsStayWhenOnlyTheEndOfAQueryFails(t *testing.T) {
	check := agreeing(t)
	same := `label_replace(label_replace(c_total, "id", "", "", ""), "__name__", "n$1", "group", "(.*)")`
	check(`rate((`+same+`)[2m:1m])`, "vector cannot contain metrics with the same labelset", 0)
	named := `label_replace(label_replace(c_total{id=~"[0-9]"}, "__name__", "n$1", "id", "(.*)"), "id", "", "", "")`
	check(`rate((label_replace(`+named+`, "group", "", "", ""))[2m:1m])`, "vector cannot contain metrics with the same labelset", 10)
}

func TestLongChainsOfOperatorsAreNoLongWork(t *testing.T) {
	e := newEngine(t)
	e.options.MaxSamples = 50_000_000
	from := counters(1)
	began := time.Now()
	for _, op := range []string{" + ", " or ", " and "} {
		text := "c_total" + strings.Repeat(op+"c_total", 1000)
		o := querytest.Ask(t.Context(), e, from, querytest.At(text, time.Unix(1200, 0)))
		if o.Failed() != nil || o.Empty() {
			t.Errorf("1,000 times%s: %v", op, o.Failed())
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}
