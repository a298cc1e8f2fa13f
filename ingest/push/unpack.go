// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package push

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/klauspost/compress/zstd"
)

const (
	// bombRatio is more than text of samples is packed by; gzip can pack zeros a thousandfold.
	bombRatio = 400
	// bombFloor is how much may be unpacked whatever the ratio.
	bombFloor = 16 << 20
	// zstdWindow bounds what a frame of zstd makes its reader keep; the format's specification asks for 8 MiB.
	zstdWindow = 8 << 20
)

// unpacked reads a body through its content encoding, in bounded memory, and gives up on one that unpacks to absurdly much.
type unpacked struct {
	packed counted
	plain  io.Reader
	zstd   *zstd.Decoder
	n      int64 // bytes unpacked
}

// unpack returns the body of a request.
func unpack(r *http.Request) (*unpacked, error) {
	u := &unpacked{packed: counted{r: r.Body}}
	switch encoding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))); encoding {
	case "", "identity":
		u.plain = &u.packed
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(&u.packed)
		if err != nil {
			return nil, &BodyError{Err: fmt.Errorf("the body is no gzip stream: %w", err)}
		}
		u.plain = z
	case "zstd":
		z, err := zstd.NewReader(&u.packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, &BodyError{Err: fmt.Errorf("the body is no zstd stream: %w", err)}
		}
		u.plain, u.zstd = z, z
	default:
		return nil, &encodingError{encoding}
	}
	return u, nil
}

// encodingError names a content encoding that is not read.
type encodingError struct{ encoding string }

// Error says what can be sent instead.
func (e *encodingError) Error() string {
	return fmt.Sprintf("content encoding %q is not accepted: send the body as it is, or by gzip or zstd", e.encoding)
}

// Read implements io.Reader.
func (u *unpacked) Read(b []byte) (int, error) {
	n, err := u.plain.Read(b)
	u.n += int64(n)
	if u.n > bombFloor && u.n/bombRatio > u.packed.n {
		return 0, fmt.Errorf("%d bytes unpacked to %d: a body of samples does not", u.packed.n, u.n)
	}
	if err != nil && !errors.Is(err, io.EOF) && u.plain != io.Reader(&u.packed) {
		err = fmt.Errorf("unpack: %w", err)
	}
	return n, err
}

// Close gives the decoder's memory back.
func (u *unpacked) Close() {
	if u.zstd != nil {
		u.zstd.Close()
	}
}

// counted counts what was read of a body.
type counted struct {
	r io.Reader
	n int64
}

// Read implements io.Reader.
func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}
