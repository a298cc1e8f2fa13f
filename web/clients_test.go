// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package web

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gogo/protobuf/proto"
	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"golang.org/x/crypto/bcrypt"

	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	ours "github.com/tidemarkdb/tidemark/web/api"
)

func bcryptOfSecret(t *testing.T) string {
	t.Helper()
	b, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// client returns Prometheus' own client library, pointed at a server over a few series.
func client(t *testing.T) (promv1.API, string) {
	t.Helper()
	s := newServer(t, Options{ListenAddresses: []string{"127.0.0.1:0"}})
	src := sources(t)
	store := src.Data.(*columntest.Store)
	now := time.Now().UnixMilli()
	for k := range int64(10) {
		store.Append(labels.FromStrings("__name__", "n", "job", "b"), columntest.Sample{T: now - 100_000 + k*10_000, V: float64(k)})
	}
	store.AppendMetadata("n", metadata.Metadata{Type: model.MetricTypeGauge, Help: "How many.", Unit: "things"})
	src.Runtime = func() ours.RuntimeInfo { return ours.RuntimeInfo{CWD: "/srv", StorageRetention: "15d"} }
	src.Config = func() string { return "global: {}\n" }
	src.Flags = map[string]string{"web.listen-address": "x"}
	src.ExternalLabels = func() labels.Labels { return labels.FromStrings("cluster", "eu") }
	if err := s.Open(src); err != nil {
		t.Fatal(err)
	}
	base, _ := start(t, s)
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	c, err := api.NewClient(api.Config{Address: base, RoundTripper: tr})
	if err != nil {
		t.Fatal(err)
	}
	return promv1.NewAPI(c), base
}

func TestClientLibraryOfPrometheusUnderstandsTheAnswers(t *testing.T) {
	c, _ := client(t)
	ctx, now := t.Context(), time.Now()
	v, _, err := c.Query(ctx, "n", now)
	if err != nil || len(v.(model.Vector)) != 1 || v.(model.Vector)[0].Value != 9 {
		t.Errorf("query: %v, %v", v, err)
	}
	m, _, err := c.QueryRange(ctx, "n", promv1.Range{Start: now.Add(-time.Minute), End: now, Step: 10 * time.Second})
	if err != nil || len(m.(model.Matrix)) != 1 || len(m.(model.Matrix)[0].Values) != 7 {
		t.Errorf("query_range: %v, %v", m, err)
	}
	names, _, err := c.LabelNames(ctx, nil, now.Add(-time.Hour), now)
	if err != nil || len(names) != 2 {
		t.Errorf("labels: %v, %v", names, err)
	}
	values, _, err := c.LabelValues(ctx, "job", []string{"n"}, now.Add(-time.Hour), now)
	if err != nil || len(values) != 1 || values[0] != "b" {
		t.Errorf("label values: %v, %v", values, err)
	}
	series, _, err := c.Series(ctx, []string{"n", "m"}, now.Add(-time.Hour), now)
	if err != nil || len(series) != 2 {
		t.Errorf("series: %v, %v", series, err)
	}
	meta, err := c.Metadata(ctx, "n", "")
	if err != nil || len(meta["n"]) != 1 || meta["n"][0].Help != "How many." || meta["n"][0].Type != promv1.MetricTypeGauge {
		t.Errorf("metadata: %v, %v", meta, err)
	}
	if _, err := c.Rules(ctx, nil); err != nil {
		t.Errorf("rules: %v", err)
	}
	if _, err := c.Alerts(ctx); err != nil {
		t.Errorf("alerts: %v", err)
	}
	if _, err := c.Targets(ctx); err != nil {
		t.Errorf("targets: %v", err)
	}
	if _, err := c.AlertManagers(ctx); err != nil {
		t.Errorf("alertmanagers: %v", err)
	}
	if b, err := c.Buildinfo(ctx); err != nil || b.Version != "3.15.0" {
		t.Errorf("buildinfo: %v, %v", b, err)
	}
	if r, err := c.Runtimeinfo(ctx); err != nil || r.StorageRetention != "15d" {
		t.Errorf("runtimeinfo: %v, %v", r, err)
	}
	if f, err := c.Flags(ctx); err != nil || f["web.listen-address"] != "x" {
		t.Errorf("flags: %v, %v", f, err)
	}
	if cfg, err := c.Config(ctx); err != nil || cfg.YAML != "global: {}\n" {
		t.Errorf("config: %v, %v", cfg, err)
	}
	var typed *promv1.Error
	if _, _, err := c.Query(ctx, "sum(", now); !errors.As(err, &typed) || typed.Type != promv1.ErrBadData {
		t.Errorf("broken query: %v", err)
	}
}

// readRequest asks for series n over everything.
func readRequest(t *testing.T, base string, types ...prompb.ReadRequest_ResponseType) *http.Response {
	t.Helper()
	raw, err := proto.Marshal(&prompb.ReadRequest{
		AcceptedResponseTypes: types,
		Queries: []*prompb.Query{{
			StartTimestampMs: 0, EndTimestampMs: time.Now().UnixMilli(),
			Matchers: []*prompb.LabelMatcher{{Type: prompb.LabelMatcher_EQ, Name: "__name__", Value: "n"}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/api/v1/read", bytes.NewReader(snappy.Encode(nil, raw)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := newClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 {
		t.Fatalf("remote read: %s", resp.Status)
	}
	return resp
}

func TestRemoteReadGivesSamples(t *testing.T) {
	_, base := client(t)
	resp := readRequest(t, base)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = snappy.Decode(nil, b); err != nil {
		t.Fatal(err)
	}
	var got prompb.ReadResponse
	if err := proto.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	series := got.Results[0].Timeseries
	if len(series) != 1 || len(series[0].Samples) != 10 || series[0].Samples[9].Value != 9 {
		t.Fatalf("got %v", series)
	}
	if l := series[0].Labels[1]; l.Name != "cluster" || l.Value != "eu" {
		t.Errorf("labels %v lack the external one", series[0].Labels)
	}
}

func TestRemoteReadStreamsChunks(t *testing.T) {
	_, base := client(t)
	resp := readRequest(t, base, prompb.ReadRequest_STREAMED_XOR_CHUNKS)
	defer func() { _ = resp.Body.Close() }()
	if ct := resp.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/x-streamed-protobuf") {
		t.Fatalf("content type %q", ct)
	}
	var frame prompb.ChunkedReadResponse
	if err := remote.NewChunkedReader(resp.Body, 1<<20, nil).NextProto(&frame); err != nil {
		t.Fatal(err)
	}
	c, err := chunkenc.FromData(chunkenc.EncXOR, frame.ChunkedSeries[0].Chunks[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	n, last := 0, 0.0
	for it := c.Iterator(nil); it.Next() == chunkenc.ValFloat; n++ {
		_, last = it.At()
	}
	if n != 10 || last != 9 {
		t.Fatalf("%d samples, the last %v", n, last)
	}
}

func TestRemoteReadRefusesWhatIsNoRequest(t *testing.T) {
	_, base := client(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/api/v1/read", strings.NewReader("nonsense"))
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := fetch(t, newClient(t), req); status != 400 {
		t.Fatalf("status %d, want 400", status)
	}
}

func TestFormsAreReadFromABody(t *testing.T) {
	_, base := client(t)
	resp, err := newClient(t).PostForm(base+"/api/v1/query", url.Values{"query": {"n"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); !bytes.Contains(b, []byte(`"9"`)) {
		t.Fatalf("got %s", b)
	}
}
