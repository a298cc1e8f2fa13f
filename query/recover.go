// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"runtime/debug"

	"github.com/tidemarkdb/tidemark/query/operator"
)

// recovered makes an error of a panic, to be deferred. Operators have their own; this is for what is around them:
// planning, building, and opening a view. A mistake there ends one query, too, not the server and its rules.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = &operator.PanicError{Value: r, Stack: debug.Stack()}
	}
}
