// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/index"

	store "github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

func none(string) bool { return false }

// openDirectory opens what a Prometheus left, all of which must be readable.
func openDirectory(t *testing.T, dir, scratch string) []store.ForeignBlock {
	t.Helper()
	got, err := Directory{}.Open(t.Context(), dir, scratch, none)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Unreadable) > 0 {
		t.Fatalf("unreadable: %v", got.Unreadable)
	}
	t.Cleanup(func() {
		for _, b := range got.Blocks {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return got.Blocks
}

// allSeries loads a block and lists its series.
func allSeries(t *testing.T, b store.ForeignBlock) []uint32 {
	t.Helper()
	if _, err := b.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids, err := b.Select(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func labelsOf(t *testing.T, b store.ForeignBlock, id uint32, sb *labels.ScratchBuilder) labels.Labels {
	t.Helper()
	pairs, err := b.Pairs(id, nil)
	if err != nil {
		t.Fatal(err)
	}
	sb.Reset()
	for i := 0; i < len(pairs); i += 2 {
		sb.Add(b.Symbol(pairs[i]), b.Symbol(pairs[i+1]))
	}
	return sb.Labels()
}

// blockLines is what all blocks hold together, each time of a series once.
func blockLines(t *testing.T, blocks []store.ForeignBlock, need column.Need) map[string][]string {
	t.Helper()
	byTime := map[string]map[int64]string{}
	for _, b := range blocks {
		ids := allSeries(t, b)
		if !slices.IsSorted(ids) || uint64(len(ids)) != b.Info().Series {
			t.Errorf("%d ids of %d series, sorted: %t", len(ids), b.Info().Series, slices.IsSorted(ids))
		}
		var sb labels.ScratchBuilder
		r, last := b.Reader(), labels.EmptyLabels()
		var rows column.Block
		for _, id := range ids {
			ls := labelsOf(t, b, id, &sb)
			if labels.Compare(last, ls) >= 0 {
				t.Errorf("%s comes after %s", ls, last)
			}
			last = ls
			rows.Reset()
			if err := r.Read(t.Context(), id, need, &rows); err != nil {
				t.Fatal(err)
			}
			rows.EndSeries()
			if byTime[ls.String()] == nil {
				byTime[ls.String()] = map[int64]string{}
			}
			for i, text := range rowLines(&rows, 0) {
				at := rows.T[i]
				if info := b.Info(); at < info.MinT || at > info.MaxT {
					t.Errorf("sample at %d in a block of [%d, %d]", at, info.MinT, info.MaxT)
				}
				byTime[ls.String()][at] = text
			}
		}
	}
	out := map[string][]string{}
	for ls, texts := range byTime {
		for _, text := range texts {
			out[ls] = append(out[ls], text)
		}
		slices.SortFunc(out[ls], func(a, b string) int { return int(timeOf(a) - timeOf(b)) })
	}
	return out
}

func timeOf(line string) int64 {
	text, _, _ := strings.Cut(line, " ")
	t, _ := strconv.ParseInt(text, 10, 64)
	return t
}

var wholeRange = column.Need{MinT: math.MinInt64, MaxT: math.MaxInt64}

func TestDirectoryGivesWhatPrometheusAnswers(t *testing.T) {
	c := func(name string, o peerOptions) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(7, uint64(len(name))))
			p := newPeer(t, rng, newMix(rng, 28, epoch, epoch+7*hour, 60_000), o)
			crashed := copyOf(t, p.dir)
			if o.late > 0 && o.delete {
				// Late samples that were deleted from its head a Prometheus finds again at its next start.
				p.lines = newPeerOf(t, copyOf(t, p.dir), o).answers(t)
			}
			p.close(t)
			for what, dir := range map[string]string{"after a stop": p.dir, "after a crash": crashed} {
				before := contents(t, dir)
				scratch := filepath.Join(dir, "tidemark", "prometheus")
				if diff := cmp.Diff(p.lines, blockLines(t, openDirectory(t, dir, scratch), wholeRange)); diff != "" {
					t.Errorf("%s (-Prometheus +ours):\n%s", what, diff)
				}
				if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
					t.Errorf("%s: files changed (-before +after):\n%s", what, diff)
				}
			}
		})
	}
	c("head only", peerOptions{})
	c("blocks and head", peerOptions{compact: true})
	c("late samples in the head", peerOptions{late: 2 * hour})
	c("late samples in blocks", peerOptions{late: 2 * hour, compact: true, blocks: 6 * hour})
	c("deleted samples", peerOptions{delete: true, compact: true})
	c("deleted late samples", peerOptions{delete: true, late: 2 * hour})
	c("xor2 and start timestamps", peerOptions{xor2: true, compact: true, late: hour})
	c("long blocks", peerOptions{compact: true, blocks: 18 * hour})
}

func TestStartTimestampsOfPrometheusAreRead(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	p := newPeer(t, rng, newMix(rng, 14, epoch, epoch+5*hour, 60_000), peerOptions{xor2: true, compact: true})
	p.close(t)
	blocks := openDirectory(t, p.dir, t.TempDir())
	with, without := 0, 0
	for _, b := range blocks {
		ids := allSeries(t, b)
		r, need := b.Reader(), wholeRange
		need.ST = true
		var rows column.Block
		for _, id := range ids {
			rows.Reset()
			if err := r.Read(t.Context(), id, need, &rows); err != nil {
				t.Fatal(err)
			}
			for i, at := range rows.T {
				if st := rows.STAt(i); st < at && st >= at-100_000 {
					with++
				} else {
					without++
				}
			}
		}
	}
	if with == 0 || without > 0 {
		t.Errorf("%d samples with the start timestamp they had, %d without", with, without)
	}
}

func TestLogIsReplayedOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	m := newMix(rng, 10, epoch, epoch+2*hour, 60_000)
	p := newPeer(t, rng, m, peerOptions{})
	p.close(t)
	scratch := filepath.Join(t.TempDir(), "scratch")
	ids := func() (out []string) {
		for _, b := range openDirectory(t, p.dir, scratch) {
			out = append(out, b.Info().ID)
		}
		return out
	}
	first := ids()
	if len(first) != 1 {
		t.Fatalf("the head became %d blocks", len(first))
	}
	// What a replay that was cut short leaves is no block.
	if err := os.MkdirAll(filepath.Join(scratch, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "chunks"), 0o777); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, ids()); diff != "" {
		t.Errorf("a second start (-first +second):\n%s", diff)
	}
	entries, err := os.ReadDir(scratch)
	if err != nil || len(entries) != 2 {
		t.Errorf("scratch holds %v, error %v; want head.json and a block", entries, err)
	}
	segments, err := filepath.Glob(filepath.Join(p.dir, "wal", "0*"))
	if err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(p.dir, "wal", fmt.Sprintf("%08d", len(segments)))
	if err := os.WriteFile(next, nil, 0o666); err != nil { // Prometheus ran once more
		t.Fatal(err)
	}
	if again := ids(); len(again) != 2 || !slices.Contains(again, first[0]) {
		t.Errorf("after another run of Prometheus: %v, before %v", again, first)
	}
}

func TestLogThatIsDamagedIsReadUpToTheDamage(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	m := newMix(rng, 60, epoch, epoch+3*hour, 15_000)
	p := newPeer(t, rng, m, peerOptions{})
	p.close(t)
	if err := os.RemoveAll(filepath.Join(p.dir, headChunksDir)); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(p.dir, "wal", "0*"))
	if err != nil || len(segments) < 3 {
		t.Fatal(len(segments), err)
	}
	middle := segments[len(segments)/2]
	text, err := os.ReadFile(middle)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 0xff
	if err := os.WriteFile(middle, text, 0o666); err != nil {
		t.Fatal(err)
	}
	before := contents(t, p.dir)
	scratch := t.TempDir()
	var blocks []store.ForeignBlock
	for range 2 { // the second time the log is not read again
		blocks = openDamaged(t, p.dir, scratch)
	}
	got := blockLines(t, blocks, wholeRange)
	if diff := cmp.Diff(before, contents(t, p.dir)); diff != "" {
		t.Errorf("files changed (-before +after):\n%s", diff)
	}
	samples := 0
	for ls, lines := range got {
		if !slices.Equal(lines, p.lines[ls][:len(lines)]) {
			t.Errorf("%s is not the beginning of what it was", ls)
		}
		samples += len(lines)
	}
	if samples == 0 {
		t.Error("nothing of the log before the damage was read")
	}
	db := openStore(t, store.Options{Dir: p.dir, ForeignInPlace: true})
	if cs := db.Conditions(); len(cs) != 1 || cs[0].Code != store.ConditionQuarantined || !strings.Contains(cs[0].Effect, "the log of Prometheus is damaged") {
		t.Errorf("conditions %+v", cs)
	}
	v, err := db.View(epoch, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	if w := v.Warnings(); len(w) != 1 {
		t.Errorf("warnings %v", w)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	// Whoever moves the log away accepts the loss, and keeps what was read of it.
	away := t.TempDir()
	if err := os.CopyFS(away, os.DirFS(p.dir)); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{walDir, headChunksDir} {
		if err := os.RemoveAll(filepath.Join(away, part)); err != nil {
			t.Fatal(err)
		}
	}
	if left := openDirectory(t, away, scratch); len(left) != len(blocks) {
		t.Errorf("%d blocks without the log, want %d", len(left), len(blocks))
	}
	// A segment that is missing is no damage that more can be lost to: it is said, and tried again.
	if err := os.Rename(middle, filepath.Join(t.TempDir(), "segment")); err != nil {
		t.Fatal(err)
	}
	contents, err := Directory{}.Open(t.Context(), p.dir, t.TempDir(), none)
	if err != nil || len(contents.Unreadable) != 1 || len(contents.Blocks) != 0 {
		t.Errorf("with a segment missing: %+v, error %v", contents, err)
	}
}

// openDamaged opens what a Prometheus left whose log is damaged, which must be said.
func openDamaged(t *testing.T, dir, scratch string) []store.ForeignBlock {
	t.Helper()
	got, err := Directory{}.Open(t.Context(), dir, scratch, none)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Unreadable) != 1 {
		t.Fatalf("unreadable: %v", got.Unreadable)
	}
	g := got.Unreadable[0]
	if !strings.Contains(g.Err.Error(), "the log of Prometheus is damaged: ") || !strings.Contains(g.NextStep, walDir) ||
		g.MinT > epoch+3*hour || g.MaxT < epoch+3*hour || g.MaxT > time.Now().UnixMilli() {
		t.Errorf("unreadable: %+v", g)
	}
	t.Cleanup(func() {
		for _, b := range got.Blocks {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return got.Blocks
}

func TestDamagedPartsAreNamedAndTheRestIsRead(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	p := newPeer(t, rng, newMix(rng, 14, epoch, epoch+7*hour, 30_000), peerOptions{compact: true})
	p.close(t)
	blocks, err := filepath.Glob(filepath.Join(p.dir, "0*", "index"))
	if err != nil || len(blocks) < 2 {
		t.Fatalf("%d blocks, %v", len(blocks), err)
	}
	text, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	open := func() store.ForeignContents {
		t.Helper()
		got, err := Directory{}.Open(t.Context(), p.dir, t.TempDir(), none)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for _, b := range got.Blocks {
				_ = b.Close()
			}
		})
		return got
	}
	whole := len(open().Blocks)
	damage := func(text []byte) {
		t.Helper()
		if err := os.Remove(blocks[0]); err != nil { // it is mapped
			t.Fatal(err)
		}
		if err := os.WriteFile(blocks[0], text, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	damage(text[:len(text)-1])
	got := open()
	if len(got.Blocks) != whole-1 || len(got.Unreadable) != 1 || got.Unreadable[0].MinT > epoch+hour || got.Unreadable[0].MaxT < epoch {
		t.Errorf("with a short index: %d blocks of %d, unreadable %v", len(got.Blocks), whole, got.Unreadable)
	}
	// One entry of a series is wrong: the first Select tells.
	broken := slices.Clone(text)
	toc, err := index.NewTOCFromByteSlice(byteSlice(text))
	if err != nil {
		t.Fatal(err)
	}
	broken[(toc.Series+15)/16*16+3] ^= 0x55
	damage(broken)
	failed := 0
	for _, b := range open().Blocks {
		if _, err := b.Load(t.Context()); err != nil {
			if damage := (*store.ForeignDamage)(nil); !errors.As(err, &damage) {
				t.Errorf("load: %v", err)
			}
			failed++
		}
	}
	if failed != 1 {
		t.Errorf("%d blocks fail, one is damaged", failed)
	}
}

// byteSlice is a file in memory.
type byteSlice []byte

func (b byteSlice) Len() int                  { return len(b) }
func (b byteSlice) Range(from, to int) []byte { return b[from:to] }

func TestBlocksThatAnotherOneReplacedAreLeftOut(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	p := newPeer(t, rng, newMix(rng, 7, epoch, epoch+7*hour, 60_000), peerOptions{compact: true})
	before := copyOf(t, p.dir)
	p.close(t)
	all, err := Directory{}.list(before)
	if err != nil || len(all) < 2 {
		t.Fatal(len(all), err)
	}
	text, err := os.ReadFile(filepath.Join(all[1].dir, metaFile))
	if err != nil {
		t.Fatal(err)
	}
	parent := `"compaction": {"parents": [{"ulid": "` + all[0].id() + `", "minTime": 0, "maxTime": 1}],`
	text = []byte(strings.Replace(string(text), `"compaction": {`, parent, 1))
	if err := os.WriteFile(filepath.Join(all[1].dir, metaFile), text, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, b := range openDirectory(t, before, t.TempDir()) {
		switch b.Info().ID {
		case all[0].id():
			t.Error("the replaced block is there")
		case all[1].id():
			if diff := cmp.Diff([]string{all[0].id()}, b.Info().Replaces); diff != "" {
				t.Errorf("replaces (-want +got):\n%s", diff)
			}
		}
	}
}

func TestDirectoryWithoutPrometheusIsEmpty(t *testing.T) {
	dir := t.TempDir()
	if blocks := openDirectory(t, dir, filepath.Join(dir, "tidemark", "prometheus")); len(blocks) > 0 {
		t.Errorf("%d blocks", len(blocks))
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("made %v, error %v", entries, err)
	}
}

func TestRemoveTakesOriginalsOnly(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	p := newPeer(t, rng, newMix(rng, 7, epoch, epoch+7*hour, 60_000), peerOptions{compact: true})
	p.close(t)
	scratch := filepath.Join(p.dir, "tidemark", "prometheus")
	d := Directory{}
	for _, b := range openDirectory(t, p.dir, scratch) {
		if err := d.Remove(p.dir, b.Info().ID); err != nil {
			t.Error(err)
		}
	}
	if err := d.RemoveRest(p.dir); err != nil {
		t.Error(err)
	}
	if err := d.Remove(p.dir, "../etc"); err == nil {
		t.Error("a name that is none was taken")
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "tidemark" && e.Name() != "lock" && e.Name() != "queries.active" {
			t.Errorf("%s is left", e.Name())
		}
	}
	if got := openDirectory(t, p.dir, scratch); len(got) != 1 {
		t.Errorf("%d blocks, want that of the head, which is the store's", len(got))
	}
}
