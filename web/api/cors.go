// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"net/url"
)

// allowOrigin tells a browser whether a page of another origin may read the answer.
func (a *API) allowOrigin(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" {
		return
	}
	h.Set("Access-Control-Allow-Headers", "Accept, Authorization, Content-Type, Origin")
	h.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
	h.Set("Access-Control-Expose-Headers", "Date")
	switch {
	case a.opts.CORSOrigin == nil:
		h.Set("Access-Control-Allow-Origin", "*")
	case a.opts.CORSOrigin.MatchString(origin):
		h.Set("Access-Control-Allow-Origin", origin)
	}
}

// options answers a browser that asks before a request whether it may be made.
func (a *API) options(w http.ResponseWriter, r *http.Request) {
	a.allowOrigin(w, r)
	w.WriteHeader(http.StatusNoContent)
}

// sameOrigin refuses what a page of another origin asks a browser to send.
func (a *API) sameOrigin(h http.Handler) http.Handler {
	return SameOrigin(h, a.opts.ExternalURL)
}

// SameOrigin wraps h so that requests which change something are refused when a page of another origin made a
// browser send them. Requests that come from no browser pass, and so do those of external's own origin.
func SameOrigin(h http.Handler, external *url.URL) http.Handler {
	p := http.NewCrossOriginProtection()
	if external != nil && external.Scheme != "" && external.Host != "" {
		// The origin comes from a parsed URL: it cannot be malformed.
		_ = p.AddTrustedOrigin(external.Scheme + "://" + external.Host)
	}
	p.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "refused: the request comes from a page of another origin, and this route changes the server", http.StatusForbidden)
	}))
	return p.Handler(h)
}
