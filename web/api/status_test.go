// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStoreFiguresAreOfTheRangeAndSeriesAskedFor(t *testing.T) {
	p := newPair(t)
	check := func(args string, status int, want map[string]any) {
		t.Helper()
		got := ask(t, p.ours, http.MethodGet, "/api/v1/status/tsdb?"+args, "")
		if diff := cmp.Diff(reply{status, "application/json", want}, got); diff != "" {
			t.Errorf("%s:\n%s", args, diff)
		}
	}
	figures := func(mint, maxt, sets, limit json.Number, pairs ...any) map[string]any {
		if pairs == nil {
			pairs = []any{}
		}
		return map[string]any{"status": "success", "warnings": []any{"a block is missing"}, "data": map[string]any{
			"headStats":               map[string]any{"chunkCount": json.Number("0"), "minTime": mint, "maxTime": maxt, "numSeries": sets, "numLabelPairs": limit},
			"seriesCountByMetricName": []any{}, "labelValueCountByLabelName": []any{}, "memoryInBytesByLabelName": []any{},
			"seriesCountByLabelValuePair": pairs,
		}}
	}
	pair := func(name string) any { return map[string]any{"name": name, "value": json.Number("0")} }
	check("start=1&end=2.5", http.StatusOK, figures("1000", "2500", "0", "10"))
	check("start=1&end=2.5&limit=3", http.StatusOK, figures("1000", "2500", "0", "3"))
	check("match[]=up&match[]={job=%22a%22}&start=0&end=0", http.StatusOK, figures("0", "0", "2", "10", pair(`__name__="up"`), pair(`job="a"`)))
	fails := func(args string, status int, typ, text string) {
		t.Helper()
		check(args, status, map[string]any{"status": "error", "errorType": typ, "error": text})
	}
	fails("start=2&end=1", http.StatusBadRequest, "bad_data", `invalid parameter "end": end timestamp must not be before start time`)
	fails("start=x", http.StatusBadRequest, "bad_data", `invalid parameter "start": invalid time value for 'start': cannot parse "x" to a valid timestamp`)
	fails("match[]={}", http.StatusBadRequest, "bad_data", `invalid parameter "match[]": match[] must contain at least one non-empty matcher`)
	fails("match[]=up&limit=0", http.StatusBadRequest, "bad_data", "limit must be a positive number")
	fails("match[]=up&limit=7", http.StatusUnprocessableEntity, "execution", "no figures for seven")
}
