// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
)

// version is ours, set by the linker (see LDFLAGS in the Makefile).
var version = "devel"

// emulated is the version of Prometheus whose flags, configuration, API and metrics we speak.
// Clients such as Grafana choose their requests by it.
const emulated = "3.15.0"

// options are the command line: Prometheus' own flags, by its own grammar and names, and ours,
// which start with --tidemark. A flag's default is Prometheus'.
type options struct {
	ConfigFile         string
	AutoReload         bool
	AutoReloadInterval time.Duration
	TidemarkConfigFile string
	Shadow             bool // no alert, no webhook and no remote write leaves the process
	Log                promslog.Config
	Features           features

	MaxProcs         bool
	MemLimit         bool
	MemLimitRatio    float64
	MemLimitInterval time.Duration

	Web     webOptions
	Storage storageOptions
	Agent   agentFlags
	Scrape  scrapeOptions
	Rules   ruleOptions
	Notify  notifyOptions
	Query   queryOptions

	// Values is every flag with its value as text, for /api/v1/status/flags.
	Values map[string]string
	// Explicit names the flags that the command line sets.
	Explicit []string
}

type webOptions struct {
	ListenAddresses   []string
	ConfigFile        string // TLS and authentication, in exporter-toolkit's format
	ReadTimeout       time.Duration
	MaxConnections    int
	ExternalURL       *url.URL // never nil, its path without a trailing slash
	RoutePrefix       string   // starts with a slash, ends with one only if it is "/"
	EnableLifecycle   bool
	EnableAdminAPI    bool
	EnableRemoteWrite bool
	AcceptedMessages  []string // protobuf message names, in order of preference
	EnableOTLP        bool
	PageTitle         string
	CORSOrigin        *regexp.Regexp
}

type storageOptions struct {
	Path          string
	RetentionTime time.Duration // 0: not set; 15 days unless RetentionSize is
	RetentionSize int64         // bytes; 0: not set
	SegmentSize   int64         // of the write-ahead log, bytes; 0: not set
	MaxBlock      time.Duration // length of the longest blocks; 0: a tenth of the retention
	NoLockfile    bool

	RemoteFlushDeadline    time.Duration
	RemoteReadSampleLimit  int
	RemoteReadConcurrency  int
	RemoteReadBytesInFrame int
}

type scrapeOptions struct {
	AdjustTimestamps        bool
	TimestampTolerance      time.Duration
	DiscoveryReloadInterval time.Duration
}

type ruleOptions struct {
	OutageTolerance    time.Duration
	ForGracePeriod     time.Duration
	ResendDelay        time.Duration
	MaxConcurrentEvals int64
}

type notifyOptions struct {
	QueueCapacity   int
	BatchSize       int
	DrainOnShutdown bool
}

type queryOptions struct {
	LookbackDelta  time.Duration
	Timeout        time.Duration
	MaxConcurrency int
	MaxSamples     int
}

// exit ends the program with a code; a message, if there is one, belongs on standard error.
type exit struct {
	code int
	msg  string
}

func (e exit) Error() string { return e.msg }

const (
	exitConfig = 1 // a value or a file that cannot be used
	exitUsage  = 2 // a command line that cannot be read
	exitMode   = 3 // a flag of the other mode
)

// parseFlags reads the command line. The error, if any, is an exit: with code 0 after --help and
// --version, whose text went to out.
func parseFlags(args []string, out io.Writer) (*options, error) {
	o := &options{}
	p := newFlagParser(o, out)
	ended := false
	p.app.Terminate(func(int) { ended = true })
	_, err := p.app.Parse(args)
	if ended {
		return nil, exit{code: 0}
	}
	if err != nil {
		return nil, exit{exitUsage, fmt.Sprintf("command line: %s; --help lists the flags", err)}
	}
	p.finish()
	if err := o.check(p.agentOnly); err != nil {
		return nil, err
	}
	if err := o.derive(p); err != nil {
		return nil, err
	}
	p.describe()
	return o, nil
}

// check refuses what can be parsed and not be meant.
func (o *options) check(agentOnly []string) error {
	if err := o.checkMode(agentOnly); err != nil {
		return err
	}
	if o.MemLimitRatio <= 0 || o.MemLimitRatio > 1 {
		return exit{exitConfig, fmt.Sprintf("--auto-gomemlimit.ratio is %g: give more than 0 and at most 1", o.MemLimitRatio)}
	}
	if o.Features.on(sumDeltas) && o.Features.on(keepDeltas) {
		return exit{exitConfig, fmt.Sprintf("--enable-feature has both %s and %s: give one of them", sumDeltas, keepDeltas)}
	}
	if o.Query.MaxConcurrency < 1 {
		return exit{exitConfig, fmt.Sprintf("--query.max-concurrency is %d: give at least 1", o.Query.MaxConcurrency)}
	}
	return nil
}

// among returns those of names that the command line sets, as the user wrote them.
func (o *options) among(names []string) []string {
	var out []string
	for _, name := range names {
		if slices.Contains(o.Explicit, name) {
			out = append(out, "--"+name)
		}
	}
	return out
}

// derive computes the values that follow from others.
func (o *options) derive(p *flagParser) error {
	var err error
	if o.Web.ExternalURL, err = externalURL(p.externalURL, o.Web.ListenAddresses[0]); err != nil {
		return exit{exitUsage, fmt.Sprintf("--web.external-url: %s", err)}
	}
	if o.Web.RoutePrefix == "" {
		o.Web.RoutePrefix = o.Web.ExternalURL.Path
	}
	o.Web.RoutePrefix = "/" + strings.Trim(o.Web.RoutePrefix, "/")
	if o.Web.CORSOrigin, err = regexp.Compile("^(?s:" + p.corsOrigin + ")$"); err != nil {
		return exit{exitUsage, fmt.Sprintf("--web.cors.origin: %s", err)}
	}
	if o.Features.on("auto-reload-config") {
		o.AutoReload = true
	}
	o.AutoReloadInterval = max(o.AutoReloadInterval, time.Second)
	if o.Storage.RetentionTime < 0 { // the parser wraps around at 292 years
		o.Storage.RetentionTime = 100 * 365 * 24 * time.Hour
	}
	return nil
}

// externalURL is the address users reach the server at: what they said, or this host and the port
// of the first listener.
func externalURL(text, listen string) (*url.URL, error) {
	if text == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, err
		}
		_, port, err := net.SplitHostPort(listen)
		if err != nil {
			return nil, err
		}
		text = fmt.Sprintf("http://%s/", net.JoinHostPort(host, port))
	}
	if strings.Trim(text, `"'`) != text {
		return nil, fmt.Errorf("%s begins or ends with quotes: remove them", text)
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	u.Path = strings.TrimRight(u.Path, "/")
	if u.Path != "" && !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	return u, nil
}

// logNotices writes one line for each flag and feature whose effect differs from Prometheus'.
func (o *options) logNotices(log *slog.Logger) {
	for _, name := range o.Explicit {
		if why, ok := withoutEffect[name]; ok {
			log.Info("flag accepted without effect", "flag", "--"+name, "why", why)
		}
	}
	o.Features.logNotices(log)
}

// versionText is what --version prints.
func versionText() string {
	return fmt.Sprintf("tidemark, version %s (speaks Prometheus %s)\n  go version: %s\n  platform: %s/%s",
		version, emulated, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// maxBlock is what Prometheus would set --storage.tsdb.max-block-duration to; the Thanos sidecar
// reads it from the flags.
func (o *options) maxBlock() model.Duration {
	longest := model.Duration(31 * 24 * time.Hour)
	if r := o.Storage.RetentionTime; r > 0 {
		return min(longest, model.Duration(r/10))
	}
	return min(longest, model.Duration(36*time.Hour)) // a tenth of the default of 15 days
}

// newFlagParser declares every flag on o.
func newFlagParser(o *options, out io.Writer) *flagParser {
	p := &flagParser{o: o, app: kingpin.New(filepath.Base(os.Args[0]),
		"Tidemark, a metrics database and alerting engine that takes Prometheus' place.")}
	p.app.UsageWriter(out).ErrorWriter(out)
	p.app.Version(versionText())
	p.app.HelpFlag.Short('h')
	p.commonFlags()
	p.webFlags()
	p.receiverFlags()
	p.storageFlags()
	p.hiddenStorageFlags()
	p.agentFlags()
	p.remoteFlags()
	p.ruleFlags()
	p.queryFlags()
	p.scrapeFlags()
	promslogflag.AddFlags(p.app, &o.Log)
	return p
}

var errNotAMessage = errors.New("not a remote-write message: prometheus.WriteRequest or io.prometheus.write.v2.Request")
