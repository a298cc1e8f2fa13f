// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"net/http"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

// relabelStep is what one rule of a list did, in the words of Prometheus.
type relabelStep struct {
	Rule   *relabel.Config `json:"rule"`
	Output labels.Labels   `json:"output"` // empty once a rule has dropped the labels
	Keep   bool            `json:"keep"`
}

// relabelled takes labels through a list of rules one by one.
func relabelled(start labels.Labels, rules []*relabel.Config) []relabelStep {
	b := labels.NewBuilder(start)
	steps := make([]relabelStep, len(rules))
	keep := true
	for i, rule := range rules {
		keep = keep && relabel.ProcessBuilder(b, rule)
		steps[i] = relabelStep{Rule: rule, Keep: keep, Output: labels.EmptyLabels()}
		if keep {
			steps[i].Output = b.Labels()
		}
	}
	return steps
}

// relabelSteps shows what the relabelling of a scrape pool does to the labels of a target, rule by rule.
func (a *API) relabelSteps(r *http.Request) (answer, error) {
	if r.FormValue("scrapePool") != "" && r.FormValue("labels") == "" {
		return answer{}, badData("no labels parameter provided")
	}
	var start labels.Labels
	if s := r.FormValue("labels"); s != "" && r.FormValue("scrapePool") != "" {
		if err := json.Unmarshal([]byte(s), &start); err != nil {
			return answer{}, badData("error parsing labels: %w", err)
		}
	}
	cfg, err := a.poolConfig(r)
	if err != nil {
		return answer{}, err
	}
	return answer{data: map[string][]relabelStep{"steps": relabelled(start, cfg.RelabelConfigs)}}, nil
}

// maxRelabelSeries is how many series one request may ask about.
const maxRelabelSeries = 1000

// metricRelabelStep is what one rule did to the labels of a series.
type metricRelabelStep struct {
	Rule   *relabel.Config `json:"rule"`
	Input  labels.Labels   `json:"input"`
	Output labels.Labels   `json:"output"`
	Keep   bool            `json:"keep"`
}

// metricRelabelling is what all rules together did to a series, and each of them.
type metricRelabelling struct {
	Input  labels.Labels       `json:"input"`
	Output labels.Labels       `json:"output"`
	Keep   bool                `json:"keep"`
	Error  string              `json:"error,omitempty"` // why what is kept makes its scrape fail
	Steps  []metricRelabelStep `json:"steps"`
}

// metricRelabelSteps shows what the metric relabelling of a scrape pool does to series, rule by rule. The labels are those
// that a series has once its target's are added to it.
func (a *API) metricRelabelSteps(r *http.Request) (answer, error) {
	cfg, err := a.poolConfig(r)
	if err != nil {
		return answer{}, err
	}
	series, err := a.seriesToRelabel(r)
	if err != nil {
		return answer{}, err
	}
	out := make([]metricRelabelling, len(series))
	for i, ls := range series {
		out[i] = relabelSeries(ls, cfg.MetricRelabelConfigs)
	}
	return answer{data: map[string][]metricRelabelling{"series": out}}, nil
}

// seriesToRelabel reads the series that a request names: as text in series[], or one of them as JSON in labels.
func (a *API) seriesToRelabel(r *http.Request) ([]labels.Labels, error) {
	var out []labels.Labels
	if s := r.FormValue("labels"); s != "" {
		var ls labels.Labels
		if err := json.Unmarshal([]byte(s), &ls); err != nil {
			return nil, badData("error parsing labels: %w", err)
		}
		out = append(out, ls)
	}
	texts := r.Form["series[]"]
	if len(texts) > maxRelabelSeries {
		return nil, badData("%d series are more than the %d of one request", len(texts), maxRelabelSeries)
	}
	for _, text := range texts {
		ls, err := a.parser.ParseMetric(text)
		if err != nil {
			return nil, badData("error parsing series %q: %w", text, err)
		}
		out = append(out, ls)
	}
	if len(out) == 0 {
		return nil, badData("no labels and no series[] parameter provided")
	}
	return out, nil
}

func relabelSeries(ls labels.Labels, rules []*relabel.Config) metricRelabelling {
	out := metricRelabelling{Input: ls, Output: ls, Keep: true, Steps: []metricRelabelStep{}}
	for _, s := range relabelled(ls, rules) {
		out.Steps = append(out.Steps, metricRelabelStep{Rule: s.Rule, Input: out.Output, Output: s.Output, Keep: s.Keep})
		out.Output, out.Keep = s.Output, s.Keep
	}
	switch {
	case !out.Keep:
	case out.Output.IsEmpty(): // as scraping has it
		out.Keep = false
	case out.Output.Get(model.MetricNameLabel) == "":
		out.Error = "missing metric name (__name__ label)"
	}
	return out
}

// droppedBy is the rule that dropped a target.
type droppedBy struct {
	Index int             `json:"index"` // in relabel_configs
	Rule  *relabel.Config `json:"rule"`
}

// ruleThatDropped returns the first rule that drops a target with these labels before relabelling; nil if none does,
// because the configuration has changed since.
func ruleThatDropped(discovered labels.Labels, rules []*relabel.Config) *droppedBy {
	b := labels.NewBuilder(discovered)
	for i, rule := range rules {
		if !relabel.ProcessBuilder(b, rule) {
			return &droppedBy{Index: i, Rule: rule}
		}
	}
	return nil
}
