// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// fakeKeeper notes what was asked of it.
type fakeKeeper struct {
	undone uint64
	err    error
	asked  RetentionSettings
}

func (f *fakeKeeper) Deletes() []DeleteEntry {
	return []DeleteEntry{{ID: 1 << 60, At: time.Unix(1, 0).UTC(), MinTime: 1, MaxTime: 2, Match: `{a="b"}`, Series: 3, Undoable: true}}
}

func (f *fakeKeeper) Undelete(_ context.Context, id uint64) error {
	f.undone = id
	return f.err
}

func (f *fakeKeeper) Retention() RetentionSettings {
	return RetentionSettings{Time: 15 * 24 * time.Hour, Policies: []RetentionPolicy{{Name: "old", Keep: time.Hour}}}
}

func (f *fakeKeeper) Report(_ context.Context, s RetentionSettings) ([]RetentionPart, error) {
	f.asked = s
	return []RetentionPart{
		{Block: "01A", Policy: s.Policies[0].Name, MinTime: 1, MaxTime: 2, Series: 1, Samples: 10, Bytes: 100, Goes: "time"},
		{Block: "01B", Policy: s.Policies[0].Name, MinTime: 3, MaxTime: 4, Series: 1, Samples: 5, Bytes: 50},
		{Block: "01B", MinTime: 3, MaxTime: 4, Series: 2, Samples: 7, Bytes: 70},
	}, f.err
}

func TestDeletesAreListedAndUndone(t *testing.T) {
	k := &fakeKeeper{}
	h, _ := serving(t, Options{EnableAdmin: true}, func(s *Sources) { s.Admin, s.Keeper = &fakeAdmin{}, k })
	rec := do(h, httptest.NewRequest(http.MethodGet, "/api/v1/admin/tidemark/deletes", nil))
	want := `{"status":"success","data":[{"id":"1152921504606846976","at":"1970-01-01T00:00:01Z","minTime":1,"maxTime":2,"match":"{a=\"b\"}","series":3,"undoable":true}]}`
	if rec.Body.String() != want {
		t.Errorf("got %s, want %s", rec.Body, want)
	}
	check := func(err error, id string, status int) {
		t.Helper()
		k.err = err
		rec := do(h, httptest.NewRequest(http.MethodPost, "/api/v1/admin/tidemark/undelete?id="+id, nil))
		if rec.Code != status {
			t.Errorf("undelete %s: %d %s, want %d", id, rec.Code, rec.Body, status)
		}
	}
	check(nil, "77", http.StatusNoContent)
	if k.undone != 77 {
		t.Errorf("undone: %d", k.undone)
	}
	check(nil, "x", 400)
	check(ErrNoDelete, "78", 404)
	check(ErrFinalDelete, "78", 400)
	check(errors.New("disk"), "78", 500)
}

func TestRetentionReportsWhatWouldGoByTheSettingsOfTheRequest(t *testing.T) {
	k := &fakeKeeper{}
	h, _ := serving(t, Options{EnableAdmin: true}, func(s *Sources) { s.Admin, s.Keeper = &fakeAdmin{}, k })
	get := func(query string) *httptest.ResponseRecorder {
		return do(h, httptest.NewRequest(http.MethodGet, "/api/v1/admin/tidemark/retention?"+query, nil))
	}
	rec := get("")
	want := `"policies":[{"policy":"old","keep":"1h","kept":{"blocks":1,"samples":5,"bytes":50},"goes":{"blocks":1,"samples":10,"bytes":100}},` +
		`{"policy":"","keep":"15d","kept":{"blocks":1,"samples":7,"bytes":70},"goes":{"blocks":0,"samples":0,"bytes":0}}]`
	if !strings.Contains(rec.Body.String(), want) || !strings.Contains(rec.Body.String(), `"goes":"time"`) {
		t.Errorf("got %s, want %s in it", rec.Body, want)
	}
	rec = get(url.Values{"time": {"2d"}, "size": {"1000"}, "policy": {`{"name":"debug","match":"{job=\"debug\"}","keep":"3d"}`}}.Encode())
	a := k.asked
	if rec.Code != 200 || a.Time != 48*time.Hour || a.Size != 1000 || len(a.Policies) != 1 || a.Policies[0].Name != "debug" ||
		a.Policies[0].Match[0].String() != `job="debug"` || a.Policies[0].Keep != 72*time.Hour {
		t.Errorf("%d %s: asked for %+v", rec.Code, rec.Body, a)
	}
	for _, bad := range []string{"time=x", "size=-1", "policy=x", `policy={"name":"a","match":"{","keep":"1d"}`, `policy={"name":"","match":"{a=\"b\"}","keep":"1d"}`} {
		if rec := get(strings.ReplaceAll(bad, " ", "+")); rec.Code != 400 {
			t.Errorf("%s: %d %s", bad, rec.Code, rec.Body)
		}
	}
}

func TestKeeperRoutesAreClosedUntilEnabled(t *testing.T) {
	k := &fakeKeeper{}
	h, _ := serving(t, Options{}, func(s *Sources) { s.Admin, s.Keeper = &fakeAdmin{}, k })
	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodGet, "/api/v1/admin/tidemark/deletes", nil),
		httptest.NewRequest(http.MethodGet, "/api/v1/admin/tidemark/retention", nil),
		httptest.NewRequest(http.MethodPost, "/api/v1/admin/tidemark/undelete?id=1", nil),
	} {
		if rec := do(h, r); rec.Code != 500 || !strings.Contains(rec.Body.String(), "admin APIs disabled") {
			t.Errorf("%s: %d %s", r.URL, rec.Code, rec.Body)
		}
	}
	if k.undone != 0 {
		t.Error("a closed route changed the store")
	}
}
