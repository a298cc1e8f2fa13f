// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"sync"
	"time"

	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

const (
	logFile      = "nflog" // the names and formats of Alertmanager's own data directory
	silencesFile = "silences"
	// statePace is the shortest time between two writes: what was sent within it is sent again after a crash.
	statePace = time.Second
)

// stateFiles keeps the notification log and the silences in files. Alertmanager itself writes them every quarter
// of an hour; here a change is on disk within a second, so that a crash does not notify everybody again.
type stateFiles struct {
	fs     fsx.FS
	dir    string // empty: nothing is kept
	logger *slog.Logger

	mu struct {
		sync.Mutex
		dirty map[string]bool // by file name
	}
	wake chan struct{}
}

func newStateFiles(o *Options, logger *slog.Logger) (*stateFiles, error) {
	f := &stateFiles{fs: o.FS, dir: o.StateDir, logger: logger, wake: make(chan struct{}, 1)}
	f.mu.dirty = make(map[string]bool)
	if f.dir == "" {
		return f, nil
	}
	if err := fsx.MakeDir(f.fs, f.dir); err != nil {
		return nil, err
	}
	return f, fsx.RemoveTemp(f.fs, f.dir)
}

// read returns a file, nil where there is none or nothing is kept.
func (f *stateFiles) read(name string) io.Reader {
	if f.dir == "" {
		return nil
	}
	data, err := fsx.ReadFile(f.fs, path.Join(f.dir, name))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			f.logger.Error("state of the alertmanager cannot be read and is not used", "file", name, "err", err)
		}
		return nil
	}
	return bytes.NewReader(data)
}

// changed notes that a file is to be written.
func (f *stateFiles) changed(name string) {
	if f.dir == "" {
		return
	}
	f.mu.Lock()
	f.mu.dirty[name] = true
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// openState makes the notification log and the silences from their files. One that is damaged is reported and
// begins empty: a server that notifies once too often is better than one that does not start.
func (e *embedded) openState() error {
	var err error
	options := func(reg prometheus.Registerer, snapshot io.Reader) nflog.Options {
		return nflog.Options{
			SnapshotReader: snapshot, Retention: dataRetention, Logger: e.logger.With("part", "nflog"), Metrics: reg,
		}
	}
	logData := e.checked(logFile, func(r io.Reader) error {
		_, err := nflog.New(options(prometheus.NewRegistry(), r))
		return err
	})
	if e.log, err = nflog.New(options(e.registry, logData)); err != nil {
		return fmt.Errorf("notification log: %w", err)
	}
	silences := func(reg prometheus.Registerer, snapshot io.Reader) silence.Options {
		return silence.Options{
			SnapshotReader: snapshot, Retention: dataRetention, Logger: e.logger.With("part", "silences"), Metrics: reg,
			Limits:        silence.Limits{MaxSilences: func() int { return 0 }, MaxSilenceSizeBytes: func() int { return 0 }},
			EventRecorder: eventrecorder.Recorder{},
		}
	}
	silenceData := e.checked(silencesFile, func(r io.Reader) error {
		_, err := silence.New(silences(prometheus.NewRegistry(), r))
		return err
	})
	if e.silences, err = silence.New(silences(e.registry, silenceData)); err != nil {
		return fmt.Errorf("silences: %w", err)
	}
	// The libraries call these with every change, to tell the other members of a cluster.
	e.log.SetBroadcast(func([]byte) { e.state.changed(logFile) })
	e.silences.SetBroadcast(func([]byte) { e.state.changed(silencesFile) })
	return nil
}

// checked returns the contents of a file that try accepts, nil otherwise.
func (e *embedded) checked(name string, try func(io.Reader) error) io.Reader {
	r := e.state.read(name)
	if r == nil {
		return nil
	}
	if err := try(r); err != nil {
		e.logger.Error("state of the alertmanager is damaged and not used", "file", path.Join(e.state.dir, name), "err", err)
		return nil
	}
	return e.state.read(name)
}

// keepState writes what changed, at most once per statePace, until done is closed, and then once more.
func (e *embedded) keepState(done <-chan struct{}) {
	collect := time.NewTicker(collectEvery)
	defer collect.Stop()
	for {
		select {
		case <-done:
			e.writeState()
			return
		case <-collect.C:
			e.collect()
		case <-e.state.wake:
			e.writeState()
			select {
			case <-time.After(statePace):
			case <-done:
				e.writeState()
				return
			}
		}
	}
}

// collect removes what is past its retention.
func (e *embedded) collect() {
	for name, gc := range map[string]func() (int, error){logFile: e.log.GC, silencesFile: e.silences.GC} {
		n, err := gc()
		if err != nil {
			e.logger.Error("removing old state of the alertmanager went wrong", "file", name, "err", err)
		}
		if n > 0 {
			e.state.changed(name)
		}
	}
}

func (e *embedded) writeState() {
	e.state.mu.Lock()
	dirty := e.state.mu.dirty
	e.state.mu.dirty = make(map[string]bool)
	e.state.mu.Unlock()
	for name := range dirty {
		snapshot := e.log.Snapshot
		if name == silencesFile {
			snapshot = e.silences.Snapshot
		}
		err := fsx.Publish(e.state.fs, path.Join(e.state.dir, name), func(w io.Writer) error {
			_, err := snapshot(w)
			return err
		})
		if err != nil {
			e.logger.Error("keeping state of the alertmanager went wrong; a restart may notify again", "file", name, "err", err)
			e.state.mu.Lock()
			e.state.mu.dirty[name] = true // tried again with the next change, and at the end
			e.state.mu.Unlock()
		}
	}
}
