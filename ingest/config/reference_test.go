// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

// fieldDocs returns the comments of the fields in settings.go, by Type.Field.
func fieldDocs(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "settings.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if st, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range st.Fields.List {
				docs[spec.Name.Name+"."+f.Names[0].Name] = strings.TrimSpace(f.Doc.Text())
			}
		}
		return false
	})
	return docs
}

// reference renders the tables of docs/configuration.md.
type reference struct {
	b    strings.Builder
	docs map[string]string
}

func (r *reference) rows(t *testing.T, v reflect.Value, path, inherited string) {
	for _, f := range reflect.VisibleFields(v.Type()) {
		p, value := join(path, f.Tag.Get("yaml")), v.FieldByIndex(f.Index)
		_, leaf := reflect.TypeAssert[fmt.Stringer](value)
		if f.Type.Kind() == reflect.Struct && !leaf {
			r.rows(t, value, p, inherited)
			continue
		}
		acts := f.Tag.Get("acts")
		if acts == "" {
			acts = inherited
		}
		if f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct {
			if doc := r.docs[v.Type().Name()+"."+f.Name]; doc != "" {
				fmt.Fprintf(&r.b, "| `%s` | list | %s |\n", p, doc)
			}
			elem := reflect.New(f.Type.Elem())
			if x, ok := reflect.TypeAssert[interface{ setDefaults() }](elem); ok {
				x.setDefaults()
			}
			r.rows(t, elem.Elem(), p+"[]", acts)
			continue
		}
		doc := r.docs[v.Type().Name()+"."+f.Name]
		if doc == "" {
			t.Errorf("%s.%s has no comment", v.Type().Name(), f.Name)
		}
		fmt.Fprintf(&r.b, "| `%s` | `%s` | %s |\n", p, show(value), strings.Join(append([]string{doc}, notes(f, acts)...), " "))
	}
}

func notes(f reflect.StructField, acts string) []string {
	var notes []string
	if words := f.Tag.Get("oneof"); words != "" {
		notes = append(notes, "One of "+strings.Join(strings.Fields(words), ", ")+".")
	}
	if of := f.Tag.Get("of"); of != "" {
		notes = append(notes, "A share is of "+of+".")
	}
	if only, ok := strings.CutPrefix(acts, "only "); ok {
		notes = append(notes, "*In this version only "+only+" has an effect.*")
	}
	switch acts {
	case "restart":
		notes = append(notes, "*Acts after a restart.*")
	case "no":
		notes = append(notes, "*Accepted, no effect in this version.*")
	}
	return notes
}

func show(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case string:
		if x == "" {
			return `""`
		}
	case []string:
		return "[]"
	}
	return fmt.Sprint(v.Interface())
}

func TestReferenceIsCurrent(t *testing.T) {
	r := &reference{docs: fieldDocs(t)}
	r.b.WriteString(`# Configuration

The main file (` + "`--config.file`" + `) is a prometheus.yml. Tidemark's own settings stand in it under ` + "`tidemark:`" + `, or without
that outer key in the file of ` + "`--tidemark.config.file`" + `; both at once is an error. Unknown keys are errors with file and
line. Sizes are written ` + "`512MiB`, `8GiB` or `60%`" + `, durations ` + "`30s`, `1h30m`, `7d`" + `. Both files are read again on a reload; a
file with a mistake changes nothing.

This page is generated from ingest/config/settings.go by ` + "`go test ./ingest/config -update`" + `.

## Settings under tidemark:

| key | default | meaning |
|---|---|---|
`)
	r.rows(t, reflect.ValueOf(DefaultSettings()), "", "")
	r.b.WriteString("\nWithout a list of its own, series_limits holds these:\n\n")
	for _, l := range DefaultSettings().SeriesLimits {
		fmt.Fprintf(&r.b, "    - {name: %s, per: %s, max: %s, action: %s}\n", l.Name, l.Per, l.Max, l.Action)
	}
	r.b.WriteString("\n## Prometheus' own keys\n\nA key in no row of its own shares that of the section around it.\n\n| key | effect |\n|---|---|\n")
	for _, k := range promKeys {
		what := k.why
		if k.fate == inert {
			what = "*accepted, no effect in this version:* " + what
		}
		fmt.Fprintf(&r.b, "| `%s` | %s |\n", k.path, what)
	}
	path := filepath.Join("..", "..", "docs", "configuration.md")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(r.b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != r.b.String() {
		t.Errorf("docs/configuration.md is not what the structs say (%v): run go test ./ingest/config -update", err)
	}
}
