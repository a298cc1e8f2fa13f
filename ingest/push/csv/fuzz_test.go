// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package csv_test

import (
	"net/http"
	"testing"

	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
)

// FuzzTable looks for formats and tables that end in anything but an answer.
func FuzzTable(f *testing.F) {
	f.Add("2:metric:ask,3:metric:bid,1:label:ticker,4:time:unix_ms", "GOOG,1.5,2,5\nAMZN,,3,6")
	f.Add("1:time:custom:2006-01-02 15:04,2:metric:x", "1970-01-01 00:01,\"7\"")
	f.Fuzz(func(t *testing.T, format, body string) {
		if rec := send(t, &ingesttest.Recorder{}, format, body); rec.Code != http.StatusNoContent && rec.Code != http.StatusBadRequest {
			t.Errorf("answer %d %s", rec.Code, rec.Body)
		}
	})
}
