// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"reflect"
	"sync"

	commoncfg "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/sigv4"

	"github.com/tidemarkdb/tidemark/rules"
)

// pathLabel holds the path of the API while an Alertmanager's labels are relabelled.
const pathLabel = "__alerts_path__"

// amSet is the Alertmanagers that one configuration discovers.
type amSet struct {
	cfg          *config.AlertmanagerConfig
	relabel      []*relabel.Config // of targets
	alertRelabel []*relabel.Config
	client       *http.Client
	n            *Notifier
	logger       *slog.Logger
	groups       []*targetgroup.Group // to begin with

	mu struct {
		sync.RWMutex
		groups  []*targetgroup.Group // of the last sync
		urls    []*url.URL
		dropped []*url.URL
		senders map[string]*sender // by URL; nil in shadow mode
		ended   bool
	}
}

func newAMSet(cfg *config.AlertmanagerConfig, n *Notifier, scheme model.ValidationScheme) (*amSet, error) {
	client, err := commoncfg.NewClientFromConfig(cfg.HTTPClientConfig, "alertmanager")
	if err != nil {
		return nil, err
	}
	if cfg.SigV4Config != nil {
		if client.Transport, err = sigv4.NewSigV4RoundTripper(cfg.SigV4Config, client.Transport); err != nil {
			return nil, err
		}
	}
	s := &amSet{
		cfg: cfg, client: client, n: n, logger: n.opts.Logger,
		relabel:      withNameValidation(cfg.RelabelConfigs, scheme),
		alertRelabel: withNameValidation(cfg.AlertRelabelConfigs, scheme),
	}
	s.mu.senders = make(map[string]*sender)
	return s, nil
}

// sameConfig compares everything, secrets included, which a comparison as YAML would take for equal.
func (s *amSet) sameConfig(cfg *config.AlertmanagerConfig) bool { return reflect.DeepEqual(s.cfg, cfg) }

func (s *amSet) sameDiscovery(cfg *config.AlertmanagerConfig) bool {
	return reflect.DeepEqual(s.cfg.ServiceDiscoveryConfigs, cfg.ServiceDiscoveryConfigs)
}

func (s *amSet) currentGroups() []*targetgroup.Group {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.groups
}

// start puts the targets known from before into effect.
func (s *amSet) start() {
	if len(s.groups) > 0 {
		s.sync(s.groups)
		s.groups = nil
	}
}

// sync makes the Alertmanagers of the target groups the ones that alerts are sent to.
func (s *amSet) sync(groups []*targetgroup.Group) {
	var urls, dropped []*url.URL
	seen := make(map[string]bool)
	for _, g := range groups {
		for _, target := range g.Targets {
			u, keep, err := s.target(target, g.Labels)
			switch {
			case err != nil:
				s.logger.Error("a discovered Alertmanager cannot be used", "target", target.String(), "err", err)
			case !keep:
				dropped = append(dropped, u)
			case !seen[u.String()]:
				seen[u.String()] = true
				urls = append(urls, u)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.ended {
		return
	}
	s.mu.groups, s.mu.urls, s.mu.dropped = groups, urls, dropped
	if s.n.opts.Shadow {
		return
	}
	for address, sender := range s.mu.senders {
		if !seen[address] {
			sender.stop()
			delete(s.mu.senders, address)
		}
	}
	for address := range seen {
		if s.mu.senders[address] == nil {
			s.mu.senders[address] = s.startSender(address)
		}
	}
}

func (s *amSet) startSender(address string) *sender {
	sender := newSender(address, s)
	s.n.senders.Go(sender.run)
	return sender
}

// target returns where alerts for one discovered target go, and whether relabelling keeps it.
func (s *amSet) target(target, group model.LabelSet) (u *url.URL, keep bool, err error) {
	lb := labels.NewBuilder(labels.EmptyLabels())
	for name, value := range target {
		lb.Set(string(name), string(value))
	}
	lb.Set(model.SchemeLabel, s.cfg.Scheme)
	lb.Set(pathLabel, path.Join("/", s.cfg.PathPrefix, "/api/"+string(s.cfg.APIVersion)+"/alerts"))
	for name, value := range group {
		if _, own := target[name]; !own {
			lb.Set(string(name), string(value))
		}
	}
	before := lb.Labels()
	if !relabel.ProcessBuilder(lb, s.relabel...) {
		return targetURL(before), false, nil
	}
	if err := config.CheckTargetAddress(model.LabelValue(lb.Get(model.AddressLabel))); err != nil {
		return nil, false, fmt.Errorf("address %q: %w", lb.Get(model.AddressLabel), err)
	}
	return targetURL(lb.Labels()), true, nil
}

func targetURL(lset labels.Labels) *url.URL {
	return &url.URL{
		Scheme: lset.Get(model.SchemeLabel), Host: lset.Get(model.AddressLabel), Path: lset.Get(pathLabel),
	}
}

// send queues alerts for every Alertmanager of the set.
func (s *amSet) send(alerts []rules.Notification) {
	if len(s.alertRelabel) > 0 {
		alerts = relabelAlerts(s.alertRelabel, labels.EmptyLabels(), alerts)
	}
	if len(alerts) == 0 {
		return
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, sender := range s.mu.senders {
		sender.add(alerts)
	}
}

// end stops the senders for good.
func (s *amSet) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.ended = true
	for _, sender := range s.mu.senders {
		sender.stop()
	}
	clear(s.mu.senders)
}

func (s *amSet) active() []*url.URL {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.urls
}

func (s *amSet) dropped() []*url.URL {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.dropped
}
