// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Condition is a state of the store that is not normal: what is so, since when, what it means for the user, and
// what to do about it. docs/states.md lists the codes.
type Condition struct {
	Code     string
	Since    time.Time
	Effect   string
	NextStep string
}

// The codes of the store's conditions.
const (
	ConditionRestoring   = "restoring"
	ConditionReadOnly    = "read_only"
	ConditionFailedSync  = "failed_sync"
	ConditionQuarantined = "quarantined"
	ConditionMemory      = "memory_pressure"
	ConditionConversion  = "conversion_paused"
	ConditionFullDisk    = "oldest_deleted"
)

// conditions is the set of conditions that hold now.
type conditions struct {
	mu     sync.Mutex
	active map[string]Condition // guarded by mu
}

func newConditions() *conditions { return &conditions{active: map[string]Condition{}} }

// set makes c hold; it reports whether it did not before. An active condition keeps its Since.
func (cs *conditions) set(c Condition) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if old, ok := cs.active[c.Code]; ok {
		c.Since = old.Since
		cs.active[c.Code] = c
		return false
	}
	c.Since = time.Now()
	cs.active[c.Code] = c
	return true
}

// clear ends a condition; it reports whether it held.
func (cs *conditions) clear(code string) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	_, ok := cs.active[code]
	delete(cs.active, code)
	return ok
}

func (cs *conditions) has(code string) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	_, ok := cs.active[code]
	return ok
}

// list returns the active conditions by code.
func (cs *conditions) list() []Condition {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	out := make([]Condition, 0, len(cs.active))
	for _, c := range cs.active {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Condition) int { return strings.Compare(a.Code, b.Code) })
	return out
}
