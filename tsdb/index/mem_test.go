// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// head is what the owner of a Mem keeps: the pairs of each series.
type head struct {
	mem   *Mem
	pairs map[uint32][]uint32
}

func newHead() *head { return &head{mem: NewMem(nil), pairs: map[uint32][]uint32{}} }

func (h *head) add(t failer, id uint32, ls labels.Labels) {
	t.Helper()
	pairs, err := h.mem.Intern(ls, nil)
	if err != nil {
		t.Fatalf("intern: %v", err)
	}
	if err := h.mem.Add(id, pairs); err != nil {
		t.Fatalf("add: %v", err)
	}
	h.pairs[id] = pairs
}

func (h *head) remove(ids []uint32) {
	h.mem.Remove(ids, func(id uint32, dst []uint32) []uint32 { return append(dst, h.pairs[id]...) })
	for _, id := range ids {
		delete(h.pairs, id)
	}
}

func (h *head) labels(id uint32) labels.Labels {
	b := labels.NewScratchBuilder(8)
	for p := h.pairs[id]; len(p) > 0; p = p[2:] {
		b.Add(h.mem.Symbol(p[0]), h.mem.Symbol(p[1]))
	}
	return b.Labels()
}

func TestMemAnswersMatcherCornersLikePrometheus(t *testing.T) {
	h, m := newHead(), model{}
	checkCorners(t, h.mem, m)
	for i, ls := range cornerSeries() {
		h.add(t, uint32(i), ls)
		m[uint32(i)] = ls
	}
	checkCorners(t, h.mem, m)
}

func TestMemEqualsModelUnderChurn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, m := newHead(), model{}
		for range rapid.IntRange(1, 4).Draw(t, "rounds") {
			for range rapid.IntRange(0, 60).Draw(t, "adds") {
				id := uint32(rapid.IntRange(0, 3000).Draw(t, "id"))
				if _, used := m[id]; used {
					continue
				}
				m[id] = genLabels(t)
				h.add(t, id, m[id])
			}
			if rapid.Bool().Draw(t, "remove") && len(m) > 0 {
				ids := slices.Sorted(maps.Keys(m))
				gone := slices.DeleteFunc(ids, func(id uint32) bool { return id%uint32(rapid.IntRange(1, 3).Draw(t, "keep")) != 0 })
				h.remove(gone)
				for _, id := range gone {
					delete(m, id)
				}
			}
			for range 3 {
				compare(t, h.mem, m, genMatchers(t), rapid.IntRange(0, 3).Draw(t, "limit"))
			}
			for id, ls := range m {
				if got := h.labels(id); !labels.Equal(got, ls) {
					t.Fatalf("labels of %d: %s, want %s", id, got, ls)
				}
				pairs, ok := h.mem.FindPairs(ls, nil)
				if !ok || !slices.Equal(pairs, h.pairs[id]) {
					t.Fatalf("FindPairs(%s) = %v, %t, want %v", ls, pairs, ok, h.pairs[id])
				}
			}
		}
	})
}

func TestMemGivesEverythingBackWhenTheLastSeriesLeaves(t *testing.T) {
	root := budget.NewRoot("test", 0)
	h := newHead()
	h.mem = NewMem(root)
	var peak int64
	for round := range 20 {
		var ids []uint32
		for i := range uint32(5000) {
			h.add(t, i, labels.FromStrings("__name__", "m", "pod", fmt.Sprintf("pod-%d-%d", round, i), "r", strconv.Itoa(round), "x", strconv.Itoa(int(i%7))))
			ids = append(ids, i)
		}
		if round == 0 {
			peak = h.mem.Bytes()
		} else if h.mem.Bytes() > peak*5/4 {
			t.Fatalf("round %d: %d bytes, the first needed %d", round, h.mem.Bytes(), peak)
		}
		h.remove(ids)
	}
	if n := h.mem.Len(); n != 0 {
		t.Errorf("%d series left", n)
	}
	s := &h.mem.mu.symbols
	if live := int(s.n) - len(s.free); live != 0 {
		t.Errorf("%d symbols left", live)
	}
	p := &h.mem.mu.pairs
	if live := int(p.n) - len(p.free); live != 0 || len(h.mem.mu.names) != 0 {
		t.Errorf("%d pairs, %d names left", live, len(h.mem.mu.names))
	}
	if live := len(h.mem.mu.lists.all) - len(h.mem.mu.lists.free); live != 0 {
		t.Errorf("%d lists left", live)
	}
	if h.mem.Bytes() > peak*2/3 {
		t.Errorf("%d bytes in use when empty, %d when full", h.mem.Bytes(), peak)
	}
	if used := root.Used(); used < h.mem.Bytes() || used > h.mem.Bytes()+4*meterStep {
		t.Errorf("account holds %d bytes for %d", used, h.mem.Bytes())
	}
}

func TestMemReleaseForgetsUnusedSymbols(t *testing.T) {
	m := NewMem(nil)
	kept, _ := m.Intern(labels.FromStrings("a", "x"), nil)
	if err := m.Add(1, kept); err != nil {
		t.Fatal(err)
	}
	pairs, _ := m.Intern(labels.FromStrings("a", "y"), nil)
	m.Release(pairs)
	if _, ok := m.FindPairs(labels.FromStrings("a", "y"), nil); ok {
		t.Error("symbol y is still known")
	}
	if got := m.Symbol(kept[1]); got != "x" {
		t.Errorf("symbol of the added series is %q", got)
	}
}

func TestMemCopiesStrings(t *testing.T) {
	m := NewMem(nil)
	b := labels.NewScratchBuilder(1)
	var ls labels.Labels
	b.Add("name", "value")
	b.Overwrite(&ls)
	pairs, err := m.Intern(ls, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.Reset()
	b.Add("name", "other")
	b.Overwrite(&ls) // into the memory that the first labels were in
	if got := m.Symbol(pairs[1]); got != "value" {
		t.Errorf("symbol changed to %q with the caller's buffer", got)
	}
}

func TestMemStringsOutliveTheirSymbols(t *testing.T) {
	h := newHead()
	long := strings.Repeat("v", 1000)
	var texts []string
	var ids []uint32
	for i := range uint32(500) {
		h.add(t, i, labels.FromStrings("a", fmt.Sprintf("%s-%d", long, i)))
		texts = append(texts, h.mem.Symbol(h.pairs[i][1]))
		ids = append(ids, i)
	}
	h.remove(ids)
	for i := range uint32(500) {
		h.add(t, i, labels.FromStrings("a", strings.Repeat("w", 1000)+strconv.Itoa(int(i))))
	}
	for i, text := range texts {
		if want := fmt.Sprintf("%s-%d", long, i); text != want {
			t.Fatalf("string %d changed to %q", i, text)
		}
	}
}

func TestMemRefusesWhatItCannotHold(t *testing.T) {
	m := NewMem(nil)
	pairs, _ := m.Intern(labels.FromStrings("a", "x"), nil)
	check := func(want, got error) {
		t.Helper()
		if !errors.Is(got, want) {
			t.Errorf("error %v, want %v", got, want)
		}
	}
	check(ErrID, m.Add(1<<31, pairs))
	check(ErrSymbol, m.Add(1, []uint32{7, 8}))
	check(nil, m.Add(1<<31-1, pairs))
	pairs, _ = m.Intern(labels.FromStrings("a", "x"), nil)
	check(ErrInUse, m.Add(1<<31-1, pairs))
}

func TestMemStopsAtItsBudgetAndStaysWhole(t *testing.T) {
	root := budget.NewRoot("test", 600<<10)
	h := newHead()
	h.mem = NewMem(root)
	m := model{}
	for i := uint32(0); ; i++ {
		ls := labels.FromStrings("__name__", "m", "pod", fmt.Sprintf("pod-with-a-long-name-%d", i), "x", strconv.Itoa(int(i%7)))
		pairs, err := h.mem.Intern(ls, nil)
		if err == nil {
			if err = h.mem.Add(i, pairs); err != nil {
				h.mem.Release(pairs)
			}
		}
		if err != nil {
			if _, ok := errors.AsType[*budget.ExceededError](err); !ok {
				t.Fatalf("error %v", err)
			}
			if len(pairs) > 0 && h.mem.Symbol(pairs[3]) != "" {
				t.Error("symbol of the refused series is still there")
			}
			break
		}
		h.pairs[i], m[i] = pairs, ls
	}
	if len(m) < 1000 {
		t.Fatalf("only %d series fit", len(m))
	}
	if root.Used() > root.Limit() {
		t.Errorf("%d bytes used of %d", root.Used(), root.Limit())
	}
	compare(t, h.mem, m, []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "x", "3")}, 0)
	ids := h.mem.All(nil)
	h.remove(ids[:len(ids)/2])
	h.add(t, ids[0], labels.FromStrings("new", "one"))
}

func TestMemRefusedAddLeavesNothing(t *testing.T) {
	root := budget.NewRoot("test", 0)
	m := NewMem(root)
	var kv []string
	for i := range 40 {
		kv = append(kv, fmt.Sprintf("name%02d", i), "x")
	}
	ls := labels.FromStrings(kv...)
	pairs, err := m.Intern(ls, nil)
	if err != nil {
		t.Fatal(err)
	}
	root.SetLimit(root.Used() + meterStep)
	if err := m.Add(1, pairs); err == nil {
		t.Fatal("no error")
	}
	if n := int(m.mu.pairs.n) - len(m.mu.pairs.free); n != 0 || len(m.mu.names) != 0 || m.Len() != 0 {
		t.Errorf("%d pairs, %d names, %d series left", n, len(m.mu.names), m.Len())
	}
	root.SetLimit(1 << 30)
	if err := m.Add(1, pairs); err != nil { // the uses were still ours
		t.Fatal(err)
	}
	compare(t, m, model{1: ls}, []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "name07", "x")}, 0)
}

func TestMemStatsListLargestFirst(t *testing.T) {
	h := newHead()
	for i := range uint32(100) {
		h.add(t, i, labels.FromStrings("__name__", []string{"up", "cpu", "cpu"}[i%3], "i", fmt.Sprintf("%03d", i), "z", "1"))
	}
	s := h.mem.Stats(2)
	check := func(what string, got []Stat, want ...Stat) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", what, diff)
		}
	}
	check("metrics", s.SeriesByMetric, Stat{"cpu", 66}, Stat{"up", 34})
	check("values", s.ValuesByLabel, Stat{"i", 100}, Stat{"__name__", 2})
	check("bytes", s.BytesByLabel, Stat{"i", 300}, Stat{"__name__", 5})
	check("pairs", s.SeriesByLabelPair, Stat{"z=1", 100}, Stat{"__name__=cpu", 66})
	if s.Series != 100 || s.LabelPairs != 103 {
		t.Errorf("%d series, %d pairs", s.Series, s.LabelPairs)
	}
	for i := range uint32(100) { // all equal: the first names stay
		h.add(t, 100+i, labels.FromStrings("tie", fmt.Sprintf("%03d", 99-i)))
	}
	check("ties", h.mem.Stats(5).SeriesByLabelPair[3:], Stat{"i=000", 1}, Stat{"i=001", 1})
	if got := h.mem.Stats(0); len(got.SeriesByMetric) != 0 {
		t.Errorf("limit 0 gave %v", got.SeriesByMetric)
	}
}

func TestMemReadersAndWritersAtOnce(t *testing.T) {
	h := newHead()
	for i := range uint32(2000) {
		h.add(t, i, labels.FromStrings("__name__", "stays", "half", []string{"", "y"}[i%2], "i", strconv.Itoa(int(i)), "m", strconv.Itoa(int(i%10))).WithoutEmpty())
	}
	const seed = 7
	t.Logf("seed %d", seed)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for r := range 3 {
		wg.Go(func() {
			for k := r; ; k++ {
				select {
				case <-stop:
					return
				default:
				}
				checkStable(t, h.mem, k)
			}
		})
	}
	rnd := rand.New(rand.NewPCG(seed, 1))
	for round := range 30 {
		var ids []uint32
		for i := range uint32(1000) {
			id := 2000 + i
			h.add(t, id, labels.FromStrings("__name__", "goes", "i", fmt.Sprintf("%d-%d", round, i), "m", strconv.Itoa(rnd.IntN(10))))
			ids = append(ids, id)
		}
		h.remove(ids)
	}
	close(stop)
	wg.Wait()
}

// checkStable asks for what does not change while other series come and go.
func checkStable(t *testing.T, m *Mem, k int) {
	match := func(kind labels.MatchType, name, value string) *labels.Matcher {
		return labels.MustNewMatcher(kind, name, value)
	}
	stays := match(labels.MatchEqual, "__name__", "stays")
	ctx := context.Background()
	ids, err := m.Select(budget.NewTask(ctx, nil), []*labels.Matcher{stays, match(labels.MatchRegexp, "i", ".*[0-9]"), match(labels.MatchNotRegexp, "m", "3.*")})
	if err != nil || len(ids) != 1800 {
		t.Errorf("%d ids, error %v", len(ids), err)
	}
	ids, err = m.Select(budget.NewTask(ctx, nil), []*labels.Matcher{match(labels.MatchNotEqual, "__name__", "goes"), match(labels.MatchRegexp, "m", fmt.Sprintf("%d|x", k%10))})
	if err != nil || len(ids) != 200 || ids[len(ids)-1] >= 2000 {
		t.Errorf("%d ids, error %v", len(ids), err)
	}
	values, err := m.LabelValues(budget.NewTask(ctx, nil), "m", []*labels.Matcher{stays}, 0)
	if err != nil || len(values) != 10 {
		t.Errorf("values %v, error %v", values, err)
	}
	ids, err = m.Select(budget.NewTask(ctx, nil), []*labels.Matcher{match(labels.MatchNotEqual, "half", "")})
	if err != nil || len(ids) != 1000 {
		t.Errorf("%d ids, error %v", len(ids), err)
	}
	values, err = m.LabelValues(budget.NewTask(ctx, nil), "__name__", []*labels.Matcher{match(labels.MatchEqual, "half", "y")}, 0)
	if err != nil || len(values) != 1 {
		t.Errorf("values %v, error %v", values, err)
	}
	names, err := m.LabelNames(budget.NewTask(ctx, nil), []*labels.Matcher{match(labels.MatchEqual, "half", ""), stays}, 0)
	if err != nil || len(names) != 3 {
		t.Errorf("names %v, error %v", names, err)
	}
	m.Stats(5)
}

func TestMemHeldViewAnswersTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, m := newHead(), model{}
		for i := range uint32(rapid.IntRange(0, 60).Draw(t, "series")) {
			m[i] = genLabels(t)
			h.add(t, i, m[i])
		}
		compare(t, heldMem{h.mem}, m, genMatchers(t), rapid.IntRange(0, 3).Draw(t, "limit"))
	})
}

// heldMem asks a Mem as one does that was spoilt too often.
type heldMem struct{ m *Mem }

func (h heldMem) Select(task *budget.Task, ms []*labels.Matcher) ([]uint32, error) {
	h.m.mu.RLock()
	defer h.m.mu.RUnlock()
	return selectIDs(task, &memView{m: h.m, held: true}, ms)
}

func (h heldMem) LabelNames(task *budget.Task, ms []*labels.Matcher, limit int) ([]string, error) {
	h.m.mu.RLock()
	defer h.m.mu.RUnlock()
	return labelNames(task, &memView{m: h.m, held: true}, ms, limit)
}

func (h heldMem) LabelValues(task *budget.Task, name string, ms []*labels.Matcher, limit int) ([]string, error) {
	h.m.mu.RLock()
	defer h.m.mu.RUnlock()
	return labelValues(task, &memView{m: h.m, held: true}, name, ms, limit)
}

func TestMemStopsWhenTheContextEnds(t *testing.T) {
	h := newHead()
	for i := range uint32(10000) {
		h.add(t, i, labels.FromStrings("i", strconv.Itoa(int(i))))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.mem.Select(budget.NewTask(ctx, nil), []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "i", ".*7.*")}); !errors.Is(err, context.Canceled) {
		t.Errorf("Select: %v", err)
	}
	if _, err := h.mem.LabelValues(budget.NewTask(ctx, nil), "i", nil, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("LabelValues: %v", err)
	}
}

func TestWhoWaitsForTheSortingOfValuesMayGiveUp(t *testing.T) {
	h := newHead()
	h.add(t, 1, labels.FromStrings("i", "1"))
	task := budget.NewTask(t.Context(), nil)
	if !h.mem.sorting.enter(task) {
		t.Fatal("somebody sorts")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := h.mem.LabelValues(budget.NewTask(ctx, nil), "i", nil, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	h.mem.sorting.leave()
	if values, err := h.mem.LabelValues(task, "i", nil, 0); err != nil || len(values) != 1 {
		t.Errorf("values %q, error %v", values, err)
	}
}
