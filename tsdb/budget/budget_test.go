// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package budget_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/invariant"
)

func checkUsed(t *testing.T, a *budget.Account, used, peak int64) {
	t.Helper()
	if a.Used() != used || a.Peak() != peak {
		t.Errorf("used %d, peak %d, want %d and %d", a.Used(), a.Peak(), used, peak)
	}
}

// refusal checks that err is a refusal by the named account.
func refusal(t *testing.T, err error, account string, limit, used, want int64) {
	t.Helper()
	var ee *budget.ExceededError
	if !errors.As(err, &ee) {
		t.Fatalf("error %v, want a refusal", err)
	}
	if *ee != (budget.ExceededError{Account: account, Limit: limit, Used: used, Want: want}) {
		t.Errorf("refusal %+v", *ee)
	}
	if !strings.Contains(err.Error(), account) {
		t.Errorf("message %q does not name the account", err)
	}
}

func TestReserveStopsAtTheLimit(t *testing.T) {
	a := budget.NewRoot("memory", 100)
	for _, n := range []int64{60, 0, 40} {
		if err := a.Reserve(n); err != nil {
			t.Fatal(err)
		}
	}
	refusal(t, a.Reserve(1), "memory", 100, 100, 1)
	if err := a.Reserve(0); err != nil {
		t.Errorf("nothing refused: %v", err)
	}
	a.Release(30)
	refusal(t, a.Reserve(31), "memory", 100, 70, 31)
	refusal(t, a.Reserve(math.MaxInt64), "memory", 100, 70, math.MaxInt64)
	checkUsed(t, a, 70, 100)
}

func TestWithoutALimitNothingIsRefused(t *testing.T) {
	a := budget.NewRoot("memory", 0)
	if err := a.Reserve(math.MaxInt64 / 2); err != nil {
		t.Fatal(err)
	}
	checkUsed(t, a, math.MaxInt64/2, math.MaxInt64/2)
}

func TestChildDrawsOnItsParents(t *testing.T) {
	root := budget.NewRoot("memory", 100)
	queries := root.Child("queries", 80)
	one := queries.Child("query", 50)
	two := queries.Child("query 2", 0)
	if err := one.Reserve(40); err != nil {
		t.Fatal(err)
	}
	refusal(t, one.Reserve(20), "query", 50, 40, 20)
	refusal(t, two.Reserve(41), "queries", 80, 40, 41)
	if err := root.Reserve(30); err != nil {
		t.Fatal(err)
	}
	refusal(t, two.Reserve(31), "memory", 100, 70, 31)
	// A refusal leaves no trace on any level, peaks included.
	checkUsed(t, one, 40, 40)
	checkUsed(t, two, 0, 0)
	checkUsed(t, queries, 40, 40)
	checkUsed(t, root, 70, 70)
	one.Release(40)
	checkUsed(t, queries, 0, 40)
	checkUsed(t, root, 30, 70)
}

func TestSetLimitBelowWhatIsInUseRefusesMore(t *testing.T) {
	a := budget.NewRoot("memory", 100)
	if err := a.Reserve(90); err != nil {
		t.Fatal(err)
	}
	a.SetLimit(50)
	refusal(t, a.Reserve(1), "memory", 50, 90, 1)
	checkUsed(t, a, 90, 90)
	a.Release(60)
	if err := a.Reserve(20); err != nil || a.Limit() != 50 {
		t.Errorf("%v, limit %d", err, a.Limit())
	}
}

func TestNilAccountCountsNothing(t *testing.T) {
	var a *budget.Account
	if err := a.Reserve(math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	a.Release(5)
	a.SetLimit(1)
	if a.Used() != 0 || a.Peak() != 0 || a.Limit() != 0 {
		t.Error("a nil account has figures")
	}
	child := a.Child("alone", 10)
	refusal(t, child.Reserve(11), "alone", 10, 0, 11)
}

func TestReleaseOfMoreThanWasReservedIsFound(t *testing.T) {
	defer func() {
		if _, ok := recover().(*invariant.Violation); ok != invariant.Enabled {
			t.Errorf("violation %t, want %t", ok, invariant.Enabled)
		}
	}()
	budget.NewRoot("memory", 10).Release(1)
}

// However many draw on one root, its limit holds at every moment and nothing is lost.
func TestConcurrentReservationsKeepTheLimit(t *testing.T) {
	const limit, workers, rounds = 1000, 8, 3000
	root := budget.NewRoot("memory", limit)
	var wg sync.WaitGroup
	for w := range workers {
		child := root.Child("query", limit/2)
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			var held []int64
			for range rounds {
				if n := r.Int64N(300); child.Reserve(n) == nil {
					held = append(held, n)
				}
				if u := root.Used(); u < 0 || u > limit {
					t.Errorf("%d of %d bytes in use", u, limit)
				}
				for len(held) > 0 && r.IntN(3) > 0 {
					child.Release(held[len(held)-1])
					held = held[:len(held)-1]
				}
			}
			for _, n := range held {
				child.Release(n)
			}
			if child.Used() != 0 || child.Peak() > limit/2 {
				t.Errorf("child: %d used, peak %d", child.Used(), child.Peak())
			}
		})
	}
	wg.Wait()
	if root.Used() != 0 || root.Peak() > limit || root.Peak() == 0 {
		t.Errorf("root: %d used, peak %d", root.Used(), root.Peak())
	}
}

// A reservation that can never be granted must not make one fail that can.
func TestRefusedReservationTakesNoRoomFromOthers(t *testing.T) {
	root := budget.NewRoot("memory", 100)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if root.Reserve(1000) == nil {
					t.Error("1000 of 100 bytes granted")
				}
			}
		}
	})
	for range 20_000 {
		if err := root.Reserve(50); err != nil {
			t.Fatal(err)
		}
		root.Release(50)
	}
	close(stop)
	wg.Wait()
}

func BenchmarkReserveRelease(b *testing.B) {
	a := budget.NewRoot("memory", 1<<40).Child("queries", 1<<39).Child("query", 1<<38)
	for b.Loop() {
		if err := a.Reserve(4096); err != nil {
			b.Fatal(err)
		}
		a.Release(4096)
	}
}

func TestLiftTakesTheLimitsOffUntilItIsRestored(t *testing.T) {
	root := budget.NewRoot("root", 100)
	a := root.Child("a", 50).Child("b", 0)
	restore := a.Lift()
	if err := a.Reserve(1000); err != nil {
		t.Errorf("reserve without limits: %v", err)
	}
	restore()
	if root.Limit() != 100 || a.Reserve(1) == nil {
		t.Errorf("limit %d after it was restored, with %d in use", root.Limit(), root.Used())
	}
	a.Release(960)
	if err := a.Reserve(5); err != nil {
		t.Errorf("reserve below the limits: %v", err)
	}
	restore = a.Lift()
	root.SetLimit(70)
	restore()
	if root.Limit() != 70 {
		t.Errorf("limit %d, want the one that was set meanwhile", root.Limit())
	}
	var none *budget.Account
	none.Lift()()
}

func TestAnExemptAccountCountsAndIsNeverRefused(t *testing.T) {
	root := budget.NewRoot("root", 10)
	a := root.Exempt("flush")
	if err := a.Reserve(100); err != nil || root.Used() != 100 || root.Peak() != 100 {
		t.Errorf("reserve: %v, %d used, peak %d", err, root.Used(), root.Peak())
	}
	if root.Child("other", 0).Reserve(1) == nil {
		t.Error("another account got memory above the limit")
	}
	a.Release(100)
	if root.Used() != 0 {
		t.Errorf("%d bytes are in use", root.Used())
	}
}

func TestWhatIsBelowAnExemptAccountIsExemptForAsLong(t *testing.T) {
	root := budget.NewRoot("root", 10)
	a := root.Exempt("head")
	b := a.Child("index", 0)
	if err := b.Reserve(100); err != nil || root.Used() != 100 {
		t.Errorf("reserve below an exempt account: %v, %d used", err, root.Used())
	}
	a.SetExempt(false)
	if a.Reserve(1) == nil || b.Reserve(1) == nil || root.Used() != 100 {
		t.Errorf("an account that is not exempt any more got memory above the limit: %d used", root.Used())
	}
	b.Release(100)
	if a.Used() != 0 || root.Used() != 0 {
		t.Errorf("%d and %d bytes are in use", a.Used(), root.Used())
	}
}

func TestGuaranteeLeavesRoomWhateverSiblingsTake(t *testing.T) {
	root := budget.NewRoot("process", 100)
	rules, err := root.Guarantee("rules", 30, 0)
	if err != nil {
		t.Fatal(err)
	}
	queries := root.Child("queries", 0)
	if err := queries.Reserve(70); err != nil {
		t.Fatal(err)
	}
	refusal(t, queries.Reserve(1), "process", 100, 100, 1)
	if err := rules.Reserve(30); err != nil {
		t.Fatalf("what is guaranteed is refused: %v", err)
	}
	refusal(t, rules.Reserve(1), "process", 100, 100, 1)
	checkUsed(t, rules, 30, 30)
	queries.Release(50)
	if err := rules.Reserve(20); err != nil {
		t.Fatalf("beyond the guarantee, with room: %v", err)
	}
	checkUsed(t, root, 70, 100)
	rules.Release(35)
	checkUsed(t, root, 50, 100)
	checkUsed(t, rules, 15, 50)
	rules.Release(15)
	queries.Release(20)
	checkUsed(t, root, 30, 100)
	if _, err := root.Guarantee("more", 71, 0); err == nil {
		t.Error("more than there is was guaranteed")
	}
}

func TestGuaranteeAddsUpUnderConcurrency(t *testing.T) {
	root := budget.NewRoot("process", 0)
	rules, err := root.Guarantee("rules", 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			var held []int64
			for range 2000 {
				if n := rng.Int64N(700) + 1; rng.IntN(2) == 0 && rules.Reserve(n) == nil {
					held = append(held, n)
				} else if len(held) > 0 {
					rules.Release(held[0])
					held = held[1:]
				}
			}
			for _, n := range held {
				rules.Release(n)
			}
		})
	}
	wg.Wait()
	if rules.Used() != 0 || root.Used() != 1000 {
		t.Errorf("%d bytes in use below, %d above, want 0 and 1000", rules.Used(), root.Used())
	}
}
