// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestAnswersAreCompressedForOtherMachinesOnly(t *testing.T) {
	h, _ := serving(t, Options{}, nil)
	check := func(want, from string, headers ...string) {
		t.Helper()
		req := httptest.NewRequest(http.MethodGet, "/api/v1/query_range?query=m&start=600&end=890&step=1", nil)
		req.RemoteAddr = from
		req.Header.Set("Accept-Encoding", "gzip")
		for _, name := range headers {
			req.Header.Set(name, "x")
		}
		rec := do(h, req)
		if got := rec.Header().Get("Content-Encoding"); got != want || rec.Code != http.StatusOK {
			t.Errorf("from %s with %v: encoding %q, want %q (%d, %d bytes)", from, headers, got, want, rec.Code, rec.Body.Len())
		}
	}
	check("gzip", "192.0.2.1:1234")
	check("", "127.0.0.1:1234")
	check("", "[::1]:1234")
	check("gzip", "127.0.0.1:1234", "X-Forwarded-For")
	check("gzip", "127.0.0.1:1234", "Via")
	check("gzip", "@") // a socket without an address
}
