// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Command tidectl is the operator's tool: it works on the files of a server that is stopped, or on snapshots. What only
// reads works beside a running server too.
//
// Every command is a type with its flags and a run method, declared in main. What a command was asked for goes to
// standard output, progress and complaints to standard error. Exit codes: 0 done, 1 not done, 2 a command line that
// cannot be read, 3 done and damage was found.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kingpin/v2"
)

const (
	exitDone = iota
	exitFailed
	exitUsage
	exitDamaged
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// command is one of the things that tidectl does.
type command interface {
	run(ctx context.Context, out, progress io.Writer) error
}

// run is main with its surroundings as arguments.
func run(ctx context.Context, args []string, out, progress io.Writer) int {
	c, code := parse(args, out, progress)
	if c == nil {
		return code
	}
	switch err := c.run(ctx, out, progress); {
	case errors.Is(err, errDamaged):
		return exitDamaged
	case err != nil:
		fmt.Fprintf(progress, "tidectl: %v\n", err)
		return exitFailed
	}
	return exitDone
}

// parse returns the command that a command line names, or none and the exit code.
func parse(args []string, out, progress io.Writer) (command, int) {
	app := kingpin.New("tidectl", "The operator's tool for Tidemark.")
	app.HelpFlag.Short('h')
	app.UsageWriter(out).ErrorWriter(progress)
	ended := false
	app.Terminate(func(int) { ended = true })
	commands := map[string]command{}
	store := app.Command("tsdb", "Work on the files of a store.")
	addExport(store, commands)
	addList(store, commands)
	addRepair(store, commands)
	addVerify(store, commands)
	onRules := app.Command("rules", "Work on rules.")
	addBackfill(onRules, commands)
	addBacktest(onRules, commands)
	addTestRules(app.Command("test", "Run tests."), commands)
	name, err := app.Parse(args)
	switch {
	case ended:
		return nil, exitDone
	case err != nil:
		fmt.Fprintf(progress, "tidectl: %v; --help lists the commands\n", err)
		return nil, exitUsage
	}
	return commands[name], exitDone
}
