// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package config reads the configuration: Prometheus' own file, parsed by Prometheus' own strict loader, and our
// settings beside it.
//
// Its nouns: a Config is everything one load yields and is never changed afterwards; Settings are our keys, under
// `tidemark:` in the main file or, with the same schema and without that outer key, in a file of their own; an Error
// is a mistake with its place. A reload is another Load: on error the caller keeps the Config it has.
//
// The main file must stay a valid prometheus.yml for Prometheus' loader, which refuses keys it does not know. So the
// file is read as YAML nodes first, our section is decoded from the nodes, its lines are turned into comments in
// place, and the rest goes to Prometheus' loader, whose errors thereby keep their line numbers. Whatever cannot be
// separated exactly (checked by parsing the rest again and comparing) is an error, never a guess.
//
// No key is ignored in silence. Keys of ours and of Prometheus that this version does not act on are accepted and
// named in one log line; docs/configuration.md is generated from the structs of this package.
//
// A Config is safe for concurrent reading. The package starts no goroutines.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	promconfig "github.com/prometheus/prometheus/config"
	"gopkg.in/yaml.v3"
)

// Options say what to load. File is required, the rest may be left out.
type Options struct {
	File         string       // the main file, a prometheus.yml
	TidemarkFile string       // our settings without the outer key; empty: they are in File
	Logger       *slog.Logger // nil: nothing is logged
	Agent        bool         // whether sections that an agent does not have are errors
}

// Config is the result of one load. It must not be changed.
type Config struct {
	Prom     *promconfig.Config // every section of Prometheus, relative paths resolved
	Tidemark Settings           // ours, defaults filled in, relative paths resolved
	// Inert lists the keys that were set and have no effect in this version, ours with the prefix "tidemark.".
	Inert []string
	// LateWindowSet says that storage.tsdb.out_of_order_time_window is in the file, be it 0s: then it governs
	// late samples, scraped and pushed.
	LateWindowSet bool
}

// Load reads and checks the configuration. A mistake in a file is an *Error.
func Load(o Options) (*Config, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	text, err := os.ReadFile(o.File)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	main, err := split(o.File, text)
	if err != nil {
		return nil, err
	}
	c := &Config{}
	if c.Tidemark, c.Inert, err = loadSettings(o, main.section); err != nil {
		return nil, err
	}
	if err := checkKinds(o.File, main.root); err != nil {
		return nil, err
	}
	c.Prom, err = promconfig.Load(string(main.rest), o.Logger)
	if err != nil {
		return nil, main.loaderError(err)
	}
	c.LateWindowSet = lookup(lookup(lookup(main.root, "storage"), "tsdb"), "out_of_order_time_window") != nil
	c.Prom.SetDirectory(filepath.Dir(o.File))
	if err := c.check(o, main.root); err != nil {
		return nil, err
	}
	c.Inert = append(c.Inert, inertPromKeys(main.root)...)
	if len(c.Inert) > 0 {
		o.Logger.Warn("keys of the configuration are accepted, but have no effect in this version", "keys", strings.Join(c.Inert, ", "))
	}
	if main.more {
		o.Logger.Warn("the configuration file has more than one YAML document, only the first is read", "file", o.File)
	}
	return c, nil
}

// check looks at what Prometheus' loader leaves to its callers.
func (c *Config) check(o Options, root *yaml.Node) error {
	for _, pattern := range c.Prom.ScrapeConfigFiles {
		if err := checkKindsOfFiles(pattern); err != nil {
			return err
		}
	}
	if _, err := c.Prom.GetScrapeConfigs(); err != nil {
		return &Error{File: o.File, Line: lineOf(root, "scrape_config_files"), Msg: err.Error(), Err: err}
	}
	if !o.Agent {
		return nil
	}
	for key, used := range map[string]bool{
		"alerting":    len(c.Prom.AlertingConfig.AlertmanagerConfigs) > 0 || len(c.Prom.AlertingConfig.AlertRelabelConfigs) > 0,
		"rule_files":  len(c.Prom.RuleFiles) > 0,
		"remote_read": len(c.Prom.RemoteReadConfigs) > 0,
	} {
		if used {
			return &Error{File: o.File, Line: lineOf(root, key), Msg: key + " is not allowed in agent mode: remove it or start without --agent"}
		}
	}
	return nil
}

// loadSettings decodes our settings from the section of the main file or from a file of their own.
func loadSettings(o Options, section *yaml.Node) (Settings, []string, error) {
	file := o.File
	if o.TidemarkFile != "" {
		if section != nil {
			return Settings{}, nil, &Error{
				File: o.File, Line: section.Line,
				Msg: "settings are both under tidemark: here and in " + o.TidemarkFile + ": keep one of the two",
			}
		}
		file = o.TidemarkFile
		root, err := parseSettingsFile(file)
		if err != nil {
			return Settings{}, nil, err
		}
		section = root
	}
	d := &decoder{file: file, lines: map[string]int{}}
	s := DefaultSettings()
	if err := d.decodeRoot(section, &s); err != nil {
		return Settings{}, nil, err
	}
	if err := s.validate(d); err != nil {
		return Settings{}, nil, err
	}
	s.setDirectory(filepath.Dir(file))
	inert := make([]string, len(d.inert))
	for i, key := range d.inert {
		inert[i] = "tidemark." + key
	}
	return s, inert, nil
}

// RuleFiles returns the files that the patterns of rule_files match now, in the order of the patterns, each once.
func (c *Config) RuleFiles() ([]string, error) {
	var files []string
	for _, pattern := range c.Prom.RuleFiles {
		matched, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("rule_files: pattern %q: %w", pattern, err)
		}
		for _, f := range matched {
			if !slices.Contains(files, f) {
				files = append(files, f)
			}
		}
	}
	return files, nil
}

// YAML returns the whole configuration as it acts, defaults included and secrets replaced, for display.
func (c *Config) YAML() string {
	var b strings.Builder
	b.WriteString(c.Prom.String())
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	err := errors.Join(enc.Encode(map[string]Settings{"tidemark": c.Tidemark}), enc.Close())
	if err != nil {
		return c.Prom.String() + "# tidemark: " + err.Error() + "\n"
	}
	return b.String()
}

// RestartKeys returns the keys which differ between two loads and act only after a restart.
func RestartKeys(before, after *Config) []string {
	return restartKeys(before.Tidemark, after.Tidemark)
}
