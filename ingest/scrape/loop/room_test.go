// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// within lets the bench's requests have so many bytes.
func (b *bench) within(t *testing.T, limit int64) *budget.Account {
	t.Helper()
	account := budget.NewRoot("requests", limit)
	in, err := ingest.New(ingest.Options{Appender: b.store, Foreseer: b.store, Requests: account})
	if err != nil {
		t.Fatal(err)
	}
	b.pool.intake = in
	return account
}

// TestScrapesWithoutRoomFailAndAreReported wherever in the body the room ends: up is 0, what was there is marked, and
// the first scrape with room is good.
func TestScrapesWithoutRoomFailAndAreReported(t *testing.T) {
	const series = 1000
	for _, own := range []string{"", " 1600000000000"} {
		var text, more bytes.Buffer
		for i := range series {
			fmt.Fprintf(&text, "m_%d{device=\"eth%d\"} %d%s\n", i/3, i%3, i, own)
			fmt.Fprintf(&more, "m_%d{device=\"new%d\"} %d%s\n", i/3, i%3, i, own)
		}
		good := map[bool]int{}
		for limit := int64(20_000); limit < 700_000; limit += limit/9 + 1 {
			b := newBench(t)
			b.give(text.Bytes())
			account := b.within(t, limit)
			for _, body := range [][]byte{text.Bytes(), more.Bytes(), text.Bytes()} {
				rows, up := b.give(body)
				good[up]++
				if !up && len(rows) > 0 || up && len(rows) != series {
					t.Fatalf("own time %q, %d bytes: up %t with %d samples", own, limit, up, len(rows))
				}
				if used := account.Used(); used != 0 {
					t.Fatalf("own time %q, %d bytes: %d stay in use", own, limit, used)
				}
			}
			b.within(t, 0)
			if rows, up := b.give(more.Bytes()); !up || len(rows) != series {
				t.Fatalf("own time %q, after %d bytes: with room up is %t with %d samples", own, limit, up, len(rows))
			}
		}
		if good[true] == 0 || good[false] == 0 {
			t.Errorf("own time %q: %d scrapes had room, %d had none", own, good[true], good[false])
		}
	}
}

// TestTargetsThatAreDownAreReportedWhereNothingHasRoom: nothing else tells that they are.
func TestTargetsThatAreDownAreReportedWhereNothingHasRoom(t *testing.T) {
	b := newBench(t)
	b.give([]byte("a 1\nb 2\n"))
	account := b.within(t, 1000)
	if err := account.Reserve(1000); err != nil {
		t.Fatal(err)
	}
	before := len(b.store.Rows())
	b.at = b.at.Add(time.Second)
	b.Loop.store(&body{}, result{err: errBodySize}, b.at, b.at)
	rows := b.store.Rows()[before:]
	stale := 0
	for _, r := range rows {
		if value.IsStaleNaN(r.V) {
			stale++
		}
	}
	if len(rows) != 2+usualReports || stale != 2 {
		t.Errorf("%d rows with %d markers are stored: %v", len(rows), stale, rows)
	}
	if used := account.Used(); used != 1000 {
		t.Errorf("%d bytes are in use, 1000 are somebody else's", used)
	}
	before = len(b.store.Rows())
	b.markGone(b.at.Add(time.Second))
	if n := len(b.store.Rows()) - before; n != usualReports {
		t.Errorf("%d rows mark the end of the target", n)
	}
}
