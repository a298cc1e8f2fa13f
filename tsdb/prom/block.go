// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	store "github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// Block is one block of a Prometheus, opened for reading. A series' id is its reference in the block's index; the
// format lists series in label order, so ids ascend with it.
type Block struct {
	dir     string
	scratch bool // made by us, from the log
	block   *tsdb.Block
	index   tsdb.IndexReader
	entries *entries
	chunks  tsdb.ChunkReader
	dead    tombstones.Reader
	// attached is what the log had that the block was made of and its format has no place for; nil: nothing.
	attached *attachments
}

var _ store.ForeignBlock = (*Block)(nil)

// openBlock opens the block in dir. Files are mapped; their index and chunks are checked as they are read.
func openBlock(dir string, scratch bool) (*Block, error) {
	b, err := tsdb.OpenBlock(nil, dir, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("open the Prometheus block %s: %w", dir, err)
	}
	x := &Block{dir: dir, scratch: scratch, block: b}
	if x.index, err = b.Index(); err == nil {
		x.chunks, err = b.Chunks()
	}
	if err == nil {
		x.entries, err = openEntries(filepath.Join(dir, indexFile))
	}
	if err == nil {
		x.dead, err = b.Tombstones()
	}
	if err == nil && scratch {
		x.attached, err = readAttachments(dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the Prometheus block %s: %w", dir, err), x.Close())
	}
	return x, nil
}

// Info implements tsdb.ForeignBlock.
func (b *Block) Info() store.ForeignInfo {
	m := b.block.Meta()
	info := store.ForeignInfo{
		ID: m.ULID.String(), MinT: m.MinTime, MaxT: m.MaxTime - 1, Bytes: b.block.Size(), Series: m.Stats.NumSeries,
		Samples: m.Stats.NumSamples,
	}
	for _, p := range m.Compaction.Parents {
		info.Replaces = append(info.Replaces, p.ULID.String())
	}
	return info
}

func (b *Block) damaged(err error) error {
	return &store.ForeignDamage{Block: b.block.Meta().ULID.String(), Err: err}
}

// Load implements tsdb.ForeignBlock. It reads the symbols and checks the entry of every series, so that what is listed
// later can be read: 100 ns a series.
func (b *Block) Load(ctx context.Context) (int64, error) {
	bytes, err := b.entries.load(b.index.Symbols())
	if err != nil {
		return 0, b.damaged(err)
	}
	p, err := b.postings(ctx, nil)
	if err != nil {
		return 0, b.failed(ctx, err)
	}
	for n := 0; p.Next(); n++ {
		if n%8192 == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if uint64(p.At()) > 1<<32-1 {
			return 0, b.damaged(fmt.Errorf("series reference %d is beyond 32 bits", p.At()))
		}
		if err := b.entries.check(uint32(p.At())); err != nil {
			return 0, b.damaged(err)
		}
	}
	if err := p.Err(); err != nil {
		return 0, b.failed(ctx, err)
	}
	return bytes + b.attached.bytes(), nil
}

// Select implements tsdb.ForeignBlock.
func (b *Block) Select(ctx context.Context, ms []*labels.Matcher) ([]uint32, error) {
	p, err := b.postings(ctx, ms)
	if err != nil {
		return nil, b.failed(ctx, err)
	}
	var ids []uint32
	for p.Next() {
		if len(ids)%8192 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		ids = append(ids, uint32(p.At()))
	}
	if err := p.Err(); err != nil {
		return nil, b.failed(ctx, err)
	}
	return ids, nil
}

// failed is damage, unless the caller ended the work.
func (b *Block) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return b.damaged(err)
}

func (b *Block) postings(ctx context.Context, ms []*labels.Matcher) (index.Postings, error) {
	if len(ms) == 0 {
		name, value := index.AllPostingsKey()
		return b.index.Postings(ctx, name, value)
	}
	return tsdb.PostingsForMatchers(ctx, b.index, ms...)
}

// Pairs implements tsdb.ForeignBlock.
func (b *Block) Pairs(id uint32, dst []uint32) ([]uint32, error) {
	dst, err := b.entries.pairs(id, dst)
	if err != nil {
		return dst, b.damaged(err)
	}
	return dst, nil
}

// Symbols implements tsdb.ForeignBlock.
func (b *Block) Symbols() int { return len(b.entries.ends) }

// Symbol implements tsdb.ForeignBlock.
func (b *Block) Symbol(sym uint32) string { return b.entries.symbol(sym) }

// LabelNames implements tsdb.ForeignBlock.
func (b *Block) LabelNames(ctx context.Context, ms []*labels.Matcher, limit int) ([]string, error) {
	names, err := b.index.LabelNames(ctx, ms...)
	if err != nil {
		return nil, b.failed(ctx, err)
	}
	return copied(names, limit), nil
}

// LabelValues implements tsdb.ForeignBlock.
func (b *Block) LabelValues(ctx context.Context, name string, ms []*labels.Matcher, limit int) ([]string, error) {
	values, err := b.index.SortedLabelValues(ctx, name, nil, ms...)
	if err != nil {
		return nil, b.failed(ctx, err)
	}
	return copied(values, limit), nil
}

// copied cuts texts to a limit and takes them out of the mapped file.
func copied(texts []string, limit int) []string {
	if limit > 0 && len(texts) > limit {
		texts = texts[:limit]
	}
	out := make([]string, len(texts))
	for i, s := range texts {
		out[i] = strings.Clone(s)
	}
	return out
}

// Copy implements tsdb.ForeignBlock.
func (b *Block) Copy(ctx context.Context, dir string) error {
	name := b.block.Meta().ULID.String()
	tmp := filepath.Join(dir, name+unfinished)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := copyTree(ctx, b.dir, tmp); err != nil {
		return errors.Join(fmt.Errorf("copy the Prometheus block %s: %w", name, err), os.RemoveAll(tmp))
	}
	if err := fsx.OS().Rename(tmp, filepath.Join(dir, name)); err != nil {
		return err
	}
	return fsx.OS().SyncDir(dir)
}

// copyTree copies files and directories, synced.
func copyTree(ctx context.Context, from, to string) error {
	if err := fsx.MakeDir(fsx.OS(), to); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		if e.IsDir() {
			err = copyTree(ctx, src, dst)
		} else {
			err = copyFile(src, dst)
		}
		if err != nil {
			return err
		}
	}
	return fsx.OS().SyncDir(to)
}

func copyFile(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	return fsx.Publish(fsx.OS(), to, func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	})
}

// Close implements tsdb.ForeignBlock.
func (b *Block) Close() error {
	var errs []error
	for _, r := range []io.Closer{b.dead, b.chunks, b.index} {
		if r != nil {
			errs = append(errs, r.Close())
		}
	}
	if b.entries != nil {
		errs = append(errs, b.entries.close())
	}
	return errors.Join(append(errs, b.block.Close())...)
}

// Discard implements tsdb.ForeignBlock. A block of Prometheus' own stays.
func (b *Block) Discard() error {
	if !b.scratch {
		return nil
	}
	return removeBlock(b.dir)
}

// removeBlock deletes the directory of a block so that no half of one is ever taken for the whole.
func removeBlock(dir string) error {
	gone := dir + ".tmp-for-deletion"
	err := fsx.OS().Rename(dir, gone)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.RemoveAll(gone); err != nil {
		return err
	}
	return fsx.OS().SyncDir(filepath.Dir(dir))
}
