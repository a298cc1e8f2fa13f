// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package unittest

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"gopkg.in/yaml.v3"
)

const defaultInterval = model.Duration(time.Minute)

// File is a file of tests.
type File struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"` // of all rules; default 1 min
	GroupEvalOrder     []string       `yaml:"group_eval_order"`
	FuzzyCompare       bool           `yaml:"fuzzy_compare"` // values may be off by the last bit
	Tests              []Group        `yaml:"tests"`
}

// Group is a test group: input, and what is expected of it.
type Group struct {
	Name           string         `yaml:"name"`
	Interval       model.Duration `yaml:"interval"` // between input samples; default: the file's
	InputSeries    []Series       `yaml:"input_series"`
	AlertTests     []AlertTest    `yaml:"alert_rule_test"`
	ExprTests      []ExprTest     `yaml:"promql_expr_test"`
	ExternalLabels labels.Labels  `yaml:"external_labels"`
	ExternalURL    string         `yaml:"external_url"`
	StartTimestamp Start          `yaml:"start_timestamp"` // when the first sample is; default: the epoch
}

// Series is one input series with its values in the notation of PromQL's own tests.
type Series struct {
	Series string `yaml:"series"`
	Values string `yaml:"values"`
}

// AlertTest says which alerts of a name fire at a time after the start.
type AlertTest struct {
	EvalTime  model.Duration `yaml:"eval_time"`
	Alertname string         `yaml:"alertname"`
	Expected  []Alert        `yaml:"exp_alerts"`
}

// Alert is one alert that is to fire; its name is not among its labels.
type Alert struct {
	Labels      map[string]string `yaml:"exp_labels"`
	Annotations map[string]string `yaml:"exp_annotations"`
}

// ExprTest says what an expression returns at a time after the start.
type ExprTest struct {
	Expr     string         `yaml:"expr"`
	EvalTime model.Duration `yaml:"eval_time"`
	Expected []Sample       `yaml:"exp_samples"`
}

// Sample is one element of a result; Value does not count where there is a Histogram.
type Sample struct {
	Labels    string  `yaml:"labels"`
	Value     float64 `yaml:"value"`
	Histogram string  `yaml:"histogram"`
}

// Start is a time, as RFC 3339 or in seconds since the epoch.
type Start struct{ time.Time }

// UnmarshalYAML implements yaml.Unmarshaler.
func (s *Start) UnmarshalYAML(n *yaml.Node) error {
	if seconds, err := strconv.ParseFloat(n.Value, 64); err == nil {
		whole, part := math.Modf(seconds)
		s.Time = time.Unix(int64(whole), int64(part*float64(time.Second))).UTC()
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, n.Value)
	if err != nil {
		return fmt.Errorf("line %d: start_timestamp %q is neither RFC 3339 nor seconds since the epoch", n.Line, n.Value)
	}
	s.Time = t
	return nil
}

// start returns when the first sample is.
func (g *Group) start() time.Time {
	if g.StartTimestamp.IsZero() {
		return time.Unix(0, 0).UTC()
	}
	return g.StartTimestamp.Time
}

// length returns how long after the start the last test is.
func (g *Group) length() time.Duration {
	var longest model.Duration
	for i := range g.AlertTests {
		longest = max(longest, g.AlertTests[i].EvalTime)
	}
	for i := range g.ExprTests {
		longest = max(longest, g.ExprTests[i].EvalTime)
	}
	return time.Duration(longest)
}
