// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"errors"
	"math"
	"unsafe"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// stretch is neighbouring rows of one layout that are being put out as float histograms.
type stretch struct {
	from, to int
	number   int64
	hists    []histogram.FloatHistogram
	counts   []float64 // their buckets, row by row
	width    int       // how many each has
	next     int       // of those, the one whose column comes next
}

// maxStretch is how many rows a stretch has at most: what slabs of histograms are made for.
const maxStretch = 256

// exact is what all integers below are floats.
const exact = 1 << 53

// emitFloats puts out the rows [from, to), whose times are t, as float histograms, each column of buckets straight to
// where it belongs. done is false, and no row is put out, where Histogram.ToFloat would do more than convert numbers:
// with custom buckets, and counts that no float holds.
func (d *columnDecoder) emitFloats(n, from, to int, t []int64) (done bool, err error) {
	if !d.float && d.bounds.schema == histogram.CustomBucketsSchema {
		return false, nil
	}
	have := len(d.dst.T)
	if err := d.beginStretches(t); err != nil {
		return false, err
	}
	if d.float {
		err = d.floatBuckets(n, from, to)
		done = err == nil
	} else {
		done, err = d.intBuckets(n, from, to)
	}
	if !done {
		d.dst.Truncate(have)
	}
	return done, err
}

// beginStretches adds the rows and all of them but the counts of their buckets.
func (d *columnDecoder) beginStretches(t []int64) error {
	kind := sample.Histogram
	if d.float {
		kind = sample.FloatHistogram
	}
	d.stretches = d.stretches[:0]
	for at := 0; at < len(t); {
		s := stretch{from: at, number: d.numbers[at]}
		for at < len(t) && at-s.from < maxStretch && d.numbers[at] == s.number {
			at++
		}
		s.to = at
		var l *runLayout
		if s.number > 0 {
			l = &d.layouts[s.number-1]
			s.width = len(l.columns)
		}
		var err error
		if s.hists, s.counts, err = d.dst.AddFloatHistograms(t[s.from:s.to], kind, s.width); err != nil {
			return err
		}
		d.describe(&s, l)
		if err := d.addStretch(s); err != nil {
			return err
		}
	}
	return nil
}

func (d *columnDecoder) addStretch(s stretch) error {
	if n := len(d.stretches); n == cap(d.stretches) {
		more := max(n, 8)
		if err := d.dst.Keep(int64(more) * int64(unsafe.Sizeof(s))); err != nil {
			return err
		}
		d.stretches = append(make([]stretch, 0, n+more), d.stretches...)
	}
	d.stretches = append(d.stretches, s)
	return nil
}

// describe fills in the histograms of a stretch of a layout, nil without buckets.
func (d *columnDecoder) describe(s *stretch, l *runLayout) {
	for k := range s.hists {
		i := s.from + k
		hint := histogram.CounterResetHint(d.hints[i])
		if l == nil {
			s.hists[k] = histogram.FloatHistogram{CounterResetHint: hint, Sum: d.sums[i]}
			continue
		}
		count, zero := float64(d.counts[i]), float64(d.zeros[i])
		if d.float {
			count, zero = math.Float64frombits(d.counts[i]), math.Float64frombits(d.zeros[i])
		}
		pos, neg := split(s.counts[k*s.width:(k+1)*s.width:(k+1)*s.width], l.npos)
		custom := l.custom
		if !d.float {
			custom = nil
		}
		s.hists[k] = histogram.FloatHistogram{
			CounterResetHint: hint, Schema: l.schema, ZeroThreshold: math.Float64frombits(l.zeroT), ZeroCount: zero, Count: count,
			Sum: d.sums[i], PositiveSpans: l.pos, NegativeSpans: l.neg, PositiveBuckets: pos, NegativeBuckets: neg, CustomValues: custom,
		}
	}
}

// wants tells whether the stretch has column k, the next but those it has not, and then which of its buckets that is.
func (d *columnDecoder) wants(s *stretch, k int) (bucket int, ok bool) {
	if s.next == s.width || int(d.layouts[s.number-1].columns[s.next]) != k {
		return 0, false
	}
	s.next++
	return s.next - 1, true
}

// floatBuckets fills in the buckets of float histograms.
func (d *columnDecoder) floatBuckets(n, from, to int) error {
	for k := range d.has.len() {
		b, _ := d.bucket()
		v, err := d.decodeValues(d.floats[:0], b, n, from, to)
		if err != nil {
			return err
		}
		for i := range d.stretches {
			s := &d.stretches[i]
			if at, ok := d.wants(s, k); ok {
				for _, x := range v[s.from:s.to] {
					s.counts[at] = x
					at += s.width
				}
			}
		}
	}
	return nil
}

// intBuckets fills in the buckets of integer histograms.
func (d *columnDecoder) intBuckets(n, from, to int) (done bool, err error) {
	if err := errors.Join(grow(d, &d.rests, to-from), grow(d, &d.ints, groupColumns*n)); err != nil {
		return false, err
	}
	d.rests = append(d.rests[:0], d.counts...)
	d.group.n = 0
	all := uint64(0)
	rest := -1
	var places []int32 // of the bucket without a column, by stretch; -1: it has it not
	for k := range d.has.len() {
		b, near := d.bucket()
		if len(b) == 0 && rest >= 0 || near && (k == 0 || rest == k-1) {
			d.c.Fail("bucket without a column")
		}
		if d.c.Failed() {
			return false, faultOf(&d.c)
		}
		if len(b) == 0 {
			rest = k
			all |= d.putGroup()
			if places, err = d.placesOf(k); err != nil {
				return false, err
			}
			continue
		}
		x, err := d.decodeInts(d.ints[d.group.n*n:d.group.n*n:cap(d.ints)], b, n, from, to)
		if err != nil {
			return false, err
		}
		if near {
			d.group.addBefore(x)
		}
		if d.group.add(k, x); d.group.n == groupColumns {
			all |= d.putGroup()
		}
	}
	all |= d.putGroup()
	if rest >= 0 {
		all |= d.putRest(places)
	}
	return all < exact, nil
}

// placesOf notes which bucket column k is in each stretch.
func (d *columnDecoder) placesOf(k int) ([]int32, error) {
	if err := d.dst.Charge(4 * int64(len(d.stretches))); err != nil {
		return nil, err
	}
	places := make([]int32, len(d.stretches))
	for i := range d.stretches {
		places[i] = -1
		if at, ok := d.wants(&d.stretches[i], k); ok {
			places[i] = int32(at)
		}
	}
	return places, nil
}

// groupColumns is how many columns are put where they belong together: eight counts of a row are a line of the cache,
// which is touched once then and not for each column.
const groupColumns = 8

// columnGroup is columns of integers, in order.
type columnGroup struct {
	n       int
	columns [groupColumns][]int64
	numbers [groupColumns]int
	places  [groupColumns]int // in a stretch: which bucket each is; -1: it has it not
}

// addBefore adds to a column, which is less the one before it, that one: the last of the group, or of the group before
// this one, whose memory is as it was.
func (g *columnGroup) addBefore(x []int64) {
	before := g.columns[(g.n+groupColumns-1)%groupColumns][:len(x)]
	for i := range x {
		x[i] += before[i]
	}
}

func (g *columnGroup) add(number int, x []int64) {
	g.columns[g.n], g.numbers[g.n] = x, number
	g.n++
}

// putGroup puts the columns of the group where they belong, takes them off the rest of each row, and returns all bits
// that occur. Then the group is empty.
func (d *columnDecoder) putGroup() (all uint64) {
	g := &d.group
	for i := range d.stretches {
		s := &d.stretches[i]
		side := g.n == groupColumns // whether they stand side by side
		for k, number := range g.numbers[:g.n] {
			at, ok := d.wants(s, number)
			if !ok {
				at = -1
			}
			g.places[k] = at
			side = side && at == g.places[0]+k && ok
		}
		if side {
			all |= g.putSideBySide(s, d.rests[s.from:s.to])
			continue
		}
		for k, x := range g.columns[:g.n] {
			all |= putInts(s, g.places[k], x[s.from:s.to], d.rests[s.from:s.to])
		}
	}
	g.n = 0
	return all
}

// putSideBySide is putInts for columns that are neighbours in a stretch.
func (g *columnGroup) putSideBySide(s *stretch, left []uint64) (all uint64) {
	n := len(left)
	var c [groupColumns][]int64
	for k := range c {
		c[k] = g.columns[k][s.from:s.to][:n]
	}
	at := g.places[0]
	for i := range left {
		out := s.counts[at : at+groupColumns : at+groupColumns]
		a, b, x, y := c[0][i], c[1][i], c[2][i], c[3][i]
		e, f, u, v := c[4][i], c[5][i], c[6][i], c[7][i]
		out[0], out[1], out[2], out[3] = float64(a), float64(b), float64(x), float64(y)
		out[4], out[5], out[6], out[7] = float64(e), float64(f), float64(u), float64(v)
		left[i] -= uint64(a + b + x + y + e + f + u + v)
		all |= uint64(a | b | x | y | e | f | u | v)
		at += s.width
	}
	return all
}

// putInts puts a column where it belongs in a stretch, takes it off the rest of each row, and returns all bits that occur.
func putInts(s *stretch, at int, x []int64, left []uint64) (all uint64) {
	if at < 0 {
		for i, v := range x {
			left[i] -= uint64(v)
		}
		return 0
	}
	for i, v := range x {
		s.counts[at] = float64(v)
		left[i] -= uint64(v)
		all |= uint64(v)
		at += s.width
	}
	return all
}

// putRest puts out the bucket that has no column.
func (d *columnDecoder) putRest(places []int32) (all uint64) {
	for i := range d.stretches {
		s := &d.stretches[i]
		if places[i] < 0 {
			continue
		}
		at := int(places[i])
		for i := s.from; i < s.to; i++ {
			v := d.rests[i] - d.zeros[i]
			s.counts[at] = float64(int64(v))
			all |= v
			at += s.width
		}
	}
	return all
}
