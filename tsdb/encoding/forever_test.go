// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding_test

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

const forever = "testdata/columns.txt"

var addColumns = flag.Bool("add-columns", false, "add columns as they are encoded now to "+forever)

// hashOf returns a hash of the rows of a column of that kind, and how many there are of what was asked for.
func hashOf(kind string, src []byte, n int) (string, error) {
	h := fnv.New64a()
	add := func(u uint64) { h.Write(binary.BigEndian.AppendUint64(nil, u)) }
	switch kind {
	case "values":
		other := make([]float64, n)
		for i := range other {
			other[i] = float64(i*i%97) / 10
		}
		v, err := encoding.DecodeValues(nil, src, n, 0, n, func(int) ([]float64, error) { return other, nil })
		if err != nil {
			return "", err
		}
		for _, f := range v {
			add(math.Float64bits(f))
		}
	case "integers":
		x, err := encoding.DecodeInts(nil, src, n, 0, n)
		if err != nil {
			return "", err
		}
		for _, i := range x {
			add(uint64(i))
		}
	case "times":
		t, err := encoding.ParseTimes(src)
		if err != nil {
			return "", err
		}
		for _, i := range t.AppendTo(nil, 0, t.Len()) {
			add(uint64(i))
		}
	default:
		return "", fmt.Errorf("no kind %q", kind)
	}
	return strconv.FormatUint(h.Sum64(), 16), nil
}

// What was written once is read the same for ever, whatever the encoder writes today. A line of the file is a kind, a number
// of rows, the hash of the rows and the column. Lines are only ever added.
func TestOldColumnsAreReadAsEver(t *testing.T) {
	if *addColumns {
		writeColumns(t)
	}
	f, err := os.Open(forever)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := map[string]bool{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		part := strings.Fields(lines.Text())
		if len(part) != 4 {
			t.Fatalf("line %q", lines.Text())
		}
		n, err := strconv.Atoi(part[1])
		if err != nil {
			t.Fatal(err)
		}
		src, err := hex.DecodeString(part[3])
		if err != nil {
			t.Fatal(err)
		}
		got, err := hashOf(part[0], src, n)
		if err != nil || got != part[2] {
			t.Errorf("%s: %v, hash %s", lines.Text(), err, got)
		}
		for word := range strings.FieldsSeq(encoding.DescribeColumn(part[0], src)) {
			seen[word] = true
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for word := range strings.FieldsSeq("raw constant xor ref difference ordered ulp product near decimal patched 0 1 2 " +
		"const pack rice huffman segments sparse patch affine line list") {
		if !seen[word] {
			t.Errorf("no column with %q", word)
		}
	}
}

func writeColumns(t *testing.T) {
	t.Helper()
	var out strings.Builder
	add := func(kind string, n int, src []byte) {
		hash, err := hashOf(kind, src, n)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s %d %s %x\n", kind, n, hash, src)
	}
	e := encoding.Encoder{Cold: true}
	for _, g := range goldens() {
		switch {
		case g.x != nil:
			add("integers", len(g.x), g.encode())
		case g.t != nil:
			add("times", len(g.t), g.encode())
		case g.ref == nil:
			add("values", len(g.v), g.encode())
		}
	}
	const n = 90
	r := rand.New(rand.NewPCG(11, 12))
	other := make([]float64, n)
	for i := range other {
		other[i] = float64(i*i%97) / 10
	}
	add("values", n, e.AppendValues(nil, other, [][]float64{other}))
	for _, s := range slices.Concat(hostShapes, oddShapes) {
		v := s.column(r, n)
		add("values", n, e.AppendValues(nil, v, nil))
		for i := range v {
			v[i] = float64(i/9) + other[i]
		}
		add("values", n, e.AppendValues(nil, v, [][]float64{other}))
	}
	for _, make := range timeShapes {
		next := make(r)
		var ts []int64
		for range n {
			ts = append(ts, next())
		}
		add("times", n, e.AppendTimes(nil, ts))
	}
	f, err := os.OpenFile(forever, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(out.String()); err != nil {
		t.Fatal(err)
	}
}
