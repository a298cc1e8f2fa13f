// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package influx_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	influxdb2 "github.com/influxdata/influxdb-client-go/v2"
	client1 "github.com/influxdata/influxdb1-client/v2"

	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// serve returns the URL under which an InfluxDB would be.
func serve(t *testing.T, store *ingesttest.Recorder) string {
	t.Helper()
	srv := httptest.NewServer(newHandler(t, store))
	t.Cleanup(srv.Close)
	return srv.URL + "/influx"
}

func TestClientOfVersion2Writes(t *testing.T) {
	store := &ingesttest.Recorder{}
	c := influxdb2.NewClientWithOptions(serve(t, store), "token", influxdb2.DefaultOptions().SetUseGZip(true).SetPrecision(time.Millisecond))
	defer c.Close()
	if ok, err := c.Ping(t.Context()); !ok || err != nil {
		t.Errorf("ping: %v, %v", ok, err)
	}
	if h, err := c.Health(t.Context()); err != nil || h.Status != "pass" {
		t.Errorf("health: %+v, %v", h, err)
	}
	w := c.WriteAPIBlocking("org", "bucket")
	point := influxdb2.NewPoint("cpu load", map[string]string{"host": "a,b", "zone": "x=y"},
		map[string]any{"busy": 1.5, "cores": 8, "name": "a \"quoted\"\ntext", "on": true, "seen": uint64(7)}, time.UnixMilli(1700000000123))
	if err := w.WritePoint(t.Context(), point); err != nil {
		t.Fatal(err)
	}
	labels := `", db="bucket", host="a,b", zone="x=y"} `
	want := []string{
		`{__name__="cpu load_busy` + labels + "1.5@1700000000123", `{__name__="cpu load_cores` + labels + "8@1700000000123",
		`{__name__="cpu load_on` + labels + "1@1700000000123", `{__name__="cpu load_seen` + labels + "7@1700000000123",
	}
	if diff := cmp.Diff(want, stored(store)); diff != "" {
		t.Error(diff)
	}
	if err := w.WriteRecord(t.Context(), "m v=oops\nm v=3 5"); err == nil || !strings.Contains(err.Error(), "line 1, column 5") {
		t.Errorf("a malformed line is answered %v", err)
	}
}

func TestClientOfVersion2ComesAgainWhenTheStoreTakesNoWrites(t *testing.T) {
	store := &ingesttest.Recorder{CommitErr: &sample.UnavailableError{Condition: "read_only", RetryAfter: time.Second}}
	c := influxdb2.NewClient(serve(t, store), "token")
	defer c.Close()
	err := c.WriteAPIBlocking("org", "bucket").WriteRecord(t.Context(), "m v=3 5")
	if err == nil || !strings.Contains(err.Error(), "read_only") {
		t.Errorf("answer %v", err)
	}
}

func TestClientOfVersion1Writes(t *testing.T) {
	store := &ingesttest.Recorder{}
	c, err := client1.NewHTTPClient(client1.HTTPConfig{Addr: serve(t, store)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, version, err := c.Ping(time.Second); err != nil || version == "" {
		t.Errorf("ping: %q, %v", version, err)
	}
	if r, err := c.Query(client1.NewQuery(`CREATE DATABASE "tele"`, "", "")); err != nil || r.Error() != nil {
		t.Errorf("create database: %+v, %v", r, err)
	}
	points, err := client1.NewBatchPoints(client1.BatchPointsConfig{Database: "tele", Precision: "s"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		p, err := client1.NewPoint("disk", map[string]string{"path": "/var"}, map[string]any{"used": i}, time.Unix(int64(1700000000+i), 0))
		if err != nil {
			t.Fatal(err)
		}
		points.AddPoint(p)
	}
	if err := c.Write(points); err != nil {
		t.Fatal(err)
	}
	want := []string{`{__name__="disk_used", db="tele", path="/var"} 0@1700000000000`, `{__name__="disk_used", db="tele", path="/var"} 1@1700000001000`}
	if diff := cmp.Diff(want, stored(store)); diff != "" {
		t.Error(diff)
	}
}
