// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"math"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// round is one scrape on its way into the storage: rows are added to a request in the order of the body, what the cache
// does not know is resolved, and after the commit the cache hears what became of the rows.
//
// The cache is the one that Prometheus would have after each step, where a scrape fails too: what a failed body had before
// its mistake is known from then on, and counts as there when markers are written.
type round struct {
	set      *settings
	end      *endpoint
	c        *cache
	m        *metrics
	told     *told
	truncate bool

	req         *ingest.Request
	where       []int32 // the entry of each series of req
	resolved    int     // the series before it have their refs, as far as they get any
	firstReport int     // the first series of req that reports
	t           int64   // of samples without a time of their own
	maxT        int64   // later ones are out of bounds

	cursor   int     // the entry that is expected next
	prefix   int     // so many entries were in order from the first on,
	order    []int32 // and then came these
	deviated bool
	inSync   bool // the series that was read last was where it is expected
	places   places

	family   int32 // that was described last, -1 for none
	typ      familyType
	describe bool // the series that follow may be of that family
	look     bool // the store has to be told of it
	news     []news

	total, added, fresh int
	counted             int  // samples that count against the limit
	uncertain           bool // there are series without a ref, of which nobody knows whether the store will take them
	freshUntil          int  // series from this entry on do not count as added: a limit was reached before; 0: none was
	limitErr, bucketErr error
	refused             [sample.Reasons]int
	lateExemplars       int
	beyond              beyond
	exemplars           []exemplar.Exemplar
	buf                 []byte
}

// beyond counts what a truncated scrape left out, by limit.
type beyond struct{ samples, labels, buckets int }

// maxAhead is how far in the future a target may date its samples.
const maxAhead = 10 * time.Minute

// noEntry is in place of an entry for series of a request that have none: markers and reports.
const noEntry = -1

// begin makes r a round of a target.
func (r *round) begin(l *Loop, req *ingest.Request, at time.Time) {
	*r = round{
		set: &l.set, end: l.end, c: l.cache, m: l.pool.metrics, told: l.pool.told, truncate: l.pool.truncate.Load(), req: req,
		t: at.UnixMilli(), maxT: time.Now().Add(maxAhead).UnixMilli(), family: -1, firstReport: math.MaxInt,
		news: r.news[:0], where: r.where[:0], order: r.order[:0], places: places{r.places.slots[:0]}, exemplars: r.exemplars[:0], buf: r.buf[:0],
	}
	req.From("scrape", l.end.target.URL().String())
}

// ended lets go of what the round need not keep for the next.
func (r *round) ended() {
	const most = 4 << 20
	if cap(r.buf) > most {
		r.buf = nil
	}
	r.req, r.c, r.set, r.end = nil, nil, nil, nil
}

// again makes r a round of the same scrape without what was read, after that was found to be wrong.
func (r *round) again(req *ingest.Request) {
	r.req, r.where, r.resolved = req, r.where[:0], 0
	r.limitErr, r.bucketErr = nil, nil
	r.untell()
}

// markStale adds a marker for every series that is gone.
func (r *round) markStale() {
	r.c.eachGone(func(ref sample.Ref) {
		r.req.Known(ref)
		r.where = append(r.where, noEntry)
		r.req.Scrape(0, r.t, math.Float64frombits(value.StaleNaN), sample.RejectOutOfOrder)
	})
}

// define begins a series that has no ref.
func (r *round) define(ls labels.Labels) {
	r.req.Define(ingest.Key{}, ls)
	r.uncertain = true
}

// resolve lets the series that are new have their refs, and the cache know them.
func (r *round) resolve() error {
	err := r.req.Resolve()
	if r.req.Err() != nil {
		return err // the request lacks series, so that where does not tell whose they are
	}
	for i := r.resolved; i < len(r.where); i++ {
		if r.where[i] == noEntry {
			continue
		}
		if e := &r.c.entries[r.where[i]]; e.ref == 0 {
			e.ref = r.req.Ref(i)
		}
	}
	r.resolved = max(len(r.where)-1, 0) // whose the last one is may not be known yet
	return err
}

// foresee resolves what is new, and takes back what the store will refuse: a target's series count as added, and are
// known, when the store has a sample of them.
func (r *round) foresee() error {
	if !r.uncertain {
		return nil
	}
	r.uncertain = false
	err := r.resolve()
	for i, at := range r.where {
		if at == noEntry {
			continue
		}
		e := &r.c.entries[at]
		if e.flags&isFresh == 0 {
			continue
		}
		e.flags &^= isFresh
		if e.ref == 0 || err == nil && !r.req.Foresee(i).Stored() {
			r.takeBack(at)
		}
	}
	return err
}

// takeBack takes back an entry that was new in this round.
func (r *round) takeBack(at int32) {
	e := &r.c.entries[at]
	e.flags = e.flags&^(isFresh|hasSample) | isRefused
	if r.freshUntil == 0 || int(at) < r.freshUntil {
		r.fresh--
	}
}

// settle tells the cache what became of the rows, once they are committed.
func (r *round) settle() {
	for i, at := range r.where {
		if at == noEntry {
			continue // markers and reports of a target that has come back may be too late
		}
		e := &r.c.entries[at]
		e.ref = r.req.Ref(i)
		if fate := r.req.Fate(i); !fate.Stored() {
			e.flags &^= hasSample
			if fate != sample.OverLimit || e.flags&isRefused == 0 { // those of series limits are counted there
				r.refused[fate]++
			}
		}
	}
	r.settleNews()
}

// finish ends a scrape. A good one forgets what was not in it, and keeps the order of what was.
func (r *round) finish(good bool) {
	c := r.c
	c.families.ended()
	switch {
	case good:
		if r.deviated {
			c.keep(r.prefix, r.order)
		} else if r.cursor < len(c.entries) {
			c.keep(r.cursor, nil)
		}
		r.forgetFamilies()
		c.good = c.size()
	case c.size() > 2*c.good+1000:
		// A target whose scrapes fail with other series each time must not fill the memory.
		r.m.cacheFlushForced.Inc()
		c.forget()
		r.forgetFamilies()
	default:
		c.dropComments()
	}
	c.next()
}

func (r *round) forgetFamilies() {
	moved := r.c.families.forget(r.c.iter)
	if moved == nil {
		return
	}
	for i := range r.c.entries {
		if e := &r.c.entries[i]; e.flags&isComment != 0 && e.family >= 0 {
			e.family = moved[e.family]
		}
	}
}
