// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"math"
	"math/bits"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/zeebo/xxh3"
)

const (
	trackedLabels  = 24  // label names of one offender; series with more have the first in order
	longestLabel   = 128 // bytes of a name that is tracked
	sketchBits     = 6
	sketchCells    = 1 << sketchBits
	offenderBytes  = 512 + trackedLabels*(sketchCells+longestLabel+16) // the most one takes, but for its value
	sketchConstant = 0.709                                             // HyperLogLog's alpha for 64 cells
)

// growth tells which label of many series has the most values.
type growth struct {
	labels []labelGrowth
}

// labelGrowth estimates how many values a label has, to about 13 %, in 64 bytes: each cell keeps the longest run of zeros
// that the hashes of its values begin with (HyperLogLog).
type labelGrowth struct {
	name  string
	cells [sketchCells]uint8
}

func (g *growth) reset() { g.labels = g.labels[:0] }

// add takes the labels of a series.
func (g *growth) add(ls labels.Labels) {
	next := 0 // names come in the same order again and again
	ls.Range(func(l labels.Label) {
		for i := range g.labels {
			at := (next + i) % len(g.labels)
			if g.labels[at].name == l.Name {
				next = at + 1
				g.labels[at].add(l.Value)
				return
			}
		}
		if len(g.labels) == trackedLabels || len(l.Name) > longestLabel {
			return
		}
		g.labels = append(g.labels, labelGrowth{name: strings.Clone(l.Name)})
		next = len(g.labels)
		g.labels[next-1].add(l.Value)
	})
}

func (s *labelGrowth) add(value string) {
	h := xxh3.HashString(value)
	cell := h >> (64 - sketchBits)
	run := uint8(bits.LeadingZeros64(h<<sketchBits|1<<(sketchBits-1)) + 1)
	s.cells[cell] = max(s.cells[cell], run)
}

func (s *labelGrowth) estimate() float64 {
	sum, empty := 0.0, 0
	for _, c := range s.cells {
		sum += math.Ldexp(1, -int(c))
		if c == 0 {
			empty++
		}
	}
	e := float64(sketchConstant * sketchCells * sketchCells / sum)
	if e <= 2.5*sketchCells && empty > 0 { // few values are told better by the cells that have none
		return float64(sketchCells * math.Log(float64(sketchCells)/float64(empty)))
	}
	return e
}

// most returns the label with the most values and about how many it has; the first in order of equal ones.
func (g *growth) most() (name string, values int) {
	best := 0.0
	for i := range g.labels {
		if e := g.labels[i].estimate(); e > best || e == best && g.labels[i].name < name {
			best, name = e, g.labels[i].name
		}
	}
	return name, int(math.Round(best))
}
