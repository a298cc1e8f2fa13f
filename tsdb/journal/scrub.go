// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Scrubbing is what a Scrub asks and tells.
type Scrubbing struct {
	// From is the first record that a start would need: damage before it is not told.
	From sample.LSN
	// Before is called before about so many bytes are read; an error ends the scrub. nil: the error of the context does.
	Before func(ctx context.Context, bytes int64) error
	// Found is told of each damaged range.
	Found func(*CorruptError)
}

// Scrub reads what is durable again and compares the checksums. It changes nothing, and puts nothing aside. It returns the
// error of ctx or of x.Before, or one of opening a file.
func (j *Journal) Scrub(ctx context.Context, x Scrubbing) error {
	if x.Before == nil {
		x.Before = func(ctx context.Context, _ int64) error { return ctx.Err() }
	}
	j.mu.Lock()
	segments := make([]segment, len(j.mu.segments))
	for i, s := range j.mu.segments {
		segments[i] = *s
	}
	j.mu.Unlock()
	for i := range segments {
		s := &segments[i]
		if s.last < x.From || s.end <= dataStart {
			continue
		}
		if err := j.scrub(ctx, s, x); err != nil {
			if errors.Is(err, fs.ErrNotExist) && !j.has(s.number) {
				continue // nobody needs it any more
			}
			return fmt.Errorf("read %s again: %w", s.name, err)
		}
	}
	return nil
}

// has reports whether a segment is one of the log still: a file that is not is written anew under another name.
func (j *Journal) has(number uint32) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(j.mu.segments, func(s *segment) bool { return s.number == number })
}

func (j *Journal) scrub(ctx context.Context, s *segment, x Scrubbing) (err error) {
	sc, err := s.scan(j.fs, j.id, s.end)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sc.close()) }()
	var bad *CorruptError // whose records are not known yet to be needed
	paid := int64(0)
	for sc.off < sc.end {
		if sc.off >= paid {
			if err := x.Before(ctx, min(windowSize, sc.end-sc.off)); err != nil {
				return err
			}
			paid = sc.off + windowSize
		}
		f, ok := sc.next()
		if !ok {
			from := sc.off
			sc.seek()
			if !j.has(s.number) {
				return nil
			}
			bad = &CorruptError{File: s.name, Off: from, End: sc.off, Msg: "checksum mismatch"}
			continue
		}
		if bad != nil && f.lsn > x.From {
			x.Found(bad)
		}
		bad = nil
	}
	if s.end > sc.end && bad == nil && j.has(s.number) {
		bad = &CorruptError{File: s.name, Off: sc.end, End: s.end, Msg: "the file is cut short"}
	}
	if bad != nil {
		x.Found(bad)
	}
	return nil
}
