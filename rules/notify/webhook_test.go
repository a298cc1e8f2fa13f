// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/alertmanager/notify/webhook"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// quick makes tests quick; the defaults are checked apart.
var quick = WebhookTiming{GroupWait: 30 * time.Millisecond, GroupInterval: 100 * time.Millisecond}

func urlFile(t *testing.T, address string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "hook.url")
	if err := os.WriteFile(name, []byte(address+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// messages returns what a webhook got.
func (r *receiver) messages(t *testing.T) []webhook.Message {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []webhook.Message
	for _, b := range r.bodies {
		var m webhook.Message
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatalf("%v in %s", err, b)
		}
		out = append(out, m)
	}
	return out
}

func (r *running) applyHooks(hooks ...Webhook) {
	r.Helper()
	r.apply(Config{Webhooks: hooks, ExternalLabels: labels.FromStrings("cluster", "reef")})
}

func TestWebhookGetsFiringThenResolved(t *testing.T) {
	hook := newReceiver(t)
	external, err := url.Parse("http://tide.example")
	if err != nil {
		t.Fatal(err)
	}
	timing := WebhookTiming{GroupWait: time.Second, GroupInterval: quick.GroupInterval}
	r := start(t, Options{Timing: timing, ExternalURL: external})
	r.applyHooks(Webhook{URLFile: urlFile(t, hook.URL+"/x?token=s3cret"), SendResolved: true})
	a, b := firing("A", "i", "1"), firing("A", "i", "2")
	a.StartsAt, b.StartsAt = time.Now().UTC(), time.Now().UTC() // one that began before the wait is told at once, alone
	r.notify(a, b)
	eventually(t, "firing", func() bool { return hook.count() == 1 })
	r.notify(resolved("A", "i", "1"), resolved("A", "i", "2"))
	eventually(t, "resolved", func() bool { return hook.count() == 2 })
	if got := hook.requests[0].URL.String(); got != "/x?token=s3cret" {
		t.Errorf("posted to %s", got)
	}
	m := hook.messages(t)
	if m[0].Version != "4" || m[0].Status != "firing" || m[0].GroupLabels["alertname"] != "A" || m[0].CommonLabels["cluster"] != "reef" ||
		m[0].CommonAnnotations["summary"] != "about A" || m[0].ExternalURL != "http://tide.example" || m[0].GroupKey == "" {
		t.Errorf("message %+v", m[0])
	}
	if len(m[0].Alerts) != 2 || m[0].Alerts[0].Labels["i"] != "1" || m[0].Alerts[0].GeneratorURL != a.GeneratorURL ||
		!m[0].Alerts[0].StartsAt.Equal(a.StartsAt) || m[0].Alerts[0].Status != "firing" {
		t.Errorf("alerts %+v", m[0].Alerts)
	}
	if m[1].Status != "resolved" || len(m[1].Alerts) != 2 || m[1].Alerts[0].EndsAt.After(time.Now()) {
		t.Errorf("second message %+v", m[1])
	}
}

func TestWebhookWithoutResolved(t *testing.T) {
	with, without := newReceiver(t), newReceiver(t)
	r := start(t, Options{Timing: quick})
	r.applyHooks(Webhook{URLFile: urlFile(t, with.URL), SendResolved: true}, Webhook{URLFile: urlFile(t, without.URL)})
	r.notify(firing("A"))
	eventually(t, "firing", func() bool { return with.count() == 1 && without.count() == 1 })
	r.notify(resolved("A"))
	eventually(t, "resolved", func() bool { return with.count() == 2 })
	time.Sleep(3 * quick.GroupInterval)
	if without.count() != 1 {
		t.Errorf("%d requests where resolved alerts are not wanted", without.count())
	}
}

func TestUnchangedAlertIsNotToldAgain(t *testing.T) {
	hook := newReceiver(t)
	r := start(t, Options{Timing: quick})
	r.applyHooks(Webhook{URLFile: urlFile(t, hook.URL), SendResolved: true})
	for range 10 {
		r.notify(firing("A"))
		time.Sleep(quick.GroupInterval / 2)
	}
	if hook.count() != 1 {
		t.Errorf("%d requests, want 1", hook.count())
	}
	r.notify(firing("A", "new", "1"))
	eventually(t, "the new alert of the group", func() bool { return hook.count() == 2 })
}

func TestFailingWebhookIsTriedAgainAndHangingOneDelaysNobody(t *testing.T) {
	failing, hanging, live := newReceiver(t), newReceiver(t), newReceiver(t)
	failing.answer = func(n int) int { return map[bool]int{true: 503, false: 200}[n < 3] }
	hang := make(chan struct{})
	hanging.hang = hang
	defer close(hang)
	r := start(t, Options{Timing: quick})
	r.applyHooks(Webhook{URLFile: urlFile(t, hanging.URL)}, Webhook{URLFile: urlFile(t, failing.URL)},
		Webhook{URLFile: urlFile(t, live.URL), SendResolved: true})
	r.notify(firing("A"))
	eventually(t, "the live one", func() bool { return live.count() == 1 })
	r.notify(resolved("A"))
	eventually(t, "the live one again", func() bool { return live.count() == 2 })
	eventually(t, "the failing one after all", func() bool { return failing.count() == 4 })
}

func TestURLIsReadAtEveryNotificationAndNeverShown(t *testing.T) {
	first, second := newReceiver(t), newReceiver(t)
	r := start(t, Options{Timing: quick})
	file := urlFile(t, "http://127.0.0.1:1/hidden-path")
	r.applyHooks(Webhook{URLFile: file, SendResolved: true})
	r.notify(firing("A"))
	eventually(t, "a failure", func() bool { return strings.Contains(r.log.String(), "level=") })
	set := func(u string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(u), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set(first.URL + "/hidden-path")
	eventually(t, "the first URL", func() bool { return first.count() == 1 })
	set(second.URL + "/hidden-path")
	r.notify(resolved("A"))
	eventually(t, "the second URL", func() bool { return second.count() == 1 })
	r.stop()
	if log := r.log.String(); strings.Contains(log, "hidden-path") || log == "" {
		t.Errorf("the log shows the URL:\n%s", log)
	}
	for _, m := range second.messages(t) {
		if strings.Contains(fmt.Sprint(m), "hidden-path") {
			t.Errorf("the message shows the URL: %v", m)
		}
	}
}

func TestRestartDoesNotNotifyAgain(t *testing.T) {
	for _, crash := range []bool{false, true} {
		hook := newReceiver(t)
		disk := fsx.NewCrashable()
		hooks := Webhook{URLFile: urlFile(t, hook.URL), SendResolved: true}
		a := firing("A")
		r := start(t, Options{Timing: quick, FS: disk, StateDir: "/data/alertmanager"})
		r.applyHooks(hooks)
		r.notify(a)
		eventually(t, "firing", func() bool { return hook.count() == 1 })
		if crash {
			eventually(t, "the log of it", func() bool {
				_, err := disk.Stat("/data/alertmanager/" + logFile)
				return err == nil
			})
			disk = disk.Crash(0, 1) // what is written from here on is lost
		}
		r.stop()
		r = start(t, Options{Timing: quick, FS: disk, StateDir: "/data/alertmanager"})
		r.applyHooks(hooks)
		for range 5 {
			r.notify(a)
			time.Sleep(quick.GroupInterval)
		}
		if hook.count() != 1 {
			t.Errorf("crash %t: %d requests after the restart, want none", crash, hook.count()-1)
		}
		a.EndsAt = time.Now()
		r.notify(a)
		eventually(t, "resolved", func() bool { return hook.count() == 2 })
		r.stop()
	}
}

func TestRequestUnderWayAtShutdownIsNotMadeAgain(t *testing.T) {
	hook := newReceiver(t)
	hang := make(chan struct{})
	hook.hang = hang
	disk := fsx.NewCrashable()
	hooks := Webhook{URLFile: urlFile(t, hook.URL), SendResolved: true}
	a := firing("A")
	r := start(t, Options{Timing: quick, FS: disk, StateDir: "/s"})
	r.applyHooks(hooks)
	r.notify(a)
	eventually(t, "the request", func() bool { return hook.count() == 1 })
	time.AfterFunc(200*time.Millisecond, func() { close(hang) })
	r.stop()
	r = start(t, Options{Timing: quick, FS: disk, StateDir: "/s"})
	r.applyHooks(hooks)
	r.notify(a)
	time.Sleep(3 * quick.GroupInterval)
	if hook.count() != 1 {
		t.Errorf("%d requests, want 1", hook.count())
	}
}

func TestHangingReceiverDelaysShutdownByTheGraceOnly(t *testing.T) {
	hook := newReceiver(t)
	hang := make(chan struct{})
	hook.hang = hang
	defer close(hang)
	r := start(t, Options{Timing: quick})
	r.applyHooks(Webhook{URLFile: urlFile(t, hook.URL)})
	r.notify(firing("A"))
	eventually(t, "the request", func() bool { return hook.count() == 1 })
	begin := time.Now()
	r.stop()
	if took := time.Since(begin); took > stopGrace+time.Second {
		t.Errorf("stopping took %v", took)
	}
}

func TestDamagedStateIsReportedAndNotUsed(t *testing.T) {
	hook := newReceiver(t)
	disk := fsx.NewCrashable()
	if err := disk.MkdirAll("/s"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{logFile, silencesFile} {
		f, err := disk.Create("/s/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("\x05nonsense"), 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	r := start(t, Options{Timing: quick, FS: disk, StateDir: "/s"})
	r.applyHooks(Webhook{URLFile: urlFile(t, hook.URL)})
	r.notify(firing("A"))
	eventually(t, "firing", func() bool { return hook.count() == 1 })
	for _, name := range []string{logFile, silencesFile} {
		if !strings.Contains(r.log.String(), "/s/"+name) {
			t.Errorf("the log does not name %s:\n%s", name, r.log)
		}
	}
}

func TestReloadOfWebhooks(t *testing.T) {
	first, second := newReceiver(t), newReceiver(t)
	r := start(t, Options{Timing: quick})
	r.applyHooks()
	r.notify(firing("A"))
	one := Webhook{URLFile: urlFile(t, first.URL), SendResolved: true}
	r.applyHooks(one)
	r.notify(firing("A"))
	eventually(t, "first", func() bool { return first.count() == 1 })
	r.applyHooks(Webhook{URLFile: urlFile(t, second.URL), SendResolved: true}, one)
	eventually(t, "the second knows of the alert at once", func() bool { return second.count() == 1 })
	time.Sleep(3 * quick.GroupInterval)
	if first.count() != 1 {
		t.Errorf("the first was told again after a reload: %d requests", first.count())
	}
	r.applyHooks()
	r.notify(resolved("A"))
	time.Sleep(3 * quick.GroupInterval)
	if first.count()+second.count() != 2 {
		t.Errorf("requests after the webhooks were removed: %d, %d", first.count(), second.count())
	}
	if err := r.n.Apply(Config{Webhooks: []Webhook{one, one}}); err == nil {
		t.Error("no error for the same url_file twice")
	}
}

func TestDefaultTimingIsSeconds(t *testing.T) {
	got := WebhookTiming{}.withDefaults()
	want := WebhookTiming{GroupWait: 2 * time.Second, GroupInterval: 10 * time.Second, RepeatInterval: 4 * time.Hour}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
