// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package push

import (
	"context"
	"errors"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Feed is where a Format puts what it reads.
type Feed struct {
	receiver *Receiver
	ctx      context.Context //nolint:containedctx // of the one call of Take that the Feed belongs to
	body     Body
	req      *ingest.Request
	scope    ingest.Key
	now      int64
	report   Report
	counted  Report // the part of report that metrics have
	labels   ingest.LabelBuilder

	buf        []byte
	start, end int // of buf: what is read and not yet taken
	eof        bool
	charged    int // bytes of buf that req is charged for
	skipping   bool
	lineNo     int // of the body, from 1

	piece []byte // the whole lines in hand, and what follows them
	at    int    // where in it the line in hand begins
	line  []byte
	marks []mark // one for each series of req
	rows  int    // of req

	unterminated bool // the line in hand
}

// mark is where a series of a request is named: the line that begins there, and its number in it.
type mark struct{ at, n uint32 }

// Key spaces. A Format's own begin at FirstProtocol; below it are those of other packages.
const (
	scopeSpace = 60
	// FirstProtocol is the first number a Format may hash with.
	FirstProtocol = 64
)

func (f *Feed) begin(r *Receiver, ctx context.Context, b Body) { //nolint:revive // The receiver comes before the context: this is its method in all but name.
	*f = Feed{buf: f.buf, marks: f.marks[:0]}
	f.receiver, f.ctx, f.body = r, ctx, b
	f.now = r.now().UnixMilli()
	f.req = r.intake.Begin()
	f.req.From(b.Format.Protocol(), b.Sender)
	if b.Scope == "" && len(b.Extra) == 0 {
		return
	}
	scope := make([]byte, 0, 256)
	for _, l := range b.Extra {
		scope = append(append(append(append(scope, l.Name...), 0xff), l.Value...), 0xff)
	}
	scope = append(append(scope, 0xfe), b.Scope...)
	f.scope = f.req.Hash(scopeSpace, scope)
}

// maxPooledBuffer is the largest buffer that is kept for the next body.
const maxPooledBuffer = 2 * pieceBytes

func (f *Feed) release() {
	f.req.Release()
	r := f.receiver
	if cap(f.buf) > maxPooledBuffer {
		f.buf = nil
	}
	if cap(f.marks) > maxPooledBuffer/8 {
		f.marks = nil
	}
	*f = Feed{buf: f.buf, marks: f.marks, labels: f.labels}
	r.feeds.Put(f)
}

// reopen begins the request of the next piece.
func (f *Feed) reopen() error {
	f.req.Release()
	f.req = f.receiver.intake.Begin()
	f.req.From(f.body.Format.Protocol(), f.body.Sender)
	f.marks, f.rows = f.marks[:0], 0
	n := f.charged
	f.charged = 0
	return f.charge(n)
}

// commit stores what the request holds.
func (f *Feed) commit() error {
	out, err := f.req.Commit(f.ctx, f.labelsOf)
	if err != nil {
		return err
	}
	f.report.add(&out)
	return nil
}

// Full reports whether there are as many rows as are committed at once.
func (f *Feed) Full() bool { return f.rows >= pieceRows }

// Flush commits what was read so far and forgets the series that were begun. A Format calls it where the Feed is full within
// a line, and begins its series again.
func (f *Feed) Flush() error {
	if err := f.commit(); err != nil {
		return err
	}
	return f.reopen()
}

// labelsOf builds the labels of a series of the request once more.
func (f *Feed) labelsOf(series int) (labels.Labels, error) {
	m := f.marks[series]
	rest := f.piece[m.at:]
	n := f.lineLength(rest)
	if n < 0 {
		return labels.EmptyLabels(), errors.New("a line that was read has no end any more")
	}
	return f.body.Format.Labels(f, f.trim(rest[:n]), int(m.n))
}

// Now returns the time of receipt, Unix milliseconds, for samples without one.
func (f *Feed) Now() int64 { return f.now }

// LineNumber returns the number of the line in hand.
func (f *Feed) LineNumber() int { return f.lineNo }

// Unterminated reports whether the line in hand is the last of its body and has no line break behind it, as where a sender
// was cut off.
func (f *Feed) Unterminated() bool { return f.unterminated }

// Hash returns the key of bytes that name a series, or part of its name.
func (f *Feed) Hash(protocol uint64, b []byte) ingest.Key { return f.req.Hash(protocol, b) }

// Join returns the key of what two keys name together. They are of different protocol numbers.
func Join(a, b ingest.Key) ingest.Key { return ingest.Key{Hi: a.Hi ^ b.Hi, Lo: a.Lo ^ b.Lo} }

// Begin begins the series with the number n of the line in hand; rows are added to the one that began last. An error is
// a *SyntaxError, or that of a request that has no room.
func (f *Feed) Begin(key ingest.Key, n int) error {
	key = Join(key, f.scope)
	if !f.req.Begin(key) {
		ls, err := f.body.Format.Labels(f, f.line, n)
		if err != nil {
			if bad, ok := errors.AsType[*ingest.LabelsError](err); ok {
				return Bad(-1, bad.Error())
			}
			return err
		}
		if err := f.req.Charge(int64(ls.ByteSize())); err != nil {
			return err
		}
		f.req.Define(key, ls)
	}
	f.marks = append(f.marks, mark{uint32(f.at), uint32(n)})
	return nil
}

// Float adds a row.
func (f *Feed) Float(t int64, v float64) { f.Started(0, t, v) }

// Started adds a row with a start timestamp, 0 for none.
func (f *Feed) Started(st, t int64, v float64) {
	f.rows++
	f.req.Float(st, t, v)
}

// Histogram adds a row; one of h and fh is nil.
func (f *Feed) Histogram(st, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) {
	f.rows++
	f.req.Histogram(st, t, h, fh)
}

// Exemplar adds an exemplar to the series that began last.
func (f *Feed) Exemplar(e sample.Exemplar) { f.req.Exemplar(e) }

// Metadata says what the series that began last is about. hash is that of m, and not 0.
func (f *Feed) Metadata(hash uint32, m func() sample.Metadata) {
	if !f.req.MetadataKnown(hash) {
		f.req.Metadata(m())
	}
}

// Charge reserves memory until the next Flush; see ingest.Request.
func (f *Feed) Charge(bytes int64) error { return f.req.Charge(bytes) }

// Skip counts values that are not stored because they are no numbers.
func (f *Feed) Skip(n int) { f.report.Skipped += n }

// ResetLabels begins a label set.
func (f *Feed) ResetLabels() { f.labels.Reset() }

// AddLabel adds a label, unless the body's own take its place. The bytes must stay as they are until Built.
func (f *Feed) AddLabel(name, value []byte) {
	if len(f.body.Extra) > 0 && slices.ContainsFunc(f.body.Extra, func(l labels.Label) bool { return l.Name == string(name) }) {
		return
	}
	f.labels.Add(name, value)
}

// Built returns the labels that were added, and the body's own.
func (f *Feed) Built() (labels.Labels, error) {
	for _, l := range f.body.Extra {
		f.labels.Add([]byte(l.Name), []byte(l.Value))
	}
	return f.labels.Labels()
}
