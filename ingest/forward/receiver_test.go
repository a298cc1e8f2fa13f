// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// receiver is a server that takes remote write of both versions and writes down what came, a line for each sample.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	lines    []string // guarded by mu
	families []string // guarded by mu
	requests int      // guarded by mu
	// answer says with which status a request is answered; nil: with 200. What is not taken is not written down.
	answer func(request int) int
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	x := &receiver{}
	x.Server = httptest.NewServer(x)
	t.Cleanup(x.Close)
	return x
}

func (x *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.requests++
	if x.answer != nil {
		if status := x.answer(x.requests); status != http.StatusOK {
			http.Error(w, "not now", status)
			return
		}
	}
	packed, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	raw, err := compression.Decode(compression.Snappy, packed, compression.NewSyncDecodeBuffer())
	if err == nil && strings.Contains(r.Header.Get("Content-Type"), "io.prometheus.write.v2.Request") {
		err = x.takeV2(raw)
		w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", "1")
	} else if err == nil {
		err = x.takeV1(raw)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func (x *receiver) takeV1(raw []byte) error {
	var m prompb.WriteRequest
	if err := m.Unmarshal(raw); err != nil {
		return err
	}
	var b labels.ScratchBuilder
	for _, s := range m.Timeseries {
		name := s.ToLabels(&b, nil).String()
		for _, p := range s.Samples {
			x.lines = append(x.lines, fmt.Sprintf("%s %v @%d", name, p.Value, p.Timestamp))
		}
		for _, h := range s.Histograms {
			if h.IsFloatHistogram() {
				x.lines = append(x.lines, fmt.Sprintf("%s float %s @%d", name, h.ToFloatHistogram(), h.Timestamp))
			} else {
				x.lines = append(x.lines, fmt.Sprintf("%s %s @%d", name, h.ToIntHistogram(), h.Timestamp))
			}
		}
		for _, p := range s.Exemplars {
			x.lines = append(x.lines, fmt.Sprintf("%s exemplar %s %v @%d", name, p.ToExemplar(&b, nil).Labels, p.Value, p.Timestamp))
		}
	}
	for _, f := range m.Metadata {
		x.families = append(x.families, fmt.Sprintf("%s %s %q %q", f.MetricFamilyName, f.Type, f.Unit, f.Help))
	}
	return nil
}

func (x *receiver) takeV2(raw []byte) error {
	var m writev2.Request
	if err := m.Unmarshal(raw); err != nil {
		return err
	}
	var b labels.ScratchBuilder
	for _, s := range m.Timeseries {
		ls, err := s.ToLabels(&b, m.Symbols)
		if err != nil {
			return err
		}
		meta, err := s.ToMetadata(m.Symbols)
		if err != nil {
			return err
		}
		if meta.Help != "" {
			x.families = append(x.families, fmt.Sprintf("%s %s %q %q", ls.Get("__name__"), meta.Type, meta.Unit, meta.Help))
		}
		for _, p := range s.Samples {
			x.lines = append(x.lines, fmt.Sprintf("%s %v @%d since %d", ls, p.Value, p.Timestamp, p.StartTimestamp))
		}
		for _, h := range s.Histograms {
			if h.IsFloatHistogram() {
				x.lines = append(x.lines, fmt.Sprintf("%s float %s @%d", ls, h.ToFloatHistogram(), h.Timestamp))
			} else {
				x.lines = append(x.lines, fmt.Sprintf("%s %s @%d", ls, h.ToIntHistogram(), h.Timestamp))
			}
		}
		for _, p := range s.Exemplars {
			e, err := p.ToExemplar(&b, m.Symbols)
			if err != nil {
				return err
			}
			x.lines = append(x.lines, fmt.Sprintf("%s exemplar %s %v @%d", ls, e.Labels, e.Value, e.Ts))
		}
	}
	return nil
}

// got returns what came, in the order in which it came.
func (x *receiver) got() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.lines)
}

// store is the series of a store.
type store struct {
	mu     sync.Mutex
	series map[sample.Ref]labels.Labels // guarded by mu
	lsn    sample.LSN                   // guarded by mu
	said   map[string]sample.Metadata   // guarded by mu: by metric name
}

// describe notes what a batch says of its metrics.
func (s *store) describe(b *sample.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.said == nil {
		s.said = map[string]sample.Metadata{}
	}
	for _, m := range b.Meta {
		s.said[s.series[m.Ref].Get(labels.MetricName)] = sample.Metadata{Type: m.Type, Unit: m.Unit, Help: m.Help}
	}
}

func (s *store) Description(metric string) (sample.Metadata, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.said[metric]
	return m, ok
}

// commit returns the LSN of a new record.
func (s *store) commit() sample.LSN {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lsn++
	return s.lsn
}

func (s *store) LastLSN() sample.LSN {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lsn
}

func (s *store) LabelsOf(ref sample.Ref) (labels.Labels, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ls, ok := s.series[ref]
	return ls, ok
}

// ref makes a series.
func (s *store) ref(id uint32, text ...string) sample.Ref {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.series == nil {
		s.series = map[sample.Ref]labels.Labels{}
	}
	ref := sample.MakeRef(1, id)
	for s.series[ref].Len() > 0 {
		ref = sample.MakeRef(ref.Generation()+1, id)
	}
	s.series[ref] = labels.FromStrings(text...)
	return ref
}

// leave removes a series.
func (s *store) leave(ref sample.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.series, ref)
}
