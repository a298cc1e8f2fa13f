// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package invariant_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/invariant"
)

func TestFailfPanicsWithViolationThatNamesTheValues(t *testing.T) {
	defer func() {
		err, _ := recover().(error)
		var v *invariant.Violation
		if !errors.As(err, &v) {
			t.Fatalf("panicked with %v, want a *Violation", err)
		}
		if v.Msg != "series 7: t 3 not after 5" || !strings.HasSuffix(v.Error(), v.Msg) {
			t.Errorf("message %q, error %q", v.Msg, v.Error())
		}
	}()
	invariant.Failf("series %d: t %d not after %d", 7, 3, 5)
}
