// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// retry is the second batch of a Request: the rows of series that left the store since the key table learned them.
type retry struct {
	batch  sample.Batch
	result sample.Result
	rows   []int   // their rows in the first batch
	series []int32 // of the request, that left; some without rows
}

// commitStale resolves the series of the rows that were answered StaleRef again, commits those rows once more and
// puts their fate into the result. Those of which no series is made stay as they are, for countLost.
func (r *Request) commitStale(ctx context.Context, labelsOf LabelsOf) (sample.LSN, error) {
	again := &r.retry
	again.rows, again.series = again.rows[:0], again.series[:0]
	for row, reason := range r.result.Reason {
		if reason != sample.StaleRef {
			continue
		}
		again.rows = append(again.rows, row)
		if i := r.seriesOfRow(row); len(again.series) == 0 || again.series[len(again.series)-1] != int32(i) {
			again.series = append(again.series, int32(i))
		}
	}
	r.findStaleExemplars()
	if len(again.series) == 0 {
		return 0, nil
	}
	r.in.metrics.staleRefs.Add(float64(len(again.rows)))
	if err := r.resolveStale(labelsOf); err != nil {
		return 0, err
	}
	if again.batch.Len() == 0 && len(again.batch.Exemplars) == 0 {
		return 0, nil
	}
	lsn, err := r.in.appender.Commit(ctx, &again.batch, &again.result)
	if err != nil {
		return 0, fmt.Errorf("commit a request once more: %w", err)
	}
	for i, row := range again.rows {
		r.result.Reason[row] = again.result.At(i)
		if again.result.At(i) == sample.StaleRef {
			return 0, &sample.UnavailableError{
				RetryAfter: retryAfter, Err: errors.New("a series left the store twice while it was written: send the request again"),
			}
		}
	}
	r.result.Floats += again.result.Floats
	r.result.Histograms += again.result.Histograms
	r.result.Exemplars += again.result.Exemplars
	return lsn, nil
}

// findStaleExemplars adds the series with exemplars and no rows that left the store, of which no row says so. They are
// looked at only where some exemplar was not stored.
func (r *Request) findStaleExemplars() {
	store, ok := r.in.appender.(labeller)
	if !ok || r.result.Exemplars == len(r.batch.Exemplars) {
		return
	}
	for i := range r.series {
		s := &r.series[i]
		if lo, hi := r.rows(i); lo < hi || s.ref == 0 || s.exemplar == r.exemplarEnd(i) {
			continue
		}
		if _, live := store.LabelsOf(s.ref); !live {
			r.retry.series = append(r.retry.series, int32(i))
		}
	}
}

// resolveStale fills the second batch: the rows in question with their series' new refs, and what hangs on them.
func (r *Request) resolveStale(labelsOf LabelsOf) error {
	again := &r.retry
	again.batch.Reset()
	clear(r.labels)
	r.unknown, r.labels = append(r.unknown[:0], again.series...), r.labels[:0]
	for _, i := range r.unknown {
		ls, err := labelsOf(int(i))
		if err != nil {
			return fmt.Errorf("parse the labels of a series once more: %w", err)
		}
		if err := r.Charge(int64(ls.ByteSize()) + setBytes); err != nil {
			return err
		}
		r.labels = append(r.labels, ls)
	}
	if err := r.resolveUnknown(); err != nil {
		return fmt.Errorf("resolve the series of a request once more: %w", err)
	}
	moved := make(map[sample.Ref]sample.Ref, len(r.unknown))
	for n, i := range r.unknown {
		s := &r.series[i]
		moved[s.ref] = r.refs[n]
		s.ref, s.known = r.refs[n], false
		s.hasMeta, s.oldMeta = false, 0 // the new series has none, so that the sender's next is stored
	}
	again.rows = slices.DeleteFunc(again.rows, func(row int) bool { return moved[r.batch.Ref[row]] == 0 })
	for _, row := range again.rows {
		copyRow(&again.batch, &r.batch, row, moved[r.batch.Ref[row]])
	}
	// Some senders put the exemplars and metadata of a series into one without rows.
	for _, e := range r.batch.Exemplars {
		if e.Ref = moved[e.Ref]; e.Ref != 0 {
			again.batch.Exemplars = append(again.batch.Exemplars, e)
		}
	}
	for _, m := range r.batch.Meta {
		if m.Ref = moved[m.Ref]; m.Ref != 0 {
			again.batch.Meta = append(again.batch.Meta, m)
		}
	}
	return nil
}

// countLost counts the rows of series that left the store, of which it made none anew. It returns how many those are for
// which there was no memory.
func (r *Request) countLost(out *Outcome) (full int) {
	if len(r.retry.series) == 0 {
		return 0
	}
	for n, i := range r.unknown[:r.asked] {
		if r.refs[n] != 0 {
			continue
		}
		lo, hi := r.rows(int(i))
		r.addHomeless(out, n, int(hi-lo))
		if r.refusal(n) == "" {
			full += int(hi - lo)
		}
	}
	return full
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
