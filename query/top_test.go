// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestTopOrdersAndAddsUp(t *testing.T) {
	var s topSet
	now := time.Unix(1000, 0)
	add := func(text string, wall time.Duration, samples, peak, failed int64) {
		now = now.Add(time.Second)
		s.add(Top{Query: text, Count: 1, Failed: failed, Wall: wall, Slowest: wall, Samples: samples, Peak: peak, Last: now})
	}
	add("often", 2*time.Second, 10, 100, 0)
	add("often", time.Second, 10, 300, 1)
	add("often", 3*time.Second, 10, 200, 0)
	add("slow", 5*time.Second, 1, 50, 0)
	add("large", time.Second, 500, 9000, 0)
	s.add(Top{Query: "often", Range: time.Hour, Count: 1, Wall: time.Millisecond, Last: now})
	s.add(Top{Query: "often", Rules: true, Count: 1, Wall: time.Microsecond, Last: now})
	check := func(by TopOrder, n int, want ...string) {
		t.Helper()
		var got []string
		for _, x := range s.top(by, n) {
			got = append(got, fmt.Sprintf("%s %s", x.Query, x.Range))
		}
		if strings.Join(got, ", ") != strings.Join(want, ", ") {
			t.Errorf("by %s: %q, want %q", by, got, want)
		}
	}
	check(TopWall, 3, "often 0s", "slow 0s", "large 0s")
	check(TopAverage, 2, "slow 0s", "often 0s")
	check(TopMemory, 2, "large 0s", "often 0s")
	check(TopCount, 1, "often 0s")
	check(TopSamples, 2, "large 0s", "often 0s")
	if n := len(s.top(TopWall, 100)); n != 5 {
		t.Errorf("%d records, want 5: texts, ranges and rules are told apart", n)
	}
	first := s.top(TopWall, 1)[0]
	want := Top{Query: "often", Count: 3, Failed: 1, Wall: 6 * time.Second, Slowest: 3 * time.Second, Samples: 30, Peak: 300, Last: time.Unix(1003, 0)}
	if first != want {
		t.Errorf("%+v, want %+v", first, want)
	}
}

func TestTopForgetsWhatWasNotAskedForLongest(t *testing.T) {
	var s topSet
	for i := range 3 * maxTop {
		at := time.Unix(int64(i), 0)
		s.add(Top{Query: fmt.Sprintf("%s%d", strings.Repeat("x", 100), i), Count: 1, Last: at})
		s.add(Top{Query: "again and again", Count: 1, Last: at})
		if len(s.all) > maxTop {
			t.Fatalf("%d texts are remembered", len(s.all))
		}
	}
	if got := s.top(TopCount, 1)[0]; got.Query != "again and again" || got.Count != 3*maxTop {
		t.Errorf("%+v was forgotten on the way", got)
	}
	if n := len(s.all); n < maxTop/2 {
		t.Errorf("only %d texts are remembered", n)
	}
	s.add(Top{Query: strings.Repeat("y", 1<<20), Count: 1, Wall: time.Hour})
	if got := s.top(TopWall, 1)[0]; len(got.Query) != maxTopText {
		t.Errorf("a text of %d bytes is remembered", len(got.Query))
	}
}
