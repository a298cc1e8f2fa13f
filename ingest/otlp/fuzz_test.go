// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"net/http"
	"testing"

	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/otlp"
)

// FuzzHandler sends any bytes. No body may end the process or be answered as our fault, and the second time, when its
// series are known, comes to what came the first time.
func FuzzHandler(f *testing.F) {
	for seed := range uint64(8) {
		g := newGenerator(seed)
		g.deltas = true
		md := g.metrics()
		f.Add(marshal(f, md), false)
		if text, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalJSON(); err == nil {
			f.Add(text, true)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, isJSON bool) {
		contentType := protobuf
		if isJSON {
			contentType = "application/json"
		}
		for _, deltas := range []otlp.Deltas{otlp.RefuseDeltas, otlp.SumDeltas, otlp.KeepDeltas} {
			h := newSubject(t, otlp.Options{Deltas: deltas}, &ingesttest.Recorder{})
			first := post(h, contentType, body)
			rows := len(h.recorder.Rows())
			second := post(h, contentType, body)
			if first.Code != second.Code || first.Code == http.StatusInternalServerError {
				t.Errorf("answers %d %q and %d %q", first.Code, first.Body, second.Code, second.Body)
			}
			if deltas != otlp.SumDeltas && (first.Body.String() != second.Body.String() || len(h.recorder.Rows()) != 2*rows) {
				t.Errorf("%d rows and %q, then %d rows and %q", rows, first.Body, len(h.recorder.Rows())-rows, second.Body)
			}
		}
	})
}
