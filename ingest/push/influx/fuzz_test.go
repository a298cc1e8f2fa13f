// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package influx_test

import (
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	protocol "github.com/influxdata/line-protocol"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
)

// FuzzLine holds our reader against InfluxData's: a line that both take means the same points. Ours takes more: it does not
// need a tag to have a value, and takes what others would leave out as a time.
func FuzzLine(f *testing.F) {
	for _, line := range []string{
		"cpu usage=1.5 1000", "cpu,host=a,zone=b usage=1,idle=99 1000", `m a=12i,b=7u,c=t,d=FALSE,s="x y\" z" 5`,
		`my\ m\,x,t\=1=a\ b f\ 1=1 5`, "m v=1", "m,t= v=1 1", "m v=", `m s="a` + "\n" + `b",v=2 3`,
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		store := &ingesttest.Recorder{}
		rec := send(newHandler(t, store), "/influx/write?precision=n", line)
		if rec.Code != http.StatusNoContent && rec.Code != http.StatusBadRequest {
			t.Fatalf("answer %d %s", rec.Code, rec.Body)
		}
		if strings.ContainsAny(line, "\\\t\v\f\r") {
			return // which backslashes are escapes, and what else than spaces is blank, are matters of opinion
		}
		handler := protocol.NewMetricHandler()
		handler.SetTimeFunc(func() time.Time { return time.Unix(0, 0) })
		metrics, err := protocol.NewParser(handler).Parse([]byte(line))
		if err != nil || rec.Code != http.StatusNoContent {
			return
		}
		want, got := map[string]uint64{}, map[string]uint64{} // of a field that is there twice the last one
		for _, m := range metrics {
			for _, x := range m.FieldList() {
				if v, ok := float(x.Value); ok {
					want[m.Name()+"_"+x.Key] = math.Float64bits(v)
				}
			}
		}
		for _, r := range store.Rows() {
			got[parseName(t, r.Series)] = math.Float64bits(r.V)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q means something else to the reference: %s", line, diff)
		}
	})
}

// float returns what a value of the reference's is as a sample.
func float(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case int64:
		return float64(v), true
	case uint64:
		return float64(v), true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	default:
		return 0, false
	}
}

// parseName returns the name of the metric that labels are of.
func parseName(t *testing.T, series string) string {
	t.Helper()
	ls, err := parser.NewParser(parser.Options{}).ParseMetric(series)
	if err != nil {
		t.Fatal(err)
	}
	return ls.Get("__name__")
}
