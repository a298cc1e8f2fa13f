// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

const (
	mediaProto = "application/x-protobuf"
	mediaJSON  = "application/json"
)

// answer writes answers in the encoding of the request.
type answer struct{ json bool }

// success answers a request that was stored, wholly or in part.
func (a answer) success(w http.ResponseWriter, res result) {
	if res.rejected == 0 && res.message == "" { // partial_success must not be there, not even empty
		body := []byte(nil)
		if a.json {
			body = []byte("{}")
		}
		a.write(w, http.StatusOK, body)
		return
	}
	msg := pmetricotlp.NewExportResponse()
	msg.PartialSuccess().SetRejectedDataPoints(int64(res.rejected))
	msg.PartialSuccess().SetErrorMessage(res.message)
	encode := msg.MarshalProto
	if a.json {
		encode = msg.MarshalJSON
	}
	body, err := encode()
	if err != nil {
		a.failure(w, http.StatusInternalServerError, err)
		return
	}
	a.write(w, http.StatusOK, body)
}

// rpcCode is the gRPC code that stands for an HTTP status in a google.rpc.Status.
func rpcCode(status int) int {
	switch status {
	case http.StatusServiceUnavailable:
		return 14
	case http.StatusInternalServerError:
		return 13
	default:
		return 3 // invalid argument
	}
}

// failure answers a request of which nothing was stored, with a google.rpc.Status.
func (a answer) failure(w http.ResponseWriter, status int, err error) {
	if status == http.StatusServiceUnavailable {
		after := 5 * time.Second // OpenTelemetry's exporters wait as long after the first failure
		if e, ok := errors.AsType[*sample.UnavailableError](err); ok && e.RetryAfter > 0 {
			after = e.RetryAfter
		}
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
	}
	if a.json {
		body, jerr := json.Marshal(struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		}{rpcCode(status), err.Error()})
		if jerr != nil {
			body = []byte("{}")
		}
		a.write(w, status, body)
		return
	}
	body := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(rpcCode(status)))
	a.write(w, status, appendMessage(body, 2, []byte(err.Error())))
}

func (a answer) write(w http.ResponseWriter, status int, body []byte) {
	media := mediaProto
	if a.json {
		media = mediaJSON
	}
	w.Header().Set("Content-Type", media)
	w.WriteHeader(status)
	_, _ = w.Write(body) // nobody is there to be told
}
