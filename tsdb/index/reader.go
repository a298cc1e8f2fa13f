// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// Reader answers from the index of a block. The bytes stay encoded; what is added to them is where each
// dictionary group, list and series group begins. It is safe for concurrent use and needs no closing,
// but for Release where ChargeTo was called.
//
// Symbols 0 to the number of names are the label names, in order; those above are the pairs, each standing for
// its value: equal values of two names are two symbols.
type Reader struct {
	b          []byte
	n          int // series
	dicts      []readerDict
	groups     []uint32 // where each group of values begins
	lists      []uint32 // where the postings of each pair begin
	setStarts  []uint32 // where each set begins in setNames
	setNames   []uint32
	series     []uint32 // where each group of series begins
	hashes     atomic.Pointer[pairHashes]
	texts      []atomic.Pointer[groupText] // decoded groups of values
	valueBytes int64
	kept       kept
	answers    Answers // nil: none
}

// readerDict is a label name and its dictionary.
type readerDict struct {
	name       string
	first      uint32 // pair of the value with rank 0
	values     uint32
	firstGroup uint32
	series     uint32 // that have the label
}

// groupText is the values of one group, one after the other.
type groupText struct {
	text string
	ends [groupSize]uint32
}

// OpenReader checks the whole of b and returns a reader over it; b must not change afterwards. The error is a
// *FormatError. Whatever b holds, opening allocates no more than in proportion to its length.
func OpenReader(b []byte) (*Reader, error) {
	r := &Reader{b: b}
	o := opener{r: r}
	if err := o.header(); err != nil {
		return nil, err
	}
	for _, part := range []func() error{o.openNames, o.openDictionaries, o.openSets, o.openSeries, o.openPostings} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// N returns the number of series.
func (r *Reader) N() int { return r.n }

// Bytes returns the memory that the reader holds, without decoded values.
func (r *Reader) Bytes() int64 {
	return int64(len(r.b)) + 4*int64(len(r.groups)+len(r.lists)+len(r.setStarts)+len(r.setNames)+len(r.series)) + 8*int64(len(r.texts))
}

// Symbols returns the number of symbols: they are 0 to one less.
func (r *Reader) Symbols() int { return len(r.dicts) + len(r.lists) }

// Pairs appends the labels of a series to dst as symbols: name, value, name, value, … in label order.
func (r *Reader) Pairs(id uint32, dst []uint32) []uint32 {
	start := len(dst)
	off := r.series[id/groupSize]
	for range id%groupSize + 1 {
		var pairs []uint32
		pairs, _, off = r.nextPairs(off, dst[start:])
		dst = append(dst[:start], pairs...)
	}
	return dst
}

// nextPairs decodes the series at off, pairs being those of the one before it in its group, which it overwrites. It
// returns how many of the first labels are as they were, and where the next series is.
func (r *Reader) nextPairs(off uint32, pairs []uint32) (now []uint32, same int, next uint32) {
	shared, off := uvarintAt(r.b, off)
	if shared == 0 {
		var set uint32
		set, off = uvarintAt(r.b, off)
		pairs = pairs[:0]
		for _, name := range r.setNames[r.setStarts[set]:r.setStarts[set+1]] {
			pairs = append(pairs, name, 0)
		}
		shared = 1
	}
	for i := 2 * int(shared-1); i < len(pairs); i += 2 {
		var rank uint32
		rank, off = uvarintAt(r.b, off)
		pairs[i+1] = uint32(len(r.dicts)) + r.dicts[pairs[i]].first + rank
	}
	return pairs, int(shared - 1), off
}

// Labels returns the labels of a series.
func (r *Reader) Labels(id uint32, b *labels.ScratchBuilder) labels.Labels {
	var stack [64]uint32
	b.Reset()
	for p := r.Pairs(id, stack[:0]); len(p) > 0; p = p[2:] {
		b.Add(r.Symbol(p[0]), r.Symbol(p[1]))
	}
	return b.Labels()
}

// Symbol returns the text of a symbol. The string stays valid for as long as it is kept.
func (r *Reader) Symbol(sym uint32) string {
	if int(sym) < len(r.dicts) {
		return r.dicts[sym].name
	}
	pair := sym - uint32(len(r.dicts))
	d := r.dictOf(pair)
	rank := pair - d.first
	g := r.group(d, rank/groupSize)
	from := uint32(0)
	if rank%groupSize > 0 {
		from = g.ends[rank%groupSize-1]
	}
	return g.text[from:g.ends[rank%groupSize]]
}

// dictOf returns the dictionary of a pair.
func (r *Reader) dictOf(pair uint32) *readerDict {
	i := sort.Search(len(r.dicts), func(i int) bool { return r.dicts[i].first > pair })
	return &r.dicts[i-1]
}

// group returns the values of the k-th group of d, decoding them the first time.
func (r *Reader) group(d *readerDict, k uint32) *groupText {
	at := &r.texts[d.firstGroup+k]
	if g := at.Load(); g != nil {
		return g
	}
	var g groupText
	var text strings.Builder
	r.eachInGroup(d, k, func(i int, value []byte) bool {
		text.Write(value)
		g.ends[i] = uint32(text.Len())
		return true
	})
	g.text = text.String()
	r.keep(at, &g)
	return &g
}

// kept is what the values that a reader keeps decoded are charged to.
type kept struct {
	sync.Mutex
	account *budget.Account
	bytes   int64
	over    bool
}

// keep stores a decoded group, unless there is no memory for it: then the next look decodes it again.
func (r *Reader) keep(at *atomic.Pointer[groupText], g *groupText) {
	size := int64(unsafe.Sizeof(*g)) + int64(len(g.text))
	r.kept.Lock()
	defer r.kept.Unlock()
	if r.kept.over || at.Load() != nil || r.kept.account.Reserve(size) != nil {
		return
	}
	r.kept.bytes += size
	at.Store(g)
}

// ChargeTo has the values that the reader keeps decoded charged to account. It comes before the first use.
func (r *Reader) ChargeTo(account *budget.Account) { r.kept.account = account }

// Release gives back what ChargeTo has charged. The reader stays readable, and keeps no more values.
func (r *Reader) Release() {
	r.kept.Lock()
	defer r.kept.Unlock()
	r.kept.account.Release(r.kept.bytes)
	r.kept.bytes, r.kept.over = 0, true
	r.hashes.Store(nil)
}

// eachInGroup calls f with the values of one group, in order, until f returns false. value is valid during the
// call.
func (r *Reader) eachInGroup(d *readerDict, k uint32, f func(i int, value []byte) bool) {
	r.decodeGroup(d, k, make([]byte, 0, 128), f)
}

// decodeGroup is eachInGroup with memory for a value, which it returns.
func (r *Reader) decodeGroup(d *readerDict, k uint32, value []byte, f func(i int, value []byte) bool) []byte {
	off := r.groups[d.firstGroup+k]
	for i := range int(min(d.values-k*groupSize, groupSize)) {
		var shared, n uint32
		if i > 0 {
			shared, off = uvarintAt(r.b, off)
		}
		n, off = uvarintAt(r.b, off)
		value = append(value[:shared], r.b[off:off+n]...)
		off += n
		if !f(i, value) {
			break
		}
	}
	return value
}

// EachPairs calls f with the labels of each of ids, which ascend, as Pairs gives them; they are valid during the
// call. Where ids follow one another it costs a few bytes decoded for each, not half a group.
func (r *Reader) EachPairs(ids []uint32, f func(pairs []uint32)) {
	r.eachPairs(ids, func(pairs []uint32, _ int) { f(pairs) })
}

// eachPairs is EachPairs, and tells how many of the first labels are those of the call before.
func (r *Reader) eachPairs(ids []uint32, f func(pairs []uint32, same int)) {
	var stack [64]uint32
	pairs := stack[:0]
	off, next := uint32(0), uint32(0) // where series next is encoded, unless it is the first of a group
	for _, id := range ids {
		if next%groupSize == 0 || id/groupSize != next/groupSize {
			off, next = r.series[id/groupSize], id-id%groupSize
		}
		same := len(pairs)
		for ; next <= id; next++ {
			var k int
			pairs, k, off = r.nextPairs(off, pairs)
			same = min(same, k)
		}
		f(pairs, same)
	}
}
