// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

// function is what is known about one function of PromQL.
type function struct {
	// floats is the kernel for a column of floats; it is what counts for a series without histograms.
	floats kernel
	// mixed is what a series with histograms gives.
	mixed mixedKernel
	args  int // scalar arguments
	// keepsName: the result is a sample of the series itself.
	keepsName bool
	// startTimes: the start timestamps of samples matter, where the query uses them.
	startTimes bool
	// counter: falling values are resets; perSecond: divided by the length of the window.
	counter, perSecond bool
	// advises: says when the metric does not look like a counter.
	advises            bool
	anchored, smoothed bool // the modifiers that it takes
}

// kernel fills a row from the floats of a series: out and kind of the frame where there is a result.
type kernel func(f *frame) error

// mixedKernel fills a row from a series that has histograms.
type mixedKernel func(m *mixed) error

func functionOf(name string) (function, bool) {
	fn, ok := rateFunction(name)
	if ok {
		return fn, true
	}
	switch name {
	case "avg_over_time":
		return function{floats: avgKernel, mixed: eitherKind(avgHistograms)}, true
	case "count_over_time":
		return function{floats: countKernel, mixed: countMixed}, true
	case "first_over_time":
		return function{floats: firstKernel, mixed: firstMixed, keepsName: true}, true
	case "last_over_time":
		return function{floats: lastKernel, mixed: lastMixed, keepsName: true}, true
	case "mad_over_time":
		return function{floats: madKernel, mixed: floatsOnly}, true
	case "max_over_time":
		return function{floats: maxKernel, mixed: floatsOnly}, true
	case "min_over_time":
		return function{floats: minKernel, mixed: floatsOnly}, true
	case "present_over_time", "absent_over_time":
		return function{floats: presentKernel, mixed: presentMixed}, true
	case "quantile_over_time":
		return function{floats: quantileKernel, mixed: floatsOnly, args: 1}, true
	case "stddev_over_time":
		return function{floats: stddevKernel, mixed: floatsOnly}, true
	case "stdvar_over_time":
		return function{floats: stdvarKernel, mixed: floatsOnly}, true
	case "sum_over_time":
		return function{floats: sumKernel, mixed: eitherKind(sumHistograms)}, true
	case "ts_of_first_over_time":
		return function{floats: firstTimeKernel, mixed: firstTimeMixed}, true
	case "ts_of_last_over_time":
		return function{floats: lastTimeKernel, mixed: lastTimeMixed}, true
	case "ts_of_max_over_time":
		return function{floats: maxTimeKernel, mixed: floatsOnly}, true
	case "ts_of_min_over_time":
		return function{floats: minTimeKernel, mixed: floatsOnly}, true
	}
	return function{}, false
}

func rateFunction(name string) (function, bool) {
	switch name {
	case "changes":
		return function{floats: changesKernel, mixed: changesMixed, anchored: true}, true
	case "resets":
		return function{floats: resetsKernel, mixed: resetsMixed, startTimes: true, anchored: true}, true
	case "delta":
		return function{floats: rateKernel, mixed: eitherKind(rateHistograms), anchored: true, smoothed: true}, true
	case "increase":
		return function{
			floats: rateKernel, mixed: eitherKind(rateHistograms), startTimes: true, counter: true, advises: true,
			anchored: true, smoothed: true,
		}, true
	case "rate":
		return function{
			floats: rateKernel, mixed: eitherKind(rateHistograms), startTimes: true, counter: true, advises: true,
			perSecond: true, anchored: true, smoothed: true,
		}, true
	case "irate":
		return function{floats: instantKernel, mixed: instantMixed, startTimes: true, counter: true, perSecond: true}, true
	case "idelta":
		return function{floats: instantKernel, mixed: instantMixed}, true
	case "deriv":
		return function{floats: derivKernel, mixed: floatsOnly}, true
	case "predict_linear":
		return function{floats: predictKernel, mixed: floatsOnly, args: 1}, true
	case "double_exponential_smoothing":
		return function{floats: smoothingKernel, mixed: smoothingMixed, args: 2}, true
	}
	return function{}, false
}
