// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/otlptranslator"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/otlp"
)

// row is a sample as a text that tells everything.
func row(series string, st, t int64, v float64, h *histogram.Histogram) string {
	value := fmt.Sprintf("%x", math.Float64bits(v))
	if h != nil {
		h = h.Copy().Compact(0)
		value = fmt.Sprintf("%v hint %d schema %d custom %v zero %v %d count %d sum %x", h, h.CounterResetHint, h.Schema, h.CustomValues,
			h.ZeroThreshold, h.ZeroCount, h.Count, math.Float64bits(h.Sum))
	}
	return fmt.Sprintf("%s %d..%d %s", series, st, t, value)
}

// stored is what came of requests.
type stored struct {
	rows, exemplars []string // sorted
	meta            map[string]string
}

func (s *stored) sort() {
	slices.Sort(s.rows)
	slices.Sort(s.exemplars)
	s.rows = slices.Compact(s.rows)
}

func metaText(kind, unit, help string) string { return fmt.Sprintf("%s %q %q", kind, unit, help) }

// peer is what Prometheus' handler appends to.
type peer struct{ stored }

func (p *peer) AppenderV2(context.Context) storage.AppenderV2 { return p }
func (*peer) Commit() error                                   { return nil }
func (*peer) Rollback() error                                 { return nil }

func (p *peer) Append(_ storage.SeriesRef, ls labels.Labels, st, t int64, v float64, h *histogram.Histogram, _ *histogram.FloatHistogram, o storage.AOptions) (storage.SeriesRef, error) {
	p.rows = append(p.rows, row(ls.String(), st, t, v, h))
	p.meta[ls.String()] = metaText(string(o.Metadata.Type), o.Metadata.Unit, o.Metadata.Help)
	for _, e := range o.Exemplars {
		p.exemplars = append(p.exemplars, ls.String()+" # "+e.Labels.String())
	}
	return 1, nil
}

// subject is our handler on a recorder.
type subject struct {
	*otlp.Handler
	recorder *ingesttest.Recorder
}

func newSubject(t testing.TB, o otlp.Options, recorder *ingesttest.Recorder) subject {
	t.Helper()
	return subject{newHandler(t, recorder, o), recorder}
}

func (s subject) stored() *stored {
	out := &stored{meta: map[string]string{}}
	for _, r := range s.recorder.Rows() {
		out.rows = append(out.rows, row(r.Series, r.ST, r.T, r.V, r.H))
		if m := s.recorder.Metadata(r.Series); m.Type != "" {
			out.meta[r.Series] = metaText(m.Type, m.Unit, m.Help)
		}
	}
	out.exemplars = s.recorder.Exemplars()
	out.sort()
	return out
}

func marshal(t testing.TB, md pmetric.Metrics) []byte {
	t.Helper()
	body, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func post(h http.Handler, contentType string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/api/v1/otlp/v1/metrics", bytes.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const protobuf = "application/x-protobuf"

var configs = map[string]func(*promconfig.OTLPConfig){
	"the default": func(*promconfig.OTLPConfig) {},
	"escaped, no suffixes": func(c *promconfig.OTLPConfig) {
		c.TranslationStrategy = otlptranslator.UnderscoreEscapingWithoutSuffixes
	},
	"not escaped, suffixes": func(c *promconfig.OTLPConfig) { c.TranslationStrategy = otlptranslator.NoUTF8EscapingWithSuffixes },
	"not translated":        func(c *promconfig.OTLPConfig) { c.TranslationStrategy = otlptranslator.NoTranslation },
	"promoted": func(c *promconfig.OTLPConfig) {
		c.PromoteResourceAttributes = []string{"http.method", "k8s.pod.name"}
		c.KeepIdentifyingResourceAttributes = true
		c.LabelNameUnderscoreSanitization = true
	},
	"all promoted but some": func(c *promconfig.OTLPConfig) {
		c.PromoteAllResourceAttributes, c.IgnoreResourceAttributes = true, []string{"code"}
		c.PromoteScopeMetadata = true
		c.LabelNamePreserveMultipleUnderscores = true
	},
	"custom buckets": func(c *promconfig.OTLPConfig) { c.ConvertHistogramsToNHCB = true },
}

// compare sends the same requests to both, twice: the second time ours knows all series.
func compare(t *testing.T, c promconfig.OTLPConfig, o otlp.Options, g *generator) {
	t.Helper()
	p := &peer{stored{meta: map[string]string{}}}
	theirs := remote.NewOTLPWriteHandler(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), p, func() promconfig.Config {
		return promconfig.Config{OTLPConfig: c}
	}, remote.OTLPOptions{NativeDelta: o.Deltas == otlp.KeepDeltas, EnableTypeAndUnitLabels: o.TypeAndUnitLabels})
	ours := newSubject(t, o, &ingesttest.Recorder{})
	if err := ours.SetConfig(c); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		body := marshal(t, g.metrics())
		for range 2 {
			post(theirs, protobuf, body)
			if w := post(ours, protobuf, body); w.Code != http.StatusOK {
				t.Fatalf("answer %d: %s", w.Code, w.Body)
			}
		}
	}
	p.sort()
	same(t, ours.stored(), &p.stored)
	if t.Failed() {
		t.Logf("%d rows", len(p.rows))
	}
}

// same compares what is stored; samples that a peer did not store because another one of their metric was wrong may be there.
func same(t *testing.T, got, want *stored) {
	t.Helper()
	diff := func(what string, got, want []string) {
		for len(got) > 0 || len(want) > 0 {
			order := 0
			switch {
			case len(got) == 0:
				order = 1
			case len(want) == 0:
				order = -1
			default:
				order = cmp.Compare(got[0], want[0])
			}
			if order < 0 {
				t.Errorf("%s that Prometheus does not store: %s", what, got[0])
			}
			if order > 0 {
				t.Errorf("%s is missing: %s", what, want[0])
			}
			if order <= 0 {
				got = got[1:]
			}
			if order >= 0 {
				want = want[1:]
			}
		}
	}
	diff("a row", got.rows, want.rows)
	diff("an exemplar", got.exemplars, want.exemplars)
	for series, meta := range want.meta {
		if got.meta[series] != meta && (meta != metaText("unknown", "", "") || got.meta[series] != "") {
			t.Errorf("metadata of %s is %s, want %s", series, got.meta[series], meta)
		}
	}
}

func TestSamplesAreThoseOfPrometheus(t *testing.T) {
	for name, set := range configs {
		t.Run(name, func(t *testing.T) {
			c := promconfig.DefaultOTLPConfig
			set(&c)
			for seed := range uint64(30) {
				o := otlp.Options{TypeAndUnitLabels: seed%3 == 0}
				g := newGenerator(seed)
				if seed%4 == 0 {
					o.Deltas, g.deltas = otlp.KeepDeltas, true
				}
				compare(t, c, o, g)
				if t.Failed() {
					t.Fatalf("seed %d, %+v", seed, o)
				}
			}
		})
	}
}
