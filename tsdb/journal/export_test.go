// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// SetVersion makes a segment one of another format.
func SetVersion(t *testing.T, fsys fsx.FS, name string, version uint32) {
	t.Helper()
	f, err := fsys.OpenReadWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, dataStart)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	h, ok := decodeHeader(b)
	if !ok {
		t.Fatal("no header")
	}
	h.version = version
	if _, err := f.WriteAt(h.encode(), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
