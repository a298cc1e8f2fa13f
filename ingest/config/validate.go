// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"reflect"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

// validate checks what the type of a value does not: values on their own first, then pairs of them.
func (s *Settings) validate(d *decoder) error {
	for _, check := range []func(*decoder) error{
		s.validateSizes, s.validateDurations, s.validateRetention, s.validateLimits, s.validateAddresses, s.validateReceivers,
	} {
		if err := check(d); err != nil {
			return err
		}
	}
	return nil
}

// at returns an error at the line of a key, or at that of the nearest key above it.
func (d *decoder) at(path, format string, args ...any) error {
	return d.errorf(d.lines[path], "%s: %s", path, fmt.Sprintf(format, args...))
}

func (s *Settings) validateSizes(d *decoder) error {
	const leastMemory = 64 << 20 // an idle server takes up to 60 MB
	if m := s.Memory.Limit; m.Percent == 0 && m.Bytes < leastMemory {
		return d.at("memory.limit", "%s is too little: at least 64MiB", m)
	}
	if s.Memory.PerQuery == (Size{}) {
		return d.at("memory.per_query", "0 would refuse every query: leave it out for the default of 25%%")
	}
	reserve := s.Memory.RulesReserve.Of(100)
	if s.Memory.RulesReserve.Percent > 0 && reserve > 50 {
		return d.at("memory.rules_reserve", "%s leaves too little for the rest: at most 50%%", s.Memory.RulesReserve)
	}
	return nil
}

func (s *Settings) validateDurations(d *decoder) error {
	for path, v := range map[string]Duration{
		"storage.max_future":          s.Storage.MaxFuture,
		"receive.ha_dedup.failover":   s.Receive.HADedup.Failover,
		"remote_write_queue.max_age":  s.RemoteWriteQueue.MaxAge,
		"alertmanager.data_retention": s.Alertmanager.DataRetention,
		"deadman.interval":            s.Deadman.Interval,
		"backup.interval":             s.Backup.Interval,
	} {
		if v <= 0 {
			return d.at(path, "must be above 0")
		}
	}
	if s.Rules.LogEvaluations < 0 {
		return d.at("rules.log_evaluations", "must not be below 0")
	}
	return nil
}

// maxRetention is how many rules storage.retention may have.
const maxRetention = 7

func (s *Settings) validateRetention(d *decoder) error {
	names := map[string]bool{}
	selectors := parser.NewParser(parser.Options{})
	if n := len(s.Storage.Retention); n > maxRetention {
		return d.at("storage.retention", "%d rules, at most %d: the series of each are in files of their own", n, maxRetention)
	}
	for i, r := range s.Storage.Retention {
		path := fmt.Sprintf("storage.retention[%d]", i)
		if r.Name == "" || names[r.Name] {
			return d.at(path, "every rule needs a name of its own, %q is not", r.Name)
		}
		names[r.Name] = true
		if _, err := selectors.ParseMetricSelector(r.Match); err != nil {
			return d.at(path+".match", "%q is not a series selector such as {job=\"debug\"}: %v", r.Match, err)
		}
		if r.Keep <= 0 {
			return d.at(path, "keep must be above 0")
		}
	}
	return nil
}

func (s *Settings) validateLimits(d *decoder) error {
	names := map[string]bool{}
	for i, l := range s.SeriesLimits {
		path := fmt.Sprintf("series_limits[%d]", i)
		if l.Name == "" || names[l.Name] {
			return d.at(path, "every limit needs a name of its own, %q is not", l.Name)
		}
		names[l.Name] = true
		if !model.UTF8Validation.IsValidLabelName(l.Per) {
			return d.at(path, "per must be total or the name of a label, not %q", l.Per)
		}
	}
	for path, name := range map[string]string{
		"receive.ha_dedup.cluster_label": s.Receive.HADedup.ClusterLabel,
		"receive.ha_dedup.replica_label": s.Receive.HADedup.ReplicaLabel,
	} {
		if !model.UTF8Validation.IsValidLabelName(name) {
			return d.at(path, "%q is not the name of a label", name)
		}
	}
	return nil
}

func (s *Settings) validateAddresses(d *decoder) error {
	check := func(path, address string) error {
		if address == "" {
			return nil
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			return d.at(path, "%q is not an address such as :2003 or 10.0.0.1:2003", address)
		}
		return nil
	}
	if err := check("receive.graphite_listen", s.Receive.GraphiteListen); err != nil {
		return err
	}
	if err := check("alertmanager.cluster.listen_address", s.Alertmanager.Cluster.ListenAddress); err != nil {
		return err
	}
	for _, peer := range s.Alertmanager.Cluster.Peers {
		if err := check("alertmanager.cluster.peers", peer); err != nil {
			return err
		}
	}
	return nil
}

func (s *Settings) validateReceivers(d *decoder) error {
	for i, w := range s.Webhooks {
		if w.URLFile == "" {
			return d.at(fmt.Sprintf("webhooks[%d]", i), "url_file is missing: name the file that holds the URL")
		}
	}
	if u := s.Alertmanager.ExternalURL; u != "" {
		parsed, err := url.Parse(u)
		if err != nil || parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
			return d.at("alertmanager.external_url", "%q is not an http or https URL", u)
		}
	}
	return nil
}

// setDirectory makes relative file names relative to the file they stand in.
func (s *Settings) setDirectory(dir string) {
	names := []*string{&s.Alertmanager.ConfigFile, &s.Deadman.URLFile, &s.Backup.ObjstoreConfigFile}
	for i := range s.Webhooks {
		names = append(names, &s.Webhooks[i].URLFile)
	}
	for _, name := range names {
		if *name != "" && !filepath.IsAbs(*name) {
			*name = filepath.Join(dir, *name)
		}
	}
}

// restartKeys returns the keys with the tag acts:"restart" whose values differ.
func restartKeys(a, b Settings) []string {
	var keys []string
	var compare func(x, y reflect.Value, path string)
	compare = func(x, y reflect.Value, path string) {
		for _, f := range reflect.VisibleFields(x.Type()) {
			p := join(path, f.Tag.Get("yaml"))
			fx, fy := x.FieldByIndex(f.Index), y.FieldByIndex(f.Index)
			switch {
			case f.Tag.Get("acts") == "restart":
				if !reflect.DeepEqual(fx.Interface(), fy.Interface()) {
					keys = append(keys, "tidemark."+p)
				}
			case f.Type.Kind() == reflect.Struct && f.Type.PkgPath() == x.Type().PkgPath():
				if _, leaf := reflect.TypeAssert[fmt.Stringer](fx); !leaf {
					compare(fx, fy, p)
				}
			}
		}
	}
	compare(reflect.ValueOf(a), reflect.ValueOf(b), "")
	return keys
}
