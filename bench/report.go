package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
)

// markdown is the report for people.
func (b *book) markdown() string {
	var w strings.Builder
	c := &b.Conditions
	fmt.Fprintf(&w, "# Measurements of %s\n\n", c.Date)
	if c.Quick {
		w.WriteString("**A smoke run: each cell ran once and for a moment. These numbers only show that everything runs.**\n\n")
	}
	if c.Load > quietLoad {
		fmt.Fprintf(&w, "**The machine was not quiet: its load average was %.2f before the start.**\n\n", c.Load)
	}
	w.WriteString(c.markdown())
	w.WriteString(b.uneven())
	if wrong := b.wrongCells(); len(wrong) > 0 {
		w.WriteString("## Wrong answers\n\n**These are no measurements:**\n\n- " + strings.Join(wrong, "\n- ") + "\n\n")
	}
	w.WriteString("## What is promised\n\nMedians of the rounds (of the starts, for starts); ratios are taken within a round. In brackets: the least and the greatest.\n\n")
	w.WriteString(b.promises())
	w.WriteString("\n## All cells\n\n")
	w.WriteString(b.absolute())
	w.WriteString("\n" + explanation)
	return w.String()
}

// explanation says what the columns of the report mean.
const explanation = `CPU is user and system time a request: of the server, of all processes of the PostgreSQL cluster, of the generator.
"/ hello" is the rate by that of the hello with as many connections, in the same round. "p50 / disk" is the median latency
by that of one fdatasync in the same round. Memory is the server's, resident, at the end of the cell.

- "seen": each connection verifies the same token; the server knows its signature. "new": each token is verified once by
  a server that has just started, so it knows none of them.
- "two tenants": agent and service belong to different organisations, so each verification is in two logs.
- "two servers": half of the connections go to each of two servers on one database.
- "beside": without pause, the log of another organisation is exported, or that of the one which verifies read page by page, or
  people sign in, as many as the server hashes passwords of.
- "vault/code": agents fetch one-time codes, each with a token that the server has seen, and none more than 60 in a minute.
- "sign-in": by a password, from a known device, for four times as long. Memory while people sign in is not in the most
  under any load: that of hashes has a bound of its own, which a test holds.
- "/ Hydra", "/ OpenBao", "/ Unkey": these did not run here. Their rates, and their hello's, were measured when the targets
  were set (c=64, two cores shared with the generator); what is compared is each one's share of its own hello. Hydra and
  Unkey log nothing, OpenBao's audit file is never synced, Unkey's answers may be ten minutes old.
- Each verification was durable before its answer (fsync is on), and every answer's status and decision was checked.
`

func (b *book) promises() string {
	t := table{head: []string{"", "median", "at least / at most", "aim", "verdict"}}
	for _, r := range b.rows() {
		least, most := math.Inf(1), math.Inf(-1)
		for _, v := range r.values {
			least, most = min(least, v), max(most, v)
		}
		value := number(median(r.values)) + " " + r.unit
		if len(r.values) > 1 {
			value += fmt.Sprintf(" (%s to %s)", number(least), number(most))
		}
		t.add(r.name, value, limit(r.atLeast, r.unit), limit(r.aim, r.unit), r.verdict())
	}
	return t.String()
}

func limit(n float64, unit string) string {
	if n == 0 {
		return ""
	}
	return number(n) + " " + unit
}

func (b *book) absolute() string {
	var perSec, half []float64
	for _, d := range b.Disk {
		perSec, half = append(perSec, d.PerSecond), append(half, d.P50)
	}
	t := table{head: []string{"cell", "connections", "requests/s", "p50 ms", "p99 ms", "CPU us: server", "Postgres", "generator", "/ hello", "p50 / disk", "memory MB"}}
	t.add("fdatasync, 8 KiB", "1", number(median(perSec)), number(median(half)), number(median(b.diskP99())), "", "", "", "", number(1), "")
	for _, k := range b.keys() {
		m := func(f field) string { return number(median(b.values(k, f))) }
		toHello := number(median(b.ratios(k, perSecond, key{cellHello, k.conns}, perSecond)))
		t.add(k.name, strconv.Itoa(k.conns), m(perSecond), m(p50), m(p99), m(serverCPU), m(postgresCPU), m(ownCPU),
			toHello, number(median(b.perDisk(k, p50))), m(megabytes))
	}
	return t.String()
}

func (b *book) diskP99() []float64 {
	var all []float64
	for _, d := range b.Disk {
		all = append(all, d.P99)
	}
	return all
}

// table is a Markdown table whose columns are aligned in its source too.
type table struct {
	head []string
	body [][]string
}

func (t *table) add(cells ...string) { t.body = append(t.body, cells) }

// String is the table. The first column is text, the others are set to the right.
func (t *table) String() string {
	width := make([]int, len(t.head))
	lines := append([][]string{t.head}, t.body...)
	for _, line := range lines {
		for i, c := range line {
			width[i] = max(width[i], len([]rune(escape(c))), 3)
		}
	}
	var w strings.Builder
	for n, line := range lines {
		for i, c := range line {
			if i == 0 {
				fmt.Fprintf(&w, "| %-*s ", width[i], escape(c))
			} else {
				fmt.Fprintf(&w, "| %*s ", width[i], escape(c))
			}
		}
		w.WriteString("|\n")
		if n > 0 {
			continue
		}
		for i := range line {
			if i == 0 {
				w.WriteString("| " + strings.Repeat("-", width[i]) + " ")
			} else {
				w.WriteString("| " + strings.Repeat("-", width[i]-1) + ": ")
			}
		}
		w.WriteString("|\n")
	}
	return w.String()
}

func escape(s string) string { return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s) }

// number shows three digits that mean something, and all of a whole number.
func number(x float64) string {
	switch a := math.Abs(x); {
	case x == 0:
		return "0"
	case a >= 10_000:
		s := strconv.FormatFloat(math.Round(a), 'f', 0, 64)
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		if x < 0 {
			return "-" + s
		}
		return s
	case a >= 100:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(x, 'f', 1, 64)
	case a >= 1:
		return strconv.FormatFloat(x, 'f', 2, 64)
	}
	return strconv.FormatFloat(x, 'f', 3, 64)
}

// entry is a line of the history: what a run came to.
type entry struct {
	condition
	Medians map[string]float64 `json:"medians"`
}

func (b *book) history() entry {
	e := entry{b.Conditions, map[string]float64{}}
	for _, r := range b.rows() {
		e.Medians[r.name] = rounded(median(r.values))
	}
	for _, k := range b.keys() {
		e.Medians[k.String()+" requests/s"] = rounded(median(b.values(k, perSecond)))
		e.Medians[k.String()+" p99 ms"] = rounded(median(b.values(k, p99)))
	}
	return e
}

func rounded(x float64) float64 { return math.Round(x*1e4) / 1e4 }

// called is the name of a day's report. One of some cells only does not take the place of that of all.
func called(date, only string) string {
	parts := strings.FieldsFunc(only, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	return strings.Join(append([]string{"bench", date}, parts...), "-")
}

// save writes the report of the cells that only matches, the raw numbers, and a line of the history.
func (b *book) save(dir, only, report string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("bench.save: %w", err)
	}
	raw, err := json.MarshalIndent(b, "", " ")
	if err != nil {
		return fmt.Errorf("bench.save: %w", err)
	}
	line, err := json.Marshal(b.history())
	if err != nil {
		return fmt.Errorf("bench.save: %w", err)
	}
	name := filepath.Join(dir, called(b.Conditions.Date, only))
	if err := errors.Join(os.WriteFile(name+".md", []byte(report), 0o644), os.WriteFile(name+".json", append(raw, '\n'), 0o644)); err != nil {
		return fmt.Errorf("bench.save: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "history.ndjson"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("bench.save: %w", err)
	}
	_, err = f.Write(append(line, '\n'))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("bench.save: %w", err)
	}
	return nil
}
