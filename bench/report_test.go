package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{7}, 7}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 9, 1, 2}, 3}, {[]float64{5, 5, 100, 1, 2}, 5}} {
		before := slices.Clone(c.in)
		if got := median(c.in); got != c.want || !slices.Equal(before, c.in) {
			t.Errorf("median of %v is %g, want %g; it is now %v", before, got, c.want, c.in)
		}
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for in, want := range map[float64]string{
		0: "0", 0.1234: "0.123", 1.005: "1.00", 12.34: "12.3", 123.4: "123", 9999.6: "10000", 10_000: "10,000", 66_008.4: "66,008", 123_456: "123,456", 3_345_650: "3,345,650", -123_456: "-123,456",
	} {
		if got := number(in); got != want {
			t.Errorf("number(%g) = %s, want %s", in, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	tab := table{head: []string{"a", "much"}}
	tab.add("x|y", "1")
	tab.add("ü", "12345")
	want := "" +
		"| a    |  much |\n" +
		"| ---- | ----: |\n" +
		"| x\\|y |     1 |\n" +
		"| ü    | 12345 |\n"
	if got := tab.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		row  row
		want string
	}{
		{row{values: []float64{0.3}, atLeast: 0.15, aim: 0.3}, "aim reached"},
		{row{values: []float64{0.2}, atLeast: 0.15, aim: 0.3}, "holds"},
		{row{values: []float64{0.1, 0.1, 9}, atLeast: 0.15, aim: 0.3}, "**falls short**"},
		{row{values: []float64{9}, atLeast: 20, aim: 10, lower: true}, "aim reached"},
		{row{values: []float64{11}, atLeast: 20, aim: 10, lower: true}, "holds"},
		{row{values: []float64{21}, atLeast: 20, aim: 10, lower: true}, "**falls short**"},
		{row{values: []float64{1}, atLeast: 0.9}, "holds"},
		{row{values: []float64{1}}, ""},
	} {
		if got := c.row.verdict(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.row, got, c.want)
		}
	}
}

// story is a book of three rounds in which the machine became slower and slower, and so did everything on it.
func story() *book {
	b := &book{Conditions: condition{Date: "2030-01-02", Rounds: 3, BinaryBytes: 20e6}}
	for round := 1; round <= 3; round++ {
		n := float64(round)
		b.Disk = append(b.Disk, disk{Round: round, PerSecond: 5000 / n, P50: 0.2 * n, P99: n})
		for _, c := range cells() {
			r := result{Round: round, Cell: c.name, Conns: c.conns, PerSecond: 10_000 / n, P50: 0.7 * n, P99: 9, ServerCPU: 50, PostgresCPU: 40, Memory: int64(60e6 * n)}
			if c.name == cellHello {
				r.PerSecond, r.Memory = 60_000/n, 1e9
			}
			b.Results = append(b.Results, r)
		}
		b.Starts = append(b.Starts, begin{70 + n, 30e6})
	}
	return b
}

func TestRowsAreRatiosWithinARound(t *testing.T) {
	t.Parallel()
	want := map[string]struct {
		median  float64
		verdict string
	}{
		"/verify, token seen before, two tenants, c=64 / hello":       {10.0 / 60, "holds"},
		"/verify, every token new, same tenant, c=64 / hello":         {10.0 / 60, "aim reached"},
		"deny / allow, every token new, two tenants, c=64":            {1, "aim reached"},
		"issue a token, one tenant, c=64":                             {5000, "aim reached"},
		"p50 of /verify, seen, two tenants, c=1 / fdatasync":          {3.5, "holds"},
		"p99 of /verify, seen, same tenant, c=16":                     {9, "holds"},
		"CPU of /verify, seen, two tenants, c=64 (server + Postgres)": {90, "holds"},
		"512 connections and many tenants / 64 and one, same tenant":  {1, "holds"},
		"cold start, schema in place":                                 {72, "aim reached"},
		"resident memory, the most under any load":                    {120, "holds"},
		"vault: a code, c=64 / OpenBao TOTP, audited":                 {10. / 60 * 66_008 / 7_892, "aim reached"},
		"program file": {20, "aim reached"},
	}
	for _, r := range story().rows() {
		w, known := want[r.name]
		delete(want, r.name)
		if got := median(r.values); known && (got < w.median*0.999 || got > w.median*1.001 || r.verdict() != w.verdict) {
			t.Errorf("%s: %g, %s; want %g, %s", r.name, got, r.verdict(), w.median, w.verdict)
		}
		if strings.Contains(r.name, "Hydra") && (median(r.values) < 5.31 || median(r.values) > 5.33) {
			t.Errorf("%s: %g", r.name, median(r.values))
		}
	}
	for name := range want {
		t.Errorf("no row is called %q", name)
	}
}

func TestRowsOfWhatWasMeasured(t *testing.T) {
	t.Parallel()
	b := story()
	b.Results = slices.DeleteFunc(b.Results, func(r result) bool { return r.Cell != cellIssue })
	b.Starts, b.Conditions.BinaryBytes = nil, 0
	rows := b.rows()
	if len(rows) != 2 || rows[0].name != "issue a token, one tenant, c=64" {
		t.Errorf("%d rows: %+v", len(rows), rows)
	}
}

func TestSave(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "measurements")
	b := story()
	for range 2 { // the report of a day is replaced, but by one of some cells; the history grows
		if err := b.save(dir, "", b.markdown()); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.save(dir, "hello|^keys/", "of some cells"); err != nil {
		t.Fatal(err)
	}
	if part, err := os.ReadFile(filepath.Join(dir, "bench-2030-01-02-hello-keys.md")); err != nil || string(part) != "of some cells" {
		t.Errorf("the report of some cells: %v %q", err, part)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "bench-2030-01-02.json"))
	var again book
	if err == nil {
		err = json.Unmarshal(raw, &again)
	}
	if err != nil || len(again.Results) != len(b.Results) || again.Results[5].PerSecond != b.Results[5].PerSecond {
		t.Errorf("the raw numbers do not come back: %v", err)
	}
	report, err := os.ReadFile(filepath.Join(dir, "bench-2030-01-02.md"))
	if err != nil || !strings.Contains(string(report), "holds") || !strings.Contains(string(report), "| hello ") {
		t.Errorf("the report: %v\n%s", err, report)
	}
	history, err := os.ReadFile(filepath.Join(dir, "history.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(history)), "\n")
	var e entry
	if err := json.Unmarshal([]byte(lines[0]), &e); err != nil || len(lines) != 3 || e.Date != "2030-01-02" || e.Medians["program file"] != 20 {
		t.Errorf("%d lines, %v: %s", len(lines), err, history)
	}
}

func TestWrongAnswersAreSaid(t *testing.T) {
	t.Parallel()
	c := cell{name: cellSame, conns: 64, want: 200, allowed: true}
	good := newTally()
	good.requests, good.allowed, good.statuses = 10, 10, map[int]int{200: 10}
	good.latency.add(time.Millisecond)
	if got := c.wrong(&good); got != "" {
		t.Errorf("wrong: %s", got)
	}
	for name, spoil := range map[string]func(*tally){
		"one is denied": func(t *tally) { t.allowed = 9 }, "another status": func(t *tally) { t.odd = "503 {}" },
		"broken": func(t *tally) { t.broken = 1 }, "nothing": func(t *tally) { t.requests, t.allowed = 0, 0 },
	} {
		bad := good
		spoil(&bad)
		if c.wrong(&bad) == "" {
			t.Errorf("%s, and nothing is said", name)
		}
		deny := c
		deny.allowed = false
		if deny.wrong(&bad) == "" {
			t.Errorf("%s where all should be denied, and nothing is said", name)
		}
		var r result
		r.fill(c, &bad, cpuTimes{}, cpuTimes{server: time.Second})
		b := &book{Results: []result{r}}
		if !errors.Is(b.wrong(), errWrong) || !strings.Contains(b.markdown(), "Wrong answers") {
			t.Errorf("%s, and the book is content", name)
		}
	}
	if err := story().wrong(); err != nil {
		t.Error(err)
	}
}

func TestReportSaysWhatItIsWorth(t *testing.T) {
	t.Parallel()
	b := story()
	if s := b.markdown(); strings.Contains(s, "smoke run") || strings.Contains(s, "not quiet") {
		t.Errorf("a good run is made bad:\n%s", s)
	}
	b.Conditions.Quick, b.Conditions.Load = true, 3.5
	if s := b.markdown(); !strings.Contains(s, "smoke run") || !strings.Contains(s, "not quiet: its load average was 3.50") {
		t.Errorf("a bad run is made good:\n%s", s)
	}
}

func TestUneven(t *testing.T) {
	t.Parallel()
	b := &book{Results: []result{{Cell: "a", Conns: 1, Round: 1, Tries: 1, Pace: 1}, {Cell: "b", Conns: 16, Round: 2, Tries: 1, Pace: 0.9, Stolen: 0.02}}}
	if got := b.uneven(); got != "" {
		t.Errorf("an even run says %q", got)
	}
	b.Results = append(b.Results, result{Cell: "c", Conns: 64, Round: 2, Tries: 2, Pace: 0.95})
	if got := b.uneven(); !strings.Contains(got, "in 1 of 3 measurements, which were made again.") || strings.Contains(got, "**") {
		t.Errorf("one made again says %q", got)
	}
	b.Results = append(b.Results, result{Cell: "d", Conns: 64, Round: 3, Tries: 3, Pace: 0.5, Stolen: 0.4})
	if got := b.uneven(); !strings.Contains(got, "in 2 of 4") || !strings.Contains(got, "**In 1 it stayed so, and they count all the same**: d c=64, round 3 (pace 0.50, stolen 40 %).") {
		t.Errorf("one that stays so says %q", got)
	}
}

func TestStolenShare(t *testing.T) {
	t.Parallel()
	if got := (processors{all: 200, stolen: 30}).share(processors{all: 100, stolen: 10}); got != 0.2 {
		t.Errorf("share %g", got)
	}
	if got := (processors{}).share(processors{}); got != 0 {
		t.Errorf("a machine without /proc/stat: %g", got)
	}
	if p := processorTimes(); p.all == 0 || p.stolen > p.all {
		t.Errorf("here: %+v", p)
	}
}
