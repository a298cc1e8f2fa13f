// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/tidemarkdb/tidemark/ingest"
)

// helpOf returns what the store knows last of a family, told by any of its series.
func (b *bench) helpOf(name string) string {
	for _, r := range b.store.Rows() {
		if strings.Contains(r.Series, fmt.Sprintf("__name__=%q", name)) {
			if m := b.store.Metadata(r.Series); m.Help != "" {
				return m.Help
			}
		}
	}
	return ""
}

func about(help string) []byte {
	return []byte("# HELP a " + help + "\n# TYPE a counter\na 1\n# HELP b " + help + "\n# TYPE b gauge\nb{x=\"1\"} 1\nb{x=\"2\"} 2\n")
}

// TestMetadataIsToldOnceItIsStored: what a scrape said that was not stored is said again, by series that are known by then.
func TestMetadataIsToldOnceItIsStored(t *testing.T) {
	cases := map[string]func(b *bench){
		"nothing before":            func(*bench) {},
		"a broken line behind":      func(b *bench) { b.give(append(about("new"), "broken{\n"...)) },
		"a broken line in between":  func(b *bench) { b.give([]byte("# HELP a new\n# TYPE a counter\nbroken{\n")) },
		"other help, broken behind": func(b *bench) { b.give(about("old")); b.give(append(about("new"), "broken{\n"...)) },
		"other help, broken between": func(b *bench) {
			b.give(about("old"))
			b.give([]byte("# HELP a new\n# HELP b new\nbroken{\n"))
		},
		"a commit that fails": func(b *bench) {
			b.give(about("old"))
			b.store.CommitErr = errors.New("no")
			b.Loop.store(&body{bytes: about("new"), contentType: "text/plain"}, result{}, b.at, b.at)
			b.store.CommitErr = nil
		},
		"a series that a limit refuses": func(b *bench) {
			b.store.Refuse = func(ls labels.Labels) string {
				return map[string]string{"1": "too many"}[ls.Get("x")]
			}
		},
		"the first series dropped": func(b *bench) {
			b.set.relabel = []*relabel.Config{{SourceLabels: model.LabelNames{"x"}, Regex: relabel.MustNewRegexp("1"), Action: relabel.Drop}}
			b.give(about("old"))
		},
		"series that left the store while it changed": func(b *bench) {
			b.give(about("old"))
			b.store.Forget()
		},
	}
	for name, before := range cases {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.set.passMetadata = true
			before(b)
			for range 3 {
				b.give(about("new"))
			}
			for _, name := range []string{"a", "b"} {
				if got := b.helpOf(name); got != "new" {
					t.Errorf("the store knows %q of %s", got, name)
				}
			}
			if n := len(b.cache.families.all); n != 2 {
				t.Errorf("there are %d families", n)
			}
			for i := range b.cache.families.all {
				if b.cache.families.all[i].untold {
					t.Errorf("%s is still to be told", b.cache.families.all[i].described.Value().name)
				}
			}
		})
	}
}

// TestMetadataIsToldOnce: by one of many series, of one of many targets, in one of many scrapes.
func TestMetadataIsToldOnce(t *testing.T) {
	b := newBench(t)
	b.set.passMetadata = true
	count := func(want int) {
		t.Helper()
		if n := b.store.Described(); n != want {
			t.Errorf("%d times was metadata stored, want %d", n, want)
		}
	}
	for range 3 {
		b.give(about("one"))
		count(2 + usualReports)
	}
	b.give(about("two"))
	count(4 + usualReports)
	in, err := ingest.New(ingest.Options{Appender: b.store})
	if err != nil {
		t.Fatal(err)
	}
	second := newBench(t)
	second.set.passMetadata, second.pool.told, second.pool.intake = true, b.pool.told, in
	second.Loop.store(&body{bytes: about("two"), contentType: "text/plain"}, result{}, second.at, second.at)
	count(4 + usualReports)
}
