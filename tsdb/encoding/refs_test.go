// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding_test

import (
	"errors"
	"math"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

func TestColumnsReferToEqualAndToCloseOnes(t *testing.T) {
	r := newRand(t)
	count, near := make([]float64, 200), make([]float64, 200)
	var sum float64
	for i := range count {
		sum += float64(r.IntN(1000))
		count[i], near[i] = sum, sum+float64(i/50)
	}
	zero := make([]float64, 200)
	var e encoding.Encoder
	check := func(v []float64, refs [][]float64, want string, k int) {
		t.Helper()
		src := checkValues(t, &e, r, v, refs)
		got, ok := encoding.ValueRef(src)
		if ok != (k >= 0) || ok && got != k || encoding.Describe(src)[:3] != want[:3] {
			t.Errorf("%s of %d (%t), want %s of %d", encoding.Describe(src), got, ok, want, k)
		}
	}
	check(count, [][]float64{zero, near, count}, "ref", 2)
	check(near, [][]float64{zero, count}, "difference", 1)
	check(count, [][]float64{zero}, "decimal", -1)
	check(count, nil, "decimal", -1)
	check(zero, [][]float64{zero}, "constant", -1)
	// Columns that equal each other as numbers, but not in their bits, are not equal.
	minus := make([]float64, 200)
	for i := range minus {
		minus[i] = math.Copysign(0, float64(i%2)-1)
	}
	check(minus, [][]float64{zero}, "decimal", -1)
}

func TestReferencesThatLeadNowhereAreRefused(t *testing.T) {
	count, near := make([]float64, 100), make([]float64, 100)
	r := newRand(t)
	for i := range count {
		count[i] = float64(r.IntN(100_000))
		near[i] = count[i] + 1.5*float64(i%7/6)
	}
	var e encoding.Encoder
	same := e.AppendValues(nil, count, [][]float64{count})
	diff := e.AppendValues(nil, near, [][]float64{count})
	if encoding.Describe(same) != "ref" || encoding.Describe(diff)[:4] != "diff" {
		t.Fatalf("%s, %s", encoding.Describe(same), encoding.Describe(diff))
	}
	lost := errors.New("lost")
	odd := append([]float64{math.Pi}, count[1:]...)
	for name, ref := range map[string]func(int) ([]float64, error){
		"none":           nil,
		"failing":        func(int) ([]float64, error) { return nil, lost },
		"shorter":        func(int) ([]float64, error) { return count[:99], nil },
		"of other kinds": func(int) ([]float64, error) { return odd, nil },
	} {
		for _, src := range [][]byte{same, diff} {
			got, err := encoding.DecodeValues(nil, src, 100, 0, 100, ref)
			var corrupt *encoding.CorruptError
			switch {
			case name == "of other kinds" && encoding.Describe(src) == "ref":
				if err != nil || len(got) != 100 {
					t.Errorf("%d rows, %v", len(got), err)
				}
			case name == "failing":
				if !errors.Is(err, lost) {
					t.Errorf("%v is not the error of the reference", err)
				}
			case !errors.As(err, &corrupt) || len(got) > 0:
				t.Errorf("%s: %d rows, %v", name, len(got), err)
			}
		}
	}
}
