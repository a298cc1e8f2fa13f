// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"fmt"
	"os"
	"testing"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sys/unix"

	"github.com/tidemarkdb/tidemark/tsdb/invariant"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// After a burst of series that have left, their records take no memory, and those that come next find them empty.
func TestRecordsOfSeriesThatLeftTakeNoMemory(t *testing.T) {
	const before, burst = 500, 20_000
	x := newBench(t, Options{Shards: 1, SlotMillis: 1 << 40})
	var refs []sample.Ref
	come := func(n int, job string) {
		var b sample.Batch
		for i := range n {
			ref := x.series(labels.FromStrings(labels.MetricName, "m", "i", fmt.Sprint(i), "job", job))
			refs = append(refs, ref)
			b.AppendFloat(ref, 0, int64(i)+1, float64(i), 0)
		}
		x.commit(&b, allTimes)
	}
	come(before, "old")
	come(burst, "burst")
	s := x.h.shards[0]
	full := residentPages(t, &s.headers) + residentPages(t, &s.footers)
	x.lsn++
	x.h.Free(refs[before:], x.lsn)
	x.h.Reclaim()
	left := residentPages(t, &s.headers) + residentPages(t, &s.footers)
	if !invariant.Enabled && left > full/8 {
		t.Errorf("%d of %d pages of records are in memory after the burst", left, full)
	}
	refs = refs[:before]
	come(burst, "again")
	p := x.pin()
	defer p.Close()
	for i, ref := range refs {
		if i >= before {
			i -= before
		}
		x.want(p, ref, fmt.Sprintf("%d=%d", i+1, i))
	}
}

// residentPages returns how many pages of the operating system a table has in memory.
func residentPages[T any](t *testing.T, x *table[T]) (n int) {
	t.Helper()
	var zero T
	for i := uint32(0); i < x.records.Cap(); i += x.records.PerPage() {
		size := int(x.records.PerPage()) * int(unsafe.Sizeof(zero))
		page := unsafe.Slice((*byte)(unsafe.Pointer(x.at(i))), size)
		there := make([]byte, (size+os.Getpagesize()-1)/os.Getpagesize())
		if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&page[0])), uintptr(size), uintptr(unsafe.Pointer(&there[0]))); errno != 0 {
			t.Fatal(errno)
		}
		for _, flags := range there {
			n += int(flags & 1)
		}
	}
	return n
}
