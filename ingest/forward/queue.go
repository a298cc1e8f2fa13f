// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

const (
	// epochBytes is about how many bytes of rows an epoch has at least, and epochShare how many times as many as of names:
	// the labels of all series that are active are written anew once an epoch.
	epochBytes = 32 << 20
	epochShare = 4
	// positionsEvery is how often positions are written: what was sent since is sent again after a crash.
	// epochAge is how long an epoch lasts at most, so that what is too old can be cut off.
	epochAge       = time.Hour
	positionsEvery = time.Second
	positionsFile  = "positions.json"
)

// Limits bound what waits on disk. Zero: no bound.
type Limits struct {
	Bytes int64
	Age   time.Duration
}

// epoch is a part of the queue that is read without what was before it.
type epoch struct {
	LSN  sample.LSN `json:"lsn"`  // of its first record
	Time int64      `json:"time"` // when it began, Unix milliseconds
	Rows int64      `json:"rows"` // at least, after a crash
}

// position is how far an endpoint has come.
type position struct {
	Epoch sample.LSN `json:"epoch"` // in which it is
	Sent  sample.LSN `json:"sent"`  // the receiver has all up to here
}

// mark says that the records of the queue up to one have the rows of those of the store up to another.
type mark struct {
	Queue sample.LSN `json:"queue"`
	Store sample.LSN `json:"store"`
}

// queueState is what the file of positions holds.
type queueState struct {
	Epochs    []epoch             `json:"epochs"`
	Endpoints map[string]position `json:"endpoints"`
	Told      mark                `json:"told"` // the disk has it
}

// Store is whose samples are forwarded.
type Store interface {
	// LabelsOf returns the labels of a series; ok is false where the store has it no more.
	LabelsOf(ref sample.Ref) (ls labels.Labels, ok bool)
	// Description returns what was said last of series with a metric name, without a Ref; ok is false for nothing.
	Description(metric string) (m sample.Metadata, ok bool)
	// LastLSN returns the number of the last record of its log.
	LastLSN() sample.LSN
}

// queue is the rows that wait to be sent.
type queue struct {
	fs      fsx.FS
	dir     string
	store   Store
	now     func() time.Time
	journal *journal.Journal
	floor   *journal.Floor
	wake    chan struct{} // there are records that nobody has told the disk of

	write struct { // guarded by its lock, which is taken before the other
		sync.Mutex
		known []uint32        // by id: the generation of the series that the epoch has named
		told  map[string]bool // metric names whose description the epoch has, if there is one
		bytes int             // of the rows of the epoch
		names int             // bytes of its names
		begun time.Time
		out   record
		buf   []byte
	}
	saving sync.Mutex // held while positions are written; taken before mu
	mu     sync.Mutex
	state  queueState // guarded by mu
	told   mark       // guarded by mu: as of now
	synced mark       // guarded by mu: told, as it was at some time; state.Told once the disk has it
	dirty  bool       // guarded by mu: not written yet
	limits Limits     // guarded by mu
}

func openQueue(o Options) (*queue, error) {
	q := &queue{fs: o.FS, dir: o.Dir, store: o.Store, now: o.Now, wake: make(chan struct{}, 1)}
	q.limits = o.Limits
	if err := fsx.MakeDir(q.fs, q.dir); err != nil {
		return nil, fmt.Errorf("open the queue of remote write: %w", err)
	}
	if err := q.load(); err != nil {
		return nil, err
	}
	j, err := journal.Open(journal.Options{FS: o.FS, Dir: path.Join(o.Dir, "queue"), Sync: journal.Process, SegmentBytes: epochBytes, After: q.newest()})
	if err != nil {
		return nil, fmt.Errorf("open the queue of remote write: %w", err)
	}
	q.journal = j
	q.floor = j.NewFloor("remote write", q.oldestLocked())
	if err := q.findTold(); err != nil {
		return nil, errors.Join(fmt.Errorf("read the queue of remote write: %w", err), j.Close())
	}
	return q, nil
}

// findTold finds out up to where the queue has what the store has.
func (q *queue) findTold() error {
	q.told = q.state.Told
	err := q.journal.Reread(q.told.Queue+1, q.journal.Last(), func(lsn sample.LSN, kind byte, payload []byte) error {
		if kind == kindRows {
			q.told = mark{Queue: lsn, Store: max(q.told.Store, lsnOf(payload))}
		}
		return nil
	})
	if err != nil {
		return err
	}
	last := q.store.LastLSN()
	if len(q.state.Endpoints) > 0 && q.told.Store <= last {
		return nil
	}
	// Nobody was to be sent anything; or the power failed before the disk had the store's last records, whose numbers
	// will be given out again.
	return q.tellUpTo(last)
}

// tellUpTo notes that nothing of the store is missing up to lsn, whatever the records say.
func (q *queue) tellUpTo(lsn sample.LSN) error {
	q.write.Lock()
	defer q.write.Unlock()
	if err := q.beginLocked(); err != nil {
		return err
	}
	q.mu.Lock()
	q.told = mark{Queue: q.journal.Last(), Store: lsn}
	q.synced, q.state.Told, q.dirty = q.told, q.told, true
	q.mu.Unlock()
	_, _, err := q.maintain()
	return err
}

// load reads the file of positions. Without one all endpoints begin at the end.
func (q *queue) load() error {
	q.state.Endpoints = map[string]position{}
	name := path.Join(q.dir, positionsFile)
	f, err := q.fs.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the positions of remote write: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("read the positions of remote write: %w", err)
	}
	if err := json.NewDecoder(io.NewSectionReader(f, 0, size)).Decode(&q.state); err != nil {
		return fmt.Errorf("%s is damaged: remove it to send from now on, without what waits: %w", name, err)
	}
	if q.state.Endpoints == nil {
		q.state.Endpoints = map[string]position{}
	}
	return nil
}

// newest returns the last LSN that the positions know of. After a loss of power the journal may end before it, and must
// not give LSNs out again.
func (q *queue) newest() sample.LSN {
	newest := sample.LSN(0)
	for _, e := range q.state.Epochs {
		newest = max(newest, e.LSN)
	}
	for _, p := range q.state.Endpoints {
		newest = max(newest, p.Sent)
	}
	return max(newest, q.state.Told.Queue)
}

// append puts the rows of a batch that were accepted into the queue. lsn is that of the store's record, 0 if it has none.
// It returns how many they are, and the newest of their times.
func (q *queue) append(lsn sample.LSN, b *sample.Batch, r *sample.Result) (n counts, newest int64, err error) {
	w := &q.write
	w.Lock()
	defer w.Unlock()
	if w.known == nil || w.bytes >= max(epochBytes, epochShare*w.names) || q.now().Sub(w.begun) >= epochAge {
		if err := q.beginLocked(); err != nil {
			return counts{}, 0, err
		}
	}
	w.out.reset()
	w.out.lsn = lsn
	accepted(&w.out.rows, b, r)
	if w.out.rows.Len() == 0 && len(w.out.rows.Exemplars) == 0 && len(w.out.rows.Meta) == 0 {
		q.mu.Lock()
		q.told.Store = max(q.told.Store, lsn)
		q.mu.Unlock()
		return counts{}, 0, nil
	}
	q.nameLocked()
	buf, err := appendRecord(w.buf[:0], &w.out)
	if err != nil {
		w.known = nil
		return counts{}, 0, err
	}
	at, err := q.journal.Append(kindRows, buf)
	if err != nil {
		w.known = nil // what the record would have named is not named
		return counts{}, 0, fmt.Errorf("put rows into the queue of remote write: %w", err)
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
	names := 0
	for i := range w.out.names {
		w.out.names[i].labels.Range(func(l labels.Label) { names += len(l.Name) + len(l.Value) + 2 })
	}
	w.buf = buf
	w.names, w.bytes = w.names+names, w.bytes+max(len(buf)-names, 0)
	q.mu.Lock()
	q.state.Epochs[len(q.state.Epochs)-1].Rows += int64(w.out.rows.Len())
	q.told = mark{Queue: at, Store: max(q.told.Store, lsn)}
	q.mu.Unlock()
	for i, t := range w.out.rows.T {
		n[itemOf(w.out.rows.KindAt(i))]++
		newest = max(newest, t)
	}
	n[exemplars] = len(w.out.rows.Exemplars)
	return n, newest, nil
}

// beginLocked begins an epoch.
func (q *queue) beginLocked() error {
	lsn, err := q.journal.Append(kindEpoch)
	if err != nil {
		return fmt.Errorf("begin an epoch of the queue of remote write: %w", err)
	}
	q.write.known, q.write.bytes, q.write.names, q.write.begun = make([]uint32, 1024), 0, 0, q.now()
	q.write.told = map[string]bool{}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.state.Epochs = append(q.state.Epochs, epoch{LSN: lsn, Time: q.write.begun.UnixMilli()})
	q.dirty = true
	return nil
}

// accepted makes dst the rows of b that are in the store, with b's exemplars and metadata. Some were there before, from a
// request that was cut short before they came here perhaps.
func accepted(dst, b *sample.Batch, r *sample.Result) {
	for i, ref := range b.Ref {
		if !r.At(i).Stored() {
			continue
		}
		switch b.KindAt(i) {
		case sample.Float:
			dst.AppendFloat(ref, b.STAt(i), b.T[i], b.V[i], 0)
		default:
			dst.AppendHistogram(ref, b.STAt(i), b.T[i], b.H[i], b.FH[i], 0)
		}
	}
	dst.Exemplars, dst.Meta = append(dst.Exemplars, b.Exemplars...), append(dst.Meta, b.Meta...)
}

// nameLocked names the series of the record that the epoch has not named yet, and repeats what the store knows of their
// metrics: who told it does so once, and an endpoint may begin with any epoch. Rows of a series that has left the store
// meanwhile are sent under the name that they had, if the epoch has it; else they cannot be.
func (q *queue) nameLocked() {
	w := &q.write
	var told []sample.Metadata
	name := func(ref sample.Ref) {
		id := int(ref.ID())
		for id >= len(w.known) {
			w.known = append(w.known, make([]uint32, len(w.known))...)
		}
		if w.known[id] == ref.Generation() {
			return
		}
		if ls, ok := q.store.LabelsOf(ref); ok {
			w.known[id] = ref.Generation()
			w.out.names = append(w.out.names, namedSeries{ref, ls})
			metric := ls.Get(labels.MetricName)
			if w.told[metric] {
				return
			}
			w.told[strings.Clone(metric)] = true
			if m, ok := q.store.Description(metric); ok {
				m.Ref = ref
				told = append(told, m)
			}
		}
	}
	for _, ref := range w.out.rows.Ref {
		name(ref)
	}
	for i := range w.out.rows.Exemplars {
		name(w.out.rows.Exemplars[i].Ref)
	}
	for i := range w.out.rows.Meta {
		name(w.out.rows.Meta[i].Ref)
	}
	w.out.rows.Meta = append(told, w.out.rows.Meta...) // what comes with the rows is newer
}

// attach makes sure that an endpoint has a position: a new one begins at the end.
func (q *queue) attach(key string) error {
	q.write.Lock()
	q.mu.Lock()
	_, ok := q.state.Endpoints[key]
	q.mu.Unlock()
	if ok {
		q.write.Unlock()
		return nil
	}
	err := q.beginLocked() // so that it need not read what it will not send
	if err == nil {
		last := q.journal.Last()
		q.advance(key, position{Epoch: last, Sent: last})
	}
	q.write.Unlock()
	if err != nil {
		return err
	}
	// What comes from now on is sent, whatever happens.
	_, _, err = q.maintain()
	return err
}

// positionOf returns how far an endpoint has come.
func (q *queue) positionOf(key string) position {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.state.Endpoints[key]
}

// advance notes how far an endpoint has come.
func (q *queue) advance(key string, p position) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.state.Endpoints[key] = p
	q.dirty = true
}

// keepOnly forgets the positions of endpoints that are configured no more.
func (q *queue) keepOnly(keys map[string]bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	maps.DeleteFunc(q.state.Endpoints, func(key string, _ position) bool { return !keys[key] })
	q.dirty = true
}

// oldestLocked returns the first LSN that is needed.
func (q *queue) oldestLocked() sample.LSN {
	oldest := sample.LSN(0)
	for _, p := range q.state.Endpoints {
		if oldest == 0 || p.Epoch < oldest {
			oldest = p.Epoch
		}
	}
	if oldest == 0 {
		return 1
	}
	return oldest
}

// maintain writes the positions, and lets go what all endpoints have sent and what is beyond the limits. It returns the
// epoch that every endpoint must be in or behind, and how many rows were cut off unsent, at least.
func (q *queue) maintain() (first sample.LSN, cut int64, err error) {
	q.saving.Lock()
	defer q.saving.Unlock()
	q.mu.Lock()
	first, cut = q.trimLocked()
	q.markLocked()
	var raw []byte
	if q.dirty {
		raw, err = json.Marshal(q.state)
		q.dirty = err != nil
	}
	q.mu.Unlock()
	if raw == nil || err != nil {
		return first, cut, err
	}
	// Commits go on while the disk is busy.
	if err := q.save(raw); err != nil {
		q.mu.Lock()
		q.dirty = true
		q.mu.Unlock()
		return first, cut, err
	}
	if first > q.floor.LSN() {
		q.floor.Set(first)
	}
	return first, cut, nil
}

// markLocked notes up to where the queue has what the store has, as far as the disk has the queue.
func (q *queue) markLocked() {
	onDisk := q.journal.Synced()
	for _, m := range []mark{q.synced, q.told} {
		if m.Queue <= onDisk && m.Store > q.state.Told.Store {
			q.state.Told, q.dirty = m, true
		}
	}
	if q.synced.Queue <= onDisk {
		q.synced = q.told
	}
}

// keep returns when the disk has what is in the queue.
func (q *queue) keep(ctx context.Context) error {
	err := q.journal.OnDisk(ctx, q.journal.Last())
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_ = err // who appends is told that the disk is full
	return nil
}

// trimLocked forgets the epochs that nobody needs any more, or that are beyond the limits.
func (q *queue) trimLocked() (first sample.LSN, cut int64) {
	needed := q.oldestLocked()
	for len(q.state.Epochs) > 1 {
		e := q.state.Epochs[0]
		sent := len(q.state.Endpoints) == 0 || q.state.Epochs[1].LSN <= needed
		if !sent && !q.tooMuchLocked(q.state.Epochs[1]) {
			break
		}
		if !sent {
			cut += e.Rows
		}
		q.state.Epochs = q.state.Epochs[1:]
		q.dirty = true
	}
	if len(q.state.Epochs) > 0 {
		first = q.state.Epochs[0].LSN
	}
	for key, p := range q.state.Endpoints {
		if p.Epoch < first {
			q.state.Endpoints[key] = position{Epoch: first, Sent: max(p.Sent, first-1)}
		}
	}
	return first, cut
}

// tooMuchLocked reports whether the epoch before next must go.
func (q *queue) tooMuchLocked(next epoch) bool {
	old := q.limits.Age > 0 && q.now().UnixMilli()-next.Time > q.limits.Age.Milliseconds()
	return old || q.limits.Bytes > 0 && q.journal.BytesSince(q.state.Epochs[0].LSN) > q.limits.Bytes
}

func (q *queue) save(raw []byte) error {
	return fsx.Publish(q.fs, path.Join(q.dir, positionsFile), func(w io.Writer) error {
		_, err := w.Write(raw)
		return err
	})
}

// push lets the operating system have what comes, a few times a second: only then can it be read.
func (q *queue) push(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
			_ = q.journal.DurableLazy(ctx, q.journal.Last()) // who appends is told that the disk is full
		}
	}
}

func (q *queue) setLimits(l Limits) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limits = l
}

// behind reports whether an endpoint has not sent all up to a record.
func (q *queue) behind(last sample.LSN) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range q.state.Endpoints {
		if p.Sent < last {
			return true
		}
	}
	return false
}

func (q *queue) close() error {
	_, _, err := q.maintain()
	return errors.Join(err, q.journal.Close())
}
