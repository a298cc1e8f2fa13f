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

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// headState is scratch/head.json: which blocks the log became, and which log that was.
type headState struct {
	Log    string   `json:"log"`    // what tells one state of the log from another
	Blocks []string `json:"blocks"` // ULIDs in scratch
	// Lost is what that log did not tell because it is damaged; nil: it told all.
	Lost *lostRecords `json:"lost,omitempty"`
}

// lostRecords are the times of which records of a log may be missing.
type lostRecords struct {
	MinT  int64  `json:"minTime"`
	MaxT  int64  `json:"maxTime"`
	Cause string `json:"cause"`
}

const headFile = "head.json"

// openHead returns the blocks in scratch that hold what the log of the Prometheus in dir has and its blocks have not, and
// what is missing of it. It makes them where the log is not the one they were made from: Prometheus has run since.
func (d Directory) openHead(ctx context.Context, dir, scratch string, blocks []listed) ([]listed, *lostRecords, error) {
	log, err := fingerprint(dir)
	if err != nil {
		return nil, nil, err
	}
	state, err := readHeadState(scratch)
	if err != nil {
		return nil, nil, err
	}
	if log == "" && state == nil {
		return nil, nil, nil // no Prometheus was here
	}
	if state == nil {
		state = &headState{}
	}
	if log != "" && log != state.Log {
		if err := fsx.MakeDir(fsx.OS(), scratch); err != nil {
			return nil, nil, err
		}
		r := replay{Directory: d, dir: dir, scratch: scratch, box: filepath.Join(scratch, "replay")}
		made, lost, err := r.run(ctx, inOrderEnd(blocks))
		if err != nil {
			return nil, nil, errors.Join(err, d.tidy(scratch, state.Blocks))
		}
		// Those of an earlier log may not be converted yet. What is in both is the same.
		state.Log, state.Blocks, state.Lost = log, append(state.Blocks, made...), lost
		err = fsx.Publish(fsx.OS(), filepath.Join(scratch, headFile), func(w io.Writer) error { return json.NewEncoder(w).Encode(state) })
		if err != nil {
			return nil, nil, err
		}
	}
	if err := d.tidy(scratch, state.Blocks); err != nil {
		return nil, nil, err
	}
	made, err := d.list(scratch)
	if log == "" {
		return made, nil, err // who has taken the damaged log away accepts the loss
	}
	return made, state.Lost, err
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
