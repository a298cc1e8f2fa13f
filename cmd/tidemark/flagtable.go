// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"
)

// flagParser declares the flags and collects what kingpin hands back while it parses. The methods
// below are a table: one line a flag, in the order of Prometheus' own help.
type flagParser struct {
	o           *options
	app         *kingpin.Application
	agentOnly   []string
	externalURL string
	corsOrigin  string
	sizes       []func() // copy sizes, and what depends on which flags are set, into o once they are parsed
}

// withoutEffect are the flags that are accepted so that a command line written for Prometheus
// starts, with what is said to those who set one.
var withoutEffect = map[string]string{
	"storage.tsdb.min-block-duration":                "blocks are cut every two hours in Tidemark's own format",
	"storage.tsdb.max-block-chunk-segment-size":      "a block is one file",
	"storage.tsdb.allow-overlapping-compaction":      "blocks of one range are always merged",
	"storage.tsdb.wal-compression":                   "the log's records are compact as they are",
	"storage.tsdb.wal-compression-type":              "the log's records are compact as they are",
	"storage.tsdb.head-chunks-write-queue-size":      "head chunks are not mapped from files",
	"storage.tsdb.samples-per-chunk":                 "chunks are cut by size and slot",
	"storage.tsdb.delayed-compaction.max-percent":    "blocks are written in the background and need no delay",
	"storage.tsdb.delay-compact-file.path":           "uploaders read exported blocks, not the live ones",
	"storage.tsdb.block-reload-interval":             "blocks are announced when they are written",
	"storage.agent.wal-compression":                  "the log's records are compact as they are",
	"storage.agent.wal-compression-type":             "the log's records are compact as they are",
	"storage.agent.wal-truncate-frequency":           "the log is shortened whenever a checkpoint is written",
	"storage.agent.retention.min-time":               "what is sent leaves the queue of remote write at once",
	"storage.agent.checkpoint-from-in-memory-series": "checkpoints are always written from memory",
	"storage.agent.checkpoint-batch-size":            "checkpoints are written as a stream",
	"web.max-notifications-subscribers":              "this version has no live notifications",
	"web.search.max-limit":                           "this version has no search API",
	"web.user-assets":                                "this version serves no user assets",
	"web.console.templates":                          "console templates are not served; use dashboards",
	"web.console.libraries":                          "console templates are not served; use dashboards",
	"web.page-title":                                 "this version has no web interface to give a title",
	"rules.max-concurrent-evals":                     "every rule group evaluates on its own",
}

// flag declares a flag and notes when the command line sets it.
func (p *flagParser) flag(name, help string) *kingpin.FlagClause {
	return p.app.Flag(name, help).PreAction(func(*kingpin.ParseContext) error {
		if !slices.Contains(p.o.Explicit, name) {
			p.o.Explicit = append(p.o.Explicit, name)
		}
		return nil
	})
}

// agentFlag declares a flag that Prometheus has in agent mode only.
func (p *flagParser) agentFlag(name, help string) *kingpin.FlagClause {
	p.agentOnly = append(p.agentOnly, name)
	return p.flag(name, help+" Agent mode only.")
}

// duration declares a flag of a length of time in Prometheus' notation (1d12h).
func (p *flagParser) duration(to *time.Duration, name, def, help string) *kingpin.FlagClause {
	f := p.flag(name, help)
	f.SetValue((*model.Duration)(to))
	if def == "" {
		return f.PlaceHolder("<duration>")
	}
	return f.Default(def)
}

// size declares a flag of a number of bytes with a unit (512MB).
func (p *flagParser) size(to *int64, name, help string) *kingpin.FlagClause {
	f := p.flag(name, help).PlaceHolder("<bytes>")
	n := f.Bytes()
	p.sizes = append(p.sizes, func() { *to = int64(*n) })
	return f
}

// finish copies what kingpin keeps in types of its own.
func (p *flagParser) finish() {
	for _, set := range p.sizes {
		set()
	}
	p.describe()
}

// describe fills the values shown by the API.
func (p *flagParser) describe() {
	plain := kingpin.New("", "").Version("")
	p.o.Values = map[string]string{}
	for _, f := range p.app.Model().Flags {
		if plain.GetFlag(f.Name) == nil {
			p.o.Values[f.Name] = f.Value.String()
		}
	}
	if !slices.Contains(p.o.Explicit, "storage.tsdb.max-block-duration") {
		p.o.Values["storage.tsdb.max-block-duration"] = p.o.maxBlock().String()
	}
	if p.o.Web.RoutePrefix != "" {
		p.o.Values["web.route-prefix"] = p.o.Web.RoutePrefix
	}
}

func (p *flagParser) commonFlags() {
	o := p.o
	p.flag("config.file", "Path of the configuration, a prometheus.yml.").Default("prometheus.yml").StringVar(&o.ConfigFile)
	p.flag("config.auto-reload", "Reload the configuration when its files change.").Default("false").BoolVar(&o.AutoReload)
	p.duration(&o.AutoReloadInterval, "config.auto-reload-interval", "30s", "How often to look for changed configuration files.")
	p.flag("tidemark.config.file", "Path of Tidemark's own settings, for those whose prometheus.yml is generated; otherwise its tidemark section.").
		PlaceHolder("<path>").StringVar(&o.TidemarkConfigFile)
	p.flag("tidemark.shadow", "Run beside another server: scrape, store and evaluate, and send nothing out (no alerts, no webhooks, no remote write).").
		Default("false").BoolVar(&o.Shadow)
	p.flag("auto-gomaxprocs", "Set GOMAXPROCS to the container's CPU quota.").Default("true").BoolVar(&o.MaxProcs)
	p.flag("auto-gomemlimit", "Set GOMEMLIMIT from the container's or the machine's memory.").Default("true").BoolVar(&o.MemLimit)
	p.flag("auto-gomemlimit.ratio", "Part of that memory to use.").Default("0.9").FloatVar(&o.MemLimitRatio)
	p.duration(&o.MemLimitInterval, "auto-gomemlimit.refresh-interval", "0s", "How often to look at that memory again; 0: at the start only.")
	p.flag("enable-feature", "Features to enable, separated by commas, by Prometheus' names. Unknown names are warned about.").SetValue(&o.Features)
	p.flag("agent", "Run as an agent: scrape and receive, and send on by remote write. It answers no queries and has no rules.").
		Default("false").BoolVar(&o.Agent.on)
}

func (p *flagParser) webFlags() {
	w := &p.o.Web
	p.flag("web.listen-address", "Address to listen on. Can be repeated.").Default("0.0.0.0:9090").StringsVar(&w.ListenAddresses)
	p.flag("web.config.file", "Path of the file that turns on TLS and authentication.").Default("").StringVar(&w.ConfigFile)
	p.duration(&w.ReadTimeout, "web.read-timeout", "5m", "How long reading a request may take, and how long a connection may idle.")
	p.flag("web.max-connections", "Connections at the same time, over all listeners.").Default("512").IntVar(&w.MaxConnections)
	p.flag("web.max-notifications-subscribers", "Subscribers of live notifications at the same time.").Default("16").Int()
	p.flag("web.external-url", "URL under which users reach this server, for links in alerts; its path prefixes all routes.").
		PlaceHolder("<URL>").StringVar(&p.externalURL)
	p.flag("web.route-prefix", "Prefix of the routes. Default: the path of --web.external-url.").PlaceHolder("<path>").StringVar(&w.RoutePrefix)
	p.flag("web.user-assets", "Directory served at /user.").PlaceHolder("<path>").String()
	p.flag("web.enable-lifecycle", "Allow shutdown and reload over HTTP.").Default("false").BoolVar(&w.EnableLifecycle)
	p.flag("web.enable-admin-api", "Allow deletes and snapshots over HTTP.").Default("false").BoolVar(&w.EnableAdminAPI)
	p.flag("web.console.templates", "Directory of console templates.").Default("consoles").String()
	p.flag("web.console.libraries", "Directory of console libraries.").Default("console_libraries").String()
	p.flag("web.page-title", "Title of the web interface.").Default("Prometheus Time Series Collection and Processing Server").StringVar(&w.PageTitle)
	p.flag("web.cors.origin", `Regular expression of origins that may read the API, anchored at both ends. Example: 'https?://(a|b)\.example'.`).
		Default(".*").StringVar(&p.corsOrigin)
	p.flag("web.search.max-limit", "Largest limit a search may ask for.").Default("10000").Int()
}

func (p *flagParser) receiverFlags() {
	w := &p.o.Web
	p.flag("web.enable-remote-write-receiver", "Accept remote write at /api/v1/write.").Default("false").BoolVar(&w.EnableRemoteWrite)
	p.flag("web.remote-write-receiver.accepted-protobuf-messages", "Messages to accept: "+strings.Join(writeMessages, ", ")+". Can be repeated.").
		Default(writeMessages...).SetValue((*messageList)(&w.AcceptedMessages))
	p.flag("web.enable-otlp-receiver", "Accept OTLP metrics at /api/v1/otlp/v1/metrics.").Default("false").BoolVar(&w.EnableOTLP)
}

func (p *flagParser) storageFlags() {
	s := &p.o.Storage
	p.flag("storage.tsdb.path", "Directory of the data; ours is in its subdirectory tidemark.").Default("data/").StringVar(&s.Path)
	p.duration(&s.RetentionTime, "storage.tsdb.retention.time", "",
		"How long samples are kept: 15d if neither this nor a size is set. The configuration's storage.tsdb.retention wins.")
	p.size(&s.RetentionSize, "storage.tsdb.retention.size", "How many bytes the data may take, with a unit of powers of two (512MB).")
	p.flag("storage.tsdb.no-lockfile", "Do not take Prometheus' lock file.").Default("false").BoolVar(&s.NoLockfile)
	p.flag("storage.tsdb.head-chunks-write-queue-size", "Queue of head chunks.").Default("0").Int()
	p.flag("storage.tsdb.delay-compact-file.path", "File of uploaded blocks.").Default("").String()
}

func (p *flagParser) hiddenStorageFlags() {
	p.duration(new(time.Duration), "storage.tsdb.min-block-duration", "2h", "Length of the first blocks.").Hidden()
	p.duration(&p.o.Storage.MaxBlock, "storage.tsdb.max-block-duration", "", "Length of the longest blocks; a tenth of the retention if not set.").Hidden()
	p.size(new(int64), "storage.tsdb.max-block-chunk-segment-size", "Size of a block's chunk files.").Hidden()
	p.size(&p.o.Storage.SegmentSize, "storage.tsdb.wal-segment-size", "Size of a segment of the write-ahead log.").Hidden()
	p.flag("storage.tsdb.allow-overlapping-compaction", "Merge overlapping blocks.").Default("true").Hidden().Bool()
	p.flag("storage.tsdb.wal-compression", "Compress the write-ahead log.").Default("true").Hidden().Bool()
	p.flag("storage.tsdb.wal-compression-type", "How to compress it.").Default("snappy").Hidden().Enum("snappy", "zstd")
	p.flag("storage.tsdb.samples-per-chunk", "Samples of a chunk.").Default("120").Hidden().Int()
	p.flag("storage.tsdb.delayed-compaction.max-percent", "Longest delay of a compaction.").Default("10").Hidden().Int()
	p.duration(new(time.Duration), "storage.tsdb.block-reload-interval", "1m", "How often to look for blocks.").Hidden()
}

func (p *flagParser) agentFlags() {
	a := &p.o.Agent
	p.agentFlag("storage.agent.path", "Directory of the data.").Default("data-agent/").StringVar(&a.path)
	segment := p.agentFlag("storage.agent.wal-segment-size", "Size of a segment of the write-ahead log.").Hidden().PlaceHolder("<bytes>").Bytes()
	p.sizes = append(p.sizes, func() { a.segmentSize = int64(*segment) })
	p.agentFlag("storage.agent.wal-compression", "Compress the log.").Default("true").Bool()
	p.agentFlag("storage.agent.wal-compression-type", "How to compress it.").Hidden().Default("snappy").Enum("snappy", "zstd")
	p.agentFlag("storage.agent.wal-truncate-frequency", "How often to shorten the log.").Hidden().PlaceHolder("<duration>").SetValue(new(model.Duration))
	p.agentFlag("storage.agent.retention.min-time", "Youngest age to delete at.").Default("5m").SetValue(new(model.Duration))
	maxTime := new(model.Duration)
	p.agentFlag("storage.agent.retention.max-time", "How long samples wait for remote write; if not set, the configuration's remote_write_queue.max_age.").
		Default("4h").SetValue(maxTime)
	p.sizes = append(p.sizes, func() {
		if slices.Contains(p.o.Explicit, "storage.agent.retention.max-time") {
			a.maxTime = time.Duration(*maxTime)
		}
	})
	p.agentFlag("storage.agent.checkpoint-from-in-memory-series", "Build checkpoints from memory.").Default("false").Bool()
	p.agentFlag("storage.agent.checkpoint-batch-size", "Size of a checkpoint's batches.").Default("1000").IntVar(&a.batchSize)
	p.agentFlag("storage.agent.no-lockfile", "Do not take the lock file.").Default("false").BoolVar(&a.noLockfile)
}

func (p *flagParser) remoteFlags() {
	s := &p.o.Storage
	p.duration(&s.RemoteFlushDeadline, "storage.remote.flush-deadline", "1m", "How long to go on sending at a stop or reload.")
	p.flag("storage.remote.read-sample-limit", "Samples a remote read may return, 0: no limit; not for streamed answers.").
		Default("5e7").IntVar(&s.RemoteReadSampleLimit)
	p.flag("storage.remote.read-concurrent-limit", "Remote reads at the same time, 0: no limit.").Default("10").IntVar(&s.RemoteReadConcurrency)
	p.flag("storage.remote.read-max-bytes-in-frame", "Bytes of one frame of a streamed remote read.").
		Default("1048576").IntVar(&s.RemoteReadBytesInFrame)
}

func (p *flagParser) ruleFlags() {
	r, n := &p.o.Rules, &p.o.Notify
	p.duration(&r.OutageTolerance, "rules.alert.for-outage-tolerance", "1h", "Longest outage after which an alert's pending time is restored.")
	p.duration(&r.ForGracePeriod, "rules.alert.for-grace-period", "10m", "Shortest time between a restart and the firing of a restored alert.")
	p.duration(&r.ResendDelay, "rules.alert.resend-delay", "1m", "Shortest time before an alert is sent again.")
	p.flag("rules.max-concurrent-evals", "Independent rules evaluated at the same time.").Default("4").Int64Var(&r.MaxConcurrentEvals)
	p.flag("alertmanager.notification-queue-capacity", "Alerts waiting for an Alertmanager.").Default("10000").IntVar(&n.QueueCapacity)
	p.flag("alertmanager.notification-batch-size", "Alerts sent in one request.").Default("256").IntVar(&n.BatchSize)
	p.flag("alertmanager.drain-notification-queue-on-shutdown", "Send waiting alerts before stopping.").Default("true").BoolVar(&n.DrainOnShutdown)
}

func (p *flagParser) queryFlags() {
	q := &p.o.Query
	p.duration(&q.LookbackDelta, "query.lookback-delta", "5m", "How far back an instant selector looks for a sample.")
	p.duration(&q.Timeout, "query.timeout", "2m", "Longest time of a query.")
	p.flag("query.max-concurrency", "Queries at the same time.").Default("20").IntVar(&q.MaxConcurrency)
	p.flag("query.max-samples", "Samples a query may hold in memory.").Default("50000000").IntVar(&q.MaxSamples)
}

func (p *flagParser) scrapeFlags() {
	s := &p.o.Scrape
	p.flag("scrape.adjust-timestamps", "Align the times of scrapes to their schedule.").Hidden().Default("true").BoolVar(&s.AdjustTimestamps)
	p.flag("scrape.timestamp-tolerance", "How far to move a time for that.").Hidden().Default("2ms").DurationVar(&s.TimestampTolerance)
	p.duration(&s.DiscoveryReloadInterval, "scrape.discovery-reload-interval", "5s", "How often changed targets are taken over.").Hidden()
}

// writeMessages are the remote-write protocols by the names of their messages.
var writeMessages = []string{"prometheus.WriteRequest", "io.prometheus.write.v2.Request"}

// messageList is a repeatable flag of remote-write messages.
type messageList []string

// IsCumulative tells kingpin that the flag may be repeated.
func (*messageList) IsCumulative() bool { return true }

func (l *messageList) String() string { return strings.Join(*l, ",") }

// Set adds a message.
func (l *messageList) Set(name string) error {
	if !slices.Contains(writeMessages, name) {
		return fmt.Errorf("%q is %w", name, errNotAMessage)
	}
	if slices.Contains(*l, name) {
		return fmt.Errorf("%s is named twice: name it once", name)
	}
	*l = append(*l, name)
	return nil
}
