// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"errors"
	"strings"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// CheckVersion returns a *NewerVersionError where name, the file of a block or a part, is of a version, or needs a feature,
// that this program does not know. It reads the frame of the file alone. That a file is damaged, or cannot be read, is for
// Open and OpenPart to say.
func CheckVersion(fsys fsx.FS, name string) error {
	f, err := fsys.Open(name)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }() // it was only read
	b := &Block{fs: fsys, name: name, file: f}
	if strings.HasSuffix(name, PartSuffix) {
		b.features = featurePart
	}
	if b.size, err = f.Size(); err != nil {
		return nil
	}
	_, err = b.loadFooter()
	if newer, ok := errors.AsType[*NewerVersionError](err); ok {
		return newer
	}
	return nil
}
