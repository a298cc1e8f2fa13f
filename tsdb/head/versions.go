// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"slices"
	"unsafe"

	"github.com/tidemarkdb/tidemark/tsdb/arena"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// version is the state that a series had for the epochs from <= epoch < to.
type version struct {
	older    uint64 // number + 1 of the version before this one, 0 for none; good while that one is held
	from, to sample.LSN
	lastT    int64
	last     uint64
	id       uint32 // of the series, local
	chunks   uint32 // chunks that were closed
	n        uint16 // samples of the open chunk
	kind     sample.Kind
	flags    headerFlags
}

// versions is a queue of versions in the order of to, which is the order of their making. So what no pin needs any more
// is at its front as a rule, and forgetting is moving the front; what many short pins leave behind one that stays open
// goes when there are as many as there is room for. Versions are numbered; the number of one that is gone means nothing.
//
// They are in pages of the shard's arena, which are given back as the front moves past them.
type versions struct {
	arena *arena.Arena
	pages []versionPage
	first uint64 // number of the first version of the first page
	room  int    // how many there may be before compact is tried
	front uint64 // number of the oldest
	next  uint64 // number of the next
}

// versionPage is a piece of the queue.
type versionPage struct {
	ref  arena.Ref // 0: all of memory has run out, and it is on the Go heap: an append that is logged must not fail
	list *[pageVersions]version
}

const (
	pageVersions = 256 // of 56 bytes: nearly a span of the arena
	pageBytes    = int64(unsafe.Sizeof([pageVersions]version{}))
	leastRoom    = 64
)

func (r *versions) at(i uint64) *version {
	i -= r.first
	return &r.pages[i/pageVersions].list[i%pageVersions]
}

// bytes returns what the pages take of the arena.
func (r *versions) bytes() int64 { return int64(len(r.pages)) * pageBytes }

// full reports whether there are as many as there is room for.
func (r *versions) full() bool { return int(r.next-r.front) >= r.room }

// compact drops the versions that no open pin needs, wherever they are, and numbers the others anew. open is the
// epochs of the pins, which ascend; link returns where a series keeps the number + 1 of its newest version.
func (r *versions) compact(open []sample.LSN, link func(id uint32) *uint64) {
	next := r.front
	moved := make([]uint64, r.next-r.front) // number + 1 that stands for each version now, 0 for none
	for i := r.front; i != r.next; i++ {
		v := *r.at(i)
		if v.older > r.front {
			v.older = moved[v.older-1-r.front]
		} else {
			v.older = 0
		}
		if k, _ := slices.BinarySearch(open, v.from); k < len(open) && open[k] < v.to {
			*r.at(next) = v
			next++
			moved[i-r.front] = next
		} else {
			moved[i-r.front] = v.older
		}
		if newest := link(v.id); *newest == i+1 {
			*newest = moved[i-r.front]
		}
	}
	r.next = next
	for len(r.pages) > 0 && r.first+uint64(len(r.pages)-1)*pageVersions >= r.next {
		r.free(&r.pages[len(r.pages)-1])
		r.pages = r.pages[:len(r.pages)-1]
	}
	if r.room < leastRoom || 2*int(r.next-r.front) > r.room {
		r.room = max(leastRoom, 2*r.room) // the next time is far off
	}
}

// push adds v and returns its number + 1.
func (r *versions) push(v version) uint64 {
	r.room = max(r.room, int(r.next-r.front)+1)
	if r.next == r.first+uint64(len(r.pages))*pageVersions {
		r.pages = append(r.pages, r.page())
	}
	*r.at(r.next) = v
	r.next++
	return r.next
}

func (r *versions) page() versionPage {
	ref, err := r.arena.Alloc(int(pageBytes))
	if err != nil {
		return versionPage{list: new([pageVersions]version)}
	}
	return versionPage{ref, (*[pageVersions]version)(unsafe.Pointer(unsafe.SliceData(r.arena.Bytes(ref))))}
}

func (r *versions) free(p *versionPage) {
	if p.ref != 0 {
		r.arena.Free(p.ref)
	}
	*p = versionPage{}
}

// get returns version number link-1 if it is held and of series id, else nil.
func (r *versions) get(link uint64, id uint32) *version {
	i := link - 1
	if link == 0 || i-r.front >= r.next-r.front {
		return nil
	}
	if v := r.at(i); v.id == id {
		return v
	}
	return nil
}

// forget drops the versions that no epoch from oldest on needs.
func (r *versions) forget(oldest sample.LSN) {
	for r.front != r.next && r.at(r.front).to <= oldest {
		r.front++
	}
	gone := min(int(r.front-r.first)/pageVersions, len(r.pages))
	if r.front == r.next {
		gone = len(r.pages)
		r.room = leastRoom
	}
	if gone == 0 {
		return
	}
	for i := range r.pages[:gone] {
		r.free(&r.pages[i])
	}
	r.pages = slices.Delete(r.pages, 0, gone)
	if r.first += uint64(gone) * pageVersions; len(r.pages) == 0 {
		r.first = r.next
	}
}
