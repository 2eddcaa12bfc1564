package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/avouch-dev/avouch/internal/client"
)

type keysImport struct {
	remote `embed:""`
	File   string `arg:"" help:"A file with one JSON object a line, or - for standard input."`
}

// Help is shown under the usage.
func (*keysImport) Help() string {
	return `Takes over keys that were made elsewhere, by the SHA-256 of each: nobody needs to see them. A line has a hash, 64 hexadecimal digits, and a name; and may have scopes, owner, expires_at, max_uses, rate_limits, allowed_cidrs and metadata.

    {"hash":"9f86d0...","name":"Ada's laptop","owner":"user_17","scopes":["documents:read"],"expires_at":"never"}

They go in parts of at most 100, each whole or not at all. What was imported before stays as it is, so it can be run again.`
}

// A part is small, so that it is soon done: while it is imported, verifications of the organisation wait.
const (
	importKeys  = 100
	importBytes = 512 << 10 // what proxies let through
	longestLine = 1 << 20
)

// importing sends keys in parts.
type importing struct {
	c               *keysImport
	g               *globals
	part            []json.RawMessage
	lines           []int // of the file, one for each key of the part
	bytes           int   // of the part
	imported, there int
	cut             int       // expire sooner than their lines say
	first           time.Time // the first end of those
}

// Run imports keys.
func (c *keysImport) Run(ctx context.Context, g *globals) error {
	in := g.In
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return lacks("the file of keys: %w", err)
		}
		defer f.Close()
		in = f
	}
	run, line := importing{c: c, g: g}, 1
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, longestLine)
	for ; lines.Scan(); line++ {
		if err := run.take(ctx, lines.Bytes(), line); err != nil {
			return err
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return run.stopped(misused("%s is longer than a key can be: one JSON object a line", run.at(line)))
	case err != nil:
		return run.stopped(lacks("%s cannot be read: %w", run.at(line), err))
	}
	if err := run.send(ctx); err != nil {
		return err
	}
	if run.imported+run.there == 0 {
		return misused("the file holds no keys")
	}
	if g.JSON {
		return nil
	}
	if run.cut > 0 {
		fmt.Fprintf(g.Err, "Note: %s sooner than they would, %s, with your own key. Import with a key that lasts longer if that is too soon.\n",
			plural(int64(run.cut), "key expires", "keys expire"), ago(run.first, g.Now()))
	}
	_, err := fmt.Fprintf(g.Out, "%s imported, %s there already.\n", grouped(int64(run.imported)), grouped(int64(run.there)))
	return err
}

// at is a line of the file, as people and programs find it.
func (r *importing) at(line int) string { return fmt.Sprintf("%s:%d", called(r.c.File), line) }

// stopped says of an error what had been done before it.
func (r *importing) stopped(err error) error {
	if n := int64(r.imported + r.there); n > 0 {
		return fmt.Errorf("after %s, which stay: %w", plural(n, "key", "keys"), err)
	}
	return err
}

// take adds a line to the part, which is sent before it is too large.
func (r *importing) take(ctx context.Context, text []byte, line int) error {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return nil
	}
	var key struct{ Hash json.RawMessage }
	if err := json.Unmarshal(text, &key); err != nil {
		return r.stopped(misused("%s is not one JSON object: %w", r.at(line), err))
	}
	if key.Hash == nil {
		return r.stopped(misused("%s has no hash: each line is one key, and no list of keys", r.at(line)))
	}
	raw, err := json.Marshal(json.RawMessage(text)) // as it is sent
	if err != nil {
		return err
	}
	if len(r.part) == importKeys || r.bytes+len(raw) > importBytes {
		if err := r.send(ctx); err != nil {
			return err
		}
	}
	r.part, r.lines, r.bytes = append(r.part, raw), append(r.lines, line), r.bytes+len(raw)
	return nil
}

func (r *importing) send(ctx context.Context) error {
	if len(r.part) == 0 {
		return nil
	}
	answer, err := r.c.do(ctx, r.g, client.Call{Method: http.MethodPost, Path: api("keys", "import"), Body: map[string]any{"keys": r.part}})
	if err != nil {
		r.place(err)
		return r.stopped(err)
	}
	var done struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := answer.Into(&done); err != nil {
		return err
	}
	for _, raw := range done.Keys {
		if err := r.count(raw); err != nil {
			return err
		}
	}
	r.part, r.lines, r.bytes = r.part[:0], r.lines[:0], 0
	return nil
}

// place lets a problem name the lines of the file, and not the places in what was sent.
func (r *importing) place(err error) {
	var p *client.Problem
	if !errors.As(err, &p) {
		return
	}
	inPart := regexp.MustCompile(`^body\.keys\[(\d+)\]\.?`)
	for i, f := range p.Fields {
		m := inPart.FindStringSubmatch(f.Location)
		if m == nil {
			continue
		}
		if n, err := strconv.Atoi(m[1]); err == nil && n < len(r.lines) {
			p.Fields[i].Location = r.at(r.lines[n])
			if rest := f.Location[len(m[0]):]; rest != "" {
				p.Fields[i].Location += ": " + rest
			}
		}
	}
}

// count takes note of what became of one key.
func (r *importing) count(raw json.RawMessage) error {
	var k struct {
		Status  string    `json:"status"`
		Cut     bool      `json:"expiry_cut"`
		Expires time.Time `json:"expires_at"`
	}
	if err := (client.Answer{Body: raw}).Into(&k); err != nil {
		return err
	}
	if k.Status == "imported" {
		r.imported++
	} else {
		r.there++
	}
	if k.Cut {
		if r.cut++; r.first.IsZero() || k.Expires.Before(r.first) {
			r.first = k.Expires
		}
	}
	if r.g.JSON {
		return printJSON(r.g.Out, raw)
	}
	return nil
}
