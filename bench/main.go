// Command bench measures a built avouch from outside, as its users meet it, and prints what docs and the project's
// targets speak of: requests a second, latencies, CPU a request, memory, time to start.
//
// A number from one machine says little, so each is measured beside two things that every machine has: a net/http server
// that answers a body of the same size, behind the same generator, and fdatasync on the file system of the data. Rounds
// are interleaved (every round runs every cell once), ratios are taken within a round, and what is reported is the median
// of the rounds.
//
// The generator is closed: each connection sends its next request when it has the answer to the last. Latencies are of
// answered requests, from the write of the request to the last byte of the answer, exact to a microsecond. Generator,
// server and PostgreSQL share the machine, as they did when the targets were set.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	bin     string
	dir     string
	out     string
	profile string
	only    *regexp.Regexp
	rounds  int
	starts  int
	tenants int
	cell    time.Duration
	warm    time.Duration
	wait    time.Duration
	quick   bool
	busy    bool
}

// errBusy says that the machine does something else, so that a measurement would be of both.
var errBusy = errors.New("the machine is not quiet")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		switch {
		case errors.Is(err, flag.ErrHelp):
			os.Exit(2)
		case errors.Is(err, errBusy):
			os.Exit(3)
		}
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "hello" {
		return hello(args[1:], stdin, stdout)
	}
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	return bench(ctx, o, stdout, stderr)
}

// quietLoad is the load average up to which a machine counts as quiet.
const quietLoad = 0.5

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	var only string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.bin, "bin", "bin/avouch", "the built program that is measured")
	f.StringVar(&o.dir, "dir", "", "directory under which the data is put (default the system's temporary one)")
	f.StringVar(&o.out, "out", "docs/measurements", "directory for bench-DATE.md, bench-DATE.json and history.ndjson, the names of cells that -only matches behind the date; empty only prints (default of -quick)")
	f.StringVar(&o.profile, "profile", "", "directory for CPU and allocation profiles, taken after the last round")
	f.StringVar(&only, "only", "", "measure only cells whose name matches, such as 'hello|verify/seen'")
	f.IntVar(&o.rounds, "rounds", 5, "how many times each cell is measured")
	f.IntVar(&o.starts, "starts", 10, "how many cold starts are measured")
	f.IntVar(&o.tenants, "tenants", 100, "organisations in cells with many")
	f.DurationVar(&o.cell, "cell", 2500*time.Millisecond, "how long each cell is measured")
	f.DurationVar(&o.warm, "warm", 500*time.Millisecond, "how long each cell runs before")
	f.DurationVar(&o.wait, "wait", 5*time.Minute, "how long to wait for a quiet machine, and in all for a host that is busy elsewhere")
	f.BoolVar(&o.quick, "quick", false, "see that everything runs: one round, 0.3 s a cell; the numbers mean little")
	f.BoolVar(&o.busy, "busy", false, "measure although the machine is not quiet, and say so in the report")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q: %w", f.Arg(0), flag.ErrHelp)
	}
	if o.quick {
		o.rounds, o.starts, o.cell, o.warm, o.busy = 1, 2, 300*time.Millisecond, 100*time.Millisecond, true
		said := false
		f.Visit(func(f *flag.Flag) { said = said || f.Name == "out" })
		if !said {
			o.out = ""
		}
	}
	var err error
	if o.only, err = regexp.Compile(only); err != nil {
		return o, fmt.Errorf("-only: %w", err)
	}
	if o.rounds < 1 || o.starts < 1 || o.tenants < 2 || o.cell <= 0 {
		return o, fmt.Errorf("-rounds and -starts are at least 1, -tenants at least 2, -cell is positive: %w", flag.ErrHelp)
	}
	return o, nil
}

// bench measures and reports.
func bench(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	if _, err := os.Stat(o.bin); err != nil {
		return fmt.Errorf("there is no program to measure, run `make build` first: %w", err)
	}
	load, err := quiet(ctx, o, stderr)
	if err != nil {
		return err
	}
	s, err := openStage(ctx, o, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	cond := conditions(ctx, o, load, s)
	b := &book{Conditions: cond}
	if err := s.measure(ctx, b); err != nil {
		return err
	}
	if o.profile != "" {
		if err := s.profiles(ctx); err != nil {
			return err
		}
	}
	report := b.markdown()
	if _, err := io.WriteString(stdout, report); err != nil {
		return fmt.Errorf("bench.bench: %w", err)
	}
	if o.out != "" {
		if err := b.save(o.out, o.only.String(), report); err != nil {
			return err
		}
	}
	return b.wrong()
}

// quiet waits until the machine is quiet. The build before a `make bench` alone lifts the load for a minute or two.
func quiet(ctx context.Context, o options, stderr io.Writer) (float64, error) {
	until := time.Now().Add(o.wait)
	for said := false; ; {
		load, err := loadAverage()
		if err != nil || load <= quietLoad {
			return load, err
		}
		if o.busy {
			fmt.Fprintf(stderr, "\n*** THE LOAD AVERAGE IS %.2f, NOT BELOW %.1f: THESE NUMBERS ARE NOT THE PROGRAM'S ALONE ***\n\n", load, quietLoad)
			return load, nil
		}
		if time.Now().After(until) {
			return load, fmt.Errorf("%w: its load average is %.2f, above %.1f (-busy measures all the same)", errBusy, load, quietLoad)
		}
		if !said {
			fmt.Fprintf(stderr, "load average %.2f: waiting up to %v for it to fall to %.1f\n", load, o.wait, quietLoad)
			said = true
		}
		select {
		case <-ctx.Done():
			return load, fmt.Errorf("bench.quiet: %w", ctx.Err())
		case <-time.After(2 * time.Second):
		}
	}
}
