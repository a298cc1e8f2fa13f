// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/scrape"
	"gopkg.in/yaml.v3"
)

type activeTarget struct {
	DiscoveredLabels   labels.Labels       `json:"discoveredLabels"`
	Labels             labels.Labels       `json:"labels"`
	ScrapePool         string              `json:"scrapePool"`
	ScrapeURL          string              `json:"scrapeUrl"`
	GlobalURL          string              `json:"globalUrl"`
	LastError          string              `json:"lastError"`
	LastScrape         time.Time           `json:"lastScrape"`
	LastScrapeDuration float64             `json:"lastScrapeDuration"` // seconds
	Health             scrape.TargetHealth `json:"health"`
	ScrapeInterval     string              `json:"scrapeInterval"`
	ScrapeTimeout      string              `json:"scrapeTimeout"`
}

type droppedTarget struct {
	DiscoveredLabels labels.Labels `json:"discoveredLabels"`
	ScrapePool       string        `json:"scrapePool"`
	// DroppedBy is not in Prometheus' answer.
	DroppedBy *droppedBy `json:"droppedBy,omitempty"`
}

type targetList struct {
	Active        []activeTarget  `json:"activeTargets"`
	Dropped       []droppedTarget `json:"droppedTargets"`
	DroppedCounts map[string]int  `json:"droppedTargetCounts"`
}

func (a *API) targets(r *http.Request) (answer, error) {
	args := r.URL.Query()
	pool, state := args.Get("scrapePool"), strings.ToLower(args.Get("state"))
	everything := state == "" || state == "any"
	out := targetList{Active: []activeTarget{}, Dropped: []droppedTarget{}}
	if a.src.Targets == nil {
		return answer{data: out}, nil
	}
	b := labels.NewBuilder(labels.EmptyLabels())
	if everything || state == "active" {
		a.eachTarget(a.src.Targets.TargetsActive(), pool, func(pool string, t *scrape.Target) {
			out.Active = append(out.Active, a.describeTarget(pool, t, b))
		})
	}
	if everything || state == "dropped" {
		out.DroppedCounts = a.src.Targets.TargetsDroppedCounts()
		a.eachTarget(a.src.Targets.TargetsDropped(), pool, func(pool string, t *scrape.Target) {
			d := droppedTarget{DiscoveredLabels: t.DiscoveredLabels(b), ScrapePool: pool}
			if cfg, err := a.src.Targets.ScrapePoolConfig(pool); err == nil {
				d.DroppedBy = ruleThatDropped(d.DiscoveredLabels, cfg.RelabelConfigs)
			}
			out.Dropped = append(out.Dropped, d)
		})
	}
	return answer{data: out}, nil
}

// eachTarget walks targets by pool; only those of one pool where it is not empty.
func (*API) eachTarget(targets map[string][]*scrape.Target, only string, yield func(pool string, t *scrape.Target)) {
	for _, pool := range sortedKeys(targets) {
		if only != "" && pool != only {
			continue
		}
		for _, t := range targets[pool] {
			yield(pool, t)
		}
	}
}

func (a *API) describeTarget(pool string, t *scrape.Target, b *labels.Builder) activeTarget {
	lastError := ""
	if err := t.LastError(); err != nil {
		lastError = err.Error()
	}
	global, err := a.globalURL(t.URL())
	if err != nil {
		lastError = fmt.Sprintf("%s: %s", lastError, err)
	}
	return activeTarget{
		DiscoveredLabels: t.DiscoveredLabels(b), Labels: t.Labels(b), ScrapePool: pool,
		ScrapeURL: t.URL().String(), GlobalURL: global.String(),
		LastError: lastError, LastScrape: t.LastScrape(), LastScrapeDuration: t.LastScrapeDuration().Seconds(),
		Health: t.Health(), ScrapeInterval: t.GetValue(model.ScrapeIntervalLabel), ScrapeTimeout: t.GetValue(model.ScrapeTimeoutLabel),
	}
}

// globalURL makes the URL of a target on this machine one that a browser elsewhere reaches: our own address
// becomes the external URL's, another port keeps its number on the external host.
func (a *API) globalURL(u *url.URL) (*url.URL, error) {
	host, port, err := splitHostPort(u.Host)
	if err != nil {
		return u, err
	}
	if host != "localhost" && host != "127.0.0.1" && host != "::1" {
		return u, nil
	}
	_, own, err := net.SplitHostPort(a.opts.ListenAddress)
	if err != nil {
		return u, err
	}
	out := *u
	if port == own {
		out.Scheme, out.Host = a.opts.ExternalURL.Scheme, a.opts.ExternalURL.Host
		return &out, nil
	}
	external, _, err := splitHostPort(a.opts.ExternalURL.Host)
	if err != nil {
		return u, err
	}
	out.Host = external
	if port != "" {
		out.Host = net.JoinHostPort(external, port)
	}
	return &out, nil
}

// splitHostPort splits an address that may lack the port.
func splitHostPort(s string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(s)
	if err != nil && strings.HasSuffix(err.Error(), "missing port in address") {
		if h, _, err := net.SplitHostPort(s + ":80"); err == nil {
			return h, "", nil
		}
	}
	return host, port, err
}

func (a *API) scrapePools(*http.Request) (answer, error) {
	names := []string{}
	if a.src.Targets != nil {
		names = append(names, a.src.Targets.ScrapePools()...)
	}
	slices.Sort(names)
	return answer{data: map[string][]string{"scrapePools": names}}, nil
}

// poolConfig returns the configuration of the scrape pool that the request names.
func (a *API) poolConfig(r *http.Request) (*config.ScrapeConfig, error) {
	pool := r.FormValue("scrapePool")
	if pool == "" {
		return nil, badData("no scrapePool parameter provided")
	}
	if a.src.Targets == nil {
		return nil, badData("error retrieving scrape config: scrape pool %q not found", pool)
	}
	cfg, err := a.src.Targets.ScrapePoolConfig(pool)
	if err != nil {
		return nil, badData("error retrieving scrape config: %w", err)
	}
	return cfg, nil
}

func (a *API) scrapePoolConfig(r *http.Request) (answer, error) {
	cfg, err := a.poolConfig(r)
	if err != nil {
		return answer{}, err
	}
	var text strings.Builder
	enc := yaml.NewEncoder(&text)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(cfg), enc.Close()); err != nil {
		return answer{}, fmt.Errorf("error marshaling scrape config: %w", err)
	}
	return answer{data: yamlText{text.String()}}, nil
}

// yamlText is a configuration in an answer.
type yamlText struct {
	YAML string `json:"yaml"`
}

type alertmanagerURL struct {
	URL string `json:"url"`
}

type alertmanagerList struct {
	Active  []alertmanagerURL `json:"activeAlertmanagers"`
	Dropped []alertmanagerURL `json:"droppedAlertmanagers"`
}

func (a *API) alertmanagers(*http.Request) (answer, error) {
	out := alertmanagerList{Active: []alertmanagerURL{}, Dropped: []alertmanagerURL{}}
	if a.src.Alertmanagers != nil {
		for _, u := range a.src.Alertmanagers.Alertmanagers() {
			out.Active = append(out.Active, alertmanagerURL{u.String()})
		}
		for _, u := range a.src.Alertmanagers.DroppedAlertmanagers() {
			out.Dropped = append(out.Dropped, alertmanagerURL{u.String()})
		}
	}
	return answer{data: out}, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
