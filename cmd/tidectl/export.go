// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/prom"
)

// exportCommand writes a range of a store as Prometheus blocks.
type exportCommand struct {
	dir, to   string
	from, til string
	match     string
	external  map[string]string
}

func addExport(parent *kingpin.CmdClause, commands map[string]command) {
	x := &exportCommand{external: map[string]string{}}
	cmd := parent.Command("export", "Write samples as Prometheus blocks, for Prometheus, promtool, Thanos and Mimir.")
	cmd.Flag("from", "First time to export, RFC 3339; default: the oldest sample.").StringVar(&x.from)
	cmd.Flag("to", "Last time to export, RFC 3339; default: the newest sample.").StringVar(&x.til)
	cmd.Flag("match", "Selector of the series to export; default: all.").StringVar(&x.match)
	cmd.Flag("external-label", "An external label, name=value, for Thanos and Mimir; may be repeated.").StringMapVar(&x.external)
	cmd.Arg("data", "The data path of a stopped server, or a snapshot.").Required().StringVar(&x.dir)
	cmd.Arg("blocks", "The directory that the blocks go to; made where it is missing.").Required().StringVar(&x.to)
	commands[cmd.FullCommand()] = x
}

func (x *exportCommand) run(ctx context.Context, out, progress io.Writer) (err error) {
	o := prom.ExportOptions{External: labels.FromMap(x.external)}
	if x.match != "" {
		if o.Matchers, err = parser.NewParser(parser.Options{}).ParseMetricSelector(x.match); err != nil {
			return fmt.Errorf("--match: %w", err)
		}
	}
	if _, err := os.Stat(filepath.Join(x.dir, "tidemark")); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s holds no data of Tidemark", x.dir)
	}
	log := slog.New(slog.NewTextHandler(progress, &slog.HandlerOptions{Level: slog.LevelWarn}))
	db, err := tsdb.Open(ctx, tsdb.Options{
		Dir: x.dir, Logger: log, MaxFuture: -1, Foreign: prom.Directory{Logger: log}, ForeignInPlace: true,
	})
	if _, locked := errors.AsType[*fsx.LockedError](err); locked {
		return fmt.Errorf("%w; or take a snapshot of it (POST /api/v1/admin/tsdb/snapshot) and export that", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := x.times(db.Stats(), &o); err != nil {
		return err
	}
	o.Progress = func(p prom.Progress) {
		if p.Finished {
			fmt.Fprintf(progress, "%d blocks, %d samples, up to %s\n", p.Blocks, p.Samples, timeText(p.Until))
		}
	}
	blocks, err := prom.Export(ctx, db, x.to, o)
	for _, b := range blocks {
		fmt.Fprintf(out, "%s %s %s %d series %d samples %d bytes\n", b.ULID, timeText(b.MinT), timeText(b.MaxT), b.Series, b.Samples, b.Bytes)
	}
	if err == nil && len(blocks) == 0 {
		err = errors.New("there are no such samples")
	}
	return err
}

// times fills in the range: what was asked for of what there is.
func (x *exportCommand) times(s tsdb.Stats, o *prom.ExportOptions) error {
	if !s.Samples {
		return errors.New("the store is empty")
	}
	from, err := parseTime("--from", x.from, math.MinInt64)
	if err != nil {
		return err
	}
	til, err := parseTime("--to", x.til, math.MaxInt64)
	if err != nil {
		return err
	}
	if til < from {
		return errors.New("--to is before --from")
	}
	o.MinT, o.MaxT = max(from, s.MinT), min(til, s.MaxT)
	if o.MaxT < o.MinT {
		return fmt.Errorf("the store has samples from %s to %s only", timeText(s.MinT), timeText(s.MaxT))
	}
	return nil
}

// parseTime returns a time in Unix ms, that of nothing where text is empty.
func parseTime(flag, text string, nothing int64) (int64, error) {
	if text == "" {
		return nothing, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", flag, err)
	}
	return t.UnixMilli(), nil
}

func timeText(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
