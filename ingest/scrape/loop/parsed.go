// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// parsed is a series of a body with its value, as a parser has it.
type parsed struct {
	p           textparse.Parser
	text        []byte
	isHistogram bool
	v           float64
	hist        histogramValue
	explicit    *int64 // its own time, nil for none
	labels      labels.Labels
	st          int64
	flags       sample.Flag
	origin      *origin // of synthesized start times, nil for none
	skip        bool    // it is the origin: there is nothing to store
}

// sample reads one series. An error is that of the scrape.
func (r *round) sample(x *parsed) error {
	r.total++
	if !r.set.honorTimes {
		x.explicit = nil
	}
	at, hash := r.place(x.text)
	known := at >= 0 && r.c.entries[at].flags&isRefused == 0
	if known && r.c.entries[at].flags&isDropped != 0 && r.isOut(at) {
		return nil
	}
	before := known && r.c.entries[at].seen == r.c.iter
	fresh := entry{hash: hash, size: uint32(len(x.text)), family: -1}
	if known {
		r.see(at)
	} else if drop, err := r.newLabels(x); err != nil {
		return err
	} else if drop != 0 {
		fresh.flags = drop
		r.isOut(r.enter(at, fresh))
		return nil
	}
	if before && x.explicit == nil {
		r.refused[sample.Conflict]++
		r.added++
		return nil
	}
	if x.isHistogram && x.hist.none() {
		return fmt.Errorf("the parser has no histogram for the series %s", x.labels)
	}
	if known && r.needsLabels(at, hash) {
		x.p.Labels(&x.labels)
		x.labels = r.set.seriesLabels(x.labels, r.end)
	}
	if r.set.parseStart {
		x.st = x.p.StartTimestamp() // from here on the parser may be further, and has no labels
	}
	if r.set.synthesize && x.st == 0 {
		r.synthesize(x, at, hash)
	}
	added, err := r.add(x, at, known, fresh)
	if err != nil {
		return err
	}
	if r.set.synthesize {
		r.keepOrigin(x, hash, known, added)
	}
	r.added++
	return nil
}

// isOut notes a series that is dropped, and reports whether it still is: one that is beyond a limit of labels is the
// error of the scrape when limits do not truncate any more.
func (r *round) isOut(at int32) bool {
	if e := &r.c.entries[at]; e.flags&isBeyond != 0 {
		if r.inSync = false; !r.truncate {
			e.flags = isRefused
			return false
		}
		r.beyond.labels++
	}
	r.see(at)
	return true
}

// needsLabels reports whether a series that is known has to be looked at again: it has no ref, or belongs to a family of
// which something has to be found out.
func (r *round) needsLabels(at int32, hash uint64) bool {
	switch {
	case r.c.entries[at].ref == 0, r.set.synthesize && r.c.origins[hash] == nil:
		return true
	}
	return r.set.passMetadata && r.describe && r.c.families.all[r.family].untold
}

// newLabels makes the labels of a series that is not known. It returns why there is nothing to store, if there is not.
func (r *round) newLabels(x *parsed) (drop entryFlag, err error) {
	x.p.Labels(&x.labels)
	x.labels = r.set.seriesLabels(x.labels, r.end)
	switch {
	case x.labels.IsEmpty():
		return isDropped, nil
	case !x.labels.Has(labels.MetricName):
		return 0, errNoName
	case !x.labels.IsValid(r.set.validation):
		return 0, fmt.Errorf("invalid metric name or label names: %s", x.labels)
	}
	err = r.set.labelLimits.check(x.labels)
	if err == nil {
		return 0, nil
	}
	if r.truncate {
		return isDropped | isBeyond, nil
	}
	r.m.labelLimits.Inc()
	return 0, err
}

// add adds the row of a series, and makes the series known. It reports whether the store will have it, as far as can be
// told now.
func (r *round) add(x *parsed, at int32, known bool, fresh entry) (added bool, err error) {
	var ref sample.Ref
	if known {
		if ref, err = r.knownRef(at); err != nil {
			return false, err
		}
	}
	tracked := x.explicit == nil || r.set.trackTimes || x.origin != nil
	if x.skip {
		if !known {
			r.begun(at, fresh)
		} else if tracked && ref != 0 {
			r.c.entries[at].flags |= hasSample
		}
		return true, nil
	}
	if ok, err := r.within(x); !ok {
		return false, err
	}
	if err := x.hist.validate(); err != nil {
		return false, err
	}
	t, ok, err := r.row(x, ref)
	if !ok {
		return false, err
	}
	wasRefused := !known && at >= 0
	if !known {
		if x.explicit == nil {
			fresh.flags |= isFresh
		}
		at = r.begun(at, fresh)
		r.c.entries[at].ref = r.req.Ref(r.req.Len() - 1)
	}
	r.where[len(r.where)-1] = at
	if tracked {
		r.c.entries[at].flags |= hasSample
	}
	r.addExemplars(x, t)
	if !wasRefused { // else it may be again: another series tells
		r.addMetadata(x, !known)
	}
	return true, nil
}

// knownRef returns the ref of a series that is known, 0 for one that the store has no sample of yet.
func (r *round) knownRef(at int32) (sample.Ref, error) {
	if r.c.entries[at].ref == 0 && r.uncertain {
		if err := r.resolve(); err != nil {
			return 0, err
		}
	}
	return r.c.entries[at].ref, nil
}

// row adds the row. One with a time of its own is taken back if the store would not have it; those of the scrape's time are
// asked for together, when all are there.
func (r *round) row(x *parsed, ref sample.Ref) (t int64, ok bool, err error) {
	t = r.t
	if x.explicit != nil {
		r.inSync = false // the next will have one too
		if t = *x.explicit; t > r.maxT {
			r.refused[sample.TooNew]++
			return t, false, nil
		}
	}
	if ref != 0 {
		r.req.Known(ref)
	} else {
		r.define(x.labels)
	}
	if x.hist.none() {
		r.req.Scrape(x.st, t, x.v, x.flags)
	} else {
		r.req.ScrapeHistogram(x.st, t, x.hist.h, x.hist.fh, x.flags)
	}
	r.where = append(r.where, noEntry) // until it is certain that there is one
	if err := r.req.Err(); err != nil {
		return t, false, err
	}
	if x.explicit == nil {
		return t, true, nil
	}
	i := r.req.Len() - 1
	if r.req.Ref(i) == 0 {
		if err := r.resolve(); err != nil {
			return t, false, err
		}
	}
	if reason := r.req.Foresee(i); !reason.Stored() && reason != sample.StaleRef { // those come back with the commit
		r.req.Refuse(reason, r.refused[reason] == 0)
		r.where = r.where[:i]
		r.refused[reason]++
		return t, false, nil
	}
	return t, true, nil
}

// begun makes a new series known.
func (r *round) begun(at int32, fresh entry) int32 {
	at = r.enter(at, fresh)
	if r.limitErr == nil && r.bucketErr == nil {
		r.fresh++
	}
	return at
}

// within applies the limits of samples and of buckets. What is above one of them is not stored.
func (r *round) within(x *parsed) (bool, error) {
	switch err := x.hist.bound(r.set.bucketLimit, r.set.maxSchema); {
	case errors.Is(err, errBucketLimit):
		if r.truncate {
			r.beyond.buckets++
			return false, nil
		}
		r.limited()
		r.bucketErr = err
		return false, nil
	case err != nil:
		return false, err
	}
	if r.set.sampleLimit == 0 {
		return true, nil
	}
	if r.counted++; r.counted <= r.set.sampleLimit {
		return true, nil
	}
	r.inSync = false // nor will the rest be stored
	if r.truncate {
		r.beyond.samples++
		return false, nil
	}
	r.limited()
	r.limitErr = errSampleLimit
	return false, nil
}

// limited notes that a limit is reached: what is new from here on does not count as added.
func (r *round) limited() {
	if r.limitErr == nil && r.bucketErr == nil {
		r.freshUntil = len(r.c.entries)
	}
}

// addExemplars adds the exemplars of a sample.
func (r *round) addExemplars(x *parsed, t int64) {
	r.exemplars = r.exemplars[:0]
	for {
		var e exemplar.Exemplar
		if !x.p.Exemplar(&e) {
			break
		}
		if !e.HasTs {
			if x.isHistogram {
				continue // those of a histogram could not be told apart by the next scrape
			}
			e.Ts = t
		}
		r.exemplars = append(r.exemplars, e)
	}
	slices.SortFunc(r.exemplars, exemplar.Compare)
	late := 0
	for _, e := range r.exemplars {
		y := sample.Exemplar{Labels: e.Labels, V: e.Value, T: e.Ts, HasT: e.HasTs}
		switch r.req.ForeseeExemplar(y) {
		case sample.Accepted:
			r.req.Exemplar(y)
		case sample.OutOfOrder:
			late++
		default:
		}
	}
	if late > 0 && late == len(r.exemplars) { // else it is an update of some of them
		r.lateExemplars += late
	}
}
