// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/template"
)

// templateVariables are the names that a template may use beside the fields of its data.
const templateVariables = "{{$labels := .Labels}}" +
	"{{$externalLabels := .ExternalLabels}}" +
	"{{$externalURL := .ExternalURL}}" +
	"{{$value := .Value}}"

// templates expands the templated labels and annotations of one alerting rule.
type templates struct {
	name           string
	externalLabels map[string]string
	externalURL    string
	url            *url.URL // externalURL, parsed
	logger         *slog.Logger
}

// instance is the expansion for one element of a result.
type instance struct {
	*templates
	ctx    context.Context
	ts     time.Time
	query  QueryFunc
	sample promql.Sample
	data   any // made at the first template
}

func (t *templates) forSample(ctx context.Context, e *evaluation, s promql.Sample) *instance {
	return &instance{templates: t, ctx: ctx, ts: e.ts, query: e.query, sample: s}
}

// expand returns text with its templates executed; text that cannot be executed becomes the error, as the
// alert matters more than its words.
func (i *instance) expand(text string) string {
	if !strings.Contains(text, "{{") {
		return text
	}
	if i.data == nil {
		i.data = template.AlertTemplateData(i.sample.Metric.Map(), i.externalLabels, i.externalURL, i.sample)
	}
	expander := template.NewTemplateExpander(i.ctx, templateVariables+text, "__alert_"+i.name, i.data,
		model.Time(millis(i.ts)), template.QueryFunc(i.query), i.url, nil)
	result, err := expander.Expand()
	if err != nil {
		i.logger.Warn("expanding an alert template went wrong", "err", err, "data", i.data)
		return fmt.Sprintf("<error expanding template: %s>", err)
	}
	return result
}

// expandLabels sets the expanded labels of lset on lb.
func (i *instance) expandLabels(lb *labels.Builder, lset labels.Labels) {
	lset.Range(func(l labels.Label) { lb.Set(l.Name, i.expand(l.Value)) })
}

// expandAnnotations returns the expanded annotations.
func (i *instance) expandAnnotations(sb *labels.ScratchBuilder, lset labels.Labels) labels.Labels {
	sb.Reset()
	lset.Range(func(l labels.Label) { sb.Add(l.Name, i.expand(l.Value)) })
	return sb.Labels()
}
