// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/rules"
)

const (
	firstPause = time.Second      // after the first failure; doubled with each further one
	maxPause   = 30 * time.Second // a receiver that came back is found within this time
)

// sender delivers alerts to one Alertmanager, in the order of their first arrival, each alert in its newest
// version.
type sender struct {
	address   string
	userAgent string
	client    *http.Client
	timeout   time.Duration
	capacity  int
	batch     int
	drain     bool
	metrics   *senderMetrics
	logger    *slog.Logger

	mu struct {
		sync.Mutex
		queue []*queued
		// byLabels finds the alert in the queue by the hash of its labels.
		byLabels map[uint64]*queued
		stopped  bool
	}
	wake    chan struct{}
	stopped chan struct{}
}

type queued struct {
	hash  uint64
	alert rules.Notification
}

func newSender(address string, s *amSet) *sender {
	o := &s.n.opts
	n := &sender{
		address: address, userAgent: "Tidemark/" + o.Version, client: s.client, timeout: time.Duration(s.cfg.Timeout),
		capacity: o.QueueCapacity, batch: o.MaxBatchSize, drain: !o.DropOnShutdown,
		metrics: s.n.metrics.forSender(address), logger: o.Logger.With("alertmanager", address),
		wake: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	n.mu.byLabels = make(map[uint64]*queued)
	return n
}

// add queues alerts. One that is queued already is replaced by its newer version; when the queue is full, the
// oldest are dropped.
func (s *sender) add(alerts []rules.Notification) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.stopped {
		return
	}
	for _, a := range alerts {
		h := a.Labels.Hash()
		if q := s.mu.byLabels[h]; q != nil && labels.Equal(q.alert.Labels, a.Labels) {
			q.alert = a
			continue
		}
		q := &queued{hash: h, alert: a}
		s.mu.queue = append(s.mu.queue, q)
		s.mu.byLabels[h] = q
	}
	s.trimLocked()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// trimLocked drops the oldest alerts beyond the capacity.
func (s *sender) trimLocked() {
	if over := len(s.mu.queue) - s.capacity; over > 0 {
		for _, q := range s.mu.queue[:over] {
			s.forgetLocked(q)
		}
		clear(s.mu.queue[:over])
		s.mu.queue = s.mu.queue[over:]
		s.metrics.dropped.Add(float64(over))
		s.logger.Warn("the queue of alerts is full, the oldest were dropped", "count", over, "capacity", s.capacity)
	}
	s.metrics.queueLength.Set(float64(len(s.mu.queue)))
}

// forgetLocked takes q out of the index, where a newer alert may have its place.
func (s *sender) forgetLocked(q *queued) {
	if s.mu.byLabels[q.hash] == q {
		delete(s.mu.byLabels, q.hash)
	}
}

// take removes the next batch from the queue.
func (s *sender) take() []*queued {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.mu.queue), s.batch)
	batch := append([]*queued(nil), s.mu.queue[:n]...)
	for _, q := range batch {
		s.forgetLocked(q)
	}
	clear(s.mu.queue[:n])
	if s.mu.queue = s.mu.queue[n:]; len(s.mu.queue) == 0 {
		s.mu.queue = nil
	}
	s.metrics.queueLength.Set(float64(len(s.mu.queue)))
	return batch
}

// putBack returns a batch that was not delivered to the front of the queue, but for alerts of which a newer
// version has come meanwhile.
func (s *sender) putBack(batch []*queued) {
	s.mu.Lock()
	defer s.mu.Unlock()
	front := make([]*queued, 0, len(batch)+len(s.mu.queue))
	for _, q := range batch {
		if newer := s.mu.byLabels[q.hash]; newer != nil && labels.Equal(newer.alert.Labels, q.alert.Labels) {
			continue
		}
		s.mu.byLabels[q.hash] = q
		front = append(front, q)
	}
	s.mu.queue = append(front, s.mu.queue...)
	s.trimLocked()
}

// stop makes run end after one last try for what is queued.
func (s *sender) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.stopped {
		s.mu.stopped = true
		close(s.stopped)
	}
}

// run sends until the sender is stopped.
func (s *sender) run() {
	pause := time.Duration(0)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if pause == 0 {
			select {
			case <-s.stopped:
				s.finish()
				return
			case <-s.wake:
			}
		} else {
			timer.Reset(pause)
			select {
			case <-s.stopped:
				s.finish()
				return
			case <-timer.C:
			}
		}
		pause = s.deliver(pause)
	}
}

// deliver sends batches until the queue is empty, a request fails or the sender is stopped, and returns how long
// to wait then.
func (s *sender) deliver(pause time.Duration) time.Duration {
	for {
		if s.isStopped() {
			return 0
		}
		batch := s.take()
		if len(batch) == 0 {
			return 0
		}
		err := s.post(batch, s.timeout)
		if err == nil {
			pause = 0
			continue
		}
		if _, refused := errors.AsType[*refusedError](err); refused {
			s.metrics.dropped.Add(float64(len(batch)))
			s.logger.Error("the Alertmanager refuses alerts, they were dropped", "count", len(batch), "err", err)
			pause = 0
			continue
		}
		s.putBack(batch)
		s.metrics.retries.Inc()
		pause = min(max(2*pause, firstPause), maxPause)
		s.logger.Error("sending alerts went wrong, they will be sent again", "count", len(batch), "retry_in", pause, "err", err)
		return pause
	}
}

func (s *sender) isStopped() bool {
	select {
	case <-s.stopped:
		return true
	default:
		return false
	}
}

// finish tries once to send everything that is queued and gives up what is left.
func (s *sender) finish() {
	deadline := time.Now().Add(shutdownTimeout)
	var lost int
	for batch := s.take(); len(batch) > 0; batch = s.take() {
		left := time.Until(deadline)
		if !s.drain || left <= 0 {
			lost += len(batch)
			continue
		}
		if err := s.post(batch, min(s.timeout, left)); err != nil {
			lost += len(batch)
			s.logger.Error("sending alerts at shutdown went wrong", "count", len(batch), "err", err)
			deadline = time.Now() // one failure is enough: the others would fail alike
		}
	}
	if lost > 0 {
		s.metrics.dropped.Add(float64(lost))
		s.logger.Warn("alerts were not delivered before the end", "count", lost)
	}
	s.metrics.queueLength.Set(0)
	s.metrics.release()
	s.client.CloseIdleConnections()
}

// refusedError is an answer that a second try would get again.
type refusedError struct{ status string }

func (e *refusedError) Error() string { return "answer " + e.status }

// post sends one request.
func (s *sender) post(batch []*queued, timeout time.Duration) error {
	body, err := encodeAlerts(batch)
	if err != nil {
		return &refusedError{status: err.Error()}
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	start := time.Now()
	if err := s.request(ctx, body); err != nil {
		s.metrics.errors.Add(float64(len(batch)))
		return err
	}
	s.metrics.observe(len(batch), time.Since(start))
	return nil
}

func (s *sender) request(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.address, bytes.NewReader(body))
	if err != nil {
		return &refusedError{status: err.Error()}
	}
	req.Header.Set("User-Agent", s.userAgent)
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()                // the status has decided
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // for the message; the status decides
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	switch {
	case resp.StatusCode/100 == 2:
		return nil
	case resp.StatusCode/100 == 4 && !mayPass(resp.StatusCode):
		return &refusedError{status: fmt.Sprintf("%s: %s", resp.Status, bytes.TrimSpace(answer))}
	default:
		return fmt.Errorf("answer %s: %s", resp.Status, bytes.TrimSpace(answer))
	}
}

// mayPass reports whether an answer of the client-error kind speaks of the moment, of credentials or of a wrong
// place: an operator sets those right without the alert becoming another one, so it is kept and tried again.
func mayPass(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusProxyAuthRequired,
		http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	}
	return false
}

// apiAlert is an alert in Alertmanager's API, version 2.
type apiAlert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     string            `json:"startsAt"`
	EndsAt       string            `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL"`
}

// apiTime is how Alertmanager's own client writes times.
const apiTime = "2006-01-02T15:04:05.000Z07:00"

func encodeAlerts(batch []*queued) ([]byte, error) {
	out := make([]apiAlert, 0, len(batch))
	for _, q := range batch {
		out = append(out, apiAlert{
			Labels: q.alert.Labels.Map(), Annotations: q.alert.Annotations.Map(),
			StartsAt: q.alert.StartsAt.Format(apiTime), EndsAt: q.alert.EndsAt.Format(apiTime),
			GeneratorURL: q.alert.GeneratorURL,
		})
	}
	return json.Marshal(out)
}
