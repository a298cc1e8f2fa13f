// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/klauspost/compress/gzhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/web/api"
)

// federation serves /federate: the newest sample of each series that matches, in the formats a scrape reads.
type federation struct {
	server *Server
	src    api.Sources
	now    func() time.Time
}

func (s *Server) federation(src api.Sources) (http.Handler, error) {
	compress, err := gzhttp.NewWrapper(gzhttp.MinSize(1024), gzhttp.CompressionLevel(1))
	if err != nil {
		return nil, err
	}
	return compress(&federation{server: s, src: src, now: time.Now}), nil
}

// newest is the last sample of a series; h is nil for a float.
type newest struct {
	ls   labels.Labels
	name string
	t    int64
	v    float64
	h    *histogram.FloatHistogram
}

// ServeHTTP implements http.Handler.
func (f *federation) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.src.Agent {
		http.Error(w, api.ErrAgentStorage.Error(), http.StatusInternalServerError)
		return
	}
	if err := r.ParseForm(); err != nil {
		http.Error(w, fmt.Sprintf("error parsing form values: %v", err), http.StatusBadRequest)
		return
	}
	sets, err := f.server.opts.Parser.ParseMetricSelectors(r.Form["match[]"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	found, err := f.collect(r.Context(), sets)
	if err != nil {
		f.server.metrics.federationErrors.Inc()
		status := http.StatusInternalServerError
		if e, ok := errors.AsType[*sample.UnavailableError](err); ok {
			status = http.StatusServiceUnavailable
			w.Header().Set("Retry-After", strconv.Itoa(int(e.RetryAfter.Seconds())+1))
		}
		http.Error(w, err.Error(), status)
		return
	}
	format := expfmt.NegotiateAccept(r.Header, expfmt.NewFormat(expfmt.TypeProtoDelim), expfmt.NewFormat(expfmt.TypeProtoText),
		expfmt.NewFormat(expfmt.TypeProtoCompact), expfmt.NewFormat(expfmt.TypeTextPlain))
	w.Header().Set("Content-Type", string(format))
	if err := f.write(expfmt.NewEncoder(w, format), found, format.FormatType() != expfmt.TypeTextPlain); err != nil {
		f.server.metrics.federationErrors.Inc()
		f.server.log.Error("federation ended early", "err", err)
	}
}

// collect returns the newest sample of every series that matches any of sets, by name and labels.
func (f *federation) collect(ctx context.Context, sets [][]*labels.Matcher) (out []newest, err error) {
	maxt := f.now().UnixMilli()
	src := f.src.Local
	if src == nil {
		src = f.src.Data
	}
	view, err := src.View(maxt-f.server.opts.LookbackDelta.Milliseconds(), maxt)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	for _, ms := range sets {
		if out, err = appendNewest(ctx, view, ms, out); err != nil {
			return nil, err
		}
	}
	if ws := view.Warnings(); len(ws) > 0 {
		f.server.metrics.federationWarnings.Add(float64(len(ws)))
		f.server.log.Debug("federation read with warnings", "warnings", ws)
	}
	slices.SortFunc(out, func(a, b newest) int { return cmp.Or(cmp.Compare(a.name, b.name), labels.Compare(a.ls, b.ls)) })
	return slices.CompactFunc(out, func(a, b newest) bool { return labels.Equal(a.ls, b.ls) }), nil
}

func appendNewest(ctx context.Context, view column.View, ms []*labels.Matcher, out []newest) ([]newest, error) {
	set, err := view.Series(ctx, ms, column.Hint{})
	if err != nil {
		return nil, err
	}
	ids := make([]uint32, set.N)
	for i := range ids {
		ids[i] = uint32(i)
	}
	var block column.Block
	b := labels.NewScratchBuilder(len(set.Names))
	for len(ids) > 0 {
		n, err := view.Scan(ctx, set, ids, column.Need{}, &block)
		if err != nil {
			return nil, err
		}
		for i := range n {
			from, to := block.Rows(i)
			if from == to {
				continue
			}
			x := newestOf(&block, to-1)
			if isStale(x) {
				// No format has stale markers; a target that is gone is simply not listed.
				continue
			}
			x.ls = set.Labels(ids[i], &b)
			x.name = x.ls.Get(labels.MetricName)
			out = append(out, x)
		}
		ids = ids[n:]
	}
	return out, nil
}

func newestOf(b *column.Block, row int) newest {
	x := newest{t: b.T[row]}
	switch b.KindAt(row) {
	case sample.Histogram:
		x.h = b.H.Int[row].ToFloat(nil)
	case sample.FloatHistogram:
		x.h = b.H.Float[row]
	default:
		x.v = b.V[row]
	}
	return x
}

func isStale(x newest) bool {
	if x.h != nil {
		return value.IsStaleNaN(x.h.Sum)
	}
	return value.IsStaleNaN(x.v)
}

// familyKind tells metric families of one name apart: those of floats, of counter and of gauge histograms.
type familyKind struct {
	name             string
	histogram, gauge bool
}

func kindOf(x newest) familyKind {
	return familyKind{x.name, x.h != nil, x.h != nil && x.h.CounterResetHint == histogram.GaugeType}
}

// write encodes samples as metric families. Native histograms need protobuf and are left out of text, but for
// those with custom buckets, which are classic histograms there.
func (f *federation) write(enc expfmt.Encoder, samples []newest, protobuf bool) error {
	external := f.externalLabels()
	var family *dto.MetricFamily
	var kind familyKind
	for _, x := range samples {
		if x.name == "" {
			f.server.log.Warn("series without a name left out of federation", "series", x.ls)
			continue
		}
		if x.h != nil && !protobuf && !x.h.UsesCustomBuckets() {
			continue
		}
		if k := kindOf(x); family == nil || k != kind {
			if family != nil {
				if err := enc.Encode(family); err != nil {
					return err
				}
			}
			family, kind = newFamily(k), k
		}
		family.Metric = append(family.Metric, newMetric(x, external))
	}
	if family == nil {
		return nil
	}
	return enc.Encode(family)
}

// externalLabels returns the configured labels, and an empty instance: it keeps the scraping server from giving
// the samples this server's instance.
func (f *federation) externalLabels() labels.Labels {
	b := labels.NewBuilder(labels.EmptyLabels())
	if f.src.ExternalLabels != nil {
		b.Reset(f.src.ExternalLabels())
	}
	return b.Labels()
}

func newFamily(k familyKind) *dto.MetricFamily {
	typ := dto.MetricType_UNTYPED
	switch {
	case k.gauge:
		typ = dto.MetricType_GAUGE_HISTOGRAM
	case k.histogram:
		typ = dto.MetricType_HISTOGRAM
	}
	return &dto.MetricFamily{Name: new(k.name), Type: typ.Enum()}
}

func newMetric(x newest, external labels.Labels) *dto.Metric {
	m := &dto.Metric{TimestampMs: new(x.t)}
	add := func(name, value string) {
		m.Label = append(m.Label, &dto.LabelPair{Name: new(name), Value: new(value)})
	}
	x.ls.Range(func(l labels.Label) {
		if l.Name != labels.MetricName && l.Value != "" {
			add(l.Name, l.Value)
		}
	})
	instance := x.ls.Get(model.InstanceLabel) != "" || external.Get(model.InstanceLabel) != ""
	external.Range(func(l labels.Label) {
		if !instance && l.Name > model.InstanceLabel {
			add(model.InstanceLabel, "")
			instance = true
		}
		if x.ls.Get(l.Name) == "" {
			add(l.Name, l.Value)
		}
	})
	if !instance {
		add(model.InstanceLabel, "")
	}
	switch {
	case x.h == nil:
		m.Untyped = &dto.Untyped{Value: new(x.v)}
	case x.h.UsesCustomBuckets():
		m.Histogram = classicHistogram(x.h)
	default:
		m.Histogram = nativeHistogram(x.h)
	}
	return m
}

func nativeHistogram(h *histogram.FloatHistogram) *dto.Histogram {
	return &dto.Histogram{
		SampleCountFloat: new(h.Count), SampleSum: new(h.Sum),
		Schema: new(h.Schema), ZeroThreshold: new(h.ZeroThreshold), ZeroCountFloat: new(h.ZeroCount),
		PositiveSpan: bucketSpans(h.PositiveSpans), PositiveCount: h.PositiveBuckets,
		NegativeSpan: bucketSpans(h.NegativeSpans), NegativeCount: h.NegativeBuckets,
	}
}

func bucketSpans(spans []histogram.Span) []*dto.BucketSpan {
	var out []*dto.BucketSpan
	for _, s := range spans {
		out = append(out, &dto.BucketSpan{Offset: new(s.Offset), Length: new(s.Length)})
	}
	return out
}

// classicHistogram writes custom buckets as cumulative ones. The encoder adds the one up to infinity.
func classicHistogram(h *histogram.FloatHistogram) *dto.Histogram {
	out := &dto.Histogram{SampleCountFloat: new(h.Count), SampleSum: new(h.Sum)}
	counts := make([]float64, len(h.CustomValues)+1)
	for it := h.PositiveBucketIterator(); it.Next(); {
		if b := it.At(); int(b.Index) < len(counts) {
			counts[b.Index] = b.Count
		}
	}
	total := 0.0
	for i, bound := range h.CustomValues {
		total += counts[i]
		out.Bucket = append(out.Bucket, &dto.Bucket{UpperBound: new(bound), CumulativeCountFloat: new(total)})
	}
	return out
}
