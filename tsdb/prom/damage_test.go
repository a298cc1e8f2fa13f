// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/index"

	store "github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// replaceByte changes one byte of a file, which may be mapped elsewhere: the file is made anew.
func replaceByte(t *testing.T, name string, at func(text []byte) int) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text[at(text)] ^= 0x55
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, text, 0o666); err != nil {
		t.Fatal(err)
	}
}

// damagedStore is a store over a directory of which the oldest block has a wrong byte.
func damagedStore(t *testing.T, file string, at func(text []byte) int) (*store.DB, *peer) {
	t.Helper()
	rng := rand.New(rand.NewPCG(31, 1))
	p := newPeer(t, rng, newMix(rng, 14, epoch, epoch+7*hour, 60_000), peerOptions{compact: true})
	p.close(t)
	files, err := filepath.Glob(filepath.Join(p.dir, "0*", file))
	if err != nil || len(files) < 3 {
		t.Fatal(len(files), err)
	}
	replaceByte(t, files[0], at)
	return openStore(t, store.Options{Dir: p.dir}), p
}

// checkDamage waits until all that can be converted is, and holds the answers to what the damage allows.
func checkDamage(t *testing.T, db *store.DB, p *peer) {
	t.Helper()
	for range 1000 {
		if s := db.Stats().Foreign; s.Blocks == 1 && s.Converted == s.Found-1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if s := db.Stats().Foreign; s.Blocks != 1 || s.Converted != s.Found-1 {
		t.Errorf("%+v, want all but one converted", s)
	}
	for range 2 { // the second answer is the first one, kept
		v, err := db.View(math.MinInt64, math.MaxInt64)
		if err != nil {
			t.Fatal(err)
		}
		got := linesAndWarnings(t, v)
		if w := v.Warnings().AsErrors(); len(w) != 1 || !strings.Contains(w[0].Error(), "damaged") {
			t.Errorf("warnings: %v", w)
		}
		missing := 0
		for ls, lines := range p.lines {
			for _, text := range lines {
				if slices.Contains(got[ls], text) {
					continue
				}
				missing++
				if at := timeOf(text); at > epoch+2*hour {
					t.Fatalf("%s lacks %s, which is not in the damaged block", ls, text)
				}
			}
		}
		if missing == 0 {
			t.Error("nothing is missing: nothing was damaged")
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
	if !slices.ContainsFunc(db.Conditions(), func(c store.Condition) bool { return c.Code == store.ConditionQuarantined }) {
		t.Errorf("conditions %v", db.Conditions())
	}
	// A view of other times is whole.
	v, err := db.View(epoch+4*hour, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Close() }()
	if len(viewLines(t, v)) == 0 {
		t.Error("nothing is there after the damage")
	}
}

// linesAndWarnings is viewLines where warnings are expected.
func linesAndWarnings(t *testing.T, v column.View) map[string][]string {
	t.Helper()
	set, err := v.Series(t.Context(), nil, column.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	out, sb := map[string][]string{}, labels.ScratchBuilder{}
	var b column.Block
	for id := range uint32(set.N) {
		if _, err := v.Scan(t.Context(), set, []uint32{id}, column.Need{}, &b); err != nil {
			t.Fatal(err)
		}
		out[set.Labels(id, &sb).String()] = rowLines(&b, 0)
	}
	return out
}

func TestDamagedChunkCostsItsSeriesAndAWarning(t *testing.T) {
	db, p := damagedStore(t, "chunks/000001", func([]byte) int { return 60 })
	checkDamage(t, db, p)
}

func TestDamagedIndexCostsItsBlockAndAWarning(t *testing.T) {
	db, p := damagedStore(t, "index", func(text []byte) int {
		toc, err := index.NewTOCFromByteSlice(byteSlice(text))
		if err != nil {
			t.Fatal(err)
		}
		return int(toc.Series+15)/16*16 + 3
	})
	checkDamage(t, db, p)
}
