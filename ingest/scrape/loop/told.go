// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"sync"
	"unique"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// told is what the store has been told of metric families, once that was committed. Targets say it with each scrape, and
// many say the same. The store keeps it by family, also when the series that told it leaves.
type told struct {
	mu  sync.RWMutex
	all map[string]unique.Handle[described] // guarded by mu
}

// maxTold bounds it: 20 MB.
const maxTold = 100_000

// knows reports whether d is what the store was told last.
func (t *told) knows(d unique.Handle[described]) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	last, ok := t.all[d.Value().name]
	return ok && last == d
}

// note notes that the store was told.
func (t *told) note(d unique.Handle[described]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil || len(t.all) >= maxTold {
		t.all = map[string]unique.Handle[described]{}
	}
	t.all[d.Value().name] = d
}

// news is what a round tells the store of a family, with one of its series.
type news struct {
	series int
	family int32 // noEntry for reports, which tell it until they have a ref
	what   unique.Handle[described]
}

// addMetadata adds what the body says of a series' family, where the store does not know it.
func (r *round) addMetadata(x *parsed, isNew bool) {
	if !r.set.passMetadata || !r.describe {
		return
	}
	f := &r.c.families.all[r.family]
	if f.asked == r.c.iter || !isNew && !f.untold {
		return
	}
	f.untold, r.look = false, false
	d := f.described.Value()
	if !ofFamily(x.labels.Get(labels.MetricName), d.name, d.Type) {
		r.describe = false // and of those that follow neither
		return
	}
	f.asked = r.c.iter
	r.tellStore(r.family, f.described)
}

func (r *round) tellStore(family int32, what unique.Handle[described]) {
	if r.told.knows(what) {
		return
	}
	d := what.Value()
	r.req.Metadata(sample.Metadata{Type: string(d.Type), Unit: d.Unit, Help: d.Help})
	r.news = append(r.news, news{r.req.Len() - 1, family, what})
}

// untell notes that the store was not told what it should have been.
func (r *round) untell() {
	for _, n := range r.news {
		r.untold(n.family)
	}
	r.news = r.news[:0]
}

func (r *round) untold(family int32) {
	if family != noEntry {
		r.c.families.all[family].untold = true
	}
}

// settleNews notes what the store was told. Of a series that it refused it was told nothing.
func (r *round) settleNews() {
	for _, n := range r.news {
		if r.req.Ref(n.series) != 0 {
			r.told.note(n.what)
		} else {
			r.untold(n.family)
		}
	}
}

// mayLook says whether the next series of the family that was described last has to be looked at.
func (r *round) mayLook() {
	r.look = r.set.passMetadata && r.c.families.all[r.family].untold
}
