// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"encoding/binary"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/zeebo/xxh3"
)

// Hash128 is the identity of a label set: equal label sets have equal hashes in every index, head and block,
// and on every machine. Two different label sets with one hash are not to be expected.
type Hash128 struct {
	Hi, Lo uint64
}

// HashLabels returns the hash of ls, which must be sorted.
func HashLabels(ls labels.Labels) Hash128 {
	var stack [1024]byte
	buf := stack[:0]
	ls.Range(func(l labels.Label) {
		buf = appendText(buf, l.Name)
		buf = appendText(buf, l.Value)
	})
	return hashBytes(buf)
}

// HashPairs returns what HashLabels returns for the label set that pairs (name, value, name, value, …) stand
// for, with the texts that symbol gives.
func HashPairs(pairs []uint32, symbol func(sym uint32) string) Hash128 {
	var stack [1024]byte
	buf := stack[:0]
	for _, sym := range pairs {
		buf = appendText(buf, symbol(sym))
	}
	return hashBytes(buf)
}

// appendText adds s with its length in front: without it two label sets could share their bytes.
func appendText(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func hashBytes(b []byte) Hash128 {
	h := xxh3.Hash128(b)
	return Hash128{Hi: h.Hi, Lo: h.Lo}
}
