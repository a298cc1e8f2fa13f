// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"context"
	"sync"

	"github.com/prometheus/prometheus/promql"
)

// places limits how many queries run at once, and notes those that do.
type places struct {
	free  chan struct{} // of the capacity that there are places; what is in it is taken
	notes *logbook
}

func newPlaces(n int, notes *logbook) places { return places{make(chan struct{}, n), notes} }

// take waits for a place. It returns what give wants to know.
func (p places) take(ctx context.Context, query string) (note int, err error) {
	select {
	case p.free <- struct{}{}:
	default:
		select {
		case p.free <- struct{}{}:
		case <-ctx.Done():
			return unnoted, ctx.Err()
		}
	}
	return p.notes.enter(query), nil
}

// give gives a place back.
func (p places) give(note int) {
	p.notes.strike(note)
	<-p.free
}

// logbook notes running queries on disk, so that those a crash interrupted are logged at the next start. Safe for
// concurrent use.
type logbook struct {
	mu   sync.Mutex
	file *promql.ActiveQueryTracker // nil: there is none, or none any more; guarded by mu
	left int                        // lines free; guarded by mu
}

// unnoted is the note of a query for which there was no line.
const unnoted = -1

// newLogbook returns one with a line for every place of an engine and of the one for rules. A directory that cannot be
// written is no reason to answer no queries.
func newLogbook(o Options) *logbook {
	if o.ActiveQueryDir == "" {
		return &logbook{}
	}
	lines := 2 * o.MaxConcurrency
	file, err := promql.NewActiveQueryTracker(o.ActiveQueryDir, lines, o.Logger)
	if err != nil {
		o.Logger.Warn("running queries are not noted on disk", "dir", o.ActiveQueryDir, "err", err)
		return &logbook{}
	}
	return &logbook{file: file, left: lines}
}

func (l *logbook) enter(query string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil || l.left == 0 {
		return unnoted
	}
	note, err := l.file.Insert(context.Background(), query) // does not wait, as a line is free
	if err != nil {
		return unnoted
	}
	l.left--
	return note
}

func (l *logbook) strike(note int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil && note != unnoted {
		l.file.Delete(note)
		l.left++
	}
}

// close closes the file. Queries may still be running.
func (l *logbook) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	file := l.file
	l.file = nil
	return file.Close()
}
