// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// picky is a store that makes no series of some names.
type picky struct {
	*ingesttest.Recorder

	refused string
}

// Resolve refuses what is not wanted.
func (p picky) Resolve(ls []labels.Labels, refs []sample.Ref) error {
	if err := p.Recorder.Resolve(ls, refs); err != nil {
		return err
	}
	var refused []sample.Refusal
	for i := range ls {
		if strings.Contains(p.refused, ls[i].Get(labels.MetricName)) {
			refs[i] = 0
			refused = append(refused, sample.Refusal{Index: i, Why: "too many"})
		}
	}
	if refused != nil {
		return &sample.RefusedError{Refused: refused}
	}
	return nil
}

// TestSeriesThatALimitRefusesAreLeftOut: the target stays up with those that it may have, whether they have times or not,
// and gets the others when it may.
func TestSeriesThatALimitRefusesAreLeftOut(t *testing.T) {
	b := newBench(t)
	give := func(refused, want string) {
		t.Helper()
		in, err := ingest.New(ingest.Options{Appender: picky{b.store, refused}})
		if err != nil {
			t.Fatal(err)
		}
		b.pool.intake = in
		rows, good := b.give([]byte("a 1\nb 2\nc 3 1600000000000\nd 4 1600000000000\n"))
		var names []string
		for _, r := range rows {
			_, name, _ := strings.Cut(r, `__name__="`)
			names = append(names, name[:1])
		}
		if got := strings.Join(names, " "); got != want || !good {
			t.Errorf("stored are %q, want %q; the scrape is good: %t", got, want, good)
		}
	}
	give("b c", "a d")
	give("b c", "a d")
	give("c", "a b d")
	give("none", "a b c d")
	give("a b c d", "a b c d") // those that exist stay
}

// TestSeriesThatLeftTheStoreComeBack: by the labels that the body tells, reports included.
func TestSeriesThatLeftTheStoreComeBack(t *testing.T) {
	b := newBench(t)
	text := []byte("# TYPE a counter\na{x=\"1\"} 1\nb 2\n")
	for i := range 4 {
		if i == 2 {
			b.store.Forget()
		}
		if rows, good := b.give(text); !good || len(rows) != 2 {
			t.Fatalf("scrape %d stores %q, good: %t", i, rows, good)
		}
	}
	b.store.Forget()
	if rows, good := b.give([]byte("b 2\n")); !good || len(rows) != 1 { // nobody is there to mark a
		t.Fatalf("after a second loss are stored %q, good: %t", rows, good)
	}
}

// TestSeriesWithTimesOfTheirOwnComeBack: the store is asked about these ahead, and knows their refs no more.
func TestSeriesWithTimesOfTheirOwnComeBack(t *testing.T) {
	for _, parseStart := range []bool{false, true} {
		b := newBench(t)
		b.within(t, 0)
		b.set.parseStart = parseStart
		for i := range 6 {
			if i == 2 || i == 4 {
				b.store.Forget()
			}
			rows, good := b.give(fmt.Appendf(nil, "a 1 %d\nb 2\na 3 %d\n", b.at.UnixMilli()+1, b.at.UnixMilli()+2))
			if !good || len(rows) != 3 {
				t.Errorf("scrape %d stores %q, good: %t", i, rows, good)
			}
		}
	}
}

// TestABodyIsReadOnceMoreForAllThatLeftTheStore: once for each of 20,000 series would take a minute.
func TestABodyIsReadOnceMoreForAllThatLeftTheStore(t *testing.T) {
	b := newBench(t)
	var text bytes.Buffer
	for i := range 20_000 {
		fmt.Fprintf(&text, "metric_%d{device=\"eth%d\",pod=\"pod-%d\"} %d\n", i/3, i%3, i, i)
	}
	b.give(text.Bytes())
	b.store.Forget()
	began := time.Now()
	rows, good := b.give(text.Bytes())
	if !good || len(rows) != 20_000 {
		t.Errorf("%d samples are stored, good: %t", len(rows), good)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("that took %s", took)
	}
}

// TestSeriesWithTimesAreResolvedOneByOneInGoodTime: to go over all that came before for each of 30,000 would take minutes.
func TestSeriesWithTimesAreResolvedOneByOneInGoodTime(t *testing.T) {
	const n = 30_000
	b := newBench(t)
	b.within(t, 0)
	b.store.Refuse = func(ls labels.Labels) string {
		if strings.HasPrefix(ls.Get(labels.MetricName), "refused") {
			return "too many"
		}
		return ""
	}
	var text bytes.Buffer
	for i := range n {
		name := "kept"
		if i%4 == 3 {
			name = "refused"
		}
		fmt.Fprintf(&text, "%s_%d{device=\"eth%d\"} %d 1600000000000\n", name, i, i%3, i)
	}
	for range 2 {
		began := time.Now()
		rows, good := b.give(text.Bytes())
		if !good || len(rows) != n*3/4 {
			t.Errorf("%d samples are stored, good: %t", len(rows), good)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("that took %s", took)
		}
		t.Log(time.Since(began))
	}
}

// TestFailingScrapesDoNotFillTheMemory: with other series each time.
func TestFailingScrapesDoNotFillTheMemory(t *testing.T) {
	b := newBench(t)
	for i := range 50 {
		var text strings.Builder
		for k := range 100 {
			text.WriteString("m" + strings.Repeat("x", i) + "{k=\"" + strings.Repeat("k", k) + "\"} 1\n")
		}
		text.WriteString("broken{\n")
		if _, good := b.give([]byte(text.String())); good {
			t.Fatal("a broken body is good")
		}
	}
	if n := len(b.cache.entries); n > 1200 {
		t.Errorf("%d series are remembered", n)
	}
}
