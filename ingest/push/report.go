// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package push

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tidemarkdb/tidemark/ingest"
)

// SyntaxError says why a line cannot be read.
type SyntaxError struct {
	Line   int // from 1, filled in where the line is taken; a Format sets it for lines within what it calls one
	Column int // bytes from 1; 0: the line as a whole
	Reason string
}

// Bad returns an error at the byte with that index.
func Bad(index int, reason string) *SyntaxError {
	return &SyntaxError{Column: index + 1, Reason: reason}
}

const (
	maxQuoted  = 100      // bytes of a sender's text that a reason shows
	maxReason  = 300      // bytes of the reason of one mistake
	maxMessage = 64 << 10 // bytes of all that a sender is told
)

// Quoted shows what a sender wrote in a reason; of long texts the beginning.
func Quoted[T string | []byte](text T) string {
	if len(text) <= maxQuoted {
		return fmt.Sprintf("%q", text)
	}
	return fmt.Sprintf("%q...", clip(string(text[:min(len(text), maxQuoted+utf8.UTFMax)]), maxQuoted))
}

// clip cuts what is behind the first bytes of a text off, but no character in two.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for back := 0; back < utf8.UTFMax && !utf8.RuneStart(text[most]); back++ {
		most--
	}
	return strings.Clone(text[:most])
}

// Error returns position and reason.
func (e *SyntaxError) Error() string {
	if e.Column == 0 {
		return fmt.Sprintf("line %d: %s", e.Line, e.Reason)
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Reason)
}

// BodyError is a body that cannot be read on: the sender broke off, or what it sent is not what it says.
type BodyError struct{ Err error }

// Error returns the cause.
func (e *BodyError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *BodyError) Unwrap() error { return e.Err }

// listedErrors is how many malformed lines a Report describes; more are only counted.
const listedErrors = 100

// Report says what became of a body.
type Report struct {
	Lines   int // that were not empty
	Bad     int // of them could not be read
	Skipped int // values that are no numbers
	Errors  []*SyntaxError

	// Outcome is of the rows of the lines that could be read.
	Outcome ingest.Outcome
}

// Complete reports whether everything was stored.
func (r *Report) Complete() bool { return r.Bad == 0 && len(r.Outcome.Problems) == 0 }

// Stored returns how many samples are stored.
func (r *Report) Stored() int { return r.Outcome.Floats + r.Outcome.Histograms }

// Message tells the sender what was stored and what was not; it is empty if everything was.
func (r *Report) Message() string {
	if r.Complete() {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d samples were stored", r.Stored())
	if r.Bad > 0 {
		fmt.Fprintf(&b, "; %d of %d lines could not be read", r.Bad, r.Lines)
		for i, e := range r.Errors {
			sep := "; "
			if i == 0 {
				sep = ": "
			}
			b.WriteString(sep + e.Error())
		}
		if n := r.Bad - len(r.Errors); n > 0 {
			fmt.Fprintf(&b, "; and %d more", n)
		}
	}
	if m := r.Outcome.Message(); m != "" {
		b.WriteString("; " + m)
	}
	if b.Len() > maxMessage {
		return clip(b.String(), maxMessage) + "..."
	}
	return b.String()
}

// add takes in the outcome of a piece.
func (r *Report) add(out *ingest.Outcome) {
	o := &r.Outcome
	o.Floats, o.Histograms, o.Exemplars = o.Floats+out.Floats, o.Histograms+out.Histograms, o.Exemplars+out.Exemplars
	o.Rows += out.Rows
next:
	for _, p := range out.Problems {
		if p.What == malformed { // Errors tells of them
			o.Rows -= p.Rows
			continue
		}
		for i := range o.Problems {
			if o.Problems[i].What == p.What {
				o.Problems[i].Rows += p.Rows
				continue next
			}
		}
		o.Problems = append(o.Problems, p)
	}
}

// Reject counts a mistake in a body that is taken as a whole.
func (f *Feed) Reject(e *SyntaxError) { f.reject(e) }

// Seen counts lines of a body that is taken as a whole.
func (f *Feed) Seen(lines int) { f.report.Lines += lines }

// malformed is the reason under which lines are listed that cannot be read, each as one sample.
const malformed = "malformed line"

// reject counts the line in hand as one that cannot be read.
func (f *Feed) reject(e *SyntaxError) {
	e.Line = max(e.Line-1, 0) + f.lineNo
	if len(e.Reason) > maxReason { // the words of a parser, or of its sender
		e.Reason = clip(e.Reason, maxReason) + "..."
	}
	f.req.Drop(1, malformed, e.Error)
	f.report.Bad++
	if len(f.report.Errors) < listedErrors {
		f.report.Errors = append(f.report.Errors, e)
	}
}
