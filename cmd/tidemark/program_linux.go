// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mapping is a stretch of the program file in the memory of the process.
type mapping struct {
	from, to uintptr
	clean    bool // nothing in it is another than in the file
}

// releaseProgram gives the pages of the program file back that the process has looked at: most of them while it started, and
// many only because the kernel maps fifteen more around each. They stay in the page cache: one that is needed again
// costs a fault of a microsecond. Nothing is lost: only what is as it is in the file is given back.
func releaseProgram() error {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	found, err := programMappings(f, path)
	if err != nil {
		return fmt.Errorf("read /proc/self/smaps: %w", err)
	}
	for _, m := range found {
		if !m.clean {
			continue
		}
		// By number: it is memory that Go knows nothing of.
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("give the pages of the program back: %w", errno)
		}
	}
	return nil
}

// programMappings returns the mappings of a file that nobody can write to, of what /proc/self/smaps says.
func programMappings(smaps io.Reader, path string) ([]mapping, error) {
	var found []mapping
	of := false // the lines are about the last mapping found
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 6 && strings.Contains(fields[0], "-") { // from-to perms offset dev inode path
			of = fields[5] == path && len(fields) == 6 && (fields[1] == "r-xp" || fields[1] == "r--p")
			if of {
				var m mapping
				if _, err := fmt.Sscanf(fields[0], "%x-%x", &m.from, &m.to); err != nil {
					return nil, err
				}
				found = append(found, m)
			}
			continue
		}
		if of && len(fields) == 3 && fields[0] == "Anonymous:" {
			found[len(found)-1].clean = fields[1] == "0"
		}
	}
	return found, lines.Err()
}
