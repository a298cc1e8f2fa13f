// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"encoding/binary"
	"sync"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func key(k *KeyTable, i int) Key {
	return k.Hash(1, binary.BigEndian.AppendUint64(nil, uint64(i)))
}

func TestEntryHasItsSize(t *testing.T) {
	if n := unsafe.Sizeof(keyEntry{}); n != keyEntryBytes {
		t.Errorf("an entry takes %d bytes, want %d", n, keyEntryBytes)
	}
}

func TestKeysAreFoundAgain(t *testing.T) {
	k := NewKeyTable(nil)
	const n = 50_000
	for i := range n {
		k.Put(key(k, i), sample.MakeRef(1, uint32(i)), uint32(i))
	}
	for i := range n {
		if ref, meta := k.Get(key(k, i)); ref != sample.MakeRef(1, uint32(i)) || meta != uint32(i) {
			t.Fatalf("key %d is %v, %d", i, ref, meta)
		}
	}
	if ref, _ := k.Get(key(k, n)); ref != 0 {
		t.Errorf("a key that was never put is %v", ref)
	}
	if k.Len() != n {
		t.Errorf("%d keys, want %d", k.Len(), n)
	}
}

func TestTheSameBytesOfAnotherProtocolAreAnotherKey(t *testing.T) {
	k := NewKeyTable(nil)
	if k.Hash(1, []byte("a")) == k.Hash(2, []byte("a")) {
		t.Error("one key for two protocols")
	}
	if k.Hash(1, []byte("a")) == NewKeyTable(nil).Hash(1, []byte("a")) {
		t.Error("two tables hash alike: the seed is not random")
	}
}

func TestTableStaysWithinItsBudgetAndForgetsTheIdle(t *testing.T) {
	account := budget.NewRoot("keys", 1<<20)
	k := NewKeyTable(account)
	put := func(from, to int) {
		for i := from; i < to; i++ {
			k.Put(key(k, i), sample.MakeRef(1, uint32(i+1)), 0)
		}
	}
	known := func(from, to int) (n int) {
		for i := from; i < to; i++ {
			if ref, _ := k.Get(key(k, i)); ref != 0 {
				n++
			}
		}
		return n
	}
	k.SetEpoch(10)
	put(0, 10_000)
	if n := known(0, 10_000); n != 10_000 {
		t.Fatalf("%d of 10,000 keys fit into a budget for 32,768 slots", n)
	}
	put(10_000, 100_000) // more than fit, all of the same epoch: the first stay
	if n := known(0, 10_000); n != 10_000 {
		t.Errorf("keys in use were forgotten: %d of 10,000 are left", n)
	}
	if used, bytes := account.Used(), k.Bytes(); used > 1<<20 || used != bytes {
		t.Errorf("%d bytes are charged, %d used, the limit is %d", used, bytes, 1<<20)
	}
	k.SetEpoch(20)
	if n := known(0, 5_000); n != 5_000 { // a lookup is a use
		t.Fatalf("%d keys", n)
	}
	put(200_000, 205_000)
	if n := known(200_000, 205_000); n != 5_000 {
		t.Errorf("%d of 5,000 new keys found room, though others were idle", n)
	}
	if n := known(0, 5_000); n != 5_000 {
		t.Errorf("%d of 5,000 keys in use are left", n)
	}
}

func TestTableIsWhatAMapIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, model := NewKeyTable(nil), map[int]sample.Ref{}
		for range rapid.IntRange(1, 400).Draw(t, "operations") {
			i := rapid.IntRange(0, 100).Draw(t, "key")
			if rapid.Bool().Draw(t, "put") {
				ref := sample.Ref(rapid.Uint64Range(1, 1<<40).Draw(t, "ref"))
				k.Put(key(k, i), ref, 0)
				model[i] = ref
			}
			if got, _ := k.Get(key(k, i)); got != model[i] {
				t.Fatalf("key %d is %v, want %v", i, got, model[i])
			}
		}
	})
}

func TestLookupsRunBesideWrites(t *testing.T) {
	k := NewKeyTable(nil)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 20_000 {
				if w%2 == 0 {
					k.Put(key(k, i), sample.MakeRef(1, uint32(i+1)), 0)
				} else if ref, _ := k.Get(key(k, i)); ref != 0 && ref != sample.MakeRef(1, uint32(i+1)) {
					t.Errorf("key %d is %v", i, ref)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkKeyTableGet(b *testing.B) {
	k := NewKeyTable(nil)
	const n = 1 << 18
	keys := make([]Key, n)
	for i := range keys {
		keys[i] = key(k, i)
		k.Put(keys[i], sample.Ref(i+1), 0)
	}
	for i := 0; b.Loop(); i++ {
		if ref, _ := k.Get(keys[i%n]); ref == 0 {
			b.Fatal("lost a key")
		}
	}
}
