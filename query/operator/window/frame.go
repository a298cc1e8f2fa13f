// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// frame is what a kernel works on: the floats of one series, the windows of all steps, and the row to fill.
type frame struct {
	env  *operator.Env
	fn   function
	node *node
	w    operator.Windows
	args [][]float64

	id uint32
	t  []int64
	st []int64 // nil: no sample has a start timestamp that matters
	v  []float64
	bounds

	out  []float64
	kind []vector.Kind
	// cells counts the results; a kernel that sets kind counts them.
	cells int
	noted noteKind // annotations that the series has

	extrapolation extrapolation

	scratch scratch
	work    int // samples visited since the query was last asked whether to stop
}

func (f *frame) init(n *node) {
	*f = frame{env: n.env, fn: n.fn, node: n, w: n.windows, args: n.args}
	f.scratch.memory.account = n.env.Account
	f.extrapolation = newExtrapolation(f)
}

// begin takes the row of the next series.
func (f *frame) begin(id uint32, out []float64, kind []vector.Kind) {
	f.id, f.out, f.kind, f.cells, f.noted = id, out, kind, 0, 0
}

// load takes the floats of a series and finds the windows.
func (f *frame) load(t, st []int64, v []float64) error {
	f.t, f.st, f.v = t, st, v
	return f.bounds.find(&f.scratch.memory, &f.w, t)
}

// mark makes every step with samples a cell.
func (f *frame) mark() {
	kind := f.kind
	if !f.gaps {
		kind[0] = vector.Float
		for n := 1; n < len(kind); n *= 2 {
			copy(kind[n:], kind[:n])
		}
		f.cells = len(kind)
		return
	}
	lo, hi := f.lo, f.hi
	for i := range kind {
		if lo[i] < hi[i] {
			kind[i] = vector.Float
			f.cells++
		}
	}
}

// set makes step i a cell.
func (f *frame) set(i int, x float64) {
	f.out[i], f.kind[i] = x, vector.Float
	f.cells++
}

// spend notes n samples visited, and asks now and then whether the query was stopped.
func (f *frame) spend(n int) error {
	f.work += n
	if f.work < pollSamples {
		return nil
	}
	f.work = 0
	return f.env.Check()
}

// pollSamples is after how many samples a kernel looks whether to stop.
const pollSamples = 4096

func (f *frame) release() {
	f.scratch.memory.release()
	*f = frame{}
}

// memory is what a cursor has been charged for.
type memory struct {
	account *budget.Account
	charged int64
}

func (m *memory) charge(bytes int64) error {
	if err := m.account.Reserve(bytes); err != nil {
		return err
	}
	m.charged += bytes
	return nil
}

func (m *memory) release() {
	m.account.Release(m.charged)
	m.charged = 0
}

// room returns buf with a length of n, larger and charged for if need be; what is in it is undefined.
func room[T any](m *memory, buf []T, n int, size int64) ([]T, error) {
	if n <= cap(buf) {
		return buf[:n], nil
	}
	c := max(n, cap(buf)+cap(buf)/2)
	if err := m.charge(int64(c-cap(buf)) * size); err != nil {
		return buf, err
	}
	return make([]T, n, c), nil
}

// scratch is memory of kernels, of the size of a series, kept from one to the next.
type scratch struct {
	memory memory
	index  []int32
	sum    []float64
	rest   []float64
	sum2   []float64
	rest2  []float64
	run    []int32
	// abscissae are those of a regression.
	abscissae []float64
	keys      []uint64
	// distances are keys too.
	distances []uint64
}
