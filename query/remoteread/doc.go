// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package remoteread shows what other servers have beside what the store has: the remote_read section of a configuration.
//
// A Source is the store and its Remotes. A View over times that no remote is asked for is the store's own, at no cost.
// Another one is a Merged view: each of its selections asks the remotes too, and what they answer is merged with the
// store's series, as Prometheus merges its own with them. A remote that fails takes nothing from the store's part of an
// answer: there is a warning, and nothing is read from that remote through the view any more, nor of what it has answered
// before; who has read of that already keeps it.
//
// As in Prometheus, a remote without read_recent is asked only for times before those that the store has itself, and label
// names, label values, exemplars and metadata are the store's alone.
//
// A Source is safe for concurrent use, while ApplyConfig changes its remotes too; a View keeps those it began with. What a
// remote answers is held in memory until the view is closed. A selection's account is charged for it while it is read;
// where that has no room the selection fails with a *budget.ExceededError.
package remoteread
