// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"
)

func TestTopRemembersNoMoreThanTheText(t *testing.T) {
	form := strings.Repeat("x", 1<<20)
	var s topSet
	s.add(Top{Query: form[10:12], Count: 1, Last: time.Now()})
	for key, x := range s.all {
		for _, text := range []string{key.text, x.Query} {
			at := uintptr(unsafe.Pointer(unsafe.StringData(text)))
			if from := uintptr(unsafe.Pointer(unsafe.StringData(form))); at >= from && at < from+uintptr(len(form)) {
				t.Error("the whole form is remembered with the text")
			}
		}
	}
	s.add(Top{Query: strings.Repeat("x", maxTopText-1) + "éé", Count: 1})
	for _, x := range s.top("no such order", 5) {
		if !utf8.ValidString(x.Query) || len(x.Query) > maxTopText {
			t.Errorf("a text was cut within a letter: %q", x.Query[len(x.Query)-4:])
		}
	}
}
