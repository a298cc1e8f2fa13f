// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/ingest/dedup"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// replicas is what a Request knows of the replicas that its series come from. Without deduplication the roster is nil.
//
// A series of a replica is known by the key of its label bytes, that of the replica included. What the key table has for
// it is the number of the replica in the roster and the ref, which all replicas of a cluster share; or no ref, as long as
// the replica was not elected. So neither whose a series is, nor that it is to be left out, needs its labels.
type replicas struct {
	roster    *dedup.Roster
	asked     []replica     // each is asked about once, so that a request is taken whole or not at all
	undecided *dedup.Sender // one that is to send again; nil: none
	leftOut   struct{ floats, histograms, exemplars int }

	// Of the series that began last:
	replica      // its replica, tag 0 where it has none
	leaves  bool // its rows are left out
	room    int  // that of the request, while its own is taken away so that rows go the slow way
}

// replica is one of those that a request has series of.
type replica struct {
	tag   uint16 // its number in the roster
	taken bool
	until int64 // rows up to then are only taken behind what their series have
}

// The key table has 64 bits for a ref. Of a generation it takes 20 bits: a slot that is used again every two hours needs
// 240 years for more. The number of the replica is above.
const (
	tagShift = 52
	refMask  = 1<<tagShift - 1
)

// nobody sends what is of no replica.
var nobody = replica{until: dedup.NoMark}

// beginReplicas takes the roster that holds for this request.
func (r *Request) beginReplicas(roster *dedup.Roster) {
	r.rep.roster, r.rep.replica = roster, nobody
}

// endReplicas forgets it.
func (r *Request) endReplicas() {
	r.rep = replicas{asked: r.rep.asked[:0]}
}

// salt keeps apart the keys of one roster from those of another, whose numbers mean others.
func (r *Request) salt() uint64 {
	if r.rep.roster == nil {
		return 0
	}
	return uint64(r.rep.roster.Number()) << 32
}

// beginTagged begins a series of which the key table has something, and reports whether that is enough.
func (r *Request) beginTagged(key Key, tagged sample.Ref, meta uint32) bool {
	tag, ref := uint16(tagged>>tagShift), tagged&refMask
	if tag == 0 {
		r.rep.replica = nobody
	} else if s := r.rep.roster.Sender(tag); s == nil || !r.sentBy(s) {
		r.leaveOut(series{key: key, tag: tag, known: true})
		return true
	}
	if ref == 0 {
		r.misses++ // it was not elected when it was seen first
		return false
	}
	r.push(series{key: key, ref: ref, tag: tag, known: true, oldMeta: meta})
	return true
}

// defineTagged begins a series by its labels; it returns those that it is to be stored by, or false where its rows are
// left out.
func (r *Request) defineTagged(key Key, ls labels.Labels) (labels.Labels, bool) {
	r.rep.replica = nobody
	s := r.rep.roster.Of(ls)
	if s == nil {
		return ls, true
	}
	if !r.sentBy(s) {
		r.leaveOut(series{key: key, tag: s.Tag()})
		return ls, false
	}
	return r.rep.roster.Strip(ls), true
}

// sentBy notes whose the series at hand is, and returns whether it is to be stored.
func (r *Request) sentBy(s *dedup.Sender) bool {
	p := &r.rep
	if p.tag == s.Tag() {
		return p.taken
	}
	for _, x := range p.asked {
		if x.tag == s.Tag() {
			p.replica = x
			return x.taken
		}
	}
	p.tag = s.Tag()
	var v dedup.Verdict
	v, p.until = s.Take()
	if p.taken = v == dedup.Taken; v == dedup.Undecided {
		p.undecided = s
	}
	p.asked = append(p.asked, p.replica)
	return p.taken
}

// leaveOut begins a series whose rows are counted and not stored.
func (r *Request) leaveOut(s series) {
	s.left = true
	r.push(s)
	r.rep.leaves, r.rep.room, r.room = true, r.room, 0
}

// goOn ends a series whose rows are left out.
func (r *Request) goOn() { r.rep.leaves, r.room = false, r.rep.room }

// undecided is the answer to a request with samples of a replica that may have to take the place of another: its sender
// keeps them until that is known.
func undecided(s *dedup.Sender) error {
	if s == nil {
		return nil
	}
	return &sample.UnavailableError{
		RetryAfter: retryElection,
		Err:        fmt.Errorf("replica %s may have to take the place of %s, which is silent: send again", s, s.Elected()),
	}
}

// retryElection is when the sender asks again.
const retryElection = 2 * time.Second

// recheck leaves out the rows of replicas that are not elected any more: another may have been while this request was
// read, or waited. Where that one is silent now, the request is to be sent again as any other of its replica.
func (r *Request) recheck() error {
	var gone []uint16
	for _, x := range r.rep.asked {
		if x.taken {
			s := r.rep.roster.Sender(x.tag)
			switch v, _ := s.Take(); v {
			case dedup.Undecided:
				return undecided(s)
			case dedup.LeftOut:
				gone = append(gone, x.tag)
			case dedup.Taken:
			}
		}
	}
	if len(r.rep.asked) > 0 {
		r.in.replicas.Keep()
	}
	if len(gone) == 0 {
		return nil
	}
	for i := range r.series {
		s := &r.series[i]
		if s.left || s.tag == 0 || !slices.Contains(gone, s.tag) {
			continue
		}
		lo, hi := r.rows(i)
		for row := lo; row < hi; row++ {
			r.batch.Ref[row] = 0
			if r.batch.KindAt(int(row)) == sample.Float {
				r.rep.leftOut.floats++
			} else {
				r.rep.leftOut.histograms++
			}
		}
		for e := s.exemplar; e < r.exemplarEnd(i); e++ {
			r.batch.Exemplars[e].Ref = 0
			r.rep.leftOut.exemplars++
		}
		s.ref, s.left, s.known, s.hasMeta = 0, true, true, false // the key table stays as it is
	}
	r.dropHomeless()
	return nil
}

// settleOverlaps takes the rows that are not stored, because the replica before had sent as much already, for stored: they
// are what the elected one of their time sent.
func (r *Request) settleOverlaps() {
	if len(r.rep.asked) == 0 {
		return
	}
	for row, reason := range r.result.Reason {
		if reason != sample.OutOfOrder && reason != sample.Conflict || r.batch.FlagsAt(row)&sample.RejectOutOfOrder == 0 ||
			r.series[r.seriesOfRow(row)].tag == 0 {
			continue
		}
		r.result.Reason[row] = sample.Same
		if r.batch.KindAt(row) == sample.Float {
			r.result.Floats++
		} else {
			r.result.Histograms++
		}
	}
}

// countLeftOut counts what is not stored because that of another replica is.
func (r *Request) countLeftOut(out *Outcome) {
	n := &r.rep.leftOut
	out.Floats, out.Histograms, out.Exemplars = out.Floats+n.floats, out.Histograms+n.histograms, out.Exemplars+n.exemplars
	if rows := n.floats + n.histograms; rows > 0 {
		r.in.metrics.leftOut.Add(float64(rows))
	}
}

// tagged returns what the key table is to have of a series, 0 for nothing.
func (s *series) tagged() sample.Ref {
	if s.tag == 0 {
		return s.ref
	}
	if s.ref > refMask {
		return 0
	}
	return sample.Ref(s.tag)<<tagShift | s.ref
}

// stripped returns the labels of series as they are stored.
func (r *Request) stripped(labelsOf LabelsOf) LabelsOf {
	if r.rep.roster == nil {
		return labelsOf
	}
	return func(i int) (labels.Labels, error) {
		ls, err := labelsOf(i)
		if err == nil && r.series[i].tag != 0 {
			ls = r.rep.roster.Strip(ls)
		}
		return ls, err
	}
}

// flagsAt returns the flags of a row that was pushed.
func (r *Request) flagsAt(t int64) sample.Flag {
	if t > r.rep.until {
		return 0
	}
	return sample.RejectOutOfOrder
}
