// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"testing"
	"time"

	"github.com/prometheus/common/model"
)

func TestTimesAreRead(t *testing.T) {
	check := func(s string, want time.Time) {
		t.Helper()
		got, err := parseTime(s)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v; want %v", s, got, err, want)
		}
	}
	check("0", time.Unix(0, 0))
	check("1.5", time.Unix(1, 5e8))
	check("-1.5", time.Unix(-1, -5e8))
	check("1543578564.705", time.Unix(1543578564, 705e6))
	check("1e9", time.Unix(1e9, 0))
	check("2015-06-03T13:21:58.555Z", time.Unix(1433337718, 555e6))
	check("2015-06-03T14:21:58.555+01:00", time.Unix(1433337718, 555e6))
	check("-292273086-05-16T16:47:06Z", minTime)
	check("292277025-08-18T07:12:54.999999999Z", maxTime)
	for _, s := range []string{"", "x", "NaN", "Inf", "-Inf", "1e300", "2015-06-03", "30m"} {
		if got, err := parseTime(s); err == nil {
			t.Errorf("%q was read as %v", s, got)
		}
	}
}

func TestDurationsAreRead(t *testing.T) {
	check := func(s string, want time.Duration) {
		t.Helper()
		got, err := parseDuration(s)
		if err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", s, got, err, want)
		}
	}
	check("1", time.Second)
	check("0.001", time.Millisecond)
	check("-5", -5*time.Second)
	check("5m", 5*time.Minute)
	check("1d", 24*time.Hour)
	check("1h30m", 90*time.Minute)
	for _, s := range []string{"", "x", "NaN", "Inf", "1e300", "9223372036.854775808", "5 m", "1.5h"} {
		if got, err := parseDuration(s); err == nil {
			t.Errorf("%q was read as %v", s, got)
		}
	}
}

func FuzzParameters(f *testing.F) {
	for _, s := range []string{"0", "-1.5", "1e18", "NaN", "9223372036854775807", "2015-06-03T13:21:58Z", "5m", "-292273086-05-16T16:47:06Z", "1ms", "0x1p-2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if ts, err := parseTime(s); err == nil {
			again, err := parseTime(ts.Format(time.RFC3339Nano))
			if y := ts.UTC().Year(); y >= 0 && y <= 9999 && (err != nil || !again.Equal(ts)) {
				t.Errorf("%q is %v, which is read back as %v, %v", s, ts, again, err)
			}
		}
		if d, err := parseDuration(s); err == nil && d > 0 && d%time.Millisecond == 0 {
			text := model.Duration(d).String()
			if again, err := parseDuration(text); err != nil || again != d {
				t.Errorf("%q is %v, and %q is %v, %v", s, d, text, again, err)
			}
		}
	})
}
