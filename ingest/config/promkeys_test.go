// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"reflect"
	"strings"
	"testing"

	promconfig "github.com/prometheus/prometheus/config"
)

// promPaths returns the path of every key of Prometheus' Config, those of list elements without indexes.
func promPaths(t reflect.Type, path string) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.PkgPath() != reflect.TypeFor[promconfig.Config]().PkgPath() {
		return []string{path}
	}
	var paths []string
	for _, f := range reflect.VisibleFields(t) {
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case key == "-" || (key == "" && !strings.Contains(options, "inline")):
		case key == "":
			paths = append(paths, path)
		default:
			paths = append(paths, promPaths(f.Type, join(path, key))...)
		}
	}
	return paths
}

func TestEveryKeyOfPrometheusHasAFate(t *testing.T) {
	paths := promPaths(reflect.TypeFor[promconfig.Config](), "")
	if len(paths) < 100 {
		t.Fatalf("only %d keys found", len(paths))
	}
	used := map[string]bool{}
	for _, p := range paths {
		row, ok := rowOf(p)
		if !ok {
			t.Errorf("%s is in no row of the table: does it act?", p)
		}
		used[row.path] = true
	}
	for _, row := range promKeys {
		if !used[row.path] {
			t.Errorf("the row %s is about no key", row.path)
		}
		if row.why == "" {
			t.Errorf("the row %s has no text", row.path)
		}
	}
}
