// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// Finding is something of a store that is not as it was written.
type Finding struct {
	File    string `json:"file"` // from the data path on
	Kind    string `json:"kind"` // block, part, tombstones, deletes, checkpoint, wal, store
	Offset  int64  `json:"offset,omitempty"`
	Problem string `json:"problem"`
	// Effect is what it means for answers.
	Effect string `json:"effect"`
	// MinT and MaxT are the times of the samples that are missing, Unix ms; nil: not known, or none is missing.
	MinT *int64 `json:"minTime,omitempty"`
	MaxT *int64 `json:"maxTime,omitempty"`
	// Series is how many series miss samples, 0: not known or none; Examples are the first of them.
	Series   int      `json:"series,omitempty"`
	Examples []string `json:"examples,omitempty"`
	// Newer: the file is sound, and of a version that this program does not know.
	Newer bool `json:"newer,omitempty"`
}

// The kinds of a Finding.
const (
	kindBlock      = "block"
	kindPart       = "part"
	kindTombstones = "tombstones"
	kindDeletes    = "deletes"
	kindCheckpoint = "checkpoint"
	kindLog        = "wal"
	kindStore      = "store"
)

// Report is what Verify found.
type Report struct {
	Dir      string    `json:"dir"`
	Files    int       `json:"files"` // read
	Bytes    int64     `json:"bytes"`
	Findings []Finding `json:"findings"`
	// Notes are what is worth knowing and no damage: files in quarantine, what an interrupted write left.
	Notes []string `json:"notes,omitempty"`
}

// VerifyOptions say what to verify. The zero value of each field but Dir is its default.
type VerifyOptions struct {
	Dir string // the data path
	FS  fsx.FS // nil: the operating system's
	// Progress is told which file is read and how many bytes of how many are done.
	Progress func(file string, done, total int64)
}

// Verify reads every file of a store and checks it. It changes nothing, and may run beside the server that uses the
// store: files that go away meanwhile are no finding. The error says that it could not be done.
func Verify(ctx context.Context, o VerifyOptions) (*Report, error) {
	if o.FS == nil {
		o.FS = fsx.OS()
	}
	v := &verifier{opts: o, fs: fsx.NewOverlay(o.FS), report: &Report{Dir: o.Dir, Findings: []Finding{}}}
	v.layout = layout{fs: v.fs, root: path.Join(o.Dir, "tidemark")}
	if _, err := o.FS.Stat(v.layout.root); err != nil {
		return nil, fmt.Errorf("%s holds no data of Tidemark: %w", o.Dir, err)
	}
	if ok, err := v.store(); !ok || err != nil {
		return v.report, err
	}
	if err := v.files(ctx); err != nil {
		return nil, err
	}
	slices.SortStableFunc(v.report.Findings, func(a, b Finding) int { return cmp.Compare(a.File, b.File) })
	return v.report, nil
}

// verifier is one Verify in progress. Its file system is an overlay: what the start of a store would change on the way
// changes nothing.
type verifier struct {
	opts   VerifyOptions
	fs     *fsx.Overlay
	layout layout
	meta   storeMeta
	report *Report
	total  int64
}

// work is a file to verify.
type work struct {
	name string
	size int64
	do   func(ctx context.Context, name string) error
}

// store reads the meta of the store, without which nothing else can be read, and looks for files of a newer version, beside
// which nothing else means much.
func (v *verifier) store() (ok bool, err error) {
	newer, err := v.layout.newerFiles()
	if err != nil {
		return false, err
	}
	for _, n := range newer {
		v.found(n.File, Finding{Kind: n.Kind, Problem: n.Err.Error(), Effect: "the store cannot be opened by this version", Newer: true})
	}
	if len(newer) > 0 {
		return false, nil
	}
	name := v.layout.path("store.json")
	v.meta, err = v.layout.readMeta(name)
	if err != nil {
		v.found(name, Finding{Kind: kindStore, Problem: err.Error(), Effect: "the store cannot be opened"})
	}
	return err == nil, nil
}

func errorIs[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func (v *verifier) files(ctx context.Context) error {
	var all []work
	for _, kind := range []struct {
		dir, suffix string
		do          func(context.Context, string) error
	}{
		{v.layout.blocks(), block.Suffix, v.block},
		{v.layout.spill(), block.PartSuffix, v.part},
		{v.layout.checkpoints(), checkpointSuffix, v.checkpoint},
	} {
		found, err := v.list(kind.dir, kind.suffix)
		if err != nil {
			return err
		}
		for _, w := range found {
			w.do = kind.do
			all = append(all, w)
			v.total += w.size
		}
	}
	segments, err := v.list(v.layout.wal(), ".seg")
	if err != nil {
		return err
	}
	for _, w := range segments {
		v.total += w.size
	}
	for _, w := range all {
		v.step(w.name, 0)
		if err := w.do(ctx, w.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("verify %s: %w", w.name, err)
		}
		v.report.Files++
		v.step(w.name, w.size)
	}
	if err := v.deletes(); err != nil {
		return err
	}
	if err := v.log(ctx); err != nil {
		return err
	}
	for _, w := range segments {
		v.report.Files++
		v.step(w.name, w.size)
	}
	return v.quarantined()
}

func (v *verifier) step(name string, bytes int64) {
	v.report.Bytes += bytes
	if v.opts.Progress != nil {
		v.opts.Progress(v.short(name), v.report.Bytes, v.total)
	}
}

// short is a path from the data path on.
func (v *verifier) short(name string) string {
	return strings.TrimPrefix(name, path.Clean(v.opts.Dir)+"/")
}

func (v *verifier) found(name string, f Finding) {
	f.File = v.short(name)
	v.report.Findings = append(v.report.Findings, f)
}

// list returns the files of a directory that end so, and notes what else is there.
func (v *verifier) list(dir, suffix string) ([]work, error) {
	names, err := v.fs.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []work
	for _, n := range names {
		name := path.Join(dir, n)
		info, err := v.fs.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist) || err == nil && info.Dir:
		case err != nil:
			return nil, err
		case strings.HasSuffix(n, suffix):
			out = append(out, work{name: name, size: info.Size})
		case strings.HasSuffix(n, fsx.TempSuffix):
			v.note("%s: a write that was not finished; a start removes it", v.short(name))
		case !strings.HasSuffix(n, tombstoneSuffix):
			v.note("%s: no file of a store", v.short(name))
		}
	}
	return out, nil
}

func (v *verifier) note(format string, args ...any) {
	v.report.Notes = append(v.report.Notes, fmt.Sprintf(format, args...))
}

// frame notes that a file cannot be opened, if that is what err says.
func (v *verifier) frame(name, kind string, err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !damaged(err) {
		return err
	}
	f := Finding{Kind: kind, Problem: err.Error(), Effect: "all of its samples are missing"}
	if bad, ok := errors.AsType[*block.CorruptError](err); ok {
		f.Offset, f.Problem = bad.Off, bad.Msg
	}
	if first, last, ok := block.Times(v.fs, name); ok {
		f.MinT, f.MaxT = &first, &last
	}
	v.found(name, f)
	return nil
}

// block verifies a block and the tombstones beside it.
func (v *verifier) block(ctx context.Context, name string) error {
	b, err := block.Open(v.fs, name, nil, block.Options{})
	if err != nil {
		return v.frame(name, kindBlock, err)
	}
	defer func() { _ = b.Close() }() // it was only read
	if err := v.tombstones(name, b.Index().N()); err != nil {
		return err
	}
	return b.Check(ctx, block.Check{Found: func(d block.Damage) {
		v.damage(name, kindBlock, d, func(id uint32, builder *labels.ScratchBuilder) string {
			return b.Index().Labels(id, builder).String()
		})
	}})
}

// examples is how many series a finding names.
const examples = 5

// damage notes a damaged place of a block or a part.
func (v *verifier) damage(name, kind string, d block.Damage, text func(uint32, *labels.ScratchBuilder) string) {
	f := Finding{Kind: kind, Offset: d.Off, Problem: d.Err.Error(), Effect: "exemplars or descriptions of metrics are missing", Series: len(d.Series)}
	if bad, ok := errors.AsType[*block.CorruptError](d.Err); ok {
		f.Offset, f.Problem = bad.Off, bad.Msg
	}
	if len(d.Series) > 0 {
		f.MinT, f.MaxT = &d.MinT, &d.MaxT
		f.Effect = fmt.Sprintf("samples of %d series are missing from %s to %s", len(d.Series), formatTime(d.MinT), formatTime(d.MaxT))
		var builder labels.ScratchBuilder
		for _, id := range d.Series[:min(len(d.Series), examples)] {
			if text != nil {
				f.Examples = append(f.Examples, text(id, &builder))
			}
		}
	}
	v.found(name, f)
}

// tombstones verifies the file beside a block of so many series.
func (v *verifier) tombstones(blockName string, series int) error {
	name := tombstonePath(blockName)
	t, err := loadTombstones(v.fs, blockName)
	if err == nil {
		for i := range t {
			for id := range t[i].series {
				if int(id) >= series {
					err = fmt.Errorf("%w: series %d of %d", errTombstones, id, series)
				}
			}
		}
	}
	if err != nil && !damaged(err) {
		return err
	}
	if err != nil {
		v.found(name, Finding{Kind: kindTombstones, Problem: err.Error(), Effect: "samples that were deleted are visible again"})
	}
	return nil
}

// deletes verifies the list of deletes.
func (v *verifier) deletes() error {
	name := v.layout.deletes()
	p, err := fsx.ReadFile(v.fs, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = parseDeletes(p)
	} else if !damaged(err) {
		return err
	}
	v.report.Files++
	if err != nil {
		v.found(name, Finding{Kind: kindDeletes, Problem: err.Error(), Effect: "the deletes of before cannot be undone; what they hide stays hidden"})
	}
	return nil
}

// part verifies a part of the head.
func (v *verifier) part(ctx context.Context, name string) error {
	p, err := block.OpenPart(v.fs, name, nil, block.Options{})
	if err != nil {
		return v.frame(name, kindPart, err)
	}
	defer func() { _ = p.Close() }() // it was only read
	return p.Check(ctx, block.Check{Found: func(d block.Damage) { v.damage(name, kindPart, d, nil) }})
}

// quarantined notes what was put aside before.
func (v *verifier) quarantined() error {
	for _, dir := range []string{v.layout.quarantine(), path.Join(v.layout.wal(), "quarantine")} {
		names, err := v.opts.FS.List(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, n := range names {
			about := ""
			if first, last, ok := block.Times(v.opts.FS, path.Join(dir, n)); ok {
				about = ", samples from " + formatTime(first) + " to " + formatTime(last)
			}
			v.note("%s: in quarantine%s", v.short(path.Join(dir, n)), about)
		}
	}
	return nil
}
