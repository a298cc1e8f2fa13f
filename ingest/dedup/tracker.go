// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package dedup elects, of the replicas that send the same series, the one whose samples are stored.
//
// Its nouns: a cluster is what a label names on all series of some replicas; a replica is what another label tells them
// apart by. A Tracker knows which replica of each cluster is elected: the first that sends, until it has been silent for
// as long as a failover takes, when the next that sends is elected in its place. A Roster numbers the replicas, so that
// whoever knows a series needs not read its labels again to ask; a Sender is one replica in it.
//
// The samples of the others are left out while the elected one is heard. When it has been silent for half a failover the
// others are told to keep theirs and send them again, until it comes back or one of them is elected: so what they have
// since then is not lost. What they had before then was left out: where the elected one ended with samples that it had not
// sent, up to half a failover of them is missing. After a time in which nobody was heard, when the server was away, it has
// half a failover to come as well, once.
//
// At an election in the place of another the new replica's samples overlap those of the old one: its mark is the time of
// the election, and what it sends from before it is only to be stored behind what its series have. An election is in memory at
// once and in a file after Keep, which comes before its samples are stored; when each replica was last heard is not kept.
// Silence is measured by a clock that nobody sets.
//
// A Tracker lives as long as the server, and is safe for concurrent use; it has no goroutines. To ask costs a few
// atomic loads, all elections of a request one file. At most MaxReplicas are numbered; those not heard for an hour make room for others.
package dedup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// Settings are what the operator says.
type Settings struct {
	ClusterLabel string        // names the cluster
	ReplicaLabel string        // names the replica; it is taken off what is stored
	Failover     time.Duration // how long the elected replica may be silent
}

// Options of a Tracker. FS and Dir are required.
type Options struct {
	FS         fsx.FS
	Dir        string                // of the file with the elections
	Registerer prometheus.Registerer // nil: no metrics are registered
	Logger     *slog.Logger          // nil: nothing is logged
	Now        func() time.Time      // nil: time.Now
	Elapsed    func() time.Duration  // since some moment, however the clock is set meanwhile; nil: as Now has it
}

// Tracker knows who is elected.
type Tracker struct {
	opts   Options
	roster atomic.Pointer[Roster] // nil: nothing is deduplicated

	failover  atomic.Int64 // ms
	elections prometheus.Counter
	unsaved   prometheus.Counter
	crowded   prometheus.Counter

	mu       sync.Mutex
	clusters map[string]*cluster // guarded by mu
	rosters  uint32              // guarded by mu; how many there were
	numbered int64               // guarded by mu; when the last began

	changes atomic.Uint64 // how many elections there were; written under mu
	kept    atomic.Uint64 // so many of them Keep has seen to
	keeping sync.Mutex    // held while the file is written
}

// cluster is the election of one.
type cluster struct {
	name     string
	elected  atomic.Pointer[election] // nil: nobody yet
	heard    atomic.Int64             // from the elected replica; in ms, as Tracker.elapsed
	anybody  atomic.Int64             // likewise from any
	excused  atomic.Bool              // the elected one's silence was taken for one of this server
	failover *atomic.Int64
}

// never is long before any time, and still a difference that can be counted.
const never = math.MinInt64 / 2

// newCluster returns one of which nobody was heard.
func (t *Tracker) newCluster(name string) *cluster {
	c := &cluster{name: name, failover: &t.failover}
	c.heard.Store(never)
	c.anybody.Store(never)
	return c
}

// election is never changed.
type election struct {
	replica string
	mark    int64 // Unix ms; 0: it was in nobody's place
}

// New returns a Tracker with the elections that are kept, and turned off.
func New(o Options) (*Tracker, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Elapsed == nil {
		from := o.Now()
		o.Elapsed = func() time.Duration { return o.Now().Sub(from) }
	}
	t := &Tracker{opts: o, clusters: map[string]*cluster{}}
	if err := t.register(); err != nil {
		return nil, err
	}
	return t, t.load()
}

// Apply turns deduplication on with these settings; nil: off.
func (t *Tracker) Apply(s *Settings) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s == nil {
		t.roster.Store(nil)
		return
	}
	t.failover.Store(s.Failover.Milliseconds())
	if now := t.roster.Load(); now != nil && now.settings.ClusterLabel == s.ClusterLabel && now.settings.ReplicaLabel == s.ReplicaLabel {
		return
	}
	t.beginRosterLocked(*s)
}

// Roster returns the numbers of replicas that hold now, nil while nothing is deduplicated.
func (t *Tracker) Roster() *Roster {
	if t == nil {
		return nil
	}
	return t.roster.Load()
}

func (t *Tracker) beginRosterLocked(s Settings) *Roster {
	t.rosters++
	t.numbered = t.elapsed()
	r := &Roster{tracker: t, settings: s, number: t.rosters}
	t.roster.Store(r)
	return r
}

// elapsed is the time by which silence is measured, in ms.
func (t *Tracker) elapsed() int64 { return t.opts.Elapsed().Milliseconds() }

// elect makes replica the elected one of c, unless another is, who has been heard meanwhile. ms is what elapsed returned.
func (t *Tracker) elect(c *cluster, replica string, ms int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := c.elected.Load()
	silent := ms - c.heard.Load()
	if old != nil && silent <= t.failover.Load() {
		return
	}
	next := &election{replica: replica}
	if old != nil {
		next.mark = t.opts.Now().UnixMilli()
		t.elections.Inc()
		t.opts.Logger.Info("another replica is elected", "cluster", c.name, "replica", replica, "before", old.replica,
			"silent_for", time.Duration(silent)*time.Millisecond)
	}
	c.heard.Store(ms)
	c.elected.Store(next)
	t.clusters[c.name] = c
	t.changes.Add(1)
}

// Keep returns once the elections so far are in the file; there is nothing to do most of the time. An election that cannot be
// written holds all the same, and is written with the next.
func (t *Tracker) Keep() {
	if t.kept.Load() == t.changes.Load() {
		return
	}
	t.keeping.Lock()
	defer t.keeping.Unlock()
	elections, changes := t.toKeep()
	if t.kept.Load() == changes {
		return // with those of another
	}
	if err := t.save(elections); err != nil {
		t.unsaved.Inc()
		t.opts.Logger.Error("elections of replicas are not kept: after a crash others may be elected", "err", err)
	}
	t.kept.Store(changes)
}

// fileName is that of the file in Dir.
const fileName = "elected.json"

// keptElection is a line of the file.
type keptElection struct {
	Cluster string `json:"cluster"`
	Replica string `json:"replica"`
	Mark    int64  `json:"mark"`
}

func (t *Tracker) load() error {
	name := path.Join(t.opts.Dir, fileName)
	data, err := fsx.ReadFile(t.opts.FS, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read who is elected: %w", err)
	}
	var kept []keptElection
	if err := json.Unmarshal(data, &kept); err != nil {
		t.opts.Logger.Error("it is not known any more which replicas were elected: whoever comes first will be", "file", name, "err", err)
		return nil
	}
	for _, k := range kept {
		c := t.newCluster(k.Cluster)
		c.elected.Store(&election{replica: k.Replica, mark: k.Mark})
		t.clusters[k.Cluster] = c
	}
	return nil
}

// toKeep returns who is elected, and after how many elections.
func (t *Tracker) toKeep() ([]keptElection, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := []keptElection{}
	for _, c := range t.clusters {
		if e := c.elected.Load(); e != nil {
			kept = append(kept, keptElection{c.name, e.replica, e.mark})
		}
	}
	return kept, t.changes.Load()
}

func (t *Tracker) save(kept []keptElection) error {
	slices.SortFunc(kept, func(a, b keptElection) int { return strings.Compare(a.Cluster, b.Cluster) })
	data, err := json.Marshal(kept)
	if err != nil {
		return fmt.Errorf("encode who is elected: %w", err)
	}
	if err := fsx.MakeDir(t.opts.FS, t.opts.Dir); err != nil {
		return fmt.Errorf("make the directory of who is elected: %w", err)
	}
	return fsx.Publish(t.opts.FS, path.Join(t.opts.Dir, fileName), func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}
