package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// clean makes a text fit to be shown on a terminal: names come from other people, and must not move the cursor, change
// colours, begin a line, or turn the direction of what stands beside them.
func clean(s string) string {
	if !strings.ContainsFunc(s, unfit) {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case unfit(r):
			return utf8.RuneError
		}
		return r
	}, s)
}

func unfit(r rune) bool {
	const joiner, nonJoiner = '\u200d', '\u200c' // parts of words and of emoji
	return r == utf8.RuneError || r != joiner && r != nonJoiner && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// columns is how many cells of a terminal a text takes.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += cells(r)
	}
	return n
}

func cells(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// cut shortens a text to at most so many cells, and marks that it did.
func cut(s string, most int) string {
	if columns(s) <= most {
		return s
	}
	if most < 1 {
		return ""
	}
	n := 0
	for i, r := range s {
		if n += cells(r); n > most-1 {
			return s[:i] + "…"
		}
	}
	return s
}

// ago is a time as people say it, from now on or back: "5m ago", "in 23h".
func ago(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := now.Sub(t)
	switch s := length(d.Abs()); {
	case d.Abs() > 100*day:
		return t.Local().Format("2006-01-02")
	case s == "0s":
		return "now"
	case d > 0:
		return s + " ago"
	default:
		return "in " + s
	}
}

const day = 24 * time.Hour

// length is a length of time in the one unit that suits it.
func length(d time.Duration) string {
	switch {
	case d.Round(time.Second) < time.Minute:
		return fmt.Sprintf("%ds", d.Round(time.Second)/time.Second)
	case d.Round(time.Minute) < time.Hour:
		return fmt.Sprintf("%dm", d.Round(time.Minute)/time.Minute)
	case d.Round(time.Hour) < 2*day:
		return fmt.Sprintf("%dh", d.Round(time.Hour)/time.Hour)
	}
	return fmt.Sprintf("%dd", d.Round(day)/day)
}

// instant is a time in full, with how long ago it was.
func instant(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	full := t.Local().Format("2006-01-02 15:04:05 MST")
	if near := ago(t, now); !strings.HasPrefix(full, near) {
		return full + " (" + near + ")"
	}
	return full
}

// grouped is a number with its thousands apart.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural is a number of things.
func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + many
}

// span is a length of time as people write it: 15m, 1h30m, 90d, 2w.
type span time.Duration

// UnmarshalText reads a span.
func (s *span) UnmarshalText(b []byte) error {
	d, err := parseSpan(string(b))
	*s = span(d)
	return err
}

var errSpan = errors.New("is no length of time such as 15m, 12h, 90d or 2w")

func parseSpan(text string) (time.Duration, error) {
	for unit, days := range map[string]int64{"d": 1, "w": 7} {
		if number, ok := strings.CutSuffix(text, unit); ok {
			n, err := strconv.ParseInt(number, 10, 64)
			if err != nil || n < 0 || n > 36500 {
				return 0, errSpan
			}
			return time.Duration(n*days) * day, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, errSpan
	}
	return d, nil
}

// parseWhen reads a time, or a span that counts from now in the given direction: -1 back, 1 on.
func parseWhen(text string, now time.Time, direction int) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	d, err := parseSpan(text)
	if err != nil {
		return time.Time{}, errors.New("is neither a time such as 2027-01-31T00:00:00Z nor a length of time such as 12h or 90d")
	}
	return now.Add(time.Duration(direction) * d), nil
}
