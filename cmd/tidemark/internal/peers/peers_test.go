// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPinnedProgramsHaveTheLinkedVersion builds the peers (make deps runs it for that) and compares
// the version they report with the modules this repository links.
func TestPinnedProgramsHaveTheLinkedVersion(t *testing.T) {
	pinned := Build(t)
	mod, err := os.ReadFile(filepath.Join(root(t), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	c := func(path, module string) {
		t.Helper()
		out, err := exec.Command("go", "version", "-m", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		want := regexp.MustCompile(regexp.QuoteMeta(module) + ` (v\S+)`).FindSubmatch(mod)
		if want == nil || !bytes.Contains(out, fmt.Appendf(nil, "%s\t%s", module, want[1])) {
			t.Errorf("%s is not built from %s %s:\n%s", path, module, want, bytes.SplitN(out, []byte("\tdep"), 3)[0])
		}
		if out, err := exec.Command(path, "--version").CombinedOutput(); err != nil {
			t.Errorf("%s --version: %v\n%s", path, err, out)
		}
	}
	c(pinned.Prometheus, "github.com/prometheus/prometheus")
	c(pinned.Promtool, "github.com/prometheus/prometheus")
	c(pinned.Amtool, "github.com/prometheus/alertmanager")
}

func TestDebianProgramsAreInstalled(t *testing.T) {
	for _, program := range []string{"prometheus", "prometheus-node-exporter", "prometheus-alertmanager", "victoria-metrics", "strace"} {
		Debian(t, program)
	}
}

// TestServerTagsAreThoseOfMakeRun keeps the tests on the binary that make run starts.
func TestServerTagsAreThoseOfMakeRun(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "TAGS ?= "+ServerTags+"\n") {
		t.Errorf("the Makefile's TAGS are not %s", ServerTags)
	}
}

func TestProcessLifetime(t *testing.T) {
	run := func(script string) *Process {
		return Run(t, Spec{Name: "sh", Path: "/bin/sh", Args: []string{"-c", script}})
	}
	if code := run("echo ended; exit 3").Wait(t, 10*time.Second); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	p := run("trap 'echo stopping; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
	for !strings.Contains(p.Output(), "ready") {
		time.Sleep(5 * time.Millisecond)
	}
	if code, took := p.Stop(t); code != 0 || took > 10*time.Second || !strings.Contains(p.Output(), "stopping") {
		t.Errorf("stopped with %d after %s: %s", code, took, p.Output())
	}
	p = run("sleep 60")
	p.Kill()
	if code := p.Wait(t, time.Second); code != -1 {
		t.Errorf("exit code %d after kill, want -1", code)
	}
	if err := syscall.Kill(p.Pid(), 0); err == nil {
		t.Error("a killed process is still there")
	}
}
