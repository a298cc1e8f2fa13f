// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/tidemarkdb/tidemark/rules"
)

// relabelAlerts returns the alerts with the external labels that they do not have themselves, relabelled. The
// given slice and its alerts are not changed.
func relabelAlerts(cfgs []*relabel.Config, external labels.Labels, alerts []rules.Notification) []rules.Notification {
	if len(cfgs) == 0 && external.IsEmpty() {
		return alerts
	}
	lb := labels.NewBuilder(labels.EmptyLabels())
	out := make([]rules.Notification, 0, len(alerts))
	for _, a := range alerts {
		lb.Reset(a.Labels)
		external.Range(func(l labels.Label) {
			if a.Labels.Get(l.Name) == "" {
				lb.Set(l.Name, l.Value)
			}
		})
		if !relabel.ProcessBuilder(lb, cfgs...) {
			continue
		}
		a.Labels = lb.Labels()
		out = append(out, a)
	}
	return out
}

// withNameValidation returns the rules with the scheme set where they have none.
func withNameValidation(cfgs []*relabel.Config, scheme model.ValidationScheme) []*relabel.Config {
	out := slices.Clone(cfgs)
	for i, c := range out {
		if c.NameValidationScheme == model.UnsetValidation {
			with := *c
			with.NameValidationScheme = scheme
			out[i] = &with
		}
	}
	return out
}
