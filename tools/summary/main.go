// Command summary reads what `go test -json` prints, shows what a person needs of it as it comes, and ends with one line
// that counts: "N passed, N failed, N skipped". It fails if anything failed, and also if nothing ran.
//
// Counting here, from every step's result, is what makes the last line of `make test` the whole truth: a package that does
// not build, a test or package that was running when its process died and a step outside Go each count as a failure, and so
// does a test that was expected and did not pass: left out, it would look like success. With -all, so does a skipped one.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	steps := flag.String("steps", "", "a `file` with results of other steps: lines of pass, fail or skip, then a name")
	expect := flag.String("expect", "", "a `file` that lists what must have passed: lines of a package and a test")
	all := flag.Bool("all", false, "what is skipped has failed")
	report := flag.String("report", "", "write a Markdown report with everything measured to this `file`")
	title := flag.String("title", "Tests", "the report's heading")
	flag.Parse()
	t := newTally(os.Stdout)
	t.all = *all
	if err := run(t, *steps, *expect, *report, *title); err != nil {
		fmt.Fprintln(os.Stderr, "summary:", err)
		os.Exit(2)
	}
	if !t.good() {
		os.Exit(1)
	}
}

func run(t *tally, steps, expect, report, title string) error {
	if err := t.read(os.Stdin); err != nil {
		return fmt.Errorf("read test output: %w", err)
	}
	for _, list := range []struct {
		file string
		take func(string) error
	}{{steps, t.steps}, {expect, t.expect}} {
		if list.file == "" {
			continue
		}
		body, err := os.ReadFile(list.file)
		if err != nil {
			return fmt.Errorf("read list: %w", err)
		}
		if err := list.take(string(body)); err != nil {
			return fmt.Errorf("read %s: %w", list.file, err)
		}
	}
	t.close()
	if report == "" {
		return nil
	}
	if err := os.WriteFile(report, []byte(t.markdown(title)), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
