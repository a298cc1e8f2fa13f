// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"slices"
	"testing"
	"time"

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
