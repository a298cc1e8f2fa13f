// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/prom"
)

// errDamaged ends a command that did what it was to do and found damage.
var errDamaged = errors.New("damage was found")

// verifyCommand reads every file of a store.
type verifyCommand struct {
	dir  string
	json bool
}

func addVerify(parent *kingpin.CmdClause, commands map[string]command) {
	x := &verifyCommand{}
	cmd := parent.Command("verify", "Read every file of a store and say what is damaged. Changes nothing; may run beside the server. Exit code 3: damage was found.")
	cmd.Flag("json", "Print the report as JSON.").BoolVar(&x.json)
	cmd.Arg("data", "The data path.").Required().StringVar(&x.dir)
	commands[cmd.FullCommand()] = x
}

func (x *verifyCommand) run(ctx context.Context, out, progress io.Writer) error {
	bar := newProgressLine(progress)
	report, err := tsdb.Verify(ctx, tsdb.VerifyOptions{Dir: x.dir, Progress: bar.show})
	bar.end()
	if err != nil {
		return err
	}
	if x.json {
		err = printJSON(out, report)
	} else {
		printReport(out, report)
	}
	if err == nil && len(report.Findings) > 0 {
		err = errDamaged
	}
	return err
}

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func printReport(out io.Writer, r *tsdb.Report) {
	for _, f := range r.Findings {
		fmt.Fprintf(out, "%s: byte %d: %s\n  %s\n", f.File, f.Offset, f.Problem, f.Effect)
		if f.Series == 0 && f.MinT != nil {
			fmt.Fprintf(out, "  from %s to %s\n", timeText(*f.MinT), timeText(*f.MaxT))
		}
		for _, s := range f.Examples {
			fmt.Fprintf(out, "    %s\n", s)
		}
		if more := f.Series - len(f.Examples); len(f.Examples) > 0 && more > 0 {
			fmt.Fprintf(out, "    and %d more\n", more)
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintln(out, "note:", n)
	}
	fmt.Fprintf(out, "%d files, %d bytes, %d findings\n", r.Files, r.Bytes, len(r.Findings))
}

// repairCommand makes a store readable again.
type repairCommand struct {
	dir       string
	json, dry bool
}

func addRepair(parent *kingpin.CmdClause, commands map[string]command) {
	x := &repairCommand{}
	cmd := parent.Command("repair", "Move what is damaged to quarantine and keep what can be read, of a stopped server. Deletes nothing that cannot be read.")
	cmd.Flag("dry-run", "Do it in memory, and say what would be done.").BoolVar(&x.dry)
	cmd.Flag("json", "Print what was done as JSON.").BoolVar(&x.json)
	cmd.Arg("data", "The data path.").Required().StringVar(&x.dir)
	commands[cmd.FullCommand()] = x
}

func (x *repairCommand) run(ctx context.Context, out, progress io.Writer) error {
	bar := newProgressLine(progress)
	log := slog.New(slog.NewTextHandler(progress, &slog.HandlerOptions{Level: slog.LevelWarn}))
	done, err := tsdb.Repair(ctx, tsdb.RepairOptions{Dir: x.dir, DryRun: x.dry, Foreign: prom.Directory{Logger: log}, Progress: bar.show})
	bar.end()
	if err != nil {
		return err
	}
	switch {
	case x.json:
		if err := printJSON(out, done); err != nil {
			return err
		}
	case len(done.Before.Findings) == 0:
		fmt.Fprintln(out, "nothing is damaged")
	default:
		fmt.Fprintln(out, "Found:")
		printReport(out, done.Before)
		if fmt.Fprintln(out, "Done:"); x.dry {
			fmt.Fprintln(out, "(in memory alone: this is a dry run)")
		}
		for _, d := range done.Did {
			fmt.Fprintln(out, "-", d)
		}
		fmt.Fprintln(out, "Left:")
		printReport(out, done.After)
	}
	if len(done.After.Findings) > 0 {
		return errDamaged
	}
	return nil
}

// listCommand lists the files of a store.
type listCommand struct {
	dir  string
	json bool
}

func addList(parent *kingpin.CmdClause, commands map[string]command) {
	x := &listCommand{}
	cmd := parent.Command("list", "List the files of a store and what they hold. Changes nothing; may run beside the server.")
	cmd.Flag("json", "Print the list as JSON.").BoolVar(&x.json)
	cmd.Arg("data", "The data path.").Required().StringVar(&x.dir)
	commands[cmd.FullCommand()] = x
}

func (x *listCommand) run(_ context.Context, out, _ io.Writer) error {
	files, err := tsdb.Inventory(fsx.OS(), x.dir)
	if err != nil {
		return err
	}
	if x.json {
		return printJSON(out, files)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KIND\tFILE\tFROM\tTO\tLEVEL\tSERIES\tSAMPLES\tBYTES\tREMARKS")
	for i := range files {
		f := &files[i]
		from, to, remarks := "", "", f.Problem
		if f.Samples > 0 {
			from, to = timeText(f.MinT), timeText(f.MaxT)
		}
		if f.Tombstones {
			remarks = "some samples are deleted"
		}
		if f.Class != "" {
			remarks = strings.TrimSpace("kept as " + f.Class + " " + remarks)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\n", f.Kind, f.File, from, to, f.Level, f.Series, f.Samples, f.Bytes, remarks)
	}
	return w.Flush()
}

// progressLine shows how far something is on a terminal, and nothing elsewhere.
type progressLine struct {
	out  *os.File // nil: no terminal
	last time.Time
}

func newProgressLine(out io.Writer) *progressLine {
	f, ok := out.(*os.File)
	if !ok {
		return &progressLine{}
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return &progressLine{}
	}
	return &progressLine{out: f}
}

// show writes a line over the one before, ten times a second at most.
func (p *progressLine) show(file string, done, total int64) {
	if p.out == nil || time.Since(p.last) < 100*time.Millisecond {
		return
	}
	p.last = time.Now()
	percent := int64(100)
	if total > 0 {
		percent = min(100, done*100/total)
	}
	fmt.Fprintf(p.out, "\r\x1b[K%3d %% %s", percent, file)
}

// end removes the line.
func (p *progressLine) end() {
	if p.out != nil && !p.last.IsZero() {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
