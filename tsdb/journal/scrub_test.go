// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"errors"
	"path"
	"sync"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func scrub(t *testing.T, j *journal.Journal, from sample.LSN) (found []*journal.CorruptError, read int64) {
	t.Helper()
	ok(t, j.Scrub(t.Context(), journal.Scrubbing{
		From:   from,
		Before: func(_ context.Context, n int64) error { read += n; return nil },
		Found:  func(e *journal.CorruptError) { found = append(found, e) },
	}))
	return found, read
}

func TestScrubFindsEveryChangedByteOfARecordThatAStartNeeds(t *testing.T) {
	base, want := sessions(t)
	j := open(t, small(base))
	appendOne(t, j, 1, 20)
	ok(t, j.Durable(t.Context(), appendOne(t, j, 1, 20)))
	last := j.Last()
	if found, read := scrub(t, j, 1); len(found) > 0 || read == 0 {
		t.Fatalf("in a sound log %v was found, %d bytes were read", found, read)
	}
	names := segments(t, base)
	hits := 0
	for i, name := range names {
		info, err := base.Stat(path.Join(dir, name))
		ok(t, err)
		file := path.Join(dir, name)
		for off := int64(1024); off < min(info.Size, 4096); off++ {
			flip(t, base, file, off, 4)
			found, _ := scrub(t, j, 1)
			switch {
			case len(found) > 1 || len(found) == 1 && (found[0].File != file || off < found[0].Off || off >= found[0].End):
				t.Fatalf("%s byte %d: found %v", name, off, found)
			case len(found) == 1:
				hits++
			}
			// Those of earlier runs alone are before the last record.
			if found, _ := scrub(t, j, sample.LSN(len(want)+1)); i < len(names)-1 && len(found) > 0 {
				t.Fatalf("%s byte %d: records that nobody needs: %v", name, off, found)
			}
			flip(t, base, file, off, 4)
		}
	}
	if hits < 20*len(want) {
		t.Errorf("%d changes of %d records were found", hits, last)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.Scrub(ended, journal.Scrubbing{From: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("a scrub whose context ended: %v", err)
	}
	ok(t, j.Close())
}

func TestScrubOfALogInUseFindsNothing(t *testing.T) {
	j := open(t, small(fsx.NewCrashable()))
	floor := j.NewFloor("test", 1)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for w := range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				lsn, err := j.Append(kind, payload(w, 1, 3000))
				if err == nil {
					err = j.Durable(t.Context(), lsn)
				}
				if err != nil {
					t.Error(err)
					return
				}
				if w == 0 && lsn > 20 {
					floor.Set(lsn - 20) // segments are written anew while they are read
				}
			}
		})
	}
	for j.Last() < 1500 && !t.Failed() {
		if found, _ := scrub(t, j, 1); len(found) > 0 {
			t.Errorf("found %v", found)
			break
		}
	}
	close(stop)
	wg.Wait()
	ok(t, j.Close())
}
