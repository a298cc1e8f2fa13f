// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package remotewrite

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Key spaces of the two messages, whose label bytes differ.
const (
	protocolV1 = 1
	protocolV2 = 2
)

// decoder reads the messages of one request; it lives in a pool.
type decoder struct {
	req     *ingest.Request
	metrics *metrics
	version int

	next  [groupLength]found // series that were seen and not begun, and how many
	keys  [groupLength]ingest.Key
	nexts int

	messages     [][]byte // the TimeSeries message of each series of req
	symbols      [][]byte // of a 2.0 message
	symbolKeys   []ingest.Key
	labelRefs    []uint32 // of the series at hand
	exemplarRefs []uint32
	scratch      []byte
	labels       ingest.LabelBuilder
	bad          error // why the rows of the series at hand are not taken
	badSeries    int

	meta            metadataV2 // of the series before, whose neighbours mostly share it
	metaHash        uint32
	withoutMetadata int // rows
}

// groupLength is how many series are seen before the first of them is begun: the memory of the key table that they
// need is fetched at once.
const groupLength = 16

// found is a series of a message whose key is known.
type found struct {
	msg    []byte
	values int   // where its fields that are not labels begin, at the latest
	bad    error // why its rows are not taken
}

// mostBadSeries bounds the work for a body that is nonsense; senders put some thousand series into one.
const mostBadSeries = 50_000

// add begins a series, now or with those that follow.
func (d *decoder) add(key ingest.Key, f found) error {
	d.keys[d.nexts], d.next[d.nexts] = key, f
	if d.nexts++; d.nexts < groupLength {
		return nil
	}
	return d.beginAll()
}

// beginAll begins the series that were added, and adds their rows.
func (d *decoder) beginAll() error {
	n := d.nexts
	d.nexts = 0
	if err := d.req.Err(); err != nil {
		return err
	}
	d.req.Ahead(d.keys[:n])
	for i := range n {
		if err := d.begin(d.keys[i], &d.next[i]); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) begin(key ingest.Key, f *found) error {
	if d.bad = f.bad; d.bad == nil && !d.req.Begin(key) {
		ls, err := d.parseLabels(f.msg)
		if _, malformed := isMalformed(err); malformed {
			return err
		}
		if d.bad = err; err == nil {
			d.req.Define(key, ls)
		}
	}
	if d.bad == nil {
		d.messages = append(d.messages, f.msg)
	} else if d.badSeries++; d.badSeries > mostBadSeries {
		return &MalformedError{Msg: fmt.Sprintf("more than %d series have invalid labels, such as: %v", mostBadSeries, d.bad)}
	}
	var err error
	if d.version == protocolV1 {
		err = d.valuesV1(f.msg[f.values:])
	} else {
		err = d.valuesV2(f.msg[f.values:])
	}
	d.bad = nil
	return err
}

// maxPooledSlots bounds what an idle decoder keeps: 100,000 slice headers are 2.4 MB.
const maxPooledSlots = 100_000

// reset empties the decoder and reports whether it is small enough to be kept.
func (d *decoder) reset() bool {
	clear(d.messages)
	clear(d.symbols)
	clear(d.next[:])
	d.nexts, d.badSeries = 0, 0
	d.messages, d.symbols, d.symbolKeys = d.messages[:0], d.symbols[:0], d.symbolKeys[:0]
	d.req, d.bad, d.withoutMetadata, d.metaHash = nil, nil, 0, 0
	return max(cap(d.messages), cap(d.symbols), cap(d.symbolKeys), cap(d.scratch)/16) <= maxPooledSlots
}

// labelsOf parses the labels of a series of the request once more.
func (d *decoder) labelsOf(series int) (labels.Labels, error) {
	return d.parseLabels(d.messages[series])
}

// parseLabels returns the labels of a TimeSeries message.
func (d *decoder) parseLabels(msg []byte) (labels.Labels, error) {
	if d.version == protocolV1 {
		return d.labelsV1(msg)
	}
	var err error
	if d.labelRefs, err = labelRefsV2(d.labelRefs[:0], msg); err != nil {
		return labels.EmptyLabels(), err
	}
	if err := d.checkRefs(); err != nil {
		return labels.EmptyLabels(), err
	}
	return d.labelsV2()
}

// showLast returns the labels of the series that began last.
func (d *decoder) showLast() string {
	ls, err := d.labelsOf(len(d.messages) - 1)
	if err != nil {
		return err.Error()
	}
	return ls.String()
}

// sample reads a Sample message of either version.
func (d *decoder) sample(msg []byte, hasStart bool) error {
	if t, v, ok := plainSample(msg); ok {
		if d.bad == nil {
			d.req.Float(0, t, v)
		}
		return nil
	}
	var st, t int64
	var v float64
	r := reader{buf: msg}
	for {
		number, wire, ok := r.next()
		if !ok {
			break
		}
		switch {
		case number == 1 && r.expect(number, wire, wireFixed64):
			v = r.double()
		case number == 2 && r.expect(number, wire, wireVarint):
			t = int64(r.uvarint())
		case number == 3 && hasStart && r.expect(number, wire, wireVarint):
			st = int64(r.uvarint())
		case number > 3 || (number == 3 && !hasStart):
			r.skip(wire)
		}
	}
	if r.err == nil && d.bad == nil {
		d.req.Float(st, t, v)
	}
	return r.err
}

// histogram reads a Histogram message of either version.
func (d *decoder) histogram(msg []byte) error {
	if err := d.req.Charge(int64(len(msg))*elementBytes + histogramBytes); err != nil {
		return err
	}
	x, err := decodeHistogram(msg)
	if err != nil || d.bad != nil {
		return err
	}
	if d.version == protocolV1 {
		x.st = 0 // not a field of that message
	}
	h, fh, err := x.value()
	if err != nil {
		d.req.Drop(1, "invalid histogram", func() string {
			return d.showLast() + " at " + time.UnixMilli(x.t).UTC().Format(time.RFC3339Nano) + ": " + err.Error()
		})
		return nil
	}
	d.req.Histogram(x.st, x.t, h, fh)
	return nil
}

// addExemplar adds an exemplar with the labels in the builder, unless its message was malformed.
func (d *decoder) addExemplar(e sample.Exemplar, err error) error {
	if err != nil || d.bad != nil {
		return err
	}
	ls, err := d.labels.Exemplar()
	if err != nil {
		d.req.Drop(0, "exemplar with invalid labels", func() string { return d.showLast() + ": " + err.Error() })
		return nil
	}
	e.Labels, e.HasT = ls, e.T != 0
	d.req.Exemplar(e)
	return nil
}

// dropSeries counts the rows of a series with bad labels.
func (d *decoder) dropSeries(rows int) {
	bad := d.bad
	d.metrics.invalidLabels.Add(float64(rows))
	d.req.Drop(rows, "invalid labels", bad.Error)
}

func isMalformed(err error) (*MalformedError, bool) { return errors.AsType[*MalformedError](err) }
