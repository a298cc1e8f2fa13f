// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

var errUnknownSeries = errors.New("a series that no body names any more")

// reread finds the labels of series that have left the store since they were seen last: the cache has none. It reads the
// body once more, and goes on where it stopped, as series are asked for in their order.
type reread struct {
	body *body
	p    textparse.Parser // nil: it has not begun
}

// labelsOf returns the labels of a series of the request.
func (r *round) labelsOf(i int, in *reread) (labels.Labels, error) {
	if n := i - r.firstReport; n >= 0 {
		return r.end.reportLabels(reports()[n].name), nil
	}
	if r.where[i] == noEntry {
		return labels.EmptyLabels(), errUnknownSeries
	}
	e := &r.c.entries[r.where[i]]
	if in.p != nil {
		if ls, ok := r.nextLabels(in.p, e); ok {
			return ls, nil
		}
	}
	if err := r.beginReread(in); err != nil {
		return labels.EmptyLabels(), err
	}
	if ls, ok := r.nextLabels(in.p, e); ok {
		return ls, nil
	}
	return labels.EmptyLabels(), errUnknownSeries
}

func (r *round) beginReread(in *reread) error {
	if in.p == nil {
		if err := r.req.Charge(int64(len(in.body.bytes))); err != nil {
			return err
		}
	}
	p, err := textparse.New(slices.Clone(in.body.bytes), in.body.contentType, nil, r.set.parser)
	if p == nil {
		return fmt.Errorf("read a body once more: %w", err)
	}
	in.p = p
	return nil
}

// nextLabels reads on until an entry's series, and reports whether there is one.
func (r *round) nextLabels(p textparse.Parser, e *entry) (labels.Labels, bool) {
	for {
		kind, err := p.Next()
		if err != nil {
			return labels.EmptyLabels(), false
		}
		var name []byte
		switch kind {
		case textparse.EntrySeries:
			name, _, _ = p.Series()
		case textparse.EntryHistogram:
			name, _, _, _ = p.Histogram()
		default:
			continue
		}
		if r.c.is(e, name) {
			var ls labels.Labels
			p.Labels(&ls)
			return r.set.seriesLabels(ls, r.end), true
		}
	}
}
