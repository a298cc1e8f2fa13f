// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
)

const maxBinary = 200 << 10 // bytes; a clone stays small, fixtures live in testdata

// checkBinaries reports large files that are not text.
func checkBinaries(t *tree) []finding {
	var found []finding
	for _, f := range t.files {
		head := f.text[:min(len(f.text), 8<<10)]
		if len(f.text) > maxBinary && strings.Contains(head, "\x00") && !f.inTestdata() {
			found = append(found, finding{path: f.path, msg: fmt.Sprintf(
				"binary of %d kB, %d at most: build it, or keep it in testdata if a test reads it", len(f.text)>>10, maxBinary>>10)})
		}
	}
	return found
}

var (
	mdLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	mdHeading = regexp.MustCompile(`^#{1,6} +(.+?) *$`)
	mdDropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// checkLinks resolves the relative links of every Markdown file, headings included.
func checkLinks(t *tree) []finding {
	var found []finding
	for _, f := range t.files {
		if !strings.HasSuffix(f.path, ".md") || f.inTestdata() {
			continue
		}
		for i, line := range proseLines(f.text) {
			for _, m := range mdLink.FindAllStringSubmatch(line, -1) {
				if msg := t.brokenLink(f, m[1]); msg != "" {
					found = append(found, finding{f.path, i + 1, msg})
				}
			}
		}
	}
	return found
}

// brokenLink says what is wrong with a link of f, or nothing.
func (t *tree) brokenLink(f *file, link string) string {
	u, err := url.Parse(link)
	if err != nil {
		return fmt.Sprintf("link %q cannot be parsed: write a relative path or a URL", link)
	}
	if u.Scheme != "" || u.Host != "" {
		return ""
	}
	target := f.path
	if u.Path != "" {
		target = path.Join(f.dir(), u.Path)
	}
	if !t.paths[target] {
		return fmt.Sprintf("link to %s, which does not exist: correct the path from %s", u.Path, f.dir())
	}
	to := t.find(target)
	if u.Fragment == "" || to == nil || !strings.HasSuffix(target, ".md") {
		return ""
	}
	if !headings(to.text)[u.Fragment] {
		return fmt.Sprintf("link to #%s, and %s has no such heading: use the heading's words in lower case with hyphens", u.Fragment, target)
	}
	return ""
}

// proseLines blanks fenced code, in which brackets and hashes mean other things.
func proseLines(text string) []string {
	lines := strings.Split(text, "\n")
	fenced := false
	for i, line := range lines {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
			lines[i] = ""
			continue
		}
		if fenced {
			lines[i] = ""
		}
	}
	return lines
}

// headings returns the anchors of a Markdown text as forges derive them.
func headings(text string) map[string]bool {
	out := map[string]bool{}
	for _, line := range proseLines(text) {
		if m := mdHeading.FindStringSubmatch(line); m != nil {
			plain := mdDropped.ReplaceAllString(strings.ToLower(m[1]), "")
			out[strings.ReplaceAll(plain, " ", "-")] = true
		}
	}
	return out
}
