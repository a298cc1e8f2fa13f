// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package arena

import "fmt"

// takeRun returns a run of 1<<order spans, committed: an idle one that is committed, else one that is not, else one never
// used, else one of a new region. Of idle ones it takes the smallest that will do, and halves it while that is too large.
func (a *Arena) takeRun(order uint8) (uint32, error) {
	if at := a.takeFrom(&a.idle, order); at != 0 {
		a.idleLen -= a.spans[at].size()
		a.leastIdle = min(a.leastIdle, a.idleLen)
		return at, nil
	}
	at := a.takeFrom(&a.bare, order)
	if at == 0 {
		return a.takeUnused(order)
	}
	if err := a.commit(at); err != nil {
		a.push(&a.bare[order], at)
		return 0, err
	}
	return at, nil
}

// takeFrom takes a run out of the lists of runs by order; 0 if none is large enough.
func (a *Arena) takeFrom(lists *[maxOrder + 1]uint32, order uint8) uint32 {
	from := order
	for from <= maxOrder && lists[from] == 0 {
		from++
	}
	if from > maxOrder {
		return 0
	}
	at := lists[from]
	a.remove(&lists[from], at)
	for s := &a.spans[at]; s.order > order; {
		s.order--
		half := at + 1<<s.order
		a.spans[half] = span{order: s.order, committed: s.committed}
		a.push(&lists[s.order], half)
	}
	return at
}

// takeUnused takes a run from the end of the last region, or of a new one.
func (a *Arena) takeUnused(order uint8) (uint32, error) {
	need := uint32(1) << order
	if a.unused+need > uint32(len(a.spans)) {
		if err := a.addRegion(need); err != nil {
			return 0, err
		}
	}
	at := a.unused
	a.spans[at] = span{order: order}
	a.unused += need
	if err := a.commit(at); err != nil {
		a.push(&a.bare[order], at)
		return 0, err
	}
	return at, nil
}

// addRegion maps a region twice as large as the last. What is left of that one becomes idle runs.
func (a *Arena) addRegion(need uint32) error {
	size := minRegion
	if n := len(a.regions); n > 0 {
		size = min(2*len(a.regions[n-1]), maxRegion)
	} else if need*spanSize >= minRegion {
		size = 2 * minRegion // unit 0 is never used, so a run of this size needs the next
	}
	count := size / spanSize
	if len(a.spans)+count > maxSpans {
		return ErrFull
	}
	region, err := mapRegion(size)
	if err != nil {
		return fmt.Errorf("arena: map %d bytes of memory: %w", size, err)
	}
	for end := uint32(len(a.spans)); a.unused < end; {
		order := uint8(0)
		for order < maxOrder && a.unused&(1<<order) == 0 && a.unused+2<<order <= end {
			order++
		}
		a.spans[a.unused] = span{order: order}
		a.push(&a.bare[order], a.unused)
		a.unused += 1 << order
	}
	a.regions = append(a.regions, region)
	for off := 0; off < size; off += minRegion {
		a.dir = append(a.dir, region[off:])
	}
	a.spans = append(a.spans, make([]span, count)...)
	if a.unused == 0 {
		a.unused = 1
	}
	a.stats.Mapped += int64(size)
	return nil
}

// commit charges a run before its first touch.
func (a *Arena) commit(at uint32) error {
	s := &a.spans[at]
	err := a.opts.Account.Reserve(s.size())
	if err != nil && a.idleLen > 0 { // runs that are too small, or that are kept for a while
		a.Trim()
		err = a.opts.Account.Reserve(s.size())
	}
	if err != nil {
		return err
	}
	s.committed = true
	a.stats.Committed += s.size()
	return nil
}

// idleShare is which part of what is in use may be idle and stay committed.
const idleShare = 32

// giveRun takes back a run whose blocks are all free. It stays committed for the next that needs one while not
// too much is idle.
func (a *Arena) giveRun(at uint32) {
	s := &a.spans[at]
	s.used = false
	a.push(&a.idle[s.order], at)
	a.idleLen += s.size()
	if a.idleLen > a.keep()+a.opts.Burst {
		a.decommit(at)
	}
}

// keep is how much idle memory stays committed for long.
func (a *Arena) keep() int64 { return max(a.opts.KeepIdle, a.stats.InUse/idleShare) }

// Rest gives the idle memory beyond what an arena keeps to the operating system, as far as all of it has been idle since
// the last call. Who sets Options.Burst calls it every now and then.
func (a *Arena) Rest() {
	a.release(a.leastIdle - a.keep())
	a.leastIdle = a.idleLen
}

// Trim gives all idle memory to the operating system, for when memory is short.
func (a *Arena) Trim() { a.release(a.idleLen) }

// release gives up to that many bytes of idle memory to the operating system.
func (a *Arena) release(bytes int64) {
	for _, at := range a.idle {
		for at != 0 {
			s := a.spans[at]
			if s.size() > bytes {
				break
			}
			a.decommit(at)
			bytes -= s.size()
			at = s.next
		}
	}
}

// decommit gives the pages of an idle run back.
func (a *Arena) decommit(at uint32) {
	const dirSpans = minRegion / spanSize
	s := &a.spans[at]
	off := int64(at%dirSpans) * spanSize
	if dropPages(a.dir[at/dirSpans][off:off+s.size()]) != nil {
		return // the pages are still there, and so is their charge
	}
	a.remove(&a.idle[s.order], at)
	a.push(&a.bare[s.order], at)
	s.committed = false
	a.idleLen -= s.size()
	a.stats.Committed -= s.size()
	a.opts.Account.Release(s.size())
}

func (s *span) size() int64 { return spanSize << s.order }
