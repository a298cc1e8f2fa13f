// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package vector_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// randomTexts returns texts as a set of series has them: sorted, each once, the empty one first.
func randomTexts(r *rand.Rand) []string {
	texts := []string{""}
	of := 1 + r.IntN(400)
	for range r.IntN(300) {
		texts = append(texts, fmt.Sprint("v", r.IntN(of)))
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

// setOf is a set of as many series as texts, with a label that has them.
func setOf(texts []string) *column.SeriesSet {
	s := &column.SeriesSet{N: len(texts), Names: []string{"a"}, Syms: [][]uint32{nil}, Text: texts}
	for i := range texts {
		s.Syms[0] = append(s.Syms[0], uint32(i))
	}
	return s
}

func TestATextHasOneSymbolFromWhicheverTablesAndOperatorsItComes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	for range 300 {
		account := budget.NewRoot("query", 0)
		d := vector.NewDict()
		d.Budget = account
		symbols := map[string]uint32{"": 0}
		check := func(text string, sym uint32) {
			t.Helper()
			if was, ok := symbols[text]; ok && was != sym {
				t.Fatalf("%q is symbol %d and symbol %d", text, was, sym)
			}
			if d.Text(sym) != text {
				t.Fatalf("symbol %d of %q means %q", sym, text, d.Text(sym))
			}
			symbols[text] = sym
		}
		for range r.IntN(8) {
			texts := randomTexts(r)
			table := tableOfSet(t, d, setOf(texts))
			for i, text := range texts {
				check(text, table.Cols[0][i])
			}
			for range r.IntN(20) * r.IntN(2) * r.IntN(2) {
				text := fmt.Sprint("v", r.IntN(600))
				check(text, symbol(d, text))
			}
		}
		for text, sym := range symbols {
			check(text, sym)
		}
		if d.Len() != len(symbols) {
			t.Fatalf("%d symbols for %d texts", d.Len(), len(symbols))
		}
		if d.Free(); account.Used() != 0 {
			t.Fatalf("%d bytes are charged", account.Used())
		}
	}
}

// many returns n texts with a prefix.
func many(prefix string, n int) []string {
	texts := []string{""}
	for i := range n {
		texts = append(texts, fmt.Sprintf("%s%08d", prefix, i))
	}
	return texts
}

func TestTextsAreChargedBeforeThereAreMore(t *testing.T) {
	const n = 10_000
	// least is what has to be charged at least, in bytes for each of the texts that were there.
	check := func(what string, least int64, grow func(d *vector.Dict) error) {
		t.Helper()
		d := vector.NewDict()
		account := budget.NewRoot("query", 0)
		d.Budget = account
		if _, err := d.Table(setOf(many("a", n))); err != nil || account.Used() != 0 {
			t.Fatalf("%v and %d bytes for texts that are the storage's", err, account.Used())
		}
		if err := grow(d); err != nil {
			t.Fatal(err)
		}
		used := account.Used()
		if used < least*n || used > 150*n {
			t.Errorf("%s: %d bytes are charged", what, used)
		}
		d = vector.NewDict()
		d.Budget = budget.NewRoot("query", used/2)
		if _, err := d.Table(setOf(many("a", n))); err != nil {
			t.Fatal(err)
		}
		var exceeded *budget.ExceededError
		if err := grow(d); !errors.As(err, &exceeded) {
			t.Errorf("%s: %v with half of the memory", what, err)
		}
		if d.Free(); d.Budget.Used() != 0 {
			t.Errorf("%s: %d bytes are charged after all", what, d.Budget.Used())
		}
	}
	table := func(texts []string) func(d *vector.Dict) error {
		return func(d *vector.Dict) error {
			_, err := d.Table(setOf(texts))
			return err
		}
	}
	check("a second table", 40, table(many("b", n)))
	check("a second table of some of the texts", 3, table(many("a", n)[1:]))
	check("one text", 30, func(d *vector.Dict) error {
		_, err := d.Symbol("x")
		return err
	})
	check("texts one by one", 50, func(d *vector.Dict) error {
		for _, s := range many("b", n) {
			if _, err := d.Symbol(s); err != nil {
				return err
			}
		}
		return nil
	})
	check("a table after a text", 45, func(d *vector.Dict) error {
		if _, err := d.Symbol("x"); err != nil {
			return err
		}
		return table(many("b", n))(d)
	})
}

// stopAfter returns a check that says stop from the n-th time on.
func stopAfter(n int) func() error {
	return func() error {
		if n--; n <= 0 {
			return errStop
		}
		return nil
	}
}

var errStop = errors.New("stop")

func TestLoopsOverTextsAndRowsEndWhenTheQueryDoes(t *testing.T) {
	const n = 100_000
	distinct, few := make([]uint32, n), make([]uint32, n)
	for i := range distinct {
		distinct[i], few[i] = uint32(i%(n/2)), uint32(i%3)
	}
	check := func(what string, do func(d *vector.Dict) error) {
		t.Helper()
		polls := 0
		d := vector.NewDict()
		d.Check = func() error {
			polls++
			return nil
		}
		if _, err := d.Table(setOf(many("a", n))); err != nil {
			t.Fatal(err)
		}
		if err := do(d); err != nil {
			t.Fatal(err)
		}
		if polls < n/20_000 {
			t.Errorf("%s: polled %d times", what, polls)
		}
		d = vector.NewDict()
		if _, err := d.Table(setOf(many("a", n))); err != nil {
			t.Fatal(err)
		}
		d.Budget, d.Check = budget.NewRoot("query", 0), stopAfter(polls)
		if err := do(d); !errors.Is(err, errStop) {
			t.Errorf("%s: %v instead of the reason to stop", what, err)
		}
		if d.Free(); d.Budget.Used() != 0 {
			t.Errorf("%s: %d bytes are charged", what, d.Budget.Used())
		}
	}
	texts := many("b", n)
	check("a second table", func(d *vector.Dict) error {
		_, err := d.Table(&column.SeriesSet{Text: texts})
		return err
	})
	check("the columns of a second table", func(d *vector.Dict) error {
		_, err := d.Table(&column.SeriesSet{N: n, Names: []string{"a"}, Syms: [][]uint32{distinct}, Text: texts[:n/2+1]})
		return err
	})
	check("the index", func(d *vector.Dict) error {
		_, err := d.Symbol("x")
		return err
	})
	group := func(cols ...[]uint32) func(d *vector.Dict) error {
		return func(d *vector.Dict) error {
			_, _, err := (&vector.Table{N: n, Names: make([]string, len(cols)), Cols: cols, Dict: d}).Groups()
			return err
		}
	}
	check("groups by a label", group(distinct))
	check("groups by two labels", group(few, distinct))
}

func TestGroupingIsChargedWhileItLasts(t *testing.T) {
	const n = 10_000
	few, distinct := make([]uint32, n), make([]uint32, n)
	for i := range distinct {
		few[i], distinct[i] = uint32(i%3), uint32(i)
	}
	d := vector.NewDict()
	if _, err := d.Table(setOf(many("a", n))); err != nil {
		t.Fatal(err)
	}
	var exceeded *budget.ExceededError
	for _, cols := range [][][]uint32{{distinct}, {few, distinct}} {
		table := &vector.Table{N: n, Names: make([]string, len(cols)), Cols: cols, Dict: d}
		d.Budget = budget.NewRoot("query", 0)
		if _, _, err := table.Groups(); err != nil || d.Budget.Used() != 0 || d.Budget.Peak() < 4*n {
			t.Errorf("%v, %d bytes are charged, at most %d", err, d.Budget.Used(), d.Budget.Peak())
		}
		d.Budget = budget.NewRoot("query", d.Budget.Peak()-1)
		if _, _, err := table.Groups(); !errors.As(err, &exceeded) || d.Budget.Used() != 0 {
			t.Errorf("%v with too little memory, %d bytes are charged", err, d.Budget.Used())
		}
		if _, err := table.Unique(); !errors.As(err, &exceeded) || d.Budget.Used() != 0 {
			t.Errorf("%v with too little memory, %d bytes are charged", err, d.Budget.Used())
		}
	}
}

func BenchmarkSecondTable(b *testing.B) {
	const n = 100_000
	texts := many("instance-", n)
	check := func(name string, second []string) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				d := vector.NewDict()
				if _, err := d.Table(&column.SeriesSet{Text: texts}); err != nil {
					b.Fatal(err)
				}
				if _, err := d.Table(&column.SeriesSet{Text: second}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/text")
		})
	}
	check("same", slices.Clone(texts))
	check("other", many("job-", n))
	check("few", slices.Clone(texts[:100]))
}
