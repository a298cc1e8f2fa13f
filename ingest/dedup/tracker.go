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
// since then is not lost, and there is no gap. After a time in which nobody was heard, when the server was away, it has
// half a failover to come as well.
//
// At an election in the place of another the new replica's samples overlap those of the old one: its mark is the time of
// the election, and what it sends from before it is only to be stored behind what its series have. An election is kept in a
// file before its samples are stored; when each replica was last heard is not.
//
// A Tracker lives as long as the server, and is safe for concurrent use; it has no goroutines. To ask costs three atomic
// loads, an election one file. At most MaxReplicas are numbered; those not heard for an hour make room for others.
package dedup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
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
	numbered time.Time           // guarded by mu; when the last began
}

// cluster is the election of one.
type cluster struct {
	name     string
	elected  atomic.Pointer[election] // nil: nobody yet
	heard    atomic.Int64             // from the elected replica, Unix ms
	anybody  atomic.Int64             // from any, Unix ms
	failover *atomic.Int64
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
	t.numbered = t.opts.Now()
	r := &Roster{tracker: t, settings: s, number: t.rosters}
	t.roster.Store(r)
	return r
}

// elect makes replica the elected one of c, unless another is, who has been heard meanwhile.
func (t *Tracker) elect(c *cluster, replica string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := c.elected.Load()
	if old != nil && now.UnixMilli()-c.heard.Load() <= t.failover.Load() {
		return
	}
	next := &election{replica: replica}
	if old != nil {
		next.mark = now.UnixMilli()
		t.elections.Inc()
		t.opts.Logger.Info("another replica is elected", "cluster", c.name, "replica", replica, "before", old.replica,
			"silent_for", now.Sub(time.UnixMilli(c.heard.Load())).Round(time.Millisecond))
	}
	c.heard.Store(now.UnixMilli())
	c.elected.Store(next)
	t.clusters[c.name] = c
	if err := t.saveLocked(); err != nil {
		t.unsaved.Inc()
		t.opts.Logger.Error("an election of a replica is not kept: after a crash another may be elected", "cluster", c.name, "err", err)
	}
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
		c := &cluster{name: k.Cluster, failover: &t.failover}
		c.elected.Store(&election{replica: k.Replica, mark: k.Mark})
		t.clusters[k.Cluster] = c
	}
	return nil
}

func (t *Tracker) saveLocked() error {
	kept := []keptElection{}
	for _, c := range t.clusters {
		if e := c.elected.Load(); e != nil {
			kept = append(kept, keptElection{c.name, e.replica, e.mark})
		}
	}
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
