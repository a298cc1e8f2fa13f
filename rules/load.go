// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/util/strutil"
	"gopkg.in/yaml.v3"
)

// Config is what a configuration file says about rules.
type Config struct {
	Files          []string      // paths, see Glob
	Interval       time.Duration // of groups that set none; default 1 min
	QueryOffset    time.Duration // of groups that set none
	ExternalLabels labels.Labels
	ExternalURL    string // where users reach the server; prefix of the links in alerts
	// NameValidation is the scheme of metric and label names; default: that of Options.
	NameValidation model.ValidationScheme
	// IgnoreUnknownFields passes over keys that no server knows, for tests of files with keys of other programs.
	IgnoreUnknownFields bool
	// OnlyRecording leaves alerting rules out.
	OnlyRecording bool
	// Read reads a file; nil: from the file system.
	Read func(name string) ([]byte, error)
}

const defaultInterval = time.Minute

// Glob returns the files that any of the patterns matches, sorted, each once. A pattern may match none.
func Glob(patterns []string) ([]string, error) {
	found := make(map[string]struct{})
	for _, p := range patterns {
		names, err := filepath.Glob(p)
		if err != nil {
			return nil, fmt.Errorf("rule_files: pattern %q: %w", p, err)
		}
		for _, name := range names {
			found[name] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// Check reads the rule files and returns everything that is wrong with them. Of o it needs what parsing needs.
func Check(c Config, o Options) error {
	o.setDefaults()
	_, err := loadFiles(&c, &o)
	return err
}

// parsedGroup is a group of a rule file with its expressions parsed.
type parsedGroup struct {
	file  string
	group rulefmt.RuleGroup
	rules []*rule
}

// loadFiles reads all rule files. The error joins everything that is wrong with any of them.
func loadFiles(c *Config, o *Options) ([]parsedGroup, error) {
	scheme := c.NameValidation
	if scheme == model.UnsetValidation {
		scheme = o.NameValidation
	}
	externalURL, err := url.Parse(c.ExternalURL)
	if err != nil {
		return nil, fmt.Errorf("external URL %q: %w", c.ExternalURL, err)
	}
	var groups []parsedGroup
	var errs []error
	read := c.Read
	if read == nil {
		read = os.ReadFile
	}
	for _, file := range c.Files {
		content, err := read(file)
		if err != nil {
			errs = append(errs, fmt.Errorf("rule file: %w", err))
			continue
		}
		parsed, parseErrs := rulefmt.Parse(content, c.IgnoreUnknownFields, scheme, o.Parser, o.Logger)
		if len(parseErrs) > 0 {
			errs = append(errs, fileErrors(file, content, parseErrs)...)
			continue
		}
		for _, g := range parsed.Groups {
			p := parsedGroup{file: file, group: g}
			for _, r := range g.Rules {
				if c.OnlyRecording && r.Alert != "" {
					continue
				}
				made, err := makeRule(&g, &r, c, o, externalURL)
				if err != nil {
					errs = append(errs, fmt.Errorf("rule file %s: group %q: %w", file, g.Name, err))
					continue
				}
				p.rules = append(p.rules, made)
			}
			groups = append(groups, p)
		}
	}
	return groups, errors.Join(errs...)
}

func makeRule(g *rulefmt.RuleGroup, r *rulefmt.Rule, c *Config, o *Options, externalURL *url.URL) (*rule, error) {
	expr, err := o.Parser.ParseExpr(r.Expr)
	if err != nil {
		return nil, err
	}
	merged := maps.Clone(g.Labels)
	if merged == nil {
		merged = make(map[string]string, len(r.Labels))
	}
	maps.Copy(merged, r.Labels)
	lset := labels.FromMap(merged)
	if r.Alert == "" {
		return newRule(r.Record, expr, lset, nil), nil
	}
	return newRule(r.Alert, expr, lset, &alerting{
		hold: time.Duration(r.For), keepFiringFor: time.Duration(r.KeepFiringFor),
		annotations: labels.FromMap(r.Annotations),
		templates: templates{
			name: r.Alert, externalLabels: c.ExternalLabels.Map(), externalURL: c.ExternalURL, url: externalURL,
			logger: o.Logger.With("alert", r.Alert),
		},
		generatorURL: c.ExternalURL + strutil.TableLinkForExpression(expr.String()),
		active:       make(map[uint64]*alert),
	}), nil
}

// fileErrors returns what is wrong with a file, every error with its line where one can be found: rulefmt has
// none for group names, and for label names, annotation names and templates it has the number of the rule only.
func fileErrors(file string, content []byte, errs []error) []error {
	var doc ruleDocument
	located := yaml.Unmarshal(content, &doc) == nil
	var out []error
	if located {
		for _, err := range doc.nameErrors() {
			out = append(out, fmt.Errorf("rule file %s:%w", file, err))
		}
	}
	for _, err := range errs {
		var ruleErr *rulefmt.Error
		text, unplaced := strings.CutPrefix(err.Error(), "0:0: ")
		isRule := errors.As(err, &ruleErr)
		switch {
		case isRule && (unplaced || !startsWithDigit(text)) && doc.line(ruleErr.Group, ruleErr.Rule) > 0:
			out = append(out, fmt.Errorf("rule file %s:%d: %s", file, doc.line(ruleErr.Group, ruleErr.Rule), text))
		case !isRule && unplaced && located: // the name of a group: said above
		case startsWithDigit(text):
			out = append(out, fmt.Errorf("rule file %s:%w", file, err))
		default:
			out = append(out, fmt.Errorf("rule file %s: %w", file, err))
		}
	}
	return out
}

func startsWithDigit(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }

// ruleDocument is the outline of a rule file, for its line numbers.
type ruleDocument struct {
	Groups []outlinedGroup `yaml:"groups"`
}

type outlinedGroup struct {
	line  int
	name  string
	rules []yaml.Node
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (g *outlinedGroup) UnmarshalYAML(n *yaml.Node) error {
	var fields struct {
		Name  string      `yaml:"name"`
		Rules []yaml.Node `yaml:"rules"`
	}
	if err := n.Decode(&fields); err != nil {
		return err
	}
	g.line, g.name, g.rules = n.Line, fields.Name, fields.Rules
	return nil
}

// nameErrors returns what is wrong with the names of the groups.
func (d *ruleDocument) nameErrors() []error {
	var errs []error
	seen := make(map[string]int)
	for _, g := range d.Groups {
		if first := seen[g.name]; g.name == "" {
			errs = append(errs, fmt.Errorf("%d: the group has no name", g.line))
		} else if first > 0 {
			errs = append(errs, fmt.Errorf("%d: group %q is in this file already, in line %d", g.line, g.name, first))
		}
		seen[g.name] = g.line
	}
	return errs
}

// line returns the line at which the n-th rule of a group begins, counted from 1; 0 when there is none.
func (d *ruleDocument) line(group string, n int) int {
	for _, g := range d.Groups {
		if g.name == group && n >= 1 && n <= len(g.rules) {
			return g.rules[n-1].Line
		}
	}
	return 0
}

// makeGroups makes groups of what was read, by key.
func (m *Manager) makeGroups(parsed []parsedGroup, c *Config) map[string]*group {
	groups := make(map[string]*group, len(parsed))
	for _, p := range parsed {
		g := &group{
			name: p.group.Name, file: p.file, key: p.file + ";" + p.group.Name,
			interval: c.Interval, queryOffset: c.QueryOffset, limit: p.group.Limit, rules: p.rules,
			opts: &m.opts, gate: &m.gate, outbox: m.outbox,
			logger: m.opts.Logger.With("file", p.file, "group", p.group.Name),
			stop:   make(chan struct{}), stopped: make(chan struct{}),
		}
		if p.group.Interval > 0 {
			g.interval = time.Duration(p.group.Interval)
		}
		if g.interval <= 0 {
			g.interval = defaultInterval
		}
		if p.group.QueryOffset != nil {
			g.queryOffset = time.Duration(*p.group.QueryOffset)
		}
		g.definition = groupDefinition(g, c)
		groups[g.key] = g
	}
	return groups
}

// groupDefinition is everything that a group is made of: a group whose definition a reload leaves as it is
// keeps running. External labels and URL count, because templates and links use them.
func groupDefinition(g *group, c *Config) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v %v %d %s %s\n", g.interval, g.queryOffset, g.limit, c.ExternalLabels, c.ExternalURL)
	for _, r := range g.rules {
		b.WriteString(r.definition())
	}
	return b.String()
}
