// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package arena

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/invariant"
)

// Ref names a block of an arena. The zero Ref names nothing.
type Ref uint32

const (
	unit      = 8 // bytes a Ref counts
	spanSize  = 16 << 10
	spanUnits = spanSize / unit
	minRegion = 1 << 20
	maxRegion = 64 << 20

	// MaxSize is the largest block, in bytes.
	MaxSize = 1 << 20

	// maxSpans is how many spans 32 bits can name.
	maxSpans = 1 << 32 / spanUnits
)

// defaultKeepIdle is how much idle memory stays committed at least, so that what is soon taken again does not go to the
// operating system and back: a fault costs about as much as filling the page.
const defaultKeepIdle = 1 << 20

// ErrFull says that the arena has given out all that its references can name, 32 GiB.
var ErrFull = errors.New("arena: all 32 GiB that references can name are in use")

// Options of an Arena and of a Table.
type Options struct {
	// Account is charged for the memory in use; default: none, nothing is counted.
	Account *budget.Account
	// KeepIdle is how many bytes of idle memory an arena keeps from the operating system at least; default: 1 MiB.
	KeepIdle int64
	// Burst is how many more it keeps until Rest finds that they were not wanted; default: none.
	Burst int64
}

// Stats is what an arena holds, in bytes but for Blocks.
type Stats struct {
	Blocks    int64 // given out
	InUse     int64 // in blocks that are given out, by their class
	Committed int64 // charged to the account: InUse, free blocks of spans in use, and idle spans
	Mapped    int64 // address space
}

// span is a run of one or more units of spanSize: it is cut into blocks of one class, or is idle. It is known by
// the index of its first unit; list fields are such indices, 0 for none (unit 0 is never used).
type span struct {
	next, prev uint32 // within the list it is in
	live       uint16 // blocks given out
	bump       uint16 // blocks given out at least once: those behind were never touched
	free       uint16 // first free block, plus one
	class      uint8
	order      uint8 // 1<<order units of spanSize
	committed  bool  // charged to the account
	used       bool  // cut into blocks
	scattered  bool  // its blocks may go elsewhere, see Sift
}

// maxOrder is the order of the largest run: it holds one block of MaxSize.
const maxOrder = 6

// Arena gives out blocks of bytes outside the Go heap. See the package's page for its rules.
type Arena struct {
	opts    Options
	classes classTable
	regions [][]byte
	dir     [][]byte // per minRegion of the address range: the region from there to its end
	spans   []span
	unused  uint32               // first span of the last region that was never taken
	partial [numClasses]uint32   // per class: list of spans with a free block
	idle    [maxOrder + 1]uint32 // per order: list of idle runs that are committed
	bare    [maxOrder + 1]uint32 // per order: list of those that are not
	idleLen int64                // bytes of runs in idle
	// leastIdle is the least that idleLen has been since the last Rest.
	leastIdle int64
	stats     Stats
	guard     guard
}

// New returns an empty arena. It maps nothing before the first Alloc.
func New(opts Options) *Arena {
	if opts.KeepIdle == 0 {
		opts.KeepIdle = defaultKeepIdle
	}
	return &Arena{opts: opts, classes: newClassTable()}
}

// Stats returns what the arena holds.
func (a *Arena) Stats() Stats { return a.stats }

// Alloc returns a block of at least size bytes, whose contents are undefined. The error is a
// *budget.ExceededError, ErrFull, or what the operating system said; nothing is held then.
func (a *Arena) Alloc(size int) (Ref, error) {
	if size < 0 || size > MaxSize {
		return 0, fmt.Errorf("arena: block of %d bytes wanted, the largest is %d", size, MaxSize)
	}
	class := a.classes.of(size)
	at := a.partial[class]
	if at == 0 {
		var err error
		if at, err = a.takeRun(classOrder(class)); err != nil {
			return 0, err
		}
		s := &a.spans[at]
		s.class, s.used, s.scattered, s.live, s.bump, s.free = class, true, false, 0, 0, 0
		a.push(&a.partial[class], at)
	}
	return a.take(at), nil
}

// take returns a free block of span at, which is partial.
func (a *Arena) take(at uint32) Ref {
	s := &a.spans[at]
	class := s.class
	units := classSize(class) / unit
	var ref Ref
	fresh := s.free == 0
	if fresh {
		ref = Ref(at*spanUnits + uint32(s.bump)*units)
		s.bump++
	} else {
		ref = Ref(at*spanUnits + uint32(s.free-1)*units)
		s.free = binary.NativeEndian.Uint16(a.block(ref, class))
	}
	s.live++
	if s.free == 0 && s.bump == blocksPerSpan(class) {
		a.remove(&a.partial[class], at)
		s.scattered = false
	}
	a.stats.Blocks++
	a.stats.InUse += int64(classSize(class))
	if invariant.Enabled {
		a.guard.alloc(ref, a.block(ref, class), fresh)
	}
	return ref
}

// Bytes returns the block that ref names: all of its class's size, which is at least the size asked for. The
// slice is good until the block is freed.
func (a *Arena) Bytes(ref Ref) []byte {
	if invariant.Enabled {
		a.guard.use(ref)
	}
	return a.block(ref, a.spans[ref/spanUnits].class)
}

// At returns where the block that ref names begins.
func (a *Arena) At(ref Ref) unsafe.Pointer {
	if invariant.Enabled {
		a.guard.use(ref)
	}
	const dirUnits = minRegion / unit
	return unsafe.Pointer(&a.dir[ref/dirUnits][uint32(ref%dirUnits)*unit])
}

func (a *Arena) block(ref Ref, class uint8) []byte {
	const dirUnits = minRegion / unit
	off := uint32(ref%dirUnits) * unit
	end := off + classSize(class)
	return a.dir[ref/dirUnits][off:end:end]
}

// Free takes a block back.
func (a *Arena) Free(ref Ref) {
	if invariant.Enabled {
		a.guard.use(ref)
	}
	at := uint32(ref / spanUnits)
	s := &a.spans[at]
	units := classSize(s.class) / unit
	index := (uint32(ref) - at*spanUnits) / units
	if !s.used || s.live == 0 || uint32(ref) != at*spanUnits+index*units || index >= uint32(s.bump) {
		invariant.Failf("arena: free of %d, which names no block in use", ref)
	}
	b := a.block(ref, s.class)
	if invariant.Enabled {
		a.guard.free(ref, b)
	}
	if s.free == 0 && s.bump == blocksPerSpan(s.class) {
		a.push(&a.partial[s.class], at)
	}
	binary.NativeEndian.PutUint16(b, s.free)
	s.free = uint16(index) + 1
	s.live--
	a.stats.Blocks--
	a.stats.InUse -= int64(len(b))
	// An empty span goes back, unless it is the last its class has room in: that one would be taken right again.
	if s.live == 0 && (s.next != 0 || s.prev != 0 || s.order > 0 || s.scattered) {
		a.remove(&a.partial[s.class], at)
		a.giveRun(at)
	}
}

// Close gives all memory back. The arena must not be used any more; closing twice is harmless.
func (a *Arena) Close() error {
	var errs []error
	for _, r := range a.regions {
		errs = append(errs, unmapRegion(r))
	}
	a.opts.Account.Release(a.stats.Committed)
	*a = Arena{opts: a.opts, classes: a.classes}
	return errors.Join(errs...)
}

// push puts span at in front of a list.
func (a *Arena) push(list *uint32, at uint32) {
	s := &a.spans[at]
	s.prev, s.next = 0, *list
	if *list != 0 {
		a.spans[*list].prev = at
	}
	*list = at
}

// remove takes span at out of a list.
func (a *Arena) remove(list *uint32, at uint32) {
	s := &a.spans[at]
	if s.prev != 0 {
		a.spans[s.prev].next = s.next
	} else {
		*list = s.next
	}
	if s.next != 0 {
		a.spans[s.next].prev = s.prev
	}
	s.next, s.prev = 0, 0
}

// The classes of block sizes, in bytes: steps of a fifth to a third, so that a chunk that grows from class to class wastes
// about an eighth on average; powers of two from 1 KiB on.
var classSizes = [numClasses]uint32{
	24, 32, 40, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 512, 768, 1 << 10, 1536, 2 << 10, 4 << 10, 8 << 10,
	16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20,
}

const numClasses = 29

func classSize(class uint8) uint32 { return classSizes[class] }

// classOrder returns the order of the runs of spans that blocks of a class are cut from.
func classOrder(class uint8) uint8 {
	return uint8(bits.Len32((classSize(class) - 1) / spanSize))
}

// blocksPerSpan returns how many blocks of a class a run holds.
func blocksPerSpan(class uint8) uint16 { return uint16(max(spanSize/classSize(class), 1)) }

// classTable finds the class of a small size: entry i is for sizes up to 8*i.
type classTable [smallSize/unit + 1]uint8

// smallSize is the largest size the table covers.
const smallSize = 2 << 10

func newClassTable() classTable {
	var t classTable
	class := uint8(0)
	for i := range t {
		if uint32(i*unit) > classSize(class) {
			class++
		}
		t[i] = class
	}
	return t
}

func (t *classTable) of(size int) uint8 {
	if size <= smallSize {
		return t[(size+unit-1)/unit]
	}
	return t[len(t)-1] + uint8(bits.Len32(uint32(size-1)/smallSize))
}
