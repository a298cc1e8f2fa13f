// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"bytes"
	"flag"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/dumptest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

var update = flag.Bool("update", false, "rewrite the dump of the format document")

// anyRecord draws a record.
func anyRecord(t *rapid.T) *record {
	text := rapid.StringN(0, 8, 40)
	ref := rapid.Custom(func(t *rapid.T) sample.Ref { return sample.Ref(rapid.Uint64().Draw(t, "ref")) })
	set := rapid.Custom(func(t *rapid.T) labels.Labels {
		return labels.FromMap(rapid.MapOfN(rapid.StringN(1, 8, 40), text, 0, 4).Draw(t, "labels"))
	})
	r := &record{lsn: sample.LSN(rapid.Uint64().Draw(t, "lsn"))}
	for range rapid.IntRange(0, 4).Draw(t, "names") {
		r.names = append(r.names, namedSeries{ref.Draw(t, "named"), set.Draw(t, "set")})
	}
	for range rapid.IntRange(0, 20).Draw(t, "rows") {
		st, at := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64()).Draw(t, "st"), rapid.Int64().Draw(t, "t")
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			r.rows.AppendHistogram(ref.Draw(t, "of"), st, at, tsdbutil.GenerateTestHistogram(rapid.Int64Range(0, 9).Draw(t, "h")), nil, 0)
		case 1:
			r.rows.AppendHistogram(ref.Draw(t, "of"), st, at, nil, tsdbutil.GenerateTestFloatHistogram(rapid.Int64Range(0, 9).Draw(t, "h")), 0)
		default:
			r.rows.AppendFloat(ref.Draw(t, "of"), st, at, math.Float64frombits(rapid.Uint64().Draw(t, "v")), 0)
		}
	}
	for range rapid.IntRange(0, 2).Draw(t, "exemplars") {
		r.rows.Exemplars = append(r.rows.Exemplars, sample.Exemplar{
			Ref: ref.Draw(t, "of"), Labels: set.Draw(t, "set"), V: rapid.Float64().Draw(t, "v"), T: rapid.Int64().Draw(t, "t"), HasT: true,
		})
	}
	for range rapid.IntRange(0, 2).Draw(t, "metas") {
		r.rows.Meta = append(r.rows.Meta, sample.Metadata{Ref: ref.Draw(t, "of"), Type: text.Draw(t, "type"), Unit: text.Draw(t, "unit"), Help: text.Draw(t, "help")})
	}
	return r
}

var compareRecords = cmp.Options{
	cmp.AllowUnexported(record{}, namedSeries{}), cmpopts.EquateEmpty(), cmp.Comparer(labels.Equal),
	cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }),
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRecord(t)
		raw, err := appendRecord(nil, r)
		if err != nil {
			t.Fatal(err)
		}
		var d decoder
		got := &record{}
		if err := d.decode(raw, got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, got, compareRecords); diff != "" {
			t.Fatalf("record (-want +got):\n%s", diff)
		}
	})
}

// FuzzDecode reads anything: what can be read is written the same way again.
func FuzzDecode(f *testing.F) {
	for seed := range 20 {
		raw, err := appendRecord(nil, rapid.Custom(anyRecord).Example(seed))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var d decoder
		r := &record{}
		if d.decode(raw, r) != nil {
			return
		}
		again, err := appendRecord(nil, r)
		if err != nil {
			return // a histogram of nothing
		}
		other := &record{}
		if err := d.decode(again, other); err != nil {
			t.Fatalf("%x: %v", again, err)
		}
		third, err := appendRecord(nil, other)
		if err != nil || !bytes.Equal(again, third) {
			t.Errorf("%x is written as %x and %x (%v)", raw, again, third, err)
		}
	})
}

// TestDocumentShowsTheBytesOfARecord compares the dump in the format document with what appendRecord makes.
func TestDocumentShowsTheBytesOfARecord(t *testing.T) {
	r := &record{lsn: 300}
	ref := sample.MakeRef(1, 5)
	r.names = append(r.names, namedSeries{ref, labels.FromStrings("__name__", "up", "job", "a")})
	r.rows.AppendFloat(ref, 500, 1000, 1, 0)
	raw, err := appendRecord(nil, r)
	if err != nil {
		t.Fatal(err)
	}
	dumptest.Check(t, "../../docs/format-queue.md", raw, *update)
}
