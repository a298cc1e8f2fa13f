// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package remotewrite

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/tidemarkdb/tidemark/ingest"
)

const (
	// maxPooledBody is the largest buffer that is kept for the next request; requests of 2,000 samples take 1 MB.
	maxPooledBody = 4 << 20
	// firstRead is how much of a body is read without growing the buffer, which a slow sender holds.
	firstRead = 256 << 10
	// maxSnappyRatio is above what any snappy block can unpack to: a copy of 64 bytes takes 3.
	maxSnappyRatio = 64
)

// buffer holds a body, packed and unpacked.
type buffer struct {
	packed, plain []byte
	zstd          *zstd.Decoder // made when first needed
}

// shrink reports whether the buffer is small enough to be kept.
func (b *buffer) shrink() bool {
	return cap(b.packed) <= maxPooledBody && cap(b.plain) <= maxPooledBody
}

// read returns the unpacked body, which is valid until the buffer's next use. Memory is charged to req before it is
// allocated.
func (b *buffer) read(r *http.Request, req *ingest.Request, limit int) ([]byte, error) {
	encoding := strings.ToLower(r.Header.Get("Content-Encoding"))
	if encoding != "" && encoding != "snappy" && encoding != "zstd" {
		return nil, &statusError{http.StatusUnsupportedMediaType, fmt.Sprintf("content encoding %q is not accepted: send snappy or zstd", encoding)}
	}
	if err := b.readPacked(r, req, limit); err != nil {
		return nil, err
	}
	if encoding == "zstd" {
		return b.unzstd(req, limit)
	}
	return b.unsnappy(req, limit)
}

// readPacked reads the body. Its memory is made while it comes: what a sender says of its length costs nothing.
func (b *buffer) readPacked(r *http.Request, req *ingest.Request, limit int) error {
	tooLarge := &statusError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than the limit of %d bytes: send fewer samples per request", limit)}
	if r.ContentLength > int64(limit) {
		return tooLarge
	}
	b.packed = b.packed[:0]
	most := limit + 1 // one more, so that the end is seen without growing
	if r.ContentLength >= 0 {
		most = int(r.ContentLength) + 1
	}
	for room := 0; ; {
		if len(b.packed) == room {
			more := min(max(firstRead, room), most-room)
			if err := req.Charge(int64(more)); err != nil {
				return err
			}
			room += more
			b.packed = slices.Grow(b.packed, more)
		}
		n, err := r.Body.Read(b.packed[len(b.packed):room])
		b.packed = b.packed[:len(b.packed)+n]
		switch {
		case len(b.packed) > limit:
			return tooLarge
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return bodyError(len(b.packed), err)
		case len(b.packed) == most:
			return bodyError(len(b.packed), errors.New("it is longer than its header says"))
		}
	}
}

// bodyError is of a body that did not come whole, which may be because of the network: another try can go well.
func bodyError(n int, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errors.New("the rest did not come in time")
	}
	return &statusError{http.StatusServiceUnavailable, fmt.Sprintf("the body ended after %d bytes: %v", n, err)}
}

func (b *buffer) unsnappy(req *ingest.Request, limit int) ([]byte, error) {
	n, err := snappy.DecodedLen(b.packed)
	if err != nil {
		return nil, &statusError{http.StatusBadRequest, fmt.Sprintf("the body is not a snappy block: %v", err)}
	}
	if n > limit {
		return nil, &statusError{http.StatusBadRequest, fmt.Sprintf("the body unpacks to %d bytes, the limit is %d: send fewer samples per request", n, limit)}
	}
	if n > maxSnappyRatio*len(b.packed) {
		return nil, &statusError{http.StatusBadRequest, fmt.Sprintf("the body is not a snappy block: %d bytes cannot unpack to %d", len(b.packed), n)}
	}
	if err := b.reserve(req, n); err != nil {
		return nil, err
	}
	plain, err := snappy.Decode(b.plain[:cap(b.plain)], b.packed)
	if err != nil {
		return nil, &statusError{http.StatusBadRequest, fmt.Sprintf("the body is not a snappy block: %v", err)}
	}
	return plain, nil
}

// reserve makes room for a plain body of n bytes.
func (b *buffer) reserve(req *ingest.Request, n int) error {
	if err := req.Charge(int64(n)); err != nil {
		return err
	}
	if cap(b.plain) < n {
		b.plain = make([]byte, n)
	}
	return nil
}

func (b *buffer) unzstd(req *ingest.Request, limit int) ([]byte, error) {
	bad := func(err error) error {
		return &statusError{http.StatusBadRequest, fmt.Sprintf("the body is not a zstd frame of at most %d bytes: %v", limit, err)}
	}
	if b.zstd == nil {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(limit)),
			zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return nil, fmt.Errorf("make a zstd decoder: %w", err)
		}
		b.zstd = z
	}
	var head zstd.Header
	if err := head.Decode(b.packed); err != nil {
		return nil, bad(err)
	}
	n := limit // a frame need not say how much it holds
	if head.HasFCS {
		n = int(min(head.FrameContentSize, uint64(limit)))
	}
	for {
		if err := b.reserve(req, n); err != nil {
			return nil, err
		}
		plain, err := b.zstd.DecodeAll(b.packed, b.plain[:0:n]) // which does not grow
		switch {
		case err == nil:
			return plain, nil
		case n == limit || !errors.Is(err, zstd.ErrDecoderSizeExceeded):
			return nil, bad(err)
		}
		n = limit // more frames follow, of which the first one does not tell
	}
}
