// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	promscrape "github.com/prometheus/prometheus/scrape"
)

var errNoZstd = errors.New(`received a zstd-compressed response, but the "zstd-scrape" feature flag is not enabled`)

// fetcher asks a target for its samples.
type fetcher struct {
	client  *http.Client
	target  *promscrape.Target
	readers *readers
	header  http.Header
	limit   int64 // of the body's bytes, 0 for none
	zstd    bool
	last    int // bytes of the last body

	request *http.Request // made with the first scrape
}

// body is what a target answered.
type body struct {
	bytes       []byte
	contentType string
	buf         *bytes.Buffer // to be given back
}

// readers lends what a body is read with. It takes some 100 KB: targets have it only while they are read.
type readers struct{ gzip, zstd, buffers sync.Pool }

func newReaders() *readers {
	const window = 8 << 20
	r := &readers{}
	r.gzip.New = func() any { return new(gzip.Reader) }
	r.buffers.New = func() any { return new(bytes.Buffer) }
	r.zstd.New = func() any {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(window))
		if err != nil {
			return nil
		}
		return d
	}
	return r
}

// release gives the memory of a body back.
func (r *readers) release(b *body) {
	const most = 32 << 20 // larger ones are left to the collector
	if b.buf != nil && b.buf.Cap() <= most {
		b.buf.Reset()
		r.buffers.Put(b.buf)
	}
	*b = body{}
}

// newHeader is what every request to a target says.
func newHeader(cfg *promconfig.ScrapeConfig, zstd bool, timeout time.Duration) http.Header {
	encoding := "identity"
	switch {
	case cfg.EnableCompression && zstd:
		encoding = "zstd,gzip"
	case cfg.EnableCompression:
		encoding = "gzip"
	}
	scheme, _ := promconfig.ToEscapingScheme(cfg.MetricNameEscapingScheme, cfg.MetricNameValidationScheme) // it was checked
	return http.Header{
		"Accept":                              {accepted(cfg.ScrapeProtocols, scheme)},
		"Accept-Encoding":                     {encoding},
		"User-Agent":                          {promscrape.UserAgent},
		"X-Prometheus-Scrape-Timeout-Seconds": {strconv.FormatFloat(timeout.Seconds(), 'f', -1, 64)},
	}
}

// accepted lists the protocols, the first with the greatest weight, and at last anything.
func accepted(protocols []promconfig.ScrapeProtocol, scheme model.EscapingScheme) string {
	weight := len(promconfig.ScrapeProtocolsHeaders) + 1
	var all []string
	for _, p := range protocols {
		v := promconfig.ScrapeProtocolsHeaders[p]
		if p == promconfig.PrometheusText1_0_0 || p == promconfig.OpenMetricsText1_0_0 {
			v += ";" + model.EscapingKey + "=" + scheme.String()
		}
		all = append(all, fmt.Sprintf("%s;q=0.%d", v, weight))
		weight--
	}
	return strings.Join(append(all, fmt.Sprintf("*/*;q=0.%d", weight)), ",")
}

// fetch asks the target and reads its answer. A body of at least limit bytes is an error, which comes with its first bytes.
func (f *fetcher) fetch(ctx context.Context) (b body, err error) {
	if f.request == nil {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, f.target.URL().String(), http.NoBody)
		if err != nil {
			return body{}, err
		}
		r.Header = f.header
		f.request = r
	}
	resp, err := f.client.Do(f.request.WithContext(ctx))
	if err != nil {
		return body{}, err
	}
	defer func() {
		_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is used again
		_ = resp.Body.Close()
	}()
	if resp.StatusCode != http.StatusOK {
		return body{}, fmt.Errorf("server returned HTTP status %s", resp.Status)
	}
	buf, _ := f.readers.buffers.Get().(*bytes.Buffer)
	buf.Grow(f.last + bytes.MinRead)
	b = body{contentType: resp.Header.Get("Content-Type"), buf: buf}
	err = f.readAll(buf, resp)
	b.bytes = buf.Bytes()
	if err == nil && len(b.bytes) > 0 { // an empty answer now and then is no reason to begin with little room
		f.last = len(b.bytes) + 1
	}
	return b, err
}

func (f *fetcher) readAll(to *bytes.Buffer, resp *http.Response) error {
	var from io.Reader = resp.Body
	switch resp.Header.Get("Content-Encoding") {
	case "gzip":
		r, _ := f.readers.gzip.Get().(*gzip.Reader)
		defer f.readers.gzip.Put(r)
		if err := r.Reset(resp.Body); err != nil {
			return err
		}
		from = r
	case "zstd":
		if !f.zstd {
			return errNoZstd
		}
		r, ok := f.readers.zstd.Get().(*zstd.Decoder)
		if !ok {
			return errors.New("make a reader of zstd")
		}
		defer func() {
			_ = r.Reset(nil)
			f.readers.zstd.Put(r)
		}()
		if err := r.Reset(resp.Body); err != nil {
			return err
		}
		from = r
	}
	limit := f.limit
	if limit <= 0 {
		limit = math.MaxInt64
	}
	n, err := to.ReadFrom(io.LimitReader(from, limit))
	if err == nil && n >= limit {
		err = errBodySize
	}
	return err
}

// newClient makes the client of a job; of targets behind a socket each path has one of its own, since a client would use
// connections to one socket for another.
func newClient(cfg *promconfig.ScrapeConfig, socket string, options []commonconfig.HTTPClientOption) (*http.Client, error) {
	if socket != "" {
		dial := commonconfig.WithDialContextFunc(func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		})
		options = append([]commonconfig.HTTPClientOption{dial}, options...)
	}
	c, err := commonconfig.NewClientFromConfig(cfg.HTTPClientConfig, cfg.JobName, options...)
	if err != nil {
		return nil, fmt.Errorf("error creating HTTP client: %w", err)
	}
	return c, nil
}

// failing answers every request with an error.
type failing struct{ err error }

// RoundTrip returns the error.
func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }
