// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/head"
)

// gap is a time of which samples may be missing: answers that touch it say so.
type gap struct {
	mint, maxt int64
	cause      error
}

// damaged reports whether err says that what is on disk cannot be read, now or later: it fails its checksums, or
// the disk does not give it. Lack of memory or of file descriptors is another matter.
func damaged(err error) bool {
	_, inBlock := errors.AsType[*block.CorruptError](err)
	_, inCheckpoint := errors.AsType[*head.CorruptError](err)
	_, inForeign := errors.AsType[*ForeignDamage](err)
	return inBlock || inCheckpoint || inForeign || errors.Is(err, errTombstones) || errors.Is(err, syscall.EIO)
}

// quarantine takes a file that cannot be read out of the way, where an operator finds it.
func (db *DB) quarantine(name string, cause error) error {
	db.log.Error("a file of the store is unreadable; it is moved to quarantine and the store goes on without it",
		"file", name, "err", cause, "quarantine", db.layout.quarantine())
	db.raiseQuarantined(quarantineEffect(name) + ": " + cause.Error())
	if err := db.layout.moveToQuarantine(name, time.Now()); err != nil {
		return fmt.Errorf("move %s to quarantine: %w", name, err)
	}
	return nil
}

// quarantineEffect says what it means to be without a file.
func quarantineEffect(name string) string {
	base := path.Base(name)
	switch {
	case strings.HasSuffix(name, tombstoneSuffix):
		return "samples that were deleted are back, those that " + base + " named"
	case strings.HasSuffix(name, checkpointSuffix):
		return base + " is unreadable; the start read an older one and more of the log"
	}
	return "answers over the time of " + base + " lack its samples and carry a warning"
}

func (db *DB) raiseQuarantined(effect string) {
	db.conds.set(Condition{
		Code:   ConditionQuarantined,
		Effect: effect,
		NextStep: "restore the file from a backup into the store, or delete it from " + db.layout.quarantine() +
			" to accept the loss; then restart",
	})
}

// findGaps notes the blocks in quarantine, those of earlier starts too: their samples are missing until the file is
// restored, or deleted from there.
func (db *DB) findGaps() error {
	names, err := db.opts.FS.List(db.layout.quarantine())
	if err != nil {
		return fmt.Errorf("list the quarantine: %w", err)
	}
	for _, n := range names {
		what := "block"
		if strings.HasSuffix(n, block.PartSuffix) {
			what = "part of the head"
		} else if !strings.HasSuffix(n, block.Suffix) {
			continue
		}
		g := gap{mint: minTime, maxt: maxTime}
		about := "at times that it does not tell any more"
		if first, last, ok := block.Times(db.opts.FS, path.Join(db.layout.quarantine(), n)); ok {
			g.mint, g.maxt = first, last
			about = "from " + formatTime(first) + " to " + formatTime(last)
		}
		g.cause = fmt.Errorf("%s %s is in quarantine: its samples are missing, %s", what, n, about)
		db.gaps = append(db.gaps, g)
		if !db.conds.has(ConditionQuarantined) {
			db.raiseQuarantined(quarantineEffect(n))
		}
	}
	return nil
}

// noteLostRecords makes known that the log was damaged. Until the next start all answers say so: which times the
// records were of is not known.
func (db *DB) noteLostRecords() {
	lost := db.recovery.Log.LostRecords
	if lost == 0 && db.recovery.Lost == 0 {
		return
	}
	cause := fmt.Errorf("%d records of the log are damaged: their samples are missing", lost)
	if lost == 0 {
		cause = fmt.Errorf("the log lacks %d series that parts of the head have samples of", db.recovery.Lost)
	}
	db.gaps = append(db.gaps, gap{mint: minTime, maxt: maxTime, cause: cause})
	db.conds.set(Condition{
		Code:     ConditionQuarantined,
		Effect:   "answers may lack samples of the time before the last start and carry a warning: " + cause.Error(),
		NextStep: "check the disk; the damaged bytes are in " + path.Join(db.layout.wal(), "quarantine") + "; a restart accepts the loss",
	})
}
