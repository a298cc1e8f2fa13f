// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

// column is one series: its times, of which several series share one slice, and its values.
type column struct {
	name  string
	times []int64
	v     []float64
}

// The shapes of a host have an entropy of about 0.80 bytes per sample.
func TestHostsTakeLittleMoreThanTheirEntropy(t *testing.T) {
	for n, most := range map[int]float64{240: 0.865, 480: 0.845, 2880: 0.835} {
		var e encoding.Encoder
		size, rows := 0, 0
		for _, v := range host(rand.New(rand.NewPCG(1, 2)), n) {
			size += len(e.AppendValues(nil, v, nil))
			rows += len(v)
		}
		if got := float64(size) / float64(rows); got > most {
			t.Errorf("%d samples per series: %.4f bytes per sample, more than %.3f", n, got, most)
		} else {
			t.Logf("%d samples per series: %.4f bytes per sample", n, got)
		}
	}
}

// BenchmarkShare tells how many bytes a sample takes and which codecs the series use: of two hosts of the shapes
// here, with 240 and with 2,880 samples per series, and of the recording that TIDEMARK_RECORDING names, if any.
// Of what it prints only the bytes mean something: it reads back what it writes, and compares.
func BenchmarkShare(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	made := func(hosts, n int) (all []column) {
		for range hosts {
			times := jittered(r, n)
			for _, v := range host(r, n) {
				all = append(all, column{times: times, v: v})
			}
		}
		return all
	}
	b.Run("host/samples=240", func(b *testing.B) { benchShare(b, made(2, 240)) })
	b.Run("host/samples=2880", func(b *testing.B) { benchShare(b, made(1, 2880)) })
	if path := os.Getenv("TIDEMARK_RECORDING"); path != "" {
		all, err := readRecording(path)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("recording", func(b *testing.B) { benchShare(b, all) })
	}
}

func jittered(r *rand.Rand, n int) []int64 {
	times := make([]int64, n)
	for i := range times {
		times[i] = 1_760_000_000_000 + int64(i)*15000 + int64(r.IntN(7)) - 3
	}
	return times
}

func benchShare(b *testing.B, all []column) {
	b.Helper()
	for _, cold := range []bool{false, true} {
		b.Run(fmt.Sprintf("cold=%t", cold), func(b *testing.B) {
			e := encoding.Encoder{Cold: cold}
			var dst []byte
			var decoded []float64
			b.ReportAllocs()
			for b.Loop() {
				shares := map[string][2]int{}
				size, rows := 0, 0
				for i, c := range all {
					refs := refsOf(all, i)
					dst = e.AppendValues(dst[:0], c.v, refs)
					s := shares[encoding.Describe(dst)]
					s[0] += len(c.v)
					s[1] += len(dst)
					shares[encoding.Describe(dst)] = s
					size += len(dst)
					rows += len(c.v)
					got, err := encoding.DecodeValues(decoded[:0], dst, len(c.v), 0, len(c.v), func(k int) ([]float64, error) { return refs[k], nil })
					if err != nil || !slices.EqualFunc(got, c.v, sameBits) {
						b.Fatalf("%s: %v", c.name, err)
					}
					decoded = got
				}
				times := timesBytes(&e, all)
				if !b.Loop() {
					report(b, shares, size, rows, times)
					break
				}
			}
		})
	}
}

// refsOf returns the last 16 columns before i that have the same times.
func refsOf(all []column, i int) (refs [][]float64) {
	for j := max(i-16, 0); j < i; j++ {
		if len(all[j].times) == len(all[i].times) && all[j].times[0] == all[i].times[0] && slices.Equal(all[j].times, all[i].times) {
			refs = append(refs, all[j].v)
		}
	}
	return refs
}

// timesBytes returns how many bytes the distinct columns of times take.
func timesBytes(e *encoding.Encoder, all []column) (n int) {
	seen := map[string]bool{}
	for _, c := range all {
		if b := e.AppendTimes(nil, c.times); !seen[string(b)] {
			seen[string(b)] = true
			n += len(b)
		}
	}
	return n
}

func report(b *testing.B, shares map[string][2]int, size, rows, times int) {
	b.Helper()
	var names []string
	for name := range shares {
		names = append(names, name)
	}
	slices.SortFunc(names, func(x, y string) int { return shares[y][1] - shares[x][1] })
	var t strings.Builder
	fmt.Fprintf(&t, "\n%-24s %8s %8s %8s\n", "codec", "samples", "bytes", "B/sample")
	for _, name := range names {
		s := shares[name]
		fmt.Fprintf(&t, "%-24s %7.1f%% %7.1f%% %8.3f\n", name, 100*float64(s[0])/float64(rows), 100*float64(s[1])/float64(size), float64(s[1])/float64(s[0]))
	}
	fmt.Print(t.String())
	b.ReportMetric(float64(size)/float64(rows), "B/sample")
	b.ReportMetric(float64(times)/float64(rows), "B/sample(times)")
}

// readRecording reads what rig/record has written: a zstd stream of scrapes, each a time, a count, and of every sample
// the number of its series, its name if the number is new, and its value. One that is cut short is read up to there.
func readRecording(path string) ([]column, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	r := bufio.NewReader(z)
	if _, err := r.Discard(len("RECv1\n")); err != nil {
		return nil, err
	}
	var all []column
	for {
		if err := readScrape(r, &all); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		} else if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(x, y column) int { return strings.Compare(x.name, y.name) })
	return all, nil
}

func readScrape(r *bufio.Reader, all *[]column) error {
	at, err := binary.ReadUvarint(r)
	if err != nil {
		return err
	}
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return err
	}
	for range n {
		id, err := binary.ReadUvarint(r)
		if err != nil {
			return err
		}
		if int(id) == len(*all) {
			size, err := binary.ReadUvarint(r)
			if err != nil {
				return err
			}
			name := make([]byte, size)
			if _, err := io.ReadFull(r, name); err != nil {
				return err
			}
			*all = append(*all, column{name: string(name)})
		}
		var bits [8]byte
		if _, err := io.ReadFull(r, bits[:]); err != nil {
			return err
		}
		c := &(*all)[id]
		c.times = append(c.times, int64(at))
		c.v = append(c.v, math.Float64frombits(binary.LittleEndian.Uint64(bits[:])))
	}
	return nil
}
