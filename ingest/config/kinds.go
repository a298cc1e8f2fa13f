// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/discovery"
	"gopkg.in/yaml.v3"
)

// kindTags names, for every kind of service discovery that can be left out of a build, the build tag that puts it
// in. The tags are those of Prometheus' plugins package; file, http and static are always in.
var kindTags = map[string]string{
	"aws": "enable_aws_sd", "ec2": "enable_aws_sd", "ecs": "enable_aws_sd", "elasticache": "enable_aws_sd",
	"lightsail": "enable_aws_sd", "msk": "enable_aws_sd", "rds": "enable_aws_sd",
	"azure":        "enable_azure_sd",
	"consul":       "enable_consul_sd",
	"digitalocean": "enable_digitalocean_sd",
	"dns":          "enable_dns_sd",
	"docker":       "enable_moby_sd", "dockerswarm": "enable_moby_sd",
	"eureka":     "enable_eureka_sd",
	"gce":        "enable_gce_sd",
	"hetzner":    "enable_hetzner_sd",
	"ionos":      "enable_ionos_sd",
	"kubernetes": "enable_kubernetes_sd",
	"kuma":       "enable_xds_sd",
	"linode":     "enable_linode_sd",
	"marathon":   "enable_marathon_sd",
	"nerve":      "enable_zookeeper_sd", "serverset": "enable_zookeeper_sd",
	"nomad":     "enable_nomad_sd",
	"oci":       "enable_oci_sd",
	"openstack": "enable_openstack_sd",
	"outscale":  "enable_outscale_sd",
	"ovhcloud":  "enable_ovhcloud_sd",
	"puppetdb":  "enable_puppetdb_sd",
	"scaleway":  "enable_scaleway_sd",
	"stackit":   "enable_stackit_sd",
	"triton":    "enable_triton_sd",
	"uyuni":     "enable_uyuni_sd",
	"vultr":     "enable_vultr_sd",
}

// KindTag returns the build tag that puts a kind of service discovery into a binary; false for kinds that are always
// in and for those that do not exist.
func KindTag(kind string) (string, bool) {
	tag, ok := kindTags[kind]
	return tag, ok
}

// checkKinds finds kinds of service discovery that Prometheus knows and this build does not hold, in the lists of
// the document that may name them. The loader would call them unknown fields.
func checkKinds(file string, root *yaml.Node) error {
	if root == nil {
		return nil
	}
	linked := discovery.RegisteredConfigNames()
	for _, list := range []*yaml.Node{lookup(root, "scrape_configs"), lookup(lookup(root, "alerting"), "alertmanagers")} {
		if list == nil || list.Kind != yaml.SequenceNode {
			continue
		}
		for _, item := range list.Content {
			if err := checkKindsOfItem(file, resolve(item), linked); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkKindsOfItem(file string, item *yaml.Node, linked []string) error {
	if item.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i < len(item.Content); i += 2 {
		key := item.Content[i]
		kind, ok := strings.CutSuffix(key.Value, "_sd_configs")
		if !ok || slices.Contains(linked, kind) {
			continue
		}
		if tag, known := KindTag(kind); known {
			return &Error{
				File: file, Line: key.Line,
				Msg: fmt.Sprintf("%s: this binary was built without %s discovery: use a released binary, or build with -tags %s", key.Value, kind, tag),
			}
		}
	}
	return nil
}

// checkKindsOfFiles checks the files of one pattern of scrape_config_files. What cannot be read or parsed is left
// to Prometheus' loader to complain of.
func checkKindsOfFiles(pattern string) error {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil // the loader reports a bad pattern
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		var node yaml.Node
		if yaml.Unmarshal(text, &node) != nil || len(node.Content) == 0 {
			continue
		}
		if err := checkKinds(file, resolve(node.Content[0])); err != nil {
			return err
		}
	}
	return nil
}

// lookup returns the value of a key of a mapping, aliases resolved, nil where there is none.
func lookup(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return resolve(n.Content[i+1])
		}
	}
	return nil
}
