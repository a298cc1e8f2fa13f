// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// pinned are the modules that the tests' peers must have in the very version we link: answers
// are compared between the two.
var pinned = []string{"github.com/prometheus/prometheus", "github.com/prometheus/alertmanager"}

// checkPins compares the peers' module file with ours.
func checkPins(t *tree) []finding {
	const peers = "testdata/peers/go.mod"
	ours, theirs := t.find("go.mod"), t.find(peers)
	if ours == nil || theirs == nil {
		return nil
	}
	var found []finding
	for _, module := range pinned {
		want, got := required(ours.text, module), required(theirs.text, module)
		if want != got {
			found = append(found, finding{path: peers, msg: fmt.Sprintf(
				"%s is %s here and %s in go.mod: pin the same version and run go mod tidy in testdata/peers", module, got, want)})
		}
	}
	return found
}

// required returns the version a go.mod asks for, or "absent".
func required(mod, module string) string {
	m := regexp.MustCompile(`(?m)^\s*(?:require )?` + regexp.QuoteMeta(module) + ` (v\S+)`).FindStringSubmatch(mod)
	if m == nil {
		return "absent"
	}
	return m[1]
}

const depsFile = "docs/deps.txt"

const depsHead = `# Modules linked into cmd/tidemark with every discovery kind. Written by
# go run ./cmd/tidy -update; a line more or less is a decision that a reviewer sees.
`

// checkDeps compares docs/deps.txt with what the server links, or rewrites it.
func checkDeps(root string, update bool) ([]finding, error) {
	modules, err := linkedModules(root)
	if err != nil {
		return nil, err
	}
	want := depsHead + strings.Join(modules, "\n") + "\n"
	name := filepath.Join(root, depsFile)
	if update {
		return nil, os.WriteFile(name, []byte(want), 0o644)
	}
	have, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return compareDeps(string(have), want), nil
}

// compareDeps names the modules that came and went.
func compareDeps(have, want string) []finding {
	if have == want {
		return nil
	}
	old, now := strings.Split(have, "\n"), strings.Split(want, "\n")
	var change []string
	for _, m := range now {
		if !slices.Contains(old, m) {
			change = append(change, "+"+m)
		}
	}
	for _, m := range old {
		if !slices.Contains(now, m) {
			change = append(change, "-"+m)
		}
	}
	return []finding{{path: depsFile, msg: fmt.Sprintf(
		"not what cmd/tidemark links (%s): run go run ./cmd/tidy -update and justify the change", strings.Join(change, " "))}}
}

// linkedModules asks the go command for the modules of all packages cmd/tidemark depends on.
func linkedModules(root string) ([]string, error) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./cmd/tidemark")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the modules of cmd/tidemark: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	modules := strings.Fields(string(out))
	slices.Sort(modules)
	modules = slices.Compact(modules)
	return slices.DeleteFunc(modules, func(m string) bool { return m == modulePath }), nil
}
