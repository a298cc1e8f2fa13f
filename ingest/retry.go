// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// retry is the second batch of a Request: the rows of series that left the store since the key table learned them.
type retry struct {
	batch  sample.Batch
	result sample.Result
	rows   []int // their rows in the first batch
}

// commitStale resolves the series of the rows that were answered StaleRef again, commits those rows once more and
// puts their fate into the result.
func (r *Request) commitStale(ctx context.Context, labelsOf LabelsOf) (sample.LSN, error) {
	again := &r.retry
	again.rows = again.rows[:0]
	for row, reason := range r.result.Reason {
		if reason == sample.StaleRef {
			again.rows = append(again.rows, row)
		}
	}
	if len(again.rows) == 0 {
		return 0, nil
	}
	r.in.metrics.staleRefs.Add(float64(len(again.rows)))
	if err := r.resolveStale(labelsOf); err != nil || len(again.rows) == 0 {
		return 0, err
	}
	lsn, err := r.in.appender.Commit(ctx, &again.batch, &again.result)
	if err != nil {
		return 0, fmt.Errorf("commit a request once more: %w", err)
	}
	for i, row := range again.rows {
		r.result.Reason[row] = again.result.At(i)
		if again.result.At(i) == sample.StaleRef {
			return 0, errors.New("a series left the store twice while it was written: send the request again")
		}
	}
	r.result.Floats += again.result.Floats
	r.result.Histograms += again.result.Histograms
	r.result.Exemplars += again.result.Exemplars
	return lsn, nil
}

// resolveStale fills the second batch: the rows in question with their series' new refs, and what hangs on them.
func (r *Request) resolveStale(labelsOf LabelsOf) error {
	again := &r.retry
	again.batch.Reset()
	var which []int
	var sets []labels.Labels
	for _, row := range again.rows {
		i := r.seriesOfRow(row)
		if len(which) > 0 && which[len(which)-1] == i {
			continue
		}
		ls, err := labelsOf(i)
		if err != nil {
			return fmt.Errorf("parse the labels of a series once more: %w", err)
		}
		if err := r.Charge(int64(ls.ByteSize()) + setBytes); err != nil {
			return err
		}
		which, sets = append(which, i), append(sets, ls)
	}
	refs := make([]sample.Ref, len(sets))
	err := r.in.appender.Resolve(sets, refs)
	if limit, ok := errors.AsType[*sample.RefusedError](err); ok {
		err = limit.Err // those that a limit refuses stay stale
	}
	if err != nil {
		return fmt.Errorf("resolve the series of a request once more: %w", err)
	}
	for n, i := range which {
		s := &r.series[i]
		old := s.ref
		if s.ref, s.known = refs[n], false; s.ref == 0 {
			continue
		}
		for e := s.exemplar; e < r.exemplarEnd(i); e++ {
			x := r.batch.Exemplars[e]
			x.Ref = s.ref
			again.batch.Exemplars = append(again.batch.Exemplars, x)
		}
		s.hasMeta, s.oldMeta = false, 0 // the new series has none, so that the sender's next is stored
		for _, m := range r.batch.Meta {
			if m.Ref == old {
				m.Ref = s.ref
				again.batch.Meta = append(again.batch.Meta, m)
			}
		}
	}
	again.rows = slices.DeleteFunc(again.rows, func(row int) bool { return r.series[r.seriesOfRow(row)].ref == 0 })
	for _, row := range again.rows {
		copyRow(&again.batch, &r.batch, row, r.series[r.seriesOfRow(row)].ref)
	}
	return nil
}

// dropHomeless takes the rows, exemplars and metadata without a series out of the batch.
func (r *Request) dropHomeless() { r.dropHomelessFrom(0) }

// dropHomelessFrom does where it is known that the first such series is from, or behind it.
func (r *Request) dropHomelessFrom(from int) {
	kept := &r.retry.batch
	kept.Reset()
	begin := r.series[from].row
	exemplars := r.series[from].exemplar
	for i := from; i < len(r.series); i++ {
		s := &r.series[i]
		lo, hi := r.rows(i)
		first, last := s.exemplar, r.exemplarEnd(i)
		s.row, s.exemplar = begin+int32(kept.Len()), exemplars
		for row := lo; row < hi; row++ {
			if ref := r.batch.Ref[row]; ref != 0 {
				copyRow(kept, &r.batch, int(row), ref)
			}
		}
		for _, e := range r.batch.Exemplars[first:last] {
			if e.Ref != 0 {
				r.batch.Exemplars[exemplars] = e
				exemplars++
			}
		}
	}
	r.cut(begin, exemplars)
	for row := range kept.Len() {
		copyRow(&r.batch, kept, row, kept.Ref[row])
	}
	r.batch.Meta = slices.DeleteFunc(r.batch.Meta, func(m sample.Metadata) bool { return m.Ref == 0 })
}

// cut cuts the rows from one on off the batch, and exemplars likewise.
func (r *Request) cut(row, exemplar int32) {
	b := &r.batch
	b.Ref, b.T, b.V = b.Ref[:row], b.T[:row], b.V[:row]
	if b.ST != nil {
		b.ST = b.ST[:row]
	}
	if b.Flags != nil {
		b.Flags = b.Flags[:row]
	}
	if b.Kind != nil {
		b.Kind, b.H, b.FH = b.Kind[:row], b.H[:row], b.FH[:row]
	}
	b.Exemplars = b.Exemplars[:exemplar]
}

func copyRow(dst, src *sample.Batch, row int, ref sample.Ref) {
	switch src.KindAt(row) {
	case sample.Float:
		dst.AppendFloat(ref, src.STAt(row), src.T[row], src.V[row], src.FlagsAt(row))
	case sample.Histogram, sample.FloatHistogram:
		dst.AppendHistogram(ref, src.STAt(row), src.T[row], src.H[row], src.FH[row], src.FlagsAt(row))
	}
}
