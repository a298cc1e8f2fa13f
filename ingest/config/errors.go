// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"gopkg.in/yaml.v3"
)

// Error is a mistake in a configuration file.
type Error struct {
	File string
	Line int    // 1 is the first; 0: not known
	Msg  string // what is wrong and what to do
	Err  error  // the cause, may be nil
}

// Error returns file:line: message.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Msg
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors:\s+)?line (\d+): `)

// fromYAML turns an error of either YAML library, which name the line in their text only, into an *Error.
func fromYAML(file string, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		e.File = file
		return e
	}
	msg := err.Error()
	if te, ok := errors.AsType[*yaml.TypeError](err); ok && len(te.Errors) > 0 {
		msg = te.Errors[0]
	}
	out := &Error{File: file, Msg: msg, Err: err}
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		out.Line, _ = strconv.Atoi(m[1])
		out.Msg = msg[len(m[0]):]
	}
	return out
}
