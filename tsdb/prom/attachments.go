// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// attachmentsFile is in the directory of a block that was made of a log: what Prometheus' format has no place for.
const attachmentsFile = "tidemark.json"

// maxExemplars is how many exemplars of a log are kept, the newest: as many as Prometheus keeps unless it is told
// otherwise.
const maxExemplars = 100_000

// attachments are the exemplars and descriptions that a log held.
type attachments struct {
	Exemplars []seriesExemplars      `json:"exemplars,omitempty"` // in label order
	Metadata  map[string]description `json:"metadata,omitempty"`  // by metric family
}

type seriesExemplars struct {
	Series    labels.Labels    `json:"series"`
	Exemplars []loggedExemplar `json:"exemplars"`
}

type loggedExemplar struct {
	Labels labels.Labels `json:"labels"`
	T      int64         `json:"t"`
	// Bits are those of the value, which may be one that JSON has no number for.
	Bits uint64 `json:"bits,string"`
}

type description struct {
	Type model.MetricType `json:"type"`
	Unit string           `json:"unit,omitempty"`
	Help string           `json:"help"`
}

// exemplarsOf returns what a head knows of exemplars.
func (a *attachments) exemplarsOf(ctx context.Context, head *tsdb.Head) error {
	q, err := head.ExemplarQuerier(ctx)
	if err != nil {
		return fmt.Errorf("exemplars: %w", err)
	}
	found, err := q.Select(math.MinInt64, math.MaxInt64, []*labels.Matcher{})
	if err != nil {
		return fmt.Errorf("exemplars: %w", err)
	}
	for _, s := range found {
		x := seriesExemplars{Series: s.SeriesLabels}
		for _, e := range s.Exemplars {
			x.Exemplars = append(x.Exemplars, loggedExemplar{Labels: e.Labels, T: e.Ts, Bits: math.Float64bits(e.Value)})
		}
		a.Exemplars = append(a.Exemplars, x)
	}
	slices.SortFunc(a.Exemplars, func(x, y seriesExemplars) int { return labels.Compare(x.Series, y.Series) })
	return nil
}

// metadataOf reads the descriptions that a log has, the last one for each metric family. It ends where the log is
// damaged, or has a gap.
func (a *attachments) metadataOf(ctx context.Context, dir string) error {
	x := metadataReader{metrics: map[chunks.HeadSeriesRef]string{}, names: map[string]string{}, found: map[string]description{}}
	first, last, err := wlog.Segments(dir)
	if err != nil {
		return err
	}
	checkpoint, index, err := wlog.LastCheckpoint(dir)
	switch {
	case err == nil:
		from, to, err := wlog.Segments(checkpoint)
		if err == nil {
			err = x.readSegments(ctx, checkpoint, from, to)
		}
		if err != nil {
			return err
		}
		first = max(first, index+1)
	case !errors.Is(err, record.ErrNotFound):
		return err
	}
	err = x.readSegments(ctx, dir, first, last)
	a.Metadata = x.found
	return err
}

// metadataReader finds the descriptions in records of a log, which name series.
type metadataReader struct {
	metrics map[chunks.HeadSeriesRef]string // of the series
	names   map[string]string               // each metric once
	found   map[string]description          // by metric family
}

func (x *metadataReader) readSegments(ctx context.Context, dir string, first, last int) error {
	for i := max(first, 0); i <= last; i++ {
		if err := x.readSegment(ctx, wlog.SegmentName(dir, i)); err != nil {
			return err
		}
	}
	return nil
}

func (x *metadataReader) readSegment(ctx context.Context, name string) error {
	s, err := wlog.OpenReadSegment(name)
	if err != nil {
		return err
	}
	from := wlog.NewSegmentBufReader(s)
	defer func() { _ = from.Close() }() // it was only read
	dec := record.NewDecoder(nil, nil)
	r := wlog.NewReader(from)
	for n := 0; r.Next(); n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := x.take(&dec, r.Record()); err != nil {
			return err
		}
	}
	return r.Err()
}

// take looks at one record, whose texts are those of a buffer that is used again.
func (x *metadataReader) take(dec *record.Decoder, rec []byte) error {
	switch dec.Type(rec) { //nolint:exhaustive // the other records hold no names
	case record.Series:
		series, err := dec.Series(rec, nil)
		if err != nil {
			return err
		}
		for _, s := range series {
			name, ok := x.names[s.Labels.Get(labels.MetricName)]
			if !ok {
				name = strings.Clone(s.Labels.Get(labels.MetricName))
				x.names[name] = name
			}
			x.metrics[s.Ref] = name
		}
	case record.Metadata:
		metas, err := dec.Metadata(rec, nil)
		if err != nil {
			return err
		}
		for _, m := range metas {
			if name := x.metrics[m.Ref]; name != "" {
				d := description{Type: record.ToMetricType(m.Type), Unit: strings.Clone(m.Unit), Help: strings.Clone(m.Help)}
				x.found[d.family(name)] = d
			}
		}
	}
	return nil
}

// family is the name that targets give what is described: histograms and summaries have several series each.
func (d description) family(metric string) string {
	if d.Type != model.MetricTypeHistogram && d.Type != model.MetricTypeGaugeHistogram && d.Type != model.MetricTypeSummary {
		return metric
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if family, ok := strings.CutSuffix(metric, suffix); ok {
			return family
		}
	}
	return metric
}

// write puts the attachments beside the other files of a block.
func (a *attachments) write(dir string) error {
	if len(a.Exemplars) == 0 && len(a.Metadata) == 0 {
		return nil
	}
	return fsx.Publish(fsx.OS(), filepath.Join(dir, attachmentsFile), func(w io.Writer) error { return json.NewEncoder(w).Encode(a) })
}

// readAttachments returns nil where a block has none.
func readAttachments(dir string) (*attachments, error) {
	text, err := os.ReadFile(filepath.Join(dir, attachmentsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	a := &attachments{}
	if err := json.Unmarshal(text, a); err != nil {
		return nil, fmt.Errorf("%s: %w", attachmentsFile, err)
	}
	return a, nil
}

// bytes is about what they take in memory.
func (a *attachments) bytes() int64 {
	if a == nil {
		return 0
	}
	n := int64(0)
	for _, s := range a.Exemplars {
		n += int64(len(s.Series.Bytes(nil)))
		for _, e := range s.Exemplars {
			n += int64(len(e.Labels.Bytes(nil))) + 64
		}
	}
	for name, d := range a.Metadata {
		n += int64(len(name)+len(d.Unit)+len(d.Help)) + 96
	}
	return n
}

// Exemplars implements tsdb.ForeignBlock.
func (b *Block) Exemplars(id uint32, mint, maxt int64) ([]exemplar.Exemplar, error) {
	if b.attached == nil || len(b.attached.Exemplars) == 0 {
		return nil, nil
	}
	pairs, err := b.Pairs(id, nil)
	if err != nil {
		return nil, err
	}
	var sb labels.ScratchBuilder
	for i := 0; i+1 < len(pairs); i += 2 {
		sb.Add(b.Symbol(pairs[i]), b.Symbol(pairs[i+1]))
	}
	at, ok := slices.BinarySearchFunc(b.attached.Exemplars, sb.Labels(), func(s seriesExemplars, ls labels.Labels) int {
		return labels.Compare(s.Series, ls)
	})
	if !ok {
		return nil, nil
	}
	var out []exemplar.Exemplar
	for _, e := range b.attached.Exemplars[at].Exemplars {
		if e.T >= mint && e.T <= maxt {
			out = append(out, exemplar.Exemplar{Labels: e.Labels, Value: math.Float64frombits(e.Bits), Ts: e.T, HasTs: true})
		}
	}
	slices.SortStableFunc(out, func(x, y exemplar.Exemplar) int { return cmp.Compare(x.Ts, y.Ts) })
	return out, nil
}

// Metadata implements tsdb.ForeignBlock.
func (b *Block) Metadata() iter.Seq2[string, metadata.Metadata] {
	return func(yield func(string, metadata.Metadata) bool) {
		if b.attached == nil {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(b.attached.Metadata)) {
			d := b.attached.Metadata[name]
			if !yield(name, metadata.Metadata{Type: d.Type, Unit: d.Unit, Help: d.Help}) {
				return
			}
		}
	}
}
