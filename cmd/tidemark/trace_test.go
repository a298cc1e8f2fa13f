// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

// call is one system call of the server, as strace saw it. Begin and end are positions in the
// trace, so that order can be compared between threads.
type call struct {
	begin, end int
	name       string
	file       string // what the first argument's descriptor is: a path or TCP:[local->remote]
	text       string // the rest of the line
	result     int
}

func (c call) syncs() bool { return c.name == "fdatasync" || c.name == "fsync" }

// writes tells of calls that put bytes out, to a file or a connection.
func (c call) writes() bool {
	switch c.name {
	case "write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg":
		return true
	}
	return false
}

const tracedCalls = "trace=read,recvfrom,write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,fsync,fdatasync"

var (
	callLine    = regexp.MustCompile(`^(\d+) +[\d.]+ (\w+)\((?:\d+<(.*?)>([,) ]))?(.*)$`)
	resumedLine = regexp.MustCompile(`^(\d+) +[\d.]+ <\.\.\. (\w+) resumed>(.*)$`)
	resultText  = regexp.MustCompile(`\) += (-?\d+)[^=]*$`)
)

// parseTrace reads the output of strace -f -ttt -yy. Calls that never returned are left out.
func parseTrace(text string) []call {
	var calls []call
	open := map[string]call{} // by thread
	add := func(c call, rest string) {
		if m := resultText.FindStringSubmatch(rest); m != nil {
			c.result, _ = strconv.Atoi(m[1])
			calls = append(calls, c)
		}
	}
	for i, line := range strings.Split(text, "\n") {
		if m := resumedLine.FindStringSubmatch(line); m != nil {
			if c, ok := open[m[1]]; ok && c.name == m[2] {
				c.end = i
				c.text += m[3]
				add(c, m[3])
			}
			delete(open, m[1])
			continue
		}
		m := callLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		c := call{begin: i, end: i, name: m[2], file: m[3], text: m[5]}
		if before, ok := strings.CutSuffix(m[5], "<unfinished ...>"); ok {
			c.text = before
			open[m[1]] = c
			continue
		}
		add(c, m[4]+m[5])
	}
	return calls
}

// traced runs a server under strace until do returns and gives back its calls.
func traced(t *testing.T, s *instance, do func()) []call {
	t.Helper()
	out := s.file("trace")
	p := peers.Start(t, s.under(peers.Debian(t, "strace"),
		"-f", "-ttt", "-yy", "-s", "64", "--seccomp-bpf", "-e", "signal=none", "-e", tracedCalls, "-o", out, peers.BuildServer(t)))
	server := tracee(t, p)
	defer func() { _ = syscall.Kill(server, syscall.SIGKILL) }() // strace does not pass signals on
	do()
	if err := syscall.Kill(server, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.Wait(t, 30*time.Second)
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	calls := parseTrace(string(text))
	if len(calls) == 0 {
		t.Fatalf("nothing traced:\n%.2000s", text)
	}
	return calls
}

// tracee returns the process id of the program that strace started.
func tracee(t *testing.T, strace *peers.Process) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", strace.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	children := strings.Fields(string(text))
	if len(children) != 1 {
		t.Fatalf("strace has the children %q, want one", text)
	}
	pid, err := strconv.Atoi(children[0])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// inLog tells whether a call is about a segment of the write-ahead log.
func inLog(c call) bool { return strings.Contains(c.file, "/data/tidemark/wal/") }

// TestSyncLiesBetweenABatchAndItsAcknowledgement watches what the server asks of the operating
// system while one client writes batch after batch on one connection.
func TestSyncLiesBetweenABatchAndItsAcknowledgement(t *testing.T) {
	const batches = 40
	s := newInstance(t, "scrape_configs: []\n")
	var client string
	now := time.Now().UnixMilli()
	calls := traced(t, s, func() {
		c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err == nil {
				client = conn.LocalAddr().String()
			}
			return conn, err
		}}}
		for i := range batches {
			body := writeRequest(t, "traced", 3, now+int64(i), float64(i))
			resp, err := c.Post(s.url("/api/v1/write"), "application/x-protobuf", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode/100 != 2 {
				t.Fatalf("write %d: %s", i, resp.Status)
			}
		}
	})
	acks := 0
	for _, c := range calls {
		if c.writes() && strings.Contains(c.file, "->"+client) && strings.Contains(c.text, `"HTTP/1.1 2`) {
			acks++
			if reason := unsynced(calls, c, client); reason != "" {
				t.Errorf("acknowledgement %d (line %d of the trace): %s", acks, c.begin+1, reason)
			}
		}
	}
	if acks != batches {
		t.Errorf("%d acknowledgements seen in the trace, want %d", acks, batches)
	}
}

// unsynced says what is missing between the request that ack answers and ack.
func unsynced(calls []call, ack call, client string) string {
	request, wrote, synced := -1, -1, -1
	for _, c := range calls {
		if c.end >= ack.begin {
			continue
		}
		switch {
		case (c.name == "read" || c.name == "recvfrom") && c.result > 0 && strings.Contains(c.file, "->"+client):
			request = max(request, c.end)
		case c.writes() && inLog(c):
			wrote = max(wrote, c.end)
		}
	}
	for _, c := range calls {
		if c.syncs() && c.result == 0 && inLog(c) && c.begin > wrote && c.end < ack.begin {
			synced = c.end
		}
	}
	switch {
	case wrote < request:
		return fmt.Sprintf("nothing was written to the log after the request was read (line %d)", request+1)
	case synced < 0:
		return fmt.Sprintf("no sync returned between the last write to the log (line %d) and the answer", wrote+1)
	}
	return ""
}

// TestScrapesSyncAtMostTenTimesASecond scrapes 60 targets a second, each on its own offset.
func TestScrapesSyncAtMostTenTimesASecond(t *testing.T) {
	const targets = 60
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = fmt.Fprintf(w, "sync_test %d\n", time.Now().UnixNano())
	}))
	t.Cleanup(page.Close)
	var config strings.Builder
	config.WriteString("global: {scrape_interval: 1s}\nscrape_configs:\n")
	for i := range targets {
		fmt.Fprintf(&config, "  - job_name: j%d\n    static_configs: [{targets: [%q]}]\n", i, strings.TrimPrefix(page.URL, "http://"))
	}
	s := newInstance(t, config.String())
	var took time.Duration
	calls := traced(t, s, func() {
		begin := time.Now()
		eventually(t, time.Minute, "all targets scraped", func() error {
			got, err := instant(s.url(""), "count(sync_test)", time.Now())
			if points := got[""]; err == nil && (len(points) != 1 || points[0].V != strconv.Itoa(targets)) {
				err = fmt.Errorf("got %v", got)
			}
			return err
		})
		time.Sleep(8 * time.Second)
		took = time.Since(begin)
	})
	syncs := 0
	for _, c := range calls {
		if c.syncs() && inLog(c) {
			syncs++
		}
	}
	// Five more for the start and the stop, which sync what they change.
	if limit := int(10*took.Seconds()) + 5; syncs > limit {
		t.Errorf("%d syncs of the log in %s, want %d at most", syncs, took, limit)
	}
	if syncs < int(took.Seconds()) {
		t.Errorf("%d syncs of the log in %s: scrapes are not made durable", syncs, took)
	}
}

func TestTraceIsReadAsWritten(t *testing.T) {
	calls := parseTrace(strings.Join([]string{
		`10 1.5 read(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, "POST /api"..., 4096) = 210`,
		`11 1.6 pwrite64(7</d/data/tidemark/wal/000001>, "\1\2"..., 64, 4096) = 64`,
		`10 1.7 fdatasync(7</d/data/tidemark/wal/000001> <unfinished ...>`,
		`11 1.8 read(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, 0x1, 4096) = -1 EAGAIN (Resource temporarily unavailable)`,
		`10 1.9 <... fdatasync resumed>) = 0`,
		`11 2.0 write(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, "HTTP/1.1 204 No Content\r\n"..., 50) = 50`,
		`12 2.1 read(3<anon_inode:[eventfd]>,  <unfinished ...>`,
	}, "\n"))
	if len(calls) != 5 {
		t.Fatalf("%d calls: %+v", len(calls), calls)
	}
	sync := calls[3]
	if sync.name != "fdatasync" || sync.begin != 2 || sync.end != 4 || sync.result != 0 || !inLog(sync) {
		t.Errorf("the sync is %+v", sync)
	}
	ack := calls[4]
	if ack.file != "TCP:[127.0.0.1:1->127.0.0.1:2]" || !strings.Contains(ack.text, `"HTTP/1.1 2`) || calls[2].result != -1 {
		t.Errorf("the answer is %+v", ack)
	}
	if reason := unsynced(calls, ack, "127.0.0.1:2"); reason != "" {
		t.Error(reason)
	}
	late := append([]call{}, calls...)
	late[3].end = ack.begin + 1
	if reason := unsynced(late, ack, "127.0.0.1:2"); !strings.Contains(reason, "no sync returned") {
		t.Errorf("a sync after the answer passes: %q", reason)
	}
	late[1].end = -1
	if reason := unsynced(late, ack, "127.0.0.1:2"); !strings.Contains(reason, "nothing was written") {
		t.Errorf("an answer without a write passes: %q", reason)
	}
}
