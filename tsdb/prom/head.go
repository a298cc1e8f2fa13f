// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// headState is scratch/head.json: which blocks the log became, and which log that was.
type headState struct {
	Log    string   `json:"log"`    // what tells one state of the log from another
	Blocks []string `json:"blocks"` // ULIDs in scratch
}

const headFile = "head.json"

// openHead returns the blocks in scratch that hold what the log of the Prometheus in dir has and its blocks have not. It
// makes them where the log is not the one they were made from: Prometheus has run since.
func (d Directory) openHead(ctx context.Context, dir, scratch string, blocks []listed) ([]listed, error) {
	log, err := fingerprint(dir)
	if err != nil {
		return nil, err
	}
	state, err := readHeadState(scratch)
	if err != nil {
		return nil, err
	}
	if log == "" && state == nil {
		return nil, nil // no Prometheus was here
	}
	if state == nil {
		state = &headState{}
	}
	if log != "" && log != state.Log {
		if err := fsx.MakeDir(fsx.OS(), scratch); err != nil {
			return nil, err
		}
		made, err := d.replay(ctx, dir, scratch, inOrderEnd(blocks))
		if err != nil {
			return nil, errors.Join(err, d.tidy(scratch, state.Blocks))
		}
		// Those of an earlier log may not be converted yet. What is in both is the same.
		state.Log, state.Blocks = log, append(state.Blocks, made...)
		err = fsx.Publish(fsx.OS(), filepath.Join(scratch, headFile), func(w io.Writer) error { return json.NewEncoder(w).Encode(state) })
		if err != nil {
			return nil, err
		}
	}
	if err := d.tidy(scratch, state.Blocks); err != nil {
		return nil, err
	}
	return d.list(scratch)
}

// fingerprint changes when anything is added to the log; empty where there is none.
func fingerprint(dir string) (string, error) {
	h := sha256.New()
	n := 0
	for _, part := range []string{walDir, wblDir} {
		root := filepath.Join(dir, part)
		err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && name == root {
				return fs.SkipDir
			}
			if err != nil || e.IsDir() {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			n++
			_, _ = fmt.Fprintf(h, "%s %d\n", name[len(dir):], info.Size())
			return nil
		})
		if err != nil {
			return "", fmt.Errorf("look at the log of Prometheus: %w", err)
		}
	}
	if n == 0 {
		return "", nil
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func readHeadState(scratch string) (*headState, error) {
	text, err := os.ReadFile(filepath.Join(scratch, headFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := &headState{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%s: %w: delete the file, and the log of Prometheus is read again", filepath.Join(scratch, headFile), err)
	}
	return s, nil
}

// tidy removes what a replay that did not come to its end has left.
func (d Directory) tidy(scratch string, keep []string) error {
	entries, err := os.ReadDir(scratch)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(keep, e.Name()) {
			errs = append(errs, os.RemoveAll(filepath.Join(scratch, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// replay reads the log into Prometheus' own head and writes what it holds from the time end on, and what came out of
// order, as blocks into scratch.
func (d Directory) replay(ctx context.Context, dir, scratch string, end int64) (made []string, err error) {
	start := time.Now()
	d.log().Info("reading the log of Prometheus; this takes as long as a start of Prometheus", "dir", dir)
	box := filepath.Join(scratch, "replay")
	if err := os.RemoveAll(box); err != nil {
		return nil, err
	}
	head, err := d.openReplay(ctx, dir, box)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, head.Close(), os.RemoveAll(box)) }()
	err = head.Init(end)
	if _, damaged := errors.AsType[*wlog.CorruptionErr](err); err != nil && !damaged {
		return nil, err
	}
	if err != nil {
		// Prometheus drops what is behind the damage, too, and repairs the files. We leave them as they are.
		d.log().Warn("the log of Prometheus is damaged; what is behind the damage is lost, as it would be with Prometheus", "err", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := headWriter{ctx: ctx, scratch: scratch, head: head}
	if err := w.write(); err != nil {
		return nil, fmt.Errorf("write the head of Prometheus as blocks: %w", err)
	}
	d.log().Info("read the log of Prometheus", "blocks", len(w.made), "series", head.NumSeries(), "took", time.Since(start))
	return w.made, nil
}

// openReplay makes the head. The log is read where it is. Head chunks and the log of late samples, where a head
// deletes and adds files, are linked into box first, so that all it does happens there: files that are there already
// it never writes to.
func (d Directory) openReplay(ctx context.Context, dir, box string) (*tsdb.Head, error) {
	if err := linkFiles(ctx, filepath.Join(dir, headChunksDir), filepath.Join(box, headChunksDir)); err != nil {
		return nil, err
	}
	wal, err := wlog.Open(d.log(), filepath.Join(dir, walDir))
	if err != nil {
		return nil, err
	}
	var late *wlog.WL
	if _, err := os.Stat(filepath.Join(dir, wblDir)); err == nil {
		if err := linkFiles(ctx, filepath.Join(dir, wblDir), filepath.Join(box, wblDir)); err != nil {
			return nil, err
		}
		if late, err = wlog.New(d.log(), nil, filepath.Join(box, wblDir), ""); err != nil {
			return nil, err
		}
	}
	o := tsdb.DefaultHeadOptions()
	o.ChunkDirRoot = box
	o.EnableSTStorage.Store(true)
	o.EnableHistogramSTEncoding.Store(true)
	o.FloatChunkEncoding.Store(uint32(chunkenc.EncXOR2))
	head, err := tsdb.NewHead(nil, d.log(), wal, late, o, tsdb.NewHeadStats())
	if err != nil {
		if late != nil {
			err = errors.Join(err, late.Close())
		}
		return nil, err
	}
	return head, nil
}

// linkFiles gives the files of a directory a second name in another one, or copies them where that cannot be.
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
		if !e.Type().IsRegular() {
			continue
		}
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		if os.Link(src, dst) == nil {
			continue
		}
		if err := copyFile(src, dst); err != nil {
			return err
		}
	}
	return nil
}

// headWriter writes a head as blocks.
type headWriter struct {
	ctx     context.Context
	scratch string
	head    *tsdb.Head
	made    []string
}

func (w *headWriter) write() error {
	if w.head.NumSeries() == 0 {
		return nil
	}
	ranges := []int64{defaultRange.Milliseconds()}
	o := tsdb.LeveledCompactorOptions{MaxBlockChunkSegmentSize: segmentBytes, EnableOverlappingCompaction: true}
	c, err := tsdb.NewLeveledCompactorWithOptions(w.ctx, nil, nil, ranges, chunkenc.NewPool(), o)
	if err != nil {
		return err
	}
	if mint, maxt := w.head.MinTime(), w.head.MaxTime(); mint <= maxt {
		ids, err := c.Write(w.scratch, tsdb.NewRangeHead(w.head, mint, maxt), mint, maxt+1, nil)
		if err != nil {
			return err
		}
		w.note(ids)
	}
	late, err := tsdb.NewOOOCompactionHead(w.ctx, w.head)
	if err != nil {
		return fmt.Errorf("late samples: %w", err)
	}
	dead, err := w.head.Tombstones()
	if err != nil {
		return err
	}
	if mint, maxt := late.MinTime(), late.MaxTime(); mint <= maxt {
		// One block of any length: cutting chunks at its ends is what Prometheus cannot do where samples were deleted.
		ids, err := c.Write(w.scratch, lateHead{late, dead}, mint, maxt+1, nil)
		if err != nil {
			return fmt.Errorf("late samples: %w", err)
		}
		w.note(ids)
	}
	return nil
}

// lateHead is what came late to a head, without what was deleted: when Prometheus writes it as blocks it forgets that.
type lateHead struct {
	*tsdb.OOOCompactionHead

	dead tombstones.Reader
}

// Tombstones implements tsdb.BlockReader.
func (h lateHead) Tombstones() (tombstones.Reader, error) { return h.dead, nil }

func (w *headWriter) note(ids []ulid.ULID) {
	for _, id := range ids {
		w.made = append(w.made, id.String())
	}
}
