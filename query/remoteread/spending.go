// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package remoteread

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// heldFactor is how many times as many bytes as on the wire an answer takes, unpacked.
const heldFactor = 2

// spending is what a selection has charged for the answers of remotes. It goes with the context of their requests.
type spending struct {
	account *budget.Account
	bytes   atomic.Int64
	refused atomic.Pointer[budget.ExceededError] // why an answer was not read to its end
}

type spendingKey struct{}

func (s *spending) within(ctx context.Context) context.Context {
	return context.WithValue(ctx, spendingKey{}, s)
}

// take charges n bytes.
func (s *spending) take(n int64) error {
	err := s.account.Reserve(n)
	if err == nil {
		s.bytes.Add(n)
		return nil
	}
	if refused, ok := errors.AsType[*budget.ExceededError](err); ok {
		s.refused.Store(refused)
	}
	return err
}

// giveBack releases all that was charged.
func (s *spending) giveBack() { s.account.Release(s.bytes.Swap(0)) }

// charging charges answers while they are read, so that none is held that there is no room for.
type charging struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (c charging) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(r)
	if s, ok := r.Context().Value(spendingKey{}).(*spending); ok && err == nil {
		packed := strings.HasPrefix(resp.Header.Get("Content-Type"), "application/x-protobuf")
		resp.Body = &chargedBody{ReadCloser: resp.Body, spending: s, packed: packed}
	}
	return resp, err
}

// chargedBody is the body of an answer: frames of chunks, or samples packed by snappy, which begin with how long they are
// unpacked.
type chargedBody struct {
	io.ReadCloser
	*spending
	packed bool
	begin  []byte // of a packed body
	known  bool   // it has been charged for being unpacked
}

// Read implements io.Reader.
func (b *chargedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if taken := b.take(int64(n) + b.unpacked(p[:n])); taken != nil {
		return n, taken
	}
	return n, err
}

// unpacked returns what the next bytes of the body say that it takes beside them.
func (b *chargedBody) unpacked(next []byte) int64 {
	if !b.packed {
		return (heldFactor - 1) * int64(len(next))
	}
	if b.known {
		return 0
	}
	b.begin = append(b.begin, next[:min(len(next), binary.MaxVarintLen64)]...)
	size, used := binary.Uvarint(b.begin)
	b.known = used != 0
	return heldFactor * int64(min(size, mostUnpacked))
}

// mostUnpacked is more than snappy unpacks.
const mostUnpacked = 1 << 40
