// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/index"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// span is which rows a reader wants: those in [mint, maxt], with their start timestamps or without.
type span struct {
	mint, maxt int64
	st         bool
}

// selectRun is how many series are looked at under one hold of the shards' locks: about 50 us.
const selectRun = 4096

// Select returns the ids of the series that match all of ms and of which the head holds samples that the pin
// sees, ascending. The task keeps what they take.
func (p *Pin) Select(t *budget.Task, ms []*labels.Matcher) ([]uint32, error) {
	ids, err := p.head.dir.index.Select(t, ms)
	if err != nil {
		return nil, fmt.Errorf("select series of the head: %w", err)
	}
	out := ids[:0]
	for len(ids) > 0 {
		run := ids[:min(selectRun, len(ids))]
		ids = ids[len(run):]
		out = append(out, p.visible(run)...)
		if !t.Go(len(run)) {
			return nil, t.Err()
		}
	}
	return out, nil
}

// visible keeps those of ids, in place, of which the pin sees samples in the head.
func (p *Pin) visible(ids []uint32) []uint32 {
	p.head.readLock()
	defer p.head.readUnlock()
	return slices.DeleteFunc(ids, func(id uint32) bool {
		s, local := p.head.shardOf(id), p.head.local(id)
		if local >= s.headers.len() {
			return true
		}
		return !s.visibleLocked(p, local, s.headers.at(local))
	})
}

// visibleLocked reports whether the pin may see samples of a series. It does not look at deleted ranges.
func (s *shard) visibleLocked(p *Pin, local uint32, hd *header) bool {
	if hd.gen == 0 && !s.seesEndedLocked(p, local) {
		return false
	}
	if hd.flags&hasLate != 0 && slices.ContainsFunc(s.late[local].pages, func(l latePage) bool {
		return slices.ContainsFunc(l.rows, p.seesLate)
	}) {
		return true
	}
	chunks, n, ok := s.stateAtLocked(local, hd, p.epoch)
	if !ok {
		return false
	}
	ft := s.footers.at(local)
	if hd.n > 0 && (ft.chunks < chunks || ft.chunks == chunks && n > 0) {
		return true
	}
	for number := ft.closed; number != 0; {
		c := s.chunkAt(number)
		if p.seesClosed(c, chunks, n) > 0 {
			return true
		}
		number = c.older
	}
	return s.inPartsLocked(hd, p.seesPart)
}

// seesEndedLocked reports whether the series that was at local is one that left after the pin was made.
func (s *shard) seesEndedLocked(p *Pin, local uint32) bool {
	e, ok := s.ended[local]
	return ok && (e.lsn > p.epoch || e.drops > p.drops)
}

// stateAtLocked returns the state of a series at an epoch: how many chunks were closed, and the samples of the
// one that was open then. ok is false if it had no in-order sample.
func (s *shard) stateAtLocked(local uint32, hd *header, epoch sample.LSN) (chunks uint32, n uint16, ok bool) {
	if hd.changed <= epoch {
		return s.footers.at(local).chunks, hd.n, hd.changed > 0
	}
	v := s.versionLocked(local, epoch)
	if v == nil {
		return 0, 0, false
	}
	return v.chunks, v.n, true
}

// versionLocked returns the saved version that was the state at epoch, nil if the series was empty then.
func (s *shard) versionLocked(local uint32, epoch sample.LSN) *version {
	v := s.versions.get(s.footers.at(local).version, local)
	for v != nil && v.from > epoch {
		v = s.versions.get(v.older, local)
	}
	if v == nil || v.to <= epoch {
		return nil
	}
	return v
}

// seesClosed returns how many samples of a closed chunk the pin sees, of a series whose state is (chunks, n).
func (p *Pin) seesClosed(c *closedChunk, chunks uint32, n uint16) int {
	switch {
	case c.dead != 0 && c.dead <= p.drops:
		return 0
	case c.number < chunks:
		return int(c.n)
	case c.number == chunks:
		return int(n)
	}
	return 0
}

func (p *Pin) seesLate(x lateRow) bool {
	return x.lsn <= p.epoch && x.born <= p.drops && (x.dead == 0 || x.dead > p.drops)
}

// Hash returns the hash of the labels of a series.
func (p *Pin) Hash(id uint32) index.Hash128 { return p.head.dir.hash(id) }

// Read appends the samples of one series in [mint, maxt] to dst, ascending in time, with their start timestamps
// if withST. It does not end the series in dst. On error dst is as it was.
func (p *Pin) Read(id uint32, mint, maxt int64, withST bool, dst *column.Block) error {
	return p.ReadMany([]uint32{id}, mint, maxt, withST, dst, nil)
}

// ReadMany does Read for each of ids, in their order; end, if it is not nil, is called after each with its
// place in ids. Each shard is locked once for all its series in ids, so a caller passes some hundred at a time.
func (p *Pin) ReadMany(ids []uint32, mint, maxt int64, withST bool, dst *column.Block, end func(i int) error) error {
	r := p.Reader(mint, maxt, withST)
	defer r.Close()
	r.Load(ids)
	for i := range ids {
		if err := r.Next(dst); err != nil {
			return err
		}
		if end == nil {
			continue
		}
		if err := end(i); err != nil {
			return err
		}
	}
	return nil
}

// copyLocked copies what the pin sees of a series.
func (r *Reader) copyLocked(p *Pin, s *shard, local uint32) (c copied) {
	c.pieces[0], c.late[0], c.tombs[0] = len(r.pieces), len(r.late), len(r.tombs)
	if local < s.headers.len() {
		if hd := s.headers.at(local); hd.gen != 0 || s.seesEndedLocked(p, local) {
			r.copyChunksLocked(p, s, local, hd)
			r.copyLateLocked(p, s, local, hd)
			c.parts = hd.flags&inPart != 0 && len(r.inParts[s.number].parts) > 0 && r.inParts[s.number].parts[0].Slot <= hd.lastT
			if hd.flags&hasTombs != 0 {
				for _, x := range s.tombs[local] {
					if x.lsn <= p.epoch {
						r.tombs = append(r.tombs, x)
					}
				}
			}
		}
	}
	c.pieces[1], c.late[1], c.tombs[1] = len(r.pieces), len(r.late), len(r.tombs)
	slices.Reverse(r.pieces[c.pieces[0]:])
	return c
}

func (r *Reader) copyChunksLocked(p *Pin, s *shard, local uint32, hd *header) {
	chunks, n, ok := s.stateAtLocked(local, hd, p.epoch)
	if !ok {
		return
	}
	ft := s.footers.at(local)
	if hd.n > 0 && ft.chunks == chunks && n > 0 && ft.mint <= r.want.maxt && hd.lastT >= r.want.mint {
		o, from := s.openLocked(local, hd), 0
		x := piece{n: int(n), kind: hd.kind, mint: ft.mint}
		if mark, ok := ft.markBefore(int(n), r.want.mint); ok && hd.kind == sample.Float && (!r.want.st || len(o.starts) == 0) {
			from, x.mark = mark.From(), mark
		}
		x.from = len(r.buf)
		r.buf = o.appendFrom(r.buf, from)
		r.end(o.starts, x)
	}
	for number := ft.closed; number != 0; {
		c := s.chunkAt(number)
		if c.maxt < r.want.mint {
			return
		}
		if n := p.seesClosed(c, chunks, n); n > 0 && c.mint <= r.want.maxt {
			r.add(c.stream(), c.starts(), piece{n: n, kind: c.kind, mint: c.mint})
		}
		number = c.older
	}
}

func (r *Reader) add(stream, starts []byte, x piece) {
	x.from = len(r.buf)
	r.buf = append(r.buf, stream...)
	r.end(starts, x)
}

// end ends a piece whose stream is copied.
func (r *Reader) end(starts []byte, x piece) {
	x.starts = len(r.buf)
	if r.want.st {
		r.buf = append(r.buf, starts...)
	}
	x.to = len(r.buf)
	r.pieces = append(r.pieces, x)
}

func (r *Reader) copyLateLocked(p *Pin, s *shard, local uint32, hd *header) {
	if hd.flags&hasLate == 0 {
		return
	}
	for _, page := range s.late[local].pages {
		if page.rows[0].t > r.want.maxt || page.rows[len(page.rows)-1].t < r.want.mint {
			continue
		}
		for i := range page.rows {
			if x := page.rows[i]; x.t >= r.want.mint && x.t <= r.want.maxt && p.seesLate(x) {
				r.late = append(r.late, x)
			}
		}
	}
}

// decode appends the rows of series i. A *DamageError comes with the rows that could be read.
func (r *Reader) decode(i int, dst *column.Block) error {
	c, start := r.series[i], len(dst.T)
	tombs := r.tombs[c.tombs[0]:c.tombs[1]]
	damage, err := r.inOrder(i, dst)
	if err != nil {
		return err
	}
	if len(tombs) > 0 {
		keepRows(dst, start, func(t int64) bool { return deletedBy(tombs, t) == 0 })
	}
	if late := r.late[c.late[0]:c.late[1]]; len(late) > 0 {
		if err := mergeLate(dst, start, late, tombs); err != nil {
			return err
		}
	}
	return damage
}

// inOrder appends the in-order rows of series i, deleted ones too. Of a slot those in parts come before those in memory,
// but where a recovery has made rows in-order ones again that had become late: then they are sorted.
func (r *Reader) inOrder(i int, dst *column.Block) (damage, err error) {
	c, h, start := r.series[i], r.pin.head, len(dst.T)
	pieces, mixed := r.pieces[c.pieces[0]:c.pieces[1]], false
	if c.parts {
		local := h.local(r.ids[i])
		all := r.inParts[h.shardOf(r.ids[i]).number].parts
		for k := range all {
			x := &all[k]
			if x.lacks(local) {
				continue
			}
			for len(pieces) > 0 && pieces[0].mint < x.Slot {
				from := len(dst.T)
				if err := r.piece(&pieces[0], dst); err != nil {
					return nil, err
				}
				pieces = pieces[1:]
				mixed = mixed || descends(dst, start, from)
			}
			if x.reader == nil {
				x.reader = x.part.Reader(r.once)
			}
			from := len(dst.T)
			if err := x.reader.Read(local, r.want.mint, r.want.maxt, r.want.st, dst); err != nil {
				if _, ok := errors.AsType[*DamageError](err); !ok {
					return nil, err
				}
				damage = cmp.Or(damage, err)
			}
			mixed = mixed || descends(dst, start, from)
		}
	}
	from := len(dst.T)
	for k := range pieces {
		if err := r.piece(&pieces[k], dst); err != nil {
			return nil, err
		}
	}
	if mixed || descends(dst, start, from) {
		sortRows(dst, start)
	}
	return damage, nil
}

// descends reports whether the rows from from on begin before the end of those from start on.
func descends(b *column.Block, start, from int) bool {
	return from > start && from < len(b.T) && b.T[from] <= b.T[from-1]
}

// sortRows sorts the rows from start on by time, and keeps the first of each.
func sortRows(b *column.Block, start int) {
	order := make([]int, len(b.T)-start)
	for i := range order {
		order[i] = start + i
	}
	slices.SortStableFunc(order, func(i, k int) int { return cmp.Compare(b.T[i], b.T[k]) })
	order = slices.CompactFunc(order, func(i, k int) bool { return b.T[i] == b.T[k] })
	reorder(b, start, order)
}

// piece appends the wanted samples of a copied chunk.
func (r *Reader) piece(x *piece, dst *column.Block) error {
	return x.decode(r.buf[x.from:x.starts], r.buf[x.starts:x.to], r.want, dst)
}

func deletedBy(tombs []tomb, t int64) (lsn sample.LSN) {
	for _, x := range tombs {
		if x.mint <= t && t <= x.maxt {
			lsn = max(lsn, x.lsn)
		}
	}
	return lsn
}

// decode appends the samples of a chunk that are wanted.
func (x *piece) decode(stream, starts []byte, want span, dst *column.Block) error {
	decode := chunk.DecodeFloats
	if x.kind != sample.Float {
		decode = chunk.DecodeHistograms
	}
	if n := x.mark.Len(); n > 0 {
		return chunk.DecodeFloatsFrom(x.mark, x.mint, stream, x.n-n, want.mint, want.maxt, dst)
	}
	if !want.st || len(starts) == 0 {
		return decode(stream, x.n, want.mint, want.maxt, dst)
	}
	// Start timestamps are counted from the first sample, so all are decoded.
	row := len(dst.T)
	if err := decode(stream, x.n, math.MinInt64, math.MaxInt64, dst); err != nil {
		return err
	}
	if err := chunk.DecodeST(starts, 0, dst, row); err != nil {
		return err
	}
	if x.mint < want.mint || len(dst.T) > row && dst.T[len(dst.T)-1] > want.maxt {
		keepRows(dst, row, func(t int64) bool { return t >= want.mint && t <= want.maxt })
	}
	return nil
}

// keepRows drops the rows of b from start on whose time is not to be kept.
func keepRows(b *column.Block, start int, keep func(t int64) bool) {
	b.Moved(start)
	k := start
	for i := start; i < len(b.T); i++ {
		if keep(b.T[i]) {
			moveRow(b, k, i)
			k++
		}
	}
	b.Truncate(k)
}

// moveRow puts a copy of row from in the place of row to.
func moveRow(b *column.Block, to, from int) {
	b.T[to], b.V[to] = b.T[from], b.V[from]
	if len(b.ST) > 0 {
		b.ST[to] = b.ST[from]
	}
	if len(b.Kind) > 0 {
		b.Kind[to], b.H.Int[to], b.H.Float[to] = b.Kind[from], b.H.Int[from], b.H.Float[from]
	}
}

// mergeLate brings late rows, which ascend in time and are not empty, among the rows of b from start on. Of two
// rows at one time the one that was there first stays: the other came while the first was being dropped.
func mergeLate(b *column.Block, start int, late []lateRow, tombs []tomb) error {
	if err := b.Reserve(len(late)); err != nil {
		return err
	}
	inOrder := len(b.T)
	for i := range late {
		x := &late[i]
		if n := len(b.T); n > inOrder && b.T[n-1] == x.t {
			continue
		}
		if deletedBy(tombs, x.t) < x.lsn {
			if err := appendLate(b, x); err != nil {
				return err
			}
		}
	}
	if inOrder == start || len(b.T) == inOrder || b.T[inOrder] > b.T[inOrder-1] {
		return nil
	}
	order := make([]int, 0, len(b.T)-start)
	i, k := start, inOrder
	for i < inOrder || k < len(b.T) {
		switch {
		case k == len(b.T) || i < inOrder && b.T[i] < b.T[k]:
			order = append(order, i)
			i++
		case i == inOrder || b.T[k] < b.T[i]:
			order = append(order, k)
			k++
		default:
			k++
		}
	}
	reorder(b, start, order)
	return nil
}

// reorder makes the rows that order names those from start on.
func reorder(b *column.Block, start int, order []int) {
	b.Moved(start)
	permute(b.T, start, order)
	permute(b.V, start, order)
	if len(b.ST) > 0 {
		permute(b.ST, start, order)
	}
	if len(b.Kind) > 0 {
		permute(b.Kind, start, order)
		permute(b.H.Int, start, order)
		permute(b.H.Float, start, order)
	}
	b.Truncate(start + len(order))
}

func appendLate(b *column.Block, x *lateRow) error {
	if x.kind == sample.Float {
		b.AppendFloat(x.t, x.st, math.Float64frombits(x.v))
		return nil
	}
	if err := b.Charge(histBytes(x.hist.h, x.hist.fh)); err != nil {
		return err
	}
	c := copyHist(x.hist.h, x.hist.fh)
	b.AppendHistogram(x.t, x.st, c.h, c.fh)
	return nil
}

// permute brings the entries of s that order names to start, start+1, ….
func permute[T any](s []T, start int, order []int) {
	was := slices.Clone(s[start:])
	for i, from := range order {
		s[start+i] = was[from-start]
	}
}
