package main

import (
	"errors"
	"strings"
	"testing"
)

func TestLastLine(t *testing.T) {
	t.Parallel()
	const m = `"Package":"github.com/avouch-dev/avouch/audit"`
	for _, c := range []struct {
		name, events, steps string
		want                string // the last line
		shown               string // a part of what came before
		good                bool
	}{
		{"passed", `{"Action":"run",` + m + `,"Test":"TestA"}
{"Action":"pass",` + m + `,"Test":"TestA","Elapsed":0.1}
{"Action":"pass",` + m + `,"Elapsed":0.2}`, "", "1 passed, 0 failed, 0 skipped", "ok    audit (0.2 s)", true},
		{"failed, with its output, once", `{"Action":"output",` + m + `,"Test":"TestA","Output":"got 1, want 2\n"}
{"Action":"fail",` + m + `,"Test":"TestA"}
{"Action":"fail",` + m + `}`, "", "0 passed, 1 failed, 0 skipped", "got 1, want 2", false},
		{"does not build", `{"ImportPath":"github.com/avouch-dev/avouch/audit","Action":"build-output","Output":"undefined: x\n"}
{"ImportPath":"github.com/avouch-dev/avouch/audit","Action":"build-fail"}
{"Action":"fail",` + m + `,"FailedBuild":"github.com/avouch-dev/avouch/audit"}`, "", "0 passed, 1 failed, 0 skipped", "undefined: x", false},
		{"died", `{"Action":"run",` + m + `,"Test":"TestA"}
{"Action":"pass",` + m + `,"Test":"TestB"}`, "", "1 passed, 1 failed, 0 skipped", "TestA: it was running", false},
		{"died after its last test", `{"Action":"start",` + m + `}
{"Action":"pass",` + m + `,"Test":"TestB"}`, "", "1 passed, 1 failed, 0 skipped", "FAIL  audit : it was running", false},
		{"skipped", `{"Action":"output",` + m + `,"Test":"TestA","Output":"    a_test.go:3: skipped: no kernel\n"}
{"Action":"skip",` + m + `,"Test":"TestA"}
{"Action":"pass",` + m + `,"Test":"TestB"}`, "", "1 passed, 0 failed, 1 skipped", "TestA: no kernel", true},
		{"nothing ran", ``, "", "0 passed, 0 failed, 0 skipped", "", false},
		{"a step failed", `{"Action":"pass",` + m + `,"Test":"TestB"}`, "pass vet\nfail lint\nskip node: not installed\n",
			"2 passed, 1 failed, 1 skipped", "FAIL  step lint", false},
		{"the go command speaks", "go: warning\n" + `{"Action":"pass",` + m + `,"Test":"TestB"}`, "", "1 passed, 0 failed, 0 skipped", "go: warning", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			x := newTally(&out)
			if err := x.read(strings.NewReader(c.events)); err != nil {
				t.Fatal(err)
			}
			if err := x.steps(c.steps); err != nil {
				t.Fatal(err)
			}
			x.close()
			text := strings.TrimSpace(out.String())
			if last := text[strings.LastIndexByte(text, '\n')+1:]; last != c.want {
				t.Errorf("last line %q, want %q", last, c.want)
			}
			if !strings.Contains(text, c.shown) {
				t.Errorf("%q is not in\n%s", c.shown, text)
			}
			if x.good() != c.good {
				t.Errorf("good: %v", x.good())
			}
		})
	}
}

func TestExpected(t *testing.T) {
	t.Parallel()
	const m = `"Package":"p"`
	for _, c := range []struct{ name, events, steps, want, shown string }{
		{"passed", `{"Action":"run",` + m + `,"Test":"TestSoak"}
{"Action":"pass",` + m + `,"Test":"TestSoak"}`, "pass fuzz a FuzzB: 12 executions\n", "2 passed, 0 failed, 0 skipped", ""},
		{"skipped", `{"Action":"skip",` + m + `,"Test":"TestSoak"}`, "pass fuzz a FuzzB: 12 executions\n", "1 passed, 1 failed, 0 skipped", "p TestSoak: it must not be skipped"},
		{"ended with success before its time", `{"Action":"start",` + m + `}
{"Action":"pass",` + m + `}`, "pass fuzz a FuzzB: 12 executions\n", "1 passed, 1 failed, 0 skipped", "p TestSoak: it never ran"},
		{"a step is missing", `{"Action":"pass",` + m + `,"Test":"TestSoak"}`, "", "1 passed, 1 failed, 0 skipped", "step fuzz a FuzzB: it never ran"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			x := newTally(&out)
			if err := errors.Join(x.read(strings.NewReader(c.events)), x.steps(c.steps), x.expect("p TestSoak\nstep fuzz a FuzzB\n")); err != nil {
				t.Fatal(err)
			}
			x.close()
			if got := out.String(); !strings.HasSuffix(got, c.want+"\n") || !strings.Contains(got, c.shown) {
				t.Errorf("want %q and %q, got\n%s", c.shown, c.want, got)
			}
		})
	}
	if newTally(&strings.Builder{}).expect("TestSoak\n") == nil {
		t.Error("a test without its package is accepted")
	}
}

// TestAll: where everything can run, what is skipped has failed, though whoever skipped it said why.
func TestAll(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, events, steps, want, shown string }{
		{"a test", `{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: skipped: not root\n"}
{"Action":"skip","Package":"p","Test":"TestA"}`, "pass lint\n", "1 passed, 1 failed, 0 skipped", "FAIL  p TestA: it must not be skipped"},
		{"a step", `{"Action":"pass","Package":"p","Test":"TestA"}`, "skip node: not installed\n", "1 passed, 1 failed, 0 skipped", "FAIL  step node: it must not be skipped"},
		{"nothing", `{"Action":"pass","Package":"p","Test":"TestA"}`, "pass lint\n", "2 passed, 0 failed, 0 skipped", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			x := newTally(&out)
			x.all = true
			if err := errors.Join(x.read(strings.NewReader(c.events)), x.steps(c.steps)); err != nil {
				t.Fatal(err)
			}
			x.close()
			if got := out.String(); !strings.HasSuffix(got, c.want+"\n") || !strings.Contains(got, c.shown) || x.good() != (c.shown == "") {
				t.Errorf("want %q and %q, got\n%s", c.shown, c.want, got)
			}
		})
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	x := newTally(&strings.Builder{})
	err := x.read(strings.NewReader(`{"Action":"output","Package":"p","Test":"TestSoak","Output":"    x.go:1: measured: 0 of 100,000\n"}
{"Action":"pass","Package":"p","Test":"TestSoak","Elapsed":61}
{"Action":"pass","Package":"p","Test":"TestSoak/sub"}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(x.steps("pass fuzz a FuzzB: 12 executions\n"), x.expect("p TestSoak\np TestGoneSoak\n")); err != nil {
		t.Fatal(err)
	}
	got := x.markdown("Soak")
	for _, want := range []string{
		"# Soak\n", "3 passed, 1 failed", "| p TestSoak | pass | 61.0 |", "| p TestGoneSoak | fail: it never ran |", "- p TestSoak: 0 of 100,000",
		"- fuzz a FuzzB: pass, 12 executions\n", "## What failed said\n\np TestGoneSoak\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if strings.Contains(got, "TestSoak/sub |") {
		t.Error("subtests belong in the log, not in the table")
	}
}

func TestStepsRefusesWhatIsNoResult(t *testing.T) {
	t.Parallel()
	if err := newTally(&strings.Builder{}).steps("passed lint\n"); err == nil {
		t.Error("accepted")
	}
}
