// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"io/fs"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// CheckVersion returns a *VersionError where a segment in dir is of a version that this program does not know. It
// changes nothing, so that who keeps more than a journal can ask before changing any of it. What cannot be read is left to
// Open, a directory that is not there included.
func CheckVersion(fsys fsx.FS, dir string) error {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		n := segmentNumber(name)
		if n == 0 {
			continue
		}
		_, err := loadSegment(fsys, dir, n)
		if newer, ok := errors.AsType[*VersionError](err); ok {
			return newer
		}
	}
	return nil
}
