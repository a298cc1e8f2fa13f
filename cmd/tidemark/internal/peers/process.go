// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	startTimeout = time.Minute      // generous: other tests may hold both cores
	stopTimeout  = 30 * time.Second // after which a stop has failed
	shownLines   = 120              // of a program's output, when its test failed
)

// Spec says what to run.
type Spec struct {
	Name  string // for messages
	Path  string
	Args  []string
	Dir   string     // working directory; default: the test's
	Ready string     // URL that answers 200 once the program works; empty: not waited for
	Owner testing.TB // the test whose end ends the program; default: the one that starts it
	// Within is how long the program may take until it is ready; 0: a minute.
	Within time.Duration
}

// Process is a program that a test started.
type Process struct {
	name   string
	cmd    *exec.Cmd
	out    *output
	within time.Duration // until it is ready
	done   chan struct{} // closed when the program has ended
	err    error         // of Wait; valid once done is closed
}

// Start runs a program, waits until it is ready and stops it when the test ends.
func Start(tb testing.TB, s Spec) *Process {
	tb.Helper()
	p := Run(tb, s)
	if s.Ready != "" {
		p.WaitReady(tb, s.Ready)
	}
	return p
}

// Run is Start without waiting.
func Run(tb testing.TB, s Spec) *Process {
	tb.Helper()
	p := &Process{
		name: s.Name, cmd: exec.Command(s.Path, s.Args...), out: &output{}, within: cmp.Or(s.Within, startTimeout), done: make(chan struct{}),
	}
	p.cmd.Dir = s.Dir
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	// The program dies with the test binary, also when that is killed for its timeout.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		tb.Fatalf("start %s: %v", s.Name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	owner := s.Owner
	if owner == nil {
		owner = tb
	}
	owner.Cleanup(func() {
		p.end(stopTimeout)
		if owner.Failed() {
			owner.Logf("output of %s (%s):\n%s", s.Name, strings.Join(p.cmd.Args, " "), p.out.tail(shownLines))
		}
	})
	return p
}

// WaitReady waits until url answers 200.
func (p *Process) WaitReady(tb testing.TB, url string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), p.within)
	defer cancel()
	for {
		if answers(ctx, url) {
			return
		}
		select {
		case <-p.done:
			tb.Fatalf("%s ended before it was ready: %v\n%s", p.name, p.err, p.Output())
		case <-ctx.Done():
			tb.Fatalf("%s is not ready after %s: no 200 from %s", p.name, p.within, url)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func answers(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Output returns what the program wrote so far, to both of its streams.
func (p *Process) Output() string { return p.out.String() }

// Kill ends the program at once, as kill -9 does, and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Signal sends a signal.
func (p *Process) Signal(tb testing.TB, s syscall.Signal) {
	tb.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		tb.Fatalf("signal %s to %s: %v", s, p.name, err)
	}
}

// Wait waits for the program to end by itself and returns its exit code, -1 for one that a signal ended.
func (p *Process) Wait(tb testing.TB, timeout time.Duration) int {
	tb.Helper()
	select {
	case <-p.done:
	case <-time.After(timeout):
		tb.Fatalf("%s still runs after %s\n%s", p.name, timeout, p.out.tail(shownLines))
	}
	var ended *exec.ExitError
	if p.err != nil && !errors.As(p.err, &ended) {
		tb.Fatalf("wait for %s: %v", p.name, p.err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Stop asks the program to stop and returns its exit code and how long it took.
func (p *Process) Stop(tb testing.TB) (int, time.Duration) {
	tb.Helper()
	start := time.Now()
	p.Signal(tb, syscall.SIGTERM)
	code := p.Wait(tb, stopTimeout)
	return code, time.Since(start)
}

// end stops a program that may have ended already, and kills it if it does not listen.
func (p *Process) end(timeout time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(timeout):
		p.Kill()
	}
}

// FreeAddr returns an address of the loopback interface that nothing listens on.
func FreeAddr(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// output keeps what a program writes.
type output struct {
	mu struct {
		sync.Mutex
		buf bytes.Buffer
	}
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mu.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mu.buf.String()
}

// tail returns the last n lines.
func (o *output) tail(n int) string {
	lines := strings.Split(strings.TrimRight(o.String(), "\n"), "\n")
	if cut := len(lines) - n; cut > 0 {
		return fmt.Sprintf("(%d lines before)\n%s", cut, strings.Join(lines[cut:], "\n"))
	}
	return strings.Join(lines, "\n")
}
