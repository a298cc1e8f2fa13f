// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// Limits of a label set. They keep one series from taking a request's worth of memory for as long as it lives;
// senders that mean well are far below.
const (
	MaxLabels     = 4096    // labels per series
	MaxLabelBytes = 1 << 20 // names and values of one series together
)

// LabelsError says why a label set cannot be stored.
type LabelsError struct {
	Labels string // what was received, as far as it can be shown
	Msg    string
}

// Error returns the reason and the labels.
func (e *LabelsError) Error() string { return e.Msg + ": " + e.Labels }

// LabelBuilder makes label sets from the names and values that a protocol delivers in any order.
type LabelBuilder struct {
	scratch labels.ScratchBuilder
	n       int
	bytes   int
}

// Reset begins a label set.
func (b *LabelBuilder) Reset() {
	b.scratch.Reset()
	b.n, b.bytes = 0, 0
}

// Add adds a label. The bytes must stay as they are until Labels has returned.
func (b *LabelBuilder) Add(name, value []byte) {
	b.n++
	b.bytes += len(name) + len(value)
	if b.n <= MaxLabels && b.bytes <= MaxLabelBytes {
		// Labels of the string kind, the only one we are built with, copy in scratch.Labels; a test watches it.
		b.scratch.Add(unsafe.String(unsafe.SliceData(name), len(name)), unsafe.String(unsafe.SliceData(value), len(value)))
	}
}

// Labels returns what was added, sorted and without empty values, or a *LabelsError. The result shares no memory
// with what was added.
func (b *LabelBuilder) Labels() (labels.Labels, error) {
	b.scratch.Sort()
	ls := b.scratch.Labels()
	if b.n > MaxLabels || b.bytes > MaxLabelBytes {
		return labels.EmptyLabels(), &LabelsError{
			Labels: show(ls),
			Msg:    fmt.Sprintf("%d labels of %d bytes are more than the %d labels of %d bytes a series may have", b.n, b.bytes, MaxLabels, MaxLabelBytes),
		}
	}
	if msg := checkLabels(ls); msg != "" {
		return labels.EmptyLabels(), &LabelsError{Labels: show(ls), Msg: msg}
	}
	if name, ok := ls.HasDuplicateLabelNames(); ok {
		return labels.EmptyLabels(), &LabelsError{Labels: show(ls), Msg: fmt.Sprintf("label name %q is there twice", name)}
	}
	return ls.WithoutEmpty(), nil
}

// Exemplar returns what was added as the labels of an exemplar, which have no metric name, or a *LabelsError.
func (b *LabelBuilder) Exemplar() (labels.Labels, error) {
	b.scratch.Sort()
	ls := b.scratch.Labels()
	msg := checkLabels(ls)
	if name, ok := ls.HasDuplicateLabelNames(); ok {
		msg = fmt.Sprintf("label name %q is there twice", name)
	}
	if b.bytes > MaxLabelBytes || b.n > MaxLabels {
		msg = "too many or too long labels"
	}
	if msg != "" && msg != noMetricName {
		return labels.EmptyLabels(), &LabelsError{Labels: show(ls), Msg: msg}
	}
	return ls, nil
}

const noMetricName = "metric name is missing"

// checkLabels returns what is wrong with a sorted label set, empty if nothing is.
func checkLabels(ls labels.Labels) string {
	hasName, msg := false, ""
	ls.Range(func(l labels.Label) {
		switch {
		case msg != "":
		case !model.UTF8Validation.IsValidLabelName(l.Name):
			msg = fmt.Sprintf("label name %q is empty or not UTF-8", l.Name)
		case !model.LabelValue(l.Value).IsValid():
			msg = fmt.Sprintf("value of label %q is not UTF-8", l.Name)
		case l.Name == model.MetricNameLabel:
			hasName = true
			if !model.UTF8Validation.IsValidMetricName(l.Value) {
				msg = "metric name is empty"
			}
		}
	})
	if msg == "" && !hasName {
		msg = noMetricName
	}
	return msg
}

// show returns ls for a message, cut where it is long.
func show(ls labels.Labels) string {
	const most = 300 // bytes; enough to find the series by
	s := ls.String()
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
