// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

// Reader reads the samples of series whose ids mostly ascend: it holds on to the stripes of the group it read last,
// so that neighbours cost no look into the cache. It belongs to one goroutine.
//
// What it holds beyond what the cache has is charged to the block of columns that is being filled, until that is
// reset: who goes on with a Reader behind a reset has the block charged again by ChargeTo.
type Reader struct {
	block   *Block
	group   int   // -1: none
	once    bool  // what it reads is not put into the cache
	stripes int64 // bytes of those that the cache does not keep
	decoding
}

// decoding is the memory that a Reader decodes into. Readers hand it on.
type decoding struct {
	held    []held
	at      []int64   // the times of histograms, start timestamps
	values  []float64 // values with some before those that are wanted
	columns int64     // bytes of all of them
}

// maxScratch is how many bytes a Reader hands on at most.
const maxScratch = 2 << 20

// Close hands on the memory of the Reader, which may still be used: it begins anew then.
func (r *Reader) Close() {
	if r.held != nil && r.columns <= maxScratch {
		for i := range r.held {
			r.held[i].forget()
		}
		x := r.decoding
		r.block.cache.scratch.Put(&x)
	}
	r.decoding, r.group, r.stripes = decoding{}, -1, 0
}

// borrow gives the Reader what another has handed on, and charges dst for it: none where there is no room.
func (r *Reader) borrow(dst *column.Block) {
	x, ok := r.block.cache.scratch.Get().(*decoding)
	if !ok {
		return
	}
	if dst.Charge(x.columns) != nil {
		return // it is garbage: little memory is left
	}
	r.decoding = *x
}

// held is a stripe of the group, and what goes with it.
type held struct {
	stripe  *loadedStripe
	regions *loadedRegions // of version 1
	damage  error          // of the stripe: its other series need not try
	times   []heldTimes    // the stripes of times of its cell
	columns columns

	// The column of times that was read last, and the wanted rows of it.
	number     uint32
	column     *encoding.Times
	from, to   int
	mint, maxt int64 // that they were found for
}

// forget makes the memory that of another stripe.
func (h *held) forget() {
	clear(h.times)
	*h = held{columns: h.columns.emptied(), times: h.times[:0]}
}

// heldTimes is a stripe of times, or why it cannot be read; neither where nobody has tried.
type heldTimes struct {
	loaded *loadedTimes
	damage error
}

// wanted is what is to be read of a series, and where to.
type wanted struct {
	mint, maxt int64
	withST     bool
	dst        *column.Block
}

// Reader returns a reader of the block.
func (b *Block) Reader() Reader { return Reader{block: b, group: -1} }

// ReaderOnce returns a reader for who reads the block from its first series to its last one time: what that takes from
// the disk does not push out of the cache what others read again.
func (b *Block) ReaderOnce() Reader { return Reader{block: b, group: -1, once: true} }

// Read appends the rows of series id in [mint, maxt] to dst, ascending in time, with start timestamps where
// withST is set. It does not end the series in dst.
//
// The error is a *CorruptError where a stripe of the series is damaged; then dst has the rows of the others. On any
// other, a *budget.ExceededError where dst may not grow, dst has the rows it had before.
func (r *Reader) Read(ctx context.Context, id uint32, mint, maxt int64, withST bool, dst *column.Block) error {
	d := &r.block.directory
	if int(id) >= r.block.series {
		return fmt.Errorf("read block %s: series %d of %d", r.block.name, id, r.block.series)
	}
	if r.held == nil {
		r.borrow(dst)
	}
	r.enter(id)
	g := &d.groups[r.group]
	stripes := d.stripes[g.from:g.to]
	i := sort.Search(len(stripes), func(i int) bool { return stripes[i].maxT >= mint })
	have := len(dst.T)
	var damage error
	for w := (wanted{mint, maxt, withST, dst}); i < len(stripes) && stripes[i].minT <= maxt; i++ {
		before := len(dst.T)
		err := r.readStripe(ctx, i, id, w)
		if err == nil {
			continue
		}
		dst.Truncate(before)
		if _, ok := errors.AsType[*CorruptError](err); !ok {
			dst.Truncate(have)
			return fmt.Errorf("read block %s: %w", r.block.name, err)
		}
		if damage == nil { // the first says enough
			damage = err
		}
	}
	return damage
}

// enter makes the Reader hold the group of a series.
func (r *Reader) enter(id uint32) {
	d := &r.block.directory
	if r.group < 0 || id < d.groups[r.group].first || id-d.groups[r.group].first >= d.groups[r.group].series {
		r.begin(d.find(id))
	}
}

// begin makes the Reader hold a group, nothing of which it has read.
func (r *Reader) begin(g int) {
	r.group, r.stripes = g, 0
	n := int(r.block.directory.groups[g].to - r.block.directory.groups[g].from)
	for i := range r.held {
		r.held[i].forget()
	}
	for len(r.held) < n {
		r.held = append(r.held, held{})
	}
}

// readStripe appends the rows of a series that are in the i-th stripe of the group.
func (r *Reader) readStripe(ctx context.Context, i int, id uint32, w wanted) error {
	if r.block.version == 1 {
		return r.readRegion(id, w)
	}
	x, err := r.holdStripe(ctx, i, id, w)
	if err != nil {
		return err
	}
	return r.readPage(&x)
}

// holdStripe makes the Reader hold the i-th stripe of the group, and returns the page of a series as one to be read.
func (r *Reader) holdStripe(ctx context.Context, i int, id uint32, w wanted) (pageRead, error) {
	h := &r.held[i]
	g := &r.block.directory.groups[r.group]
	if h.damage != nil {
		return pageRead{}, h.damage
	}
	if h.stripe == nil {
		if err := ctx.Err(); err != nil {
			return pageRead{}, err
		}
		s, err := r.stripe(g.from+uint32(i), g.series, w.dst)
		if err != nil {
			if _, ok := errors.AsType[*CorruptError](err); ok {
				h.damage = err
			}
			return pageRead{}, err
		}
		h.stripe = s
	}
	return pageRead{wanted: w, reader: r, held: h, stripe: &r.block.directory.stripes[g.from+uint32(i)], series: id - g.first}, nil
}

// stripe returns the i-th stripe, of a group of that many series.
func (r *Reader) stripe(i, series uint32, dst *column.Block) (*loadedStripe, error) {
	size := int64(r.block.directory.stripes[i].size) + pageBytes*int64(series)
	return hold(r, cacheKey{block: r.block.number, part: i}, size, dst, func() (*loadedStripe, error) {
		return r.block.loadStripe(i, series)
	})
}

const (
	// pageBytes is what a page takes beside its bytes while its stripe is parsed, columnBytes what a column of times does.
	pageBytes   = 20 + 4*8
	columnBytes = 20 + 3*8
)

// hold returns what has key from the cache or, by load, from the disk, which takes about size bytes meanwhile. dst is
// charged for what the cache does not keep.
func hold[T cached](r *Reader, key cacheKey, size int64, dst *column.Block, load func() (T, error)) (none T, err error) {
	if v, ok := r.block.cache.get(key).(T); ok {
		return v, nil
	}
	if err := dst.Budget.Reserve(size); err != nil {
		return none, err
	}
	v, err := load()
	dst.Budget.Release(size)
	if err != nil || !r.once && r.block.cache.put(key, v) {
		return v, err
	}
	if err := dst.Charge(v.bytes()); err != nil {
		return none, err
	}
	r.stripes += v.bytes()
	return v, nil
}

// ChargeTo charges dst for what the Reader holds. On an error, a *budget.ExceededError, the Reader must not be used.
func (r *Reader) ChargeTo(dst *column.Block) error { return dst.Charge(r.stripes + r.columns) }

// times returns column number of the cell of a held stripe.
func (r *Reader) times(x *pageRead, number uint32) (*encoding.Times, error) {
	t, err := r.timesColumn(x, number, false)
	if err == nil && (t.First() < x.stripe.minT || t.Last() > x.stripe.maxT) {
		return nil, r.block.corrupt(x.stripe.off, fmt.Sprintf("column %d has times beyond those of the stripe", number))
	}
	return t, err
}

// timesColumn returns column number of a cell, whole where it is to be one that others are parts of.
func (r *Reader) timesColumn(x *pageRead, number uint32, whole bool) (*encoding.Times, error) {
	d := &r.block.directory
	from, to := d.ofCell(x.stripe.cell)
	all := d.times[from:to]
	k := sort.Search(len(all), func(i int) bool { return all[i].first > number }) - 1
	if k < 0 || number-all[k].first >= all[k].cols {
		return nil, r.block.corrupt(x.stripe.off, fmt.Sprintf("no column of times has number %d", number))
	}
	l, err := r.timeStripe(x, from, k, len(all))
	if err != nil {
		return nil, err
	}
	i := number - all[k].first
	if n := l.bases[i]; n > number || n > 0 && whole {
		return nil, r.block.corrupt(all[k].off, fmt.Sprintf("column %d of times is a part of none, or others are a part of it", number))
	}
	var base *encoding.Times
	if n := l.baseOf(i); n > 0 {
		if base, err = r.timesColumn(x, number-n, true); err != nil {
			return nil, err
		}
	}
	t, at, msg := l.column(i, base)
	if msg != "" {
		return nil, r.block.corrupt(all[k].off+at, "times: "+msg)
	}
	return t, nil
}

// timeStripe returns the k-th of the n stripes of times of a cell, which begin at from.
func (r *Reader) timeStripe(x *pageRead, from uint32, k, n int) (*loadedTimes, error) {
	for len(x.held.times) < n {
		x.held.times = append(x.held.times, heldTimes{})
	}
	h := &x.held.times[k]
	if h.loaded != nil || h.damage != nil {
		return h.loaded, h.damage
	}
	i := from + uint32(k)
	info := &r.block.directory.times[i]
	l, err := hold(r, cacheKey{block: r.block.number, part: timesPart | i}, int64(info.size)+columnBytes*int64(info.cols), x.dst,
		func() (*loadedTimes, error) { return r.block.loadTimes(i) })
	if err == nil {
		h.loaded = l
	} else if _, ok := errors.AsType[*CorruptError](err); ok {
		h.damage = err
	}
	return h.loaded, err
}
