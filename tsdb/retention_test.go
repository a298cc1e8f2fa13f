// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// keepTwo keeps series 1 for 5 hours and series 2 for 20 minutes.
func keepTwo() []RetentionPolicy {
	return []RetentionPolicy{
		{Name: "long", Match: []*labels.Matcher{equal("i", "0001")}, Keep: 5 * time.Hour},
		{Name: "short", Match: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "i", "0001|0002")}, Keep: 20 * time.Minute},
	}
}

// blocksOf lists the blocks: class, first slot, slots.
func blocksOf(db *DB) []string {
	var out []string
	for _, m := range db.Blocks() {
		out = append(out, fmt.Sprintf("%q %d+%d", m.Class, m.SlotStart/testSlot, (m.SlotEnd-m.SlotStart)/testSlot))
	}
	slices.Sort(out)
	return out
}

func TestEachClassHasBlocksOfItsOwnThatExpireByThemselves(t *testing.T) {
	o := small(fsx.NewCrashable())
	o.RetentionPolicies = keepTwo()
	open := func() *DB {
		db := openTest(t, o)
		db.now = func() time.Time { return time.UnixMilli(10 * testSlot) } // samples are old
		db.SetRetention(3*time.Hour, 0)
		return db
	}
	db := open()
	ls := []labels.Labels{seriesName(0), seriesName(1), seriesName(2)}
	fillSlots(t, db, 0, 13, ls)
	settle(t, db)
	want := contents(t, db)
	db.now = time.Now
	compactAll(t, db)
	// The short class is kept for 20 slots, so that its blocks are of one slot.
	expect := []string{`"" 0+12`, `"" 12+1`, `"long" 0+12`, `"long" 12+1`}
	for slot := range 13 {
		expect = append(expect, fmt.Sprintf(`"short" %d+1`, slot))
	}
	slices.Sort(expect)
	got := slices.DeleteFunc(blocksOf(db), func(s string) bool { return s == `"" 12+1` })
	if !slices.Contains(got, `"long" 0+12`) || !slices.Contains(got, `"" 0+12`) || !slices.Contains(got, `"short" 3+1`) {
		t.Errorf("blocks %v, want about %v", got, expect)
	}
	wantContents(t, db, want)
	for range 2 {
		fillSlots(t, db, 30, 31, ls[:1])
		db.now = time.Now
		settle(t, db)
		if err := db.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		compactAll(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = open()
	}
	left := contents(t, db)
	short := left[seriesName(2).String()]
	if len(short) == 0 || short[0].T < 10*testSlot || len(left[seriesName(1).String()]) != 13*6 || len(left[seriesName(0).String()]) != 14*6 {
		t.Errorf("after 30 minutes: %d of the short class from %v on, %d of the long, %d of the rest",
			len(short), short, len(left[seriesName(1).String()]), len(left[seriesName(0).String()]))
	}
	fillSlots(t, db, 200, 201, ls[:1])
	db.now = time.Now
	settle(t, db)
	if err := db.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	left = contents(t, db)
	if len(left[seriesName(2).String()]) != 0 || len(left[seriesName(1).String()]) != 13*6 || len(left[seriesName(0).String()]) != 2*6 {
		t.Errorf("after 200 minutes: %d of the short class, %d of the long, %d of the rest",
			len(left[seriesName(2).String()]), len(left[seriesName(1).String()]), len(left[seriesName(0).String()]))
	}
	if s := db.Stats(); s.TimeRetentions == 0 || s.SizeRetentions != 0 {
		t.Errorf("stats %d by time, %d by size", s.TimeRetentions, s.SizeRetentions)
	}
}

func TestADryRunOfTheRetentionSaysWhatThenGoes(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	ls := []labels.Labels{seriesName(0), seriesName(1), seriesName(2)}
	fillSlots(t, db, 0, 13, ls)
	fillSlots(t, db, 40, 41, ls)
	settle(t, db)
	compactAll(t, db)
	want := contents(t, db)
	s := RetentionSettings{Keep: time.Hour, Policies: keepTwo()}
	parts, err := db.RetentionReport(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	goes := map[string]uint64{}
	total := uint64(0)
	for _, p := range parts {
		total += p.Samples
		if p.Goes != "" {
			goes[p.Policy] += p.Samples
		}
		if p.Bytes <= 0 || p.Series != 1 {
			t.Errorf("part %+v", p)
		}
	}
	if d := cmp.Diff(map[string]uint64{"short": 13 * 6}, goes); d != "" || total != 14*6*3 {
		t.Errorf("of %d samples would go (-want +got):\n%s", total, d)
	}
	wantContents(t, db, want)
	// Now for real: the policies change, blocks are rewritten, what is too old goes.
	db.SetRetention(s.Keep, s.Bytes)
	if err := db.SetRetentionPolicies(s.Policies); err != nil {
		t.Fatal(err)
	}
	settle(t, db)
	compactAll(t, db)
	if err := db.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := contents(t, db)
	if n := len(got[seriesName(2).String()]); n != 6 {
		t.Errorf("%d samples of the short class are left, want 6", n)
	}
	delete(got, seriesName(2).String())
	delete(want, seriesName(2).String())
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the others (-want +got):\n%s", d)
	}
	parts, err = db.RetentionReport(t.Context(), RetentionSettings{Bytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if p.Goes != "size" {
			t.Errorf("of one byte stays %+v", p)
		}
	}
}

func TestWithoutPoliciesTheClassesAreMergedAgain(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	ls := []labels.Labels{seriesName(0), seriesName(1), seriesName(2)}
	if err := db.SetRetentionPolicies(keepTwo()[:1]); err != nil {
		t.Fatal(err)
	}
	fillSlots(t, db, 0, 13, ls)
	settle(t, db)
	want := contents(t, db)
	compactAll(t, db)
	if d := cmp.Diff([]string{`"" 0+12`, `"" 12+1`, `"long" 0+12`}, blocksOf(db)); d != "" {
		t.Errorf("blocks with a policy (-want +got):\n%s", d)
	}
	if err := db.SetRetentionPolicies(nil); err != nil {
		t.Fatal(err)
	}
	compactAll(t, db)
	if d := cmp.Diff([]string{`"" 0+12`, `"" 12+1`}, blocksOf(db)); d != "" {
		t.Errorf("blocks without (-want +got):\n%s", d)
	}
	wantContents(t, db, want)
	if err := db.SetRetentionPolicies(make([]RetentionPolicy, 8)); err == nil {
		t.Error("eight policies are taken")
	}
}
