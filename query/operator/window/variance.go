// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"math"

	"github.com/prometheus/prometheus/util/kahansum"
)

// stddevKernel is stddev_over_time.
func stddevKernel(f *frame) error {
	f.mark()
	return f.addEach(func(v []float64) float64 { return math.Sqrt(varianceWindow(v)) })
}

// stdvarKernel is stdvar_over_time.
func stdvarKernel(f *frame) error {
	f.mark()
	return f.addEach(varianceWindow)
}

// varianceWindow is the variance of a window as Prometheus computes it: Welford's method, compensated.
func varianceWindow(v []float64) float64 {
	var count, mean, cMean, aux, cAux float64
	for _, x := range v {
		count++
		delta := x - (mean + cMean)
		mean, cMean = kahansum.Inc(delta/count, mean, cMean)
		aux, cAux = kahansum.Inc(float64(delta*(x-(mean+cMean))), aux, cAux)
	}
	return (aux + cAux) / count
}
