// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemarkdb/tidemark/ingest/dedup"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// epochLength is the unit in which the key table counts idleness: a series that is written once per scrape
// interval, an hour at most, is never idle for more than two of them.
const epochLength = 30 * time.Minute

// Options of an Intake. Appender is required.
type Options struct {
	Appender   sample.Appender
	Foreseer   Foreseer              // nil: scrapes take it that every row is accepted
	Keys       *budget.Account       // what the key table may take; nil: it is not bounded
	Requests   *budget.Account       // what requests in flight may take together; nil: they are not bounded
	Replicas   *dedup.Tracker        // nil: what replicas send is not told apart
	Registerer prometheus.Registerer // nil: no metrics are registered
}

// Intake takes requests of all push protocols.
type Intake struct {
	appender sample.Appender
	foreseer Foreseer
	keys     *KeyTable
	requests *budget.Account
	forced   *budget.Account // below requests, never refused
	replicas *dedup.Tracker
	metrics  *metrics
	rejected Rejections
	pool     sync.Pool
}

// New returns an Intake.
func New(o Options) (*Intake, error) {
	in := &Intake{appender: o.Appender, foreseer: o.Foreseer, keys: NewKeyTable(o.Keys), requests: o.Requests, replicas: o.Replicas}
	in.forced = o.Requests.Exempt("exempt requests")
	in.metrics = newMetrics(in.keys)
	if o.Registerer != nil {
		for _, c := range in.metrics.collectors {
			if err := o.Registerer.Register(c); err != nil {
				return nil, fmt.Errorf("register the metrics of ingest: %w", err)
			}
		}
	}
	in.pool.New = func() any { return &Request{in: in} }
	return in, nil
}

// Begin returns an empty Request, which the caller gives back with Release.
func (in *Intake) Begin() *Request {
	in.keys.SetEpoch(uint32(time.Now().Unix() / int64(epochLength/time.Second))) // fits until the year 246,000.
	r := in.pool.Get().(*Request)
	r.beginReplicas(in.replicas.Roster())
	return r
}
