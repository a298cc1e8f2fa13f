// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"math"
	"strconv"

	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/model/textparse"
	promscrape "github.com/prometheus/prometheus/scrape"
)

// settings are what a scrape of a target needs of its job's configuration, of the target's labels and of the options.
type settings struct {
	job          string
	sampleLimit  int
	bucketLimit  int
	maxSchema    int32
	labelLimits  labelLimits
	honorLabels  bool
	honorTimes   bool
	trackTimes   bool
	relabel      []*relabel.Config
	validation   model.ValidationScheme
	extraMetrics bool
	parser       textparse.ParserOptions
	parseStart   bool
	synthesize   bool
	passMetadata bool
	plainText    bool // nothing asks for more than the text format has, so that readKnown may read it
}

// The labels by which a target has settings of its own. Prometheus does not export their names.
const (
	toNHCBLabel       = "__convert_classic_histograms_to_nhcb__"
	keepClassicLabel  = "__always_scrape_classic_histograms__"
	scrapeNativeLabel = "__scrape_native_histograms__"
)

func newSettings(cfg *promconfig.ScrapeConfig, e *endpoint, o *promscrape.Options) settings {
	s := settings{
		job:         cfg.JobName,
		sampleLimit: int(cfg.SampleLimit),
		bucketLimit: int(cfg.NativeHistogramBucketLimit),
		maxSchema:   schemaOf(cfg.NativeHistogramMinBucketFactor),
		labelLimits: labelLimits{
			count: int(cfg.LabelLimit), nameLength: int(cfg.LabelNameLengthLimit), valueLength: int(cfg.LabelValueLengthLimit),
		},
		honorLabels: cfg.HonorLabels, honorTimes: cfg.HonorTimestamps, trackTimes: cfg.TrackTimestampsStaleness,
		relabel: cfg.MetricRelabelConfigs, validation: cfg.MetricNameValidationScheme,
		extraMetrics: cfg.ExtraScrapeMetricsEnabled(),
		parseStart:   o.ParseST || o.EnableStartTimestampZeroIngestion,
		synthesize:   o.SynthesizeST,
		passMetadata: o.AppendMetadata,
	}
	s.parser = textparse.ParserOptions{
		EnableTypeAndUnitLabels:                 o.EnableTypeAndUnitLabels,
		IgnoreNativeHistograms:                  !e.boolLabel(scrapeNativeLabel, cfg.ScrapeNativeHistogramsEnabled()),
		ConvertClassicHistogramsToNHCB:          e.boolLabel(toNHCBLabel, cfg.ConvertClassicHistogramsToNHCBEnabled()),
		KeepClassicOnClassicAndNativeHistograms: e.boolLabel(keepClassicLabel, cfg.AlwaysScrapeClassicHistogramsEnabled()),
		OpenMetricsSkipSTSeries:                 s.parseStart,
		EnableOpenMetrics2:                      o.EnableOpenMetrics2,
		FallbackContentType:                     cfg.ScrapeFallbackProtocol.HeaderMediaType(),
	}
	s.plainText = !s.parser.EnableTypeAndUnitLabels && !s.parser.ConvertClassicHistogramsToNHCB && !s.synthesize
	return s
}

// boolLabel returns the value of a label of the target, or what the configuration says where it is no truth value.
func (e *endpoint) boolLabel(name string, configured bool) bool {
	if b, err := strconv.ParseBool(e.labels.Get(name)); err == nil {
		return b
	}
	return configured
}

// schemaOf returns the highest schema whose buckets grow by at least a factor.
func schemaOf(factor float64) int32 {
	if factor <= 1 {
		factor = 1.00271 // that of the schema with the most buckets
	}
	schema := math.Floor(-math.Log2(math.Log2(factor)))
	return int32(min(max(schema, float64(histogram.ExponentialSchemaMin)), float64(histogram.ExponentialSchemaMax)))
}
