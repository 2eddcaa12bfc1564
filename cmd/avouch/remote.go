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

	"github.com/avouch-dev/avouch/internal/client"
	"github.com/avouch-dev/avouch/internal/secret"
)

// remote is what the commands that ask a server have in common.
type remote struct {
	URL     string `name:"url" env:"AVOUCH_URL" placeholder:"URL" help:"The server: https://host, or http://127.0.0.1:port on this machine."`
	KeyFile string `name:"key-file" env:"AVOUCH_API_KEY_FILE" placeholder:"FILE" help:"File with the API key, instead of the variable AVOUCH_API_KEY; - is standard input."`
}

// client is a client with the caller's key.
func (r *remote) client(g *globals) (*client.Client, error) {
	key, err := r.key(g)
	if err != nil {
		return nil, err
	}
	if key.IsZero() {
		return nil, lacks("there is no API key. Put it into the variable AVOUCH_API_KEY, or into a file that --key-file names")
	}
	return r.connect(key)
}

// connect is a client with a given key, or with none.
func (r *remote) connect(key secret.String) (*client.Client, error) {
	if r.URL == "" {
		return nil, lacks("AVOUCH_URL is not set. Give the server's address there or with --url; `avouch dev` starts one here, and prints its address")
	}
	return client.New(client.Config{URL: r.URL, Key: key, Agent: "avouch/" + thisBuild().Version})
}

func (r *remote) key(g *globals) (secret.String, error) {
	switch r.KeyFile {
	case "":
		return secret.Text(strings.TrimSpace(g.Getenv("AVOUCH_API_KEY"))), nil
	case "-":
		return readSecret(g.In, "standard input")
	}
	f, err := os.Open(r.KeyFile)
	if err != nil {
		return secret.String{}, lacks("the key file cannot be read: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return secret.String{}, lacks("the key file cannot be read: %w", err)
	}
	if mode := info.Mode(); runtime.GOOS != "windows" && mode.IsRegular() && mode.Perm()&0o077 != 0 {
		return secret.String{}, lacks("the key file is open to others (mode %04o): chmod 600 %s, and make a new key if somebody may have read it", mode.Perm(), r.KeyFile)
	}
	return readSecret(f, "the key file")
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
