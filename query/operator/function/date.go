// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import "time"

// date returns the functions of a time in seconds; nil: no such function.
func date(name string) func(sec int64) float64 {
	fast, slow := ofDay(name), ofTime(name)
	if fast == nil {
		return nil
	}
	return func(sec int64) float64 {
		if sec <= -common || sec >= common {
			return slow(time.Unix(sec, 0).UTC())
		}
		day := sec / secondsPerDay
		second := sec % secondsPerDay
		if second < 0 {
			day, second = day-1, second+secondsPerDay
		}
		return float64(fast(day, second))
	}
}

const (
	secondsPerDay = 24 * 3600
	// common is how many seconds before and after 1970 plain arithmetic gives what package time gives, which takes care
	// at the ends of its range. It is some 34,000 years.
	common = 1 << 40
)

// ofTime returns what the functions are.
func ofTime(name string) func(time.Time) float64 {
	switch name {
	case "minute":
		return func(t time.Time) float64 { return float64(t.Minute()) }
	case "hour":
		return func(t time.Time) float64 { return float64(t.Hour()) }
	case "day_of_week":
		return func(t time.Time) float64 { return float64(t.Weekday()) }
	case "day_of_month":
		return func(t time.Time) float64 { return float64(t.Day()) }
	case "day_of_year":
		return func(t time.Time) float64 { return float64(t.YearDay()) }
	case "days_in_month":
		return func(t time.Time) float64 {
			return float64(32 - time.Date(t.Year(), t.Month(), 32, 0, 0, 0, 0, time.UTC).Day())
		}
	case "month":
		return func(t time.Time) float64 { return float64(t.Month()) }
	case "year":
		return func(t time.Time) float64 { return float64(t.Year()) }
	default:
		return nil
	}
}

// ofDay returns the same as functions of the days since 1970 and the seconds of the day.
func ofDay(name string) func(day, second int64) int64 {
	switch name {
	case "minute":
		return func(_, second int64) int64 { return second / 60 % 60 }
	case "hour":
		return func(_, second int64) int64 { return second / 3600 }
	case "day_of_week":
		return func(day, _ int64) int64 {
			w := (day + 4) % 7 // it began with a Thursday
			if w < 0 {
				w += 7
			}
			return w
		}
	case "day_of_month":
		return func(day, _ int64) int64 { d := civil(day); return d.day }
	case "day_of_year":
		return func(day, _ int64) int64 { d := civil(day); return d.ofYear() }
	case "days_in_month":
		return func(day, _ int64) int64 { d := civil(day); return d.inMonth() }
	case "month":
		return func(day, _ int64) int64 { d := civil(day); return d.month }
	case "year":
		return func(day, _ int64) int64 { d := civil(day); return d.year }
	default:
		return nil
	}
}

// calendarDay is a day of the proleptic Gregorian calendar.
type calendarDay struct {
	year, month, day int64
	sinceMarch       int64 // days since the last first of March
}

const (
	daysPer400Years = 146097
	daysPer100Years = 36524
	daysPer4Years   = 1461
	// marchOfYear0 is how many days before 1970 the first of March of the year 0 was.
	marchOfYear0 = 719468
)

// civil returns the date of a day since 1970. Its years begin in March, so that the odd day comes last and the lengths
// of months repeat every five.
func civil(day int64) calendarDay {
	day += marchOfYear0
	era := day / daysPer400Years
	day %= daysPer400Years
	if day < 0 {
		era, day = era-1, day+daysPer400Years
	}
	// Leap days moved out of the way, years are of equal length.
	year := (day - day/(daysPer4Years-1) + day/daysPer100Years - day/(daysPer400Years-1)) / 365
	day -= 365*year + year/4 - year/100
	month := (5*day + 2) / 153
	c := calendarDay{year: 400*era + year, month: month + 3, day: day - (153*month+2)/5 + 1, sinceMarch: day}
	if c.month > 12 {
		c.year, c.month = c.year+1, c.month-12
	}
	return c
}

func (c *calendarDay) leap() int64 {
	if c.year%4 == 0 && (c.year%100 != 0 || c.year%400 == 0) {
		return 1
	}
	return 0
}

// ofYear returns the number of the day in its year, from 1.
func (c *calendarDay) ofYear() int64 {
	if c.month <= 2 {
		return c.sinceMarch - 306 + 1
	}
	return c.sinceMarch + 59 + c.leap() + 1
}

// inMonth returns how many days the month has.
func (c *calendarDay) inMonth() int64 {
	switch c.month {
	case 2:
		return 28 + c.leap()
	case 4, 6, 9, 11:
		return 30
	default:
		return 31
	}
}
