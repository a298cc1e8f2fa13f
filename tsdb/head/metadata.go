// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"cmp"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// maxDescriptions is how many different descriptions of a metric family a shard keeps, the newest ones.
const maxDescriptions = 4

// maxFamilies is how many metric families a shard describes; those that come later are not.
const maxFamilies = 1 << 16

// description is what some sender said of a metric family, from the work of an LSN on.
type description struct {
	metadata.Metadata
	lsn sample.LSN
}

// metadataLocked notes a description under the metric family of its series. One that is the newest already changes
// nothing, so that a sender may repeat it with each batch.
func (s *shard) metadataLocked(m *sample.Metadata, lsn sample.LSN) {
	_, hd := s.findLocked(m.Ref)
	if hd == nil {
		return
	}
	family := s.head.dir.labelValue(m.Ref.ID(), labels.MetricName)
	if family == "" {
		return
	}
	family = m.Family(family)
	d := description{metadata.Metadata{Type: model.MetricType(m.Type), Unit: m.Unit, Help: m.Help}, lsn}
	all, known := s.families[family]
	if !known && len(s.families) >= maxFamilies {
		return
	}
	if n := len(all); n > 0 && all[n-1].Metadata == d.Metadata {
		return
	}
	d.Type, d.Unit, d.Help = model.MetricType(strings.Clone(m.Type)), strings.Clone(m.Unit), strings.Clone(m.Help)
	s.addDescriptionLocked(family, d)
}

func (s *shard) addDescriptionLocked(family string, d description) {
	account := s.head.opts.Account
	all := s.families[family]
	if account.Reserve(d.bytes()) != nil {
		return
	}
	if len(all) == maxDescriptions {
		account.Release(all[0].bytes())
		all = slices.Delete(all, 0, 1)
	}
	s.families[family] = append(all, d)
}

func (d *description) bytes() int64 { return 96 + int64(len(d.Type)+len(d.Unit)+len(d.Help)) }

// labelValue returns the value of a label of a series, empty if it has none.
func (d *directory) labelValue(id uint32, name string) string {
	var stack [128]uint32
	pairs := d.pairs(id, stack[:0])
	for i := 0; i+1 < len(pairs); i += 2 {
		if d.index.Symbol(pairs[i]) == name {
			return d.index.Symbol(pairs[i+1])
		}
	}
	return ""
}

// Description returns the newest description of a metric; not ok where there is none.
func (h *Head) Description(metric string) (m metadata.Metadata, ok bool) {
	newest := sample.LSN(0)
	for _, s := range h.shards {
		s.mu.RLock()
		if all := s.families[metric]; len(all) > 0 {
			if d := all[len(all)-1]; !ok || d.lsn > newest {
				m, ok, newest = d.Metadata, true, d.lsn
			}
		}
		s.mu.RUnlock()
	}
	return m, ok
}

// Metadata returns the descriptions of metric families that the pin sees, by family, newest first and each once;
// those of one family where metric is not empty.
func (p *Pin) Metadata(metric string) map[string][]metadata.Metadata {
	all := map[string][]description{}
	for _, s := range p.head.shards {
		s.mu.RLock()
		for family, ds := range s.families {
			if metric != "" && family != metric {
				continue
			}
			for _, d := range ds {
				if d.lsn <= p.epoch {
					all[family] = append(all[family], d)
				}
			}
		}
		s.mu.RUnlock()
	}
	out := make(map[string][]metadata.Metadata, len(all))
	for family, ds := range all {
		slices.SortStableFunc(ds, func(a, b description) int { return cmp.Compare(b.lsn, a.lsn) })
		for _, d := range ds {
			if !slices.Contains(out[family], d.Metadata) {
				out[family] = append(out[family], d.Metadata)
			}
		}
	}
	return out
}
