// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"math"

	"github.com/prometheus/common/model"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// maxTargetInfo bounds how many samples of target_info a request makes beyond one per resource. There is one for each
// interval between the oldest and the newest data point, and senders choose those.
const maxTargetInfo = 10_000

// targetMetadata stands for the hash of what is said about target_info, always the same.
const targetMetadata = 1

// resource is what the points of a ResourceMetrics have in common.
type resource struct {
	raw              []byte
	key              ingest.Key
	seen             bool   // there was a data point
	earliest, latest uint64 // of those with a time
}

func (r *resource) see(t uint64) {
	if !r.seen {
		r.seen, r.earliest = true, math.MaxUint64
	}
	r.latest = max(r.latest, t)
	if t != 0 {
		r.earliest = min(r.earliest, t)
	}
}

// describable reports whether a Resource message has attributes besides those that become job and instance.
func describable(msg []byte) bool {
	found := false
	_ = eachMessage(msg, "Resource", 1, func(pair []byte) error {
		return eachMessage(pair, "KeyValue", 1, func(key []byte) error {
			switch string(key) {
			case "service.name", "service.namespace", "service.instance.id":
			default:
				found = true
			}
			return nil
		})
	})
	return found
}

// describeTarget adds target_info, the series that describes the resource: samples from its oldest to its newest data
// point, close enough that every query in between finds one.
func (d *decoder) describeTarget() error {
	r := &d.res
	if !r.seen || !describable(r.raw) {
		return nil
	}
	if err := d.charge(pointBytes + metricBytes); err != nil {
		return err
	}
	key := d.within(r.key, []byte("target_info"))
	if !d.req.Begin(key) {
		if err := d.charge(int64(2 * len(r.raw))); err != nil {
			return err
		}
		ls, ok, err := d.translator.target(surroundings{resource: r.raw})
		if err == nil && ok {
			ls, err = d.check(ls)
		}
		if err != nil {
			d.req.Drop(0, "resources that cannot be described", err.Error)
		}
		if err != nil || !ok {
			return nil
		}
		d.req.Define(key, ls)
	}
	d.metrics = append(d.metrics, metric{surroundings: surroundings{resource: r.raw}})
	d.rows = append(d.rows, rowRef{-1, int32(len(d.metrics) - 1)}) // fits: a body has fewer bytes
	if !d.req.MetadataKnown(targetMetadata) {
		d.req.Metadata(sample.Metadata{Type: string(model.MetricTypeGauge), Help: "Target metadata"})
	}
	if r.earliest < r.latest {
		n := (r.latest-r.earliest-1)/d.settings.interval + 1
		room := uint64(maxTargetInfo - d.targetInfo)
		for i := n - min(n, room); i < n; i++ { // the newest of them, where there are too many
			d.req.Float(0, millis(r.earliest+i*d.settings.interval), 1)
		}
		d.targetInfo += int(min(n, room))
	}
	d.req.Float(0, millis(r.latest), 1)
	return nil
}
