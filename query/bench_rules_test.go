// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/query/querytest"
)

// ruleSet is entry 32 of the table: recording and alerting rules such as monitoring of a Kubernetes cluster has, over
// what set K holds. Some select what is not there, as rules do.
func ruleSet() []string {
	rules := []string{
		// What nodes have left.
		`count without (cpu, mode) (node_cpu_seconds_total{job="node", mode="idle"})`,
		`1 - avg without (cpu) (sum without (mode) (rate(node_cpu_seconds_total{job="node", mode=~"idle|iowait|steal"}[5m])))`,
		`sum by (instance) (rate(node_cpu_seconds_total{job="node", mode!="idle"}[5m])) / count by (instance) (node_cpu_seconds_total{job="node", mode="idle"})`,
		`avg by (instance) (rate(node_cpu_seconds_total{job="node", mode="iowait"}[5m])) * 100 > 90`,
		`1 - node_filesystem_avail_bytes{job="node", fstype!=""} / node_filesystem_size_bytes{job="node", fstype!=""}`,
		`(node_filesystem_avail_bytes{fstype!=""} / node_filesystem_size_bytes{fstype!=""} * 100 < 15 and predict_linear(node_filesystem_avail_bytes{fstype!=""}[2h], 4*60*60) < 0) and node_filesystem_readonly{fstype!=""} == 0`,
		`(node_filesystem_avail_bytes{fstype!=""} / node_filesystem_size_bytes{fstype!=""} * 100 < 3) and node_filesystem_readonly{fstype!=""} == 0`,
		`sum by (cluster) (node_filesystem_size_bytes{fstype!="", mountpoint!=""} - node_filesystem_avail_bytes{fstype!="", mountpoint!=""})`,
		`increase(node_network_receive_errs_total{job="node"}[2m]) / increase(node_network_receive_packets_total{job="node"}[2m]) > 0.01`,
		`node_md_disks{state="failed"} > 0`,
		// What containers use, by pod, namespace and node.
		`sum by (cluster, namespace, pod, container) (rate(container_cpu_usage_seconds_total{job="kubelet", image!=""}[5m])) * on (cluster, namespace, pod) group_left(node) topk by (cluster, namespace, pod) (1, max by (cluster, namespace, pod, node) (kube_pod_info{node!=""}))`,
		`container_memory_working_set_bytes{job="kubelet", image!=""} * on (cluster, namespace, pod) group_left(node) topk by (cluster, namespace, pod) (1, max by (cluster, namespace, pod, node) (kube_pod_info{node!=""}))`,
		`sum by (cluster, namespace) (container_memory_working_set_bytes{job="kubelet", container!=""})`,
		`sum by (cluster, namespace) (rate(container_cpu_usage_seconds_total{job="kubelet", container!=""}[5m]))`,
		`sum by (cluster, node) (kube_pod_info{job="kube-state-metrics", node!=""})`,
		`count by (cluster, node) (sum by (cluster, node, pod) (kube_pod_info{job="kube-state-metrics"}))`,
		`topk by (cluster, namespace, pod) (1, max by (cluster, node, namespace, pod) (label_replace(kube_pod_info{job="kube-state-metrics", node!=""}, "pod", "$1", "pod", "(.*)")))`,
		`sum by (namespace) (rate(container_fs_reads_total{job="kubelet", container!=""}[5m])) > 1e6`,
		`max by (cluster, namespace, pod, container) (container_memory_working_set_bytes{container!=""}) / 1024 / 1024`,
		`sum by (cluster, namespace, pod) (kube_pod_status_phase{phase=~"Pending|Unknown"}) > 0`,
		// How the API server answers, and how fast it burns what errors it may have.
		`sum by (cluster, code, resource) (rate(apiserver_request_total{job="apiserver", verb=~"LIST|GET"}[5m]))`,
		`sum by (cluster, code, resource) (rate(apiserver_request_total{job="apiserver", verb=~"POST|PUT|PATCH|DELETE"}[5m]))`,
		`histogram_quantile(0.99, sum by (cluster, le, resource) (rate(apiserver_request_sli_duration_seconds_bucket{job="apiserver", verb=~"LIST|GET"}[5m])))`,
		`histogram_quantile(0.99, sum by (cluster, le, resource) (rate(apiserver_request_sli_duration_seconds_bucket{job="apiserver", verb=~"POST|PUT|PATCH|DELETE"}[5m])))`,
		`absent(up{job="apiserver"} == 1)`,
		`absent(up{job="kubelet"} == 1)`,
	}
	for _, window := range []string{"5m", "30m", "1h", "2h", "5h"} {
		rules = append(rules,
			`(sum by (cluster) (rate(apiserver_request_sli_duration_seconds_bucket{job="apiserver", verb=~"LIST|GET", le="+Inf"}[`+window+`]))`+
				` - sum by (cluster) (rate(apiserver_request_sli_duration_seconds_bucket{job="apiserver", verb=~"LIST|GET", le=~"1(\\.0)?"}[`+window+`]))`+
				` + sum by (cluster) (rate(apiserver_request_total{job="apiserver", verb=~"LIST|GET", code=~"5.."}[`+window+`])))`+
				` / sum by (cluster) (rate(apiserver_request_total{job="apiserver", verb=~"LIST|GET"}[`+window+`]))`)
	}
	return rules
}

// BenchmarkRules evaluates the set of rules once, each rule from its text on, in turns as BenchmarkQuery does.
func BenchmarkRules(b *testing.B) {
	d := setK(envInt("BENCH_NODES", 5), envInt("BENCH_HOURS", 6))
	st, db := benchPrometheus(b, d), benchTidemark(b, d)
	peer := querytest.NewReference(query.Options{MaxSamples: 1 << 40, Features: benchFeatures()})
	engine := query.NewEngine(db, query.Options{MaxSamples: 1 << 40, Features: benchFeatures()})
	b.Cleanup(func() { _ = engine.Close() })
	at := time.UnixMilli(d.end())
	evaluate := func(rules []string, e promql.QueryEngine, q storage.Queryable) func() cost {
		return func() cost {
			return spent(func() {
				for _, r := range rules {
					pq := must(b)(e.NewInstantQuery(context.Background(), q, nil, r, at))
					if res := pq.Exec(context.Background()); res.Err != nil {
						b.Fatalf("%s: %v", r, res.Err)
					}
					pq.Close()
				}
			})
		}
	}
	b.Run("all", func(b *testing.B) { turns(b, evaluate(ruleSet(), peer, st), evaluate(ruleSet(), engine, nil)) })
	for _, r := range ruleSet() {
		b.Run("one/"+r, func(b *testing.B) { turns(b, evaluate([]string{r}, peer, st), evaluate([]string{r}, engine, nil)) })
	}
}
