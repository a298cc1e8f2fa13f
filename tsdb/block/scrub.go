// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"context"
	"fmt"
	"hash/crc32"
	"iter"
)

// scrubPiece is how much of a file is read at a time to compare a checksum.
const scrubPiece = 256 << 10

// place is bytes of a file that one checksum is over, and the times of the samples that need them.
type place struct {
	off, size  int64
	crc        uint32
	minT, maxT int64
	frame      bool // header, footer and trailer, which check themselves
}

// Scrub reads the file from disk, past the cache, and compares all of its checksums. It decodes nothing and needs little
// memory. It returns the error of ctx or of c.Before alone: what the disk does not give is damage like any other.
func (b *Block) Scrub(ctx context.Context, c Check) error {
	return b.scrub(ctx, c, b.meta.MinT, b.meta.MaxT)
}

// Scrub does for a part what it does for a block. Of one that is closed it reads nothing.
func (p *Part) Scrub(ctx context.Context, c Check) error {
	if !p.b.Acquire() {
		return nil
	}
	defer p.b.Release()
	return p.b.scrub(ctx, c, p.meta.MinT, p.meta.MaxT)
}

func (b *Block) scrub(ctx context.Context, c Check, minT, maxT int64) error {
	v := newVerification(c)
	for x := range b.places(minT, maxT) {
		if err := v.before(ctx, x.size); err != nil {
			return err
		}
		v.tell(Damage{Off: x.off, MinT: x.minT, MaxT: x.maxT, Err: b.compare(x)})
	}
	return nil
}

// Recheck reads what is at off once more, and says what is wrong with it now.
func (b *Block) Recheck(off int64) error { return b.compare(b.at(off, b.meta.MinT, b.meta.MaxT)) }

// Recheck does for a part what it does for a block.
func (p *Part) Recheck(off int64) error {
	if !p.b.Acquire() {
		return nil
	}
	defer p.b.Release()
	return p.b.compare(p.b.at(off, p.meta.MinT, p.meta.MaxT))
}

// Span returns the times of the samples that cannot be read without the bytes at off.
func (b *Block) Span(off int64) (first, last int64) {
	x := b.at(off, b.meta.MinT, b.meta.MaxT)
	return x.minT, x.maxT
}

// Span does for a part what it does for a block.
func (p *Part) Span(off int64) (first, last int64) {
	x := p.b.at(off, p.meta.MinT, p.meta.MaxT)
	return x.minT, x.maxT
}

// at returns the place that off is in; the frame where it is in no other.
func (b *Block) at(off, minT, maxT int64) place {
	var x place
	for x = range b.places(minT, maxT) {
		if off >= x.off && off < x.off+x.size {
			break
		}
	}
	return x
}

// places yields all places of the file, the frame last. minT and maxT are the times of the file.
func (b *Block) places(minT, maxT int64) iter.Seq[place] {
	return func(yield func(place) bool) {
		for i := range b.directory.stripes {
			s := &b.directory.stripes[i]
			if !yield(place{off: s.off, size: int64(s.size), crc: s.crc, minT: s.minT, maxT: s.maxT}) {
				return
			}
		}
		for i := range b.directory.times {
			s := &b.directory.times[i]
			if !yield(place{off: s.off, size: int64(s.size), crc: s.crc, minT: minT, maxT: maxT}) {
				return
			}
		}
		for i := range b.exemplars {
			s := &b.exemplars[i]
			if !yield(place{off: s.off, size: int64(s.size), crc: s.crc, minT: s.minT, maxT: s.maxT}) {
				return
			}
		}
		foot, err := b.loadFooter()
		for _, s := range foot.sections {
			// Stripes and exemplars have their checksums in directories.
			whole := err == nil && s.kind != sectionStripes && s.kind != sectionExemplars
			if whole && !yield(place{off: s.off, size: s.size, crc: s.crc, minT: minT, maxT: maxT}) {
				return
			}
		}
		yield(place{off: b.size - trailerBytes, size: trailerBytes, minT: minT, maxT: maxT, frame: true})
	}
}

// compare reads a place and says what is wrong with it.
func (b *Block) compare(x place) error {
	if x.frame {
		_, err := b.loadFooter()
		return err
	}
	sum := uint32(0)
	for done := int64(0); done < x.size; done += scrubPiece {
		piece, err := b.pread(x.off+done, min(scrubPiece, x.size-done))
		if err != nil {
			return err
		}
		sum = crc32.Update(sum, castagnoli, piece)
	}
	if sum != x.crc {
		return b.corrupt(x.off, fmt.Sprintf("checksum %08x, want %08x", sum, x.crc))
	}
	return nil
}
