// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

var (
	_ column.Source         = (*DB)(nil)
	_ column.View           = (*view)(nil)
	_ column.LabelReader    = (*view)(nil)
	_ column.ExemplarReader = (*view)(nil)
	_ column.MetadataReader = (*view)(nil)
)

// view is a pinned state: the head at one LSN and the blocks of that moment, oldest first, the head last. While the head
// is being restored, a range of which it will hold nothing is that of the blocks alone.
type view struct {
	db         *DB
	mint, maxt int64
	pin        *head.Pin // nil: of blocks alone
	sources    []source
	// members names the series that the pin finds; where fixed is false, nothing of them can be kept.
	members head.Members
	fixed   bool

	mu     sync.Mutex
	warn   annotations.Annotations // guarded by mu
	closed bool                    // guarded by mu
}

// View pins the state of the store; see column.Source.
func (db *DB) View(mint, maxt int64) (column.View, error) {
	if err := db.users.enter(); err != nil {
		return nil, err
	}
	v, err := db.view(context.Background(), mint, maxt)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// view makes a view for a user who has entered; its Close leaves.
func (db *DB) view(ctx context.Context, mint, maxt int64) (*view, error) {
	v := &view{db: db, mint: mint, maxt: maxt}
	db.seq.Lock()
	if db.restoring.lacksLocked(maxt) {
		db.seq.Unlock()
		db.users.leave()
		return nil, db.restoring.unavailable()
	}
	if !db.restoring.waits {
		v.pin = db.head.Pin()
	}
	// Under the same lock as the pin, so that a slot that becomes a block is seen in at least one of them.
	blocks := db.blocks.acquire(mint, maxt)
	foreign := db.foreign.acquire(mint, maxt)
	db.seq.Unlock()
	for _, g := range db.unreadable.allGaps() {
		if g.mint <= maxt && g.maxt >= mint {
			v.warn.Add(fmt.Errorf("the answer may be incomplete: %w", g.cause))
		}
	}
	for _, b := range foreign {
		v.sources = append(v.sources, foreignSource{b: b, warn: v.unreadable, seed: db.head.Seed()})
		if damage := b.damage.Load(); damage != nil {
			v.unreadable(damage)
		}
	}
	for _, b := range blocks {
		v.sources = append(v.sources, newBlockSource(b, db.head.Seed()))
	}
	if v.pin == nil {
		return v, nil
	}
	v.sources = append(v.sources, headSource{pin: v.pin, index: db.head.Index()})
	if err := db.head.WaitApplied(ctx, v.pin.Epoch()); err != nil {
		return nil, fmt.Errorf("wait for earlier writes: %w", joinClose(err, v))
	}
	v.members, v.fixed = v.pin.Members()
	return v, nil
}

// pin pins the head alone and returns the LSN it is pinned at.
func (db *DB) pin(ctx context.Context) (*head.Pin, sample.LSN, error) {
	db.seq.Lock()
	p := db.head.Pin()
	db.seq.Unlock()
	if err := db.head.WaitApplied(ctx, p.Epoch()); err != nil {
		p.Close()
		return nil, 0, fmt.Errorf("wait for earlier writes: %w", err)
	}
	return p, p.Epoch(), nil
}

// Close releases the pin and the blocks.
func (v *view) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil
	}
	v.closed = true
	if v.pin != nil {
		v.pin.Close()
	}
	for _, s := range v.sources {
		s.release()
	}
	v.db.users.leave()
	return nil
}

// Warnings returns what could not be read so far.
func (v *view) Warnings() annotations.Annotations {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out annotations.Annotations
	return out.Merge(v.warn)
}

// unreadable notes a part of the store that an answer lacks.
func (v *view) unreadable(err error) {
	warning := fmt.Errorf("the answer may be incomplete: %w", v.db.missing(err))
	v.mu.Lock()
	defer v.mu.Unlock()
	v.warn.Add(warning)
}

// span returns the part of [mint, maxt] that is in the view; both zero: all of the view.
func (v *view) span(mint, maxt int64) (int64, int64) {
	if mint == 0 && maxt == 0 {
		return v.mint, v.maxt
	}
	return max(mint, v.mint), min(maxt, v.maxt)
}

func joinClose(err error, v *view) error {
	if cerr := v.Close(); cerr != nil {
		return fmt.Errorf("%w (and %w)", err, cerr)
	}
	return err
}

// A view of everything is of [minTime, maxTime].
const (
	minTime = math.MinInt64
	maxTime = math.MaxInt64
)
