package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/avouch-dev/avouch/internal/client"
	"github.com/avouch-dev/avouch/internal/problem"
)

// The exit codes. They are public.
const (
	exitWell  = 0
	exitFalse = 1 // the thing asked about does not hold: denied, missing, tampered, unhealthy
	exitUsage = 2
	exitLacks = 3 // the environment lacks something: a setting, a server, a file
)

// exit is an error that decides the exit code. With a nil err there is nothing more to say than what was printed.
type exit struct {
	code int
	err  error
}

// Error is what is said.
func (e *exit) Error() string {
	if e.err == nil {
		return "it does not hold"
	}
	return e.err.Error()
}

// Unwrap is the cause.
func (e *exit) Unwrap() error { return e.err }

// advised is an error with what to do about it, where a command knows that better than the error's kind tells.
type advised struct {
	err    error
	remedy string
}

// Error is what is said.
func (a *advised) Error() string { return a.err.Error() }

// Unwrap is the cause.
func (a *advised) Unwrap() error { return a.err }

func lacks(format string, args ...any) error { return &exit{exitLacks, fmt.Errorf(format, args...)} }

func misused(format string, args ...any) error { return &exit{exitUsage, fmt.Errorf(format, args...)} }

// codeOf is the exit code of an error.
func codeOf(err error) int {
	var e *exit
	var p *client.Problem
	var parse *kong.ParseError
	var setting *client.Setting
	switch {
	case err == nil:
		return exitWell
	case errors.As(err, &e):
		return e.code
	case errors.As(err, &parse), errors.As(err, &setting):
		return exitUsage
	case !errors.As(err, &p):
		return exitLacks
	}
	switch p.Kind {
	case problem.Invalid:
		return exitUsage
	case problem.Denied, problem.TenantKey, problem.Missing, problem.Conflict:
		return exitFalse
	}
	return exitLacks
}

// report tells an error on standard error, in words for people or as one JSON object, and gives its exit code.
func report(to io.Writer, err error, asJSON bool) int {
	code := codeOf(err)
	var e *exit
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.As(err, &e) && e.err == nil:
	case asJSON:
		reportJSON(to, err, code)
	default:
		reportWords(to, err)
	}
	return code
}

func reportWords(to io.Writer, err error) {
	says := strings.TrimSuffix(err.Error(), " See `errors`.")
	var p *client.Problem
	if errors.As(err, &p) && p.Detail != "" {
		says = strings.TrimPrefix(says, p.Title+": ") // the detail says it all, and what to do stands below
	}
	fmt.Fprintf(to, "avouch: %s\n", clean(plainly(says)))
	var away *client.Unreachable
	var parse *kong.ParseError
	switch {
	case errors.As(err, &p):
		for _, f := range p.Fields {
			fmt.Fprintf(to, "  %s: %s\n", clean(f.Location), clean(f.Message))
		}
		says, a := remedy(p), (*advised)(nil)
		if errors.As(err, &a) {
			says = a.remedy
		}
		if says != "" {
			fmt.Fprintf(to, "What to do: %s\n", clean(says))
		}
		if p.RequestID != "" {
			fmt.Fprintf(to, "Request id: %s\n", clean(p.RequestID))
		}
	case errors.As(err, &away):
		fmt.Fprintln(to, "What to do: Check AVOUCH_URL, and that the server runs.")
	case errors.As(err, &parse):
		name := "avouch"
		if node := parse.Context.Selected(); node != nil {
			name = node.FullPath()
		}
		fmt.Fprintf(to, "What to do: %s --help says how it is used.\n", name)
	}
}

// plainly says what the reader of the command line finds wrong, in words of ours.
func plainly(says string) string {
	says = choices(says)
	if flag, ok := strings.CutSuffix(says, `: expected string value but got "EOL" (<EOL>)`); ok {
		return flag + " needs a value"
	}
	if names, ok := strings.CutPrefix(says, `expected "<`); ok {
		return "<" + strings.TrimSuffix(names, `"`) + " is missing"
	}
	return operations().ReplaceAllString(says, "$1")
}

// choices leaves out the empty one of those that a flag has, which stands for no flag.
func choices(says string) string {
	return strings.Replace(says, `must be one of "",`, "must be one of ", 1)
}

// operations matches the names of operations that errors carry, which say nothing to who only runs the program:
// "server.Open: ". They stand at the beginning or behind another part.
func operations() *regexp.Regexp { return regexp.MustCompile(`(^|: )(?:[a-z]+\.[A-Z][A-Za-z]*: )+`) }

// remedy says what to do about a problem, to somebody who has a command line before them. It is empty where the detail says all that there
// is to be said: what conflicts is another thing each time, and so is what to do about it.
func remedy(p *client.Problem) string {
	if !p.Known {
		return "Check that AVOUCH_URL is an Avouch server's, and what stands between: a proxy may have answered."
	}
	later := "Try again later."
	if p.RetryAfter > 0 {
		later = "Try again in " + length(p.RetryAfter) + "."
	}
	switch p.Kind {
	case problem.Invalid:
		return "Correct what is named; sent unchanged it fails again."
	case problem.Unauthenticated:
		return unproved(p.Whose)
	case problem.Denied, problem.Conflict:
		if p.RetryAfter > 0 {
			return later
		}
		return refused(p)
	case problem.TooMany:
		if p.RetryAfter == 0 { // no time at which it could be sent again
			return "Use another key, or wait if what is spent begins anew."
		}
		return later
	case problem.Unavailable:
		return later
	case problem.Internal:
		return later + " If it lasts, report it with the request id."
	}
	return p.Kind.Page().Remedy
}

// unproved says what to do about a credential that is not taken.
func unproved(whose string) string {
	switch whose {
	case asPerson:
		return "Sign in again, or get another access token: one is good for fifteen minutes, and ends with its session."
	case asAgent:
		return "Give the agent another token, which its organisation issues with avouch agents token."
	}
	return "Check AVOUCH_API_KEY: the key may be mistyped, expired or revoked, or of another installation than AVOUCH_URL."
}

const proveAgain = "Prove yourself again"

// ofPeople reports whether a refusal is of what only people do who have signed in, or have proved themselves a moment ago.
func ofPeople(p *client.Problem) bool {
	return strings.HasPrefix(p.Detail, proveAgain) || strings.Contains(p.Detail, "signed in")
}

func refused(p *client.Problem) string {
	switch {
	case p.Kind == problem.Conflict && p.Detail == "":
		return "Look at it as it is now, and decide again."
	case p.Kind == problem.Conflict:
		return ""
	case strings.HasPrefix(p.Detail, proveAgain):
		return "Prove yourself with POST /api/v1/session/prove, or sign in again; the same access token goes on after the former."
	case ofPeople(p) && p.Whose != asPerson:
		return "Sign in as a person who may do this, and put the access token into AVOUCH_ACCESS_TOKEN."
	}
	return "Ask an owner of the organisation, or use a credential that may do this."
}

func reportJSON(to io.Writer, err error, code int) {
	out := struct {
		Error string          `json:"error"`
		Exit  int             `json:"exit_code"`
		Was   *client.Problem `json:"problem,omitempty"`
	}{choices(err.Error()), code, nil}
	errors.As(err, &out.Was)
	b, fault := json.Marshal(out)
	if fault != nil {
		b = []byte(`{"error":"the error cannot be told as JSON"}`)
	}
	fmt.Fprintf(to, "%s\n", b)
}
