// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"path/filepath"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/index"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Series is one series on its way into a block. What it refers to must stay as it is until the next one is
// asked for.
type Series struct {
	Labels labels.Labels
	// The samples are the rows [From, To) of Rows, ascending and unique in time.
	Rows     *column.Block
	From, To int
	// Exemplars are in time order.
	Exemplars []exemplar.Exemplar
	// Pages are the samples where there are any, and there are no rows. Where they cannot be copied, Decode gives the
	// series with its rows.
	Pages  []Page
	Decode func() (Series, error)
}

// Source is what a block is made of.
type Source struct {
	// Series yields the series in label order. Those with neither samples nor exemplars are left out. An
	// error ends the write with it.
	Series iter.Seq2[Series, error]
	// Metadata yields the descriptions of the metric families in name order, each family's newest first;
	// nil: none.
	Metadata iter.Seq2[string, []metadata.Metadata]
	// Account is charged for the memory of the write: the stripes of one group, what is known of columns of times,
	// the index in the making, and exemplars.
	Account *budget.Account
}

// Write makes a block file in dir of what src yields and returns its completed meta. The file is there whole
// and survives a crash when Write returns nil. On error, ErrEmpty where there was nothing to write, no block is
// left; what a failing disk does not let Write clean up, fsx.RemoveTemp does later. A block that is there
// already is not overwritten.
func Write(fsys fsx.FS, dir string, meta Meta, src Source) (Meta, error) {
	if err := meta.complete(); err != nil {
		return meta, err
	}
	name := Path(dir, meta.ULID)
	if _, err := fsys.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		return meta, fmt.Errorf("write block: %s is there already, or cannot be looked at: %w", name, errors.Join(fs.ErrExist, err))
	}
	w := &writer{meta: meta, account: src.Account, index: index.NewBuilder(src.Account)}
	defer w.close()
	err := publish(fsys, name, func(out io.Writer) error {
		w.out = out
		return w.write(src)
	})
	if errors.Is(err, ErrEmpty) {
		return meta, ErrEmpty
	}
	if err != nil {
		return meta, fmt.Errorf("write block: %w", err)
	}
	return w.meta, nil
}

// publish makes a file of what write writes, whole or not at all. The name may be there when only the last sync failed:
// the caller still has the samples and will write them again, so that it goes, and must not come back after a crash
// without what was deleted meanwhile.
func publish(fsys fsx.FS, name string, write func(io.Writer) error) error {
	err := fsx.Publish(fsys, name, write)
	if err == nil || errors.Is(err, ErrEmpty) {
		return err
	}
	switch rerr := fsys.Remove(name); {
	case rerr == nil:
		return errors.Join(err, fsys.SyncDir(filepath.Dir(name)))
	case errors.Is(rerr, fs.ErrNotExist):
		return err
	default:
		return errors.Join(err, rerr)
	}
}

// coldLevel is from which level on a block is read so rarely that its columns may be of forms that are smaller and
// cost more to decode.
const coldLevel = 1

// writer is one Write in progress.
type writer struct {
	out      io.Writer
	off      int64
	meta     Meta
	account  *budget.Account
	reserved int64
	index    *index.Builder
	stripes  stripesWriter
	extras   exemplarWriter
	buf      []byte
	footer   footer
}

func (w *writer) close() {
	w.index.Close()
	w.account.Release(w.reserved)
}

// charge brings what is reserved up to the memory of the buffers.
func (w *writer) charge() error {
	n := w.stripes.bytes() + int64(cap(w.buf)+cap(w.extras.data))
	if n <= w.reserved {
		return nil
	}
	if err := w.account.Reserve(n - w.reserved); err != nil {
		return err
	}
	w.reserved = n
	return nil
}

func (w *writer) write(src Source) error {
	w.meta.MinT, w.meta.MaxT = math.MaxInt64, math.MinInt64
	w.extras.reset(0)
	if err := w.emit(appendHeader(nil, formatVersion)); err != nil {
		return err
	}
	w.stripes.init(w.out, w.off, w.meta.Slot, w.meta.Level >= coldLevel)
	for s, err := range src.Series {
		if err != nil {
			return err
		}
		if s.From == s.To && len(s.Pages) == 0 && len(s.Exemplars) == 0 {
			continue
		}
		if err := w.series(s); err != nil {
			return fmt.Errorf("series %s: %w", s.Labels, err)
		}
	}
	if w.index.N() == 0 {
		return ErrEmpty
	}
	if err := w.stripes.finish(); err != nil {
		return err
	}
	w.off = w.stripes.off
	return w.sections(src)
}

func (w *writer) series(s Series) error {
	id := uint32(w.index.N())
	if err := w.index.AddSeries(s.Labels); err != nil {
		return err
	}
	if len(s.Pages) > 0 {
		if err := w.pages(&s); err != nil {
			return err
		}
	} else if err := w.rows(&s); err != nil {
		return err
	}
	w.extras.add(id, s.Exemplars)
	w.meta.Exemplars += uint64(len(s.Exemplars))
	w.meta.Series++
	return w.charge()
}

// rows adds the rows of a series.
func (w *writer) rows(s *Series) error {
	for i := s.From; i < s.To; i++ {
		if i > s.From && s.Rows.T[i] <= s.Rows.T[i-1] {
			return fmt.Errorf("time %d after %d: rows must ascend", s.Rows.T[i], s.Rows.T[i-1])
		}
		if s.Rows.KindAt(i) == sample.Float {
			w.meta.Floats++
		} else {
			w.meta.Histograms++
		}
	}
	if s.From < s.To {
		w.meta.MinT, w.meta.MaxT = min(w.meta.MinT, s.Rows.T[s.From]), max(w.meta.MaxT, s.Rows.T[s.To-1])
	}
	return w.stripes.add(s.Rows, s.From, s.To)
}

// pages copies the pages of a series, or adds the rows that they hold.
func (w *writer) pages(s *Series) error {
	done, fit, err := w.stripes.copy(s.Pages)
	if err != nil {
		return err
	}
	if !done {
		rows, err := s.Decode()
		if err != nil {
			return err
		}
		if fit {
			w.stripes.same = s.Pages
			defer func() { w.stripes.same = nil }()
		}
		return w.rows(&rows)
	}
	for i := range s.Pages {
		t := s.Pages[i].times
		if s.Pages[i].page().kind&kindMask == kindFloats {
			w.meta.Floats += uint64(t.Len())
		} else {
			w.meta.Histograms += uint64(t.Len())
		}
		w.meta.MinT, w.meta.MaxT = min(w.meta.MinT, t.First()), max(w.meta.MaxT, t.Last())
	}
	return nil
}

func (w *writer) emit(b []byte) error {
	n, err := w.out.Write(b)
	w.off += int64(n)
	return err
}

// sections writes everything behind the stripes.
func (w *writer) sections(src Source) error {
	w.footer.sections = append(w.footer.sections, section{kind: sectionStripes, off: headerBytes, size: w.off - headerBytes})
	if err := w.section(sectionDirectory, w.stripes.directory.appendTo(nil)); err != nil {
		return err
	}
	var err error
	if w.buf, err = w.index.AppendTo(w.buf[:0]); err != nil {
		return err
	}
	if err := w.charge(); err != nil {
		return err
	}
	if err := w.section(sectionIndex, w.buf); err != nil {
		return err
	}
	chunks := w.extras.finish(uint32(w.index.N()))
	if len(w.extras.data) > maxStripe {
		return fmt.Errorf("%d bytes of exemplars are more than 1 GiB: write fewer per block", len(w.extras.data))
	}
	if err := w.section(sectionExemplars, w.extras.data); err != nil {
		return err
	}
	w.footer.sections[len(w.footer.sections)-1].crc = 0
	if err := w.section(sectionExDir, appendSpans(nil, chunks)); err != nil {
		return err
	}
	families, err := appendFamilies(nil, src.Metadata)
	if err != nil {
		return err
	}
	if err := w.section(sectionMetadata, families); err != nil {
		return err
	}
	if w.meta.MinT > w.meta.MaxT {
		for _, c := range chunks {
			w.meta.MinT, w.meta.MaxT = min(w.meta.MinT, c.minT), max(w.meta.MaxT, c.maxT)
		}
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

func (w *writer) section(kind uint32, b []byte) error {
	w.footer.sections = append(w.footer.sections, section{kind: kind, crc: checksum(b), off: w.off, size: int64(len(b))})
	return w.emit(b)
}

// appendFamilies writes the metric families: name, how many descriptions, and of each type, unit and help.
func appendFamilies(dst []byte, families iter.Seq2[string, []metadata.Metadata]) ([]byte, error) {
	if families == nil {
		return dst, nil
	}
	last, first := "", true
	for name, all := range families {
		if !first && name <= last {
			return dst, fmt.Errorf("metric family %q after %q: families must be in order", name, last)
		}
		last, first = name, false
		dst = appendText(dst, name)
		dst = binary.AppendUvarint(dst, uint64(len(all)))
		for _, m := range all {
			dst = appendText(appendText(appendText(dst, string(m.Type)), m.Unit), m.Help)
		}
	}
	return dst, nil
}
