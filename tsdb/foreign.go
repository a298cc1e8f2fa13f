// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"fmt"
	"iter"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// Foreign is what another program left in the data path. Its blocks are queried beside the store's own and become such
// in the background. Package tsdb/prom implements it for Prometheus.
type Foreign interface {
	// Open lists what is in dir. It changes nothing there; what has to be worked up before it can be read goes to
	// scratch, which is the program's own. Blocks whose id done reports are left out.
	Open(ctx context.Context, dir, scratch string, done func(id string) bool) (ForeignContents, error)
	// Remove deletes an original from dir, if it is there; RemoveRest all else that the blocks were made from. They are
	// called only after all of it is in blocks of the store, and only where the store is told to.
	Remove(dir, id string) error
	RemoveRest(dir string) error
}

// ForeignContents is what Foreign.Open found.
type ForeignContents struct {
	Blocks []ForeignBlock
	// Unreadable are the parts whose samples answers lack.
	Unreadable []ForeignGap
}

// ForeignGap is a time of which samples cannot be read.
type ForeignGap struct {
	MinT, MaxT int64
	Err        error
	// NextStep is what the user can do about it; empty: to restore or remove what is damaged.
	NextStep string
}

// ForeignBlock is an immutable block of another program. Its series have ids that ascend in label order. It is safe for
// concurrent use until Close.
type ForeignBlock interface {
	Info() ForeignInfo
	// Load reads and checks what the methods below go by and returns the memory that it takes until Close. It is called
	// once, before the first of them. An error that is a *ForeignDamage says that the block cannot be read, now or later.
	Load(ctx context.Context) (bytes int64, err error)
	// Select returns the ids of the series that match all of ms, ascending.
	Select(ctx context.Context, ms []*labels.Matcher) ([]uint32, error)
	// Pairs appends the labels of a series that Select gave as symbols: name, value, name, value, … in label order. Symbols
	// are below Symbols; Symbol returns what one stands for, a text that is good until Close.
	Pairs(id uint32, dst []uint32) ([]uint32, error)
	Symbols() int
	Symbol(sym uint32) string
	LabelNames(ctx context.Context, ms []*labels.Matcher, limit int) ([]string, error)
	LabelValues(ctx context.Context, name string, ms []*labels.Matcher, limit int) ([]string, error)
	// Reader returns a reader of one goroutine.
	Reader() ForeignReader
	// Exemplars returns those of a series in [mint, maxt], by time.
	Exemplars(id uint32, mint, maxt int64) ([]exemplar.Exemplar, error)
	// Metadata yields the descriptions of metric families, by name. It does not need Load.
	Metadata() iter.Seq2[string, metadata.Metadata]
	// Copy copies the block, as the other program would read it, to a directory of this name in dir.
	Copy(ctx context.Context, dir string) error
	Close() error
	// Discard deletes what is in scratch of the block, after Close.
	Discard() error
}

// ForeignInfo is what a block says about itself.
type ForeignInfo struct {
	ID         string
	MinT, MaxT int64 // of its samples, both inclusive
	Bytes      int64
	Series     uint64
	Samples    uint64
	// Replaces names the blocks that this one was made of, which may still be there.
	Replaces []string
}

// ForeignReader reads the samples of series.
type ForeignReader interface {
	// Read appends the rows of a series in the range of n, ascending and unique in time.
	Read(ctx context.Context, id uint32, n column.Need, dst *column.Block) error
}

// ForeignDamage says that a part of a foreign block cannot be read.
type ForeignDamage struct {
	Block string
	Err   error
}

// Error names the block.
func (e *ForeignDamage) Error() string {
	return fmt.Sprintf("block %s of another program is damaged: %v", e.Block, e.Err)
}

// Unwrap returns the cause.
func (e *ForeignDamage) Unwrap() error { return e.Err }
