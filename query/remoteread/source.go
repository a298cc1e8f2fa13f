// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package remoteread

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"

	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// Local is the store beside which remotes are asked.
type Local interface {
	column.Source
	column.Waiter
	column.StampReader
}

// Source is a store and the other servers that are asked beside it.
type Source struct {
	local   Local
	start   func() int64
	remotes atomic.Pointer[[]remoteServer]
	views   atomic.Uint64 // how many of them were merged
}

// remoteServer is an entry of remote_read.
type remoteServer struct {
	storage.SampleAndChunkQueryable
	name   string
	recent bool // it is asked for all times
}

// New returns a source that has no remotes yet. start tells from which time on, in Unix milliseconds, the store has all
// there is.
func New(local Local, start func() int64) *Source {
	s := &Source{local: local, start: start}
	s.remotes.Store(new([]remoteServer))
	return s
}

// ApplyConfig makes the remotes those of a configuration. On an error nothing has changed.
func (s *Source) ApplyConfig(c *promconfig.Config) error {
	list := make([]remoteServer, 0, len(c.RemoteReadConfigs))
	for i, rc := range c.RemoteReadConfigs {
		for _, other := range c.RemoteReadConfigs[:i] {
			if reflect.DeepEqual(rc, other) {
				return fmt.Errorf("remote_read of %s is configured twice: remove one, or give them different names", rc.URL.Redacted())
			}
		}
		name := rc.Name
		if name == "" {
			name = strconv.Itoa(i + 1)
		}
		client, err := remote.NewReadClient(name, &remote.ClientConfig{
			URL: rc.URL, Timeout: rc.RemoteTimeout, ChunkedReadLimit: rc.ChunkedReadLimit, HTTPClientConfig: rc.HTTPClientConfig, Headers: rc.Headers,
		})
		if err != nil {
			return fmt.Errorf("remote_read of %s: %w", rc.URL.Redacted(), err)
		}
		if c, ok := client.(*remote.Client); ok {
			c.Client.Transport = charging{c.Client.Transport}
		}
		external := labels.EmptyLabels()
		if rc.FilterExternalLabels {
			external = c.GlobalConfig.ExternalLabels
		}
		q := remote.NewSampleAndChunkQueryableClient(client, external, required(rc.RequiredMatchers), rc.ReadRecent,
			func() (int64, error) { return s.start(), nil })
		list = append(list, remoteServer{q, name, rc.ReadRecent})
	}
	s.remotes.Store(&list)
	return nil
}

// required are the matchers that a selection must have for a remote to be asked.
func required(set model.LabelSet) []*labels.Matcher {
	var out []*labels.Matcher
	for name, value := range set {
		out = append(out, labels.MustNewMatcher(labels.MatchEqual, string(name), string(value)))
	}
	return out
}

// asked returns the remotes that may have samples of [mint, maxt] that the store has not.
func (s *Source) asked(mint int64) []remoteServer {
	all := *s.remotes.Load()
	if len(all) == 0 {
		return nil
	}
	if mint <= s.start() {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(r remoteServer) bool { return !r.recent })
}

// View implements column.Source.
func (s *Source) View(mint, maxt int64) (column.View, error) {
	local, err := s.local.View(mint, maxt)
	if err != nil {
		return nil, err
	}
	asked := s.asked(mint)
	if len(asked) == 0 {
		return local, nil
	}
	s.views.Add(1)
	m, err := newMerged(local, asked, mint, maxt)
	if err != nil {
		return nil, errors.Join(err, local.Close())
	}
	return m, nil
}

// Await implements column.Waiter: it is the store that is waited for.
func (s *Source) Await(ctx context.Context, mint, maxt int64) error {
	return s.local.Await(ctx, mint, maxt)
}

// Sealed implements column.StampReader.
func (s *Source) Sealed() int64 { return s.local.Sealed() }

// remoteStamp is more than any stamp of the store.
const remoteStamp = 1 << 40

// Stamp implements column.StampReader. Nobody tells when a remote changes, so no answer that may have its samples is ever
// the same as before.
func (s *Source) Stamp(ms []*labels.Matcher, mint, maxt int64) uint64 {
	stamp := s.local.Stamp(ms, mint, maxt)
	if len(s.asked(mint)) > 0 {
		stamp += remoteStamp * s.views.Add(1)
	}
	return stamp
}
