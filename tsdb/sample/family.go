// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package sample

import "strings"

// endings are those that the series of a metric family have behind its name, by its type. A counter's _total belongs to
// its family's name in the text format and not in OpenMetrics, and is left where it is.
func endings(typ string) []string {
	switch typ {
	case "histogram":
		return []string{"_bucket", "_sum", "_count"}
	case "gaugehistogram":
		return []string{"_bucket", "_gsum", "_gcount"}
	case "summary":
		return []string{"_sum", "_count"}
	default:
		return nil
	}
}

// Family returns the name of the metric family that m describes, given the name of one of its series.
func (m *Metadata) Family(metric string) string {
	for _, end := range endings(m.Type) {
		if name, ok := strings.CutSuffix(metric, end); ok && name != "" {
			return name
		}
	}
	return metric
}

// FamiliesOf returns the names that the family of a metric may have: the metric's own, and those without the endings of
// any type.
func FamiliesOf(metric string) []string {
	names := []string{metric}
	for _, end := range [...]string{"_bucket", "_sum", "_count", "_gsum", "_gcount"} {
		if name, ok := strings.CutSuffix(metric, end); ok && name != "" {
			names = append(names, name)
		}
	}
	return names
}
