// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

func one(v float64) func(int) float64 { return func(int) float64 { return v } }

func TestScanGivesBackWithItsBlockAllThatItCharged(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	for ts := range int64(500) {
		commit(t, db, []labels.Labels{seriesName(1)}, 1000+ts, one(1))
	}
	v, err := db.View(minTime, maxTime)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	set, err := v.Series(t.Context(), nil, column.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	b := column.Block{Budget: budget.NewRoot("query", 0)}
	if _, err := v.Scan(t.Context(), set, []uint32{0}, column.Need{}, &b); err != nil {
		t.Fatal(err)
	}
	if used, have := b.Budget.Used(), int64(cap(b.T)+cap(b.V))*8; used != have {
		t.Errorf("%d bytes are charged for columns of %d", used, have)
	}
	b.Free()
	if n := b.Budget.Used(); n != 0 {
		t.Errorf("%d bytes are still charged", n)
	}
}
