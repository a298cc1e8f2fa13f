// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package jsonlines_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
)

// FuzzDocument holds our reader against the standard library's: a line that it takes as a document with finite numbers
// means the same to ours.
func FuzzDocument(f *testing.F) {
	for _, line := range []string{
		`{"metric":{"__name__":"up","job":"a"},"values":[1,-2.5e3],"timestamps":[5,6]}`,
		`{"timestamps":[1],"other":[{"a":"]"}],"values":[null],"metric":{"__name__":"x"},"starts":[1]}`,
		`{"metric":{"__name__":"x"},"nan":[[0,"7ff0000000000002"]],"values":[null],"timestamps":[1]}`,
		`{"metric":{"__name__":"h"},"histograms":[{"schema":1,"count":3,"positive_spans":[[0,2]],"positive_deltas":[1,1]}],"histogram_timestamps":[5]}`,
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		store := &ingesttest.Recorder{}
		rec := send(t, store, line)
		if rec.Code != http.StatusNoContent && rec.Code != http.StatusBadRequest {
			t.Fatalf("answer %d %s", rec.Code, rec.Body)
		}
		want, ok := reference(line)
		if !ok || strings.Count(line, "\"nan\"")+strings.Count(line, "istogram")+strings.Count(line, "\n") > 0 {
			return
		}
		got := []string{}
		for _, r := range store.Rows() {
			got = append(got, fmt.Sprintf("%x@%d", math.Float64bits(r.V), r.T))
		}
		if rec.Code == http.StatusBadRequest && len(got) == 0 && strings.Contains(rec.Body.String(), "label") {
			return // labels that cannot be stored
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (%s): %s", line, rec.Body, diff)
		}
	})
}

// reference reads a line by encoding/json; it reports false where the line is no document with each member once.
func reference(line string) ([]string, bool) {
	var doc struct {
		Metric     map[string]string `json:"metric"`
		Values     []float64         `json:"values"`
		Timestamps []int64           `json:"timestamps"`
	}
	dec := json.NewDecoder(strings.NewReader(line))
	var members map[string]json.RawMessage
	if json.Unmarshal([]byte(line), &members) != nil || dec.Decode(&doc) != nil || doc.Metric["__name__"] == "" || len(doc.Values) != len(doc.Timestamps) {
		return nil, false
	}
	for _, name := range []string{"metric", "values", "timestamps"} {
		if members[name] == nil || strings.Count(strings.ToLower(line), name) != 1 {
			return nil, false
		}
	}
	if strings.Contains(string(members["values"]), "null") || strings.Contains(string(members["timestamps"]), "null") || strings.Contains(line, "starts") || strings.Contains(line, `\u`) {
		return nil, false
	}
	out := []string{}
	for i, v := range doc.Values {
		out = append(out, fmt.Sprintf("%x@%d", math.Float64bits(v), doc.Timestamps[i]))
	}
	return out, true
}
