// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	promscrape "github.com/prometheus/prometheus/scrape"
)

// endpoint is a target as it was found: Prometheus' Target, for the API, and what that does not let out.
type endpoint struct {
	target        *promscrape.Target
	labels        labels.Labels
	public        []labels.Label // those without a reserved name, which its series have
	found, shared model.LabelSet // labels of the target and of its group before relabelling
	hash          uint64         // tells targets of a job apart, in this and in the next configuration
}

// findEndpoints makes endpoints of a group. Those that relabelling drops have no labels.
func findEndpoints(g *targetgroup.Group, cfg *promconfig.ScrapeConfig, b *labels.Builder) (all []*endpoint, errs []error) {
	for i, found := range g.Targets {
		ls, err := promscrape.PopulateLabels(b, cfg, found, g.Labels)
		if err != nil {
			errs = append(errs, fmt.Errorf("instance %d in group %s: %w", i, g, err))
			continue
		}
		e := &endpoint{target: promscrape.NewTarget(ls, cfg, found, g.Labels), labels: ls, found: found, shared: g.Labels}
		ls.Range(func(l labels.Label) {
			if !strings.HasPrefix(l.Name, model.ReservedLabelPrefix) {
				e.public = append(e.public, l)
			}
		})
		all = append(all, e)
	}
	return all, errs
}

// identify sets the hash: Prometheus', since it decides when a target is scraped.
func (e *endpoint) identify() {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%016d", e.labels.Hash())
	_, _ = h.Write([]byte(e.target.URL().String()))
	e.hash = h.Sum64()
}

// offset is how long to wait from now on until the target's turn, which is the same within every interval: of targets over
// the interval, and, by the seed, of servers that scrape the same target.
func (e *endpoint) offset(interval time.Duration, seed uint64, now time.Time) time.Duration {
	next := int64(interval) - now.UnixNano()%int64(interval) + int64((e.hash^seed)%uint64(interval))
	if next > int64(interval) {
		next -= int64(interval)
	}
	return time.Duration(next)
}

// times returns interval and timeout, which relabelling may have set. They were checked with the other labels.
func (e *endpoint) times(cfg *promconfig.ScrapeConfig) (interval, timeout time.Duration) {
	of := func(name string, configured model.Duration) time.Duration {
		if d, err := model.ParseDuration(e.labels.Get(name)); err == nil {
			return time.Duration(d)
		}
		return time.Duration(configured)
	}
	return of(model.ScrapeIntervalLabel, cfg.ScrapeInterval), of(model.ScrapeTimeoutLabel, cfg.ScrapeTimeout)
}
