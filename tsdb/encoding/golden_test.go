// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding_test

import (
	"encoding/hex"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

const stale = 0x7ff0000000000002

// golden is an example of the format page: values, integers or times, and what they must come to.
type golden struct {
	v    []float64
	ref  []float64
	x, t []int64
}

func goldens() map[string]golden {
	count := func(n int, f func(i int) float64) (v []float64) {
		for i := range n {
			v = append(v, f(i))
		}
		return v
	}
	whole := func(n int, f func(i int) int64) (x []int64) {
		for i := range n {
			x = append(x, f(i))
		}
		return x
	}
	bits := math.Float64frombits
	milli, tenth, sum := 0.001, 0.1, 0.0 // not constants, with which Go would count exactly
	wave := []int64{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3}
	return map[string]golden{
		"raw":      {v: []float64{bits(0x0123456789abcdef), bits(0xfedcba9876543210)}},
		"constant": {v: []float64{1, 1, 1}},
		"xor":      {v: []float64{1e300, 1e300, math.Pi, math.Pi, 1e300, 1e300, 1e300, -math.Pi, 1e300}},
		"ref":      {v: []float64{1, 2, 4}, ref: []float64{1, 2, 4}},
		"difference": {
			v:   count(40, func(i int) float64 { return float64(wave[i%16]*wave[i%5]*100+int64(i/20)) / 10 }),
			ref: count(40, func(i int) float64 { return float64(wave[i%16] * wave[i%5] * 10) }),
		},
		"ordered": {v: []float64{bits(0x7e6fffffffffffff), bits(0x7e70000000000000), bits(0x7e70000000000001), bits(0x7e70000000000002)}},
		"product": {v: count(4, func(i int) float64 { return float64(4353971+30*i) * milli })},
		"near":    {v: count(12, func(int) float64 { sum += tenth; return sum })},
		"ulp":     {v: count(6, func(i int) float64 { return 0x1p-40 * float64(3*i*i+1) })},
		"decimal": {v: []float64{0.25, 0.5, 0.75, 1}},
		"patched": {v: append(count(16, func(i int) float64 { return float64(i) }), bits(stale), 17)},

		"integers-constant": {x: []int64{-3, -3, -3}},
		"integers-line":     {x: []int64{1000, 1300, 1600, 1900}},
		"integers-parabola": {x: []int64{10, 11, 14, 19, 26}},
		"integers-divisor":  {x: []int64{5, 4101, 12293, 5, 8197}},
		"packed":            {x: []int64{103, 101, 100, 107, 102, 100, 101, 107}},
		"rice":              {x: whole(16, func(i int) int64 { return []int64{0, 1, 0, 2, 9, 1, 0, 3, 0, 0, 1, 5, 0, 1, 2, 0}[i] })},
		"huffman":           {x: whole(100, func(i int) int64 { return []int64{0, 0, 0, 1, 1, 2, 5, 40}[i*i*i%67%8] * (1 + wave[i%16]/9) })},
		"segments":          {x: whole(24, func(i int) int64 { return 100 + wave[i%16]%5 + int64(i/14)*(5000+int64(i*i*7%50)) })},
		"sparse":            {x: whole(200, func(i int) int64 { return int64(i/90) * 5 })},
		"patch":             {x: whole(64, func(i int) int64 { return wave[i*i%16]*int64(1+i%2) + int64(i/50*(50/max(i, 1)))<<30 })},

		"times-affine": {t: []int64{1000, 16000, 31000, 46000}},
		"times-line":   {t: whole(24, func(i int) int64 { return 15000*int64(i+i/9) + wave[i%16]%5 })},
		"times-list":   {t: []int64{1000, 1001, 2500, 9000}},
	}
}

func (g *golden) encode() []byte {
	e := encoding.Encoder{Cold: true}
	switch {
	case g.x != nil:
		return e.AppendInts(nil, g.x)
	case g.t != nil:
		return e.AppendTimes(nil, g.t)
	case g.ref != nil:
		return e.AppendValues(nil, g.v, [][]float64{g.ref})
	}
	return e.AppendValues(nil, g.v, nil)
}

func (g *golden) check(t *testing.T, name string, src []byte) {
	t.Helper()
	ok := false
	var err error
	switch {
	case g.x != nil:
		var x []int64
		x, err = encoding.DecodeInts(nil, src, len(g.x), 0, len(g.x))
		ok = slices.Equal(x, g.x)
	case g.t != nil:
		var times encoding.Times
		times, err = encoding.ParseTimes(src)
		ok = slices.Equal(times.AppendTo(nil, 0, times.Len()), g.t)
	default:
		var v []float64
		v, err = encoding.DecodeValues(nil, src, len(g.v), 0, len(g.v), func(int) ([]float64, error) { return g.ref, nil })
		ok = slices.EqualFunc(v, g.v, sameBits)
	}
	if err != nil || !ok {
		t.Errorf("%s: the page's bytes are read otherwise (%v)", name, err)
	}
}

var dump = regexp.MustCompile("(?s)```golden (\\S+)\n(.*?)```")

// The format page shows each example byte by byte; what follows a # on a line is for the reader.
func TestFormatPageShowsTheBytes(t *testing.T) {
	doc, err := os.ReadFile("../../docs/format-encoding.md")
	if err != nil {
		t.Fatal(err)
	}
	all := goldens()
	for _, m := range dump.FindAllStringSubmatch(string(doc), -1) {
		var digits strings.Builder
		for line := range strings.Lines(m[2]) {
			code, _, _ := strings.Cut(line, "#")
			digits.WriteString(strings.Join(strings.Fields(code), ""))
		}
		shown, err := hex.DecodeString(digits.String())
		if err != nil {
			t.Fatalf("%s: %v", m[1], err)
		}
		g, ok := all[m[1]]
		if !ok {
			t.Errorf("the page shows %q, which no test knows", m[1])
			continue
		}
		if want := g.encode(); string(shown) != string(want) {
			t.Errorf("%s: the page shows\n% x, the encoder writes\n% x", m[1], shown, want)
		}
		g.check(t, m[1], shown)
		delete(all, m[1])
	}
	for name, g := range all {
		t.Errorf("the page does not show %s: % x %s", name, g.encode(), describe(&g))
	}
}

func describe(g *golden) string {
	if g.v == nil {
		return ""
	}
	return encoding.Describe(g.encode())
}
