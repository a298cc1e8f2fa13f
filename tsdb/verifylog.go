// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/tsdb/wal"
)

// checkpoint verifies a checkpoint by loading it, as a start would.
func (v *verifier) checkpoint(_ context.Context, name string) error {
	err := readFile(v.fs, name, func(f *io.SectionReader) error {
		h := head.New(head.Options{Shards: v.meta.Shards, SlotMillis: v.meta.SlotMillis})
		return errors.Join(h.LoadSnapshot(bufio.NewReaderSize(f, 1<<20)), h.Close())
	})
	if err != nil && !damaged(err) {
		return err
	}
	if err != nil {
		bad, _ := errors.AsType[*head.CorruptError](err)
		finding := Finding{Kind: kindCheckpoint, Problem: err.Error(), Effect: "a start reads an older one and more of the log"}
		if bad != nil {
			finding.Offset = bad.Off
		}
		v.found(name, finding)
	}
	return nil
}

// logAttempts is how often the log of a running server is read until it stands still meanwhile.
const logAttempts = 3

// log verifies the log. The log of a running server changes while it is read: what is found then counts only if it is
// found again.
func (v *verifier) log(ctx context.Context) error {
	var err error
	for range logAttempts {
		had := len(v.report.Findings)
		v.fs = fsx.NewOverlay(v.opts.FS) // the files as they are now
		v.layout.fs = v.fs
		if err = v.readLog(ctx); ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && len(v.report.Findings) == had || !v.inUse() {
			return err
		}
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			v.report.Findings = v.report.Findings[:had]
			if again, aerr := v.again(ctx); aerr == nil {
				v.report.Findings = append(v.report.Findings, again...)
				return nil
			}
		}
	}
	return err
}

// again reads the log once more and returns what it finds.
func (v *verifier) again(ctx context.Context) ([]Finding, error) {
	had := len(v.report.Findings)
	v.fs = fsx.NewOverlay(v.opts.FS)
	v.layout.fs = v.fs
	err := v.readLog(ctx)
	found := append([]Finding(nil), v.report.Findings[had:]...)
	v.report.Findings = v.report.Findings[:had]
	return found, err
}

// inUse reports whether a process works with the store.
func (v *verifier) inUse() bool {
	if _, err := v.opts.FS.Stat(path.Join(v.opts.Dir, "lock")); err != nil {
		return false // locking would make the file
	}
	lock, err := v.opts.FS.Lock(path.Join(v.opts.Dir, "lock"))
	if err != nil {
		return true
	}
	_ = lock.Close() // nothing was done under it
	return false
}

// readLog opens the log on the overlay, as a start would, and decodes all records.
func (v *verifier) readLog(ctx context.Context) error {
	j, err := journal.Open(journal.Options{FS: v.fs, Dir: v.layout.wal(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer func() { _ = j.Close() }() // its files are in memory
	var batch sample.Batch
	rec, err := j.Replay(0, func(lsn sample.LSN, kind byte, payload []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := decodeRecord(kind, payload, &batch); err != nil {
			v.found(v.layout.wal(), Finding{Kind: kindLog, Problem: fmt.Sprintf("record %d: %v", lsn, err), Effect: "the store cannot be opened"})
		}
		return nil
	})
	if err != nil {
		return err
	}
	from := v.newestCheckpoint()
	needed, err := j.Replay(from+1, func(sample.LSN, byte, []byte) error { return ctx.Err() })
	if err != nil {
		return err
	}
	v.logFindings(rec, needed.LostRecords, from)
	if rec.TornBytes > 0 {
		v.note("%s: the last %d bytes were being written when it ended; nobody was told that they are kept", v.short(v.layout.wal()), rec.TornBytes)
	}
	return nil
}

// logFindings notes what a replay of the whole log found, and how much of it a start needs.
func (v *verifier) logFindings(all journal.Recovery, needed uint64, checkpoint sample.LSN) {
	effect := fmt.Sprintf("%d records are missing: their samples are lost, of times that are not known", needed)
	for _, bad := range all.Corrupt {
		if needed == 0 {
			v.note("%s: bytes %d to %d: %s; nothing is missing, because checkpoint %d has what the records said",
				v.short(bad.File), bad.Off, bad.End, bad.Msg, checkpoint)
			continue
		}
		v.found(bad.File, Finding{Kind: kindLog, Offset: bad.Off, Problem: fmt.Sprintf("bytes %d to %d: %s", bad.Off, bad.End, bad.Msg), Effect: effect})
	}
	if len(all.Corrupt) == 0 && needed > 0 {
		v.found(v.layout.wal(), Finding{Kind: kindLog, Problem: "segments are missing", Effect: effect})
	}
}

// decodeRecord decodes a record of the log as a replay does.
func decodeRecord(kind byte, payload []byte, batch *sample.Batch) error {
	var err error
	switch kind {
	case wal.KindSeries:
		return wal.DecodeSeries(payload, func(sample.Ref, labels.Labels) error { return nil })
	case wal.KindBatch:
		batch.Reset()
		if _, payload, err = wal.DecodeLimits(payload); err == nil {
			err = wal.DecodeBatch(payload, batch)
		}
	case wal.KindFree:
		_, err = wal.DecodeFree(payload)
	case wal.KindDelete:
		_, err = wal.DecodeDelete(payload)
	default:
		err = fmt.Errorf("kind %d, which this version does not know", kind)
	}
	return err
}

// newestCheckpoint returns the LSN of the newest checkpoint that nothing was found of, 0 for none.
func (v *verifier) newestCheckpoint() sample.LSN {
	names, err := v.fs.List(v.layout.checkpoints())
	if err != nil {
		return 0
	}
	newest := uint64(0)
	for _, n := range names {
		digits, ok := strings.CutSuffix(n, checkpointSuffix)
		lsn, err := strconv.ParseUint(digits, 10, 64)
		if !ok || err != nil || v.isFound(path.Join(v.layout.checkpoints(), n)) {
			continue
		}
		newest = max(newest, lsn)
	}
	return sample.LSN(newest)
}

func (v *verifier) isFound(name string) bool {
	for i := range v.report.Findings {
		if v.report.Findings[i].File == v.short(name) {
			return true
		}
	}
	return false
}
