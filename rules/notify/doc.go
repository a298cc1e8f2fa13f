// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package notify delivers alerts: to external Alertmanagers over their HTTP API, and to webhooks through the
// parts of Alertmanager that are linked into this process.
//
// A Notifier takes alerts from the rule evaluator, adds the external labels, applies the relabelling of alerts,
// and hands them to
//
//   - one queue and sender per discovered Alertmanager (sender.go). A receiver that is down keeps its own queue
//     waiting and nobody else's. What could not be sent is tried again with growing pauses; an alert that is
//     queued already is replaced by its newer version, so that a queue holds each alert once and what is
//     delivered after an outage is how things stand. What is dropped all the same is counted and logged.
//   - the embedded Alertmanager (embedded.go), when webhooks are configured: its dispatcher groups alerts, its
//     notification log, which is kept in a file, knows what was sent and survives a restart.
//
// Lifetime: New, Apply as often as the configuration changes, Run once, Stop. In shadow mode everything works
// but nothing is sent: alerts are counted and end here.
//
// Concurrency: all exported methods are safe for concurrent use; Notify never waits for a receiver. The
// goroutines are Run, one per sender, those of the embedded Alertmanager, and one that writes its state. Run
// returns when all of them have ended. See docs/alerting.md for the behaviours and the tests that hold them.
package notify
