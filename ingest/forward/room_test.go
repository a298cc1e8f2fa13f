// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func TestRoundsWaitForMemoryAndGiveItBack(t *testing.T) {
	account, beyond := budget.NewRoot("test", roundLeast*rowMemory+100), budget.NewRoot("beyond", 0)
	r := newRoom(account, beyond)
	waits := 0
	begin := func(x *round, wait func(time.Duration)) {
		t.Helper()
		if !r.begin(t.Context(), x, func(d time.Duration) { waits++; wait(d) }) || x.most != roundLeast {
			t.Fatalf("a round got %d bytes after %d waits, want %d", x.most, waits, roundLeast)
		}
	}
	first, second, third := &round{}, &round{}, &round{}
	begin(first, nil)  // what is its own
	begin(second, nil) // what it shares with others
	if r.grow(first) {
		t.Error("a round grew beyond the memory there is")
	}
	began := time.Now()
	begin(third, func(time.Duration) { r.release(second) })
	if waits != 1 || time.Since(began) > roomRest/2 {
		t.Errorf("the third round waited %d times, %s", waits, time.Since(began))
	}
	third.bytes = 1000
	r.settle(third)
	if got := account.Used(); got != 1000*rowMemory {
		t.Errorf("%d bytes are charged for a round of 1000", got)
	}
	done := r.message(1 << 20) // beyond all memory: it is made alone
	done()
	r.release(third)
	r.release(first)
	if account.Used() != 0 || beyond.Used() != 0 {
		t.Errorf("%d and %d bytes are left", account.Used(), beyond.Used())
	}
	account.SetLimit(0)
	large := &round{}
	for r.begin(t.Context(), large, nil); r.grow(large); {
		continue
	}
	if large.most != roundBytes {
		t.Errorf("a round is at most %d bytes, want %d", large.most, roundBytes)
	}
}

func TestAnEndpointHasARoundWhateverOthersTake(t *testing.T) {
	account, beyond := budget.NewRoot("test", 100), budget.NewRoot("beyond", 100)
	for name, r := range map[string]*room{"one": newRoom(account, beyond), "another": newRoom(account, beyond)} {
		if err := r.names.Reserve(1 << 40); err != nil {
			t.Errorf("%s: names: %v", name, err)
		}
		x := &round{}
		if !r.begin(t.Context(), x, func(time.Duration) { t.Fatalf("%s waits", name) }) || x.most != roundLeast {
			t.Errorf("%s: a round of %d bytes", name, x.most)
		}
		r.settle(x)
	}
	if account.Used() != 0 {
		t.Errorf("%d bytes of what they share are used", account.Used())
	}
}

// waiting is a receiver's configuration with which it holds as much as it may while it is away.
const waiting = `, queue_config: {batch_send_deadline: 10ms, min_backoff: 1ms, max_backoff: 100ms, min_shards: 20, max_shards: 20}`

func TestAReceiverThatIsAwayDoesNotStarveAnother(t *testing.T) {
	account := budget.NewRoot("test", 8<<20)
	x, dead, to := newBench(t, Options{Account: account}), newReceiver(t), newReceiver(t)
	dead.answer = func(int) int { return http.StatusServiceUnavailable }
	x.configure(dead, `remote_write: [{url: URL/a`+waiting+`}]`)
	const series = 1000
	refs := make([]sample.Ref, series)
	for i := range refs {
		refs[i] = x.store.ref(uint32(i), "__name__", "a", "i", strings.Repeat("x", i))
	}
	send := func(ts int64) {
		var b sample.Batch
		for _, r := range refs {
			b.AppendFloat(r, 0, ts, float64(ts), 0)
		}
		x.accept(&b, &sample.Result{})
	}
	for ts := range int64(400) {
		send(ts)
	}
	for end := time.Now().Add(20 * time.Second); account.Used() < account.Limit()/2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("a receiver that is away holds %d bytes of %d", account.Used(), account.Limit())
		}
	}
	x.configure(to, `remote_write: [{url: `+dead.URL+`/a`+waiting+`}, {url: URL/b`+waiting+`}]`)
	send(1000)
	for end := time.Now().Add(20 * time.Second); len(to.got()) < series; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d rows came of %d", len(to.got()), series)
		}
	}
}

func TestAllMemoryOfAnEndpointIsGivenBack(t *testing.T) {
	account, beyond := budget.NewRoot("test", 0), budget.NewRoot("beyond", 0)
	x, to := newBench(t, Options{Account: account, Beyond: beyond}), newReceiver(t)
	x.configure(to, `remote_write: [{url: URL`+quick+`}]`)
	for i := range uint32(50) {
		x.row(x.store.ref(i, "__name__", "a", "i", string(rune('a'+i))), 1, 1)
	}
	for q := x.f.queue.Load(); q.behind(q.journal.Last()); {
		time.Sleep(time.Millisecond)
	}
	if beyond.Used() < 50*seriesMemory {
		t.Errorf("%d bytes are charged while it runs", beyond.Used())
	}
	x.stop()
	if account.Used() != 0 || beyond.Used() != 0 {
		t.Errorf("%d and %d bytes are charged at the end", account.Used(), beyond.Used())
	}
}
