package main

import (
	"fmt"
	"io"
	"regexp"
	"slices"
)

// secrets matches what holds a key or a token, or a piece of one, whatever stands before and behind it, and the addresses in which
// the seeds of one-time codes travel. A key's id and hint, avk_live_<id>_...<end>, hold nothing secret.
var secrets = regexp.MustCompile(`av[a-z]_(?:live|test)_\w{13,}|eyJ[\w-]+\.eyJ[\w-]+(?:\.[\w-]*)*|(?i:otpauth(?:-migration)?://)[^\s/?"]+[/?][^\s"]*`)

// redact blanks keys and tokens.
func redact(s string) string { return secrets.ReplaceAllString(s, "[secret]") }

// redacted writes on what it is given, without keys and tokens. Standard error always is: an argument in the wrong place, or a
// file that is called like a key, comes back in messages. Each message must be one Write.
type redacted struct{ to io.Writer }

// Write writes one message.
func (r redacted) Write(b []byte) (int, error) {
	if _, err := io.WriteString(r.to, redact(string(b))); err != nil {
		return 0, fmt.Errorf("cannot be written: %w", err)
	}
	return len(b), nil
}

// noSecrets refuses arguments that hold a key or a token: before anything is done with them, such as sending them to a server
// as part of an address.
func noSecrets(args []string) error {
	if slices.ContainsFunc(args, secrets.MatchString) {
		return misused("a key or a token is no argument, nor is the seed of one-time codes: everybody on this machine can see arguments, and shells keep them. " +
			"If the one given was real, revoke it by its id: avouch keys list and avouch agents tokens show ids. " +
			"Where one itself is asked for, send it to standard input, and give - as the argument")
	}
	return nil
}
