// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/tsdb/wal"
)

// DeleteInfo is a delete of which something is left to purge.
type DeleteInfo struct {
	ID         sample.LSN
	At         time.Time
	MinT, MaxT int64  // Unix ms
	Match      string // a selector
	Series     int    // the most that one part of the store had of them
	// Final: it cannot be undone.
	Final bool
}

// Deletes lists the deletes of which something is left to purge, the oldest first.
func (db *DB) Deletes() []DeleteInfo {
	db.deletes.mu.Lock()
	defer db.deletes.mu.Unlock()
	out := make([]DeleteInfo, len(db.deletes.shown))
	for i, d := range db.deletes.shown {
		out[i] = DeleteInfo{
			ID: d.ID, At: time.UnixMilli(d.At), MinT: d.MinT, MaxT: d.MaxT, Match: d.selector(), Series: d.Series,
			Final: d.Final || d.Undoing,
		}
	}
	return out
}

// deletion is a delete in the file of deletes.
type deletion struct {
	ID     sample.LSN  `json:"id"`
	At     int64       `json:"at"` // Unix ms, as the other times
	MinT   int64       `json:"minTime"`
	MaxT   int64       `json:"maxTime"`
	Match  []matchText `json:"match"`
	Series int         `json:"series"`
	// Final: it cannot be undone; the next rewrite of a block leaves what it hides out.
	Final bool `json:"final,omitempty"`
	// Undoing: it is undone but for blocks whose tombstones a crash kept from being written.
	Undoing bool `json:"undoing,omitempty"`
}

// matchText is a matcher.
type matchText struct {
	Name  string `json:"name"`
	Op    string `json:"op"`
	Value string `json:"value"`
}

func matchTexts(ms []*labels.Matcher) []matchText {
	out := make([]matchText, len(ms))
	for i, m := range ms {
		out[i] = matchText{m.Name, m.Type.String(), m.Value}
	}
	return out
}

func (d *deletion) matchers() ([]*labels.Matcher, error) {
	var out []*labels.Matcher
	for _, t := range d.Match {
		kind := labels.MatchEqual
		for kind.String() != t.Op {
			if kind++; kind > labels.MatchNotRegexp {
				return nil, fmt.Errorf("delete %d: no matcher is called %q", d.ID, t.Op)
			}
		}
		m, err := labels.NewMatcher(kind, t.Name, t.Value)
		if err != nil {
			return nil, fmt.Errorf("delete %d: %w", d.ID, err)
		}
		out = append(out, m)
	}
	return out, nil
}

func (d *deletion) selector() string {
	ms, err := d.matchers()
	if err != nil {
		return err.Error()
	}
	texts := make([]string, len(ms))
	for i, m := range ms {
		texts[i] = m.String()
	}
	return "{" + strings.Join(texts, ",") + "}"
}

// deletes are the deletes of the store, oldest first. A delete that is not in the list is final.
type deletes struct {
	done    sample.LSN // guarded by maintain; deletes up to here are in the tombstones of all blocks
	list    []deletion // guarded by maintain; replaced, never changed
	unsaved []*marked  // guarded by maintain; blocks whose file of tombstones is older than what is in force
	// lost: the file could not be read at the start. What the log says of deletes must not be done again then: they may
	// have been undone.
	lost bool

	mu    sync.Mutex
	shown []deletion // guarded by mu; list, for who does not hold maintain
}

// final reports whether what a delete hides may be purged.
func (d *deletes) final(id sample.LSN) bool {
	i := slices.IndexFunc(d.list, func(x deletion) bool { return x.ID == id })
	return i < 0 || d.list[i].Final
}

// set makes the list what it is.
func (d *deletes) set(done sample.LSN, list []deletion) {
	d.done, d.list = done, list
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shown = list
}

// newest returns an LSN that no delete is above.
func (d *deletes) newest() sample.LSN {
	n := d.done
	for _, x := range d.list {
		n = max(n, x.ID)
	}
	return n
}

func (l layout) deletes() string { return l.path("deletes") }

const deletesMagic = "TMDD\x01"

var errDeletes = errors.New("not the file of deletes, or a damaged one")

// deletesFile is what is in the file, as JSON behind the magic and a checksum; docs/format-tombstones.md.
type deletesFile struct {
	Done    sample.LSN `json:"done"`
	Deletes []deletion `json:"deletes"`
}

func (f deletesFile) appendTo(dst []byte) ([]byte, error) {
	body, err := json.Marshal(f)
	if err != nil {
		return dst, err
	}
	dst = append(dst, deletesMagic...)
	dst = binary.BigEndian.AppendUint32(dst, crc32.Checksum(body, castagnoli))
	return append(dst, body...), nil
}

func parseDeletes(p []byte) (deletesFile, error) {
	const header = len(deletesMagic) + 4
	var f deletesFile
	if len(p) < header || string(p[:len(deletesMagic)]) != deletesMagic ||
		crc32.Checksum(p[header:], castagnoli) != binary.BigEndian.Uint32(p[len(deletesMagic):]) {
		return f, errDeletes
	}
	if err := json.Unmarshal(p[header:], &f); err != nil {
		return f, fmt.Errorf("%w: %w", errDeletes, err)
	}
	return f, nil
}

// loadDeletes reads the file of deletes. Without it all deletes are final.
func (db *DB) loadDeletes() error {
	p, err := fsx.ReadFile(db.opts.FS, db.layout.deletes())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil && !damaged(err) {
		return err
	}
	var f deletesFile
	if err == nil {
		f, err = parseDeletes(p)
	}
	if err != nil {
		db.deletes.lost = true
		if err := db.quarantine(db.layout.deletes(), err); err != nil {
			return err
		}
	}
	db.deletes.set(f.Done, f.Deletes)
	return nil
}

// saveDeletes makes list the deletes there are, on disk first. The maintenance lock is held.
func (db *DB) saveDeletes(done sample.LSN, list []deletion) error {
	p, err := deletesFile{Done: done, Deletes: list}.appendTo(nil)
	if err == nil {
		err = fsx.Publish(db.opts.FS, db.layout.deletes(), func(w io.Writer) error {
			_, err := w.Write(p)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("note the deletes: %w", err)
	}
	db.deletes.set(done, list)
	return nil
}

// saveMarks writes the tombstones that are in force and not on disk. The maintenance lock is held.
func (db *DB) saveMarks() error {
	for len(db.deletes.unsaved) > 0 {
		m := db.deletes.unsaved[0]
		if _, err := db.opts.FS.Stat(m.path); errors.Is(err, fs.ErrNotExist) && !strings.HasPrefix(m.path, db.layout.foreign()) {
			db.deletes.unsaved = db.deletes.unsaved[1:] // the block went
			continue
		}
		if strings.HasPrefix(m.path, db.layout.foreign()) {
			if err := fsx.MakeDir(db.opts.FS, db.layout.foreign()); err != nil {
				return err
			}
		}
		if err := saveTombstones(db.opts.FS, m.path, m.dead); err != nil {
			return fmt.Errorf("write what is deleted of a block: %w", err)
		}
		db.deletes.unsaved = db.deletes.unsaved[1:]
	}
	return nil
}

// finalize makes the deletes final that f names. It comes before anything that they hide is purged.
func (db *DB) finalize(f func(deletion) bool) error {
	db.maintain.Lock()
	defer db.maintain.Unlock()
	list := slices.Clone(db.deletes.list)
	changed := false
	for i, d := range list {
		if !d.Final && !d.Undoing && f(d) {
			list[i].Final, changed = true, true
		}
	}
	if !changed {
		return nil
	}
	return db.saveDeletes(db.deletes.done, list)
}

// expireDeletes makes the deletes final that can be undone no longer.
func (db *DB) expireDeletes() error {
	edge := db.now().Add(-db.opts.UndoFor).UnixMilli()
	return db.finalize(func(d deletion) bool { return d.At < edge })
}

// forgetDeletes removes the deletes from the list of which nothing is left to purge.
func (db *DB) forgetDeletes() error {
	db.maintain.Lock()
	defer db.maintain.Unlock()
	left := map[sample.LSN]bool{}
	note := func(t tombstones) {
		for i := range t {
			left[t[i].id] = true
		}
	}
	for _, b := range db.blocks.all() {
		note(b.dead)
	}
	for _, b := range db.foreign.all() {
		note(b.dead)
	}
	list := slices.DeleteFunc(slices.Clone(db.deletes.list), func(d deletion) bool { return d.Final && !left[d.ID] })
	if len(list) == len(db.deletes.list) {
		return nil
	}
	return db.saveDeletes(db.deletes.done, list)
}

// redoDelete is a delete that the replay has met.
type redoDelete struct {
	id sample.LSN
	d  wal.Delete
}

// completeDeletes does what a crash kept deletes and undos from doing. Nobody has been told of a delete that is found
// so: it is final.
func (db *DB) completeDeletes(ctx context.Context, found []redoDelete) error {
	if db.deletes.lost {
		return db.saveDeletes(db.journal.Last(), nil)
	}
	list := slices.Clone(db.deletes.list)
	done := db.deletes.done
	for _, x := range found {
		if x.id <= done || x.d.At == 0 {
			continue
		}
		if err := db.redoDelete(ctx, x); err != nil {
			return fmt.Errorf("complete delete %d: %w", x.id, err)
		}
		list = append(list, deletion{
			ID: x.id, At: x.d.At, MinT: x.d.MinT, MaxT: x.d.MaxT, Match: matchTexts(x.d.Match), Series: len(x.d.Refs), Final: true,
		})
	}
	if len(list) > len(db.deletes.list) {
		if err := db.saveMarks(); err != nil {
			return err
		}
		if err := db.saveDeletes(list[len(list)-1].ID, list); err != nil {
			return err
		}
	}
	for _, d := range list {
		if !d.Undoing {
			continue
		}
		if err := db.undo(ctx, d); err != nil {
			return fmt.Errorf("complete the undo of delete %d: %w", d.ID, err)
		}
	}
	return nil
}

// redoDelete marks the blocks that there were when a delete was logged.
func (db *DB) redoDelete(ctx context.Context, x redoDelete) error {
	marks, release, err := db.find(ctx, x.d)
	if err != nil {
		return err
	}
	defer release()
	db.seq.Lock()
	defer db.seq.Unlock()
	for _, m := range marks {
		if _, ok := m.dead.find(x.id); !ok && m.lsn < x.id {
			db.mark(m, m.dead.with(x.id, m.ids, interval{x.d.MinT, x.d.MaxT}))
		}
	}
	return nil
}
