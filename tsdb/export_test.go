// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import "context"

// Spill puts the in-order samples of all shards aside, due or not.
func (db *DB) Spill(ctx context.Context) error {
	if err := db.enterWhole(ctx); err != nil {
		return err
	}
	defer db.users.leave()
	for _, x := range db.head.Loads() {
		if err := db.spillShard(ctx, x.Shard, 1, 1); err != nil {
			return err
		}
	}
	return nil
}
