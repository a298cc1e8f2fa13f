// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"io"
	"math"
	"strconv"
	"sync"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
)

// flushAt is how many bytes are collected before they are written: enough for one system call to be worth it,
// little enough that an answer of any size needs no more memory.
const flushAt = 32 << 10

// encoder writes JSON to w, through a buffer of bounded size. The first error sticks; later writes do nothing.
type encoder struct {
	w   io.Writer
	buf []byte
	err error

	flushAt int // bytes that are collected before the next write

	// high is the digits of highSec, the seconds of the last time without their last four digits: the times of
	// an answer lie close together, and most of their digits need not be worked out again.
	high    []byte
	highSec uint64

	// last is the digits of lastBits, the float that was written last; lastLen 0: none was.
	last     [32]byte
	lastLen  int
	lastBits uint64
}

var encoders = sync.Pool{New: func() any { return &encoder{buf: make([]byte, 0, flushAt+4096)} }}

func newEncoder(w io.Writer) *encoder {
	e := encoders.Get().(*encoder)
	e.w, e.buf, e.err, e.flushAt = w, e.buf[:0], nil, flushAt
	return e
}

// release gives the encoder's memory back; it must not be used afterwards.
func (e *encoder) release() {
	e.w = nil
	if cap(e.buf) <= 4*flushAt {
		encoders.Put(e)
	}
}

func (e *encoder) flush() error {
	if e.err == nil && len(e.buf) > 0 {
		_, e.err = e.w.Write(e.buf)
	}
	e.buf, e.flushAt = e.buf[:0], flushAt
	return e.err
}

// room flushes when the buffer is full; it is called between values, so that none checks for itself.
func (e *encoder) room() {
	if len(e.buf) >= e.flushAt {
		_ = e.flush() // The error sticks.
	}
}

// encodable reports whether data writes v itself.
func encodable(v any) bool {
	switch v.(type) {
	case *queryData, []string, []labels.Labels, []exemplar.QueryResult, json.RawMessage:
		return true
	default:
		return false
	}
}

// data writes a value that is encodable.
func (e *encoder) data(v any) {
	switch v := v.(type) {
	case *queryData:
		e.query(v)
	case []string:
		e.strings(v)
	case []labels.Labels:
		e.raw(`[`)
		for i, ls := range v {
			e.comma(i)
			e.labels(ls)
			e.room()
		}
		e.raw(`]`)
	case []exemplar.QueryResult:
		e.exemplars(v)
	case json.RawMessage:
		e.buf = append(e.buf, v...)
	}
}

func (e *encoder) raw(s string) { e.buf = append(e.buf, s...) }

// comma writes a comma before every element but the first.
func (e *encoder) comma(i int) {
	if i > 0 {
		e.buf = append(e.buf, ',')
	}
}

func (e *encoder) query(q *queryData) {
	e.raw(`{"resultType":"`)
	e.raw(string(q.result.Type()))
	e.raw(`","result":`)
	switch v := q.result.(type) {
	case promql.Matrix:
		e.matrix(v)
	case promql.Vector:
		e.vector(v)
	case promql.Scalar:
		e.scalar(v.T, v.V)
	case promql.String:
		e.raw(`[`)
		e.time(v.T)
		e.raw(`,`)
		e.string(v.V)
		e.raw(`]`)
	default:
		e.raw(`null`)
	}
	if q.stats != nil {
		e.raw(`,"stats":`)
		e.buf = append(e.buf, q.stats...)
	}
	e.raw(`}`)
}

func (e *encoder) matrix(m promql.Matrix) {
	e.raw(`[`)
	for i := range m {
		e.comma(i)
		e.raw(`{"metric":`)
		e.labels(m[i].Metric)
		e.floats(m[i].Floats)
		if hs := m[i].Histograms; len(hs) > 0 {
			e.raw(`,"histograms":[`)
			for k := range hs {
				e.comma(k)
				e.histogramPoint(hs[k].T, hs[k].H)
				e.room()
			}
			e.raw(`]`)
		}
		e.raw(`}`)
	}
	e.raw(`]`)
}

func (e *encoder) floats(ps []promql.FPoint) {
	if len(ps) == 0 {
		return
	}
	e.raw(`,"values":[`)
	for k := range ps {
		e.comma(k)
		e.point(ps[k].T, ps[k].F)
		if k%64 == 0 {
			e.room()
		}
	}
	e.raw(`]`)
}

func (e *encoder) vector(v promql.Vector) {
	e.raw(`[`)
	for i := range v {
		e.comma(i)
		e.raw(`{"metric":`)
		e.labels(v[i].Metric)
		if v[i].H == nil {
			e.raw(`,"value":`)
			e.point(v[i].T, v[i].F)
		} else {
			e.raw(`,"histogram":`)
			e.histogramPoint(v[i].T, v[i].H)
		}
		e.raw(`}`)
		e.room()
	}
	e.raw(`]`)
}

// scalar writes a point of a scalar, which never prints an exponent.
func (e *encoder) scalar(t int64, v float64) {
	e.raw(`[`)
	e.time(t)
	e.raw(`,"`)
	e.buf = strconv.AppendFloat(e.buf, v, 'f', -1, 64)
	e.raw(`"]`)
}

func (e *encoder) point(t int64, f float64) {
	e.buf = append(e.buf, '[')
	e.time(t)
	e.buf = append(e.buf, ',')
	e.float(f)
	e.buf = append(e.buf, ']')
}

func (e *encoder) histogramPoint(t int64, h *histogram.FloatHistogram) {
	e.buf = append(e.buf, '[')
	e.time(t)
	e.buf = append(e.buf, ',')
	e.histogram(h)
	e.buf = append(e.buf, ']')
}

// time writes Unix milliseconds as seconds, with three decimals unless they are all zero.
func (e *encoder) time(ms int64) {
	u := uint64(ms)
	if ms < 0 {
		e.buf = append(e.buf, '-')
		u = -u
	}
	e.seconds(u / 1000)
	if frac := u % 1000; frac != 0 {
		e.buf = append(e.buf, '.', byte('0'+frac/100), byte('0'+frac/10%10), byte('0'+frac%10))
	}
}

func (e *encoder) seconds(sec uint64) {
	hi, lo := sec/10000, sec%10000
	if hi == 0 {
		e.buf = strconv.AppendUint(e.buf, sec, 10)
		return
	}
	if hi != e.highSec {
		e.high, e.highSec = strconv.AppendUint(e.high[:0], hi, 10), hi
	}
	e.buf = append(e.buf, e.high...)
	e.buf = append(e.buf, byte('0'+lo/1000), byte('0'+lo/100%10), byte('0'+lo/10%10), byte('0'+lo%10))
}

// exactInt is the bound below which every whole float64 prints as the integer it is.
const exactInt = 1 << 53

// float writes f in quotes, because JSON has no infinities and no NaN. Of a series that stands still the digits are
// found once.
func (e *encoder) float(f float64) {
	e.buf = append(e.buf, '"')
	if bits := math.Float64bits(f); bits != e.lastBits || e.lastLen == 0 {
		from := len(e.buf)
		e.digits(f)
		e.lastBits, e.lastLen = bits, copy(e.last[:], e.buf[from:])
	} else {
		e.buf = append(e.buf, e.last[:e.lastLen]...)
	}
	e.buf = append(e.buf, '"')
}

// digits writes the fewest digits that are read as f.
func (e *encoder) digits(f float64) {
	abs := math.Abs(f)
	switch {
	case abs < exactInt && f == math.Trunc(f) && (f != 0 || !math.Signbit(f)):
		// Counters are whole numbers: integers print several times as fast.
		e.buf = strconv.AppendInt(e.buf, int64(f), 10)
	case abs != 0 && (abs < 1e-6 || abs >= 1e21):
		e.buf = strconv.AppendFloat(e.buf, f, 'e', -1, 64)
	default:
		e.buf = strconv.AppendFloat(e.buf, f, 'f', -1, 64)
	}
}

// histogram writes count, sum and the buckets that are not empty. A bucket is [bounds, lower, upper, count], where
// bounds is 0 for (lower, upper], 1 for [lower, upper), 2 for both open and 3 for both closed.
func (e *encoder) histogram(h *histogram.FloatHistogram) {
	e.raw(`{"count":`)
	e.float(h.Count)
	e.raw(`,"sum":`)
	e.float(h.Sum)
	n := 0
	for it := h.AllBucketIterator(); it.Next(); {
		b := it.At()
		if b.Count == 0 {
			continue
		}
		if n == 0 {
			e.raw(`,"buckets":[`)
		}
		e.comma(n)
		n++
		e.buf = append(e.buf, '[', boundsDigit(b.LowerInclusive, b.UpperInclusive), ',')
		e.float(b.Lower)
		e.buf = append(e.buf, ',')
		e.float(b.Upper)
		e.buf = append(e.buf, ',')
		e.float(b.Count)
		e.buf = append(e.buf, ']')
	}
	if n > 0 {
		e.buf = append(e.buf, ']')
	}
	e.buf = append(e.buf, '}')
}

func boundsDigit(lower, upper bool) byte {
	switch {
	case lower && upper:
		return '3'
	case lower:
		return '1'
	case upper:
		return '0'
	default:
		return '2'
	}
}

func (e *encoder) labels(ls labels.Labels) {
	e.buf = append(e.buf, '{')
	first := true
	ls.Range(func(l labels.Label) {
		if !first {
			e.buf = append(e.buf, ',')
		}
		first = false
		e.string(l.Name)
		e.buf = append(e.buf, ':')
		e.string(l.Value)
	})
	e.buf = append(e.buf, '}')
}

func (e *encoder) exemplars(rs []exemplar.QueryResult) {
	e.raw(`[`)
	for i, r := range rs {
		e.comma(i)
		e.raw(`{"seriesLabels":`)
		e.labels(r.SeriesLabels)
		e.raw(`,"exemplars":[`)
		for k, x := range r.Exemplars {
			e.comma(k)
			e.raw(`{"labels":`)
			e.labels(x.Labels)
			e.raw(`,"value":`)
			e.float(x.Value)
			e.raw(`,"timestamp":`)
			e.time(x.Ts)
			e.raw(`}`)
			e.room()
		}
		e.raw(`]}`)
	}
	e.raw(`]`)
}

func (e *encoder) strings(list []string) {
	e.raw(`[`)
	for i, s := range list {
		e.comma(i)
		e.string(s)
		e.room()
	}
	e.raw(`]`)
}

// stringList writes a field of the envelope, unless the list is empty.
func (e *encoder) stringList(field string, list []string) {
	if len(list) > 0 {
		e.raw(field)
		e.strings(list)
	}
}

const hexDigits = "0123456789abcdef"

// string writes s as a JSON string. What is no UTF-8 becomes the replacement character.
func (e *encoder) string(s string) {
	b := append(e.buf, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(append(b, s[start:i]...), `\ufffd`...)
				start = i + 1
			}
			i += n
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	e.buf = append(append(b, s[start:]...), '"')
}
