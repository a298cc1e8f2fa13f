// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Foreseer tells before a commit what it would answer. A scrape reports in the same commit how many of its series are
// new, and asks about these.
type Foreseer interface {
	// Foresee returns what would become of a row of a batch.
	Foresee(b *sample.Batch, row int) sample.Reason
	// ForeseeExemplar returns Accepted, Same, OutOfOrder, or Invalid for one that cannot be stored at any time.
	ForeseeExemplar(e sample.Exemplar) sample.Reason
}

// lazily is a store that lets those share its syncs who are in no hurry.
type lazily interface {
	DurableLazy(ctx context.Context, lsn sample.LSN) error
}

// What follows is for scrapes. A scrape remembers by itself what series its target has, so no key is looked up. It has one
// row per series, and asks afterwards what became of it. What was not known it resolves before it commits.

// Exempt lets what is charged from here on be counted and not refused. It is for what is bounded and has to be stored where
// there is no room, too: that a target is down, and which of its series are gone.
func (r *Request) Exempt() { r.exempt = true }

// Known begins a series by its ref.
func (r *Request) Known(ref sample.Ref) { r.push(series{ref: ref, known: true}) }

// Scrape adds a scraped row to the series that began last.
func (r *Request) Scrape(st, t int64, v float64, flags sample.Flag) {
	if r.count() {
		r.batch.AppendFloat(r.last().ref, st, t, v, flags|sample.Scraped)
	}
}

// ScrapeHistogram adds a scraped row; one of h and fh is nil. The histogram must not change any more.
func (r *Request) ScrapeHistogram(st, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram, flags sample.Flag) {
	if r.count() {
		r.batch.AppendHistogram(r.last().ref, st, t, h, fh, flags|sample.Scraped)
	}
}

// Len returns the number of series that have begun.
func (r *Request) Len() int { return len(r.series) }

// Ref returns the ref of a series, 0 as long as it is not resolved.
func (r *Request) Ref(i int) sample.Ref { return r.series[i].ref }

// Resolve finds or creates the series that were defined since it was called last. It is an error if there is no room for
// one of them; the others have their refs then. One that a series limit refuses has none either, nor a row, and is no error:
// a target with too many series stays up with those that it may have.
func (r *Request) Resolve() error {
	if r.err != nil {
		return fmt.Errorf("take a scrape in: %w", r.err)
	}
	if len(r.unknown) == 0 {
		return nil
	}
	var out Outcome
	meta := r.batch.Meta // that is of series by their number, until CommitScrape
	r.batch.Meta = nil
	err := r.resolve(&out)
	r.batch.Meta = meta
	full := err == nil && r.noRoom()
	clear(r.labels)
	r.unknown, r.labels = r.unknown[:0], r.labels[:0]
	if full {
		err = errors.New(out.Message())
	}
	return err
}

// Foresee returns what would become of the row of a series that is resolved.
func (r *Request) Foresee(i int) sample.Reason {
	lo, hi := r.rows(i)
	switch {
	case lo == hi:
		return sample.OverLimit
	case r.in.foreseer == nil:
		return sample.Accepted
	}
	return r.in.foreseer.Foresee(&r.batch, int(lo))
}

// ForeseeExemplar returns what would become of an exemplar of the series that began last.
func (r *Request) ForeseeExemplar(e sample.Exemplar) sample.Reason {
	if e.Ref = r.last().ref; e.Ref == 0 || r.in.foreseer == nil {
		return sample.Accepted
	}
	return r.in.foreseer.ForeseeExemplar(e)
}

// Withdraw takes back the series that began last, with its row and its exemplars.
func (r *Request) Withdraw() {
	i := len(r.series) - 1
	s := r.series[i]
	r.cut(s.row, s.exemplar)
	b := &r.batch
	for len(b.Meta) > 0 && b.Meta[len(b.Meta)-1].Ref == sample.Ref(i) {
		b.Meta = b.Meta[:len(b.Meta)-1]
	}
	r.series = r.series[:i]
}

// labeller is a store that knows the labels of a ref; refuser is one that counts what is not even tried.
type (
	labeller interface {
		LabelsOf(ref sample.Ref) (labels.Labels, bool)
	}
	refuser interface {
		CountRefused(r sample.Reason, k sample.Kind)
	}
)

// Refuse takes back the series that began last, of which Foresee has said that it would be refused, and counts its row as
// rejected; with an example, where one is wanted.
func (r *Request) Refuse(reason sample.Reason, example bool) {
	row, end := r.rows(len(r.series) - 1)
	if row == end { // a series limit has refused it, and has counted it
		r.Withdraw()
		return
	}
	if s, ok := r.in.appender.(refuser); ok {
		s.CountRefused(reason, r.batch.KindAt(int(row)))
	}
	if example {
		at := time.UnixMilli(r.batch.T[row]).UTC()
		e := Example{Time: &at}
		if s, ok := r.in.appender.(labeller); ok {
			e.Labels, _ = s.LabelsOf(r.last().ref)
		}
		r.reject(reason.String(), 1, e)
	} else {
		r.in.rejected.count(reason.String(), 1)
	}
	r.Withdraw()
}

// Fate returns what became of the row of a series that was committed.
func (r *Request) Fate(i int) sample.Reason {
	lo, hi := r.rows(i)
	if lo == hi {
		return sample.OverLimit
	}
	return r.result.At(int(lo))
}

// CommitScrape stores the rows and returns once they are durable, which syncs of many scrapes see to together. An error
// means that the store did not take them; the fate of each is known by Fate then only where it did.
func (r *Request) CommitScrape(ctx context.Context, labelsOf LabelsOf) error {
	if err := r.Resolve(); err != nil {
		return err
	}
	for i := range r.batch.Meta {
		r.batch.Meta[i].Ref = r.series[r.batch.Meta[i].Ref].ref
	}
	r.batch.Meta = slices.DeleteFunc(r.batch.Meta, func(m sample.Metadata) bool { return m.Ref == 0 })
	lsn, err := r.in.appender.Commit(ctx, &r.batch, &r.result)
	if err != nil {
		return fmt.Errorf("commit a scrape: %w", err)
	}
	for row, reason := range r.result.Reason {
		if reason == sample.StaleRef && r.isMarker(row) {
			r.result.Reason[row] = sample.OutOfOrder // where there is no series any more, there is nothing to mark
		}
	}
	again, err := r.commitStale(ctx, labelsOf)
	if err != nil {
		return err
	}
	var out Outcome
	if r.countLost(&out) > 0 {
		return errors.New(out.Message())
	}
	r.countScraped(labelsOf)
	durable := r.in.appender.Durable
	if l, ok := r.in.appender.(lazily); ok {
		durable = l.DurableLazy
	}
	if err := durable(ctx, max(lsn, again)); err != nil {
		return fmt.Errorf("wait until a scrape is durable: %w", err)
	}
	return nil
}

func (r *Request) isMarker(row int) bool {
	return r.batch.FlagsAt(row)&sample.RejectOutOfOrder != 0 && math.Float64bits(r.batch.V[row]) == value.StaleNaN
}

func (r *Request) countScraped(labelsOf LabelsOf) {
	counts, first := r.fates()
	for i, n := range counts {
		reason := sample.Reason(i)
		if n == 0 || reason == sample.StaleRef {
			continue
		}
		r.in.metrics.byReason[reason].Add(float64(n))
		if !reason.Stored() && !r.isMarker(first[i]) {
			r.rejectRows(reason, n, first[i], labelsOf)
		}
	}
	r.in.metrics.exemplars.Add(float64(r.result.Exemplars))
}
