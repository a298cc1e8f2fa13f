// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"math"

	"github.com/prometheus/prometheus/util/kahansum"
)

// stddevKernel is stddev_over_time.
func stddevKernel(f *frame) error {
	if err := stdvarKernel(f); err != nil {
		return err
	}
	for i, x := range f.out {
		f.out[i] = math.Sqrt(x)
	}
	return nil
}

// stdvarKernel is stdvar_over_time.
func stdvarKernel(f *frame) error {
	f.mark()
	if !f.long() {
		return f.varianceEach()
	}
	d, err := f.deviations()
	if err != nil {
		return err
	}
	if !d.sound {
		return f.varianceEach()
	}
	next := 0
	for i, l := range f.lo {
		h := f.hi[i]
		if l >= h {
			continue
		}
		for next < len(d.odd) && d.odd[next] < l {
			next++
		}
		switch {
		case next < len(d.odd) && d.odd[next] < h:
			f.out[i] = math.NaN()
		case d.run[h-1] <= l:
			f.out[i] = 0
		default:
			x, ok := d.between(l, h)
			if !ok {
				x = varianceWindow(f.v[l:h])
				if err := f.spend(int(h - l)); err != nil {
					return err
				}
			}
			f.out[i] = x
		}
	}
	return nil
}

// long tells whether windows are long enough and overlap enough for sums that may differ in the last bit.
func (f *frame) long() bool {
	switch f.node.call.Rung {
	case Sequential:
		return false
	case Prefix:
		return true
	default:
		return f.visits >= longOverlap*len(f.v) && f.visits > longWindow*len(f.lo)
	}
}

// varianceWindow is the variance of a window as Prometheus computes it: Welford's method, compensated.
func varianceWindow(v []float64) float64 {
	var count, mean, cMean, aux, cAux float64
	for _, x := range v {
		count++
		delta := x - (mean + cMean)
		mean, cMean = kahansum.Inc(delta/count, mean, cMean)
		aux, cAux = kahansum.Inc(float64(delta*(x-(mean+cMean))), aux, cAux)
	}
	return (aux + cAux) / count
}

// varianceEach computes each window by itself, some of them side by side: see smoothingKernel for why.
func (f *frame) varianceEach() error {
	var steps [lanes]int
	var windows [lanes][]float64
	n := 0
	for i, l := range f.lo {
		h := f.hi[i]
		if l >= h {
			continue
		}
		steps[n], windows[n] = i, f.v[l:h]
		if n++; n == lanes {
			for k, x := range varianceLanes(&windows) {
				f.out[steps[k]] = x
			}
			n = 0
		}
		if err := f.spend(int(h - l)); err != nil {
			return err
		}
	}
	for k, v := range windows[:n] {
		x := welford{}.finish(0, v)
		if x-x != 0 {
			x = varianceWindow(v)
		}
		f.out[steps[k]] = x
	}
	return nil
}

// varianceLanes returns the variances of several windows. Variables and not structs hold the states because only those
// are kept in registers.
func varianceLanes(windows *[lanes][]float64) [lanes]float64 {
	n := min(len(windows[0]), len(windows[1]), len(windows[2]))
	va, vb, vc := windows[0][:n], windows[1][:n], windows[2][:n]
	var a, ca, sa, ra, b, cb, sb, rb, c, cc, sc, rc, count float64
	for i, x := range va {
		count++
		y, z := vb[i], vc[i]
		da, db, dc := x-(a+ca), y-(b+cb), z-(c+cc)
		a, ca = add(a, ca, da/count)
		b, cb = add(b, cb, db/count)
		c, cc = add(c, cc, dc/count)
		sa, ra = add(sa, ra, float64(da*(x-(a+ca))))
		sb, rb = add(sb, rb, float64(db*(y-(b+cb))))
		sc, rc = add(sc, rc, float64(dc*(z-(c+cc))))
	}
	var out [lanes]float64
	for k, w := range [lanes]welford{{a, ca, sa, ra}, {b, cb, sb, rb}, {c, cc, sc, rc}} {
		v := windows[k]
		if out[k] = w.finish(count, v[n:]); out[k]-out[k] != 0 {
			out[k] = varianceWindow(v)
		}
	}
	return out
}

// welford is the state of Welford's method between samples.
type welford struct{ mean, cMean, aux, cAux float64 }

// finish takes the last samples, and returns the variance of all if it is finite.
func (w welford) finish(count float64, v []float64) float64 {
	mean, cMean, aux, cAux := w.mean, w.cMean, w.aux, w.cAux
	for _, x := range v {
		count++
		delta := x - (mean + cMean)
		mean, cMean = add(mean, cMean, delta/count)
		aux, cAux = add(aux, cAux, float64(delta*(x-(mean+cMean))))
	}
	return (aux + cAux) / count
}

// deviations are prefix sums of how far the samples are from one of them, and of the squares of that. From their
// differences comes the variance of a window, unless it is tiny beside the variance of the series.
type deviations struct {
	one, square prefixes
	// run is, per sample, the first of the equal ones that it is the last of.
	run   []int32
	odd   []int32
	sound bool
}

// between returns the variance of the samples [l, h); false: it cannot be told well enough.
func (d *deviations) between(l, h int32) (float64, bool) {
	n := float64(h - l)
	s, sRest := d.one.between(l, h)
	q, qRest := d.square.between(l, h)
	// q - s*s/n, each product with what it rounds away.
	p := float64(s * s)
	pRest := math.FMA(s, s, -p) + float64(2*s*sRest)
	m := p / n
	mRest := (math.FMA(-m, n, p) + pRest) / n
	x := q - m
	t := x - q
	x += (q - (x - t)) - (m + t) + (qRest - mRest)
	return x / n, x >= d.square.floor
}

// deviations computes the prefixes of a series.
func (f *frame) deviations() (deviations, error) {
	var d deviations
	s := &f.scratch
	n := len(f.v)
	for _, col := range []*[]float64{&s.sum, &s.rest, &s.sum2, &s.rest2} {
		var err error
		if *col, err = room(&s.memory, *col, n+1, 8); err != nil {
			return d, err
		}
		(*col)[0] = 0
	}
	d.one = prefixes{sum: s.sum, rest: s.rest}
	d.square = prefixes{sum: s.sum2, rest: s.rest2}
	var err error
	if d.run, err = room(&s.memory, s.run, n, 4); err != nil {
		return d, err
	}
	s.run = d.run
	d.odd = s.index[:0]
	origin := firstFinite(f.v)
	var sum, rest, square, squareRest float64
	for i, x := range f.v {
		y := x - origin
		if y-y != 0 {
			if d.odd, err = appendIndex(&s.memory, d.odd, i); err != nil {
				return d, err
			}
			x, y = origin, 0
		}
		t := y - x
		yRest := (x - (y - t)) - (origin + t)
		p := float64(y * y)
		sum, rest = add(sum, rest+yRest, y)
		square, squareRest = add(square, squareRest+(math.FMA(y, y, -p)+float64(2*y*yRest)), p)
		s.sum[i+1], s.rest[i+1] = sum, rest
		s.sum2[i+1], s.rest2[i+1] = square, squareRest
		d.run[i] = int32(i)
		if i > 0 && f.v[i] == f.v[i-1] {
			d.run[i] = d.run[i-1]
		}
	}
	s.index = d.odd
	d.square.floor = square * tiniestSquare
	d.sound = square < math.MaxFloat64/4 && (square == 0 || square > 1e-250)
	return d, nil
}

// tiniestSquare is how small, beside that of the series, the sum of squares of a window may be.
const tiniestSquare = 1.0 / (1 << 44)

func firstFinite(v []float64) float64 {
	for _, x := range v {
		if x-x == 0 {
			return x
		}
	}
	return 0
}
