// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// appender collects one batch from a caller of Prometheus' interface, which wants to hear at Append what Commit
// will say. Append asks the head how it would judge the row now; Commit judges again, and its word counts.
type appender struct {
	ctx     context.Context
	storage *promStorage
	db      *DB
	limits  head.Limits
	oldest  int64 // samples before it are out of bounds, whatever their series holds
	batch   sample.Batch
	labels  []labels.Labels // of each row, for series that leave the head before Commit
}

// Append adds one row; see storage.AppenderV2.
func (a *appender) Append(ref storage.SeriesRef, ls labels.Labels, st, t int64, v float64,
	h *histogram.Histogram, fh *histogram.FloatHistogram, opts storage.AOptions,
) (storage.SeriesRef, error) {
	if err := a.db.users.enter(); err != nil {
		return 0, err
	}
	defer a.db.users.leave()
	r, err := a.resolve(sample.Ref(ref), ls)
	if refused, ok := errors.AsType[*sample.RefusedError](err); ok && refused.Err == nil {
		return 0, nil // an error would be one of the whole scrape; the gate has counted it
	}
	if err != nil {
		return 0, err
	}
	if err := validHistogram(h, fh); err != nil {
		return 0, err
	}
	flags := sample.Scraped
	if opts.RejectOutOfOrder {
		flags |= sample.RejectOutOfOrder
	}
	if t < a.oldest {
		return 0, storage.ErrOutOfBounds
	}
	row := head.Row{Ref: r, T: t, V: v, H: h, FH: fh, Flags: flags}
	if a.db.whole() { // else nobody can tell: the series' newest sample may be one that is not read yet
		reason := a.db.head.Check(row, a.limits)
		if err := reasonError(reason, a.limits); err != nil {
			a.db.refusals.add(reason, valueKind(h, fh))
			return 0, err
		}
	}
	if h == nil && fh == nil {
		a.batch.AppendFloat(r, st, t, v, flags)
	} else {
		a.batch.AppendHistogram(r, st, t, h, fh, flags)
	}
	a.labels = append(a.labels, ls)
	if m := opts.Metadata; !m.IsEmpty() {
		family := opts.MetricFamilyName
		if family == "" {
			family = ls.Get(labels.MetricName)
		}
		if a.storage.metadataChanged(family, m) {
			a.batch.Meta = append(a.batch.Meta, sample.Metadata{Ref: r, Type: string(m.Type), Unit: m.Unit, Help: m.Help})
		}
	}
	return storage.SeriesRef(r), a.appendExemplars(r, t, opts.Exemplars)
}

// resolve returns a Ref that is in use: the caller's, where it still is, or that of ls.
func (a *appender) resolve(ref sample.Ref, ls labels.Labels) (sample.Ref, error) {
	if ref != 0 && a.db.head.Live(ref) {
		return ref, nil
	}
	refs := [1]sample.Ref{}
	if err := a.db.Resolve([]labels.Labels{ls}, refs[:]); err != nil {
		return 0, err
	}
	return refs[0], nil
}

func valueKind(h *histogram.Histogram, fh *histogram.FloatHistogram) sample.Kind {
	switch {
	case h != nil:
		return sample.Histogram
	case fh != nil:
		return sample.FloatHistogram
	}
	return sample.Float
}

func validHistogram(h *histogram.Histogram, fh *histogram.FloatHistogram) error {
	switch {
	case h != nil:
		return h.Validate()
	case fh != nil:
		return fh.Validate()
	}
	return nil
}

// reasonError is the error that Prometheus' callers know for the fate of a row, nil where it is stored.
func reasonError(r sample.Reason, lim head.Limits) error {
	switch r {
	case sample.Accepted, sample.Same:
		return nil
	case sample.Conflict:
		return storage.ErrDuplicateSampleForTimestamp
	case sample.OutOfOrder:
		return storage.ErrOutOfOrderSample
	case sample.TooOld:
		if lim.MinScrape == head.NoLate {
			return storage.ErrOutOfBounds
		}
		return storage.ErrTooOldSample
	case sample.TooNew:
		return storage.ErrOutOfBounds
	case sample.StaleRef:
		return storage.ErrNotFound
	case sample.Invalid:
		return errors.New("the histogram is malformed")
	case sample.OverLimit:
		return errors.New("the memory budget has no room for the sample")
	}
	return fmt.Errorf("the sample was not stored: %s", r)
}

// appendExemplars takes what of the exemplars can be stored; the rest is an AppendPartialError.
func (a *appender) appendExemplars(ref sample.Ref, t int64, es []exemplar.Exemplar) error {
	var partial storage.AppendPartialError
	for _, e := range es {
		x := sample.Exemplar{Ref: ref, Labels: e.Labels, V: e.Value, T: e.Ts, HasT: e.HasTs}
		if !e.HasTs {
			x.T = t
		}
		var err error
		if a.db.whole() {
			err = a.db.head.CheckExemplar(x)
		}
		switch {
		case err == nil:
			a.batch.Exemplars = append(a.batch.Exemplars, x)
		case errors.Is(err, head.ErrSameExemplar):
		case errors.Is(err, head.ErrExemplarOrder):
			partial.ExemplarErrors = append(partial.ExemplarErrors, storage.ErrOutOfOrderExemplar)
		default:
			partial.ExemplarErrors = append(partial.ExemplarErrors, err)
		}
	}
	return partial.ToError()
}

// Commit stores the batch and waits until it survives a crash; the syncs of many scrapes are shared.
func (a *appender) Commit() error {
	var r sample.Result
	lsn, err := a.db.Commit(context.WithoutCancel(a.ctx), &a.batch, &r)
	if err != nil {
		a.storage.forgetFamilies(len(a.batch.Meta))
		return err
	}
	if again, err := a.staleRows(&r); err != nil {
		return err
	} else if again.Len() > 0 {
		if lsn, err = a.db.Commit(context.WithoutCancel(a.ctx), again, &r); err != nil {
			return err
		}
	}
	return a.db.unavailable(a.db.journal.DurableLazy(a.ctx, lsn))
}

// staleRows collects the rows whose series left the head between Append and Commit, with new refs.
func (a *appender) staleRows(r *sample.Result) (*sample.Batch, error) {
	again := &sample.Batch{}
	for i, reason := range r.Reason {
		if reason != sample.StaleRef {
			continue
		}
		ref, err := a.resolve(0, a.labels[i])
		if err != nil {
			return nil, err
		}
		b := &a.batch
		if b.KindAt(i) == sample.Float {
			again.AppendFloat(ref, b.STAt(i), b.T[i], b.V[i], b.FlagsAt(i))
			continue
		}
		again.AppendHistogram(ref, b.STAt(i), b.T[i], b.H[i], b.FH[i], b.FlagsAt(i))
	}
	return again, nil
}

// Rollback forgets the batch. Series that Append created stay; without samples no query sees them.
func (a *appender) Rollback() error {
	a.storage.forgetFamilies(len(a.batch.Meta))
	a.batch.Reset()
	a.labels = nil
	return nil
}
