// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net"
	"net/http"
)

// compressed returns h with compressed answers for those whose answers go over a network. Between two programs on one
// machine compressing takes ten times as long as what it saves, at both ends: most of the time of a large answer.
func (a *API) compressed(h http.Handler) http.Handler {
	packed := a.compress(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if sameMachine(r) {
			h.ServeHTTP(w, r)
			return
		}
		packed.ServeHTTP(w, r)
	})
}

// forwarding are the headers by which a proxy says that it asks for someone else.
var forwarding = [...]string{"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip"}

// sameMachine tells whether a request comes over the loopback interface, and not from a proxy there.
func sameMachine(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !net.ParseIP(host).IsLoopback() {
		return false
	}
	for _, h := range forwarding {
		if r.Header.Get(h) != "" {
			return false
		}
	}
	return true
}
