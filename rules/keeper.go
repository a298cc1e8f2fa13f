// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

const (
	stateSuffix = ".alerts"
	// statePace is the shortest time between two writes of a group's state.
	statePace = time.Second
	// stateRefresh bounds the age of the state of a group that has alerts: after a crash, time since the last
	// write counts as time in which a pending alert was not seen.
	stateRefresh = time.Minute
)

// keeper writes the alert state of groups into files, one goroutine for all of them, each group at most once
// per statePace and only when something changed.
type keeper struct {
	fs      fsx.FS
	dir     string
	logger  *slog.Logger
	metrics *metrics
	seed    maphash.Seed

	mu struct {
		sync.Mutex
		current map[string]*group       // by key: the groups whose state is kept
		noted   map[string]*group       // of them, those to be looked at
		removed []string                // keys whose files are to be removed
		written map[string]writtenState // by key: what the files hold
	}
	wake chan struct{}
}

type writtenState struct {
	signature uint64
	at        time.Time
}

// newKeeper makes the directory and clears what an interrupted write left.
func newKeeper(o *Options, m *metrics) (*keeper, error) {
	if err := fsx.MakeDir(o.FS, o.StateDir); err != nil {
		return nil, err
	}
	k := &keeper{
		fs: o.FS, dir: o.StateDir, logger: o.Logger, metrics: m, seed: maphash.MakeSeed(),
		wake: make(chan struct{}, 1),
	}
	k.mu.noted = make(map[string]*group)
	k.mu.written = make(map[string]writtenState)
	return k, fsx.RemoveTemp(o.FS, o.StateDir)
}

func (k *keeper) file(key string) string {
	sum := sha256.Sum256([]byte(key))
	return path.Join(k.dir, hex.EncodeToString(sum[:16])+stateSuffix)
}

// note asks for a look at the state of g, unless a reload has replaced or removed it.
func (k *keeper) note(g *group) {
	k.mu.Lock()
	if k.mu.current[g.key] == g {
		k.mu.noted[g.key] = g
	}
	k.mu.Unlock()
	k.nudge()
}

func (k *keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// use makes groups the ones whose state is kept. The files of the others are removed.
func (k *keeper) use(groups map[string]*group) {
	k.mu.Lock()
	for key := range k.mu.current {
		if groups[key] == nil {
			k.mu.removed = append(k.mu.removed, key)
		}
	}
	k.mu.current = groups
	for key, g := range k.mu.noted {
		if groups[key] != g {
			delete(k.mu.noted, key)
		}
	}
	k.mu.Unlock()
	k.nudge()
}

// run writes until done is closed, and then what is left.
func (k *keeper) run(done <-chan struct{}) {
	pace := time.NewTimer(0)
	defer pace.Stop()
	for {
		select {
		case <-k.wake:
			k.writeNoted(false)
		case <-done:
			k.writeNoted(true)
			return
		}
		pace.Reset(statePace)
		select {
		case <-pace.C:
		case <-done:
			k.writeNoted(true)
			return
		}
	}
}

// writeNoted removes the files of removed groups and writes those of the noted groups that need it; with final,
// of all groups that have alerts, so that the time of their last evaluation is exact.
func (k *keeper) writeNoted(final bool) {
	k.mu.Lock()
	todo, removed := k.mu.noted, k.mu.removed
	k.mu.noted, k.mu.removed = make(map[string]*group), nil
	if final {
		todo = maps.Clone(k.mu.current)
	}
	removed = slices.DeleteFunc(removed, func(key string) bool { return k.mu.current[key] != nil })
	for _, key := range removed {
		delete(k.mu.written, key)
	}
	k.mu.Unlock()
	for _, key := range removed {
		k.remove(key)
	}
	for _, g := range todo {
		k.writeIfDue(g, final)
	}
}

func (k *keeper) writeIfDue(g *group, final bool) {
	sig, n := g.signature(k.seed)
	k.mu.Lock()
	last, known := k.mu.written[g.key]
	k.mu.Unlock()
	due := n > 0 && (final || time.Since(last.at) >= stateRefresh)
	if !due && (known && sig == last.signature || !known && n == 0) {
		return
	}
	if err := k.write(g); err != nil {
		k.metrics.stateFailures.Inc()
		k.logger.Error("keeping alert state went wrong; alerts go on, but a restart would not know of the latest",
			"file", g.file, "group", g.name, "err", err)
		k.note(g)
		return
	}
	k.metrics.stateWrites.Inc()
	k.mu.Lock()
	k.mu.written[g.key] = writtenState{signature: sig, at: time.Now()}
	k.mu.Unlock()
}

func (k *keeper) write(g *group) error {
	state, _ := g.saveState()
	data, err := encodeState(state)
	if err != nil {
		return err
	}
	return fsx.Publish(k.fs, k.file(g.key), func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// signature is a hash of what is worth a write: which alerts there are and the times of their states. Values
// and annotations change at every evaluation and are written along, at the latest after stateRefresh.
func (g *group) signature(seed maphash.Seed) (sum uint64, alerts int) {
	for i, r := range g.rules {
		if r.alerts == nil {
			continue
		}
		r.mu.Lock()
		for h, a := range r.alerts.active {
			alerts++
			// A sum of hashes does not depend on the order of the map.
			sum += maphash.Comparable(seed, [8]int64{
				int64(i), int64(h), int64(a.state), nanos(a.activeAt), nanos(a.firedAt),
				nanos(a.resolvedAt), nanos(a.keepFiringSince), nanos(a.lastSentAt),
			})
		}
		r.mu.Unlock()
	}
	return sum, alerts
}

// read returns the state of a group that is not older than maxAge; nil where there is none that can be used.
// The one error is that a newer version wrote it: then it must not be overwritten.
func (k *keeper) read(g *group, maxAge time.Duration) (*groupState, error) {
	name := k.file(g.key)
	data, err := fsx.ReadFile(k.fs, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var s *groupState
	if err == nil {
		s, err = decodeState(data)
	}
	if errors.Is(err, errNewerState) {
		return nil, fmt.Errorf("%s: %w: use that version, or remove the file to forget the alerts in it", name, err)
	}
	k.mu.Lock()
	k.mu.written[g.key] = writtenState{} // there is a file, which an empty state must replace
	k.mu.Unlock()
	if err != nil {
		k.logger.Error("the alert state of a group cannot be used; its for-timers are restored from "+forStateMetric,
			"file", g.file, "group", g.name, "state_file", name, "err", err)
		return nil, nil
	}
	if age := time.Since(fromNanos(s.SavedAt)); age > maxAge {
		k.logger.Info("the alert state of a group is too old to be restored", "file", g.file, "group", g.name, "age", age)
		return nil, nil
	}
	return s, nil
}

// remove removes the file of a group that is no longer configured.
func (k *keeper) remove(key string) {
	if err := k.fs.Remove(k.file(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.logger.Warn("removing the alert state of a removed group went wrong", "group", key, "err", err)
	}
}

// tidy removes the files of groups that are not configured and whose state is older than maxAge.
func (k *keeper) tidy(groups map[string]*group, maxAge time.Duration) error {
	names, err := k.fs.List(k.dir)
	if err != nil {
		return err
	}
	used := make(map[string]bool, len(groups))
	for key := range groups {
		used[path.Base(k.file(key))] = true
	}
	var errs []error
	for _, name := range names {
		if used[name] || !strings.HasSuffix(name, stateSuffix) {
			continue
		}
		data, err := fsx.ReadFile(k.fs, path.Join(k.dir, name))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s, err := decodeState(data)
		if err != nil || time.Since(fromNanos(s.SavedAt)) <= maxAge {
			continue // what cannot be read is left for the operator
		}
		errs = append(errs, k.fs.Remove(path.Join(k.dir, name)))
	}
	return errors.Join(errs...)
}
