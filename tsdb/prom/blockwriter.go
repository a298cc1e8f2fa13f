// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// The names in a block's directory, and what Prometheus calls one that is not finished: it deletes those at its start.
const (
	metaFile   = "meta.json"
	indexFile  = "index"
	chunksDir  = "chunks"
	unfinished = ".tmp-for-creation"
)

// segmentBytes is the size of chunk files. Prometheus' writer takes the disk of a whole one in advance, which with its
// own 512 MiB a nearly full disk does not have for a block of a few.
const segmentBytes = 64 << 20

// blockMeta is meta.json: Prometheus' part, and Thanos' where there are external labels.
type blockMeta struct {
	tsdb.BlockMeta

	Thanos *thanosMeta `json:"thanos,omitempty"`
}

type thanosMeta struct {
	Labels     map[string]string `json:"labels"`
	Downsample thanosDownsample  `json:"downsample"`
	Source     string            `json:"source"`
}

type thanosDownsample struct {
	Resolution int64 `json:"resolution"`
}

// blockWriter is the directory of a block in the making. After symbols come the series in label order, then finish.
type blockWriter struct {
	dir    string // of the blocks
	tmp    string // of this one, until it is finished
	meta   blockMeta
	index  *index.Writer
	chunks *chunks.Writer
}

func newBlockWriter(ctx context.Context, dir string, external labels.Labels) (*blockWriter, error) {
	id, err := ulid.New(ulid.Now(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("name the block: %w", err)
	}
	w := &blockWriter{dir: dir, tmp: filepath.Join(dir, id.String()+unfinished)}
	w.meta.BlockMeta = tsdb.BlockMeta{
		ULID: id, MinTime: math.MaxInt64, MaxTime: math.MinInt64, Version: 1,
		Compaction: tsdb.BlockMetaCompaction{Level: 1, Sources: []ulid.ULID{id}},
	}
	if !external.IsEmpty() {
		w.meta.Thanos = &thanosMeta{Labels: external.Map(), Source: "tidemark"}
	}
	if err := fsx.MakeDir(fsx.OS(), w.tmp); err != nil {
		return nil, err
	}
	if w.chunks, err = chunks.NewWriter(filepath.Join(w.tmp, chunksDir), chunks.WithSegmentSize(segmentBytes)); err != nil {
		return nil, errors.Join(fmt.Errorf("open the chunk files: %w", err), w.abort())
	}
	if w.index, err = index.NewWriter(ctx, filepath.Join(w.tmp, indexFile)); err != nil {
		return nil, errors.Join(fmt.Errorf("open the index: %w", err), w.abort())
	}
	return w, nil
}

// symbols adds the texts of all labels of the set.
func (w *blockWriter) symbols(set *column.SeriesSet) error {
	names, texts := set.Names, set.Text
	for len(names) > 0 || len(texts) > 0 {
		var next string
		switch {
		case len(texts) == 0 || len(names) > 0 && names[0] < texts[0]:
			next, names = names[0], names[1:]
		case len(names) > 0 && names[0] == texts[0]:
			next, names, texts = names[0], names[1:], texts[1:]
		default:
			next, texts = texts[0], texts[1:]
		}
		if next == "" {
			continue // stands for a label that a series lacks
		}
		if err := w.index.AddSymbol(next); err != nil {
			return fmt.Errorf("index symbol %q: %w", next, err)
		}
	}
	return nil
}

// add writes one series. The chunks are in time order.
func (w *blockWriter) add(ls labels.Labels, metas []chunks.Meta) error {
	if err := w.chunks.WriteChunks(metas...); err != nil {
		return fmt.Errorf("write chunks: %w", err)
	}
	stats := &w.meta.Stats
	if err := w.index.AddSeries(storage.SeriesRef(stats.NumSeries), ls, metas...); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	stats.NumSeries++
	stats.NumChunks += uint64(len(metas))
	for _, m := range metas {
		n := uint64(m.Chunk.NumSamples())
		stats.NumSamples += n
		if m.Chunk.Encoding() == chunkenc.EncXOR {
			stats.NumFloatSamples += n
		} else {
			stats.NumHistogramSamples += n
		}
	}
	w.meta.MinTime = min(w.meta.MinTime, metas[0].MinTime)
	w.meta.MaxTime = max(w.meta.MaxTime, metas[len(metas)-1].MaxTime+1) // exclusive
	return nil
}

// finish gives the block its name; nil where it has no sample.
func (w *blockWriter) finish() (*Exported, error) {
	if w.meta.Stats.NumSamples == 0 {
		return nil, w.abort()
	}
	if err := w.close(); err != nil {
		return nil, err
	}
	if _, err := tombstones.WriteFile(slog.New(slog.DiscardHandler), w.tmp, tombstones.NewMemTombstones()); err != nil {
		return nil, fmt.Errorf("write the empty tombstones: %w", err)
	}
	err := fsx.Publish(fsx.OS(), filepath.Join(w.tmp, metaFile), func(out io.Writer) error {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "\t")
		return enc.Encode(w.meta)
	})
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", metaFile, err)
	}
	size, err := treeSize(w.tmp)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{filepath.Join(w.tmp, chunksDir), w.tmp} {
		if err := fsx.OS().SyncDir(dir); err != nil {
			return nil, err
		}
	}
	if err := fsx.OS().Rename(w.tmp, filepath.Join(w.dir, w.meta.ULID.String())); err != nil {
		return nil, err
	}
	if err := fsx.OS().SyncDir(w.dir); err != nil {
		return nil, err
	}
	return &Exported{
		ULID: w.meta.ULID.String(), MinT: w.meta.MinTime, MaxT: w.meta.MaxTime - 1,
		Series: w.meta.Stats.NumSeries, Samples: w.meta.Stats.NumSamples, Bytes: size,
	}, nil
}

// close closes the files, which syncs them.
func (w *blockWriter) close() error {
	var errs []error
	if w.chunks != nil {
		errs = append(errs, w.chunks.Close())
		w.chunks = nil
	}
	if w.index != nil {
		errs = append(errs, w.index.Close())
		w.index = nil
	}
	return errors.Join(errs...)
}

// abort removes what there is of the block.
func (w *blockWriter) abort() error {
	_ = w.close() // an index that is not complete fails to close; it goes
	return os.RemoveAll(w.tmp)
}

// treeSize is the size of all files under dir.
func treeSize(dir string) (int64, error) {
	total := int64(0)
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}
