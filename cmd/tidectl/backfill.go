// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/tidemarkdb/tidemark/rules/backtest"
)

// backfillCommand has a server fill recording rules in over the past, and watches it.
type backfillCommand struct {
	file, url string
	from, til string
	interval  time.Duration
	every     time.Duration // between looks at the progress
}

func addBackfill(parent *kingpin.CmdClause, commands map[string]command) {
	c := &backfillCommand{every: 500 * time.Millisecond}
	cmd := parent.Command("backfill", "Fill the results of recording rules in over a range of the past.")
	cmd.Flag("url", "The server, which has --web.enable-admin-api.").Default("http://localhost:9090").StringVar(&c.url)
	cmd.Flag("from", "First time, RFC 3339.").Required().StringVar(&c.from)
	cmd.Flag("to", "Last time, RFC 3339; default: now.").StringVar(&c.til)
	cmd.Flag("interval", "Interval of groups of the file that set none.").Default("1m").DurationVar(&c.interval)
	cmd.Arg("rule-file", "The rule file; default: the rules that the server uses.").StringVar(&c.file)
	commands[cmd.FullCommand()] = c
}

func (c *backfillCommand) run(ctx context.Context, out, progress io.Writer) error {
	ask := map[string]string{"start": c.from}
	if c.til != "" {
		ask["end"] = c.til
	}
	if c.file != "" {
		text, err := os.ReadFile(c.file)
		if err != nil {
			return err
		}
		ask["rules"], ask["interval"] = string(text), c.interval.String()
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	var job backtest.Job
	if err := c.call(ctx, http.MethodPost, body, &job); err != nil {
		return err
	}
	for job.Ended == nil {
		showProgress(progress, min(job.Progress, 0.99))
		select {
		case <-ctx.Done():
			fmt.Fprintf(progress, "\nthe job goes on; end it by POST %s/cancel?id=%s\n", c.url+backfillRoute, job.ID)
			return context.Cause(ctx)
		case <-time.After(c.every):
		}
		if job, err = c.look(ctx, job.ID); err != nil {
			return err
		}
	}
	showProgress(progress, 1)
	if f := job.Filled; f != nil {
		fmt.Fprintf(out, "%d samples stored, %d were there, %d refused\n", f.Stored, f.Kept, f.Refused)
		if f.Failures > 0 {
			return fmt.Errorf("%d evaluations failed, the last: %s", f.Failures, f.LastError)
		}
	}
	if job.State != backtest.JobDone {
		return fmt.Errorf("the job is %s: %s", job.State, job.Error)
	}
	return nil
}

const backfillRoute = "/api/v1/admin/tidemark/backfill"

// look returns how far a job is.
func (c *backfillCommand) look(ctx context.Context, id string) (backtest.Job, error) {
	var list struct{ Jobs []backtest.Job }
	if err := c.call(ctx, http.MethodGet, nil, &list); err != nil {
		return backtest.Job{}, err
	}
	for _, j := range list.Jobs {
		if j.ID == id {
			return j, nil
		}
	}
	return backtest.Job{}, errors.New("the server does not know the job any more: was it restarted? What was stored stays, and doing it again changes nothing")
}

// call asks the server and decodes the data of its answer.
func (c *backfillCommand) call(ctx context.Context, method string, body []byte, data any) error {
	route, err := url.JoinPath(c.url, backfillRoute)
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, route, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: not the answer of a Tidemark: %w", resp.Status, err)
	}
	if answer.Status != "success" {
		return errors.New(answer.Error)
	}
	return json.Unmarshal(answer.Data, data)
}
