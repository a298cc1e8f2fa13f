// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package dedup

import (
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// MaxReplicas is how many replicas a roster numbers: from 1 to it.
const MaxReplicas = 1<<12 - 1

// idleAfter is how long after it was last heard a replica need not have a number, nor a cluster be known, where there is
// no room for another.
const idleAfter = time.Hour

// maxNameBytes is how long the names of a replica and of its cluster may be, all of which are kept.
const maxNameBytes = 1 << 10

// Roster is a numbering of replicas. One number means one replica as long as somebody holds the Roster.
type Roster struct {
	tracker  *Tracker
	settings Settings
	number   uint32
	senders  [MaxReplicas + 1]atomic.Pointer[Sender]
	byName   map[[2]string]*Sender // guarded by the tracker's mu
}

// Sender is a replica of a cluster.
type Sender struct {
	tag     uint16
	tracker *Tracker
	cluster *cluster
	replica string
}

// Number tells a Roster from every other of the process; it is above 0.
func (r *Roster) Number() uint32 { return r.number }

// Sender returns the replica with a number that this roster gave it.
func (r *Roster) Sender(tag uint16) *Sender { return r.senders[tag&MaxReplicas].Load() }

// Of returns the replica that labels name, nil where they lack one of the two labels, or where there are more replicas than
// are told apart, or its names are too long to be kept: their samples are to be taken as they are.
func (r *Roster) Of(ls labels.Labels) *Sender {
	name := [2]string{ls.Get(r.settings.ClusterLabel), ls.Get(r.settings.ReplicaLabel)}
	if name[0] == "" || name[1] == "" {
		return nil
	}
	t := r.tracker
	if max(len(name[0]), len(name[1])) > maxNameBytes {
		t.crowded.Inc()
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := r.byName[name]; s != nil {
		return s
	}
	if len(r.byName) >= MaxReplicas {
		t.crowded.Inc()
		if now := t.elapsed(); t.roster.Load() == r && now-t.numbered > idleAfter.Milliseconds() {
			t.beginRosterLocked(r.settings) // for who comes next
			t.forgetLocked(now)
		}
		return nil
	}
	return r.addLocked(name)
}

func (r *Roster) addLocked(name [2]string) *Sender {
	t := r.tracker
	c := t.clusters[name[0]]
	if c == nil {
		c = t.newCluster(strings.Clone(name[0]))
		t.clusters[c.name] = c
	}
	if r.byName == nil {
		r.byName = map[[2]string]*Sender{}
	}
	s := &Sender{tag: uint16(len(r.byName) + 1), tracker: t, cluster: c, replica: strings.Clone(name[1])}
	r.senders[s.tag].Store(s)
	r.byName[[2]string{c.name, s.replica}] = s
	return s
}

// forgetLocked forgets the clusters of which nobody was heard for long.
func (t *Tracker) forgetLocked(now int64) {
	for name, c := range t.clusters {
		if now-c.anybody.Load() > idleAfter.Milliseconds() {
			delete(t.clusters, name)
		}
	}
}

// Strip returns labels without that of the replica.
func (r *Roster) Strip(ls labels.Labels) labels.Labels {
	return labels.NewBuilder(ls).Del(r.settings.ReplicaLabel).Labels()
}

// Tag returns the number of the replica.
func (s *Sender) Tag() uint16 { return s.tag }

// NoMark is the mark of an election in nobody's place.
const NoMark = math.MinInt64

// Verdict is what becomes of the samples of a replica.
type Verdict uint8

// The verdicts.
const (
	LeftOut   Verdict = iota // another replica is elected
	Taken                    // it is elected
	Undecided                // the elected one has been silent for so long that it may have ended: to be sent again
)

// Take says that the replica sends, and returns what is to become of that. What is taken up to mark, in Unix ms, is to be
// stored only where its series has nothing as new. What is taken is not to be stored before Keep.
func (s *Sender) Take() (v Verdict, mark int64) {
	c, ms := s.cluster, s.tracker.elapsed()
	c.noteContact(ms)
	e := c.elected.Load()
	if e != nil && e.replica != s.replica {
		switch silent := ms - c.heard.Load(); {
		case silent > c.failover.Load():
		case silent >= c.doubt():
			return Undecided, NoMark
		default:
			return LeftOut, NoMark
		}
	}
	if e == nil || e.replica != s.replica {
		s.tracker.elect(c, s.replica, ms)
		if e = c.elected.Load(); e.replica != s.replica {
			return LeftOut, NoMark
		}
	}
	raise(&c.heard, ms)
	c.excused.Store(false)
	if e.mark == 0 {
		return Taken, NoMark
	}
	return Taken, e.mark
}

// Elected returns the name of the replica that is elected in the cluster of s.
func (s *Sender) Elected() string {
	if e := s.cluster.elected.Load(); e != nil {
		return e.replica
	}
	return ""
}

// String names the replica and its cluster.
func (s *Sender) String() string { return s.replica + " of " + s.cluster.name }

// noteContact notes that some replica sends. Where none did for a while it was this server that was away, or the way to
// it: the elected one is given the time to come too, for the other may not have been there all the while. That is once: one
// that has ended does not stay elected because the other sends seldom.
func (c *cluster) noteContact(ms int64) {
	if before := c.anybody.Load(); ms-before > c.doubt() && c.excused.CompareAndSwap(false, true) {
		raise(&c.heard, ms-c.doubt())
	}
	raise(&c.anybody, ms)
}

// doubt is for how long an elected replica may be silent before the others are told to wait, in ms.
func (c *cluster) doubt() int64 { return c.failover.Load() / 2 }

// raise makes v at least ms.
func raise(v *atomic.Int64, ms int64) {
	for {
		old := v.Load()
		if ms <= old || v.CompareAndSwap(old, ms) {
			return
		}
	}
}
