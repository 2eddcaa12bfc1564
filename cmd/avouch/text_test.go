package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain, ünïcödé 名前 👩\u200d🚀": "plain, ünïcödé 名前 👩\u200d🚀",
		"\x1b[2Jgone":                    "�[2Jgone",
		"\u009b31mred":                   "�31mred",
		"two\nlines\tand\rmore":          "two lines and more",
		"\u202egnp.exe":                  "�gnp.exe",
		"\u2066hidden\u2069 \u200bspace": "�hidden� �space",
		"bad \xff byte":                  "bad � byte",
		"line\u2028separator":            "line�separator",
		"\x00\x07\x7f":                   "���",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q; want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("\x1b]0;title\x07 \u202e \xff", 7)
	f.Add("名前\u0301", 3)
	f.Fuzz(func(t *testing.T, s string, most int) {
		got := clean(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
			t.Errorf("clean(%q) = %q", s, got)
		}
		if most = min(max(most, 0), 200); columns(cut(got, most)) > most {
			t.Errorf("cut(%q, %d) = %q", got, most, cut(got, most))
		}
	})
}

func TestCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		most int
		want string
	}{
		{"short", 5, "short"}, {"longer", 5, "long…"}, {"名前は長い", 5, "名前…"}, {"名前は長い", 4, "名…"}, {"x", 0, ""}, {"xy", 1, "…"}, {"e\u0301e\u0301", 2, "e\u0301e\u0301"},
	} {
		if got := cut(c.in, c.most); got != c.want {
			t.Errorf("cut(%q, %d) = %q; want %q", c.in, c.most, got, c.want)
		}
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.Local)
	for d, want := range map[time.Duration]string{
		0: "now", 400 * time.Millisecond: "now", -400 * time.Millisecond: "now", 5 * time.Second: "5s ago", 59600 * time.Millisecond: "1m ago", 90 * time.Minute: "2h ago",
		47 * time.Hour: "47h ago", 3 * day: "3d ago", -(day - time.Millisecond): "in 24h", -(30*day - time.Second): "in 30d", 200 * day: "2026-05-06",
	} {
		if got := ago(now.Add(-d), now); got != want {
			t.Errorf("%v ago is %q; want %q", d, got, want)
		}
	}
	if got := ago(time.Time{}, now) + instant(time.Time{}, now); got != "" {
		t.Errorf("no time is %q", got)
	}
	if got := instant(now.Add(-time.Hour), now); !strings.HasPrefix(got, "2026-11-22 11:00:00 ") || !strings.HasSuffix(got, " (1h ago)") {
		t.Errorf("instant = %q", got)
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{"15m": 15 * time.Minute, "1h30m": 90 * time.Minute, "90d": 90 * day, "2w": 14 * day, "0d": 0, "1.5h": 90 * time.Minute} {
		var s span
		if err := s.UnmarshalText([]byte(in)); err != nil || time.Duration(s) != want {
			t.Errorf("%s is %v, %v", in, time.Duration(s), err)
		}
	}
	for _, in := range []string{"", "d", "15", "-1h", "-1d", "1y", "1.5d", "999999999999d", "1d12h"} {
		if d, err := parseSpan(in); err == nil {
			t.Errorf("%q is taken for %v", in, d)
		}
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	if at, err := parseWhen("2h", now, -1); err != nil || !at.Equal(now.Add(-2*time.Hour)) {
		t.Errorf("2h back is %v, %v", at, err)
	}
	if at, err := parseWhen("2027-01-31T00:00:00Z", now, 1); err != nil || at.Year() != 2027 {
		t.Errorf("a time is %v, %v", at, err)
	}
	if _, err := parseWhen("tomorrow", now, 1); err == nil {
		t.Error("tomorrow is taken for a time")
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -999: "-999"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) = %s", n, got)
		}
	}
	if plural(1, "entry", "entries") != "1 entry" || plural(2000, "entry", "entries") != "2,000 entries" {
		t.Error("plural")
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	made := table{
		columns: []column{{name: "id"}, {name: "n", right: true}, {name: "name", soft: true}, {name: "end"}},
		rows: [][]cell{
			{{text: "aaaa"}, {text: "7"}, {text: "名前 of somebody who is called long"}, {"ok", good}},
			{{text: "b"}, {text: "1,000"}, {text: "\x1b[31mx"}, {"", plain}},
		},
	}
	for _, c := range []struct {
		name string
		page page
		want string
	}{
		{"not a terminal", page{}, `
ID        N  NAME                                END
aaaa      7  名前 of somebody who is called long  ok
b     1,000  �[31mx
`},
		{"narrow", page{width: 32}, `
ID        N  NAME            END
aaaa      7  名前 of someb…  ok
b     1,000  �[31mx
`},
		{"too narrow", page{width: 12}, `
ID        N
aaaa      7
b     1,000
`},
	} {
		var b bytes.Buffer
		c.page.to = &b
		if err := made.write(c.page); err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(b.String(), "\n") {
			if c.page.width > 0 && columns(line) > c.page.width {
				t.Errorf("%s: a line is %d wide: %q", c.name, columns(line), line)
			}
		}
		if got := "\n" + b.String(); squeeze(got) != squeeze(c.want) {
			t.Errorf("%s:%s\nwant:%s", c.name, got, c.want)
		}
	}
	var b bytes.Buffer
	if err := made.write(page{to: &b, width: 100, colour: true}); err != nil || !strings.Contains(b.String(), "\x1b[32mok\x1b[0m") || strings.Contains(b.String(), "\x1b[31mx") {
		t.Errorf("colours: %q, %v", b.String(), err)
	}
}

func TestColours(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		width         int
		noColor, term string
		want          bool
	}{{80, "", "xterm", true}, {0, "", "xterm", false}, {80, "1", "xterm", false}, {80, "", "dumb", false}} {
		env := map[string]string{"NO_COLOR": c.noColor, "TERM": c.term}
		if got := colours(c.width, func(name string) string { return env[name] }); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
	g := globals{Out: &bytes.Buffer{}, Getenv: func(string) string { return "" }}
	if p := g.page(); p.width != 0 || p.colour {
		t.Errorf("a buffer is taken for a terminal: %+v", p)
	}
}

// squeeze makes runs of blanks one: how wide a glyph is drawn differs between editors, and so would the source above.
func squeeze(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = strings.Join(strings.Fields(l), " ")
	}
	return strings.Join(lines, "\n")
}
