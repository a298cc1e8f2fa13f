// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"strings"

	"github.com/prometheus/common/model"
)

// suffixes are those that the series of a family may have behind its name, by its type.
func suffixes(t model.MetricType) []string {
	switch t {
	case model.MetricTypeCounter:
		return []string{"_total"}
	case model.MetricTypeHistogram:
		return []string{"_bucket", "_sum", "_count"}
	case model.MetricTypeGaugeHistogram:
		return []string{"_bucket", "_gsum", "_gcount"}
	case model.MetricTypeSummary:
		return []string{"_sum", "_count"}
	case model.MetricTypeInfo:
		return []string{"_info"}
	default:
		return nil
	}
}

// ofFamily reports whether a series of this name belongs to a family. That of counters and infos may have the suffix in its
// own name already.
func ofFamily(series, family string, t model.MetricType) bool {
	if !strings.HasPrefix(series, family) {
		return false
	}
	all := suffixes(t)
	if t == model.MetricTypeCounter || t == model.MetricTypeInfo {
		family = strings.TrimSuffix(family, all[0])
	}
	for _, s := range all {
		if name, ok := strings.CutSuffix(series, s); ok {
			return name == family
		}
	}
	return series == family
}
