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
	begun     bool
	expected  bool   // must have passed
	note      string // what is to be said of a step
}

type tally struct {
	out      io.Writer
	tests    map[string]*test
	order    []*test
	measured []string
	all      bool // nothing may be skipped
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
	case "start", "run":
		x.begun = true
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
		x.result, x.note = result, why
		x.output = []string{"skipped: " + why}
		switch result {
		case "skip":
			t.show(x)
		case "fail":
			fmt.Fprintf(t.out, "FAIL  step %s\n", strings.TrimSuffix(name+": "+why, ": "))
		}
	}
	return nil
}

// expect takes a list of what must have passed, a package and a test in each line: what is skipped has failed, and so has
// what never ran, whatever a process said when it ended.
func (t *tally) expect(body string) error {
	for line := range strings.Lines(body) {
		pkg, name, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			return fmt.Errorf("not a package and a test: %q", line)
		}
		t.find(pkg, name).expected = true
	}
	return nil
}

// verdict is what counts: pass, fail, skip, or nothing for a package whose tests say it all.
func (t *tally) verdict(x *test) string {
	switch {
	case x.name != "" && (x.result == "" || (x.expected || t.all) && x.result != "pass"):
		return "fail"
	case x.name != "":
		return x.result
	case x.result == "" && x.begun, x.result == "fail" && !t.failedInside(x.pkg):
		return "fail"
	}
	return ""
}

// counts counts tests, and packages that failed without a test of theirs failing.
func (t *tally) counts() (passed, failed, skipped int) {
	for _, x := range t.order {
		switch t.verdict(x) {
		case "pass":
			passed++
		case "skip":
			skipped++
		case "fail":
			failed++
		}
	}
	return passed, failed, skipped
}

// why is how a test failed that did not say so itself.
func (x *test) why() string {
	switch {
	case x.result == "skip":
		return "it must not be skipped"
	case x.begun || x.output != nil:
		return "it was running when its process ended"
	}
	return "it never ran"
}

// close tells of tests that never ended, and prints the line that counts.
func (t *tally) close() {
	for _, x := range t.order {
		if t.verdict(x) == "fail" && x.result != "fail" {
			fmt.Fprintf(t.out, "FAIL  %s %s: %s\n", short(x.pkg), x.name, x.why())
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
		if x.pkg != "step" && !strings.Contains(x.name, "/") && (x.name != "" || t.verdict(x) == "fail") {
			fmt.Fprintf(&b, "| %s %s | %s | %.1f |\n", short(x.pkg), x.name, t.outcome(x), x.seconds)
		}
	}
	section := func(heading, line, of string) {
		if !strings.Contains(b.String(), "## "+heading) {
			fmt.Fprintf(&b, "\n## %s\n\n", heading)
		}
		fmt.Fprintf(&b, line, of)
	}
	for _, m := range t.measured {
		section("Measured", "- %s\n", m)
	}
	for _, x := range t.order {
		if x.pkg == "step" {
			section("Beside the tests", "- %s\n", strings.TrimSuffix(fmt.Sprintf("%s: %s, %s", x.name, t.outcome(x), x.note), ", "))
		}
	}
	for _, x := range t.order {
		if x.pkg != "step" && t.verdict(x) == "fail" {
			said := x.output[max(0, len(x.output)-60):]
			section("What failed said", "%s", fmt.Sprintf("%s %s\n\n```\n%s```\n\n", short(x.pkg), x.name, strings.Join(said, "")))
		}
	}
	return b.String()
}

// outcome is a result in words.
func (t *tally) outcome(x *test) string {
	if t.verdict(x) == "fail" && x.result != "fail" {
		return "fail: " + x.why()
	}
	return x.result
}

func short(pkg string) string {
	rest := strings.TrimPrefix(pkg, "github.com/avouch-dev/avouch")
	return cmp.Or(strings.TrimPrefix(rest, "/"), ".")
}
