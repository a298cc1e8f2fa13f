// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
)

// Size is an amount of bytes, absolute (8GiB) or as a share (60%) of something the setting names.
type Size struct {
	Bytes   int64
	Percent float64 // 0: Bytes counts
}

// Of returns the bytes of s, where total is what a share is of.
func (s Size) Of(total int64) int64 {
	if s.Percent > 0 {
		return int64(s.Percent / 100 * float64(total))
	}
	return s.Bytes
}

// sizeUnits are in the order in which String tries them.
var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1}}

// ParseSize reads "8GiB", "1.5GB", "60%" or "0".
func ParseSize(text string) (Size, error) {
	if text == "0" {
		return Size{}, nil
	}
	if number, ok := strings.CutSuffix(text, "%"); ok {
		p, err := strconv.ParseFloat(number, 64)
		if err != nil || math.IsNaN(p) || p < 0 || p > 100 {
			return Size{}, fmt.Errorf("%q is not a share between 0%% and 100%%", text)
		}
		return Size{Percent: p}, nil
	}
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil || math.IsNaN(n) || n < 0 || n*float64(u.bytes) >= math.MaxInt64 {
			break
		}
		return Size{Bytes: int64(n * float64(u.bytes))}, nil
	}
	return Size{}, fmt.Errorf("%q is not a size: write 512MiB, 8GiB or 60%%", text)
}

// String returns s in the form ParseSize reads.
func (s Size) String() string {
	if s.Percent > 0 {
		return strconv.FormatFloat(s.Percent, 'g', -1, 64) + "%"
	}
	if s.Bytes == 0 {
		return "0"
	}
	for _, u := range sizeUnits {
		if s.Bytes%u.bytes == 0 {
			return strconv.FormatInt(s.Bytes/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(s.Bytes, 10) + "B"
}

// UnmarshalText reads what ParseSize reads.
func (s *Size) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSize(string(text))
	return err
}

// MarshalText writes what String returns.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Duration is a span of time in Prometheus' notation: 90s, 1h30m, 7d.
type Duration = model.Duration

// Window is how far back late samples are taken: a duration, or as far as the retention.
type Window struct {
	Retention bool
	Duration  Duration // counts unless Retention
}

// String returns w in the form UnmarshalText reads.
func (w Window) String() string {
	if w.Retention {
		return "retention"
	}
	return w.Duration.String()
}

// UnmarshalText reads "retention" or a duration.
func (w *Window) UnmarshalText(text []byte) error {
	if string(text) == "retention" {
		*w = Window{Retention: true}
		return nil
	}
	d, err := model.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is neither a duration such as 2h nor the word retention", text)
	}
	*w = Window{Duration: d}
	return nil
}

// MarshalText writes what String returns.
func (w Window) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// Count is a number of things, or the word auto: as many as the memory limit holds.
type Count struct {
	Auto bool
	N    int64 // counts unless Auto
}

// String returns c in the form UnmarshalText reads.
func (c Count) String() string {
	if c.Auto {
		return "auto"
	}
	return strconv.FormatInt(c.N, 10)
}

// UnmarshalText reads "auto" or a number above zero.
func (c *Count) UnmarshalText(text []byte) error {
	if string(text) == "auto" {
		*c = Count{Auto: true}
		return nil
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || n <= 0 {
		return errors.New(strconv.Quote(string(text)) + " is neither a number above 0 nor the word auto")
	}
	*c = Count{N: n}
	return nil
}

// MarshalText writes what String returns.
func (c Count) MarshalText() ([]byte, error) { return []byte(c.String()), nil }
