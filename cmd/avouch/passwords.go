package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/signin/password"
)

// passwordsCmd is `avouch passwords`.
type passwordsCmd struct {
	Import passwordsImport `cmd:"" help:"Make the file of breached passwords from a download."`
	Check  passwordsCheck  `cmd:"" help:"Say whether others know a password."`
}

type passwordsImport struct {
	File     string `arg:"" help:"A download of Have I Been Pwned, with one HASH:COUNT a line, or - for standard input."`
	Out      string `name:"out" placeholder:"FILE" env:"AVOUCH_BREACHED_FILE" help:"The file to make."`
	MinCount uint64 `placeholder:"N" help:"Leave out passwords that were seen less often."`
}

// Help is shown under the usage.
func (*passwordsImport) Help() string {
	return `Makes the file in which servers look new passwords up without asking anybody, from the list of SHA-1 hashes that Have I Been Pwned gives away (its downloader makes one file of it). The lines may come in any order. The file has four bytes a hash, and on the way there is need for eight more beside it; memory stays small.

A file that is there is replaced when the new one is whole. Servers use it at once.

    avouch passwords import pwned-passwords-sha1.txt --out /var/lib/avouch/breached`
}

// Run imports.
func (c *passwordsImport) Run(ctx context.Context, g *globals) error {
	if c.Out == "" {
		return misused("name the file to make, with --out or AVOUCH_BREACHED_FILE")
	}
	in, size := g.In, int64(0)
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return lacks("the download: %w", err)
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		in = f
	}
	told := g.Now()
	tell := func(lines uint64, bytes int64) {
		if g.Now().Sub(told) < 5*time.Second {
			return
		}
		told = g.Now()
		part := ""
		if size > 0 {
			part = fmt.Sprintf(", %d %%", bytes*100/size)
		}
		fmt.Fprintf(g.Err, "%s read%s\n", plural(int64(lines), "line", "lines"), part) //nolint:gosec // fewer than 2^63
	}
	done, err := password.Import{Out: c.Out, MinCount: c.MinCount, Progress: tell}.From(ctx, in)
	var line *password.LineError
	switch {
	case errors.As(err, &line):
		return misused("%s:%d %s. Nothing was made", called(c.File), line.Line, line.Why)
	case errors.Is(err, context.Canceled):
		return err
	case err != nil:
		return lacks("the file was not made: %w", err)
	}
	return g.done(done, fmt.Sprintf("%s in %s, %s, from %s.", plural(int64(done.Hashes), "password", "passwords"), c.Out, //nolint:gosec // fewer than 2^63
		plural(done.Bytes, "byte", "bytes"), plural(int64(done.Lines), "line", "lines"))) //nolint:gosec // as above
}

type passwordsCheck struct {
	password.BreachedConfig `embed:"" prefix:"breached-"`
	Refused                 []string `arg:"" optional:"" hidden:""` // so that a message does not quote what may be one
}

// Help is shown under the usage.
func (*passwordsCheck) Help() string {
	return `Reads one password from standard input, and looks for it where servers look for new ones: in the built-in list and its rules, the file and the endpoint. A password is never an argument.

Exit code 1 if others know it, 3 if it was not found but not all could be asked.

    read -rs p; printf %s "$p" | avouch passwords check`
}

// longestPassword is more than a password can have: what is longer is cut, and refused.
const longestPassword = password.MostBytes + 2

// Run checks.
func (c *passwordsCheck) Run(ctx context.Context, g *globals) error {
	if len(c.Refused) > 0 {
		return misused("a password is no argument: everybody on this machine can see arguments, and shells keep them. Send it to standard input")
	}
	if f, ok := g.In.(*os.File); ok && terminalWidth(f) > 0 {
		return misused("a password that is typed here would be seen: send it to standard input, as --help shows")
	}
	c.Required = c.URL != "" || c.File != "" // what could not be asked must not look like a no
	lists, err := password.OpenBreached(c.BreachedConfig)
	if err != nil {
		return lacks("the lists cannot be asked: %w", err)
	}
	type result struct {
		known bool
		err   error
	}
	done := make(chan result, 1)
	go func() {
		line, err := bufio.NewReader(io.LimitReader(g.In, longestPassword)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			done <- result{err: lacks("standard input cannot be read: %w", err)}
			return
		}
		known, err := lists.Known(ctx, secret.Text(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")))
		done <- result{known, err}
	}()
	select {
	case r := <-done:
		return c.say(g, r.known, r.err)
	case <-ctx.Done(): // standard input may stay silent for ever
		return ctx.Err()
	}
}

func (c *passwordsCheck) say(g *globals, known bool, err error) error {
	var e *problem.Error
	switch {
	case errors.As(err, &e) && e.Kind == problem.Unavailable:
		return lacks("it is not known, but not all lists could be asked: %w", e.Unwrap())
	case errors.Is(err, password.ErrUnfit):
		return misused("this cannot be a password: one has at most %d bytes of text, and no control characters", password.MostBytes)
	case err != nil:
		return err
	}
	asked := []string{"the built-in list"}
	if c.File != "" {
		asked = append(asked, "the file")
	}
	if c.URL != "" {
		asked = append(asked, "the endpoint")
	}
	p := g.page()
	words := p.paint("NOT KNOWN", good) + gap + "Looked for in " + strings.Join(asked, ", ") + "."
	if known {
		words = p.paint("KNOWN", bad) + gap + "Others know this password. Whoever uses it anywhere should change it there."
	}
	if err := g.done(map[string]bool{"known": known}, words); err != nil || !known {
		return err
	}
	return &exit{code: exitFalse}
}
