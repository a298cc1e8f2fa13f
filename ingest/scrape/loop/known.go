// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

// readKnown reads a body in the text format for as long as it is, but for its values, what the cache expects: that is a
// comparison of hashes and a number for each line. It returns the start of the first line that is not, or where the body
// ends. Comments and series begin and end where lines or their series do, so that a parser may go on at any of them, and
// may stop at any line.
func (r *round) readKnown(body []byte, pos int) int {
	c, set := r.c, r.set
	for ; r.cursor < c.ordered && r.req.Err() == nil; r.cursor++ {
		e := &c.entries[r.cursor]
		end := pos + int(e.size)
		if end > len(body) || e.flags&isRefused != 0 || c.hash(body[pos:end]) != e.hash {
			return pos
		}
		if e.flags&isComment != 0 {
			r.pass(e)
			r.inOrder()
			pos = end
			continue
		}
		if end == len(body) || body[end] != ' ' {
			return pos
		}
		x, ok := readRest(body, end+1)
		switch {
		case !ok || e.seen == c.iter:
			return pos
		case e.flags&isDropped != 0:
			if e.flags&isBeyond != 0 {
				return pos
			}
		case r.look || e.ref == 0 || x.hasT && set.honorTimes || set.sampleLimit > 0 && r.counted >= set.sampleLimit:
			return pos // somebody has to look
		default:
			r.counted++
			r.added++
			r.req.Known(e.ref)
			r.req.Scrape(0, r.t, x.v, 0)
			r.where = append(r.where, int32(r.cursor))
			e.flags |= hasSample
		}
		r.total++
		e.seen = c.iter
		r.inOrder()
		pos = x.end
	}
	return pos
}

// pass goes over comments that are as they were.
func (r *round) pass(e *entry) {
	e.seen = r.c.iter
	if e.family >= 0 {
		r.family, r.describe = e.family, true
		r.mayLook()
		r.c.families.all[e.family].seen = r.c.iter
	}
	if e.typ != noType {
		r.typ = e.typ
	}
}

// inOrder notes that an entry was seen where the order of the last body has it.
func (r *round) inOrder() {
	if r.deviated {
		r.order = append(r.order, int32(r.cursor))
	}
}

// deviate notes that from here on the order is another one.
func (r *round) deviate() {
	if !r.deviated {
		r.deviated, r.prefix = true, r.cursor
	}
}

// place returns the entry of a text, -1 if there is none, and the hash of the text.
func (r *round) place(text []byte) (int32, uint64) {
	c := r.c
	hash := c.hash(text)
	if r.cursor < c.ordered {
		if e := &c.entries[r.cursor]; e.hash == hash && int(e.size) == len(text) {
			r.cursor++
			return int32(r.cursor - 1), hash
		}
	}
	r.inSync = false
	if !r.places.built() {
		r.places.build(c.entries)
	}
	at := r.places.find(c.entries, hash, len(text))
	if at >= 0 && int(at) < c.ordered {
		r.cursor = int(at) + 1
	}
	return at, hash
}

// see notes that an entry is in this body.
func (r *round) see(at int32) {
	if e := &r.c.entries[at]; e.seen != r.c.iter {
		e.seen = r.c.iter
		r.order = append(r.order, at)
	}
}

// enter adds an entry, or begins one anew that was refused, and returns where it is.
func (r *round) enter(at int32, e entry) int32 {
	c := r.c
	if at >= 0 {
		e.seen = c.entries[at].seen
		c.entries[at] = e
	} else {
		at = int32(len(c.entries))
		c.entries = append(c.entries, e)
		r.places.add(c.entries)
	}
	r.see(at)
	return at
}

// gap is the text between two series of a body in the text format, taken apart by the families that it describes.
type gap struct {
	body   []byte // with room for the parser behind it
	start  int
	starts []int // of the lines with which families begin
	which  []int32
	types  []familyType
}

// offset returns where a part of the body begins. The parser's slices are of the same array, and go on to its end.
func (g *gap) offset(part []byte) int { return cap(g.body) - cap(part) }

// tell notes a line about a family.
func (g *gap) tell(name []byte, which int32, typ familyType) {
	n := len(g.which)
	if n == 0 || g.which[n-1] != which {
		line := g.start
		if n > 0 {
			line = g.offset(name)
			for line > g.start && g.body[line-1] != '\n' {
				line--
			}
		}
		g.starts, g.which, g.types = append(g.starts, line), append(g.which, which), append(g.types, noType)
		n++
	}
	if typ != noType {
		g.types[n-1] = typ
	}
}

// note makes entries of the gap, which ends before a series or at the end of the body.
func (r *round) note(g *gap, end int) {
	if len(g.which) == 0 && end > g.start {
		g.starts, g.which, g.types = append(g.starts, g.start), append(g.which, -1), append(g.types, noType)
	}
	for i, start := range g.starts {
		to := end
		if i+1 < len(g.starts) {
			to = g.starts[i+1]
		}
		text := g.body[start:to]
		if len(text) == 0 || text[len(text)-1] != '\n' {
			continue // the body ends within a line, which may be longer the next time
		}
		at, hash := r.place(text)
		if at >= 0 {
			r.see(at)
			continue
		}
		r.enter(-1, entry{hash: hash, size: uint32(len(text)), family: g.which[i], flags: isComment, typ: g.types[i]})
	}
	g.starts, g.which, g.types = g.starts[:0], g.which[:0], g.types[:0]
}
