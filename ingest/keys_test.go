// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func key(k *KeyTable, i int) Key {
	return k.Hash(1, binary.BigEndian.AppendUint64(nil, uint64(i)))
}

// crowd returns keys that are all in one shard, so that few of them fill it.
func crowd(k *KeyTable, i int) Key {
	x := key(k, i)
	x.Hi &= 1<<58 - 1
	return x
}

func TestBucketIsACacheLine(t *testing.T) {
	if n := unsafe.Sizeof(keyBucket{}); n != 64 {
		t.Errorf("a bucket takes %d bytes, want 64", n)
	}
	if n := unsafe.Sizeof(keyPage{}); n != keyPageBytes {
		t.Errorf("a page takes %d bytes, want %d", n, keyPageBytes)
	}
	if n := unsafe.Sizeof(keyMetas{}); n != metaBytes {
		t.Errorf("hashes of metadata take %d bytes, want %d", n, metaBytes)
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

// entry is what a table should know of a key.
type entry struct {
	ref  sample.Ref
	meta uint32
	used uint32 // epoch
}

func TestTableKnowsWhatAMapKnowsUnlessItForgot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pages := rapid.SampledFrom([]int64{0, 1, 2, 5}).Draw(t, "pages of the budget")
		account := budget.NewRoot("keys", pages*keyPageBytes)
		k, model, epoch := NewKeyTable(account), map[int]entry{}, uint32(0)
		defer func() {
			if err := k.Close(); err != nil || account.Used() != 0 {
				t.Errorf("close: %v, %d bytes are charged", err, account.Used())
			}
		}()
		check := func(t *rapid.T, i int) {
			ref, meta := k.Get(crowd(k, i))
			want := model[i]
			switch {
			case ref == 0 && (pages == 0 && epoch-want.used <= keyIdleEpochs) && want.ref != 0:
				t.Fatalf("key %d was forgotten", i)
			case ref == 0:
				delete(model, i)
			case ref != want.ref || meta != want.meta && (meta != 0 || pages == 0):
				t.Fatalf("key %d is %v, %d, want %v, %d", i, ref, meta, want.ref, want.meta)
			default:
				model[i] = entry{ref, want.meta, epoch}
			}
		}
		keys := rapid.IntRange(0, 1500)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				from := keys.Draw(t, "from")
				e := entry{sample.Ref(rapid.Uint64Range(1, 1<<40).Draw(t, "ref")), uint32(rapid.IntRange(0, 2).Draw(t, "meta")), epoch}
				for i := from; i < from+rapid.IntRange(1, 500).Draw(t, "count"); i++ {
					e.ref++
					k.Put(crowd(k, i), e.ref, e.meta)
					model[i] = e
				}
			},
			"get": func(t *rapid.T) {
				for i := range rapid.IntRange(1, 500).Draw(t, "count") {
					check(t, i)
				}
			},
			"wait": func(t *rapid.T) {
				epoch += uint32(rapid.IntRange(1, 4).Draw(t, "epochs"))
				k.SetEpoch(epoch)
			},
			"": func(t *rapid.T) {
				if k.Bytes() != account.Used() || pages > 0 && k.Bytes() > pages*keyPageBytes {
					t.Fatalf("%d bytes, %d are charged, the limit is %d", k.Bytes(), account.Used(), pages*keyPageBytes)
				}
			},
		})
		for i := range model {
			check(t, i)
		}
	})
}

func TestKeyTakesLittleMemory(t *testing.T) {
	const n = 50_000
	k := NewKeyTable(nil)
	for i := range n {
		k.Put(key(k, i), sample.MakeRef(1, uint32(i+1)), 0)
	}
	check := func(what string, limit float64) {
		t.Helper()
		if per := float64(k.Bytes()) / n; per > limit {
			t.Errorf("a key %s takes %.1f bytes, more than %g", what, per, limit)
		}
	}
	check("without metadata", 32)
	for i := range n {
		k.Put(key(k, i), sample.MakeRef(1, uint32(i+1)), 1)
	}
	check("with metadata", 38)
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}

func TestTableShrinksWhenMostKeysAreIdle(t *testing.T) {
	k := NewKeyTable(nil)
	for i := range 5_000 {
		k.Put(crowd(k, i), sample.MakeRef(1, uint32(i+1)), 0)
	}
	before := k.Bytes()
	k.SetEpoch(1 + keyIdleEpochs)
	for i := range 5_000 {
		k.Put(crowd(k, 5_000+i%2_000), sample.MakeRef(1, uint32(i+1)), 0)
	}
	if k.Len() > 4_000 || k.Bytes() > before/4*3 {
		t.Errorf("%d keys in %d bytes, before them %d bytes", k.Len(), k.Bytes(), before)
	}
}

// Lookups see a key as it is or not at all, while tables are replaced and their pages become those of others.
func TestLookupsRunBesideWrites(t *testing.T) {
	k := NewKeyTable(budget.NewRoot("keys", 6*keyPageBytes)) // so that keys in use are forgotten too
	const n = 2_000
	var wg sync.WaitGroup
	var found atomic.Int64
	var written atomic.Bool
	wg.Go(func() {
		defer written.Store(true)
		for i := range 4 * n {
			k.Put(crowd(k, i%n), sample.MakeRef(1, uint32(i%n+1)), uint32(i%n))
			k.SetEpoch(uint32(i) / 100)
		}
	})
	for range 3 {
		wg.Go(func() {
			for last := false; !last; {
				last = written.Load()
				for i := range n {
					k.Ahead([]Key{crowd(k, i)})
					switch ref, meta := k.Get(crowd(k, i)); {
					case ref != 0 && (ref != sample.MakeRef(1, uint32(i+1)) || meta != 0 && meta != uint32(i)):
						t.Errorf("key %d is %v, %d", i, ref, meta)
						return
					case ref != 0:
						found.Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	if found.Load() == 0 {
		t.Error("no key was found")
	}
}

// A page that is used again still has the keys of its first life, in empty places. One that is filled while a lookup looks at it
// must not pass for that of the old key.
func TestAKeyThatWasInAPageBeforeHasNoPartInIt(t *testing.T) {
	before, after := Key{Lo: 1 << 63, Hi: 1}, Key{Lo: 1<<63 + 1, Hi: 2} // of one bucket
	var shown atomic.Pointer[keySlots]
	var wrong atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for t := shown.Load(); ; t = shown.Load() {
			switch {
			case t == nil:
			case len(t.pages) == 0:
				return
			default:
				if _, ref := t.find(before); ref != 0 {
					wrong.Add(1)
				}
			}
		}
	})
	for range 20_000 {
		x := &keySlots{pages: []*keyPage{new(keyPage)}}
		at, _ := x.find(before)
		x.put(at, before, 1, 0)
		x.pages[0].clear()
		shown.Store(x)
		for range 20 { // let the lookup come to it
			x.find(before)
		}
		at, _ = x.find(after)
		x.put(at, after, 2, 0)
	}
	shown.Store(&keySlots{})
	wg.Wait()
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d lookups found the series of another key", n)
	}
}

func BenchmarkKeyTablePut(b *testing.B) {
	const n = 1 << 18
	var k *KeyTable
	for i := 0; b.Loop(); i++ {
		if i%n == 0 {
			k = NewKeyTable(nil)
		}
		k.Put(key(k, i), sample.Ref(i+1), 0)
	}
}

func BenchmarkKeyTableGet(b *testing.B) {
	k := NewKeyTable(nil)
	const n = 213_500
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
	b.ReportMetric(float64(k.Bytes())/n, "B/key")
}
