// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"sync"

	"github.com/prometheus/prometheus/promql"
)

// Points keeps the memory of the answers of range queries, from Query.Close to the next answer. The zero value is ready;
// a nil *Points keeps nothing. Safe for concurrent use.
type Points struct{ slabs [len(slabSizes)]sync.Pool }

// slabSizes are how many points the slabs of an answer hold. Each is larger than the one before, so that a short
// answer takes little and a long one few.
var slabSizes = [...]int{1 << 8, 1 << 11, 1 << 14}

// points are cut from slabs, which are charged when they are taken.
type points struct {
	from *Points
	held []*slab
	rest []promql.FPoint
}

type slab struct {
	class  int
	points []promql.FPoint
}

// take returns room for n points, of which the contents are undefined.
func (p *points) take(n int, charge func(int64) error) ([]promql.FPoint, error) {
	if n > len(p.rest) {
		class := min(len(p.held), len(slabSizes)-1)
		for class < len(slabSizes)-1 && slabSizes[class] < n {
			class++
		}
		size := slabSizes[class]
		if n > size/2 && class == len(slabSizes)-1 {
			if err := charge(int64(n) * pointBytes); err != nil {
				return nil, err
			}
			return make([]promql.FPoint, n), nil
		}
		if err := charge(int64(size) * pointBytes); err != nil {
			return nil, err
		}
		s := p.from.slab(class)
		p.held, p.rest = append(p.held, s), s.points
	}
	taken := p.rest[:n:n]
	p.rest = p.rest[n:]
	return taken, nil
}

func (p *Points) slab(class int) *slab {
	if p != nil {
		if s, ok := p.slabs[class].Get().(*slab); ok {
			return s
		}
	}
	return &slab{class, make([]promql.FPoint, slabSizes[class])}
}

// free gives the slabs back. Nothing that was cut from them is to be used any more.
func (p *points) free() {
	if p.from != nil {
		for _, s := range p.held {
			p.from.slabs[s.class].Put(s)
		}
	}
	p.held, p.rest = nil, nil
}
