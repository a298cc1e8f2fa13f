// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/rules"
)

type ruleList struct {
	Groups    []ruleGroup `json:"groups"`
	NextToken string      `json:"groupNextToken,omitempty"`
}

type ruleGroup struct {
	Name           string    `json:"name"`
	File           string    `json:"file"`
	Rules          []any     `json:"rules"` // alertingRule or recordingRule
	Interval       float64   `json:"interval"`
	Limit          int       `json:"limit"`
	EvaluationTime float64   `json:"evaluationTime"`
	LastEvaluation time.Time `json:"lastEvaluation"`
}

type alertingRule struct {
	State         string        `json:"state"`
	Name          string        `json:"name"`
	Query         string        `json:"query"`
	Duration      float64       `json:"duration"`
	KeepFiringFor float64       `json:"keepFiringFor"`
	Labels        labels.Labels `json:"labels"`
	Annotations   labels.Labels `json:"annotations"`
	Alerts        []alert       `json:"alerts"`
	ruleHealth
	Type string `json:"type"`
}

type recordingRule struct {
	Name   string        `json:"name"`
	Query  string        `json:"query"`
	Labels labels.Labels `json:"labels"`
	ruleHealth
	Type string `json:"type"`
}

// ruleHealth is what both kinds of rule tell of their last evaluation.
type ruleHealth struct {
	Health         rules.Health `json:"health"`
	LastError      string       `json:"lastError,omitempty"`
	EvaluationTime float64      `json:"evaluationTime"`
	LastEvaluation time.Time    `json:"lastEvaluation"`
}

type alert struct {
	Labels          labels.Labels `json:"labels"`
	Annotations     labels.Labels `json:"annotations"`
	State           string        `json:"state"`
	ActiveAt        *time.Time    `json:"activeAt,omitempty"`
	KeepFiringSince *time.Time    `json:"keepFiringSince,omitempty"`
	Value           string        `json:"value"`
}

// ruleFilter is what of the rules is asked for.
type ruleFilter struct {
	names, groups, files []string // empty: all
	sets                 [][]*labels.Matcher
	kind                 string // alert, record or empty for both
	excludeAlerts        bool
	maxGroups            int    // 0: all
	token                string // of the group to begin with
}

func (a *API) ruleFilter(r *http.Request) (ruleFilter, error) {
	if err := r.ParseForm(); err != nil {
		return ruleFilter{}, badData("error parsing form values: %w", err)
	}
	f := ruleFilter{names: r.Form["rule_name[]"], groups: r.Form["rule_group[]"], files: r.Form["file[]"]}
	var err error
	if f.sets, err = a.matcherSets(r.Form["match[]"]); err != nil {
		return f, &apiError{errBadData, err}
	}
	args := r.URL.Query()
	f.kind = strings.ToLower(args.Get("type"))
	if f.kind != "" && f.kind != "alert" && f.kind != "record" {
		return f, badParam("type", fmt.Errorf("not supported value %q", f.kind))
	}
	if s := strings.ToLower(args.Get("exclude_alerts")); s != "" {
		if f.excludeAlerts, err = strconv.ParseBool(s); err != nil {
			return f, badParam("exclude_alerts", fmt.Errorf("error converting exclude_alerts: %w", err))
		}
	}
	return f, f.pages(args)
}

// pages reads the arguments of an answer in parts.
func (f *ruleFilter) pages(args url.Values) error {
	limit := args.Get("group_limit")
	f.token = args.Get("group_next_token")
	if limit == "" {
		if f.token != "" {
			return badParam("group_next_token", errors.New("group_limit needs to be present in order to paginate over the groups"))
		}
		return nil
	}
	n, err := strconv.ParseInt(limit, 10, 32)
	if err != nil {
		return badParam("group_limit", fmt.Errorf("group_limit needs to be a valid number: %w", err))
	}
	if n <= 0 {
		return badParam("group_limit", errors.New("group_limit needs to be greater than 0"))
	}
	f.maxGroups = int(n)
	return nil
}

func (a *API) rules(r *http.Request) (answer, error) {
	f, err := a.ruleFilter(r)
	if err != nil {
		return answer{}, err
	}
	var groups []rules.GroupStatus
	if a.src.Rules != nil {
		groups = a.src.Rules.Groups()
	}
	if f.token != "" {
		at := slices.IndexFunc(groups, func(g rules.GroupStatus) bool { return groupToken(g) == f.token })
		if at < 0 {
			return answer{}, badParam("group_next_token", fmt.Errorf("invalid group_next_token '%v'. were rule groups changed?", f.token))
		}
		groups = groups[at:]
	}
	out := ruleList{Groups: []ruleGroup{}}
	for _, g := range groups {
		view, ok := f.group(g)
		if !ok {
			continue
		}
		if f.maxGroups > 0 && len(out.Groups) == f.maxGroups {
			out.NextToken = groupToken(g)
			break
		}
		out.Groups = append(out.Groups, view)
	}
	return answer{data: out}, nil
}

// groupToken names a group in an opaque way.
func groupToken(g rules.GroupStatus) string {
	sum := sha256.Sum256([]byte(g.File + ";" + g.Name))
	return hex.EncodeToString(sum[:])
}

// group returns what is asked for of g, and whether that is any rule.
func (f *ruleFilter) group(g rules.GroupStatus) (ruleGroup, bool) {
	if !listed(f.groups, g.Name) || !listed(f.files, g.File) {
		return ruleGroup{}, false
	}
	out := ruleGroup{
		Name: g.Name, File: g.File, Interval: g.Interval.Seconds(), Limit: g.Limit,
		EvaluationTime: g.EvaluationTime.Seconds(), LastEvaluation: g.LastEvaluation,
	}
	for _, r := range g.Rules {
		if listed(f.names, r.Name) && f.labelsMatch(r.Labels) && f.kindMatches(r.Alerting) {
			out.Rules = append(out.Rules, f.rule(r))
		}
	}
	return out, len(out.Rules) > 0
}

func (f *ruleFilter) kindMatches(alerting bool) bool {
	return f.kind == "" || alerting == (f.kind == "alert")
}

func (f *ruleFilter) labelsMatch(ls labels.Labels) bool {
	return len(f.sets) == 0 || slices.ContainsFunc(f.sets, func(ms []*labels.Matcher) bool { return matches(ls, ms) })
}

// listed reports whether s is asked for: an empty list asks for everything.
func listed(list []string, s string) bool { return len(list) == 0 || slices.Contains(list, s) }

func (f *ruleFilter) rule(r rules.RuleStatus) any {
	health := ruleHealth{Health: r.Health, LastError: r.LastError, EvaluationTime: r.EvaluationTime.Seconds(), LastEvaluation: r.LastEvaluation}
	if !r.Alerting {
		return recordingRule{Name: r.Name, Query: r.Query, Labels: r.Labels, ruleHealth: health, Type: "recording"}
	}
	out := alertingRule{
		State: r.State.String(), Name: r.Name, Query: r.Query, Duration: r.Hold.Seconds(), KeepFiringFor: r.KeepFiringFor.Seconds(),
		Labels: r.Labels, Annotations: r.Annotations, ruleHealth: health, Type: "alerting",
	}
	if !f.excludeAlerts {
		out.Alerts = describeAlerts(r.Alerts)
	}
	return out
}

func describeAlerts(list []rules.AlertStatus) []alert {
	out := make([]alert, len(list))
	for i, s := range list {
		out[i] = alert{
			Labels: s.Labels, Annotations: s.Annotations, State: s.State.String(), ActiveAt: &list[i].ActiveAt, Value: s.Value,
		}
		if !s.KeepFiringSince.IsZero() {
			out[i].KeepFiringSince = &list[i].KeepFiringSince
		}
	}
	return out
}

func (a *API) alerts(*http.Request) (answer, error) {
	var list []rules.AlertStatus
	if a.src.Rules != nil {
		list = a.src.Rules.Alerts()
	}
	return answer{data: map[string][]alert{"alerts": describeAlerts(list)}}, nil
}
