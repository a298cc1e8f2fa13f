// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package wal_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/tsdb/wal"
)

const formatPage = "../../docs/format-wal.md"

// goldenBlock returns the bytes of an example on the page. Each of its lines is an offset, bytes and perhaps a
// comment; bytes it leaves out are zero.
func goldenBlock(t *testing.T, name string) []byte {
	t.Helper()
	page, err := os.ReadFile(formatPage)
	ok(t, err)
	_, block, found := strings.Cut(string(page), "```golden "+name+"\n")
	if !found {
		t.Fatalf("%s has no example %q", formatPage, name)
	}
	block, _, _ = strings.Cut(block, "```")
	var out []byte
	for line := range strings.Lines(block) {
		line, _, _ = strings.Cut(line, "#")
		at, digits, found := strings.Cut(strings.TrimSpace(line), ":")
		if !found {
			continue
		}
		off, err := strconv.ParseInt(at, 16, 32)
		ok(t, err)
		b, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
		ok(t, err)
		if int(off) < len(out) {
			t.Fatalf("line %q overlaps the one before", line)
		}
		out = append(out, make([]byte, int(off)-len(out))...)
		out = append(out, b...)
	}
	return out
}

// dump is the form of goldenBlock without comments, to paste into the page.
func dump(b []byte) string {
	var s strings.Builder
	for i := 0; i < len(b); i += 16 {
		line := b[i:min(i+16, len(b))]
		if len(bytes.Trim(line, "\x00")) > 0 {
			fmt.Fprintf(&s, "%04x: % x\n", i, line)
		}
	}
	return s.String()
}

// seed is an empty first segment, written as the page describes it, that gives the log a known identity.
func seed(t *testing.T, fsys fsx.FS) {
	t.Helper()
	h := make([]byte, 1024)
	copy(h, "TIDEMKJL")
	binary.LittleEndian.PutUint32(h[8:], 1)
	binary.LittleEndian.PutUint32(h[12:], 1)
	copy(h[16:], "identity")
	binary.LittleEndian.PutUint64(h[24:], 1)
	binary.LittleEndian.PutUint32(h[60:], crc32.Checksum(h[:60], crc32.MakeTable(crc32.Castagnoli)))
	copy(h[512:], h[:64])
	ok(t, fsx.MakeDir(fsys, "/wal"))
	ok(t, fsx.Publish(fsys, "/wal/0000000001.seg", func(w io.Writer) error {
		_, err := w.Write(h)
		return err
	}))
}

func goldenRecords() (refs []sample.Ref, ls []labels.Labels, lim wal.Limits, b *sample.Batch, d wal.Delete) {
	refs = []sample.Ref{sample.MakeRef(1, 4), sample.MakeRef(1, 5)}
	ls = []labels.Labels{
		labels.FromStrings("__name__", "up", "job", "a"),
		labels.FromStrings("__name__", "up", "job", "b"),
	}
	lim = wal.Limits{MinT: 0, MaxT: 600_000, MinPush: 0, MinScrape: 1 << 30}
	b = &sample.Batch{}
	b.AppendFloat(refs[0], 0, 1000, 1, sample.Scraped)
	b.AppendFloat(refs[1], 0, 1000, 0.1, sample.Scraped)
	b.AppendHistogram(refs[1], 500, 2000, &histogram.Histogram{
		Schema: 2, ZeroThreshold: 0.5, ZeroCount: 1, Count: 4, Sum: 3,
		PositiveSpans: []histogram.Span{{Offset: 1, Length: 2}}, PositiveBuckets: []int64{2, -1},
	}, nil, sample.Scraped)
	b.Exemplars = []sample.Exemplar{{Ref: refs[0], Labels: labels.FromStrings("id", "x"), V: 2, T: 999, HasT: true}}
	b.Meta = []sample.Metadata{{Ref: refs[0], Type: "gauge", Help: "Up."}}
	return refs, ls, lim, b, wal.Delete{Refs: refs[:1], MinT: 0, MaxT: 1500}
}

func TestFormatPageHoldsWhatIsWritten(t *testing.T) {
	fsys := fsx.NewCrashable()
	seed(t, fsys)
	j, err := journal.Open(journal.Options{FS: fsys, Dir: "/wal", SegmentBytes: 64 << 10})
	ok(t, err)
	refs, ls, lim, b, d := goldenRecords()
	put := func(kind byte, p []byte) {
		_, err := j.Append(kind, p)
		ok(t, err)
	}
	put(wal.KindSeries, wal.AppendSeries(nil, refs, ls))
	ok(t, j.Durable(t.Context(), 1))
	put(wal.KindBatch, wal.AppendBatch(wal.AppendLimits(nil, lim), b))
	put(wal.KindDelete, wal.AppendDelete(nil, d))
	put(wal.KindFree, wal.AppendFree(nil, refs[1:]))
	ok(t, j.Close())
	got, err := fsx.ReadFile(fsys, "/wal/0000000002.seg")
	ok(t, err)
	if want := goldenBlock(t, "segment"); !bytes.Equal(want, got) {
		t.Errorf("the example of %s is not what is written, which is:\n%s", formatPage, dump(got))
	}
}

func TestFormatPageCanBeRead(t *testing.T) {
	fsys := fsx.NewCrashable()
	ok(t, fsx.MakeDir(fsys, "/wal"))
	ok(t, fsx.Publish(fsys, "/wal/0000000002.seg", func(w io.Writer) error {
		_, err := w.Write(goldenBlock(t, "segment"))
		return err
	}))
	j, err := journal.Open(journal.Options{FS: fsys, Dir: "/wal", SegmentBytes: 64 << 10})
	ok(t, err)
	refs, ls, lim, b, d := goldenRecords()
	rec, err := j.Replay(1, func(lsn sample.LSN, kind byte, p []byte) error {
		switch kind {
		case wal.KindSeries:
			i := 0
			return wal.DecodeSeries(p, func(ref sample.Ref, l labels.Labels) error {
				if ref != refs[i] || !labels.Equal(l, ls[i]) {
					t.Errorf("series %d: %d %s", i, ref, l)
				}
				i++
				return nil
			})
		case wal.KindBatch:
			gotLim, rest, err := wal.DecodeLimits(p)
			ok(t, err)
			var got sample.Batch
			ok(t, wal.DecodeBatch(rest, &got))
			if diff := cmp.Diff(*b, got, compare); diff != "" || gotLim != lim {
				t.Errorf("limits %+v, batch:\n%s", gotLim, diff)
			}
		case wal.KindDelete:
			got, err := wal.DecodeDelete(p)
			ok(t, err)
			if diff := cmp.Diff(d, got, compare); diff != "" {
				t.Error(diff)
			}
		case wal.KindFree:
			got, err := wal.DecodeFree(p)
			ok(t, err)
			if diff := cmp.Diff(refs[1:], got); diff != "" {
				t.Error(diff)
			}
		}
		return nil
	})
	ok(t, err)
	if rec.Records != 4 || rec.First != 1 || rec.Last != 4 || len(rec.Corrupt) > 0 || rec.LostRecords > 0 {
		t.Errorf("%+v", rec)
	}
	ok(t, j.Close())
}

func TestFormatPageShowsADelete(t *testing.T) {
	d := wal.Delete{
		Refs: []sample.Ref{sample.MakeRef(1, 4)}, MinT: 0, MaxT: 1500, At: 1_700_000_000_000,
		Match: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "job", "a"), labels.MustNewMatcher(labels.MatchRegexp, "i", "x.*")},
	}
	want := goldenBlock(t, "delete")
	if got := wal.AppendDelete(nil, d); !bytes.Equal(want, got) {
		t.Errorf("the example of %s is not what is written, which is:\n%s", formatPage, dump(got))
	}
	got, err := wal.DecodeDelete(want)
	ok(t, err)
	if got.At != d.At || got.MinT != d.MinT || got.MaxT != d.MaxT || len(got.Match) != 2 || got.Match[1].String() != `i=~"x.*"` || cmp.Diff(d.Refs, got.Refs) != "" {
		t.Errorf("read as %+v", got)
	}
}
