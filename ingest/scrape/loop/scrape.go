// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// scrape asks the target once and stores what it says, and how that went, in one commit. It returns when it began. Once
// it has begun only the end of the process cuts it short: a reload waits for it.
func (l *Loop) scrape(last, at time.Time) time.Time {
	start := time.Now()
	if !last.IsZero() {
		l.pool.metrics.observeInterval(l.interval, start.Sub(last))
	}
	var b body
	var x result
	if x.err = l.forced(); x.err == nil {
		b, x.err = l.fetch()
	}
	defer l.pool.readers.release(&b)
	switch {
	case x.err == nil:
		x.bytes = len(b.bytes)
	case errors.Is(x.err, errBodySize):
		x.bytes = -1
	}
	if x.err != nil {
		b.bytes = nil // as if the target had said nothing
	}
	l.store(&b, x, start, at)
	if l.set.extraMetrics {
		l.pool.metrics.duration.Observe(time.Since(start).Seconds())
	}
	return start
}

// fetch asks the target within the timeout.
func (l *Loop) fetch() (body, error) {
	ctx, cancel := context.WithTimeout(l.pool.ctx, l.timeout)
	defer cancel()
	b, err := l.fetcher.fetch(ctx)
	if errors.Is(err, errBodySize) {
		if l.pool.truncate.Load() && l.cut(&b) {
			l.pool.metrics.truncated(l.set.job, "body_size_limit", 1)
			return b, nil
		}
		l.pool.metrics.bodySizeLimit.Inc()
	}
	if err != nil {
		l.logFailure(err)
	}
	return b, err
}

// cut cuts a body off behind its last whole line, and reports whether its format has lines.
func (l *Loop) cut(b *body) bool {
	open := strings.HasPrefix(b.contentType, "application/openmetrics-text")
	if !open && !isPlainText(b.contentType, l.set.parser.FallbackContentType) {
		return false
	}
	b.bytes = b.bytes[:bytes.LastIndexByte(b.bytes, '\n')+1]
	if open {
		b.bytes = append(b.bytes, "# EOF\n"...)
	}
	return true
}

// store stores a body and the reports about it.
func (l *Loop) store(b *body, x result, start, at time.Time) {
	r, _ := l.pool.rounds.Get().(*round)
	r.begin(l, l.pool.intake.Begin(), at)
	good := len(b.bytes) > 0
	if good {
		err := r.req.Charge(int64(len(b.bytes)))
		if err == nil {
			err = r.read(b.bytes, b.contentType)
		}
		if err != nil {
			l.logBody(b, err)
			good, x.err = false, err
			r.req.Release()
			r.again(l.pool.intake.Begin())
		}
	}
	r.req.Exempt()
	r.markStale()
	x.duration = time.Since(start)
	l.end.target.Report(start, x.duration, x.err)
	r.report(l.values(r, x), 0)
	l.commit(r, b)
	r.finish(good)
	r.req.Release()
	r.ended()
	l.pool.rounds.Put(r)
}

func (l *Loop) logBody(b *body, err error) {
	if _, unknown := errors.AsType[*noParserError](err); unknown {
		l.logger.Error("failed to determine correct type of scrape target",
			"content_type", b.contentType, "fallback_media_type", l.set.parser.FallbackContentType, "err", err)
		return
	}
	l.logger.Debug("append failed", "err", err)
}

// markGone marks the series of the target stale, and the reports about it.
func (l *Loop) markGone(at time.Time) {
	r, _ := l.pool.rounds.Get().(*round)
	r.begin(l, l.pool.intake.Begin(), at)
	r.req.Exempt()
	r.markStale()
	r.reportGone()
	l.commit(r, &body{})
	r.finish(false)
	r.req.Release()
	r.ended()
	l.pool.rounds.Put(r)
}

// commit stores a round. Its context is not the loop's: what was scraped is stored, also if the process ends now.
func (l *Loop) commit(r *round, b *body) {
	r.req.From("scrape", l.url)
	in := &reread{body: b}
	err := r.req.CommitScrape(context.WithoutCancel(l.pool.ctx), func(i int) (labels.Labels, error) { return r.labelsOf(i, in) })
	if err != nil {
		l.logger.Error("scrape commit failed", "err", err)
		r.untell()
		return
	}
	r.settle()
	r.knowReports()
	l.countRefused(r)
}

// countRefused counts and logs what the store did not take.
func (l *Loop) countRefused(r *round) {
	m := l.pool.metrics
	warn := func(n int, what string) {
		if n > 0 {
			l.logger.Warn("samples of a scrape were not stored", "why", what, "num_dropped", n)
		}
	}
	late, bounds := r.refused[sample.OutOfOrder], r.refused[sample.TooOld]+r.refused[sample.TooNew]
	duplicate := r.refused[sample.Conflict]
	m.outOfOrder.Add(float64(late))
	m.duplicate.Add(float64(duplicate))
	m.outOfBounds.Add(float64(bounds))
	m.lateExemplars.Add(float64(r.lateExemplars))
	warn(late, "out of order")
	warn(duplicate, "another value at the same time")
	warn(bounds, "too old or too far in the future")
	warn(r.lateExemplars, "exemplars out of order")
	warn(r.refused[sample.OverLimit], "new series: the memory budget or a series limit has no room")
	m.truncated(l.set.job, "sample_limit", r.beyond.samples)
	m.truncated(l.set.job, "label_limit", r.beyond.labels)
	m.truncated(l.set.job, "native_histogram_bucket_limit", r.beyond.buckets)
}
