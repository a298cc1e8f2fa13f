// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package loop scrapes targets and stores what they say, as Prometheus' scrape package does but at a fraction of its cost.
//
// Its nouns: Jobs have a Pool per job, a Pool has a Loop per target. Discovery delivers groups of targets; the Pool
// relabels them and begins and ends loops. A Loop asks its target at its times, and each time a round reads the body into
// a request of package ingest: samples, markers of what is gone, and reports about the scrape are one commit.
//
// What makes it cheap is that a body mostly is the one before with other values. A cache remembers of the last body which
// texts stood in which order and which series they are. As long as the new one agrees, which hashes of as many bytes tell,
// nothing is taken apart but numbers (readKnown). Where it does not, Prometheus' parser reads on (readOdd), until both
// agree again. Other formats than text go through the parser as a whole. A target's cache takes 32 bytes for a series or a
// comment, without pointers; what it says of its metrics is shared by all targets that say the same.
//
// What is stored is what Prometheus would store, in its scrapes that fail too: tests let both scrape the same targets
// (judge_test.go). Where limits truncate (scrape.on_limit), scrapes do not fail of them.
//
// Jobs and Pool are safe for concurrent use. Each Loop is a goroutine, which its Pool waits for when it stops. A cache
// belongs to one loop at a time: a reload hands it to the next when the one before has stopped.
package loop
