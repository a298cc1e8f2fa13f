// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package graphite

import (
	"strings"
	"testing"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/push"
)

// FuzzLines looks for lines that end in anything but a sample or a mistake that is counted.
func FuzzLines(f *testing.F) {
	f.Add("servers.a.load 1.5 1700000000")
	f.Add("load;host=a;dc=b\t2 1700000000.25\n\nx 1 N")
	f.Fuzz(func(t *testing.T, text string) {
		store := &ingesttest.Recorder{}
		in, err := ingest.New(ingest.Options{Appender: store})
		if err != nil {
			t.Fatal(err)
		}
		r, err := push.New(push.Options{Intake: in})
		if err != nil {
			t.Fatal(err)
		}
		report, err := r.Take(t.Context(), push.Body{Format: plaintext{}, Reader: strings.NewReader(text)})
		blank := 0
		for line := range strings.SplitSeq(text, "\n") {
			if line = strings.TrimSuffix(line, "\r"); line != "" && strings.Trim(line, " \t") == "" {
				blank++
			}
		}
		if err != nil || report.Bad+report.Stored()+blank != report.Lines {
			t.Errorf("%q: %+v, %v", text, report, err)
		}
	})
}
