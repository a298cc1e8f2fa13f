// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package config

import "time"

// Settings are our own keys. The comment of a field is its text in docs/configuration.md. Tags: `acts:"restart"`
// marks a key that acts after a restart, `acts:"no"` one that this version accepts without effect, `acts:"only x"`
// one of which only the value x has an effect, the elements of a list share the tag of the list; `oneof` lists the words that are allowed; `of` says what a share is of.
type Settings struct {
	// Try a configuration beside a running Prometheus: no alert, no webhook and no remote write leaves the process. Same as --tidemark.shadow.
	Shadow           bool             `yaml:"shadow" acts:"restart"`
	Memory           Memory           `yaml:"memory"`
	Storage          Storage          `yaml:"storage"`
	Query            Query            `yaml:"query"`
	Scrape           Scrape           `yaml:"scrape"`
	Receive          Receive          `yaml:"receive"`
	SeriesLimits     []SeriesLimit    `yaml:"series_limits"`
	RemoteWriteQueue RemoteWriteQueue `yaml:"remote_write_queue"`
	Rules            Rules            `yaml:"rules"`
	Alertmanager     Alertmanager     `yaml:"alertmanager"`
	Webhooks         []Webhook        `yaml:"webhooks"`
	Deadman          Deadman          `yaml:"deadman"`
	Backup           Backup           `yaml:"backup"`
}

// Memory bounds what the process takes, Go heap and memory outside of it together.
type Memory struct {
	// The most memory the process plans with.
	Limit Size `yaml:"limit" acts:"restart" of:"the cgroup's limit, else of the machine's memory"`
	// The most memory one query may take.
	PerQuery Size `yaml:"per_query" acts:"restart" of:"memory.limit"`
	// Memory kept back for rules, so that alerts are evaluated when queries have used up the rest.
	RulesReserve Size `yaml:"rules_reserve" acts:"restart" of:"memory.limit"`
}

// Storage is about the samples on disk.
type Storage struct {
	// When a write is acknowledged: once it survives power loss (durable) or once it survives the end of the process only (process).
	WALSync string `yaml:"wal_sync" acts:"restart" oneof:"durable process"`
	// Free space below which on_full applies; never less than 1GiB, unless the disk is smaller than 10GiB.
	MinFreeSpace Size `yaml:"min_free_space" of:"the file system's size"`
	// What happens below min_free_space: the store takes no writes until there is space, or the oldest blocks are deleted, as many as it takes.
	OnFull string `yaml:"on_full" oneof:"read_only delete_oldest"`
	// How far ahead of the clock a sample may be.
	MaxFuture Duration `yaml:"max_future" acts:"restart"`
	// How late samples may be; storage.tsdb.out_of_order_time_window, where it is set, wins over both.
	LateWindow LateWindow `yaml:"late_window"`
	// What becomes of the data that a Prometheus left in the data path once it is converted.
	PrometheusOriginals string `yaml:"prometheus_originals" acts:"restart" oneof:"keep delete"`
	// How much is read again within an hour to find what the disk has lost before somebody asks for it; 0 turns it off.
	Scrub Size `yaml:"scrub" acts:"restart" of:"what the store has on disk"`
	// How long series are kept that a selector matches, the first match wins, at most 7; series that none matches are kept as Prometheus' own retention settings say.
	Retention []Retention `yaml:"retention"`
}

// LateWindow is how late samples may be on each way in.
type LateWindow struct {
	// For scraped samples.
	Scrape Window `yaml:"scrape"`
	// For samples that were pushed: remote write, OTLP and the other receivers.
	Push Window `yaml:"push"`
}

// Retention is one rule of storage.retention.
type Retention struct {
	// A name for logs and metrics; unique.
	Name string `yaml:"name"`
	// A series selector.
	Match string `yaml:"match"`
	// How long matching series are kept.
	Keep Duration `yaml:"keep"`
}

// Query is about answering queries.
type Query struct {
	// Memory for results of range queries; 0 turns it off.
	ResultCache Size `yaml:"result_cache" acts:"restart" of:"memory.limit"`
	// Queries that take longer are logged; 0 turns it off.
	SlowLog Duration `yaml:"slow_log"`
	// Whether sums over long windows are added up one by one, to the last bit of Prometheus', instead of from prefix sums.
	ExactWindows bool `yaml:"exact_windows"`
}

// Scrape is about scraping, beside Prometheus' own scrape_configs.
type Scrape struct {
	// What a scrape above one of its limits does: fails as in Prometheus, or keeps what is within the limit.
	OnLimit string `yaml:"on_limit" oneof:"fail truncate"`
}

// Receive is about protocols that Prometheus does not receive.
type Receive struct {
	// Protocols received over HTTP, below /influx, /pushgateway and /api/v1/import; see receiving.md.
	HTTP []string `yaml:"http" oneof:"influx pushgateway prometheus csv json"`
	// Address for Graphite's plain-text protocol, over TCP and UDP; empty turns it off.
	GraphiteListen string  `yaml:"graphite_listen" acts:"restart"`
	HADedup        HADedup `yaml:"ha_dedup"`
}

// HADedup takes the samples of one replica where pairs of Prometheus servers write the same series.
type HADedup struct {
	// Whether, of replicas that push the same series, one is stored.
	Enabled bool `yaml:"enabled"`
	// The label that names the pair; series without it, or without that of the replica, are stored as they are.
	ClusterLabel string `yaml:"cluster_label"`
	// The label that names the replica; it is removed.
	ReplicaLabel string `yaml:"replica_label"`
	// How long the elected replica may be silent before the other one is taken; longer than any interval at which it sends.
	Failover Duration `yaml:"failover"`
}

// SeriesLimit is one limit on the number of series.
type SeriesLimit struct {
	// A name for logs and metrics; unique.
	Name string `yaml:"name"`
	// What is counted: total, or the name of a label, for which the series of each value are counted; `__name__` counts those of each metric. Series count as long as they are in memory, two to three hours after their last sample.
	Per string `yaml:"per"`
	// How many series; auto is what half of memory.limit holds, 640 bytes each.
	Max Count `yaml:"max"`
	// What happens above it: new series are named in metrics, log and API, or refused as well; what is there already, and what rules record, goes on.
	Action string `yaml:"action" oneof:"warn reject_new"`
}

// RemoteWriteQueue bounds what waits on disk for the receivers of remote_write.
type RemoteWriteQueue struct {
	// The most bytes that wait; the oldest go first.
	MaxSize Size `yaml:"max_size" of:"the file system's size"`
	// What has waited longer is not sent any more.
	MaxAge Duration `yaml:"max_age"`
}

// Rules is about rule evaluation.
type Rules struct {
	// How far back recording rules are evaluated after a stop, two minutes after the start; 0 turns it off.
	CatchUp Duration `yaml:"catch_up"`
	// What an active alert does whose expression has no data any more: resolves as in Prometheus, or is kept.
	OnNoData string `yaml:"on_no_data" acts:"only resolve" oneof:"resolve keep"`
	// Evaluations kept for display, per rule.
	LogEvaluations int `yaml:"log_evaluations" acts:"no"`
}

// Alertmanager is the embedded Alertmanager.
type Alertmanager struct {
	// Alertmanager's own configuration file; empty turns the embedded one off.
	ConfigFile string `yaml:"config_file" acts:"no"`
	// The URL under which it is reached; empty: web.external-url with /alertmanager.
	ExternalURL string `yaml:"external_url" acts:"no"`
	// How long silences and the notification log are kept.
	DataRetention Duration `yaml:"data_retention" acts:"no"`
	Cluster       Cluster  `yaml:"cluster"`
}

// Cluster joins embedded Alertmanagers; off while no peers are named.
type Cluster struct {
	// Address for the gossip protocol.
	ListenAddress string `yaml:"listen_address" acts:"no"`
	// Addresses of the other members.
	Peers []string `yaml:"peers" acts:"no"`
}

// Webhook is a receiver of alerts in Alertmanager's webhook format.
type Webhook struct {
	// The file that holds the URL.
	URLFile string `yaml:"url_file"`
	// Whether resolved alerts are sent too.
	SendResolved bool `yaml:"send_resolved"`
}

// Deadman is a URL that is called while the server works; a service behind it alarms when the calls stop.
type Deadman struct {
	// The file that holds the URL; empty turns it off.
	URLFile string `yaml:"url_file" acts:"no"`
	// How often; only while the last interval was scraped, stored, evaluated and delivered.
	Interval Duration `yaml:"interval" acts:"no"`
}

// Backup copies blocks to object storage.
type Backup struct {
	// A file in Thanos' objstore format; empty turns it off.
	ObjstoreConfigFile string `yaml:"objstore_config_file" acts:"no"`
	// How often.
	Interval Duration `yaml:"interval" acts:"no"`
}

// setDefaults fills an element of a list before its keys are read.
func (w *Webhook) setDefaults() { w.SendResolved = true }

func (l *SeriesLimit) setDefaults() { l.Max, l.Action = Count{Auto: true}, "warn" }

// DefaultSettings returns what holds where nothing is set.
func DefaultSettings() Settings {
	return Settings{
		Memory: Memory{Limit: Size{Percent: 60}, PerQuery: Size{Percent: 25}, RulesReserve: Size{Percent: 10}},
		Storage: Storage{
			WALSync: "durable", MinFreeSpace: Size{Percent: 5}, OnFull: "read_only",
			MaxFuture: Duration(10 * time.Minute), LateWindow: LateWindow{Push: Window{Retention: true}},
			PrometheusOriginals: "keep", Scrub: Size{Percent: 1},
		},
		Query:   Query{ResultCache: Size{Percent: 10}, SlowLog: Duration(5 * time.Second)},
		Scrape:  Scrape{OnLimit: "fail"},
		Receive: Receive{HADedup: HADedup{ClusterLabel: "cluster", ReplicaLabel: "__replica__", Failover: Duration(30 * time.Second)}},
		SeriesLimits: []SeriesLimit{
			{Name: "total", Per: "total", Max: Count{Auto: true}, Action: "reject_new"},
			{Name: "job", Per: "job", Max: Count{N: 1_000_000}, Action: "warn"},
		},
		RemoteWriteQueue: RemoteWriteQueue{MaxSize: Size{Bytes: 10 << 30}, MaxAge: Duration(7 * 24 * time.Hour)},
		Rules:            Rules{CatchUp: Duration(time.Hour), OnNoData: "resolve", LogEvaluations: 100},
		Alertmanager:     Alertmanager{DataRetention: Duration(120 * time.Hour)},
		Deadman:          Deadman{Interval: Duration(time.Minute)},
		Backup:           Backup{Interval: Duration(2 * time.Hour)},
	}
}
