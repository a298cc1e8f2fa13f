// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
)

const (
	batchSamples = 2000 // in a request
	connections  = 4    // that requests are sent over
)

// requestWriter makes remote-write 1.0 requests of batchSamples samples. Prometheus' own messages would be built and
// marshalled for every sample; here a series' labels are encoded once.
type requestWriter struct {
	msg, sample []byte
	n           int // samples in msg
	done        [][]byte
}

// add adds one sample of the series with these encoded labels.
func (w *requestWriter) add(labels []byte, t int64, v float64) {
	w.sample = binary.LittleEndian.AppendUint64(append(w.sample[:0], 0x09), math.Float64bits(v))
	w.sample = binary.AppendUvarint(append(w.sample, 0x10), uint64(t))
	w.msg = binary.AppendUvarint(append(w.msg, 0x0a), uint64(len(labels)+2+len(w.sample)))
	w.msg = append(append(append(w.msg, labels...), 0x12, byte(len(w.sample))), w.sample...)
	if w.n++; w.n == batchSamples {
		w.end()
	}
}

func (w *requestWriter) end() {
	if w.n > 0 {
		w.done = append(w.done, snappy.Encode(nil, w.msg))
		w.msg, w.n = w.msg[:0], 0
	}
}

// take ends the request under way and returns all of them, compressed.
func (w *requestWriter) take() [][]byte {
	w.end()
	out := w.done
	w.done = nil
	return out
}

// encodeLabels returns names and values as the label fields of a TimeSeries message.
func encodeLabels(pairs []string) []byte {
	var out []byte
	for k := 0; k < len(pairs); k += 2 {
		var m []byte
		m = append(binary.AppendUvarint(append(m, 0x0a), uint64(len(pairs[k]))), pairs[k]...)
		m = append(binary.AppendUvarint(append(m, 0x12), uint64(len(pairs[k+1]))), pairs[k+1]...)
		out = append(binary.AppendUvarint(append(out, 0x0a), uint64(len(m))), m...)
	}
	return out
}

// newClient is a client that keeps its connections, and does not ask for compressed answers by itself.
func newClient(tb testing.TB) *http.Client {
	tb.Helper()
	client := &http.Client{
		Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: connections}, Timeout: 5 * time.Minute,
	}
	tb.Cleanup(client.CloseIdleConnections)
	return client
}

// send posts remote-write requests to a server over four connections, each answer awaited before the next is sent
// on its connection. It returns how long each answer took.
func send(tb testing.TB, client *http.Client, base string, requests [][]byte) []time.Duration {
	tb.Helper()
	next := make(chan int)
	took := make([]time.Duration, len(requests))
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			for i := range next {
				began := time.Now()
				if err := sendOne(tb.Context(), client, base+"/api/v1/write", requests[i]); err != nil {
					tb.Error(err)
				}
				took[i] = time.Since(began)
			}
		})
	}
	for i := range requests {
		next <- i
	}
	close(next)
	wg.Wait()
	return took
}

func sendOne(ctx context.Context, client *http.Client, url string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Encoding", "snappy")
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("answer %s: %s", resp.Status, text)
	}
	return err
}
