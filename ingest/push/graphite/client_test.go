// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package graphite_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	bridge "github.com/prometheus/client_golang/prometheus/graphite"

	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/push/graphite"
)

func TestBridgeOfPrometheusClientsPushes(t *testing.T) {
	store := &ingesttest.Recorder{}
	addr, stop := listen(t, store, graphite.Options{})
	r := prometheus.NewRegistry()
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "temperature", Help: "Degrees."}, []string{"room"})
	g.WithLabelValues("attic").Set(31.5)
	r.MustRegister(g)
	b, err := bridge.NewBridge(&bridge.Config{URL: addr, Gatherer: r, Prefix: "house", UseTags: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Push(); err != nil {
		t.Fatal(err)
	}
	await(t, store, 1)
	stop()
	if rows := store.Rows(); len(rows) != 1 || rows[0].Series != `{__name__="house.temperature", room="attic"}` || rows[0].V != 31.5 {
		t.Errorf("stored %+v", rows)
	}
}
