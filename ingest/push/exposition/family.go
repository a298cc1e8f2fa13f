// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exposition

import (
	"bytes"
	"strings"

	"github.com/tidemarkdb/tidemark/ingest/push"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// family is what a text says about the metrics that follow.
type family struct {
	name            string // empty: nothing was said yet
	typ, help, unit string
	kind            kind
	hash            uint32 // of all; 0: not yet made
}

// of begins what is said about the metrics of a name, unless it is the name at hand.
func (m *family) of(name []byte) {
	if m.name != string(name) {
		*m = family{name: string(name)}
	}
	m.hash = 0
}

// setType reports whether there is such a type in the text format.
func (m *family) setType(typ string) bool {
	switch typ {
	case "counter", "gauge", "histogram", "summary":
		m.typ = typ
	case "untyped":
		m.typ = "unknown"
	default:
		return false
	}
	m.kind = kindOf(typ)
	return true
}

func kindOf(typ string) kind {
	switch typ {
	case "histogram":
		return histogram
	case "summary":
		return summary
	default:
		return bare
	}
}

// suffixes are what the names of a family's series have behind its own.
var suffixes = [...]string{"_bucket", "_count", "_sum", "_total", "_created", "_info", "_gcount", "_gsum"}

// covers reports whether a series, as it is written, is of the family.
func (m *family) covers(series []byte) bool {
	if m.name == "" {
		return false
	}
	series = bytes.TrimPrefix(series, []byte(`{"`))
	if len(series) < len(m.name) || string(series[:len(m.name)]) != m.name {
		return false
	}
	rest := series[len(m.name):]
	for _, s := range suffixes {
		if len(rest) >= len(s) && string(rest[:len(s)]) == s {
			rest = rest[len(s):]
			break
		}
	}
	return len(rest) == 0 || strings.IndexByte("{ \t\"\xff", rest[0]) >= 0
}

// describe gives the series that began last what is known of its family.
func (m *family) describe(f *push.Feed) {
	if m.hash == 0 {
		key := f.Hash(typeSpace, []byte(m.typ+"\xff"+m.unit+"\xff"+m.help))
		m.hash = uint32(key.Lo) | 1
	}
	f.Metadata(m.hash, func() sample.Metadata {
		typ := m.typ
		if typ == "" {
			typ = "unknown"
		}
		return sample.Metadata{Type: typ, Unit: m.unit, Help: m.help}
	})
}
