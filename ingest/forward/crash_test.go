// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// TestACrashLosesNothingThatWasWrittenAndMakesNothingUp ends the process, or the power, after each of some commits, while
// the receiver is down, and looks at what a start on what is left sends.
func TestACrashLosesNothingThatWasWrittenAndMakesNothingUp(t *testing.T) {
	disk := fsx.NewCrashable()
	x, to := newBench(t, Options{FS: disk}), newReceiver(t)
	to.answer = func(int) int { return http.StatusBadGateway }
	config := `remote_write: [{name: far, url: URL` + quick + `}]`
	x.configure(to, config)
	var want []string
	for i := range int64(12) {
		ref := sample.MakeRef(1, uint32(i/2))
		if i%2 == 0 {
			ref = x.store.ref(uint32(i/2), "__name__", "m", "i", fmt.Sprint(i/2))
		}
		x.row(ref, i, float64(i))
		want = append(want, fmt.Sprintf(`{__name__="m", i="%d"} %d @%d`, i/2, i, i))
		q := x.f.queue.Load()
		if err := q.journal.Durable(t.Context(), q.journal.Last()); err != nil {
			t.Fatal(err)
		}
		for _, kept := range []int{0, 50, 100} {
			left := disk.Crash(kept, uint64(i))
			checkAfterCrash(t, left, x.o.Dir, config, want, kept == 100)
		}
	}
}

// checkAfterCrash starts on what is left on the disk: everything written is to be sent if all is.
func checkAfterCrash(t *testing.T, left fsx.FS, dir, config string, written []string, all bool) {
	t.Helper()
	to := newReceiver(t)
	y := &bench{t: t, o: Options{FS: left, Dir: dir}}
	y.o.Store = &y.store
	y.start()
	defer func() { y.stop() }()
	y.configure(to, config)
	fresh := y.store.ref(1, "__name__", "fresh")
	y.row(fresh, 99, 99)
	last := `{__name__="fresh"} 99 @99`
	for end := time.Now().Add(20 * time.Second); !slices.Contains(to.got(), last); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the row after the crash does not come, but %q", to.got())
		}
	}
	for _, line := range to.got() {
		if line != last && !slices.Contains(written, line) {
			t.Errorf("%s was never committed", line)
		}
	}
	if !all {
		return
	}
	for _, line := range written {
		if !slices.Contains(to.got(), line) {
			t.Errorf("%s is missing; %q came", line, to.got())
		}
	}
}
