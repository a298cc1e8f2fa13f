// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exposition

import (
	model "github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/textparse"
)

// point is a sample where a parser stands.
type point struct {
	series   []byte
	start, t int64
	v        float64
	h        *model.Histogram
	fh       *model.FloatHistogram
}

func newPoint(p textparse.Parser, e textparse.Entry, now int64) point {
	x := point{t: now}
	var t *int64
	if e == textparse.EntryHistogram {
		x.series, t, x.h, x.fh = p.Histogram()
	} else {
		x.series, t, x.v = p.Series()
	}
	_, protobuf := p.(*textparse.ProtobufParser)
	if t != nil && (*t != 0 || !protobuf) { // that parser tells of no time as of 0
		x.t = *t
	}
	if protobuf { // OpenMetrics has them as series of their own
		x.start = p.StartTimestamp()
	}
	return x
}

// histogramBytes returns what the buckets of a histogram take.
func (x *point) histogramBytes() int64 {
	if x.h != nil {
		return int64(8 * (len(x.h.PositiveSpans) + len(x.h.NegativeSpans) + len(x.h.PositiveBuckets) + len(x.h.NegativeBuckets) + len(x.h.CustomValues)))
	}
	return int64(8 * (len(x.fh.PositiveSpans) + len(x.fh.NegativeSpans) + len(x.fh.PositiveBuckets) + len(x.fh.NegativeBuckets) + len(x.fh.CustomValues)))
}
