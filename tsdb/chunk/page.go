// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"encoding/binary"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/decbuf"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Codec names how the data of a run in a page is encoded. The numbers are on disk for ever.
type Codec uint8

// The codecs. A codec that is not known, from a newer version, is a *CorruptError.
const (
	CodecXOR            Codec = 1 // a float stream
	CodecHistogram      Codec = 2 // a histogram stream of integer histograms
	CodecFloatHistogram Codec = 3 // a histogram stream of float histograms
)

// hasST is set in a run's codec byte when start timestamps follow its data.
const hasST = 0x80

// codecOf is the codec that rows of a kind are written with.
func codecOf(k sample.Kind) Codec {
	switch k {
	case sample.Histogram:
		return CodecHistogram
	case sample.FloatHistogram:
		return CodecFloatHistogram
	default:
		return CodecXOR
	}
}

// EncodePage appends the rows [from, to) of src, which belong to one series, to dst as a page and returns the
// longer slice. The rows may be of mixed kinds; each run of one kind is encoded by itself. Start timestamps
// are written where a run has any.
func EncodePage(dst []byte, src *column.Block, from, to int) []byte {
	for from < to {
		end := from + 1
		for end < to && src.KindAt(end) == src.KindAt(from) {
			end++
		}
		dst = appendRun(dst, src, from, end)
		from = end
	}
	return dst
}

// appendRun writes one run: codec, rows, size, data, and with start timestamps their size and stream.
func appendRun(dst []byte, src *column.Block, from, to int) []byte {
	kind := src.KindAt(from)
	codec := byte(codecOf(kind))
	withST := len(src.ST) > 0 && slices.ContainsFunc(src.ST[from:to], func(st int64) bool { return st != 0 })
	if withST {
		codec |= hasST
	}
	dst = binary.AppendUvarint(append(dst, codec), uint64(to-from))
	if kind == sample.Float {
		dst = appendSized(dst, func(dst []byte) []byte { return appendFloats(dst, src, from, to) })
	} else {
		dst = appendSized(dst, func(dst []byte) []byte { return appendHistograms(dst, src, from, to) })
	}
	if !withST {
		return dst
	}
	return appendSized(dst, func(dst []byte) []byte {
		var s STState
		for i, st := range src.ST[from:to] {
			dst = AppendST(dst, &s, i, st)
		}
		return dst
	})
}

// appendSized appends what write appends, behind its size. Room for the longest form of the size is left, and
// the data moved down to the form it needs.
func appendSized(dst []byte, write func([]byte) []byte) []byte {
	at := len(dst)
	var room [binary.MaxVarintLen32]byte
	dst = append(dst, room[:]...)
	data := len(dst)
	dst = write(dst)
	n := binary.PutUvarint(dst[at:data], uint64(len(dst)-data))
	return append(dst[:at+n], dst[data:]...)
}

func appendFloats(dst []byte, src *column.Block, from, to int) []byte {
	var st FloatState
	for i := from; i < to; i++ {
		dst = AppendFloat(dst, i-from, &st, src.T[i], src.V[i])
	}
	return dst
}

func appendHistograms(dst []byte, src *column.Block, from, to int) []byte {
	var enc HistEncoder
	for i := from; i < to; i++ {
		dst = enc.Append(dst, src.T[i], src.H.Int[i], src.H.Float[i])
	}
	return dst
}

// DecodePage appends the rows of a page within [mint, maxt] to dst, with start timestamps where withST is set.
// On an error, a *CorruptError or a *budget.ExceededError, dst has no more rows than before.
func DecodePage(p []byte, mint, maxt int64, withST bool, dst *column.Block) error {
	have := len(dst.T)
	c := decbuf.Buf{B: p}
	for c.Left() > 0 {
		before := len(dst.T)
		run := nextRun(&c)
		err := faultOf(&c)
		if err == nil {
			err = run.decode(mint, maxt, withST, dst)
		}
		if err == nil && before > have && before < len(dst.T) && dst.T[before] <= dst.T[before-1] {
			err = &CorruptError{Msg: "time does not ascend from run to run", Off: run.dataOff}
		}
		if err != nil {
			dst.Truncate(have)
			return err
		}
	}
	return nil
}

// PageRows returns how many rows a page says it holds, without decoding them.
func PageRows(p []byte) (int, error) {
	rows := 0
	c := decbuf.Buf{B: p}
	for c.Left() > 0 {
		run := nextRun(&c)
		rows += run.N
	}
	return rows, faultOf(&c)
}

// maxRows bounds the rows of a run, so that counts cannot overflow.
const maxRows = 1 << 31

// nextRun reads the frame of one run.
func nextRun(c *decbuf.Buf) placed {
	var run placed
	codec := c.Byte()
	switch Codec(codec &^ hasST) {
	case CodecXOR:
		run.Kind = sample.Float
	case CodecHistogram:
		run.Kind = sample.Histogram
	case CodecFloatHistogram:
		run.Kind = sample.FloatHistogram
	default:
		c.Fail("unknown codec")
	}
	n := c.Uvarint()
	if n == 0 || n > maxRows {
		c.Fail("number of rows out of range")
	}
	run.Data = c.Sized()
	run.dataOff = c.Off - len(run.Data)
	if codec&hasST != 0 {
		run.ST = c.Sized()
		run.stOff = c.Off - len(run.ST)
	}
	run.N = int(n)
	return run
}
