// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Request gathers the rows of one request. Series are numbered in the order in which they begin; rows belong to the
// series that began last.
type Request struct {
	in      *Intake
	batch   sample.Batch
	result  sample.Result
	series  []series
	unknown []int32         // series whose labels the key table did not know
	labels  []labels.Labels // of the unknown ones
	refs    []sample.Ref
	asked   int              // so many of the unknown ones are made where they do not exist; the others are looked for only
	refused []sample.Refusal // of labels, in order
	dropped []Problem
	retry   retry
	misses  int
	charged int64 // bytes reserved from the Intake's account
	forced  int64 // likewise since it is exempt
	exempt  bool
	room    int   // rows that the charge covers
	places  int   // likewise series
	err     error // the first refused charge
	rep     replicas

	protocol, sender string // for examples of what is not stored
}

// series is one time series of a request; a store's series may occur more than once.
type series struct {
	key      Key
	ref      sample.Ref
	row      int32 // its first row; its last is before the next series' first
	exemplar int32 // likewise for exemplars
	known    bool
	hasMeta  bool
	left     bool   // its rows are left out, because another replica's are stored
	tag      uint16 // of the replica that sends it, 0 for none
	oldMeta  uint32 // hash of the metadata stored last
	newMeta  uint32
}

// maxPooledRows bounds what an idle Request keeps: 10,000 rows take about 0.5 MB.
const maxPooledRows = 10_000

// Release gives the request back. It must not be used any more.
func (r *Request) Release() {
	r.in.requests.Release(r.charged)
	r.in.forced.Release(r.forced)
	if cap(r.series) > maxPooledRows || cap(r.batch.Ref) > maxPooledRows {
		return
	}
	r.batch.Reset()
	r.retry.batch.Reset()
	clear(r.labels)
	clear(r.dropped)
	r.series, r.unknown, r.labels, r.dropped = r.series[:0], r.unknown[:0], r.labels[:0], r.dropped[:0]
	r.misses, r.charged, r.room, r.places, r.err = 0, 0, 0, 0, nil
	r.forced, r.exempt = 0, false
	r.endReplicas()
	r.protocol, r.sender = "", ""
	r.in.pool.Put(r)
}

// TooLargeError says that a request takes more memory than there is for all requests together: to send it again is of
// no use, to send it in parts is.
type TooLargeError struct {
	Bytes, Limit int64
	err          error // the refused charge
}

// Error says how much is too much.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the request takes more than %d bytes of memory, all requests together may take %d: send fewer samples per request", e.Bytes, e.Limit)
}

// Unwrap returns the *budget.ExceededError.
func (e *TooLargeError) Unwrap() error { return e.err }

// Charge reserves memory that the request takes until its Release, before it is allocated. Once it is refused the
// request cannot be committed any more.
func (r *Request) Charge(bytes int64) error {
	if r.err != nil {
		return r.err
	}
	if r.exempt {
		if err := r.in.forced.Reserve(bytes); err != nil {
			return err
		}
		r.forced += bytes
		return nil
	}
	err := r.in.requests.Reserve(bytes)
	if err == nil {
		r.charged += bytes
		return nil
	}
	if e, ok := errors.AsType[*budget.ExceededError](err); ok && r.charged+bytes > e.Limit {
		err = &TooLargeError{Bytes: r.charged + bytes, Limit: e.Limit, err: err}
	}
	r.err = err
	return err
}

// Err returns the first refused charge. A receiver asks now and then, so that it does not read the rest in vain.
func (r *Request) Err() error { return r.err }

// A row takes 24 bytes and up to twice that while its columns grow; a series 48, and 24 of what its receiver knows of it.
// Both are charged before there is room for more, for as many again as there are.
const (
	rowBytes    = 64
	fewRows     = 256
	seriesBytes = 160
	fewSeries   = 64
	// setBytes is what a label set, an exemplar or metadata takes beside its text, while their columns grow.
	setBytes = 200
)

// count makes sure that the next row is charged, and reports whether it may be added.
func (r *Request) count() bool {
	if len(r.batch.Ref) < r.room {
		return true
	}
	if r.rep.leaves {
		return false
	}
	more := max(fewRows, r.room)
	if r.Charge(int64(more)*rowBytes) != nil {
		return false
	}
	r.room += more
	return true
}

// Hash returns the key of label bytes; see KeyTable.Hash.
func (r *Request) Hash(protocol uint64, labels []byte) Key {
	return r.in.keys.Hash(protocol+r.salt(), labels)
}

// Ahead says that these keys will be begun next; it is faster to look them up together.
func (r *Request) Ahead(keys []Key) { r.in.keys.Ahead(keys) }

// Begin begins a series and reports whether the key is known. If it is not, the caller goes on with Define, or
// with Drop.
func (r *Request) Begin(key Key) bool {
	ref, meta := r.in.keys.Get(key)
	if ref == 0 {
		r.misses++
		return false
	}
	if r.rep.roster != nil {
		return r.beginTagged(key, ref, meta)
	}
	r.push(series{key: key, ref: ref, known: true, oldMeta: meta})
	return true
}

// Define begins a series that is not known by its labels, which are valid. One without a key, as a scrape's is, is of no
// replica.
func (r *Request) Define(key Key, ls labels.Labels) {
	if r.rep.roster != nil && key != (Key{}) {
		var ok bool
		if ls, ok = r.defineTagged(key, ls); !ok {
			return
		}
	}
	if r.Charge(int64(ls.ByteSize())+setBytes) == nil {
		r.unknown = append(r.unknown, int32(len(r.series))) // an int32 holds it: a request has fewer bytes
		r.labels = append(r.labels, ls)
	}
	r.push(series{key: key, tag: r.rep.tag})
}

// Drop counts rows that cannot be stored. what names the kind of mistake; first describes this one and is called
// only for the first of its kind.
func (r *Request) Drop(rows int, what string, first func() string) {
	text := ""
	r.dropped = addProblem(r.dropped, what, rows, func() string {
		text = first()
		return text
	})
	switch {
	case text != "":
		r.reject(what, rows, Example{Detail: text})
	case rows > 0:
		r.in.rejected.count(what, rows)
	}
	r.in.metrics.invalid.Add(float64(rows))
}

func (r *Request) push(s series) {
	if r.rep.leaves {
		r.goOn()
	}
	if len(r.series) == r.places {
		more := max(fewSeries, r.places)
		if r.Charge(int64(more)*seriesBytes) != nil && r.places > 0 {
			r.series = r.series[:r.places-1] // nothing of the request is stored any more
		} else {
			r.places += more
		}
	}
	s.row, s.exemplar = int32(len(r.batch.Ref)), int32(len(r.batch.Exemplars))
	r.series = append(r.series, s)
}

// Float adds a row; st is 0 for none.
func (r *Request) Float(st, t int64, v float64) {
	switch {
	case r.count():
		r.batch.AppendFloat(r.last().ref, st, t, v, r.flagsAt(t))
	case r.rep.leaves:
		r.rep.leftOut.floats++
	}
}

// Histogram adds a row; one of h and fh is nil. The histogram must not change any more.
func (r *Request) Histogram(st, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) {
	switch {
	case r.count():
		r.batch.AppendHistogram(r.last().ref, st, t, h, fh, r.flagsAt(t))
	case r.rep.leaves:
		r.rep.leftOut.histograms++
	}
}

// Exemplar adds an exemplar; its Ref is filled in.
func (r *Request) Exemplar(e sample.Exemplar) {
	if r.rep.leaves {
		r.rep.leftOut.exemplars++
		return
	}
	if r.Charge(int64(e.Labels.ByteSize())+setBytes) != nil {
		return
	}
	e.Ref = r.last().ref
	r.batch.Exemplars = append(r.batch.Exemplars, e)
}

// MetadataKnown notes that the series' metadata has this hash, which is not 0, and reports whether that is what
// was stored last, so that the caller need not add it.
func (r *Request) MetadataKnown(hash uint32) bool {
	s := r.last()
	if s.left {
		return true
	}
	s.hasMeta, s.newMeta = true, hash
	return s.oldMeta == hash
}

// Metadata adds the metadata of the series; its Ref is filled in.
func (r *Request) Metadata(m sample.Metadata) {
	if r.rep.leaves || r.Charge(int64(len(m.Type)+len(m.Unit)+len(m.Help))+setBytes) != nil {
		return
	}
	m.Ref = sample.Ref(len(r.series) - 1) // the position, until resolve puts the ref in its place
	r.batch.Meta = append(r.batch.Meta, m)
}

func (r *Request) last() *series { return &r.series[len(r.series)-1] }

// LabelsOf returns the labels of a series that was begun; a receiver parses them from the wire once more.
type LabelsOf func(series int) (labels.Labels, error)

// Commit stores the rows and returns once they are durable. An error means that the request as a whole may be sent
// again; what a sender did wrong is in the Outcome.
func (r *Request) Commit(ctx context.Context, labelsOf LabelsOf) (Outcome, error) {
	if r.err != nil {
		return Outcome{}, fmt.Errorf("take a request in: %w", r.err)
	}
	if err := undecided(r.rep.undecided); err != nil {
		return Outcome{}, err
	}
	m := r.in.metrics
	m.lookups.Add(float64(len(r.series) - len(r.unknown) + r.misses))
	m.misses.Add(float64(r.misses))
	out := Outcome{Rows: r.batch.Len() + r.rep.leftOut.floats + r.rep.leftOut.histograms, Problems: slices.Clone(r.dropped)}
	out.Rows += out.Rejected()
	if err := r.resolve(&out); err != nil {
		return Outcome{}, err
	}
	labelsOf = r.stripped(labelsOf)
	if err := r.recheck(); err != nil {
		return Outcome{}, err
	}
	if r.batch.Len() == 0 && len(r.batch.Exemplars) == 0 && len(r.batch.Meta) == 0 {
		r.countLeftOut(&out)
		r.remember()
		return out, nil
	}
	lsn, err := r.in.appender.Commit(ctx, &r.batch, &r.result)
	if err != nil {
		return Outcome{}, fmt.Errorf("commit a request: %w", err)
	}
	again, err := r.commitStale(ctx, labelsOf)
	if err != nil {
		return Outcome{}, err
	}
	r.countLost(&out)
	r.settleOverlaps()
	if n := r.tally(&out, labelsOf); n > 0 {
		return Outcome{}, &sample.UnavailableError{
			Condition: "memory_pressure", RetryAfter: retryAfter,
			Err: fmt.Errorf("no memory for %d of %d samples of known series", n, out.Rows),
		}
	}
	if err := r.in.appender.Durable(ctx, max(lsn, again)); err != nil {
		return Outcome{}, fmt.Errorf("wait until a request is durable: %w", err)
	}
	r.countLeftOut(&out)
	r.remember()
	return out, nil
}

// resolve finds or creates the series that are not known. New series for which there is no memory, or which a series limit
// refuses, lose their rows; every other mistake is that of the whole request.
func (r *Request) resolve(out *Outcome) error {
	if err := r.resolveUnknown(); err != nil {
		return fmt.Errorf("resolve the series of a request: %w", err)
	}
	homeless := -1
	for i, at := range r.unknown {
		s := &r.series[at]
		s.ref = r.refs[i]
		lo, hi := r.rows(int(at))
		for row := lo; row < hi; row++ {
			r.batch.Ref[row] = s.ref
		}
		for e := s.exemplar; e < r.exemplarEnd(int(at)); e++ {
			r.batch.Exemplars[e].Ref = s.ref
		}
		if s.ref == 0 {
			if homeless < 0 || int(at) < homeless {
				homeless = int(at)
			}
			if i < r.asked {
				r.addHomeless(out, i, int(hi-lo))
			}
		}
	}
	for i := range r.batch.Meta {
		r.batch.Meta[i].Ref = r.series[r.batch.Meta[i].Ref].ref
	}
	if homeless >= 0 {
		r.dropHomelessFrom(homeless)
	}
	return nil
}

// rows returns the first row of a series and the one after its last.
func (r *Request) rows(i int) (lo, hi int32) {
	if i+1 < len(r.series) {
		return r.series[i].row, r.series[i+1].row
	}
	return r.series[i].row, int32(len(r.batch.Ref))
}

func (r *Request) exemplarEnd(i int) int32 {
	if i+1 < len(r.series) {
		return r.series[i+1].exemplar
	}
	return int32(len(r.batch.Exemplars))
}

// seriesOfRow returns the series that a row belongs to: the last one that begins at or before it.
func (r *Request) seriesOfRow(row int) int {
	return sort.Search(len(r.series), func(i int) bool { return int(r.series[i].row) > row }) - 1
}

// retryAfter is how long a sender waits for memory: the head seals and spills within seconds.
const retryAfter = 5 * time.Second

// tally counts what became of the rows. It returns how many had no room: nothing is wrong with those.
func (r *Request) tally(out *Outcome, labelsOf LabelsOf) (overLimit int) {
	out.Floats, out.Histograms = out.Floats+r.result.Floats, out.Histograms+r.result.Histograms
	out.Exemplars += r.result.Exemplars
	counts, first := r.fates()
	for i, n := range counts {
		reason := sample.Reason(i)
		if n == 0 || reason == sample.StaleRef { // those are counted as what there is no series for
			continue
		}
		r.in.metrics.byReason[reason].Add(float64(n))
		if reason.Stored() || reason == sample.OverLimit {
			continue
		}
		e := r.rejectRows(reason, n, first[i], labelsOf)
		out.add(reasonText[reason], n, func() string {
			if e.Detail != "" {
				return e.Detail
			}
			return show(e.Labels) + " at " + at(e.Time.UnixMilli())
		})
	}
	r.in.metrics.exemplars.Add(float64(r.result.Exemplars))
	return counts[sample.OverLimit]
}

// remember puts what was learned into the key table.
func (r *Request) remember() {
	for i := range r.series {
		s := &r.series[i]
		meta := s.oldMeta
		if s.hasMeta {
			meta = s.newMeta
		}
		if tagged := s.tagged(); tagged != 0 && (!s.known || meta != s.oldMeta) {
			r.in.keys.Put(s.key, tagged, meta)
		}
	}
}
