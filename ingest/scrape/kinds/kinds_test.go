// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package kinds_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/discovery"

	"github.com/tidemarkdb/tidemark/ingest/config"
	_ "github.com/tidemarkdb/tidemark/ingest/scrape/kinds"
)

func TestLinkedKindsAreInTheTableOfTags(t *testing.T) {
	linked := discovery.RegisteredConfigNames()
	for _, always := range []string{"static", "file", "http"} {
		if !slices.Contains(linked, always) {
			t.Errorf("%s is not linked", always)
		}
	}
	for _, kind := range linked {
		if _, ok := config.KindTag(kind); !ok && kind != "static" && kind != "file" && kind != "http" {
			t.Errorf("%s is linked and has no tag in config.KindTag: a build without it would not name it", kind)
		}
	}
}

// TestEveryTagOfPrometheusIsKnown reads the build constraints of the plugins package, which says more than what this
// test binary happens to link.
func TestEveryTagOfPrometheusIsKnown(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "github.com/prometheus/prometheus/plugins").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(string(out))
	files, err := filepath.Glob(filepath.Join(dir, "plugin_*.go"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d plugins in %s, %v", len(files), dir, err)
	}
	tag, kind := regexp.MustCompile(`enable_\w+_sd`), regexp.MustCompile(`(?s)func \((?:\w+ )?\*?\w+\) Name\(\) string \{\s*return "(\w+)"`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := tag.FindString(string(text))
		pkg := regexp.MustCompile(`prometheus/discovery/(\w+)`).FindSubmatch(text)
		if want == "" || pkg == nil {
			t.Errorf("%s names no tag or no package", file)
			continue
		}
		sources, err := filepath.Glob(filepath.Join(dir, "..", "discovery", string(pkg[1]), "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, source := range sources {
			code, err := os.ReadFile(source)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range kind.FindAllSubmatch(code, -1) {
				if found++; strings.HasSuffix(source, "_test.go") {
					continue
				}
				if got, _ := config.KindTag(string(m[1])); got != want {
					t.Errorf("kind %s has the tag %q, want %q", m[1], got, want)
				}
			}
		}
		if found == 0 {
			t.Errorf("no kind found in discovery/%s", pkg[1])
		}
	}
}
