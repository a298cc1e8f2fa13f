// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package backtest

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
)

// overlay is what the rules read: the history, and in the place of the metrics that the rules write what they wrote in
// this backtest. A selector reads one of the two, by the name of its metric.
type overlay struct {
	*queryable.Queryable // an engine asks for one; it takes the columns
	history, scratch     column.Source
	written              map[string]bool // names of metrics that the rules write
}

func newOverlay(history, scratch column.Source, written map[string]bool) *overlay {
	o := &overlay{history: history, scratch: scratch, written: written}
	o.Queryable = queryable.New(o)
	return o
}

// View implements column.Source.
func (o *overlay) View(mint, maxt int64) (column.View, error) {
	history, err := o.history.View(mint, maxt)
	if err != nil {
		return nil, err
	}
	scratch, err := o.scratch.View(mint, maxt)
	if err != nil {
		return nil, errors.Join(err, history.Close())
	}
	return &overlayView{o: o, history: history, scratch: scratch}, nil
}

// Await implements column.Waiter.
func (o *overlay) Await(ctx context.Context, mint, maxt int64) error {
	return column.Await(ctx, o.history, mint, maxt)
}

type overlayView struct {
	o                *overlay
	history, scratch column.View
}

// owned is the handle of a set: whose it is, and the handle there.
type owned struct {
	view   column.View
	handle any
}

// Series implements column.View.
func (v *overlayView) Series(ctx context.Context, ms []*labels.Matcher, h column.Hint) (*column.SeriesSet, error) {
	from, err := v.sourceOf(ms)
	if err != nil {
		return nil, err
	}
	s, err := from.Series(ctx, ms, h)
	if err != nil {
		return nil, err
	}
	mine := *s
	mine.Gen, mine.Handle = 0, owned{from, s.Handle} // the two number their sets apart
	return &mine, nil
}

// sourceOf returns the view that has the series which match ms.
func (v *overlayView) sourceOf(ms []*labels.Matcher) (column.View, error) {
	name := nameOf(ms)
	if name != "" {
		if v.o.written[name] {
			return v.scratch, nil
		}
		return v.history, nil
	}
	for written := range v.o.written {
		if isAlertSeries(written) { // of those that have no name the history's are as good
			continue
		}
		if couldBe(ms, written) {
			return nil, fmt.Errorf("a selector without a metric name cannot be told from %s, which a rule of the backtest records: name the metric", written)
		}
	}
	return v.history, nil
}

// couldBe reports whether a metric of the name can match.
func couldBe(ms []*labels.Matcher, name string) bool {
	for _, m := range ms {
		if m.Name == model.MetricNameLabel && !m.Matches(name) {
			return false
		}
	}
	return true
}

// nameOf returns the name that the matchers ask for; empty: they do not ask for a single one.
func nameOf(ms []*labels.Matcher) string {
	for _, m := range ms {
		if m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual {
			return m.Value
		}
	}
	return ""
}

// Scan implements column.View.
func (v *overlayView) Scan(ctx context.Context, s *column.SeriesSet, ids []uint32, n column.Need, dst *column.Block) (int, error) {
	of, ok := s.Handle.(owned)
	if !ok {
		return 0, errors.New("a set of series of another view")
	}
	theirs := *s
	theirs.Handle = of.handle
	return of.view.Scan(ctx, &theirs, ids, n, dst)
}

// Warnings implements column.View.
func (v *overlayView) Warnings() annotations.Annotations {
	w := annotations.New().Merge(v.history.Warnings())
	return w.Merge(v.scratch.Warnings())
}

// Close implements column.View.
func (v *overlayView) Close() error { return errors.Join(v.history.Close(), v.scratch.Close()) }
