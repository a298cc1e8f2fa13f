// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/index"
)

func TestIDsAreFoundByHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		account := budget.NewRoot("ids", 0)
		var table idTable
		table.open(account)
		if err := table.expect(rapid.SampledFrom([]uint32{0, 1, 200, 6000}).Draw(t, "expected")); err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		// Few homes, some of them at the end of the table, so that probes are long and go round.
		crowded := rapid.Bool().Draw(t, "crowded")
		hashes, in := map[uint32]index.Hash128{}, map[uint32]bool{}
		hash := func(id uint32) index.Hash128 { return hashes[id] }
		top := rapid.SampledFrom([]uint32{300, 5000, 40_000, math.MaxInt32}).Draw(t, "top")
		find := func(id uint32) bool {
			got, ok := table.find(hashes[id], func(x uint32) bool { return x == id })
			return ok && got == id
		}
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(t *rapid.T) {
				for range rapid.IntRange(1, 3000).Draw(t, "count") {
					id := rng.Uint32N(top)
					if in[id] {
						continue
					}
					h := index.Hash128{Hi: rng.Uint64(), Lo: rng.Uint64()}
					if crowded {
						h = index.Hash128{Hi: rng.Uint64N(4), Lo: math.MaxUint64 - rng.Uint64N(3)<<48}
					}
					if crowded && len(in) > 300 {
						return
					}
					hashes[id] = h
					if err := table.makeRoom(id, hash); err != nil {
						t.Fatal(err)
					}
					table.insert(id, h)
					in[id] = true
				}
			},
			"remove": func(t *rapid.T) {
				n := rapid.IntRange(1, 2000).Draw(t, "count")
				for id := range in {
					if n--; n < 0 {
						break
					}
					table.remove(id, hash)
					delete(in, id)
					table.remove(id, hash)
				}
			},
			"": func(t *rapid.T) {
				if int(table.used) != len(in) || table.bytes() != account.Used() {
					t.Fatalf("%d ids in %d bytes, want %d in %d", table.used, table.bytes(), len(in), account.Used())
				}
				looks := 500
				for id := range hashes {
					if find(id) != in[id] {
						t.Fatalf("id %d is found: %t, want %t", id, !in[id], in[id])
					}
					if looks--; looks == 0 {
						break
					}
				}
			},
		})
		if err := table.close(); err != nil || account.Used() != 0 {
			t.Errorf("close: %v, %d bytes are charged", err, account.Used())
		}
	})
}

func TestIDTableIsSmallAndStaysWithinItsBudget(t *testing.T) {
	account := budget.NewRoot("ids", 1<<20)
	var table idTable
	table.open(account)
	rng := rand.New(rand.NewPCG(1, 2))
	var hashes []index.Hash128
	hash := func(id uint32) index.Hash128 { return hashes[id] }
	for {
		id := uint32(len(hashes))
		hashes = append(hashes, index.Hash128{Hi: rng.Uint64(), Lo: rng.Uint64()})
		if err := table.makeRoom(id, hash); err != nil {
			if _, ok := errors.AsType[*budget.ExceededError](err); !ok {
				t.Fatal(err)
			}
			break
		}
		table.insert(id, hashes[id])
		if per := float64(table.bytes()) / float64(id+1); id > 50_000 && per > 8 {
			t.Fatalf("%d ids take %.1f bytes each", id+1, per)
		}
	}
	n := len(hashes) - 1
	if n < 60_000 {
		t.Errorf("%d ids have room in 1 MiB", n)
	}
	looked := 0
	for id, h := range hashes[:n] {
		got, ok := table.find(h, func(x uint32) bool { looked++; return x == uint32(id) })
		if !ok || got != uint32(id) {
			t.Fatalf("id %d is %d, %t", id, got, ok)
		}
	}
	if looked > n+n/100 {
		t.Errorf("%d ids were looked at to find %d", looked, n)
	}
	if err := table.close(); err != nil {
		t.Error(err)
	}
}

func TestIDTableGrowsWithSmallIDsAfterLargeOnes(t *testing.T) {
	var table idTable
	table.open(nil)
	rng := rand.New(rand.NewPCG(3, 4))
	hashes := map[uint32]index.Hash128{}
	hash := func(id uint32) index.Hash128 { return hashes[id] }
	for i := range uint32(40_000) {
		id := i
		if i < 100 {
			id = 5_000_000 + i
		}
		hashes[id] = index.Hash128{Hi: rng.Uint64(), Lo: rng.Uint64()}
		if err := table.makeRoom(id, hash); err != nil {
			t.Fatal(err)
		}
		table.insert(id, hashes[id])
	}
	for id, h := range hashes {
		if got, ok := table.find(h, func(x uint32) bool { return x == id }); !ok || got != id {
			t.Fatalf("id %d is %d, %t", id, got, ok)
		}
	}
	if err := table.close(); err != nil {
		t.Error(err)
	}
}
