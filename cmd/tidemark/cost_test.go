// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// number is a setting of a benchmark, a variable of the environment.
func number(tb testing.TB, name string, def int) int {
	tb.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		tb.Fatalf("%s=%q is not a number of at least 1", name, text)
	}
	return n
}

// cpuTime is the user and system time of a process so far, by the kernel's clock of that process: the ticks in
// /proc/<pid>/stat are of 10 ms, longer than most queries.
func cpuTime(tb testing.TB, pid int) time.Duration {
	tb.Helper()
	const processClock = 2 // CPUCLOCK_SCHED; the bits above hold the inverted process id
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|processClock), &ts); err != nil {
		tb.Fatalf("clock of process %d: %v", pid, err)
	}
	return time.Duration(ts.Nano())
}

// memory is a line of /proc/<pid>/status in MB.
func memory(tb testing.TB, pid int, key string) float64 {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key {
			kib, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				tb.Fatal(err)
			}
			return kib / 1024
		}
	}
	tb.Fatalf("/proc/%d/status has no %s", pid, key)
	return 0
}

// rest waits until a process has used next to no CPU time for as long as quiet.
func rest(tb testing.TB, pid int, quiet time.Duration) {
	tb.Helper()
	const most = 10 * time.Minute
	began := time.Now()
	last, since := cpuTime(tb, pid), began
	for time.Since(since) < quiet {
		if time.Since(began) > most {
			tb.Fatalf("process %d is still busy after %s", pid, most)
		}
		time.Sleep(250 * time.Millisecond)
		if now := cpuTime(tb, pid); now-last > quiet*3/100 {
			last, since = now, time.Now()
		}
	}
}
