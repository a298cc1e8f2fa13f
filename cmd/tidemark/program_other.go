// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import "errors"

// releaseProgram does nothing: only Linux tells which pages are as they are in the file.
func releaseProgram() error { return errors.ErrUnsupported }
