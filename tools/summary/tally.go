package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is a line of `go test -json`; `go doc test2json` describes it.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

type test struct {
	pkg, name string
	result    string // pass, fail, skip; "" while it runs
	output    []string
	seconds   float64
}

type tally struct {
	out      io.Writer
	tests    map[string]*test
	order    []*test
	measured []string
}

func newTally(out io.Writer) *tally { return &tally{out: out, tests: map[string]*test{}} }

func (t *tally) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
				fmt.Fprint(t.out, line) // the go command's own words
			} else {
				t.take(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (t *tally) take(e event) {
	x := t.find(cmp.Or(e.Package, e.ImportPath), e.Test)
	switch e.Action {
	case "output", "build-output":
		x.output = append(x.output, e.Output)
		if _, fact, ok := strings.Cut(e.Output, "measured: "); ok {
			t.measured = append(t.measured, fmt.Sprintf("%s %s: %s", short(x.pkg), x.name, strings.TrimSpace(fact)))
		}
	case "pass", "fail", "skip":
		x.result, x.seconds = e.Action, e.Elapsed
		t.show(x)
	case "build-fail":
		x.result = "fail"
		t.show(x)
	}
}

// find is the test's record; the package itself is the test without a name.
func (t *tally) find(pkg, name string) *test {
	key := pkg + " " + name
	if t.tests[key] == nil {
		t.tests[key] = &test{pkg: pkg, name: name}
		t.order = append(t.order, t.tests[key])
	}
	return t.tests[key]
}

func (t *tally) show(x *test) {
	switch {
	case x.result == "fail" && (x.name != "" || !t.failedInside(x.pkg)):
		fmt.Fprintf(t.out, "FAIL  %s %s (%.1f s)\n%s", short(x.pkg), x.name, x.seconds, strings.Join(x.output, ""))
	case x.result == "skip" && x.name != "":
		fmt.Fprintf(t.out, "skip  %s %s: %s\n", short(x.pkg), x.name, x.reason())
	case x.name == "" && x.result == "pass":
		fmt.Fprintf(t.out, "ok    %s (%.1f s)\n", short(x.pkg), x.seconds)
	}
}

// failedInside reports whether a test of the package failed, so that the package's own failure says nothing more.
func (t *tally) failedInside(pkg string) bool {
	return slices.ContainsFunc(t.order, func(x *test) bool { return x.pkg == pkg && x.name != "" && x.result == "fail" })
}

func (x *test) reason() string {
	for _, line := range x.output {
		if _, why, ok := strings.Cut(line, "skipped: "); ok {
			return strings.TrimSpace(why)
		}
	}
	return "no reason given"
}

// steps adds results of steps that are not Go tests: "pass lint", "skip node: not installed".
func (t *tally) steps(body string) error {
	for line := range strings.Lines(body) {
		result, name, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || !slices.Contains([]string{"pass", "fail", "skip"}, result) {
			return fmt.Errorf("not a result: %q", line)
		}
		name, why, _ := strings.Cut(name, ": ")
		x := t.find("step", name)
		x.result = result
		x.output = []string{"skipped: " + why}
		switch result {
		case "skip":
			t.show(x)
		case "fail":
			fmt.Fprintf(t.out, "FAIL  step %s\n", name)
		}
	}
	return nil
}

// counts counts tests, and packages that failed without a test of theirs failing.
func (t *tally) counts() (passed, failed, skipped int) {
	for _, x := range t.order {
		switch {
		case x.name == "" && (x.result != "fail" || t.failedInside(x.pkg)):
		case x.result == "pass":
			passed++
		case x.result == "skip":
			skipped++
		default:
			failed++
		}
	}
	return passed, failed, skipped
}

// close tells of tests that never ended, and prints the line that counts.
func (t *tally) close() {
	for _, x := range t.order {
		if x.result == "" && x.name != "" {
			fmt.Fprintf(t.out, "FAIL  %s %s: it was running when its process ended\n", short(x.pkg), x.name)
		}
	}
	passed, failed, skipped := t.counts()
	fmt.Fprintf(t.out, "%d passed, %d failed, %d skipped\n", passed, failed, skipped)
}

func (t *tally) good() bool {
	passed, failed, _ := t.counts()
	return failed == 0 && passed > 0
}

func (t *tally) markdown(title string) string {
	var b strings.Builder
	passed, failed, skipped := t.counts()
	fmt.Fprintf(&b, "# %s\n\n%d passed, %d failed, %d skipped\n\n| test | result | seconds |\n|---|---|---|\n", title, passed, failed, skipped)
	for _, x := range t.order {
		if x.name != "" && !strings.Contains(x.name, "/") {
			fmt.Fprintf(&b, "| %s %s | %s | %.1f |\n", short(x.pkg), x.name, cmp.Or(x.result, "did not end"), x.seconds)
		}
	}
	if len(t.measured) > 0 {
		b.WriteString("\n## Measured\n\n")
		for _, m := range t.measured {
			fmt.Fprintf(&b, "- %s\n", m)
		}
	}
	return b.String()
}

func short(pkg string) string {
	rest := strings.TrimPrefix(pkg, "github.com/avouch-dev/avouch")
	return cmp.Or(strings.TrimPrefix(rest, "/"), ".")
}
