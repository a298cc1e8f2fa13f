// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

const modulePath = "github.com/tidemarkdb/tidemark"

// skippedDirs hold nothing that is written by hand.
var skippedDirs = []string{".git", ".cache", "bin", "data", "node_modules", "web/ui/dist"}

// file is one file of the repository, read whole.
type file struct {
	path string
	text string
	ast  *ast.File // Go files outside testdata; nil otherwise
}

// tree is the repository, read once and parsed.
type tree struct {
	fset  *token.FileSet
	files []*file
	paths map[string]bool // every file and directory
}

// readTree reads every file of fsys that is not under skippedDirs.
func readTree(fsys fs.FS) (*tree, error) {
	t := &tree{fset: token.NewFileSet(), paths: map[string]bool{}}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains(skippedDirs, p) || slices.Contains(skippedDirs, d.Name()) && d.Name() != "data" {
				return fs.SkipDir
			}
			t.paths[p] = true
			return nil
		}
		if !d.Type().IsRegular() || strings.HasSuffix(p, ".test") || strings.HasSuffix(p, ".prof") {
			return nil // what go test leaves behind
		}
		t.paths[p] = true
		return t.read(fsys, p)
	})
	if err != nil {
		return nil, fmt.Errorf("read the repository: %w", err)
	}
	return t, nil
}

func (t *tree) read(fsys fs.FS, p string) error {
	text, err := fs.ReadFile(fsys, p)
	if err != nil {
		return err
	}
	f := &file{path: p, text: string(text)}
	if strings.HasSuffix(p, ".go") && !f.inTestdata() {
		f.ast, err = parser.ParseFile(t.fset, p, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
	}
	t.files = append(t.files, f)
	return nil
}

// goFiles returns the parsed Go files.
func (t *tree) goFiles() []*file {
	var out []*file
	for _, f := range t.files {
		if f.ast != nil {
			out = append(out, f)
		}
	}
	return out
}

// find returns the file at p, or nil.
func (t *tree) find(p string) *file {
	for _, f := range t.files {
		if f.path == p {
			return f
		}
	}
	return nil
}

func (t *tree) line(pos token.Pos) int { return t.fset.Position(pos).Line }

func (f *file) dir() string      { return path.Dir(f.path) }
func (f *file) isTest() bool     { return strings.HasSuffix(f.path, "_test.go") }
func (f *file) inTestdata() bool { return slices.Contains(strings.Split(f.dir(), "/"), "testdata") }

var generatedLine = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func (f *file) isGenerated() bool { return generatedLine.MatchString(f.text) }

// lines counts lines the way an editor does.
func (f *file) lines() int {
	n := strings.Count(f.text, "\n")
	if f.text != "" && !strings.HasSuffix(f.text, "\n") {
		n++
	}
	return n
}
