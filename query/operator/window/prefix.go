// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import "math"

// prefixes are sums over all samples before each one, in two parts: sum is what a float holds of it, rest what was
// rounded away on the way. The sum of a window is the difference of two of them, correct to a part in 2^57 of its
// value as long as it is no tiny difference of large ones, which floor tells.
type prefixes struct {
	sum, rest []float64
	// floor is the magnitude from which on a sum is good; below it the window is added up by itself.
	floor float64
	// odd are the samples that are no finite number, in order; they count as 0 in the sums.
	odd []int32
	// sound: no sum overflows.
	sound bool
}

// tiniest is how small, beside the sum of all magnitudes, the sum of a window may be that is taken from prefixes.
const tiniest = 1.0 / (1 << 20)

// prefixSums returns the prefixes of the samples.
func (f *frame) prefixSums() (prefixes, error) {
	var p prefixes
	var err error
	if p.sum, err = room(&f.scratch.memory, f.scratch.sum, len(f.v)+1, 8); err != nil {
		return p, err
	}
	f.scratch.sum = p.sum
	if p.rest, err = room(&f.scratch.memory, f.scratch.rest, len(f.v)+1, 8); err != nil {
		return p, err
	}
	f.scratch.rest = p.rest
	p.odd = f.scratch.index[:0]
	var sum, rest, total float64
	p.sum[0], p.rest[0] = 0, 0
	for i, y := range f.v {
		if y-y != 0 {
			if p.odd, err = appendIndex(&f.scratch.memory, p.odd, i); err != nil {
				return p, err
			}
			y = 0
		}
		sum, rest = add(sum, rest, y)
		total += math.Abs(y)
		p.sum[i+1], p.rest[i+1] = sum, rest
	}
	f.scratch.index = p.odd
	p.floor = total * tiniest
	p.sound = total < math.MaxFloat64/4
	return p, nil
}

func appendIndex(m *memory, list []int32, i int) ([]int32, error) {
	if len(list) == cap(list) {
		grown, err := room(m, list, len(list)+64, 4)
		if err != nil {
			return list, err
		}
		copy(grown, list)
		list = grown[:len(list)]
	}
	return append(list, int32(i)), nil
}

// between returns the sum of the samples [l, h), in two parts, the second of which is less than the last bit of the
// first.
func (p *prefixes) between(l, h int32) (sum, rest float64) {
	a, b := p.sum[l], p.sum[h]
	d := b - a
	t := d - b
	e := (b - (d - t)) + (-a - t)
	e += p.rest[h] - p.rest[l]
	sum = d + e
	return sum, e - (sum - d)
}

// addPrefixes fills the row from prefix sums. Windows with a value that is no number, and those whose sum is lost in
// the rounding of the prefixes, are computed by themselves.
func (f *frame) addPrefixes(p *prefixes, window func([]float64) float64, of func(sum, rest float64, n int) float64) error {
	if !p.sound {
		return f.addEach(window)
	}
	next := 0
	for i, l := range f.lo {
		h := f.hi[i]
		if l >= h {
			continue
		}
		for next < len(p.odd) && p.odd[next] < l {
			next++
		}
		odd := next < len(p.odd) && p.odd[next] < h
		if !odd {
			if sum, rest := p.between(l, h); math.Abs(sum) >= p.floor {
				f.out[i] = of(sum, rest, int(h-l))
				continue
			}
		}
		if odd {
			var x float64
			for j := next; j < len(p.odd) && p.odd[j] < h; j++ {
				x += f.v[p.odd[j]]
			}
			f.out[i] = x
			continue
		}
		f.out[i] = window(f.v[l:h])
		if err := f.spend(int(h - l)); err != nil {
			return err
		}
	}
	return nil
}
