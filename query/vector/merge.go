// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package vector

import (
	"sort"
	"strings"
)

// fresh marks, while texts are translated, one that is no symbol yet; the rest of the number is the place in the
// order of symbols before which it goes.
const fresh = 1 << 31

// translate sets to to the symbols of texts, which are sorted and each of them once, and adds those that are new.
func (d *Dict) translate(to []uint32, texts []string) error {
	if d.index.slots != nil {
		return d.translateOneByOne(to, texts)
	}
	place, added := 0, 0
	for i, s := range texts {
		if i%pollRows == 0 {
			if err := d.check(); err != nil {
				return err
			}
		}
		var found bool
		if place, found = d.seek(place, s); found {
			to[i] = d.inOrder(place)
			place++
			continue
		}
		to[i] = fresh | uint32(place)
		added++
	}
	if added == 0 {
		return nil
	}
	return d.insert(to, texts, added)
}

// inOrder returns the symbol at a place in the order of texts.
func (d *Dict) inOrder(place int) uint32 {
	if d.order == nil {
		return uint32(place)
	}
	return d.order[place]
}

// seek returns the first place from on whose text is not less than s, and whether it is s. That mostly is the first or
// near, so it looks there, then twice as far each time, and between the last two.
func (d *Dict) seek(from int, s string) (place int, found bool) {
	n := len(d.text)
	compare := func(place int) int { return strings.Compare(d.text[d.inOrder(place)], s) }
	less, at := from-1, from // what is at less, is less
	for step := 1; at < n; step *= 2 {
		c := compare(at)
		if c == 0 {
			return at, true
		}
		if c > 0 {
			break
		}
		less, at = at, at+step
	}
	at = min(at, n)
	place = less + 1 + sort.Search(at-less-1, func(i int) bool { return compare(less+1+i) >= 0 })
	return place, place < at && compare(place) == 0
}

// insert adds the texts that to has as fresh, and sets their symbols.
func (d *Dict) insert(to []uint32, texts []string, added int) error {
	if err := d.room(added); err != nil {
		return err
	}
	n := len(d.text)
	if err := d.charge(symbolBytes * int64(n+added)); err != nil {
		return err
	}
	order, place := make([]uint32, 0, n+added), 0
	upTo := func(end int) {
		for ; place < end; place++ {
			order = append(order, d.inOrder(place))
		}
	}
	for i, sym := range to {
		if sym&fresh == 0 {
			continue
		}
		upTo(int(sym &^ fresh))
		to[i] = uint32(len(d.text))
		order = append(order, to[i])
		d.text = append(d.text, texts[i])
	}
	upTo(n)
	d.refund(symbolBytes * int64(cap(d.order)))
	d.order = order
	return nil
}

// translateOneByOne is translate where some texts have come one by one, so that there is no order of all.
func (d *Dict) translateOneByOne(to []uint32, texts []string) error {
	for i, s := range texts {
		if i%pollRows == 0 {
			if err := d.check(); err != nil {
				return err
			}
		}
		if s == "" {
			continue
		}
		if err := d.useIndex(); err != nil {
			return err
		}
		slot := d.index.slot(s, d.text)
		if *slot == 0 {
			if _, err := d.append(s, slot); err != nil { // whose bytes are the storage's
				return err
			}
		}
		to[i] = *slot
	}
	return nil
}
