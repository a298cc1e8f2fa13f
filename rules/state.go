// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// The state file of a group.
//
// A file holds the alerts of one group: a line of text, then JSON.
//
//	tidemark alert state 1 crc32c=0a1b2c3d\n
//	{"file": ..., "group": ..., "saved_at": ..., "rules": [{"rule": ..., "alerts": [...]}]}
//
// The number is the version of the format, the checksum covers everything after the first line break. Times
// are Unix nanoseconds, 0 for none. Values are decimal text, as JSON has no infinities. A file is written whole
// through fsx.Publish, so that a damaged one was damaged by the disk; it is reported and not used.

const (
	stateVersion = 1
	stateHeader  = "tidemark alert state %d crc32c=%08x\n"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errNewerState is what decodeState answers to a file of a later version.
var errNewerState = errors.New("written by a newer version")

type groupState struct {
	File    string      `json:"file"`
	Group   string      `json:"group"`
	SavedAt int64       `json:"saved_at"`
	Rules   []ruleState `json:"rules"`
}

type ruleState struct {
	Rule   string       `json:"rule"` // rule.identity
	Alerts []alertState `json:"alerts"`
}

type alertState struct {
	State           string        `json:"state"`
	Labels          labels.Labels `json:"labels"`
	Annotations     labels.Labels `json:"annotations"`
	Value           string        `json:"value"`
	ActiveAt        int64         `json:"active_at"`
	FiredAt         int64         `json:"fired_at,omitempty"`
	ResolvedAt      int64         `json:"resolved_at,omitempty"`
	KeepFiringSince int64         `json:"keep_firing_since,omitempty"`
	LastSentAt      int64         `json:"last_sent_at,omitempty"`
	ValidUntil      int64         `json:"valid_until,omitempty"`
}

func encodeState(s *groupState) ([]byte, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding the alert state of group %s in %s: %w", s.Group, s.File, err)
	}
	return append(fmt.Appendf(nil, stateHeader, stateVersion, crc32.Checksum(body, castagnoli)), body...), nil
}

func decodeState(data []byte) (*groupState, error) {
	header, body, ok := bytes.Cut(data, []byte("\n"))
	var version int
	var sum uint32
	if n, err := fmt.Sscanf(string(header)+"\n", stateHeader, &version, &sum); !ok || n < 1 || version < 1 {
		return nil, fmt.Errorf("not an alert state file: %w", errOr(err, "it has no header"))
	} else if version > stateVersion {
		return nil, fmt.Errorf("alert state of version %d: %w", version, errNewerState)
	} else if n < 2 {
		return nil, errors.New("alert state file with a damaged header")
	}
	if got := crc32.Checksum(body, castagnoli); got != sum {
		return nil, fmt.Errorf("alert state file is damaged: checksum %08x, want %08x", got, sum)
	}
	var s groupState
	if err := json.Unmarshal(body, &s); err != nil {
		return nil, fmt.Errorf("alert state file: %w", err)
	}
	return &s, nil
}

func errOr(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}

// nanos and fromNanos map the zero time to 0 and back.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func (a *alert) save() alertState {
	return alertState{
		State: a.state.String(), Labels: a.labels, Annotations: a.annotations,
		Value:    strconv.FormatFloat(a.value, 'g', -1, 64),
		ActiveAt: nanos(a.activeAt), FiredAt: nanos(a.firedAt), ResolvedAt: nanos(a.resolvedAt),
		KeepFiringSince: nanos(a.keepFiringSince), LastSentAt: nanos(a.lastSentAt), ValidUntil: nanos(a.validUntil),
	}
}

func (s *alertState) load() (*alert, error) {
	a := &alert{
		labels: s.Labels, annotations: s.Annotations,
		activeAt: fromNanos(s.ActiveAt), firedAt: fromNanos(s.FiredAt), resolvedAt: fromNanos(s.ResolvedAt),
		keepFiringSince: fromNanos(s.KeepFiringSince), lastSentAt: fromNanos(s.LastSentAt),
		validUntil: fromNanos(s.ValidUntil),
	}
	for _, state := range []State{StateInactive, StatePending, StateFiring} {
		if s.State == state.String() {
			a.state = state
		}
	}
	if a.state == StateUnknown {
		return nil, fmt.Errorf("alert %s has the unknown state %q", s.Labels, s.State)
	}
	var err error
	if a.value, err = strconv.ParseFloat(s.Value, 64); err != nil {
		return nil, fmt.Errorf("alert %s: %w", s.Labels, err)
	}
	return a, nil
}

// saveState returns the state of the group's alerts, and how many there are.
func (g *group) saveState() (*groupState, int) {
	s := &groupState{File: g.file, Group: g.name}
	g.mu.Lock()
	s.SavedAt = nanos(g.mu.lastSlot)
	g.mu.Unlock()
	n := 0
	for _, r := range g.rules {
		if r.alerts == nil {
			continue
		}
		rs := ruleState{Rule: r.identity(), Alerts: []alertState{}}
		r.mu.Lock()
		for _, a := range r.alerts.active {
			rs.Alerts = append(rs.Alerts, a.save())
		}
		r.mu.Unlock()
		n += len(rs.Alerts)
		s.Rules = append(s.Rules, rs)
	}
	return s, n
}

// loadState puts saved alerts into the rules they belong to. The group must not have started. Rules that the
// state knows need no restoring from series.
func (g *group) loadState(s *groupState) error {
	var errs []error
	byRule := make(map[string][]ruleState)
	for _, rs := range s.Rules {
		byRule[rs.Rule] = append(byRule[rs.Rule], rs)
	}
	for _, r := range g.rules {
		saved := byRule[r.identity()]
		if r.alerts == nil || len(saved) == 0 {
			continue
		}
		byRule[r.identity()] = saved[1:]
		for i := range saved[0].Alerts {
			a, err := saved[0].Alerts[i].load()
			if err != nil {
				errs = append(errs, err)
				continue
			}
			r.alerts.active[a.labels.Hash()] = a
		}
		r.alerts.restored = true
	}
	g.stateAt = fromNanos(s.SavedAt)
	g.mu.lastSlot = g.stateAt
	return errors.Join(errs...)
}

// resumeState moves the for-timers of alerts that came from a file by the time that nobody evaluated them: a
// pending alert has served what it had served, and no more. now is the start of the evaluations.
func (g *group) resumeState(now time.Time) {
	if g.stateAt.IsZero() {
		return
	}
	down := max(now.Sub(g.stateAt), 0)
	for _, r := range g.rules {
		if r.alerts == nil {
			continue
		}
		r.mu.Lock()
		for _, a := range r.alerts.active {
			if a.state == StatePending {
				a.activeAt = a.activeAt.Add(down)
			}
		}
		r.mu.Unlock()
	}
	g.stateAt = time.Time{}
	g.mu.Lock()
	g.mu.lastSlot = now // what is saved from now on is as of now
	g.mu.Unlock()
}
