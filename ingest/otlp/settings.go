// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"fmt"
	"time"

	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"gopkg.in/yaml.v3"
)

// Deltas says what becomes of metrics with delta temporality.
type Deltas uint8

// What may become of them.
const (
	RefuseDeltas Deltas = iota // they are not stored
	SumDeltas                  // their sums since the first are stored: feature otlp-deltatocumulative
	KeepDeltas                 // they are stored as they are: feature otlp-native-delta-ingestion
)

// settings is a configuration as the decoder needs it; it does not change.
type settings struct {
	converter   prometheusremotewrite.Settings // for data points: without target_info
	interval    uint64                         // nanoseconds between two samples of target_info
	nativeDelta bool
	sumDeltas   bool
	identity    []byte // different for every configuration: known label bytes may mean other labels under another one
}

func newSettings(c promconfig.OTLPConfig, o Options) (*settings, error) {
	lookback := o.LookbackDelta
	if lookback <= 0 {
		lookback = 5 * time.Minute
	}
	s := &settings{
		converter: prometheusremotewrite.Settings{
			AddMetricSuffixes:                    c.TranslationStrategy.ShouldAddSuffixes(),
			AllowUTF8:                            !c.TranslationStrategy.ShouldEscape(),
			PromoteResourceAttributes:            prometheusremotewrite.NewPromoteResourceAttributes(c),
			KeepIdentifyingResourceAttributes:    c.KeepIdentifyingResourceAttributes,
			ConvertHistogramsToNHCB:              c.ConvertHistogramsToNHCB,
			PromoteScopeMetadata:                 c.PromoteScopeMetadata,
			AllowDeltaTemporality:                o.Deltas == KeepDeltas,
			LookbackDelta:                        lookback,
			EnableTypeAndUnitLabels:              o.TypeAndUnitLabels,
			LabelNameUnderscoreSanitization:      c.LabelNameUnderscoreSanitization,
			LabelNamePreserveMultipleUnderscores: c.LabelNamePreserveMultipleUnderscores,
			DisableTargetInfo:                    true,
		},
		interval: uint64(max(lookback/2, time.Millisecond)), nativeDelta: o.Deltas == KeepDeltas, sumDeltas: o.Deltas == SumDeltas,
	}
	var err error
	if s.identity, err = yaml.Marshal(c); err != nil {
		return nil, fmt.Errorf("otlp: %w", err)
	}
	return s, nil
}
