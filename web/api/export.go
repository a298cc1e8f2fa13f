// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// exportWriter writes the samples of one series after the other.
type exportWriter interface {
	series(e *encoder, ls labels.Labels, b *column.Block, from, to int)
}

// exportHandler serves raw samples as they are stored, in the order of labels, while they are read. read reads the
// arguments of the format.
func (a *API) exportHandler(contentType string, read func(*http.Request) (exportWriter, error)) http.Handler {
	return a.compressed(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.allowOrigin(w, r)
		if err := r.ParseForm(); err != nil {
			a.respondError(w, r, badData("error parsing form values: %w", err))
			return
		}
		to, err := read(r)
		if err != nil {
			a.respondError(w, r, err)
			return
		}
		x := &export{account: a.src.Exports, to: to}
		if x.span, err = spanParams(r); err == nil {
			x.sets, err = a.exportMatchers(r)
		}
		if err != nil {
			a.respondError(w, r, err)
			return
		}
		held := &heldResponse{ResponseWriter: w, control: http.NewResponseController(w), stall: a.stall, contentType: contentType}
		defer held.end()
		a.runExport(held, r, x)
	}))
}

func (a *API) exportMatchers(r *http.Request) ([][]*labels.Matcher, error) {
	selectors := r.Form["match[]"]
	if len(selectors) == 0 {
		selectors = r.Form["match"]
	}
	if len(selectors) == 0 {
		return nil, badData(`no match[] parameter provided: {__name__!=""} is everything`)
	}
	sets, err := a.matcherSets(selectors)
	if err != nil {
		return nil, badParam("match[]", err)
	}
	return sets, nil
}

// runExport writes an export. Where it fails behind its first byte the connection is cut, as that of a query is.
func (a *API) runExport(held *heldResponse, r *http.Request, x *export) {
	pipe := &pipeline{w: held}
	defer func() { _ = pipe.Close() }() // where something panics
	e := newEncoder(pipe)
	defer e.release()
	src := a.src.Local // what other servers have is theirs to export
	if src == nil {
		src = a.src.Data
	}
	err := x.run(r.Context(), src, e)
	if len(x.warnings) > 0 {
		a.log.Warn("an export misses samples", "warnings", x.warnings)
		name := "Tidemark-Warnings"
		if pipe.full != nil || held.begun { // the header is sent
			name = http.TrailerPrefix + name
		}
		held.Header().Set(name, strings.Join(x.warnings, "; "))
	}
	if err == nil {
		err = e.flush()
	}
	if perr := pipe.Close(); perr != nil && e.err == nil {
		e.err, err = perr, errors.Join(err, perr)
	}
	switch {
	case err == nil && !held.begun:
		held.Header().Set("Content-Type", held.contentType)
		held.WriteHeader(http.StatusOK)
	case err == nil:
	case !held.begun:
		e.buf = e.buf[:0]
		a.respondError(held.ResponseWriter, r, classify(err))
	case e.err != nil:
		a.log.Debug("answer not written", "path", r.URL.Path, "err", e.err)
		panic(http.ErrAbortHandler)
	default:
		a.log.Error("an export failed after a part of it was sent; the connection is cut", "path", r.URL.Path, "err", err)
		panic(http.ErrAbortHandler)
	}
}

// export is one run over the series of a range. It holds no more than the list of series and one block of samples.
type export struct {
	account  *budget.Account
	span     span
	sets     [][]*labels.Matcher
	to       exportWriter
	warnings []string

	view  column.View
	found []*column.SeriesSet
	block column.Block
}

func (x *export) run(ctx context.Context, src column.Source, e *encoder) (err error) {
	if x.view, err = src.View(x.span.mint, x.span.maxt); err != nil {
		return err
	}
	x.block.Budget = x.account
	defer func() {
		x.block.Free()
		for _, set := range x.found {
			x.account.Release(set.Bytes)
		}
		x.warnings, _ = x.view.Warnings().AsStrings("", maxAnnotations, 0)
		err = errors.Join(err, x.view.Close())
	}()
	for _, ms := range x.sets {
		set, err := x.view.Series(ctx, ms, column.Hint{Account: x.account})
		if err != nil {
			return err
		}
		x.found = append(x.found, set)
	}
	order, bytes, err := x.order(ctx)
	defer x.account.Release(bytes)
	if err != nil {
		return err
	}
	for len(order) > 0 {
		n, err := x.scan(ctx, e, order)
		if err != nil {
			return err
		}
		if e.err != nil {
			return fmt.Errorf("write the export: %w", e.err)
		}
		order = order[n:]
	}
	return nil
}

// exported is a series of an export: a row of one of the sets.
type exported struct{ set, row uint32 }

// order lists the series of all sets in the order of their labels, each once.
func (x *export) order(ctx context.Context) ([]exported, int64, error) {
	n := 0
	for _, set := range x.found {
		n += set.N
	}
	bytes := int64(n) * 8
	if err := x.account.Reserve(bytes); err != nil {
		return nil, 0, err
	}
	out := make([]exported, 0, n)
	next := make([]uint32, len(x.found))
	heads := make([]labels.Labels, len(x.found))
	builder := labels.NewScratchBuilder(16)
	head := func(i int) {
		if int(next[i]) < x.found[i].N && len(x.found) > 1 {
			heads[i] = x.found[i].Labels(next[i], &builder)
		}
	}
	for i := range x.found {
		head(i)
	}
	for {
		least := -1
		for i, set := range x.found {
			if int(next[i]) < set.N && (least < 0 || labels.Compare(heads[i], heads[least]) < 0) {
				least = i
			}
		}
		if least < 0 {
			return out, bytes, nil
		}
		out = append(out, exported{uint32(least), next[least]})
		if len(out)%4096 == 0 && ctx.Err() != nil {
			return nil, bytes, ctx.Err()
		}
		for i := len(x.found) - 1; i >= 0; i-- { // the same series in other sets is passed over
			if i != least && int(next[i]) < x.found[i].N && labels.Equal(heads[i], heads[least]) {
				next[i]++
				head(i)
			}
		}
		next[least]++
		head(least)
	}
}

// scanAhead is how many series are asked for at once.
const scanAhead = 1024

// scan writes the first series of a list and returns how many it wrote.
func (x *export) scan(ctx context.Context, e *encoder, list []exported) (int, error) {
	set := x.found[list[0].set]
	ids := make([]uint32, 0, scanAhead)
	for _, s := range list {
		if s.set != list[0].set || len(ids) == scanAhead {
			break
		}
		ids = append(ids, s.row)
	}
	n, err := x.view.Scan(ctx, set, ids, column.Need{ST: true}, &x.block)
	if err != nil {
		return 0, err
	}
	builder := labels.NewScratchBuilder(len(set.Names))
	for i := range n {
		from, to := x.block.Rows(i)
		if from < to {
			x.to.series(e, set.Labels(ids[i], &builder), &x.block, from, to)
		}
	}
	return n, nil
}
