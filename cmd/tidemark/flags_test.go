// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// parse reads a command line that must be good.
func parse(t *testing.T, args ...string) *options {
	t.Helper()
	o, err := parseFlags(args, io.Discard)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return o
}

func TestDefaultsArePrometheus(t *testing.T) {
	o := parse(t)
	c := func(name string, got, want any) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	c("config.file", o.ConfigFile, "prometheus.yml")
	c("web.listen-address", o.Web.ListenAddresses, []string{"0.0.0.0:9090"})
	c("web.read-timeout", o.Web.ReadTimeout, 5*time.Minute)
	c("web.max-connections", o.Web.MaxConnections, 512)
	c("web.enable-remote-write-receiver", o.Web.EnableRemoteWrite, false)
	c("accepted messages", o.Web.AcceptedMessages, []string{"prometheus.WriteRequest", "io.prometheus.write.v2.Request"})
	c("web.route-prefix", o.Web.RoutePrefix, "/")
	c("storage.tsdb.path", o.Storage.Path, "data/")
	c("storage.tsdb.retention.time", o.Storage.RetentionTime, time.Duration(0))
	c("storage.remote.read-sample-limit", o.Storage.RemoteReadSampleLimit, 50_000_000)
	c("query.lookback-delta", o.Query.LookbackDelta, 5*time.Minute)
	c("query.max-samples", o.Query.MaxSamples, 50_000_000)
	c("query.max-concurrency", o.Query.MaxConcurrency, 20)
	c("rules.alert.for-grace-period", o.Rules.ForGracePeriod, 10*time.Minute)
	c("alertmanager.notification-queue-capacity", o.Notify.QueueCapacity, 10000)
	c("auto-gomemlimit.ratio", o.MemLimitRatio, 0.9)
	c("explicit", o.Explicit, []string(nil))
	c("log.level", o.Log.Level.String(), "info")
	c("log.format", o.Log.Format.String(), "logfmt")
}

// TestServerFlagsAreAccepted holds the command line to the flags Prometheus 3.15 has in server
// mode, each with a value other than its default.
func TestServerFlagsAreAccepted(t *testing.T) {
	args := []string{
		"--config.file=p.yml", "--config.auto-reload", "--config.auto-reload-interval=1m", "--web.listen-address=127.0.0.1:9091",
		"--no-auto-gomaxprocs", "--no-auto-gomemlimit", "--auto-gomemlimit.ratio=0.5", "--auto-gomemlimit.refresh-interval=1m",
		"--web.config.file=w.yml", "--web.read-timeout=1m", "--web.max-connections=9", "--web.max-notifications-subscribers=9",
		"--web.external-url=http://h/p/", "--web.route-prefix=/q/", "--web.user-assets=u", "--web.enable-lifecycle", "--web.enable-admin-api",
		"--web.enable-remote-write-receiver", "--web.remote-write-receiver.accepted-protobuf-messages=prometheus.WriteRequest",
		"--web.enable-otlp-receiver", "--web.console.templates=c", "--web.console.libraries=l", "--web.page-title=T", "--web.cors.origin=a|b",
		"--storage.tsdb.path=/d", "--storage.tsdb.min-block-duration=1h", "--storage.tsdb.max-block-duration=2h",
		"--storage.tsdb.max-block-chunk-segment-size=512MB", "--storage.tsdb.wal-segment-size=10MB", "--storage.tsdb.retention.time=30d",
		"--storage.tsdb.retention.size=2GB", "--storage.tsdb.no-lockfile", "--no-storage.tsdb.allow-overlapping-compaction",
		"--no-storage.tsdb.wal-compression", "--storage.tsdb.wal-compression-type=zstd", "--storage.tsdb.head-chunks-write-queue-size=1",
		"--storage.tsdb.samples-per-chunk=60", "--storage.tsdb.delayed-compaction.max-percent=5", "--storage.tsdb.delay-compact-file.path=f",
		"--storage.tsdb.block-reload-interval=2m", "--storage.remote.flush-deadline=2m", "--storage.remote.read-sample-limit=1e3",
		"--storage.remote.read-concurrent-limit=1", "--storage.remote.read-max-bytes-in-frame=1024", "--web.search.max-limit=1",
		"--rules.alert.for-outage-tolerance=2h", "--rules.alert.for-grace-period=1m", "--rules.alert.resend-delay=2m",
		"--rules.max-concurrent-evals=2", "--scrape.adjust-timestamps", "--scrape.timestamp-tolerance=4ms",
		"--alertmanager.notification-queue-capacity=1", "--alertmanager.notification-batch-size=2",
		"--no-alertmanager.drain-notification-queue-on-shutdown", "--query.lookback-delta=1m", "--query.timeout=1m", "--query.max-concurrency=3",
		"--query.max-samples=1000", "--scrape.discovery-reload-interval=1s", "--enable-feature=exemplar-storage", "--log.level=debug", "--log.format=json",
		"--tidemark.shadow", "--tidemark.config.file=t.yml",
	}
	o := parse(t, args...)
	if want := len(args) - 2; len(o.Explicit) != want { // the two of the log are declared by a library
		t.Errorf("%d flags seen of %d", len(o.Explicit), want)
	}
	c := func(name string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	c("retention", o.Storage.RetentionTime, 30*24*time.Hour)
	c("retention size", o.Storage.RetentionSize, int64(2<<30))
	c("segment size", o.Storage.SegmentSize, int64(10<<20))
	c("read limit", o.Storage.RemoteReadSampleLimit, 1000)
	c("external URL", o.Web.ExternalURL.String(), "http://h/p")
	c("route prefix", o.Web.RoutePrefix, "/q")
	c("shadow", o.Shadow, true)
	c("origin a", o.Web.CORSOrigin.MatchString("a"), true)
	c("origin ab", o.Web.CORSOrigin.MatchString("ab"), false)
	for name := range withoutEffect {
		if _, ok := o.Values[name]; !ok {
			t.Errorf("withoutEffect names %s, which is no flag", name)
		}
	}
}

// TestOperatorCommandLine is what prometheus-operator writes into a StatefulSet.
func TestOperatorCommandLine(t *testing.T) {
	o := parse(t,
		"--config.file=/etc/prometheus/config_out/prometheus.env.yaml", "--web.enable-lifecycle", "--web.route-prefix=/",
		"--storage.tsdb.path=/prometheus", "--storage.tsdb.retention.time=24h", "--web.config.file=/etc/prometheus/web_config/web-config.yaml",
		"--web.page-title=p", "--web.max-connections=100", "--web.enable-remote-write-receiver", "--enable-feature=exemplar-storage,otlp-deltatocumulative",
		"--web.external-url=http://prometheus.example/", "--log.level=warn", "--log.format=json", "--web.listen-address=127.0.0.1:9090",
		"--storage.tsdb.retention.size=10GB", "--web.enable-admin-api", "--rules.alert.for-outage-tolerance=1h", "--rules.alert.for-grace-period=10m",
		"--rules.alert.resend-delay=1m", "--query.lookback-delta=5m", "--query.max-samples=50000000", "--query.max-concurrency=20", "--query.timeout=2m",
		"--no-storage.tsdb.wal-compression", "--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h",
		"--web.console.templates=/etc/prometheus/consoles", "--web.console.libraries=/etc/prometheus/console_libraries")
	if got := o.Values["storage.tsdb.max-block-duration"]; got != "2h" {
		t.Errorf("max-block-duration shows as %s: the Thanos sidecar reads it", got)
	}
}

func TestFlagsTakeTheirValueAsTheNextArgument(t *testing.T) {
	o := parse(t, "--config.file", "a.yml", "--storage.tsdb.path", "/d", "--no-config.auto-reload", "--web.listen-address", ":1", "--web.listen-address", ":2")
	want := []string{":1", ":2"}
	if diff := cmp.Diff(want, o.Web.ListenAddresses); diff != "" || o.ConfigFile != "a.yml" || o.Storage.Path != "/d" {
		t.Errorf("got %q %q %q", o.ConfigFile, o.Storage.Path, o.Web.ListenAddresses)
	}
}

func TestBadCommandLinesEndWithACodeAndAReason(t *testing.T) {
	c := func(code int, reason string, args ...string) {
		t.Helper()
		_, err := parseFlags(args, io.Discard)
		var e exit
		if !errors.As(err, &e) || e.code != code || !strings.Contains(e.msg, reason) {
			t.Errorf("%q: got %#v, want code %d and %q", args, err, code, reason)
		}
	}
	c(exitUsage, "unknown long flag '--storage.tsdb.pth'", "--storage.tsdb.pth=x")
	c(exitUsage, "not a valid duration", "--query.timeout=fast")
	c(exitUsage, "unexpected extra", "extra")
	c(exitUsage, "web.listen-address", "--web.listen-address")
	c(exitUsage, "must be one of snappy,zstd", "--storage.tsdb.wal-compression-type=lz4")
	c(exitUsage, "not a remote-write message", "--web.remote-write-receiver.accepted-protobuf-messages=x")
	c(exitUsage, "quotes", `--web.external-url="http://h"`)
	c(exitUsage, "missing closing", "--web.cors.origin=(")
	c(exitUsage, "missing port", "--web.listen-address=nowhere")
	c(exitConfig, "--auto-gomemlimit.ratio is 1.5", "--auto-gomemlimit.ratio=1.5")
	c(exitConfig, "--query.max-concurrency is 0", "--query.max-concurrency=0")
	c(exitConfig, "give one of them", "--enable-feature=otlp-deltatocumulative,otlp-native-delta-ingestion")
	c(exitMode, `["--storage.agent.path"]`, "--storage.agent.path=x")
	c(exitMode, `["--storage.agent.wal-compression"]`, "--no-storage.agent.wal-compression")
	c(exitMode, `The following flag(s) can only be used in agent mode: ["--storage.agent.path"]`, "--storage.agent.path=x")
	c(exitMode, `The following flag(s) can not be used in agent mode: ["--query.timeout" "--storage.tsdb.path"]`,
		"--agent", "--query.timeout=1m", "--storage.tsdb.path=x", "--storage.agent.path=y")
	c(exitConfig, "--storage.agent.checkpoint-batch-size must be greater than 0.", "--agent", "--storage.agent.checkpoint-batch-size=0")
}

func TestHelpAndVersion(t *testing.T) {
	c := func(flag string, want ...string) {
		t.Helper()
		var out bytes.Buffer
		_, err := parseFlags([]string{flag}, &out)
		var e exit
		if !errors.As(err, &e) || e.code != 0 {
			t.Errorf("%s: %v, want an exit with code 0", flag, err)
		}
		for _, w := range want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%s does not print %q:\n%s", flag, w, &out)
			}
		}
		if strings.Contains(out.String(), "samples-per-chunk") {
			t.Errorf("%s shows a hidden flag", flag)
		}
	}
	c("--help", "--[no-]tidemark.shadow", "--storage.tsdb.path=\"data/\"", "--config.file=\"prometheus.yml\"")
	c("-h", "--web.enable-lifecycle"[2:])
	c("--version", "tidemark, version devel", "speaks Prometheus 3.15.0")
}

func TestNoticesNameFlagsAndFeaturesThatDiffer(t *testing.T) {
	o := parse(t, "--storage.tsdb.wal-compression", "--query.timeout=1m",
		"--enable-feature=exemplar-storage,promql-experimental-functions", "--enable-feature=no-such-thing,old-ui")
	var out bytes.Buffer
	o.logNotices(slog.New(slog.NewTextHandler(&out, nil)))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{
		`"flag accepted without effect" flag=--storage.tsdb.wal-compression`,
		`"feature is always on" feature=exemplar-storage`,
		`"feature enabled" feature=promql-experimental-functions`,
		`level=WARN msg="unknown feature name" feature=no-such-thing`,
		`"feature accepted without effect" feature=old-ui`,
	}
	if len(lines) != len(want) {
		t.Fatalf("got %d lines:\n%s", len(lines), &out)
	}
	for i, w := range want {
		if !strings.Contains(lines[i], w) {
			t.Errorf("line %d is %s, want %s", i, lines[i], w)
		}
	}
}

func TestAutoReloadByItsOldFeatureName(t *testing.T) {
	o := parse(t, "--enable-feature=auto-reload-config", "--config.auto-reload-interval=10ms")
	if !o.AutoReload || o.AutoReloadInterval != time.Second {
		t.Errorf("auto reload %t every %s, want it on and every second at most", o.AutoReload, o.AutoReloadInterval)
	}
}

func TestValuesForTheAPI(t *testing.T) {
	o := parse(t, "--storage.tsdb.retention.time=10d", "--web.external-url=http://h/x")
	c := func(name, want string) {
		t.Helper()
		if got := o.Values[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	c("storage.tsdb.retention.time", "10d")
	c("storage.tsdb.max-block-duration", "1d")
	c("storage.tsdb.min-block-duration", "2h")
	c("web.route-prefix", "/x")
	c("web.enable-lifecycle", "false")
	c("log.level", "info")
	c("help", "")
}
