// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/web/api"
)

// keeper is what is kept in the store, in the words of the HTTP API.
type keeper struct{ db *tsdb.DB }

func (k keeper) Deletes() []api.DeleteEntry {
	var out []api.DeleteEntry
	for _, d := range k.db.Deletes() {
		out = append(out, api.DeleteEntry{
			ID: uint64(d.ID), At: d.At, MinTime: d.MinT, MaxTime: d.MaxT, Match: d.Match, Series: d.Series, Undoable: !d.Final,
		})
	}
	return out
}

func (k keeper) Undelete(ctx context.Context, id uint64) error {
	err := k.db.Undelete(ctx, sample.LSN(id))
	switch {
	case errors.Is(err, tsdb.ErrNoDelete):
		return api.ErrNoDelete
	case errors.Is(err, tsdb.ErrFinal):
		return api.ErrFinalDelete
	}
	return err
}

func (k keeper) Retention() api.RetentionSettings {
	s := k.db.Retention()
	out := api.RetentionSettings{Time: s.Keep, Size: s.Bytes}
	for _, p := range s.Policies {
		out.Policies = append(out.Policies, api.RetentionPolicy(p))
	}
	return out
}

func (k keeper) Report(ctx context.Context, s api.RetentionSettings) ([]api.RetentionPart, error) {
	in := tsdb.RetentionSettings{Keep: s.Time, Bytes: s.Size}
	for _, p := range s.Policies {
		in.Policies = append(in.Policies, tsdb.RetentionPolicy(p))
	}
	parts, err := k.db.RetentionReport(ctx, in)
	var out []api.RetentionPart
	for _, p := range parts {
		out = append(out, api.RetentionPart{
			Block: p.Block, Policy: p.Policy, MinTime: p.MinT, MaxTime: p.MaxT, Series: p.Series, Samples: p.Samples, Bytes: p.Bytes, Goes: p.Goes,
			Prometheus: p.Foreign,
		})
	}
	return out, err
}
