// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// PartRows is one series on its way into a part: all rows of Rows, which must stay as they are until the next series is
// asked for. One without rows has generation 0.
type PartRows struct {
	Number, Gen uint32 // each number comes once
	Rows        *column.Block
}

// PartSource is what a part is made of.
type PartSource struct {
	// Series yields the series. Those that are next to each other are read together at little cost; with the ones that
	// have no rows, parts have the same places and may Share them. An error ends the write with it.
	Series iter.Seq2[PartRows, error]
	// Expect is how many series there may be, to have room for them at once.
	Expect int
	// Account is charged for the memory of the write.
	Account *budget.Account
}

// WritePart makes the part name and returns its completed meta. The file is there whole and survives a crash when
// WritePart returns nil; on error, ErrEmpty where there were no rows, none is left.
func WritePart(fsys fsx.FS, name string, meta PartMeta, src PartSource) (PartMeta, error) {
	if meta.Slot <= 0 || meta.Slot > maxSlot {
		return meta, fmt.Errorf("write part: slot of %d ms", meta.Slot)
	}
	meta.MinT, meta.MaxT, meta.Series, meta.Rows = math.MaxInt64, math.MinInt64, 0, 0
	if meta.Writer == "" {
		meta.Writer = buildVersion()
	}
	meta.Writer = meta.Writer[:min(len(meta.Writer), writerBytes)]
	w := &partWriter{meta: meta, account: src.Account}
	defer func() { w.account.Release(w.reserved) }()
	err := publish(fsys, name, func(out io.Writer) error {
		w.out = out
		return w.write(src)
	})
	if errors.Is(err, ErrEmpty) {
		return meta, ErrEmpty
	}
	if err != nil {
		return meta, fmt.Errorf("write part: %w", err)
	}
	return w.meta, nil
}

// partWriter is one WritePart in progress.
type partWriter struct {
	out      io.Writer
	off      int64
	meta     PartMeta
	account  *budget.Account
	reserved int64
	stripes  stripesWriter
	numbers  []int64 // of each series
	gens     []int64 // the same
	begins   []int64 // of each that has rows
	ends     []int64 // the same
	footer   footer
}

func (w *partWriter) write(src PartSource) error {
	if err := w.emit(appendHeader(nil, formatVersion)); err != nil {
		return err
	}
	w.stripes.init(w.out, w.off, w.meta.Slot, false)
	for _, x := range []*[]int64{&w.numbers, &w.gens, &w.begins, &w.ends} {
		*x = make([]int64, 0, src.Expect)
	}
	// Neighbours are of one shard of the head, not of one histogram.
	w.stripes.alone = true
	for s, err := range src.Series {
		if err != nil {
			return err
		}
		if err := w.series(s); err != nil {
			return fmt.Errorf("series %d: %w", s.Number, err)
		}
	}
	if w.meta.Rows == 0 {
		return ErrEmpty
	}
	if err := w.stripes.finish(); err != nil {
		return err
	}
	w.off = w.stripes.off
	w.meta.Series = uint64(len(w.gens))
	w.footer.mandatory = featurePart
	w.footer.sections = append(w.footer.sections, section{kind: sectionStripes, off: headerBytes, size: w.off - headerBytes})
	if err := w.section(sectionDirectory, w.stripes.directory.appendTo(nil)); err != nil {
		return err
	}
	if err := w.section(sectionMembers, w.appendMembers(nil)); err != nil {
		return err
	}
	facts, err := json.Marshal(w.meta)
	if err != nil {
		return err
	}
	if err := w.section(sectionMeta, facts); err != nil {
		return err
	}
	return w.emit(w.footer.appendTo(nil, formatVersion, w.meta.Writer))
}

func (w *partWriter) series(s PartRows) error {
	n := len(s.Rows.T)
	if (n == 0) != (s.Gen == 0) {
		return fmt.Errorf("%d rows of generation %d", n, s.Gen)
	}
	w.numbers, w.gens = append(w.numbers, int64(s.Number)), append(w.gens, int64(s.Gen))
	if n == 0 {
		return w.stripes.add(s.Rows, 0, 0)
	}
	first, last := s.Rows.T[0], s.Rows.T[n-1]
	if first < w.meta.SlotStart || last-w.meta.SlotStart >= w.meta.Slot {
		return fmt.Errorf("rows from %d to %d are not in the slot at %d", first, last, w.meta.SlotStart)
	}
	for i, t := range s.Rows.T[1:] {
		if t <= s.Rows.T[i] {
			return fmt.Errorf("time %d after %d: rows must ascend", t, s.Rows.T[i])
		}
	}
	w.begins, w.ends = append(w.begins, first), append(w.ends, last)
	w.meta.MinT, w.meta.MaxT = min(w.meta.MinT, first), max(w.meta.MaxT, last)
	w.meta.Rows += uint64(n)
	if err := w.stripes.add(s.Rows, 0, n); err != nil {
		return err
	}
	return w.charge()
}

// charge brings what is reserved up to the memory of the buffers.
func (w *partWriter) charge() error {
	n := w.stripes.bytes() + 8*int64(cap(w.numbers)+cap(w.gens)+cap(w.begins)+cap(w.ends))
	if n <= w.reserved {
		return nil
	}
	if err := w.account.Reserve(n - w.reserved); err != nil {
		return err
	}
	w.reserved = n
	return nil
}

func (w *partWriter) emit(b []byte) error {
	n, err := w.out.Write(b)
	w.off += int64(n)
	return err
}

func (w *partWriter) section(kind uint32, b []byte) error {
	w.footer.sections = append(w.footer.sections, section{kind: kind, crc: checksum(b), off: w.off, size: int64(len(b))})
	return w.emit(b)
}
