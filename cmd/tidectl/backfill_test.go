// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestABackfillIsBegunAndWatched(t *testing.T) {
	check := func(what string, code int, want, begun string, looks ...string) {
		t.Helper()
		asked, n := "", 0
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				body, _ := io.ReadAll(r.Body)
				asked = r.URL.Path + " " + string(body)
				_, _ = io.WriteString(w, begun)
				return
			}
			_, _ = fmt.Fprintf(w, `{"status":"success","data":{"jobs":[%s]}}`, looks[min(n, len(looks)-1)])
			n++
		}))
		defer s.Close()
		var out bytes.Buffer
		if got := run(t.Context(), []string{"rules", "backfill", "--url=" + s.URL, "--from=2026-03-01T00:00:00Z", ruleFile(t, "1m")}, &out, &out); got != code {
			t.Errorf("%s: exit code %d, want %d", what, got, code)
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: %q is missing in\n%s", what, want, &out)
		}
		if !strings.HasPrefix(asked, "/api/v1/admin/tidemark/backfill {") || !strings.Contains(asked, `"start":"2026-03-01T00:00:00Z"`) || !strings.Contains(asked, "record: down") {
			t.Errorf("%s: asked %s", what, asked)
		}
	}
	begun := `{"status":"success","data":{"id":"3","state":"waiting"}}`
	const ended = `{"id":"3","state":"%s","ended":"2026-03-02T00:00:00Z","error":"%s","filled":{"stored":5,"kept":2,"refused":1,"failures":%d,"lastError":"oh"}}`
	check("done", exitDone, "5 samples stored, 2 were there, 1 refused", begun, `{"id":"3","state":"running","progress":0.5}`, fmt.Sprintf(ended, "done", "", 0))
	check("progress", exitDone, " 50 %", begun, `{"id":"3","state":"running","progress":0.5}`, fmt.Sprintf(ended, "done", "", 0))
	check("failures", exitFailed, "4 evaluations failed, the last: oh", begun, fmt.Sprintf(ended, "done", "", 4))
	check("canceled", exitFailed, "the job is canceled: by hand", begun, fmt.Sprintf(ended, "canceled", "by hand", 0))
	check("forgotten", exitFailed, "was it restarted?", begun, `{"id":"2"}`)
	check("refused", exitFailed, "admin APIs disabled", `{"status":"error","error":"admin APIs disabled"}`)
	check("another server", exitFailed, "not the answer of a Tidemark", "<html>")
}
