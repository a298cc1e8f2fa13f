// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// durableWait bounds how long a notification waits for the samples it rests on. A store that cannot sync must
// not keep an alert back: then it goes out all the same.
const durableWait = 5 * time.Second

// posting is what one evaluation of an alerting rule leaves to be done once its samples are durable: alerts to
// send, and a group whose state file is to be written.
type posting struct {
	lsn    sample.LSN
	alerts []Notification
	group  *group
}

// outbox carries postings from the groups to the notifier and the state keeper. One wait for durability serves
// all that came meanwhile, so that evaluations never wait for a sync.
type outbox struct {
	app      sample.Appender
	notifier Notifier
	keeper   *keeper // nil: no state is kept
	logger   *slog.Logger

	mu struct {
		sync.Mutex
		waiting []posting
	}
	wake chan struct{}
}

func newOutbox(o *Options, k *keeper) *outbox {
	return &outbox{app: o.Appender, notifier: o.Notifier, keeper: k, logger: o.Logger, wake: make(chan struct{}, 1)}
}

// post adds p. It does not block.
func (o *outbox) post(p posting) {
	o.mu.Lock()
	o.mu.waiting = append(o.mu.waiting, p)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// run delivers until done is closed, and then what is left.
func (o *outbox) run(ctx context.Context, done <-chan struct{}) {
	for {
		select {
		case <-o.wake:
			o.deliver(ctx)
		case <-done:
			o.deliver(ctx)
			return
		}
	}
}

// deliver takes everything that waits, waits for the newest LSN among it, and hands it on in order.
func (o *outbox) deliver(ctx context.Context) {
	o.mu.Lock()
	postings := o.mu.waiting
	o.mu.waiting = nil
	o.mu.Unlock()
	var newest sample.LSN
	for _, p := range postings {
		newest = max(newest, p.lsn)
	}
	if newest > 0 {
		wait, cancel := context.WithTimeout(ctx, durableWait)
		if err := o.app.Durable(wait, newest); err != nil {
			o.logger.Warn("alerts are sent before the samples of their evaluation are durable", "err", err)
		}
		cancel()
	}
	for _, p := range postings {
		if o.notifier != nil && len(p.alerts) > 0 {
			o.notifier.Notify(ctx, p.alerts)
		}
		if o.keeper != nil {
			o.keeper.note(p.group)
		}
	}
}
