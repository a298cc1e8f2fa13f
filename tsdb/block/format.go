// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
)

// The layout, as docs/format-block.md draws it. Numbers are little-endian.
const (
	magic         = "TIDEMBLK"
	formatVersion = 2 // of what is written
	firstVersion  = 1 // the oldest that is read
	headerBytes   = 16
	writerBytes   = 16
	trailerBytes  = 44
	sectionBytes  = 24
	footerBytes   = 20 // without its sections
)

// The kinds of section. Numbers are on disk for ever; a reader passes over a kind that it does not know.
const (
	sectionStripes   = 1
	sectionDirectory = 2
	sectionIndex     = 3
	sectionExemplars = 4
	sectionExDir     = 5
	sectionMetadata  = 6
	sectionMeta      = 7
	sectionMembers   = 8 // of parts
)

// featurePart is the mandatory feature bit of a part, which is no block. Blocks have none so far.
const featurePart = 1

// castagnoli is the polynomial that processors have an instruction for. The table is never written to.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// section is where a part of the file is. Stripes and exemplars have checksums of their own in their directories:
// that of the section is 0.
type section struct {
	kind, crc uint32
	off, size int64
}

// footer is the table of what is in the file.
type footer struct {
	mandatory, optional uint64 // feature bits
	sections            []section
}

func appendHeader(dst []byte, version uint16) []byte {
	dst = append(dst, magic...)
	dst = binary.LittleEndian.AppendUint16(dst, version)
	return append(dst, make([]byte, headerBytes-len(magic)-2)...)
}

// appendTo adds the footer and the trailer.
func (f *footer) appendTo(dst []byte, version uint16, writer string) []byte {
	start := len(dst)
	dst = binary.LittleEndian.AppendUint64(dst, f.mandatory)
	dst = binary.LittleEndian.AppendUint64(dst, f.optional)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(f.sections)))
	for _, s := range f.sections {
		dst = binary.LittleEndian.AppendUint32(dst, s.kind)
		dst = binary.LittleEndian.AppendUint32(dst, s.crc)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(s.off))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(s.size))
	}
	t := trailer{footerSize: uint32(len(dst) - start), footerCRC: checksum(dst[start:]), version: version, writer: writer}
	return t.appendTo(dst)
}

// trailer is the end of the file. Its layout is the same in every version, so that any version can tell which
// one it needs.
type trailer struct {
	footerSize, footerCRC uint32
	version               uint16
	writer                string
}

func (t *trailer) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, t.footerSize)
	dst = binary.LittleEndian.AppendUint32(dst, t.footerCRC)
	dst = binary.LittleEndian.AppendUint16(dst, t.version)
	dst = append(dst, 0, 0, 0, 0, 0, 0)
	var writer [writerBytes]byte
	copy(writer[:], t.writer)
	dst = append(dst, writer[:]...)
	dst = binary.LittleEndian.AppendUint32(dst, checksum(dst[start:]))
	return append(dst, magic...)
}

// parseTrailer reads the last trailerBytes of a file; msg is empty when they are sound.
func parseTrailer(b []byte) (t trailer, msg string) {
	body := trailerBytes - len(magic) - 4
	if string(b[trailerBytes-len(magic):]) != magic {
		return t, "no block, or cut short: the last bytes are not those of a block"
	}
	if got, want := checksum(b[:body]), binary.LittleEndian.Uint32(b[body:]); got != want {
		return t, fmt.Sprintf("trailer: checksum %08x, want %08x", got, want)
	}
	t.footerSize = binary.LittleEndian.Uint32(b)
	t.footerCRC = binary.LittleEndian.Uint32(b[4:])
	t.version = binary.LittleEndian.Uint16(b[8:])
	t.writer = strings.TrimRight(string(b[16:16+writerBytes]), "\x00")
	return t, ""
}

// parseFooter reads a footer whose checksum is right. end is where it begins in the file, which is where the
// last section must end: no byte between header and footer belongs to nobody.
func parseFooter(b []byte, end int64) (f footer, msg string) {
	if len(b) < footerBytes {
		return f, "footer is too short"
	}
	f.mandatory = binary.LittleEndian.Uint64(b)
	f.optional = binary.LittleEndian.Uint64(b[8:])
	n := binary.LittleEndian.Uint32(b[16:])
	if int64(len(b)) != footerBytes+int64(n)*sectionBytes {
		return f, "footer has another size than its table"
	}
	off := int64(headerBytes)
	for b = b[footerBytes:]; len(b) > 0; b = b[sectionBytes:] {
		s := section{
			kind: binary.LittleEndian.Uint32(b),
			crc:  binary.LittleEndian.Uint32(b[4:]),
			off:  int64(binary.LittleEndian.Uint64(b[8:])),
			size: int64(binary.LittleEndian.Uint64(b[16:])),
		}
		if s.off != off || s.size < 0 || s.size > end-off {
			return f, fmt.Sprintf("section %d does not follow the one before", s.kind)
		}
		off += s.size
		f.sections = append(f.sections, s)
	}
	if off != end {
		return f, "sections do not fill the file"
	}
	return f, ""
}

// find returns the section of a kind.
func (f *footer) find(kind uint32) (section, bool) {
	i := slices.IndexFunc(f.sections, func(s section) bool { return s.kind == kind })
	if i < 0 {
		return section{}, false
	}
	return f.sections[i], true
}
