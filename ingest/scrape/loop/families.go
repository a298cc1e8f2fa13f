// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"sync"
	"unique"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/metadata"
	promscrape "github.com/prometheus/prometheus/scrape"
)

// described is a metric family and what is said of it. Targets of one kind say the same, so it is kept once for all.
type described struct {
	metadata.Metadata

	name string
}

func (d *described) size() int { return len(d.Help) + len(d.Unit) + len(d.Type) }

type family struct {
	described unique.Handle[described]
	seen      uint32 // the last scrape it was in
	asked     uint32 // the last scrape in which it was asked whether the store knows what is said
	untold    bool   // the store may not know it: it has changed, or was not stored
}

// families are what a target says of its metrics. It is a MetricMetadataStore: the API asks while scrapes go on.
type families struct {
	mu    sync.Mutex
	all   []family // changed by the loop alone, which holds mu when others could see it
	index map[string]int32
	last  int32 // where the last one was found: bodies keep their order
}

// at returns the family of a name, which it begins if there is none.
func (f *families) at(name []byte) int32 {
	for _, i := range [2]int32{f.last, f.last + 1} {
		if int(i) < len(f.all) && f.all[i].described.Value().name == string(name) {
			f.last = i
			return i
		}
	}
	if f.index == nil {
		f.index = make(map[string]int32, len(f.all))
		for i := range f.all {
			f.index[f.all[i].described.Value().name] = int32(i)
		}
	}
	i, ok := f.index[string(name)]
	if !ok {
		i = int32(len(f.all))
		d := described{metadata.Metadata{Type: model.MetricTypeUnknown}, string(name)}
		f.mu.Lock()
		f.all = append(f.all, family{described: unique.Make(d)})
		f.mu.Unlock()
		f.index[d.name] = i
	}
	f.last = i
	return i
}

// tell notes what a scrape says of a family.
func (f *families) tell(i int32, iter uint32, change func(*metadata.Metadata) bool) {
	x := &f.all[i]
	x.seen = iter
	d := x.described.Value()
	if !change(&d.Metadata) {
		return
	}
	f.mu.Lock()
	x.described = unique.Make(d)
	f.mu.Unlock()
	x.untold = true
}

// ended drops the index, which a body in the usual order does not need.
func (f *families) ended() { f.index, f.last = nil, 0 }

// forget drops the families that have not been described for ten scrapes, and returns where the others are now; nil if
// all are where they were.
func (f *families) forget(iter uint32) (moved []int32) {
	const keep = 10
	n := 0
	for i := range f.all {
		if iter-f.all[i].seen > keep {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	moved = make([]int32, len(f.all))
	kept := make([]family, 0, len(f.all)-n)
	for i := range f.all {
		if moved[i] = -1; iter-f.all[i].seen <= keep {
			moved[i] = int32(len(kept))
			kept = append(kept, f.all[i])
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = kept
	return moved
}

func (f *families) len() int { return len(f.all) }

// ListMetadata returns everything.
func (f *families) ListMetadata() []promscrape.MetricMetadata {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]promscrape.MetricMetadata, 0, len(f.all))
	for i := range f.all {
		out = append(out, shown(f.all[i].described.Value()))
	}
	return out
}

// GetMetadata returns what is said of a family.
func (f *families) GetMetadata(name string) (promscrape.MetricMetadata, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.all {
		if d := f.all[i].described.Value(); d.name == name {
			return shown(d), true
		}
	}
	return promscrape.MetricMetadata{}, false
}

// SizeMetadata returns the bytes of what is said.
func (f *families) SizeMetadata() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for i := range f.all {
		d := f.all[i].described.Value()
		n += d.size()
	}
	return n
}

// LengthMetadata returns the number of families.
func (f *families) LengthMetadata() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.all)
}

func shown(d described) promscrape.MetricMetadata {
	return promscrape.MetricMetadata{MetricFamily: d.name, Type: d.Type, Help: d.Help, Unit: d.Unit}
}

// familyType is a type of the text format in one byte, 0 for none.
type familyType uint8

const noType familyType = 0

// typeNumber returns the number of a type.
func typeNumber(t model.MetricType) familyType {
	switch t {
	case model.MetricTypeCounter:
		return 1
	case model.MetricTypeGauge:
		return 2
	case model.MetricTypeHistogram:
		return 3
	case model.MetricTypeSummary:
		return 4
	case model.MetricTypeUnknown:
		return 5
	default:
		return noType
	}
}

// line is the comment that tells the type.
func (t familyType) line() string {
	return [...]string{"", "# TYPE x counter\n", "# TYPE x gauge\n", "# TYPE x histogram\n", "# TYPE x summary\n", "# TYPE x untyped\n"}[t]
}
