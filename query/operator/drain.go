// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"sync"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// Drain reads the rows of a node with the given ids (nil: all) and hands the batches to each, one at a time and in
// order of ids, whatever the number of processors. So what each adds up is added up in one order, and results do not
// depend on how many workers there were. each may change the batch and must not keep it.
//
// Rows are cut into morsels. A worker computes one and waits for its turn to hand it on, so computing is parallel and
// handing on is not; memory is one batch per worker.
func (e *Env) Drain(ctx context.Context, n Node, ids []uint32, each func(b *vector.Batch) error) error {
	return e.drain(ctx, n, &drain{ids: ids, each: each})
}

// DrainBriefly is Drain for who keeps no histogram of a batch either.
func (e *Env) DrainBriefly(ctx context.Context, n Node, ids []uint32, each func(b *vector.Batch) error) error {
	return e.drain(ctx, n, &drain{ids: ids, each: each, brief: true})
}

func (e *Env) drain(ctx context.Context, n Node, d *drain) error {
	ids := d.ids
	total := len(ids)
	if ids == nil {
		total = n.Table().N
	}
	if total == 0 {
		return nil
	}
	d.env, d.node, d.total = e, n, total
	d.size = morselRows(n.Grid().N, total)
	morsels := (total + d.size - 1) / d.size
	extra := 0
	if morsels > 1 {
		extra = e.Workers.Borrow(min(morsels, maxDegree) - 1)
		defer e.Workers.Return(extra)
	}
	if extra == 0 {
		return d.serial(ctx)
	}
	d.ordered(ctx, extra+1, morsels)
	return d.err
}

// morselRows is how many of a number of rows a worker takes at a time: enough that waiting for its turn costs nothing
// beside them, and no more than lets each worker have several turns.
func morselRows(steps, total int) int {
	batch := BatchRows(steps)
	return max(16, batch/8, min(8*batch, (total+7)/8))
}

// maxDegree bounds the workers of one loop.
const maxDegree = 16

type drain struct {
	env   *Env
	node  Node
	ids   []uint32
	total int
	size  int // rows of a morsel
	each  func(*vector.Batch) error
	brief bool // each keeps no histograms

	mu   sync.Mutex
	turn sync.Cond // of mu: next or err has changed
	next int       // morsel whose turn it is; guarded by mu
	err  error     // the first, in order of morsels as far as they came; guarded by mu
}

func (d *drain) serial(ctx context.Context) error {
	b := d.batch()
	defer d.env.GiveBatch(b)
	c := d.node.Cursor(d.ids)
	defer c.Close()
	for {
		if err := d.env.Check(); err != nil {
			return err
		}
		ok, err := c.Next(ctx, b)
		if err != nil || !ok {
			return err
		}
		if err := d.each(b); err != nil {
			return err
		}
	}
}

func (d *drain) batch() *vector.Batch {
	b := d.env.TakeBatch()
	b.Brief = d.brief
	return b
}

func (d *drain) ordered(ctx context.Context, degree, morsels int) {
	d.turn.L = &d.mu
	var wg sync.WaitGroup
	for w := 1; w < degree; w++ {
		wg.Go(func() {
			ctx := ctx
			if on := d.env.OnWorker; on != nil {
				at, done := on(ctx)
				defer done()
				ctx = at
			}
			d.work(ctx, w, degree, morsels)
		})
	}
	d.work(ctx, 0, degree, morsels)
	wg.Wait()
}

// work does every degree-th morsel from first on.
func (d *drain) work(ctx context.Context, first, degree, morsels int) {
	defer func() {
		if r := recover(); r != nil {
			d.fail(panicError(r))
		}
	}()
	var held []*vector.Batch
	defer func() {
		for _, b := range held {
			d.env.GiveBatch(b)
		}
	}()
	for m := first; m < morsels; m += degree {
		n, err := d.compute(ctx, m, &held)
		if !d.wait(m) {
			return
		}
		for i := 0; err == nil && i < n; i++ {
			if err = d.env.Check(); err == nil {
				err = d.each(held[i])
			}
		}
		if err != nil {
			d.fail(err)
			return
		}
		d.pass()
	}
}

// compute fills held with the batches of morsel m and returns how many there are.
func (d *drain) compute(ctx context.Context, m int, held *[]*vector.Batch) (int, error) {
	from, to := m*d.size, min((m+1)*d.size, d.total)
	ids := d.ids
	if ids == nil {
		ids = make([]uint32, to-from)
		for i := range ids {
			ids[i] = uint32(from + i)
		}
	} else {
		ids = ids[from:to]
	}
	d.mu.Lock()
	c := d.node.Cursor(ids)
	d.mu.Unlock()
	defer c.Close()
	for n := 0; ; n++ {
		if err := d.env.Check(); err != nil {
			return n, err
		}
		if n == len(*held) {
			*held = append(*held, d.batch())
		}
		ok, err := c.Next(ctx, (*held)[n])
		if err != nil || !ok {
			return n, err
		}
	}
}

// wait returns when it is the turn of morsel m; false: no more.
func (d *drain) wait(m int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.next != m && d.err == nil {
		d.turn.Wait()
	}
	return d.err == nil
}

func (d *drain) pass() {
	d.mu.Lock()
	d.next++
	d.mu.Unlock()
	d.turn.Broadcast()
}

func (d *drain) fail(err error) {
	d.mu.Lock()
	if d.err == nil {
		d.err = err
	}
	d.mu.Unlock()
	d.turn.Broadcast()
}
