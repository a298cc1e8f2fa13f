// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"sync"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/journal"
)

// Refusal is why what the store accepts is not forwarded.
type Refusal struct {
	Since   time.Time
	Err     error
	Samples int // that were refused until now
}

// refusing is whether the queue takes rows.
type refusing struct {
	mu  sync.Mutex
	now *Refusal // guarded by mu; nil: it takes them
}

// Refusing returns why the queue takes no rows; not ok while it does.
func (f *Forwarder) Refusing() (r Refusal, ok bool) {
	f.refusing.mu.Lock()
	defer f.refusing.mu.Unlock()
	if f.refusing.now == nil {
		return Refusal{}, false
	}
	return *f.refusing.now, true
}

// refused notes that the queue did not take rows, and says so if it took those before.
func (f *Forwarder) refused(err error, samples int) {
	f.metrics.refused.Add(float64(samples))
	f.refusing.mu.Lock()
	defer f.refusing.mu.Unlock()
	if f.refusing.now == nil {
		f.refusing.now = &Refusal{Since: f.o.Now()}
		f.o.Logger.Error("samples are not forwarded: the queue of remote write does not take them", "err", err,
			"next_step", "look at the disk; the queue is tried again by itself")
	}
	f.refusing.now.Err = err
	f.refusing.now.Samples += samples
}

// took notes that the queue took rows.
func (f *Forwarder) took() {
	f.refusing.mu.Lock()
	defer f.refusing.mu.Unlock()
	if r := f.refusing.now; r != nil {
		f.o.Logger.Info("samples are forwarded again", "refused", r.Samples, "since", r.Since)
		f.refusing.now = nil
	}
}

// reopenRest is how long it takes until a queue that could not be opened anew is tried again.
const reopenRest = 5 * time.Second

// reviveLocked opens the queue anew where its journal takes nothing any more, and reports whether there is one that can be
// used. What the disk does not have is not sent.
func (f *Forwarder) reviveLocked() bool {
	poisoned := false
	if f.open != nil {
		_, poisoned = errors.AsType[*journal.PoisonedError](f.open.journal.Err())
	}
	wanted := poisoned || f.open == nil && f.queue.Load() != nil
	if !wanted || f.config == nil || f.stopped {
		return f.open != nil
	}
	now := time.Now()
	if now.Before(f.revive) {
		return false
	}
	f.revive = now.Add(reopenRest)
	for _, e := range f.endpoints {
		f.stop(e)
	}
	clear(f.endpoints)
	if f.open != nil {
		_ = f.closeQueueLocked() // it has failed, which was said
	}
	// Until there is another one rows are refused by the one that is closed, and counted.
	if err := f.applyLocked(f.config); err != nil {
		f.o.Logger.Warn("the queue of remote write could not be opened anew", "err", err, "again_in", reopenRest)
	}
	return f.open != nil
}

// closeQueueLocked closes the queue, which no endpoint reads.
func (f *Forwarder) closeQueueLocked() error {
	q := f.open
	f.open = nil
	f.endPush()
	<-f.pushed
	return q.close()
}
