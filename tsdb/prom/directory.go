// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"

	store "github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// Directory opens the data directories of Prometheus for a store. The zero value is ready.
type Directory struct {
	// Logger takes a few lines about what was found; nil: silent.
	Logger *slog.Logger
	// Account is charged for the memory that reading a log takes, which is about what Prometheus took; nil: not
	// accounted. Where it refuses, the log is not read and answers say that they lack it.
	Account *budget.Account

	heap func() int64 // what is alive of the process' heap; nil: liveHeap
}

var _ store.Foreign = Directory{}

// The parts of a data path beside the blocks.
const (
	walDir        = "wal"
	wblDir        = "wbl"
	headChunksDir = "chunks_head"
)

func (d Directory) log() *slog.Logger {
	if d.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return d.Logger
}

// listed is the meta of a block that is there.
type listed struct {
	dir  string
	meta tsdb.BlockMeta
}

func (l listed) id() string { return l.meta.ULID.String() }

// Open implements tsdb.Foreign. The first call after Prometheus ran replays its log, which takes the time and the
// memory that a start of Prometheus takes; what came out is kept in scratch until the log is another one.
func (d Directory) Open(ctx context.Context, dir, scratch string, done func(id string) bool) (store.ForeignContents, error) {
	var out store.ForeignContents
	blocks, err := d.list(dir)
	if err != nil {
		return out, err
	}
	made, lost, err := d.openHead(ctx, dir, scratch, blocks)
	if ctx.Err() != nil {
		return out, ctx.Err()
	}
	restore := "restore " + filepath.Join(dir, walDir) + " and restart, or move it away to accept the loss"
	if err != nil {
		d.log().Error("the log of Prometheus could not be read; the next start tries again", "dir", dir, "err", err)
		g := store.ForeignGap{
			MinT: inOrderEnd(blocks), MaxT: lastWritten(dir), Err: fmt.Errorf("the log of Prometheus could not be read: %w", err),
			NextStep: restore,
		}
		if _, ok := errors.AsType[*budget.ExceededError](err); ok {
			g.NextStep = "raise memory.limit and restart"
		}
		out.Unreadable = append(out.Unreadable, g)
	}
	if lost != nil {
		out.Unreadable = append(out.Unreadable, store.ForeignGap{
			MinT: lost.MinT, MaxT: lost.MaxT, Err: fmt.Errorf("the log of Prometheus is damaged: %s", lost.Cause),
			NextStep: restore,
		})
	}
	for _, l := range append(current(blocks), made...) {
		if done(l.id()) {
			continue
		}
		b, err := openBlock(l.dir, filepath.Dir(l.dir) == filepath.Clean(scratch))
		if err != nil {
			d.log().Error("a block of Prometheus is unreadable; the store goes on without it", "block", l.dir, "err", err)
			out.Unreadable = append(out.Unreadable, store.ForeignGap{MinT: l.meta.MinTime, MaxT: l.meta.MaxTime - 1, Err: err})
			continue
		}
		out.Blocks = append(out.Blocks, b)
	}
	return out, nil
}

// list reads the metas of the blocks in dir, by time. Directories without a meta are those that Prometheus was
// writing when it ended, or deleting.
func (d Directory) list(dir string) ([]listed, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the blocks of Prometheus: %w", err)
	}
	var out []listed
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil || !e.IsDir() {
			continue
		}
		l := listed{dir: filepath.Join(dir, e.Name())}
		text, err := os.ReadFile(filepath.Join(l.dir, metaFile))
		if err == nil {
			err = json.Unmarshal(text, &l.meta)
		}
		if err == nil && l.meta.Version != 1 {
			err = fmt.Errorf("version %d of a block is not known", l.meta.Version)
		}
		if err != nil {
			d.log().Warn("a directory in the data path looks like a block of Prometheus and has no usable meta.json; it is left out", "dir", l.dir, "err", err)
			continue
		}
		out = append(out, l)
	}
	slices.SortStableFunc(out, func(a, b listed) int { return int(min(1, max(-1, a.meta.MinTime-b.meta.MinTime))) })
	return out, nil
}

// current leaves out the blocks that another one has replaced, and those that Prometheus found empty: it deletes them
// at its next occasion.
func current(all []listed) []listed {
	replaced := map[ulid.ULID]bool{}
	for _, l := range all {
		for _, p := range l.meta.Compaction.Parents {
			replaced[p.ULID] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(l listed) bool {
		return replaced[l.meta.ULID] || l.meta.Compaction.Deletable
	})
}

// inOrderEnd is the time up to which the blocks hold what came in order: the head goes on from there.
func inOrderEnd(all []listed) int64 {
	end := int64(math.MinInt64)
	for _, l := range all {
		if c := l.meta.Compaction; !c.FromOutOfOrder() && !c.FromStaleSeries() && !c.FromSelectedSeries() {
			end = max(end, l.meta.MaxTime)
		}
	}
	return end
}

// Remove implements tsdb.Foreign.
func (d Directory) Remove(dir, id string) error {
	if _, err := ulid.ParseStrict(id); err != nil {
		return fmt.Errorf("%q is no name of a block: %w", id, err)
	}
	if _, err := os.Stat(filepath.Join(dir, id)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return removeBlock(filepath.Join(dir, id))
}

// RemoveRest implements tsdb.Foreign: the log and the chunks of the head go.
func (d Directory) RemoveRest(dir string) error {
	var errs []error
	for _, name := range []string{walDir, wblDir, headChunksDir} {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}
