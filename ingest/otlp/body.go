// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/tidemarkdb/tidemark/ingest"
)

const (
	maxPooledBody = 4 << 20
	firstRead     = 64 << 10

	// maxJSONNesting is how deep objects and lists of a JSON body may be nested. A message takes 9 levels without the
	// values of attributes, and those four for each of theirs.
	maxJSONNesting = 9 + 4*maxNesting
	// jsonElementBytes bounds what an object, a list or an element of one takes once it is decoded.
	jsonElementBytes = 256
)

// body holds an unpacked body.
type body struct {
	plain []byte
	gzip  *gzip.Reader // made when first needed
}

// shrink reports whether the body is small enough to be kept.
func (b *body) shrink() bool { return cap(b.plain) <= maxPooledBody }

// read returns the unpacked body, which is valid until the next use of b. Memory is charged to req before it is allocated.
func (b *body) read(r *http.Request, req *ingest.Request, limit int) ([]byte, error) {
	if r.ContentLength > int64(limit) {
		return nil, tooLarge(limit)
	}
	from := io.Reader(r.Body)
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
	case "gzip":
		if b.gzip == nil {
			b.gzip = new(gzip.Reader)
		}
		if err := b.gzip.Reset(from); err != nil {
			return nil, badBody(0, err)
		}
		from = b.gzip
	default:
		return nil, &statusError{http.StatusUnsupportedMediaType, fmt.Sprintf("content encoding %q is not accepted: send gzip or no encoding", encoding)}
	}
	room := firstRead
	if from == io.Reader(r.Body) && r.ContentLength >= 0 {
		room = int(r.ContentLength) + 1 // one more, so that the end is seen without growing
	}
	return b.readAll(from, req, room, limit)
}

func (b *body) readAll(from io.Reader, req *ingest.Request, room, limit int) ([]byte, error) {
	b.plain = b.plain[:0]
	charged := 0
	for {
		if room = max(room, cap(b.plain)); room > charged {
			if err := req.Charge(int64(room - charged)); err != nil {
				return nil, err
			}
			charged = room
		}
		if cap(b.plain) < room {
			grown := make([]byte, len(b.plain), room)
			copy(grown, b.plain)
			b.plain = grown
		}
		n, err := from.Read(b.plain[len(b.plain):cap(b.plain)])
		b.plain = b.plain[:len(b.plain)+n]
		switch {
		case len(b.plain) > limit:
			return nil, tooLarge(limit)
		case errors.Is(err, io.EOF):
			return b.plain, nil
		case err != nil:
			return nil, badBody(len(b.plain), err)
		case len(b.plain) == cap(b.plain):
			room = 2 * cap(b.plain)
		}
	}
}

func tooLarge(limit int) error {
	return &statusError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than the limit of %d bytes: send fewer data points per request", limit)}
}

func badBody(at int, err error) error {
	return &statusError{http.StatusBadRequest, fmt.Sprintf("the body cannot be read beyond its first %d bytes: %v", at, err)}
}

// fromJSON turns a body in JSON into one in protobuf.
func fromJSON(plain []byte, req *ingest.Request) ([]byte, error) {
	elements, err := measureJSON(plain)
	if err != nil {
		return nil, err
	}
	if err := req.Charge(2*int64(len(plain)) + int64(elements)*jsonElementBytes); err != nil {
		return nil, err
	}
	msg := pmetricotlp.NewExportRequest()
	if err := msg.UnmarshalJSON(plain); err != nil {
		return nil, &statusError{http.StatusBadRequest, fmt.Sprintf("the body is no ExportMetricsServiceRequest in JSON: %v", err)}
	}
	out, err := msg.MarshalProto()
	if err != nil {
		return nil, fmt.Errorf("turn JSON into protobuf: %w", err)
	}
	return out, nil
}

// measureJSON returns how many objects, lists and elements a text holds at most, or that it is nested too deeply.
func measureJSON(text []byte) (elements int, err error) {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			elements++
			if depth++; depth > maxJSONNesting {
				return 0, &statusError{http.StatusBadRequest, fmt.Sprintf("the body is nested more than %d deep at byte %d", maxJSONNesting, i)}
			}
		case c == '}' || c == ']':
			depth--
		case c == ',':
			elements++
		}
	}
	return elements, nil
}
