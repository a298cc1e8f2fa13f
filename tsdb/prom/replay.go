// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// replay reads the log of a Prometheus once, with Prometheus' own head, which can neither be told to stop nor how much
// memory it may take. So it gets the log by links in a directory of ours: where it is to stop these go, and it fails at
// the next segment. And a goroutine looks how the heap of the process grows.
type replay struct {
	Directory

	dir, scratch string
	box          string // where the head finds links and leaves files; removed afterwards
}

// run writes what the log holds from the time end on, and what came out of order, as blocks into scratch.
func (r replay) run(ctx context.Context, end int64) (made []string, lost *lostRecords, err error) {
	start := time.Now()
	r.log().Info("reading the log of Prometheus; this takes as long as a start of Prometheus", "dir", r.dir)
	if err := os.RemoveAll(r.box); err != nil {
		return nil, nil, err
	}
	m := newMemoryWatch(ctx, r.Directory, func() { _ = os.RemoveAll(filepath.Join(r.box, walDir)) })
	defer m.release()
	head, err := r.open(m.ctx)
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(r.box))
	}
	defer func() { err = errors.Join(err, head.Close(), os.RemoveAll(r.box)) }()
	err = head.Init(end)
	if cause := m.stop(); cause != nil {
		return nil, nil, cause
	}
	if _, damaged := errors.AsType[*wlog.CorruptionErr](err); err != nil && !damaged {
		return nil, nil, err
	}
	if err != nil {
		// Prometheus drops what is behind the damage, too, and repairs the files. We leave them as they are.
		r.log().Warn("the log of Prometheus is damaged; what is behind the damage is lost, as it would be with Prometheus", "err", err)
		lost = &lostRecords{MinT: end, MaxT: lastWritten(r.dir), Cause: err.Error()}
	}
	var a attachments
	if err := a.exemplarsOf(ctx, head); err != nil {
		return nil, nil, err
	}
	if err := a.metadataOf(ctx, filepath.Join(r.box, walDir)); err != nil && lost == nil {
		return nil, nil, fmt.Errorf("descriptions of metrics: %w", err)
	}
	w := headWriter{ctx: ctx, scratch: r.scratch, head: head}
	if err := w.write(); err != nil {
		return nil, nil, fmt.Errorf("write the head of Prometheus as blocks: %w", err)
	}
	for _, id := range w.made {
		if err := a.write(filepath.Join(r.scratch, id)); err != nil {
			return nil, nil, err
		}
	}
	r.log().Info("read the log of Prometheus", "blocks", len(w.made), "series", head.NumSeries(), "took", time.Since(start))
	return w.made, lost, nil
}

// open makes the head. Head chunks and the log of late samples, where a head deletes and adds files, are linked into the
// box as the log is, so that all it does happens there: files that are there already it never writes to.
func (r replay) open(ctx context.Context) (*tsdb.Head, error) {
	for _, part := range []string{headChunksDir, walDir, wblDir} {
		if _, err := os.Stat(filepath.Join(r.dir, part)); part == wblDir && err != nil {
			continue
		}
		if err := linkFiles(ctx, filepath.Join(r.dir, part), filepath.Join(r.box, part)); err != nil {
			return nil, err
		}
	}
	wal, err := wlog.Open(r.log(), filepath.Join(r.box, walDir))
	if err != nil {
		return nil, err
	}
	var late *wlog.WL
	if _, err := os.Stat(filepath.Join(r.box, wblDir)); err == nil {
		if late, err = wlog.New(r.log(), nil, filepath.Join(r.box, wblDir), ""); err != nil {
			return nil, err
		}
	}
	o := tsdb.DefaultHeadOptions()
	o.ChunkDirRoot = r.box
	o.EnableSTStorage.Store(true)
	o.EnableHistogramSTEncoding.Store(true)
	o.FloatChunkEncoding.Store(uint32(chunkenc.EncXOR2))
	o.EnableExemplarStorage = true
	o.MaxExemplars.Store(maxExemplars)
	head, err := tsdb.NewHead(nil, r.log(), wal, late, o, tsdb.NewHeadStats())
	if err != nil {
		if late != nil {
			err = errors.Join(err, late.Close())
		}
		return nil, err
	}
	return head, nil
}

// linkFiles gives the files of a directory, and of those in it, a second name in another one, or copies them where that
// cannot be.
func linkFiles(ctx context.Context, from, to string) error {
	if err := os.MkdirAll(to, 0o777); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		switch {
		case e.IsDir(): // a checkpoint
			err = linkFiles(ctx, src, dst)
		case e.Type().IsRegular() && os.Link(src, dst) != nil:
			err = copyFile(src, dst)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lastWritten is when the log was written to last, in Unix ms: it holds no samples of later times, but for clocks that
// differ. Where there is none, it is the end of time.
func lastWritten(dir string) int64 {
	var last time.Time
	for _, part := range []string{walDir, wblDir} {
		_ = filepath.WalkDir(filepath.Join(dir, part), func(_ string, e fs.DirEntry, err error) error {
			if err != nil {
				return nil //nolint:nilerr // what is not there was not written
			}
			if info, err := e.Info(); err == nil && info.ModTime().After(last) {
				last = info.ModTime()
			}
			return nil
		})
	}
	if last.IsZero() {
		return math.MaxInt64
	}
	return last.UnixMilli()
}

// memoryWatch charges an account for what the heap of the process grows by. Where that is refused, and where its context
// ends, it calls off what it watches.
type memoryWatch struct {
	ctx     context.Context // ends with what is watched, its cause says why
	account *budget.Account
	heap    func() int64
	base    int64 // of the heap, when it began
	charged int64 // owned by the goroutine until stop
	cancel  context.CancelCauseFunc
	done    chan struct{}
	wg      sync.WaitGroup
}

// memoryLook is how often it looks. What is alive is known after each run of the garbage collector.
const memoryLook = 50 * time.Millisecond

// newMemoryWatch begins to watch.
func newMemoryWatch(ctx context.Context, d Directory, callOff func()) *memoryWatch {
	m := &memoryWatch{account: d.Account, heap: d.heap, done: make(chan struct{})}
	if m.heap == nil {
		m.heap = liveHeap
	}
	m.ctx, m.cancel = context.WithCancelCause(ctx)
	m.base = m.heap()
	m.wg.Go(func() {
		tick := time.NewTicker(memoryLook)
		defer tick.Stop()
		for {
			select {
			case <-m.done:
				return
			case <-m.ctx.Done():
				callOff()
				return
			case <-tick.C:
			}
			m.charge()
		}
	})
	return m
}

// charge charges what the heap has grown by, but never less than before: it shrinks for a moment only.
func (m *memoryWatch) charge() {
	n := m.heap() - m.base
	if n <= m.charged {
		return
	}
	if err := m.account.Reserve(n - m.charged); err != nil {
		m.cancel(fmt.Errorf("it takes more memory than memory.limit leaves: %w", err))
		return
	}
	m.charged = n
}

// stop ends the watch and returns why what was watched was called off, nil where it was not. What is charged stays so.
func (m *memoryWatch) stop() error {
	close(m.done)
	m.wg.Wait()
	m.charge()
	return context.Cause(m.ctx)
}

// release gives back what was charged, when what was watched is gone.
func (m *memoryWatch) release() {
	select {
	case <-m.done:
	default:
		close(m.done)
		m.wg.Wait()
	}
	m.cancel(nil)
	m.account.Release(m.charged)
}

// liveHeap is what was alive on the heap when the garbage collector ran last.
func liveHeap() int64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}
