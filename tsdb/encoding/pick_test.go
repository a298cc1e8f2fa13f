// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

func parseTimes(t *testing.T, ts ...int64) encoding.Times {
	t.Helper()
	var e encoding.Encoder
	times, err := encoding.ParseTimes(e.AppendTimes(nil, ts))
	if err != nil {
		t.Fatal(err)
	}
	return times
}

func TestPickedRowsAreAColumn(t *testing.T) {
	for name, times := range map[string]encoding.Times{
		"affine": parseTimes(t, 10, 20, 30, 40, 50),
		"listed": parseTimes(t, 10, 20, 31, 40, 50),
	} {
		all := times.AppendTo(nil, 0, 5)
		got, err := times.Pick([]int64{0, 2, 4})
		want := []int64{all[0], all[2], all[4]}
		if err != nil || got.Len() != 3 || !slices.Equal(got.AppendTo(nil, 0, 3), want) || got.First() != 10 || got.Last() != 50 {
			t.Errorf("%s: %v, %d", name, err, got.AppendTo(nil, 0, got.Len()))
		}
		checkSearch(t, &got, want)
		if got, err = times.Pick(nil); err != nil || got.Len() != 0 || got.Search(1) != 0 {
			t.Errorf("%s: no rows: %v, %d", name, err, got.Len())
		}
		for _, rows := range [][]int64{{5}, {-1}, {1, 1}, {2, 1}, {0, 1 << 40}} {
			var corrupt *encoding.CorruptError
			if got, err := times.Pick(rows); !errors.As(err, &corrupt) || got.Len() > 0 {
				t.Errorf("%s: rows %d: %v, %d", name, rows, err, got.Len())
			}
		}
	}
}

func TestMemoryOfTimesIsThatOfTheirList(t *testing.T) {
	var e encoding.Encoder
	affine, listed := e.AppendTimes(nil, []int64{1, 2, 3, 4}), e.AppendTimes(nil, []int64{1, 2, 3, 5})
	if a, b := encoding.TimesMemory(affine, 4), encoding.TimesMemory(listed, 4); b != a+4*8 {
		t.Errorf("%d bytes affine, %d listed", a, b)
	}
	if a, b := encoding.TimesMemory(affine, 4), encoding.TimesMemory(affine, 4000); a != b {
		t.Errorf("%d bytes for 4 affine rows, %d for 4000", a, b)
	}
}
