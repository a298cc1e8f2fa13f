// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

func TestScrubFindsEveryChangedByteOfACheckpoint(t *testing.T) {
	x, p := sampleHead(t)
	defer p.Close()
	good := snapshotOf(t, x.h, p)
	if err := ScrubSnapshot(bytes.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	for at := range good {
		bad := slices.Clone(good)
		bad[at] ^= 1 << (at % 8)
		if err := ScrubSnapshot(bytes.NewReader(bad)); !isCorrupt(err) {
			t.Errorf("byte %d: %v", at, err)
		}
		if err := ScrubSnapshot(bytes.NewReader(good[:at])); !isCorrupt(err) {
			t.Errorf("cut to %d bytes: %v", at, err)
		}
	}
	failed := errors.New("the disk does not give it")
	if err := ScrubSnapshot(failingReader{failed}); !errors.Is(err, failed) || isCorrupt(err) {
		t.Errorf("a read error: %v", err)
	}
}

func isCorrupt(err error) bool {
	_, ok := errors.AsType[*CorruptError](err)
	return ok
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }
