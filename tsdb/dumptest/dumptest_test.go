// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package dumptest

import "testing"

func TestOnlyTheDumpOfADocumentIsReplaced(t *testing.T) {
	const doc = "a\n" + begin + "old\n" + end + "\nb\n"
	was, after, err := with(doc, "new\n")
	if err != nil || was != "old\n" || after != "a\n"+begin+"new\n"+end+"\nb\n" {
		t.Errorf("%q, %q, %v", was, after, err)
	}
	for _, bad := range []string{"", "a" + begin + "old", "old" + end} {
		if _, _, err := with(bad, ""); err == nil {
			t.Errorf("a dump was found in %q", bad)
		}
	}
}
