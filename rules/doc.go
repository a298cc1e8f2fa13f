// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package rules evaluates recording and alerting rules on a ticker.
//
// A Manager holds the groups of the loaded rule files. Every Group has its own goroutine, which evaluates the
// group's rules one after another at the slots of its interval: each rule sees what the rules before it wrote.
// A recording rule writes its result; an alerting rule runs the state machine of its alerts (inactive, pending,
// firing, resolved), writes the series ALERTS and ALERTS_FOR_STATE and hands what is due to the Notifier. The
// semantics are those of Prometheus, which a differential test holds the package to.
//
// What is different, because here a server may lose its process and its disk without losing an alert:
//
//   - The state of every alert is kept in one small file per group (see state.go for the format) and comes back
//     exactly after a restart: a firing alert stays firing, a pending one goes on from the time it had served.
//     Where there is no such file, the for-timers are restored from ALERTS_FOR_STATE as Prometheus does.
//   - While ingestion is stopped, and for a short time after it came back, an alert is not resolved because its
//     samples are missing (see gate.go).
//   - Notifications and the state files wait until the samples of the evaluation are durable (see outbox.go).
//
// Lifetime: New, any number of Update, Run once, Stop. Update is all or nothing: on an error the running groups
// stay. A group that an Update does not change keeps running; one that it changes hands its state over.
//
// Concurrency: all exported methods are safe for concurrent use. The state of a group's rules is written by its
// goroutine only, under the rule's lock, which the accessors take too. See docs/alerting.md for the behaviours
// and the tests that hold them.
package rules
