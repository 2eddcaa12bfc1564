package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/client"
	"github.com/avouch-dev/avouch/internal/secret"
)

// remote is what the commands that ask a server have in common.
type remote struct {
	URL       string `name:"url" env:"AVOUCH_URL" placeholder:"URL" help:"The server: https://host, or http://127.0.0.1:port on this machine."`
	KeyFile   string `name:"key-file" env:"AVOUCH_API_KEY_FILE" placeholder:"FILE" help:"File with the API key, instead of the variable AVOUCH_API_KEY; - is standard input."`
	TokenFile string `name:"access-token-file" env:"AVOUCH_ACCESS_TOKEN_FILE" placeholder:"FILE" help:"File with a person's access token, instead of the variable AVOUCH_ACCESS_TOKEN; - is standard input."`
}

// The kinds of those who ask.
const (
	asPerson = "person"
	asKey    = "key"
	asAgent  = "agent"
)

// holder is one of those who may ask: the file of the credential, what that is, and the value of its variable, which is for no file.
type holder struct{ as, file, what, value string }

// holders are those whose credentials every command takes, the first of which counts.
func (r *remote) holders(g *globals) []holder {
	return []holder{{asPerson, r.TokenFile, "access token", g.Getenv("AVOUCH_ACCESS_TOKEN")}, {asKey, r.KeyFile, "key", g.Getenv("AVOUCH_API_KEY")}}
}

// readsInput reports whether the credential comes from standard input, which nothing else can then.
func (r *remote) readsInput() bool { return r.KeyFile == "-" || r.TokenFile == "-" }

// credentialOf is that of the first who has one, or an empty one.
func credentialOf(g *globals, all []holder) (who holder, credential secret.String, err error) {
	for _, who = range all {
		credential = secret.Text(strings.TrimSpace(who.value))
		if who.file != "" {
			credential, err = credentialIn(g, who.file, who.what)
		}
		if err != nil || !credential.IsZero() {
			return who, credential, err
		}
	}
	return holder{}, secret.String{}, nil
}

// client is a client with the caller's credential.
func (r *remote) client(g *globals) (*client.Client, error) {
	who, credential, err := credentialOf(g, r.holders(g))
	if err != nil {
		return nil, err
	}
	if credential.IsZero() {
		return nil, lacks("there is no API key, and no person's access token. Put a key into the variable AVOUCH_API_KEY or into a file that --key-file names, or a token into AVOUCH_ACCESS_TOKEN or one that --access-token-file names")
	}
	return r.connect(credential, who.as, 0)
}

// connect is a client with a credential, and whose it is, or with none. It waits so long for an answer; 0 is as long as is usual.
func (r *remote) connect(key secret.String, whose string, patience time.Duration) (*client.Client, error) {
	if r.URL == "" {
		return nil, lacks("AVOUCH_URL is not set. Give the server's address there or with --url; `avouch dev` starts one here, and prints its address")
	}
	return client.New(client.Config{URL: r.URL, Key: key, Whose: whose, Agent: "avouch/" + thisBuild().Version, Timeout: patience})
}

// credentialIn reads a key or a token from a file that is its owner's alone, or from standard input.
func credentialIn(g *globals, path, what string) (secret.String, error) {
	if path == "-" {
		return readSecret(g.In, "standard input")
	}
	name := "the " + what + " file"
	f, err := os.Open(path)
	if err != nil {
		return secret.String{}, lacks("%s cannot be read: %w", name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return secret.String{}, lacks("%s cannot be read: %w", name, err)
	}
	if mode := info.Mode(); runtime.GOOS != "windows" && mode.IsRegular() && mode.Perm()&0o077 != 0 {
		return secret.String{}, lacks("%s is open to others (mode %04o): chmod 600 %s, and make a new %s if somebody may have read it", name, mode.Perm(), path, what)
	}
	return readSecret(f, name)
}

// readSecret reads a key or a token that stands alone.
func readSecret(from io.Reader, name string) (secret.String, error) {
	const most = 64 << 10
	b, err := io.ReadAll(io.LimitReader(from, most))
	if err != nil {
		return secret.String{}, lacks("%s cannot be read: %w", name, err)
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return secret.String{}, lacks("%s is empty", name)
	}
	return secret.Text(s), nil
}

// do sends one call to the server.
func (r *remote) do(ctx context.Context, g *globals, call client.Call) (client.Answer, error) {
	c, err := r.client(g)
	if err != nil {
		return client.Answer{}, err
	}
	return c.Do(ctx, call)
}

// api is a path of the API.
func api(segments ...string) []string { return append([]string{"api", "v1"}, segments...) }

// show prints one object: as it came, or for people.
func show[T any](g *globals, raw json.RawMessage, human func(page, T) error) error {
	if g.JSON {
		return printJSON(g.Out, raw)
	}
	var v T
	if err := (client.Answer{Body: raw}).Into(&v); err != nil {
		return err
	}
	return human(g.page(), v)
}

// printJSON prints a value on one line, as it came: names that this program does not know are kept.
func printJSON(to io.Writer, raw json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return fmt.Errorf("the server's answer is no JSON: %w", err)
	}
	b.WriteByte('\n')
	_, err := to.Write(b.Bytes())
	return err
}

// listing is how many of a list are wanted.
type listing struct {
	Limit int `default:"100" placeholder:"N" help:"At most so many; 0 is all."`
}

const pageSize = 200

// list fetches a list page by page, and prints it: each item as it came, or a table for people.
func list[T any](ctx context.Context, g *globals, r *remote, most int, call client.Call, field string, t table, row func(T) []cell) error {
	c, err := r.client(g)
	if err != nil {
		return err
	}
	return listOf(ctx, g, c, most, call, field, t, row)
}

func listOf[T any](ctx context.Context, g *globals, c *client.Client, most int, call client.Call, field string, t table, row func(T) []cell) error {
	n := 0
	more, err := pages(ctx, c, most, call, field, func(raw json.RawMessage) error {
		n++
		if g.JSON {
			return printJSON(g.Out, raw)
		}
		var v T
		if err := (client.Answer{Body: raw}).Into(&v); err != nil {
			return err
		}
		t.rows = append(t.rows, row(v))
		return nil
	})
	if err != nil || g.JSON {
		return err
	}
	if n == 0 {
		fmt.Fprintln(g.Err, "There are none.")
		return nil
	}
	if err := t.write(g.page()); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(g.Err, "There are more than these %d: --limit 0 shows all.\n", n)
	}
	return nil
}

// pages gives the items of a list one by one, and says whether there are more than were wanted.
func pages(ctx context.Context, c *client.Client, most int, call client.Call, field string, item func(json.RawMessage) error) (more bool, err error) {
	query := url.Values{}
	for name, values := range call.Query {
		query[name] = values
	}
	call.Query = query
	for n := 0; ; {
		size := pageSize
		if most > 0 {
			size = min(size, most-n)
		}
		query.Set("limit", strconv.Itoa(size))
		answer, err := c.Do(ctx, call)
		if err != nil {
			return false, err
		}
		var body map[string]json.RawMessage
		var items []json.RawMessage
		var next string
		err = errors.Join(answer.Into(&body), client.Answer{Body: or(body[field], "[]")}.Into(&items), client.Answer{Body: or(body["next_cursor"], `""`)}.Into(&next))
		if err != nil {
			return false, err
		}
		for _, raw := range items {
			if err := item(raw); err != nil {
				return false, err
			}
		}
		n += len(items)
		if next == "" || most > 0 && n >= most {
			return next != "", nil
		}
		query.Set("cursor", next)
	}
}

func or(raw json.RawMessage, otherwise string) json.RawMessage {
	if raw == nil {
		return json.RawMessage(otherwise)
	}
	return raw
}
