// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// ExportOptions say what is exported. The zero value of each field but the times is its default.
type ExportOptions struct {
	// MinT and MaxT are the range, Unix ms, both inclusive.
	MinT, MaxT int64
	// Matchers select the series; nil: all of them.
	Matchers []*labels.Matcher
	// External labels, where there are any, go into each meta.json in the way Thanos and Mimir look for them.
	External labels.Labels
	// Range is the length of the blocks, aligned to its multiples since 1970; 0: 2 h.
	Range time.Duration
	// Progress is called after every block and, during a large one, every few thousand series.
	Progress func(Progress)
	// Account is charged for series and for samples while they are encoded; nil: unlimited.
	Account *budget.Account
}

// Progress says how far an export is.
type Progress struct {
	Until    int64 // Unix ms: what is before is written
	Blocks   int   // that are finished
	Series   uint64
	Samples  uint64
	Finished bool // with this call a block was finished
}

// Exported is one block that was written.
type Exported struct {
	ULID       string
	MinT, MaxT int64 // Unix ms of the first and the last sample
	Series     uint64
	Samples    uint64
	Bytes      int64
}

const defaultRange = 2 * time.Hour

// Export writes the samples of src as Prometheus blocks into dir, which it makes where it is missing, and returns
// them in time order. Exemplars, metric descriptions and start timestamps have no place in such blocks.
//
// Each block is of one state of src. What src cannot read ends the export with an error, as does ctx; the blocks that
// were finished before stay. Memory: the labels of the series of one block as columns, 256 KiB of samples, and
// about 100 B for each series for Prometheus' writer of the index.
func Export(ctx context.Context, src column.Source, dir string, o ExportOptions) ([]Exported, error) {
	if o.MaxT < o.MinT {
		return nil, fmt.Errorf("export: the end %d is before the start %d", o.MaxT, o.MinT)
	}
	if o.Range <= 0 {
		o.Range = defaultRange
	}
	if err := fsx.MakeDir(fsx.OS(), dir); err != nil {
		return nil, fmt.Errorf("export: make the directory of the blocks: %w", err)
	}
	e := exporter{src: src, dir: dir, opts: o}
	e.block.Budget = o.Account
	defer e.block.Free()
	step := o.Range.Milliseconds()
	for start := floor(o.MinT, step); ; start += step {
		if err := e.blockOf(ctx, max(start, o.MinT), min(start+step-1, o.MaxT)); err != nil {
			return e.done, fmt.Errorf("export the block of %s: %w", formatTime(start), err)
		}
		if start > o.MaxT-step {
			return e.done, nil
		}
	}
}

// floor is t rounded down to a multiple of step.
func floor(t, step int64) int64 {
	r := t % step
	if r < 0 {
		r += step
	}
	return t - r
}

func formatTime(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// exporter is one Export in progress.
type exporter struct {
	src  column.Source
	dir  string
	opts ExportOptions
	done []Exported

	series, samples uint64
	block           column.Block
	encoder         chunkEncoder
}

const (
	scanRun       = 1024 // series asked for at a time
	progressEvery = 4096 // series
)

// blockOf writes the block of the samples in [mint, maxt], if there are any.
func (e *exporter) blockOf(ctx context.Context, mint, maxt int64) (err error) {
	view, err := e.src.View(mint, maxt)
	if err != nil {
		return fmt.Errorf("open a view of the store: %w", err)
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	set, err := view.Series(ctx, e.opts.Matchers, column.Hint{MinT: mint, MaxT: maxt, Account: e.opts.Account})
	if err != nil {
		return fmt.Errorf("list the series: %w", err)
	}
	defer e.opts.Account.Release(set.Bytes)
	if err := readable(view); err != nil {
		return err
	}
	var finished *Exported
	if set.N > 0 {
		w, err := newBlockWriter(ctx, e.dir, e.opts.External)
		if err != nil {
			return err
		}
		err = e.copySeries(ctx, view, set, w)
		if err == nil {
			finished, err = w.finish()
		}
		if err != nil {
			return errors.Join(err, w.abort())
		}
	}
	if finished != nil {
		e.done = append(e.done, *finished)
	}
	e.report(maxt+1, finished != nil)
	return nil
}

// readable returns an error where the view could not read a part of the store: a copy with a hole would be taken for
// the whole.
func readable(view column.View) error {
	for _, err := range view.Warnings().AsErrors() {
		return err
	}
	return nil
}

func (e *exporter) report(until int64, finished bool) {
	if e.opts.Progress != nil {
		e.opts.Progress(Progress{Until: until, Blocks: len(e.done), Series: e.series, Samples: e.samples, Finished: finished})
	}
}

// copySeries writes all series of the set that have samples.
func (e *exporter) copySeries(ctx context.Context, view column.View, set *column.SeriesSet, w *blockWriter) error {
	if err := w.symbols(set); err != nil {
		return err
	}
	var (
		sb  labels.ScratchBuilder
		ids = make([]uint32, 0, scanRun)
	)
	for next := uint32(0); int(next) < set.N; {
		ids = ids[:0]
		for id := next; int(id) < set.N && len(ids) < scanRun; id++ {
			ids = append(ids, id)
		}
		n, err := view.Scan(ctx, set, ids, column.Need{}, &e.block)
		if err != nil {
			return fmt.Errorf("read samples: %w", err)
		}
		if err := readable(view); err != nil {
			return err
		}
		for i := range n {
			from, to := e.block.Rows(i)
			if from == to {
				continue
			}
			metas, err := e.encoder.encode(&e.block, from, to)
			if err == nil {
				err = w.add(set.Labels(ids[i], &sb), metas)
			}
			if err != nil {
				return fmt.Errorf("series %s: %w", set.Labels(ids[i], &sb), err)
			}
			e.series++
			e.samples += uint64(to - from)
			if e.series%progressEvery == 0 {
				e.report(w.meta.MinTime, false)
			}
		}
		next += uint32(n)
	}
	return nil
}
