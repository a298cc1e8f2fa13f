// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	amconfig "github.com/prometheus/alertmanager/config"
	amcommon "github.com/prometheus/alertmanager/config/common"
	amnotify "github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/notify/webhook"
	"github.com/prometheus/alertmanager/template"
	commoncfg "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
)

// Webhook is one receiver of the `webhooks` setting.
type Webhook struct {
	URLFile      string // holds the URL; read at every notification, so that it can be changed under a running server
	SendResolved bool
}

// WebhookTiming says when webhooks are called. Alerts of one name make up a group, which is one request.
type WebhookTiming struct {
	// GroupWait is how long a new group waits for more alerts; default 2 s: an alert is out within seconds, and
	// those of one evaluation still travel together.
	GroupWait time.Duration
	// GroupInterval is how soon changes in a group are told, and a failed request repeated; default 10 s.
	GroupInterval time.Duration
	// RepeatInterval is after how long an unchanged group is told again; default 4 h, as in Alertmanager.
	RepeatInterval time.Duration
}

func (t WebhookTiming) withDefaults() WebhookTiming {
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&t.GroupWait, 2 * time.Second}, {&t.GroupInterval, 10 * time.Second}, {&t.RepeatInterval, 4 * time.Hour},
	} {
		if *d.value <= 0 {
			*d.value = d.def
		}
	}
	return t
}

// webhookTimeout bounds one request. A flush has 10 s: a receiver that hangs is tried twice within it.
const webhookTimeout = 4 * time.Second

// routing is what the embedded Alertmanager runs on: where alerts go, and how.
type routing struct {
	route     *amconfig.Route
	receivers map[string][]amnotify.Integration
}

// webhookRouting makes one route with one receiver per webhook, so that each has its own groups and a receiver
// that hangs delays nobody else.
func webhookRouting(hooks []Webhook, timing WebhookTiming, tmpl *template.Template, logger *slog.Logger) (*routing, error) {
	timing = timing.withDefaults()
	wait, interval, repeat := model.Duration(timing.GroupWait), model.Duration(timing.GroupInterval), model.Duration(timing.RepeatInterval)
	r := &routing{
		route: &amconfig.Route{
			Receiver: "none", GroupBy: []model.LabelName{model.AlertNameLabel},
			GroupWait: &wait, GroupInterval: &interval, RepeatInterval: &repeat,
		},
		receivers: make(map[string][]amnotify.Integration, len(hooks)),
	}
	for i, h := range hooks {
		name := receiverName(h)
		httpConfig := commoncfg.DefaultHTTPClientConfig
		conf := &webhook.WebhookConfig{
			NotifierConfig: amcommon.NotifierConfig{VSendResolved: h.SendResolved},
			HTTPConfig:     &httpConfig, URLFile: h.URLFile, Timeout: webhookTimeout,
		}
		hook, err := webhook.New(conf, tmpl, logger)
		if err != nil {
			return nil, fmt.Errorf("webhooks: entry %d: %w", i+1, err)
		}
		r.receivers[name] = []amnotify.Integration{amnotify.NewIntegration(hook, conf, "webhook", 0, name)}
		r.route.Routes = append(r.route.Routes, &amconfig.Route{Receiver: name, Continue: true})
	}
	r.receivers[r.route.Receiver] = nil // of an alert that no webhook wants; all routes match, so it has none
	return r, nil
}

// checkWebhooks returns everything that is wrong with the setting.
func checkWebhooks(hooks []Webhook) error {
	var errs []error
	seen := make(map[string]bool, len(hooks))
	for i, h := range hooks {
		switch {
		case h.URLFile == "":
			errs = append(errs, fmt.Errorf("webhooks: entry %d has no url_file", i+1))
		case seen[h.URLFile]:
			errs = append(errs, fmt.Errorf("webhooks: entry %d: url_file %s is there already", i+1, h.URLFile))
		}
		seen[h.URLFile] = true
	}
	return errors.Join(errs...)
}

// receiverName names a receiver by its file, so that the notification log knows it whatever the order of the
// entries. The URL itself has no part in it: it is a secret, and may change.
func receiverName(h Webhook) string {
	base := strings.TrimSuffix(filepath.Base(h.URLFile), filepath.Ext(h.URLFile))
	return fmt.Sprintf("%s-%08x", base, crc32.ChecksumIEEE([]byte(h.URLFile)))
}
