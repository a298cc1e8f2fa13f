// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package otlp receives metrics by the OpenTelemetry protocol over HTTP.
//
// Its nouns: a Handler serves the route; a decoder walks over the messages of one body, whose bytes stay where they are;
// a translator asks Prometheus' own converter for the labels of a data point. The converter is slow and is asked about
// unknown series alone: the key of a series is a hash of the bytes that its labels are made from, the attributes of
// resource, scope and point, and the name, unit and type of the metric. So the names and labels are Prometheus' in every
// case, while a point of a known series costs two hashes. JSON bodies are turned into protobuf first. Accumulators sum
// deltas up where the feature for it is on.
//
// Answers are OTLP's: 200 once what could be stored is durable, with the number of data points that could not and why;
// 400, 413 and 415 for bodies that cannot be read; 503 with Retry-After while the store takes no writes; 500 for what is
// our fault.
//
// A Handler is safe for concurrent use and starts no goroutines. A request is charged its body and some 300 bytes for
// each row before they are allocated; a stream of deltas 320 bytes and its buckets until five minutes after its last point.
package otlp
