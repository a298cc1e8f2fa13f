// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/rules"
	"github.com/tidemarkdb/tidemark/rules/backtest"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/prom"
)

// backtestCommand tells what the rules of a file would have done.
type backtestCommand struct {
	file, against string
	url, data     string
	from, til     string
	interval      time.Duration
	json          bool
}

// comparison is what a backtest finds, in the form of the API's answer.
type comparison struct {
	Report     *backtest.Report      `json:"report"`
	Against    *backtest.Report      `json:"against,omitempty"`
	Difference []backtest.Difference `json:"difference,omitempty"`
}

func addBacktest(parent *kingpin.CmdClause, commands map[string]command) {
	c := &backtestCommand{}
	cmd := parent.Command("backtest", "Tell what rules would have done over a range of the past.")
	cmd.Flag("url", "The server whose samples the rules are to read.").Default("http://localhost:9090").StringVar(&c.url)
	cmd.Flag("data", "The data path of a stopped server, or a snapshot, to read instead of a server.").StringVar(&c.data)
	cmd.Flag("from", "First time, RFC 3339; default: a day before --to.").StringVar(&c.from)
	cmd.Flag("to", "Last time, RFC 3339; default: now.").StringVar(&c.til)
	cmd.Flag("against", "Another version of the rule file; the difference to it is told.").StringVar(&c.against)
	cmd.Flag("interval", "Interval of groups that set none.").Default("1m").DurationVar(&c.interval)
	cmd.Flag("json", "Print everything as JSON.").BoolVar(&c.json)
	cmd.Arg("rule-file", "The rule file.").Required().StringVar(&c.file)
	commands[cmd.FullCommand()] = c
}

func (c *backtestCommand) run(ctx context.Context, out, progress io.Writer) error {
	start, end, err := c.times(time.Now())
	if err != nil {
		return err
	}
	texts, err := c.texts()
	if err != nil {
		return err
	}
	var found *comparison
	if c.data != "" {
		found, err = c.fromData(ctx, texts, start, end, progress)
	} else {
		found, err = c.fromServer(ctx, texts, start, end, progress)
	}
	if err != nil {
		return err
	}
	if c.json {
		return json.NewEncoder(out).Encode(found)
	}
	found.print(out)
	return nil
}

func (c *backtestCommand) times(now time.Time) (start, end time.Time, err error) {
	til, err := parseTime("--to", c.til, now.UnixMilli())
	if err != nil {
		return start, end, err
	}
	end = time.UnixMilli(til).UTC()
	from, err := parseTime("--from", c.from, end.Add(-24*time.Hour).UnixMilli())
	return time.UnixMilli(from).UTC(), end, err
}

// texts reads the rule file and the one to compare it with.
func (c *backtestCommand) texts() ([]string, error) {
	var texts []string
	for _, name := range []string{c.file, c.against} {
		if name == "" {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		texts = append(texts, string(text))
	}
	return texts, nil
}

// fromData runs the backtests here, over a data path.
func (c *backtestCommand) fromData(ctx context.Context, texts []string, start, end time.Time, progress io.Writer) (_ *comparison, err error) {
	log := slog.New(slog.NewTextHandler(progress, &slog.HandlerOptions{Level: slog.LevelWarn}))
	db, err := tsdb.Open(ctx, tsdb.Options{Dir: c.data, Logger: log, MaxFuture: -1, Foreign: prom.Directory{Logger: log}, ForeignInPlace: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	engine := query.NewEngine(db, query.Options{})
	defer func() { err = errors.Join(err, engine.Close()) }()
	found := &comparison{}
	for i, text := range texts {
		report, err := oneBacktest(ctx, backtest.Options{
			Rules: rules.Config{
				Files: []string{c.file}, Interval: c.interval, // one name for both: it decides the second of the evaluations
				Read: func(string) ([]byte, error) { return []byte(text), nil },
			},
			Start: start, End: end, Engine: engine, History: db, Parser: parser.NewParser(parser.Options{}),
			Progress: func(done float64) { showProgress(progress, (float64(i)+done)/float64(len(texts))) },
		})
		if err != nil {
			return nil, err
		}
		if i == 0 {
			found.Report = report
			continue
		}
		found.Against, found.Difference = report, backtest.Diff(report, found.Report)
	}
	showProgress(progress, 1)
	return found, nil
}

// oneBacktest runs a backtest on a scratch store of its own.
func oneBacktest(ctx context.Context, o backtest.Options) (_ *backtest.Report, err error) {
	dir, err := os.MkdirTemp("", "tidectl-backtest-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	scratch, err := tsdb.Open(ctx, tsdb.Options{Dir: dir, Sync: journal.Process, Shards: 1, MaxFuture: -1, Scrub: -1})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	o.Scratch = scratch
	return backtest.Run(ctx, o)
}

// fromServer has a server run the backtests.
func (c *backtestCommand) fromServer(ctx context.Context, texts []string, start, end time.Time, progress io.Writer) (*comparison, error) {
	ask := map[string]string{
		"rules": texts[0], "start": start.Format(time.RFC3339Nano), "end": end.Format(time.RFC3339Nano), "interval": c.interval.String(),
	}
	if len(texts) > 1 {
		ask["against"] = texts[1]
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	route, err := url.JoinPath(c.url, "/api/v1/rules/backtest")
	if err != nil {
		return nil, fmt.Errorf("--url: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, route, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("--url: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	return readAnswer(resp, progress)
}

// readAnswer reads the lines of the answer of a server.
func readAnswer(resp *http.Response, progress io.Writer) (*comparison, error) {
	lines := bufio.NewReader(resp.Body)
	for {
		text, err := lines.ReadBytes('\n')
		if err != nil && len(text) == 0 {
			return nil, fmt.Errorf("%s: the answer ends before the backtest does: %w", resp.Status, err)
		}
		var line struct {
			Progress      float64
			Status, Error string
			Data          *comparison
		}
		if err := json.Unmarshal(text, &line); err != nil {
			return nil, fmt.Errorf("%s: not the answer of a Tidemark: %s", resp.Status, bytes.TrimSpace(text[:min(len(text), 200)]))
		}
		switch {
		case line.Status == "error":
			return nil, errors.New(line.Error)
		case line.Status == "success" && line.Data != nil && line.Data.Report != nil:
			showProgress(progress, 1)
			return line.Data, nil
		}
		showProgress(progress, line.Progress)
	}
}

// showProgress says which part of the work is done, over what it said last.
func showProgress(w io.Writer, done float64) {
	fmt.Fprintf(w, "\r%3.0f %%", done*100)
	if done >= 1 {
		fmt.Fprintln(w)
	}
}

// print writes what was found for people.
func (c *comparison) print(out io.Writer) {
	fmt.Fprintf(out, "%s to %s\n", stamp(c.Report.Start), stamp(c.Report.End))
	for i := range c.Report.Rules {
		r := &c.Report.Rules[i]
		fmt.Fprintf(out, "\n%s (group %s): %d evaluations", r.Name, r.Group, r.Evaluations)
		if r.Failures > 0 {
			fmt.Fprintf(out, ", %d FAILED, last: %s", r.Failures, r.LastError)
		}
		if r.Type != "alerting" {
			fmt.Fprintf(out, ", %d samples\n", r.Samples)
			continue
		}
		fmt.Fprintf(out, ", fired %d times, %d notifications\n", r.Firings, r.Notifications)
		for _, e := range r.Episodes {
			fmt.Fprintf(out, "  %s\n", episodeText(e))
		}
		if r.LeftOut > 0 {
			fmt.Fprintf(out, "  and %d more\n", r.LeftOut)
		}
	}
	if c.Against != nil {
		c.printDifference(out)
	}
}

func (c *comparison) printDifference(out io.Writer) {
	if len(c.Difference) == 0 {
		fmt.Fprintln(out, "\nBoth versions fire at the same times.")
		return
	}
	fmt.Fprintln(out, "\nDifference: - fires no more, + fires now, ~ fires at other times")
	for _, d := range c.Difference {
		fmt.Fprintf(out, "\n%s\n", d.Rule)
		for _, e := range d.Gone {
			fmt.Fprintf(out, "- %s\n", episodeText(e))
		}
		for _, e := range d.Added {
			fmt.Fprintf(out, "+ %s\n", episodeText(e))
		}
		for _, m := range d.Moved {
			fmt.Fprintf(out, "~ %s\n  %s\n", episodeText(m.Before), episodeText(m.After))
		}
	}
}

// episodeText is one line about an alert.
func episodeText(e *backtest.Episode) string {
	text := "pending " + stamp(e.Pending)
	if e.Firing != nil {
		text += ", fires " + stamp(*e.Firing)
	}
	if e.End != nil {
		text += ", ends " + stamp(*e.End)
	}
	return text + " " + e.Labels.String()
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
