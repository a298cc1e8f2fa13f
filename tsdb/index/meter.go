// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import "github.com/tidemarkdb/tidemark/tsdb/budget"

// meter charges a budget account for many small allocations in few steps. It is guarded by its owner's lock.
type meter struct {
	account  *budget.Account
	used     int64 // bytes in use
	reserved int64 // bytes taken from the account; never below used
}

// meterStep is how much a meter takes from its account at a time: one atomic operation per thousand series.
const meterStep = 64 << 10

// ensure makes room for n more bytes, so that add of up to n cannot fail.
func (m *meter) ensure(n int64) error {
	want := m.used + n - m.reserved
	if want <= 0 {
		return nil
	}
	if err := m.account.Reserve(want + meterStep); err == nil {
		m.reserved += want + meterStep
		return nil
	}
	if err := m.account.Reserve(want); err != nil {
		return err
	}
	m.reserved += want
	return nil
}

// add counts n bytes, for which there is room, or -n bytes given back.
func (m *meter) add(n int64) {
	m.used += n
	if spare := m.reserved - m.used - 2*meterStep; n < 0 && spare > 0 {
		m.account.Release(spare)
		m.reserved -= spare
	}
}
