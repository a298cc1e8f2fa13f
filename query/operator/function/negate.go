// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// NewNegate returns -in, of floats and histograms.
func NewNegate(env *operator.Env, in operator.Node) operator.Node {
	n := &rowwise{env: env, in: in, names: dropNames, bind: fixed(negate)}
	if env.DelayedNameRemoval {
		return n
	}
	return NewMerge(env, n, PerSeries)
}

func negate(w *work, b *vector.Batch) error {
	for i := range b.V {
		b.V[i] = -b.V[i]
	}
	for i, h := range b.H {
		if h == nil || b.K[i] != vector.Histogram {
			continue
		}
		c, err := w.copyOf(h)
		if err != nil {
			return err
		}
		b.H[i] = c.Mul(-1)
	}
	return nil
}
