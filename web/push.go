// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package web

import (
	"net/http"
	"strings"

	"github.com/gorilla/mux"

	"github.com/tidemarkdb/tidemark/web/api"
)

// foreign are the paths under which protocols are received that Prometheus does not have, and below which Prometheus has
// nothing.
var foreign = []string{"/influx/", "/pushgateway/", "/api/v1/import"}

// pushes hands what comes to foreign paths on to the receiver of it.
func (s *Server) pushes(r *mux.Router) {
	h := s.whenOpen(func(o *opened) http.Handler {
		if o.src.Push == nil {
			return http.NotFoundHandler()
		}
		return http.StripPrefix(strings.TrimSuffix(s.opts.RoutePrefix, "/"), o.src.Push)
	})
	for _, path := range foreign {
		name := strings.TrimSuffix(path, "/")
		served := s.metrics.instrument(name, api.SameOrigin(h, s.opts.ExternalURL))
		r.PathPrefix(name + "/").Handler(served)
		if name == path {
			r.Handle(name, served)
		}
	}
}
