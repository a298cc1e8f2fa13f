// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/index"
)

// RetentionPolicy says how long series are kept that match. The first policy that matches a series is its class.
type RetentionPolicy struct {
	Name  string
	Match []*labels.Matcher
	Keep  time.Duration
}

// MaxRetentionPolicies is how many policies there may be: with the series that none matches, eight classes.
const MaxRetentionPolicies = 7

// RetentionSettings are how long and how much is kept.
type RetentionSettings struct {
	// Keep is for what no policy matches; 0: for ever.
	Keep time.Duration
	// Bytes is how much disk blocks, log and the rest may take together, the oldest blocks going first; 0: no limit.
	Bytes    int64
	Policies []RetentionPolicy
}

// SetRetentionPolicies changes the classes. Blocks whose series are of other classes now are rewritten in the background.
func (db *DB) SetRetentionPolicies(ps []RetentionPolicy) error {
	if err := checkPolicies(ps); err != nil {
		return err
	}
	next := newPolicies(ps)
	if now := db.policies.Load(); now.print == next.print && slices.EqualFunc(now.list, ps, func(a, b RetentionPolicy) bool { return a.Keep == b.Keep }) {
		return nil
	}
	db.policies.Store(next)
	return nil
}

func checkPolicies(ps []RetentionPolicy) error {
	if len(ps) > MaxRetentionPolicies {
		return fmt.Errorf("%d retention policies, at most %d: every class has blocks of its own", len(ps), MaxRetentionPolicies)
	}
	for _, p := range ps {
		if p.Keep <= 0 || p.Name == "" {
			return fmt.Errorf("retention policy %q needs a name and a time above 0", p.Name)
		}
	}
	return nil
}

// policies are the retention policies in force, and which classes blocks were found to hold by them. They are replaced as
// a whole.
type policies struct {
	list  []RetentionPolicy
	print string // fingerprint of names and selectors; empty: there are none

	mu      sync.Mutex
	classes map[string]blockClasses // guarded by mu; by ULID, of the blocks that do not say it themselves
}

// blockClasses are how many series of each class a block has: those of policy i at i, those of none at the end.
type blockClasses []int

func newPolicies(list []RetentionPolicy) *policies {
	p := &policies{list: slices.Clone(list), classes: map[string]blockClasses{}}
	if len(list) == 0 {
		return p
	}
	h := xxhash.New()
	for _, x := range list {
		_, _ = h.WriteString(strconv.Quote(x.Name)) // it cannot fail
		for _, m := range x.Match {
			_, _ = h.WriteString(m.String() + ",")
		}
	}
	p.print = strconv.FormatUint(h.Sum64(), 16)
	return p
}

// name returns the name of a class.
func (p *policies) name(i int) string {
	if i < len(p.list) {
		return p.list[i].Name
	}
	return ""
}

// keep returns how long a class is kept, in ms; MaxInt64: for ever. def is for the series that no policy matches.
func (p *policies) keep(i int, def int64) int64 {
	switch {
	case i < len(p.list):
		return p.list[i].Keep.Milliseconds()
	case def > 0:
		return def
	}
	return math.MaxInt64
}

// longest returns how long the class is kept that is kept longest.
func (p *policies) longest(def int64) int64 {
	keep := p.keep(len(p.list), def)
	for i := range p.list {
		keep = max(keep, p.keep(i, def))
	}
	return keep
}

// split returns the series of each class.
func (p *policies) split(ctx context.Context, idx *index.Reader) ([][]uint32, error) {
	out := make([][]uint32, len(p.list)+1)
	taken := newRowSet(idx.N())
	for i, x := range p.list {
		ids, err := idx.Select(budget.NewTask(ctx, nil), x.Match)
		if err != nil {
			return nil, fmt.Errorf("retention policy %s: %w", x.Name, err)
		}
		for _, id := range ids {
			if taken.add(id) {
				out[i] = append(out[i], id)
			}
		}
	}
	for id := range uint32(idx.N()) {
		if taken.add(id) {
			out[len(p.list)] = append(out[len(p.list)], id)
		}
	}
	return out, nil
}

// of returns the classes of a block: what it says of itself, else what its index says.
func (p *policies) of(b storedBlock) (blockClasses, error) {
	m := b.Meta()
	out := make(blockClasses, len(p.list)+1)
	if len(p.list) == 0 {
		out[0] = b.Index().N()
		return out, nil
	}
	if m.Policy == p.print {
		for i := range out {
			if p.name(i) == m.Class {
				out[i] = b.Index().N()
			}
		}
		return out, nil
	}
	p.mu.Lock()
	known, ok := p.classes[m.ULID]
	p.mu.Unlock()
	if ok {
		return known, nil
	}
	ids, err := p.split(context.Background(), b.Index())
	if err != nil {
		return nil, err
	}
	for i := range ids {
		out[i] = len(ids[i])
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.classes[m.ULID] = out
	return out, nil
}

// forget drops what is known of blocks that are gone.
func (p *policies) forget(there func(id string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.classes {
		if !there(id) {
			delete(p.classes, id)
		}
	}
}

// only returns the one class that there is; not ok where there are more.
func (c blockClasses) only() (class int, ok bool) {
	for i, n := range c {
		if n == 0 {
			continue
		}
		if ok {
			return 0, false
		}
		class, ok = i, true
	}
	return class, ok
}

// keep returns how long the class of a block is kept that is kept longest, and that which is kept shortest.
func (p *policies) keepOf(c blockClasses, def int64) (longest, shortest int64) {
	shortest = math.MaxInt64
	for i, n := range c {
		if n > 0 {
			longest, shortest = max(longest, p.keep(i, def)), min(shortest, p.keep(i, def))
		}
	}
	return longest, shortest
}

// RetentionPart is what a block holds of one class, and what becomes of it.
type RetentionPart struct {
	Block      string
	Policy     string // "" for the series that none matches
	MinT, MaxT int64  // of the block, Unix ms
	Series     int
	// Samples and Bytes are exact where the block has one class, else shares by the number of series.
	Samples uint64
	Bytes   int64
	// Goes says why the part is beyond the retention: "time" or "size"; empty: it stays.
	Goes string
	// Foreign: it is a block of another program that is not converted yet. It counts to no size, and is kept as long as the
	// policy that keeps longest.
	Foreign bool
}

// RetentionReport returns what of each block is of which class, and what would go now by these settings. Nothing is
// changed.
func (db *DB) RetentionReport(ctx context.Context, s RetentionSettings) ([]RetentionPart, error) {
	if err := db.users.enter(); err != nil {
		return nil, err
	}
	defer db.users.leave()
	if err := checkPolicies(s.Policies); err != nil {
		return nil, err
	}
	blocks := db.blocks.acquireAll(minTime, maxTime)
	defer releaseAll(blocks)
	p := newPolicies(s.Policies)
	used := db.DiskBytes()
	var out []RetentionPart
	for _, b := range blocks {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		classes, err := p.of(b)
		if err != nil {
			return nil, err
		}
		for i, n := range classes {
			if n == 0 {
				continue
			}
			m := b.Meta()
			part := RetentionPart{Block: m.ULID, Policy: p.name(i), MinT: m.MinT, MaxT: m.MaxT, Series: n}
			share := float64(n) / float64(max(1, b.Index().N()))
			part.Samples, part.Bytes = uint64(share*float64(m.Floats+m.Histograms)), int64(share*float64(b.Size()))
			if edge, ok := db.retentionEdge(p.keep(i, s.Keep.Milliseconds())); ok && m.MaxT < edge {
				part.Goes = "time"
				used -= part.Bytes
			}
			out = append(out, part)
		}
	}
	out = append(out, db.foreignReport(p, s.Keep.Milliseconds())...)
	for i := range out {
		if out[i].Foreign {
			continue
		}
		if s.Bytes > 0 && used > s.Bytes && out[i].Goes == "" {
			out[i].Goes = "size"
			used -= out[i].Bytes
		}
	}
	return out, nil
}

// foreignReport is the part of the report about foreign blocks, each of which goes as a whole.
func (db *DB) foreignReport(p *policies, def int64) []RetentionPart {
	edge, ok := db.retentionEdge(p.longest(def))
	var out []RetentionPart
	for _, b := range db.foreign.all() {
		part := RetentionPart{
			Block: b.info.ID, MinT: b.info.MinT, MaxT: b.info.MaxT, Series: int(b.info.Series), Samples: b.info.Samples,
			Bytes: b.info.Bytes, Foreign: true,
		}
		if ok && part.MaxT < edge {
			part.Goes = "time"
		}
		out = append(out, part)
	}
	return out
}

// Retention returns the settings in force.
func (db *DB) Retention() RetentionSettings {
	return RetentionSettings{
		Keep: time.Duration(db.retention.Load()) * time.Millisecond, Bytes: db.retentionBytes.Load(),
		Policies: db.policies.Load().list,
	}
}

// retentionEdge returns the time before which samples are older than keep, not ok where there is none. Age is measured
// from min(now, newest sample): a clock that jumps ahead deletes nothing, nor does one that was set back.
func (db *DB) retentionEdge(keep int64) (int64, bool) {
	newest, ok := db.newestSample()
	if !ok || keep == math.MaxInt64 {
		return 0, false
	}
	return before(min(db.now().UnixMilli(), newest), keep), true
}

// applyRetention removes the blocks that are wholly older than the retention of all their classes, and the oldest ones
// while the store takes more disk than allowed. The maintenance lock is held.
func (db *DB) applyRetention() error {
	if err := db.removeLeftovers(); err != nil {
		return err
	}
	p := db.policies.Load()
	def := db.retention.Load()
	var gone []storedBlock
	var errs []error
	all := db.blocks.all()
	for _, b := range all {
		classes, err := p.of(b)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		longest, _ := p.keepOf(classes, def)
		if edge, ok := db.retentionEdge(longest); ok && b.Meta().MaxT < edge {
			gone = append(gone, b)
		}
	}
	if len(gone) > 0 {
		db.timeRetentions.Add(1)
	}
	if edge, ok := db.retentionEdge(p.longest(def)); ok {
		errs = append(errs, db.dropForeign(edge))
	}
	gone = db.beyondSize(all, gone)
	for _, b := range gone {
		db.log.Info("block is beyond the retention", "block", b.Meta().ULID, "class", b.Meta().Class, "newest", formatTime(b.Meta().MaxT), "bytes", b.Size())
		errs = append(errs, db.dropBlock(b))
	}
	p.forget(func(id string) bool {
		return slices.ContainsFunc(db.blocks.all(), func(b storedBlock) bool { return b.Meta().ULID == id })
	})
	return errors.Join(errs...)
}

// dropBlock takes a block from views and disk. The maintenance lock is held.
func (db *DB) dropBlock(b storedBlock) error {
	db.takeFromViews(b)
	if err := db.blocks.delete(db.layout, b); err != nil {
		db.leave(b.Name())
		return fmt.Errorf("delete block %s: %w", b.Meta().ULID, err)
	}
	return nil
}

// beyondSize adds the oldest of all to gone until the rest is as small as is allowed.
func (db *DB) beyondSize(all, gone []storedBlock) []storedBlock {
	limit := db.retentionBytes.Load()
	if limit <= 0 {
		return gone
	}
	used := db.DiskBytes()
	for _, b := range gone {
		used -= b.Size()
	}
	before := len(gone)
	byAge := slices.SortedStableFunc(slices.Values(all), func(a, b storedBlock) int { return cmp.Compare(a.Meta().MaxT, b.Meta().MaxT) })
	for _, b := range byAge {
		if used <= limit {
			break
		}
		if slices.ContainsFunc(gone, func(x storedBlock) bool { return x.Block == b.Block }) {
			continue
		}
		used -= b.Size()
		gone = append(gone, b)
	}
	if len(gone) > before {
		db.sizeRetentions.Add(1)
	}
	return gone
}
