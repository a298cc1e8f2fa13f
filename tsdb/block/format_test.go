// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

const id = "01JD0000000000000000000001"

// smallBlock returns the bytes of a block with a float, a histogram, an exemplar and a description.
func smallBlock(t testing.TB) []byte {
	t.Helper()
	fs := fsx.NewCrashable()
	var rows column.Block
	rows.AppendFloat(1000, 500, 1.5)
	rows.AppendFloat(2000, 500, 2.5)
	rows.AppendHistogram(3000, 0, &histogram.Histogram{
		Count: 3, Sum: 2, ZeroThreshold: 0.1, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1, 1},
	}, nil)
	src := Source{
		Series: func(yield func(Series, error) bool) {
			_ = yield(Series{Labels: labels.FromStrings("__name__", "a"), Rows: &rows, To: 2}, nil) &&
				yield(Series{Labels: labels.FromStrings("__name__", "h", "x", "y"), Rows: &rows, From: 2, To: 3, Exemplars: []exemplar.Exemplar{
					{Labels: labels.FromStrings("trace", "t"), Value: 7, Ts: 3000, HasTs: true},
				}}, nil)
		},
		Metadata: func(yield func(string, []metadata.Metadata) bool) {
			yield("a", []metadata.Metadata{{Type: "counter", Unit: "seconds", Help: "help"}})
		},
	}
	if err := fs.MkdirAll("d"); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(fs, "d", Meta{ULID: id, SlotEnd: 7_200_000, LSN: 9, Writer: "0.1.0"}, src); err != nil {
		t.Fatal(err)
	}
	raw, err := fsx.ReadFile(fs, Path("d", id))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// parts is a block file taken apart.
type parts struct {
	bytes  [sectionMeta + 1][]byte
	footer footer
}

func takeApart(t testing.TB, raw []byte) parts {
	t.Helper()
	tail, msg := parseTrailer(raw[len(raw)-trailerBytes:])
	end := len(raw) - trailerBytes - int(tail.footerSize)
	if msg != "" {
		t.Fatal(msg)
	}
	f, msg := parseFooter(raw[end:len(raw)-trailerBytes], int64(end))
	if msg != "" {
		t.Fatal(msg)
	}
	p := parts{footer: f}
	for _, s := range f.sections {
		p.bytes[s.kind] = raw[s.off : s.off+s.size]
	}
	return p
}

// put makes a file of the parts, with the checksums and places that belong to them.
func (p *parts) put() []byte { return p.putAs(formatVersion) }

func (p *parts) putAs(version uint16) []byte {
	out := appendHeader(nil, version)
	for i := range p.footer.sections {
		s := &p.footer.sections[i]
		b := p.bytes[s.kind]
		s.off, s.size, s.crc = int64(len(out)), int64(len(b)), checksum(b)
		if s.kind == sectionStripes || s.kind == sectionExemplars {
			s.crc = 0
		}
		out = append(out, b...)
	}
	return p.footer.appendTo(out, version, "9.9.9")
}

// openRaw opens the bytes of a block.
func openRaw(t testing.TB, raw []byte) (*Block, error) {
	t.Helper()
	fs := fsx.NewCrashable()
	f, err := fs.Create(Path("", id))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(raw, 0); err != nil {
		t.Fatal(err)
	}
	return Open(fs, Path("", id), nil, Options{})
}

func TestNewerBlocksAreRefusedByTheirVersion(t *testing.T) {
	check := func(what string, raw []byte, want NewerVersionError) {
		t.Helper()
		_, err := openRaw(t, raw)
		var newer *NewerVersionError
		if !errors.As(err, &newer) || !strings.Contains(err.Error(), "start Tidemark 9.9.9 or later") || newer.Version != want.Version || newer.Feature != want.Feature || newer.Writer != "9.9.9" {
			t.Errorf("%s: error %v", what, err)
		}
	}
	p := takeApart(t, smallBlock(t))
	p.footer.mandatory = 1 << 17
	check("feature", p.put(), NewerVersionError{Feature: 1 << 17})

	// A later version may have any layout between its header and its trailer.
	raw := append([]byte("TIDEMBLK and what nobody knows yet, more than enough of it to be a block file of some later time"), 0)
	next := trailer{footerSize: 1 << 30, version: formatVersion + 1, writer: "9.9.9"}
	check("version", next.appendTo(raw), NewerVersionError{Version: formatVersion + 1})
}

func TestVersionThatNeverWasIsRefused(t *testing.T) {
	raw := smallBlock(t)
	last, _ := parseTrailer(raw[len(raw)-trailerBytes:])
	last.version = 0
	var corrupt *CorruptError
	if _, err := openRaw(t, last.appendTo(raw[:len(raw)-trailerBytes])); !errors.As(err, &corrupt) {
		t.Errorf("error %v", err)
	}
}

func TestUnknownOptionalPartsAreIgnored(t *testing.T) {
	p := takeApart(t, smallBlock(t))
	p.footer.optional = 1 << 63
	// A section that this version knows nothing of, between two that it knows.
	raw := appendHeader(nil, formatVersion)
	extra := []byte("from the future")
	for i := range p.footer.sections {
		s := &p.footer.sections[i]
		s.off = int64(len(raw))
		raw = append(raw, p.bytes[s.kind]...)
	}
	p.footer.sections = append(p.footer.sections, section{kind: 99, crc: checksum(extra), off: int64(len(raw)), size: int64(len(extra))})
	b, err := openRaw(t, p.footer.appendTo(append(raw, extra...), formatVersion, "9.9.9"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDamagedMetadataKeepsTheSamples(t *testing.T) {
	raw := smallBlock(t)
	p := takeApart(t, raw)
	s, _ := p.footer.find(sectionMetadata)
	raw[s.off] ^= 1
	b, err := openRaw(t, raw)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var corrupt *CorruptError
	if !errors.As(b.Damage(), &corrupt) || !errors.As(b.Verify(t.Context()), &corrupt) {
		t.Errorf("damage %v", b.Damage())
	}
	var dst column.Block
	if err := b.Read(t.Context(), 0, math.MinInt64, math.MaxInt64, false, &dst); err != nil || len(dst.T) != 2 {
		t.Errorf("%d rows, %v", len(dst.T), err)
	}
}

// readAll asks a block for everything. It may answer errors; it must not panic or run away.
func readAll(t *testing.T, b *Block) {
	t.Helper()
	_ = b.Verify(t.Context())
	for id := range uint32(min(b.Index().N(), 50)) {
		dst := column.Block{}
		dst.Reset()
		_ = b.Read(t.Context(), id, 1500, 2500, true, &dst)
		for i := 1; i < len(dst.T); i++ {
			if dst.T[i] <= dst.T[i-1] || dst.T[i] > 2500 || dst.T[0] < 1500 {
				t.Fatalf("times %v", dst.T)
			}
		}
		_, _ = b.Exemplars(t.Context(), id, 0, math.MaxInt64)
		b.SeriesTimes(id)
	}
	for range b.Metadata("") {
	}
}

func FuzzOpen(f *testing.F) {
	raw := smallBlock(f)
	f.Add(raw)
	f.Add(raw[:len(raw)-1])
	first, err := os.ReadFile(Path("testdata/blocks/v1", id))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(first)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if b, err := openRaw(t, raw); err == nil {
			readAll(t, b)
			_ = b.Close()
		}
	})
}

// stripesOf takes the stripes of a small block apart: that of the samples, and that of the times.
func stripesOf(t testing.TB, p parts) (samples, times []byte) {
	t.Helper()
	area, _ := p.footer.find(sectionStripes)
	d, c := parseGroups(p.bytes[sectionDirectory], 2, area)
	if c.Failed() || len(d.stripes) != 1 || len(d.times) != 1 {
		t.Fatalf("%v: %d stripes, %d of times", c.Fault(), len(d.stripes), len(d.times))
	}
	cut := func(off int64, size uint32) []byte {
		return p.bytes[sectionStripes][off-area.off:][:size]
	}
	return cut(d.stripes[0].off, d.stripes[0].size), cut(d.times[0].off, d.times[0].size)
}

// putStripes makes the sections of the stripes, and their directory, of what stripesOf took apart.
func (p *parts) putStripes(samples, times []byte, columns int) {
	var w directoryWriter
	w.stripe(&stripe{size: uint32(len(samples)), crc: checksum(samples), minT: 1000, maxT: 3000}, 2, true)
	w.times(&timeStripe{size: uint32(len(times)), crc: checksum(times), cols: uint32(columns)})
	p.bytes[sectionStripes] = slices.Concat(samples, times)
	p.bytes[sectionDirectory] = w.appendTo(nil)
}

// FuzzSection puts hostile bytes behind right checksums, one section at a time, or one stripe.
func FuzzSection(f *testing.F) {
	const samplesPart, timesPart, all = 0, sectionMeta + 1, sectionMeta + 2
	raw := smallBlock(f)
	p := takeApart(f, raw)
	samples, times := stripesOf(f, p)
	for kind := uint8(sectionStripes); kind <= sectionMeta; kind++ {
		f.Add(kind, p.bytes[kind])
	}
	f.Add(uint8(samplesPart), samples)
	f.Add(uint8(timesPart), times)
	f.Add(uint8(sectionDirectory), binary.AppendUvarint(nil, 1<<40))
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		p := takeApart(t, raw)
		switch kind %= all; kind {
		case samplesPart:
			p.putStripes(b, times, 1)
		case timesPart:
			p.putStripes(samples, b, 1)
		case sectionExemplars:
			p.bytes[kind] = b
			p.bytes[sectionExDir] = appendSpans(nil, []span{{
				size: uint32(len(b)), crc: checksum(b), series: 2, minT: 1000, maxT: 3000,
			}})
		default:
			p.bytes[kind] = b
		}
		if b, err := openRaw(t, p.put()); err == nil {
			readAll(t, b)
			_ = b.Close()
		}
	})
}

// FuzzStripeOfVersion1 puts hostile bytes into the place of the stripe of a block of version 1.
func FuzzStripeOfVersion1(f *testing.F) {
	raw, err := os.ReadFile(Path("testdata/blocks/v1", id))
	if err != nil {
		f.Fatal(err)
	}
	first := takeApart(f, raw)
	f.Add(first.bytes[sectionStripes])
	f.Fuzz(func(t *testing.T, b []byte) {
		p := takeApart(t, raw)
		p.bytes[sectionStripes] = b
		p.bytes[sectionDirectory] = appendSpans(nil, []span{{
			size: uint32(len(b)), crc: checksum(b), series: 5, minT: -4000, maxT: 5000,
		}})
		if b, err := openRaw(t, p.putAs(1)); err == nil {
			readAll(t, b)
			_ = b.Close()
		}
	})
}
