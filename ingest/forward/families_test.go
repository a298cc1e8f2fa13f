// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// TestSeriesAreSentWithWhatAnotherOfTheirFamilyTold: scrapes tell it with one series only, and of a change likewise.
func TestSeriesAreSentWithWhatAnotherOfTheirFamilyTold(t *testing.T) {
	x, to := newBench(t, Options{}), newReceiver(t)
	x.configure(to, `remote_write: [{url: URL, protobuf_message: io.prometheus.write.v2.Request`+quick+`}]`)
	refs := []sample.Ref{
		x.store.ref(1, "__name__", "h_bucket", "le", "+Inf"), x.store.ref(2, "__name__", "h_sum"),
		x.store.ref(3, "__name__", "h_bucket", "le", "1"), x.store.ref(4, "__name__", "other_sum"), x.store.ref(5, "__name__", "own"),
	}
	var sent []string
	at := int64(0)
	send := func(meta ...sample.Metadata) []string {
		t.Helper()
		to.mu.Lock()
		to.families = nil
		to.mu.Unlock()
		at++
		var b sample.Batch
		for _, ref := range refs {
			b.AppendFloat(ref, 0, at, 1, 0)
		}
		b.Meta = meta
		x.accept(&b, &sample.Result{})
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			if got := to.got(); len(got) >= int(at)*len(refs) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("after batch %d arrived %q", at, to.got())
			}
		}
		to.mu.Lock()
		defer to.mu.Unlock()
		slices.Sort(to.families)
		return slices.Clone(to.families)
	}
	check := func(want ...string) {
		t.Helper()
		if !slices.Equal(sent, want) {
			t.Errorf("batch %d came with %q, want %q", at, sent, want)
		}
	}
	sent = send()
	check()
	sent = send(sample.Metadata{Ref: refs[0], Type: "histogram", Help: "One."}, sample.Metadata{Ref: refs[4], Type: "gauge", Help: "Own."})
	check(`h_bucket histogram "" "One."`, `h_bucket histogram "" "One."`, `h_sum histogram "" "One."`, `own gauge "" "Own."`)
	sent = send(sample.Metadata{Ref: refs[0], Type: "histogram", Help: "Two."})
	check(`h_bucket histogram "" "Two."`, `h_bucket histogram "" "Two."`, `h_sum histogram "" "Two."`, `own gauge "" "Own."`)
}

// What is told of a metric is told once. A receiver whose entry is changed, one that is new, and one that reads on for long
// have it all the same; what nobody sends any more is forgotten.
func TestEveryEpochHasTheMetadataOfItsSeries(t *testing.T) {
	for version, want := range map[string]string{"prometheus.WriteRequest": `a GAUGE "s" "What it is."`, "io.prometheus.write.v2.Request": `a gauge "s" "What it is."`} {
		t.Run(version, func(t *testing.T) {
			account := budget.NewRoot("test", 0)
			x, to, later := newBench(t, Options{Beyond: account}), newReceiver(t), newReceiver(t)
			entry := func(url string, timeout int) string {
				return fmt.Sprintf(`{url: '%s', remote_timeout: %ds, metadata_config: {send_interval: 10ms}, protobuf_message: %s%s}`, url, timeout, version, quick)
			}
			at := int64(0)
			row := func(refs []sample.Ref, meta ...sample.Metadata) {
				at++
				var b sample.Batch
				for _, ref := range refs {
					b.AppendFloat(ref, 0, at, 1, 0)
				}
				b.Meta = meta
				x.accept(&b, &sample.Result{})
			}
			epoch := func() {
				t.Helper()
				q := x.f.queue.Load()
				q.write.Lock()
				defer q.write.Unlock()
				if err := q.beginLocked(); err != nil {
					t.Fatal(err)
				}
			}
			check := func(to *receiver) {
				t.Helper()
				to.mu.Lock()
				to.families = nil
				to.mu.Unlock()
				for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
					row([]sample.Ref{sample.MakeRef(1, 1)})
					to.mu.Lock()
					ok := slices.Contains(to.families, want)
					to.mu.Unlock()
					if ok {
						return
					}
					if time.Now().After(end) {
						t.Fatalf("rows come without metadata")
					}
				}
			}
			x.configure(to, `remote_write: [`+entry(to.URL, 6)+`]`)
			a, gone := x.store.ref(1, "__name__", "a"), x.store.ref(2, "__name__", "gone")
			row([]sample.Ref{a, gone}, sample.Metadata{Ref: a, Type: "gauge", Unit: "s", Help: "What it is."},
				sample.Metadata{Ref: gone, Type: "gauge", Help: strings.Repeat("x", 10_000)})
			check(to)
			epoch()
			check(to)
			x.configure(to, `remote_write: [`+entry(to.URL, 7)+`]`)
			check(to)
			x.configure(to, `remote_write: [`+entry(to.URL, 7)+`, `+entry(later.URL, 7)+`]`)
			check(later)
			for range 2 {
				epoch()
				check(to)
				check(later)
			}
			if n := account.Used() - 2*roundLeast*rowMemory; n > 8_000 {
				t.Errorf("%d bytes are charged for one series", n)
			}
		})
	}
}
