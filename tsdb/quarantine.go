// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"errors"
	"fmt"
	"maps"
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
	if err := db.layout.moveToQuarantine(name, time.Now()); err != nil {
		return fmt.Errorf("move %s to quarantine: %w", name, err)
	}
	u := &db.unreadable
	u.mu.Lock()
	if u.moved == nil {
		u.moved = map[string]bool{}
	}
	u.moved[path.Base(name)] = true
	u.mu.Unlock()
	return db.lookAtQuarantine()
}

// quarantineEffect says what it means to be without a file.
func quarantineEffect(base string) string {
	switch {
	case strings.HasSuffix(base, tombstoneSuffix):
		return "samples that were deleted are back, those that " + base + " named"
	case strings.HasSuffix(base, checkpointSuffix):
		return base + " is unreadable; the start read an older one and more of the log"
	case base == "deletes":
		return "the deletes of before cannot be undone; what they hide stays hidden"
	}
	return ""
}

// lookAtQuarantine notes what is in quarantine: blocks and parts, those of earlier starts too, whose samples are missing
// until the file is restored, or deleted from there; and the other files that this run has put there.
func (db *DB) lookAtQuarantine() error {
	names, err := db.opts.FS.List(db.layout.quarantine())
	if err != nil {
		return fmt.Errorf("list the quarantine: %w", err)
	}
	u := &db.unreadable
	u.mu.Lock()
	known, moved := u.files, maps.Clone(u.moved)
	u.mu.Unlock()
	files := map[string]loss{}
	for _, n := range names {
		_, base, _ := strings.Cut(n, "-") // before it is when
		l, ok := known[n]
		if !ok {
			l, ok = db.quarantined(n, base, moved[base])
		}
		if ok {
			files[n] = l
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.files = files
	db.tellUnreadableLocked()
	return nil
}

// quarantined says what it means that a file is in quarantine, and whether that is a loss still.
func (db *DB) quarantined(name, base string, ofThisRun bool) (l loss, ok bool) {
	l.next = "restore " + base + " from a backup into the store and restart, or delete it from " + db.layout.quarantine() +
		" to accept the loss"
	what := "block"
	if strings.HasSuffix(name, block.PartSuffix) {
		what = "part of the head"
	} else if !strings.HasSuffix(name, block.Suffix) {
		l.effect = quarantineEffect(base)
		return l, ofThisRun && l.effect != ""
	}
	g := gap{mint: minTime, maxt: maxTime}
	about := "at times that it does not tell any more"
	if first, last, ok := block.Times(db.opts.FS, path.Join(db.layout.quarantine(), name)); ok {
		g.mint, g.maxt = first, last
		about = "from " + formatTime(first) + " to " + formatTime(last)
	}
	g.cause = fmt.Errorf("%s %s is in quarantine: its samples are missing, %s", what, name, about)
	l.gap = &g
	l.effect = fmt.Sprintf("answers carry a warning: %v", g.cause)
	return l, true
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
	db.noteLoss(loss{
		gap:    &gap{mint: minTime, maxt: maxTime, cause: cause},
		effect: "answers may lack samples of the time before the last start and carry a warning: " + cause.Error(),
		next:   "check the disk; the damaged bytes are in " + path.Join(db.layout.wal(), "quarantine") + "; a restart accepts the loss",
	})
}
