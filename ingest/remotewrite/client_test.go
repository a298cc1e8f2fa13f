// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package remotewrite_test

import (
	"errors"
	"math"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gogo/protobuf/proto"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/snappy"
	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage/remote"

	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// dial returns Prometheus' own client of a receiver.
func dial(t *testing.T, r *receiver, message remoteapi.WriteMessageType) remote.WriteClient {
	t.Helper()
	srv := httptest.NewServer(r.h)
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	c, err := remote.NewWriteClient("test", &remote.ClientConfig{
		URL: &commonconfig.URL{URL: u}, Timeout: model.Duration(10 * time.Second), WriteProtoMsg: message,
		HTTPClientConfig: commonconfig.DefaultHTTPClientConfig,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func pack(t *testing.T, m proto.Message) []byte {
	t.Helper()
	body, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, body)
}

func twoSamplesV1() *prompb.WriteRequest {
	return &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: pairs("__name__", "up"), Samples: []prompb.Sample{{Timestamp: 1}, {Timestamp: 2}}}}}
}

func twoSamplesV2() *writev2.Request {
	return requestV2(seriesV2(writev2.TimeSeries{Samples: []writev2.Sample{{Timestamp: 1}, {Timestamp: 2}}}, [2]string{}, "__name__", "up"))
}

func TestPrometheusClientUnderstandsTheAnswers(t *testing.T) {
	check := func(store *ingesttest.Recorder, wantStats remote.WriteResponseStats, wantErr string, retried bool) {
		t.Helper()
		for message, m := range map[remoteapi.WriteMessageType]proto.Message{
			remoteapi.WriteV1MessageType: twoSamplesV1(), remoteapi.WriteV2MessageType: twoSamplesV2(),
		} {
			stats, err := dial(t, newReceiver(t, store, nil), message).Store(t.Context(), pack(t, m), 0)
			if wantErr == "" && err != nil || wantErr != "" && (err == nil || !strings.Contains(err.Error(), wantErr)) {
				t.Errorf("%s: error is %v, want %q", message, err, wantErr)
			}
			if _, ok := errors.AsType[remote.RecoverableError](err); ok != retried {
				t.Errorf("%s: the client would send again: %t, want %t (%v)", message, ok, retried, err)
			}
			if message == remoteapi.WriteV2MessageType {
				if diff := cmp.Diff(wantStats, stats); diff != "" {
					t.Errorf("%s: %s", message, diff)
				}
			}
		}
	}
	check(&ingesttest.Recorder{}, remote.WriteResponseStats{Samples: 2, Confirmed: true}, "", false)
	late := &ingesttest.Recorder{Fate: func(r ingesttest.Row) sample.Reason {
		return map[int64]sample.Reason{2: sample.TooOld}[r.T]
	}}
	check(late, remote.WriteResponseStats{Samples: 1, Confirmed: true}, "1 too old sample", false)
	full := &ingesttest.Recorder{CommitErr: &sample.UnavailableError{Condition: "read_only"}}
	check(full, remote.WriteResponseStats{Confirmed: true}, "read_only", true)
	check(&ingesttest.Recorder{DurableErr: errors.New("input/output error")}, remote.WriteResponseStats{Confirmed: true}, "input/output error", true)
}

func TestStaleMarkersKeepTheirBits(t *testing.T) {
	r := newReceiver(t, &ingesttest.Recorder{}, nil)
	stale := math.Float64frombits(value.StaleNaN)
	r.check(r.sendMessage(&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{
		{Labels: pairs("__name__", "up"), Samples: []prompb.Sample{{Value: stale, Timestamp: 1}}},
		{Labels: pairs("__name__", "h"), Histograms: []prompb.Histogram{
			prompb.FromIntHistogram(1, &histogram.Histogram{Sum: stale}), prompb.FromFloatHistogram(2, &histogram.FloatHistogram{Sum: stale}),
		}},
	}}, typeV1), 204, "")
	rows := r.store.Rows()
	if len(rows) != 3 || !value.IsStaleNaN(rows[0].V) || !value.IsStaleNaN(rows[1].H.Sum) || !value.IsStaleNaN(rows[2].FH.Sum) {
		t.Errorf("stored %+v", rows)
	}
}
