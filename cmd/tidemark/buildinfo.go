// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemarkdb/tidemark/web/api"
)

// buildInfo names the build: the Prometheus version whose behaviour is served, and ours.
func buildInfo() api.BuildInfo {
	b := api.BuildInfo{Version: emulated, Tidemark: version, GoVersion: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, kv := range info.Settings {
		switch kv.Key {
		case "vcs.revision":
			b.Revision = kv.Value
		case "vcs.time":
			b.BuildDate = kv.Value
		}
	}
	return b
}

// registerBuildInfo exposes prometheus_build_info, by which dashboards know the version, and ours.
func (s *server) registerBuildInfo() {
	b := buildInfo()
	constant := func(name, help string, ls prometheus.Labels) {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: ls})
		g.Set(1)
		s.registry.MustRegister(g)
	}
	constant("prometheus_build_info", "The version of Prometheus whose behaviour is served.", prometheus.Labels{
		"version": b.Version, "revision": b.Revision, "branch": b.Branch, "goversion": b.GoVersion,
		"goos": runtime.GOOS, "goarch": runtime.GOARCH, "tags": "",
	})
	constant("tidemark_build_info", "The version of Tidemark.", prometheus.Labels{
		"version": b.Tidemark, "revision": b.Revision, "goversion": b.GoVersion,
	})
}

// runtimeInfo describes the process.
func (s *server) runtimeInfo() api.RuntimeInfo {
	host, _ := os.Hostname() // without one the field is empty
	cwd, err := os.Getwd()
	if err != nil {
		cwd = "<error retrieving current working directory>"
	}
	ok, at := s.reloaded.last()
	keep, size := s.retention(s.config.Load())
	return api.RuntimeInfo{
		StartTime: s.started, CWD: cwd, Hostname: host, ServerTime: time.Now(),
		ReloadConfigSuccess: ok, LastConfigTime: at,
		GoroutineCount: runtime.NumGoroutine(), GOMAXPROCS: runtime.GOMAXPROCS(0), GOMEMLIMIT: debug.SetMemoryLimit(-1),
		GOGC: os.Getenv("GOGC"), GODEBUG: os.Getenv("GODEBUG"), StorageRetention: retentionText(keep, size),
	}
}
