// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/tidemarkdb/tidemark/tsdb/block"
)

// unreadable is what the store knows of that cannot be read. While there is any of it, its condition holds.
type unreadable struct {
	mu sync.Mutex
	// lasting are losses that only a restart ends: records of the log, and what another program left.
	lasting []loss
	// moved are the base names of the files that this run has put in quarantine, files what is there, by name.
	moved map[string]bool
	files map[string]loss
	// sites are places of blocks and parts that are in use.
	sites map[site]loss
	// gaps are the times of which files and lasting losses say that samples are missing; replaced, never changed.
	gaps []gap
}

// maxSites bounds the places that are remembered and read again. Answers tell of all of them.
const maxSites = 1000

// site is a place of a block or a part that could not be read.
type site struct {
	file string
	off  int64 // negative: the disk did not say where
}

func (a site) compare(b site) int {
	return cmp.Or(strings.Compare(a.file, b.file), cmp.Compare(a.off, b.off))
}

// loss is what is missing, and what to do about it.
type loss struct {
	effect, next string
	gap          *gap  // nil: answers do not lack samples by it, or tell by themselves
	mint, maxt   int64 // of the samples of a site
	// stays: its bytes are as they were written and make no sense, or the disk wavers. To read it again tells nothing.
	stays bool
}

// readAgain is what the parts of the store that have files can do about damage.
type readAgain interface {
	Span(off int64) (first, last int64)
	Recheck(off int64) error
}

// inUse returns the block or the part that a file is, nil where it is none any more.
func (db *DB) inUse(file string) readAgain {
	for _, b := range db.blocks.all() {
		if b.Name() == file {
			return b.Block
		}
	}
	for _, p := range db.parts.all() {
		if p.Name() == file {
			return p.Part
		}
	}
	return nil
}

// siteOf returns the place that err is about.
func siteOf(err error) (site, bool) {
	if errorIs[*ForeignDamage](err) {
		return site{}, false
	}
	if corrupt, ok := errors.AsType[*block.CorruptError](err); ok {
		return site{corrupt.File, corrupt.Off}, true
	}
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		return site{failed.Path, -1}, true
	}
	return site{}, false
}

// missing remembers what could not be read, and adds to the error of it the times of the samples that are missing.
func (db *DB) missing(err error) error {
	at, ok := siteOf(err)
	if !ok {
		db.noteUnreadable(err)
		return err
	}
	db.unreadable.mu.Lock()
	l, known := db.unreadable.sites[at]
	db.unreadable.mu.Unlock()
	if !known {
		if l, known = db.noteSite(at, err); !known {
			return err
		}
	}
	return fmt.Errorf("samples from %s to %s are missing: %w", formatTime(l.mint), formatTime(l.maxt), err)
}

// noteUnreadable remembers damage.
func (db *DB) noteUnreadable(err error) {
	if at, ok := siteOf(err); ok {
		_, _ = db.noteSite(at, err) // a file that is in use no more is missed by nobody
		return
	}
	db.noteLoss(loss{effect: fmt.Sprintf("answers may lack samples and carry a warning: %v", err), next: nextRestore})
}

const nextRestore = "restore the file from a backup or a replica; the rest of it keeps answering"

// noteSite remembers a place; ok is false where its file is in use no more.
func (db *DB) noteSite(at site, err error) (l loss, ok bool) {
	x := db.inUse(at.file)
	if x == nil {
		return loss{}, false
	}
	l.next = nextRestore
	l.mint, l.maxt = x.Span(at.off)
	l.stays = at.off >= 0 && x.Recheck(at.off) == nil
	l.effect = fmt.Sprintf("answers from %s to %s lack samples of a part of %s and carry a warning: %v",
		formatTime(l.mint), formatTime(l.maxt), path.Base(at.file), err)
	u := &db.unreadable
	u.mu.Lock()
	_, known := u.sites[at]
	if known = known || len(u.sites) >= maxSites; !known {
		if u.sites == nil {
			u.sites = map[site]loss{}
		}
		u.sites[at] = l
		db.tellUnreadableLocked()
	}
	u.mu.Unlock()
	if !known {
		db.log.Error("a part of a file is unreadable", "file", at.file, "from", formatTime(l.mint), "to", formatTime(l.maxt), "err", err)
	}
	return l, true
}

// noteLoss remembers what is missing until the next start.
func (db *DB) noteLoss(l loss) {
	u := &db.unreadable
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.lasting) < maxSites && !slices.ContainsFunc(u.lasting, func(x loss) bool { return x.effect == l.effect }) {
		u.lasting = append(u.lasting, l)
	}
	db.tellUnreadableLocked()
}

// recheckEach is how many places are read again at a time.
const recheckEach = 16

// recheck reads again what could not be read, and forgets what can be, what is in use no more, and what has left the
// quarantine.
func (db *DB) recheck() {
	left := recheckEach
	db.forgetSites(func(at site, l loss) bool {
		x := db.inUse(at.file)
		if x == nil {
			return true
		}
		if l.stays || at.off < 0 || left == 0 {
			return false
		}
		left--
		return x.Recheck(at.off) == nil
	})
	if err := db.lookAtQuarantine(); err != nil {
		db.log.Warn("cannot tell what is in quarantine", "err", err)
	}
}

// forgetSites forgets the places that gone says.
func (db *DB) forgetSites(gone func(site, loss) bool) {
	u := &db.unreadable
	u.mu.Lock()
	sites := maps.Clone(u.sites)
	u.mu.Unlock()
	for at, l := range sites {
		if !gone(at, l) {
			delete(sites, at)
		}
	}
	if len(sites) == 0 {
		return
	}
	u.mu.Lock()
	for at := range sites {
		delete(u.sites, at)
	}
	db.tellUnreadableLocked()
	u.mu.Unlock()
	db.log.Info("what could not be read can be read again, or is in use no more", "places", len(sites))
}

// shownLosses is how many are told in one condition.
const shownLosses = 5

// tellUnreadableLocked sets or clears the condition, and the gaps.
func (db *DB) tellUnreadableLocked() {
	u := &db.unreadable
	all := slices.Clone(u.lasting)
	for _, name := range slices.Sorted(maps.Keys(u.files)) {
		all = append(all, u.files[name])
	}
	for _, at := range slices.SortedFunc(maps.Keys(u.sites), site.compare) {
		all = append(all, u.sites[at])
	}
	u.gaps = nil
	var effects []string
	for i, l := range all {
		if l.gap != nil {
			u.gaps = append(u.gaps, *l.gap)
		}
		if i < shownLosses {
			effects = append(effects, l.effect)
		}
	}
	if n := len(all) - shownLosses; n > 0 {
		effects = append(effects, fmt.Sprintf("and %d more", n))
	}
	if len(all) == 0 {
		db.conds.clear(ConditionQuarantined)
		return
	}
	db.conds.set(Condition{Code: ConditionQuarantined, Effect: strings.Join(effects, "; "), NextStep: all[0].next})
}

// hasSite reports whether a place of a file cannot be read.
func (u *unreadable) hasSite(file string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for at := range u.sites {
		if at.file == file {
			return true
		}
	}
	return false
}

// allGaps returns the times of which samples may be missing.
func (u *unreadable) allGaps() []gap {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.gaps
}
