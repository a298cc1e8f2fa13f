// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/tidemarkdb/tidemark/ingest"
)

const (
	maxPooledBody = 4 << 20
	firstRead     = 256 << 10

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

// arriving is a body on its way; it remembers why it did not come whole.
type arriving struct {
	from io.Reader
	err  error
}

// Read reads on.
func (a *arriving) Read(p []byte) (int, error) {
	n, err := a.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		a.err = err
	}
	return n, err
}

// read returns the unpacked body, which is valid until the next use of b. Memory is charged to req as it is needed: what a
// sender says of the length costs nothing.
func (b *body) read(r *http.Request, req *ingest.Request, limit int) ([]byte, error) {
	if r.ContentLength > int64(limit) {
		return nil, tooLarge(limit)
	}
	wire := &arriving{from: r.Body}
	from, most := io.Reader(wire), limit+1 // one more, so that the end is seen without growing
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
		if r.ContentLength >= 0 {
			most = int(r.ContentLength) + 1
		}
	case "gzip":
		if b.gzip == nil {
			b.gzip = new(gzip.Reader)
		}
		if err := b.gzip.Reset(from); err != nil {
			return nil, badBody(0, wire, err)
		}
		from = b.gzip
	default:
		return nil, &statusError{http.StatusUnsupportedMediaType, fmt.Sprintf("content encoding %q is not accepted: send gzip or no encoding", encoding)}
	}
	b.plain = b.plain[:0]
	for room := 0; ; {
		if len(b.plain) == room {
			more := min(max(firstRead, room), most-room)
			if err := req.Charge(int64(more)); err != nil {
				return nil, err
			}
			room += more
			b.plain = slices.Grow(b.plain, more)
		}
		n, err := from.Read(b.plain[len(b.plain):room])
		b.plain = b.plain[:len(b.plain)+n]
		switch {
		case len(b.plain) > limit:
			return nil, tooLarge(limit)
		case errors.Is(err, io.EOF):
			return b.plain, nil
		case err != nil:
			return nil, badBody(len(b.plain), wire, err)
		case len(b.plain) == most:
			return nil, badBody(len(b.plain), wire, errors.New("it is longer than its header says"))
		}
	}
}

func tooLarge(limit int) error {
	return &statusError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than the limit of %d bytes: send fewer data points per request", limit)}
}

// badBody is of a body that cannot be read. Where it did not come whole, another try can go well.
func badBody(at int, wire *arriving, err error) error {
	code := http.StatusBadRequest
	if wire.err != nil {
		code, err = http.StatusServiceUnavailable, wire.err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errors.New("the rest did not come in time")
	}
	return &statusError{code, fmt.Sprintf("the body cannot be read beyond its first %d bytes: %v", at, err)}
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
