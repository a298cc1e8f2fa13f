// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

// seriesLabels returns the labels that a series is stored with: what the target says, its own labels, and what relabelling
// makes of them; none if relabelling drops it.
func (s *settings) seriesLabels(ls labels.Labels, e *endpoint) labels.Labels {
	b := labels.NewBuilder(ls)
	if s.honorLabels {
		for _, l := range e.public {
			if !ls.Has(l.Name) {
				b.Set(l.Name, l.Value)
			}
		}
	} else {
		setOverExposed(b, ls, e.public)
	}
	if !relabel.ProcessBuilder(b, s.relabel...) {
		return labels.EmptyLabels()
	}
	return b.Labels()
}

// setOverExposed sets the labels of a target. Those of the same name that a series has become exported_<name>, short names
// first, with as many times exported_ as it takes to be of no use yet.
func setOverExposed(b *labels.Builder, ls labels.Labels, public []labels.Label) {
	var exposed []labels.Label
	for _, l := range public {
		if old := ls.Get(l.Name); old != "" {
			exposed = append(exposed, labels.Label{Name: l.Name, Value: old})
		}
		b.Set(l.Name, l.Value)
	}
	slices.SortStableFunc(exposed, func(a, b labels.Label) int { return len(a.Name) - len(b.Name) })
	for _, l := range exposed {
		name := model.ExportedLabelPrefix + l.Name
		for b.Get(name) != "" {
			name = model.ExportedLabelPrefix + name
		}
		b.Set(name, l.Value)
	}
}

// reportLabels returns the labels of a series that reports about a target.
func (e *endpoint) reportLabels(name string) labels.Labels {
	b := labels.NewBuilder(labels.FromStrings(model.MetricNameLabel, name))
	for _, l := range e.public {
		b.Set(l.Name, l.Value)
	}
	return b.Labels()
}
