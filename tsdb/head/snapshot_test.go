// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sampleHead is a small head with one of everything.
func sampleHead(tb testing.TB) (*bench, *Pin) {
	x := newBench(tb, Options{Shards: 2})
	a, b, gone := x.series(named(0)), x.series(named(1)), x.series(named(2))
	var batch sample.Batch
	for i := range 3 {
		batch.AppendFloat(a, 0, int64(1000*i), float64(i), 0)
	}
	batch.AppendFloat(a, 0, 500, math.Pi, 0)
	batch.AppendHistogram(b, 0, 1000, modelHistograms[0].Copy(), nil, 0)
	batch.AppendHistogram(b, 0, 500, nil, modelHistograms[0].ToFloat(nil), 0)
	batch.AppendFloat(a, 9_000, testSlot, 1, 0) // in the next slot
	batch.Exemplars = []sample.Exemplar{{Ref: a, T: 1000, HasT: true, V: 0.5, Labels: labels.FromStrings("trace", "f00")}}
	batch.Meta = []sample.Metadata{{Ref: a, Type: "gauge", Unit: "s", Help: "h"}}
	x.commit(&batch, allTimes)
	x.seq.Lock()
	x.lsn++
	x.h.Delete([]sample.Ref{a}, 1000, 1000, x.lsn)
	x.lsn++
	x.h.Free([]sample.Ref{gone}, x.lsn)
	x.seq.Unlock()
	x.h.Reclaim()
	return x, x.pin()
}

func snapshotOf(tb testing.TB, h *Head, p *Pin) []byte {
	tb.Helper()
	var file bytes.Buffer
	if err := h.Snapshot(p.Epoch(), &file); err != nil {
		tb.Fatal(err)
	}
	return file.Bytes()
}

// The bytes of a checkpoint are a promise to every later version: docs/format-checkpoint.md explains this dump.
func TestCheckpointBytesAreThoseOfTheGoldenFile(t *testing.T) {
	x, p := sampleHead(t)
	defer p.Close()
	got := hex.Dump(snapshotOf(t, x.h, p))
	const file = "testdata/checkpoint.hex"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the format has changed (run with -update if that is meant):\n%s", diff)
	}
	doc, err := os.ReadFile("../../docs/format-checkpoint.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), strings.TrimSpace(string(want))) {
		t.Error("docs/format-checkpoint.md shows other bytes than " + file)
	}
}

// earlierCheckpoint is what the first version wrote of sampleHead.
func earlierCheckpoint(tb testing.TB) []byte {
	tb.Helper()
	dump, err := os.ReadFile("testdata/checkpoint-v1.hex")
	if err != nil {
		tb.Fatal(err)
	}
	var out []byte
	for line := range strings.Lines(string(dump)) {
		digits, _, _ := strings.Cut(line[8:], "|")
		b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

func TestCheckpointsOfEarlierVersionsHoldTheSame(t *testing.T) {
	x, p := sampleHead(t)
	defer p.Close()
	want := snapshotOf(t, x.h, p)
	for version := byte(1); version < snapshotVersion; version++ {
		file := seal(earlierCheckpoint(t), func(payload []byte) {
			if payload[0] == frameHead {
				payload[1] = version
			}
		})
		y := &bench{tb: t, h: New(Options{Shards: 2, SlotMillis: testSlot}), lsn: x.lsn}
		if err := y.h.LoadSnapshot(bytes.NewReader(file)); err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		q := y.pin()
		if got := snapshotOf(t, y.h, q); !bytes.Equal(got, want) {
			t.Errorf("version %d: the loaded head differs:\n%s", version, cmp.Diff(hex.Dump(want), hex.Dump(got)))
		}
		q.Close()
		if err := y.h.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What a frame says is looked at whatever the others say: a checkpoint whose labels and samples are not of the same
// series is damaged.
func TestLabelsAndSamplesOfOtherSeriesDoNotMeet(t *testing.T) {
	x, p := sampleHead(t)
	defer p.Close()
	good := snapshotOf(t, x.h, p)
	load := func(change func(payload []byte)) error {
		h := New(Options{Shards: 2, SlotMillis: testSlot})
		defer func() { _ = h.Close() }()
		return h.LoadSnapshot(bytes.NewReader(seal(bytes.Clone(good), change)))
	}
	var corrupt *CorruptError
	check := func(what string, kind byte, at int, with byte) {
		t.Helper()
		err := load(func(payload []byte) {
			if payload[0] == kind && at < len(payload) {
				payload[at] = with
			}
		})
		if !errors.As(err, &corrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("another generation of the labels", frameIDs, 3, 7)
	check("no samples of a series", frameShard, 5, 0)
	check("another shard", frameShard, 1, 9)
	check("another first series", frameShard, 2, 1)
	check("an LSN before the epoch", frameShard, 3, 1)
	check("a label that is not there", frameIDs, 6, 100)
	check("labels out of order", frameIDs, 6, 1)
	check("a text that is not there", framePairs, 2, 100)
	check("an exemplar of a vacant id", frameExemplars, 2, 2)
	check("an exemplar of an id that there never was", frameExemplars, 2, 3)
	if err := load(func(payload []byte) {
		if payload[0] == frameIDs {
			copy(payload[11:13], payload[6:8])
		}
	}); !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "it has the labels of id 0") {
		t.Errorf("one set of labels twice: %v", err)
	}
}

func TestLoadedCheckpointGoesOnAsIfNeverLeft(t *testing.T) {
	x, p := sampleHead(t)
	defer p.Close()
	first := snapshotOf(t, x.h, p)
	y := &bench{tb: t, h: New(Options{Shards: 2, SlotMillis: testSlot}), lsn: x.lsn}
	defer func() { _ = y.h.Close() }()
	if err := y.h.LoadSnapshot(bytes.NewReader(first)); err != nil {
		t.Fatal(err)
	}
	q := y.pin()
	if second := snapshotOf(t, y.h, q); !bytes.Equal(first, second) {
		t.Errorf("the checkpoint of the loaded head differs:\n%s", cmp.Diff(hex.Dump(first), hex.Dump(second)))
	}
	q.Close()
	// Both take the same rows from here on, in the same way.
	for i := range 600 {
		for _, ls := range []labels.Labels{named(0), named(1), named(2)} {
			rx, ry := x.series(ls), y.series(ls)
			if rx != ry {
				t.Fatalf("%s is %#x in one, %#x in the other", ls, uint64(rx), uint64(ry))
			}
			tm, v := int64(20*i), float64(i)
			if a, b := x.append(rx, tm, v, 0), y.append(ry, tm, v, 0); a != b {
				t.Fatalf("%s at %d: %s in one, %s in the other", ls, tm, a, b)
			}
		}
	}
	px, py := x.pin(), y.pin()
	defer px.Close()
	defer py.Close()
	if diff := cmp.Diff(hex.Dump(snapshotOf(t, x.h, px)), hex.Dump(snapshotOf(t, y.h, py))); diff != "" {
		t.Errorf("the heads came apart:\n%s", diff)
	}
	wantEx := []exemplar.Exemplar{{Labels: labels.FromStrings("trace", "f00"), Value: 0.5, Ts: 1000, HasTs: true}}
	ref, _ := y.h.Lookup(named(0))
	if got := py.Exemplars(ref.ID(), 0, 2000); len(got) != 1 || !got[0].Equals(wantEx[0]) {
		t.Errorf("exemplars %v, want %v", got, wantEx)
	}
	wantMeta := map[string][]metadata.Metadata{"m0": {{Type: "gauge", Unit: "s", Help: "h"}}}
	if diff := cmp.Diff(wantMeta, py.Metadata("")); diff != "" {
		t.Error(diff)
	}
}

func TestCheckpointLeavesOutWhatBlocksHold(t *testing.T) {
	x, p := sampleHead(t)
	defer p.Close()
	y := &bench{tb: t, h: New(Options{Shards: 2, SlotMillis: testSlot}), lsn: x.lsn}
	defer func() { _ = y.h.Close() }()
	y.h.Flushed(0, p.Epoch())
	if err := y.h.LoadSnapshot(bytes.NewReader(snapshotOf(t, x.h, p))); err != nil {
		t.Fatal(err)
	}
	q := y.pin()
	defer q.Close()
	ref, _ := y.h.Lookup(named(0))
	y.want(q, ref, "10000=1")
	if slots := y.h.Slots(); len(slots) != 1 || slots[0].Start != testSlot || slots[0].InOrder != 1 || slots[0].Late != 0 {
		t.Errorf("slots %+v", slots)
	}
	if got := y.append(ref, testSlot, 1, 0); got != sample.Same {
		t.Errorf("the newest sample again: %s", got)
	}
}

func TestDamagedCheckpointsAreErrorsNeverPanics(t *testing.T) {
	x, p := sampleHead(t)
	defer p.Close()
	good := snapshotOf(t, x.h, p)
	load := func(b []byte) error {
		h := New(Options{Shards: 2, SlotMillis: testSlot})
		defer func() { _ = h.Close() }()
		return h.LoadSnapshot(bytes.NewReader(b))
	}
	var corrupt *CorruptError
	for _, file := range [][]byte{good, earlierCheckpoint(t)} {
		if err := load(file); err != nil {
			t.Fatal(err)
		}
		for i := range file {
			bad := bytes.Clone(file)
			bad[i] ^= 1 << (i % 8)
			if err := load(bad); !errors.As(err, &corrupt) {
				t.Fatalf("byte %d flipped: %v", i, err)
			}
			if err := load(file[:i]); !errors.As(err, &corrupt) {
				t.Fatalf("cut at byte %d: %v", i, err)
			}
		}
	}
	newer := seal(bytes.Clone(good), func(payload []byte) {
		if payload[0] == frameHead {
			payload[1] = snapshotVersion + 1
		}
	})
	if err := load(newer); err == nil || errors.As(err, &corrupt) {
		t.Errorf("a newer version: %v, want an error that is not corruption", err)
	}
}

// seal changes the payloads of a checkpoint and makes the checksums right again.
func seal(b []byte, change func(payload []byte)) []byte {
	for off := 0; off+8 <= len(b); {
		size := int(binary.LittleEndian.Uint32(b[off:]))
		if size == 0 || off+8+size > len(b) {
			break
		}
		payload := b[off+8 : off+8+size]
		change(payload)
		binary.LittleEndian.PutUint32(b[off+4:], frameSum(b[off:off+4], payload))
		off += 8 + size
	}
	return b
}

// FuzzLoadSnapshot feeds payloads of any content behind right checksums.
func FuzzLoadSnapshot(f *testing.F) {
	x, p := sampleHead(f)
	defer p.Close()
	for _, good := range [][]byte{snapshotOf(f, x.h, p), earlierCheckpoint(f)} {
		f.Add(good)
		for i := 9; i < len(good); i += 7 {
			bad := bytes.Clone(good)
			bad[i] ^= 0x41
			f.Add(bad)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h := New(Options{Shards: 2, SlotMillis: testSlot})
		defer func() { _ = h.Close() }()
		y := &bench{tb: t, h: h}
		if h.LoadSnapshot(bytes.NewReader(seal(b, func([]byte) {}))) != nil {
			return
		}
		// What was taken can be read, appended to and written again, or says why not.
		y.lsn = h.Applied()
		q := y.pin()
		defer q.Close()
		for id := range h.dir.ids() {
			_ = q.Read(id, math.MinInt64, math.MaxInt64, true, &y.scratch)
			y.scratch.Reset()
			y.append(q.Ref(id), math.MaxInt64, 1, 0)
		}
		_ = snapshotOf(t, h, q)
	})
}
