// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"os"
	"time"

	"github.com/tidemarkdb/tidemark/rules"
)

// autoReload tells when the files of the configuration have changed, for --config.auto-reload.
type autoReload struct {
	server *server
	ticker *time.Ticker
	events chan struct{} // nil: the flag is not set
	done   chan struct{}
	ended  chan struct{}
}

func newAutoReload(s *server) *autoReload {
	a := &autoReload{server: s}
	if !s.opts.AutoReload {
		return a
	}
	a.ticker = time.NewTicker(s.opts.AutoReloadInterval)
	a.events, a.done, a.ended = make(chan struct{}), make(chan struct{}), make(chan struct{})
	go a.run(a.sum())
	return a
}

// changed delivers a value for each change seen; never without the flag.
func (a *autoReload) changed() <-chan struct{} { return a.events }

func (a *autoReload) stop() {
	if a.events == nil {
		return
	}
	close(a.done)
	<-a.ended
}

func (a *autoReload) run(last []byte) {
	defer close(a.ended)
	defer a.ticker.Stop()
	for {
		select {
		case <-a.done:
			return
		case <-a.ticker.C:
		}
		sum := a.sum()
		if bytes.Equal(sum, last) {
			continue
		}
		last = sum
		select {
		case a.events <- struct{}{}:
		case <-a.done:
			return
		}
	}
}

// sum is a checksum over the configuration files and the rule files that they name. A file that cannot be read
// counts as empty: the reload then says what is wrong.
func (a *autoReload) sum() []byte {
	h := sha256.New()
	add := func(name string) {
		text, err := os.ReadFile(name)
		if err != nil {
			text = nil
		}
		h.Write([]byte(name))
		h.Write([]byte{0})
		h.Write(text)
	}
	add(a.server.opts.ConfigFile)
	if f := a.server.opts.TidemarkConfigFile; f != "" {
		add(f)
	}
	c := a.server.config.Load()
	for _, patterns := range [][]string{c.Prom.RuleFiles, c.Prom.ScrapeConfigFiles} {
		files, err := rules.Glob(patterns)
		if err != nil {
			continue
		}
		for _, f := range files {
			add(f)
		}
	}
	return h.Sum(nil)
}
