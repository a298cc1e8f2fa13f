// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	otelmetric "go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
)

// application is a program with OpenTelemetry's SDK that sends to a server.
type application struct {
	provider *metric.MeterProvider
	meter    otelmetric.Meter
}

func newApplication(t *testing.T, s *instance, name string, temporality metricdata.Temporality) *application {
	t.Helper()
	exporter, err := otlpmetrichttp.New(t.Context(),
		otlpmetrichttp.WithEndpointURL(s.url("/api/v1/otlp/v1/metrics")), otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression),
		otlpmetrichttp.WithTemporalitySelector(func(metric.InstrumentKind) metricdata.Temporality { return temporality }))
	if err != nil {
		t.Fatal(err)
	}
	exponential := metric.NewView(metric.Instrument{Name: "sizes"}, metric.Stream{Aggregation: metric.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 20}})
	p := metric.NewMeterProvider(metric.WithReader(metric.NewPeriodicReader(exporter, metric.WithInterval(time.Hour))), metric.WithView(exponential),
		metric.WithResource(resource.NewSchemaless(attribute.String("service.name", name), attribute.String("service.instance.id", "one"), attribute.String("host.name", "h1"))))
	t.Cleanup(func() {
		if err := p.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return &application{p, p.Meter("example.org/shop")}
}

// TestApplicationsWithOpenTelemetrysSDKAreReceived sends what the SDK has, cumulative and as deltas, and queries it.
func TestApplicationsWithOpenTelemetrysSDKAreReceived(t *testing.T) {
	s := newInstance(t, "otlp: {promote_resource_attributes: [host.name]}\n", "--web.enable-otlp-receiver", "--enable-feature=otlp-deltatocumulative")
	s.start(t)
	for _, temporality := range []metricdata.Temporality{metricdata.CumulativeTemporality, metricdata.DeltaTemporality} {
		t.Run(temporality.String(), func(t *testing.T) {
			name := strings.ToLower(temporality.String())
			app := newApplication(t, s, name, temporality)
			requests, err := app.meter.Int64Counter("http.requests", otelmetric.WithUnit("{request}"), otelmetric.WithDescription("Requests."))
			must(t, err)
			temperature, err := app.meter.Float64Gauge("temperature", otelmetric.WithUnit("Cel"))
			must(t, err)
			duration, err := app.meter.Float64Histogram("duration", otelmetric.WithUnit("s"), otelmetric.WithExplicitBucketBoundaries(0.1, 1))
			must(t, err)
			sizes, err := app.meter.Int64Histogram("sizes", otelmetric.WithUnit("By"))
			must(t, err)
			for range 3 { // exports of the same counters
				requests.Add(t.Context(), 5, otelmetric.WithAttributes(attribute.String("http.method", "GET")))
				temperature.Record(t.Context(), 21.5)
				duration.Record(t.Context(), 0.5)
				duration.Record(t.Context(), 2)
				sizes.Record(t.Context(), 100)
				sizes.Record(t.Context(), 1000)
				must(t, app.provider.ForceFlush(t.Context()))
				time.Sleep(2 * time.Millisecond) // samples of one series have times of their own
			}
			is := func(expr, want string) {
				t.Helper()
				got, err := instant("http://"+s.addr, strings.ReplaceAll(expr, "$job", fmt.Sprintf("job=%q", name)), time.Now())
				if err != nil {
					t.Fatal(err)
				}
				for _, points := range got {
					if len(got) == 1 && len(points) == 1 && points[0].V == want {
						return
					}
				}
				t.Errorf("%s is %v, want %s", expr, got, want)
			}
			is(`http_requests_total{$job,instance="one",http_method="GET",host_name="h1"}`, "15")
			is(`temperature_celsius{$job}`, "21.5")
			is(`duration_seconds_bucket{$job,le="1"}`, "3")
			is(`duration_seconds_count{$job}`, "6")
			is(`duration_seconds_sum{$job}`, "7.5")
			is(`histogram_count(sizes_bytes{$job})`, "6")
			is(`histogram_sum(sizes_bytes{$job})`, "3300")
			is(`round(histogram_quantile(0.9, sizes_bytes{$job}), 100)`, "1000")
			is(`target_info{$job,host_name="h1"}`, "1")
			is(`count(http_requests_total{$job} * on (job, instance) group_left (host_name) target_info)`, "1")
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestTheOTLPRequestOfTheDocumentsIsStored runs the command of docs/otlp.md.
func TestTheOTLPRequestOfTheDocumentsIsStored(t *testing.T) {
	s := newInstance(t, "", "--web.enable-otlp-receiver")
	s.start(t)
	ran := 0
	for _, snippet := range snippets(t) {
		if snippet.file != "otlp.md" || snippet.language != "sh" || !strings.Contains(snippet.text, "curl") {
			continue
		}
		ran++
		out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(snippet.text, "http://localhost:9090", s.url(""))).Output()
		if err != nil || string(out) != "{}" {
			t.Errorf("answer %q, %v", out, err)
		}
	}
	got, err := instant("http://"+s.addr, `orders_total{job="shop",payment="card"}`, time.Now())
	if err != nil || ran != 1 || len(got) != 1 {
		t.Errorf("%d commands, %v, %v", ran, got, err)
	}
}
