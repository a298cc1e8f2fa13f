// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scalar

import (
	"context"
	"math"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// Of returns scalar(in): the value of the only float at a step, NaN where there is none or more than one.
func Of(env *operator.Env, in operator.Node) operator.Scalar {
	return &node{env: env, also: in.Close, compute: func(ctx context.Context, n *node) error {
		if err := in.Open(ctx); err != nil {
			return err
		}
		return only(ctx, n, in)
	}}
}

// only finds the only float of each step.
func only(ctx context.Context, n *node, in operator.Node) error {
	steps := in.Grid().N
	if err := n.alloc(steps); err != nil {
		return err
	}
	if err := n.env.Account.Reserve(int64(steps)); err != nil {
		return err
	}
	defer n.env.Account.Release(int64(steps))
	seen := make([]uint8, steps) // 0, 1, or 2 for more
	err := n.env.Drain(ctx, in, nil, func(b *vector.Batch) error {
		for i := range b.Rows() {
			v, k, _ := b.Row(i)
			for j := range k {
				if k[j] == vector.Float {
					n.values[j], seen[j] = v[j], min(seen[j]+1, 2)
				}
			}
		}
		return nil
	})
	for j, s := range seen {
		if s != 1 {
			n.values[j] = math.NaN()
		}
	}
	return err
}
