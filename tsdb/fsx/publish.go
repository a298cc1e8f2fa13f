// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package fsx

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// TempSuffix ends the name of a file that Publish has not finished. What ends so after a crash is garbage.
const TempSuffix = ".tmp"

// publishBuffer is the size of the writes of Publish: large enough that their cost per byte vanishes.
const publishBuffer = 256 << 10

// Publish makes the file name hold what write writes: all of it, surviving a crash, once Publish has returned
// nil, and what was there before when it returns an error, but for an error of the last directory sync, after
// which either may be found following a crash. Two concurrent calls for one name are the caller's mistake.
func Publish(fsys FS, name string, write func(w io.Writer) error) error {
	temp := name + TempSuffix
	if err := writeTemp(fsys, temp, write); err != nil {
		return fmt.Errorf("publish %s: %w", name, errors.Join(err, removeIfThere(fsys, temp)))
	}
	if err := fsys.Rename(temp, name); err != nil {
		return fmt.Errorf("publish %s: %w", name, errors.Join(err, removeIfThere(fsys, temp)))
	}
	if err := fsys.SyncDir(path.Dir(name)); err != nil {
		return fmt.Errorf("publish %s: sync its directory: %w", name, err)
	}
	return nil
}

func writeTemp(fsys FS, temp string, write func(w io.Writer) error) error {
	f, err := fsys.Create(temp)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(io.NewOffsetWriter(f, 0), publishBuffer)
	err = write(w)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.SyncData()
	}
	return errors.Join(err, f.Close())
}

func removeIfThere(fsys FS, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// RemoveTemp removes what unfinished calls of Publish have left in dir.
func RemoveTemp(fsys FS, dir string) error {
	names, err := fsys.List(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if strings.HasSuffix(name, TempSuffix) {
			errs = append(errs, removeIfThere(fsys, path.Join(dir, name)))
		}
	}
	return errors.Join(errs...)
}

// MakeDir makes dir and its missing parents so that their names survive a crash.
func MakeDir(fsys FS, dir string) error {
	dir = path.Clean(dir)
	var missing []string // deepest first
	for d := dir; ; d = path.Dir(d) {
		st, err := fsys.Stat(d)
		if err == nil && !st.Dir {
			return fmt.Errorf("make directory %s: %s is a file: move it away", dir, d)
		}
		if err == nil || d == path.Dir(d) {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		missing = append(missing, d)
	}
	if len(missing) == 0 {
		return nil
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	for _, d := range missing {
		if err := fsys.SyncDir(path.Dir(d)); err != nil {
			return fmt.Errorf("sync directory %s: %w", path.Dir(d), err)
		}
	}
	return nil
}

// ReadFile returns the contents of a file.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := readAll(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return data, f.Close()
}

func readAll(f File) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	n, err := f.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return data[:n], nil
}
