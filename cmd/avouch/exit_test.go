package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/avouch-dev/avouch/internal/client"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	of := func(k problem.Kind, status int) error {
		return fmt.Errorf("context: %w", &client.Problem{Kind: k, Status: status, Title: "T", Known: true})
	}
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0}, {of(problem.Invalid, 400), 2}, {of(problem.Unauthenticated, 401), 3}, {of(problem.Denied, 403), 1}, {of(problem.Missing, 404), 1},
		{of(problem.Conflict, 409), 1}, {of(problem.TooMany, 429), 3}, {of(problem.Unavailable, 503), 3}, {of(problem.Internal, 500), 3},
		{&client.Unreachable{Host: "h", Cause: os.ErrDeadlineExceeded}, 3}, {misused("x"), 2}, {lacks("x"), 3}, {&exit{code: 1}, 1}, {os.ErrNotExist, 3},
		{context.Canceled, 3},
	} {
		var b bytes.Buffer
		if got := report(&b, c.err, false); got != c.want {
			t.Errorf("%v: %d; want %d", c.err, got, c.want)
		}
		if silent := c.err == nil || errors.Is(c.err, context.Canceled) || c.err.Error() == (&exit{}).Error(); silent != (b.Len() == 0) {
			t.Errorf("%v says %q", c.err, b.String())
		}
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	err := error(&client.Problem{
		Kind: problem.Invalid, Status: 400, Title: "The request is not valid", Detail: "It cannot be like that. See `errors`.", RequestID: "r1", Known: true,
		Fields: []problem.Field{{Location: "body.name", Message: "is \x1b[31mbad"}},
	})
	var b bytes.Buffer
	report(&b, err, false)
	const want = `avouch: It cannot be like that.
  body.name: is �[31mbad
What to do: Correct what is named; sent unchanged it fails again.
Request id: r1
`
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
	b.Reset()
	report(&b, err, true)
	var out struct {
		Error   string
		Exit    int `json:"exit_code"`
		Problem client.Problem
	}
	if err := json.Unmarshal(b.Bytes(), &out); err != nil || out.Exit != 2 || out.Problem.RequestID != "r1" || strings.Count(b.String(), "\n") != 1 {
		t.Errorf("%s: %v", b.String(), err)
	}
	for _, kind := range problem.Kinds() {
		says := remedy(&client.Problem{Kind: kind, Known: true, RetryAfter: 90 * time.Second})
		if says == "" || strings.Contains(says, "`detail`") {
			t.Errorf("%s: %q", kind, says)
		}
		if passing := kind == problem.TooMany || kind == problem.Unavailable; passing && !strings.Contains(says, "in 2m") {
			t.Errorf("%s does not say when: %q", kind, says)
		}
	}
	for _, c := range []struct {
		p    client.Problem
		want string // "-" is no line
	}{
		{client.Problem{Kind: problem.Conflict, Detail: "The request is approved: there is nothing to decide."}, "-"},
		{client.Problem{Kind: problem.Conflict, Detail: "This Idempotency-Key was used for another request. Use a new one."}, "-"},
		{client.Problem{Kind: problem.Conflict, Detail: "A request with this Idempotency-Key is still running.", RetryAfter: 2 * time.Second}, "Try again in"},
		{client.Problem{Kind: problem.Conflict}, "Look at it"},
		{client.Problem{Kind: problem.Denied, Detail: "Only an owner who has signed in can do this.", Whose: asKey}, "AVOUCH_ACCESS_TOKEN"},
		{client.Problem{Kind: problem.Denied, Detail: "Only an owner who has signed in can do this.", Whose: asPerson}, "Ask an owner"},
		{client.Problem{Kind: problem.Denied, Detail: "Prove yourself again: it is long ago.", Whose: asPerson}, "/session/prove"},
		{client.Problem{Kind: problem.Unauthenticated, Whose: asKey}, "Check AVOUCH_API_KEY"},
		{client.Problem{Kind: problem.Unauthenticated, Whose: asPerson}, "fifteen minutes"},
		{client.Problem{Kind: problem.Unauthenticated, Whose: asAgent}, "avouch agents token"},
	} {
		c.p.Known, c.p.Title = true, "T"
		var b bytes.Buffer
		report(&b, &c.p, false)
		_, todo, there := strings.Cut(b.String(), "\nWhat to do: ")
		if there == (c.want == "-") || there && !strings.Contains(todo, c.want) {
			t.Errorf("%+v: %s", c.p, b.String())
		}
	}
	if says := remedy(&client.Problem{Kind: problem.TooMany, Known: true}); strings.Contains(says, "Try again") {
		t.Errorf("of what has no time at which it works again: %q", says)
	}
}

// TestPlainly: what a library of the command line or a package of ours says is told as a person would.
func TestPlainly(t *testing.T) {
	t.Parallel()
	for says, want := range map[string]string{
		`expected "<agent-id>"`:                                                         "<agent-id> is missing",
		`--limit: expected string value but got "EOL" (<EOL>)`:                          "--limit needs a value",
		`--status must be one of "","active" but got "x"`:                               `--status must be one of "active" but got "x"`,
		"server.Open: tenantdb.Open: nothing answers":                                   "nothing answers",
		"the server cannot start: server.Open: org.FixIssuer: another issuer: this one": "the server cannot start: another issuer: this one",
		"open /x/keys.Old: no such file":                                                "open /x/keys.Old: no such file",
		"dial tcp db.Example: refused":                                                  "dial tcp db.Example: refused",
		"a.b: c":                                                                        "a.b: c",
	} {
		if got := plainly(says); got != want {
			t.Errorf("%q became %q", says, got)
		}
	}
}

// people gives every command but those that run and look after a server: their flags are the server's settings.
func people(t *testing.T, visit func(where string, n *kong.Node)) {
	t.Helper()
	parser, err := newParser(&root{})
	if err != nil {
		t.Fatal(err)
	}
	var walk func(n *kong.Node)
	walk = func(n *kong.Node) {
		if n.Group != nil && n.Group.Key == "server" {
			return
		}
		visit(n.FullPath(), n)
		for _, child := range n.Children {
			walk(child)
		}
	}
	walk(parser.Model.Node)
}

// TestEveryCommandRuns: whatever can be chosen is a command.
func TestEveryCommandRuns(t *testing.T) {
	t.Parallel()
	parser, err := newParser(&root{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range parser.Model.Leaves(false) {
		if _, is := n.Target.Addr().Interface().(command); !is {
			t.Errorf("%s cannot be run", n.FullPath())
		}
	}
}

// TestEveryCommandAndFlag holds what the help says of all of them: a sentence each, and a variable for every flag.
func TestEveryCommandAndFlag(t *testing.T) {
	t.Parallel()
	people(t, func(where string, n *kong.Node) {
		if n.Type == kong.CommandNode && !strings.HasSuffix(n.Help, ".") {
			t.Errorf("%s: its help is no sentence: %q", where, n.Help)
		}
		for _, p := range n.Positional {
			if !strings.HasSuffix(p.Help, ".") {
				t.Errorf("%s <%s>: its help is no sentence: %q", where, p.Name, p.Help)
			}
		}
		seen := map[string]string{"AVOUCH_JSON": "json"}
		for _, f := range n.Flags {
			if f.Name == "help" || f.Name == "version" || f.Name == "json" {
				continue
			}
			if !strings.HasSuffix(f.Help, ".") {
				t.Errorf("%s --%s: its help is no sentence: %q", where, f.Name, f.Help)
			}
			if len(f.Envs) != 1 || !strings.HasPrefix(f.Envs[0], "AVOUCH_") || seen[f.Envs[0]] != "" {
				t.Errorf("%s --%s: its variables are %q", where, f.Name, f.Envs)
				continue
			}
			seen[f.Envs[0]] = f.Name
		}
	})
}

// TestNoSecretInArguments: neither keys nor tokens nor addresses of databases have a flag, but for --dsn, which is for databases
// that ask for no password; its help says so.
func TestNoSecretInArguments(t *testing.T) {
	t.Parallel()
	flags := 0
	people(t, func(where string, n *kong.Node) {
		for _, f := range n.Flags {
			flags++
			if f.Name == "dsn" {
				if !strings.Contains(f.Help, "password") {
					t.Errorf("%s --dsn does not say where a password belongs: %s", where, f.Help)
				}
				continue
			}
			if f.Target.Type() == reflect.TypeFor[secret.String]() || strings.HasSuffix(f.Name, "database-url") {
				t.Errorf("%s --%s takes a secret", where, f.Name)
			}
		}
	})
	if flags < 50 {
		t.Errorf("only %d flags were looked at", flags)
	}
}
