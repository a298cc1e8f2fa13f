// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"time"
)

// date returns the functions of a time in seconds; nil: no such function.
func date(name string) func(sec int64) float64 {
	switch name {
	case "minute":
		return func(s int64) float64 {
			if common(s) {
				return float64(floorMod(s, 3600) / 60)
			}
			return float64(utc(s).Minute())
		}
	case "hour":
		return func(s int64) float64 {
			if common(s) {
				return float64(floorMod(s, secondsPerDay) / 3600)
			}
			return float64(utc(s).Hour())
		}
	case "day_of_week":
		return func(s int64) float64 {
			if common(s) {
				// The first of January 1970 was a Thursday.
				return float64(floorMod((s-floorMod(s, secondsPerDay))/secondsPerDay+4, 7))
			}
			return float64(utc(s).Weekday())
		}
	case "day_of_month":
		return func(s int64) float64 { return float64(utc(s).Day()) }
	case "day_of_year":
		return func(s int64) float64 { return float64(utc(s).YearDay()) }
	case "days_in_month":
		return func(s int64) float64 {
			t := utc(s)
			return float64(32 - time.Date(t.Year(), t.Month(), 32, 0, 0, 0, 0, time.UTC).Day())
		}
	case "month":
		return func(s int64) float64 { return float64(utc(s).Month()) }
	case "year":
		return func(s int64) float64 { return float64(utc(s).Year()) }
	default:
		return nil
	}
}

const secondsPerDay = 24 * 3600

// common tells whether plain arithmetic does for a time, without the care that package time takes at the ends of its
// range: some thousand years around now.
func common(sec int64) bool { return sec > -1<<40 && sec < 1<<40 }

func floorMod(a, b int64) int64 {
	if m := a % b; m >= 0 {
		return m
	}
	return a%b + b
}

func utc(sec int64) time.Time { return time.Unix(sec, 0).UTC() }
