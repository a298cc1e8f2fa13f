// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package peers builds, finds and runs the real programs that the end-to-end tests work with.
//
// A program is either pinned, built from testdata/peers/go.mod (Prometheus, promtool and amtool in
// the very version whose packages the server links), or Debian's (an older Prometheus, node_exporter,
// Alertmanager), or our own server. Builds are kept in the user's cache under a key of everything
// that goes into them, so that only the first test run on a machine pays for them; a lock file lets
// test binaries that run at the same time wait for one another. What is missing fails the test with
// the command that provides it: a test that does not run is not a test.
//
// A Process is one running program. It belongs to the test that started it: it is stopped in the
// test's cleanup, by its own process id, and its output is shown if the test failed. Functions may
// be called from several tests at once; one Process from one goroutine at a time.
package peers

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// ServerTags are the build tags of the server in `make run`: the discovery kinds that most people use.
const ServerTags = "remove_all_sd,enable_dns_sd,enable_kubernetes_sd,enable_consul_sd,enable_moby_sd"

// peerTags leave out all discovery kinds that need a client library, and the web interface (its
// files are not in the module).
const peerTags = "remove_all_sd"

// Pinned are the programs built from testdata/peers.
type Pinned struct {
	Prometheus, Promtool, Amtool string // paths
}

// Build returns the pinned programs, building them if this machine has not yet: two minutes on two cores.
func Build(tb testing.TB) Pinned {
	tb.Helper()
	src := filepath.Join(root(tb), "testdata", "peers")
	dir := cacheDir(tb, "peers", src, "go.mod", "go.sum")
	locked(tb, dir, func() error {
		return build(src, dir, peerTags,
			"github.com/prometheus/prometheus/cmd/prometheus",
			"github.com/prometheus/prometheus/cmd/promtool",
			"github.com/prometheus/alertmanager/cmd/amtool")
	})
	return Pinned{
		Prometheus: filepath.Join(dir, "prometheus"),
		Promtool:   filepath.Join(dir, "promtool"),
		Amtool:     filepath.Join(dir, "amtool"),
	}
}

// BuildServer returns the path of our server, built from the working tree.
func BuildServer(tb testing.TB) string {
	tb.Helper()
	return buildOurs(tb, "tidemark")
}

// BuildTool returns the path of our operator's tool, built from the working tree.
func BuildTool(tb testing.TB) string {
	tb.Helper()
	return buildOurs(tb, "tidectl")
}

func buildOurs(tb testing.TB, program string) string {
	tb.Helper()
	src := root(tb)
	dir := cacheDir(tb, "server", src)
	locked(tb, dir, func() error {
		return build(src, dir, ServerTags, "./cmd/"+program)
	})
	return filepath.Join(dir, program)
}

// Debian returns the path of a program that Debian packages under its own name.
func Debian(tb testing.TB, program string) string {
	tb.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		tb.Fatalf("%s is not installed: run make deps, or apt-get install --no-install-recommends %s", program, program)
	}
	return path
}

// Root returns the directory of the repository.
func Root(tb testing.TB) string {
	tb.Helper()
	return root(tb)
}

func root(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.tools.mod")); err == nil {
			return dir
		}
	}
	tb.Fatal("the test does not run inside the repository")
	return ""
}

// cacheDir returns a directory of the user's cache for a build of src, keyed by src's path, the
// contents of some of its files and the Go version.
func cacheDir(tb testing.TB, kind, src string, files ...string) string {
	tb.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		tb.Fatal(err)
	}
	h := sha256.New()
	if len(files) == 0 {
		_, _ = io.WriteString(h, src) // the working tree: two clones must not share a server
	}
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(src, name))
		if err != nil {
			tb.Fatal(err)
		}
		_, _ = h.Write(text)
	}
	_, _ = io.WriteString(h, peerTags+ServerTags+runtime.Version())
	dir := filepath.Join(cache, "tidemark", kind, hex.EncodeToString(h.Sum(nil)[:8]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// locked runs do while no other process runs one for the same directory.
func locked(tb testing.TB, dir string, do func() error) {
	tb.Helper()
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }() // gives the lock back
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		tb.Fatalf("lock %s: %v", f.Name(), err)
	}
	if err := do(); err != nil {
		tb.Fatal(err)
	}
}

// build runs the go command, which finds out by itself what is up to date.
func build(src, dir, tags string, packages ...string) error {
	args := append([]string{"build", "-buildvcs=false", "-ldflags", "-s -w", "-tags", tags, "-o", dir + "/"}, packages...)
	cmd := exec.Command("go", args...)
	cmd.Dir = src
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s in %s: %w\n%s", strings.Join(packages, " "), src, err, out)
	}
	return nil
}
