// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package push takes in bodies of lines: what InfluxDB's, Graphite's and other clients send. It knows no protocol. A
// protocol is a Format, in a package below this one, which reads one line at a time into the Feed that it is given.
//
// A Receiver takes a Body in pieces of about 1 MiB of whole lines. Every piece is one request of package ingest,
// committed and durable before the next one is read, so that a body of any length takes the memory of one piece, and
// a sender that is cut off has lost nothing that was stored before. A line that cannot be read is counted, its number,
// position and reason are in the Report, and the lines around it are stored.
//
// The bytes that name a series on the wire are hashed and looked up; only where they are not known does a Format make
// labels of them. Nothing is allocated for a sample of a known series.
//
// A Receiver is safe for concurrent use and starts no goroutines; a Feed belongs to one call of Take.
package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/ingest"
)

// Options of a Receiver. Intake is required.
type Options struct {
	Intake     *ingest.Intake
	Registerer prometheus.Registerer // nil: no metrics are registered
}

// Receiver takes bodies in.
type Receiver struct {
	intake  *ingest.Intake
	lines   *prometheus.CounterVec // by protocol
	bad     *prometheus.CounterVec
	skipped *prometheus.CounterVec
	feeds   sync.Pool
	now     func() time.Time
}

// New returns a Receiver.
func New(o Options) (*Receiver, error) {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tidemark_push_" + name, Help: help}, []string{"protocol"})
	}
	r := &Receiver{
		intake:  o.Intake,
		lines:   counter("lines_total", "Lines received by push protocols."),
		bad:     counter("malformed_lines_total", "Lines received by push protocols that could not be read."),
		skipped: counter("skipped_values_total", "Values received by push protocols that are no numbers and are not stored."),
		now:     time.Now,
	}
	if o.Registerer != nil {
		for _, c := range []prometheus.Collector{r.lines, r.bad, r.skipped} {
			if err := o.Registerer.Register(c); err != nil {
				return nil, fmt.Errorf("register the metrics of push protocols: %w", err)
			}
		}
	}
	r.feeds.New = func() any { return &Feed{} }
	return r, nil
}

// Format reads the lines of one protocol. It may keep state from line to line of one body.
type Format interface {
	// Protocol names it in metrics.
	Protocol() string
	// End returns where the line ends that data begins with: the index of its line break, or len(data) where last says
	// that there is no more. It is negative where data does not reach to the end of the line.
	End(data []byte, last bool) int
	// Line reads one line, without its break, and adds its rows. A *SyntaxError means that the line is left out; any
	// other error ends the body.
	Line(f *Feed, line []byte) error
	// Labels builds the labels of the series that Line began with the number n.
	Labels(f *Feed, line []byte, n int) (labels.Labels, error)
}

// Body is what one sender has to say.
type Body struct {
	Format Format
	Reader io.Reader
	// Deadline sets the time by which Reader is to return; nil: it has none. A piece may take Idle to arrive, 0: 2 minutes.
	Deadline func(time.Time) error
	Idle     time.Duration
	// Live says that Reader can be read on after its deadline, and that nobody waits for an answer: lines are stored also
	// where nothing follows them.
	Live bool
	// Linger is for how long lines wait for others to be stored with; 0: a second.
	Linger time.Duration
	// Note is told about each piece of a live body of which something was not stored; nil: nobody is.
	Note func(Report)
	// Patient, where it is set, is asked what to do about a piece that could not be stored: true tries it again.
	Patient func(error) bool
	// MaxLine is how long a line may be; 0: DefaultMaxLine.
	MaxLine int
	// Whole says that the body is no lines but one text: Format.Line is given all of it.
	Whole bool
	// Extra are labels that every series gets, in the place of those of the same names that it has.
	Extra []labels.Label
	// Sender is the address that the body comes from, for the examples of what is not stored of it.
	Sender string
	// Scope is told apart from others: the same line in bodies of different scopes means different series. It holds
	// whatever the Format's labels depend on beside the line.
	Scope string
}

const (
	// DefaultMaxLine is more than any client of a line protocol writes in one line.
	DefaultMaxLine = 256 << 10
	// pieceBytes and pieceRows are how much is committed at once: so little that the request is kept for the next piece,
	// so much that waiting for the disk costs little.
	pieceBytes = 1 << 20
	pieceRows  = 7000
	firstRead  = 32 << 10
)

// Take reads a body to its end and stores its samples. The Report says what was stored also where there is an error,
// which means that the body as a whole may be sent again.
func (r *Receiver) Take(ctx context.Context, b Body) (Report, error) {
	if b.MaxLine == 0 {
		b.MaxLine = DefaultMaxLine
	}
	if b.Linger == 0 {
		b.Linger = time.Second
	}
	if b.Idle == 0 {
		b.Idle = pieceTimeout
	}
	f := r.feeds.Get().(*Feed)
	f.begin(r, ctx, b)
	defer f.release()
	err := f.run()
	f.settle()
	return f.report, err
}

// settle counts what became of the lines since the last time. The report of a live body begins anew.
func (f *Feed) settle() {
	protocol, r, was := f.body.Format.Protocol(), f.receiver, f.counted
	r.lines.WithLabelValues(protocol).Add(float64(f.report.Lines - was.Lines))
	r.bad.WithLabelValues(protocol).Add(float64(f.report.Bad - was.Bad))
	r.skipped.WithLabelValues(protocol).Add(float64(f.report.Skipped - was.Skipped))
	f.counted = f.report
	if !f.body.Live {
		return
	}
	if f.body.Note != nil && !f.report.Complete() {
		f.body.Note(f.report)
	}
	f.report, f.counted = Report{}, Report{}
}

// run takes piece after piece.
func (f *Feed) run() error {
	for {
		if err := f.ctx.Err(); err != nil {
			return err
		}
		if err := f.fill(); err != nil {
			return err
		}
		if f.body.Live {
			f.now = f.receiver.now().UnixMilli()
		}
		n, err := f.store()
		if err != nil {
			return err
		}
		f.start += n
		f.settle()
		if f.eof && (f.start == f.end || n == 0) {
			return nil
		}
		if n == 0 && f.end-f.start > f.body.MaxLine {
			f.skip()
		}
		if err := f.reopen(); err != nil {
			return err
		}
	}
}

// store reads and commits the lines that are in the buffer as a whole and returns how many bytes they are.
func (f *Feed) store() (int, error) {
	report, lineNo, skipping := f.report, f.lineNo, f.skipping
	for {
		n, err := f.lines()
		if err == nil {
			err = f.commit()
		}
		if err == nil || f.body.Patient == nil {
			return n, err
		}
		f.report, f.lineNo, f.skipping = report, lineNo, skipping
		for err != nil {
			if !f.body.Patient(err) {
				return 0, err
			}
			err = f.reopen()
		}
	}
}

// lines reads the lines that are in the buffer as a whole and returns how many bytes they are.
func (f *Feed) lines() (int, error) {
	f.piece = f.buf[f.start:f.end]
	at := 0
	for at < len(f.piece) && !f.Full() {
		n := f.lineLength(f.piece[at:])
		if n < 0 {
			break
		}
		f.lineNo++
		if f.skipping { // its beginning is counted already
			f.skipping = false
			at = min(at+n+1, len(f.piece))
			continue
		}
		first, err := f.take(at, at+n)
		if err != nil {
			return 0, err
		}
		if first {
			n = lineEnd(f.piece[at:])
		}
		f.lineNo += countBreaks(f.piece[at : at+n])
		at = min(at+n+1, len(f.piece))
	}
	return at, nil
}

// take reads one line. It returns true where what was taken for a line with breaks in it is none: then its part up to the
// first break was read instead, and the rest is to be read as lines of their own.
func (f *Feed) take(from, to int) (first bool, err error) {
	line := f.piece[from:to]
	if len(line) > f.body.MaxLine {
		f.report.Lines++
		f.reject(f.tooLong())
		return false, nil
	}
	line = f.trim(line)
	if len(line) == 0 {
		return false, nil
	}
	f.at, f.line, f.unterminated = from, line, f.eof && to == len(f.piece)
	err = f.body.Format.Line(f, line)
	bad, malformed := errors.AsType[*SyntaxError](err)
	if malformed && !f.body.Whole && countBreaks(line) > 0 {
		_, err := f.take(from, from+lineEnd(line))
		return true, err
	}
	if !f.body.Whole {
		f.report.Lines++
	}
	if malformed {
		f.reject(bad)
		return false, nil
	}
	return false, err
}
