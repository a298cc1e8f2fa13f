// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package web

import (
	"bytes"
	_ "embed"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/common/model"

	"github.com/tidemarkdb/tidemark/web/api"
)

//go:embed page.html
var pageText string

// pageData is what the page shows.
type pageData struct {
	Title      string
	Prefix     string // of the links, without a slash at the end
	State      string // ready, or why not
	Ready      bool
	Build      api.BuildInfo
	Uptime     string
	Series     string // empty while unknown
	Conditions []pageCondition
}

type pageCondition struct {
	Code, Since, Effect, NextStep string
}

// page tells a person what runs here and where its answers are.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	// Buffered, so that an error can still be an error.
	var out bytes.Buffer
	if err := s.pageTemplate.Execute(&out, s.pageData(time.Now())); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:")
	if _, err := w.Write(out.Bytes()); err != nil {
		s.log.Debug("answer not written", "path", r.URL.Path, "err", err)
	}
}

func (s *Server) pageData(now time.Time) pageData {
	d := pageData{
		Title: s.opts.PageTitle, Prefix: s.path(""), State: "ready", Ready: true,
		Uptime: model.Duration(now.Sub(s.started).Truncate(time.Second)).String(),
	}
	if err := s.ready(); err != nil {
		d.State, d.Ready = "not ready: "+err.Error(), false
	}
	o := s.open.Load()
	if o == nil {
		return d
	}
	d.Build = o.src.Build
	if o.src.Store != nil {
		if stats, err := o.src.Store.Stats(1); err == nil {
			d.Series = grouped(stats.Head.NumSeries)
		}
	}
	if o.src.Conditions != nil {
		for _, c := range o.src.Conditions() {
			d.Conditions = append(d.Conditions, pageCondition{c.Code, c.Since.UTC().Format(time.RFC3339), c.Effect, c.NextStep})
		}
	}
	return d
}

// grouped writes n with its thousands apart.
func grouped(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	var out []byte
	for i, c := range []byte(digits) {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out = append(out, ',')
		}
		out = append(out, c)
	}
	return string(out)
}
