package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/avouch-dev/avouch/internal/client"
)

type vaultUse struct {
	asker    `embed:""`
	Item     string   `arg:"" help:"The item's id, or its name: one of the type secret."`
	Method   string   `arg:"" help:"The request's method, such as GET."`
	Target   string   `arg:"" name:"target" help:"The address to send it to, at a host that the item's policy allows."`
	Header   []string `sep:"none" placeholder:"'NAME: VALUE'" help:"A header of the request; repeat it. The one with the secret is the server's to set."`
	BodyFile string   `placeholder:"FILE" help:"File with the request's body; - is standard input."`
	Status   bool     `xor:"reduce" help:"Answer with the status alone."`
	Pointer  []string `sep:"none" xor:"reduce" placeholder:"POINTER" help:"Answer with what this JSON pointer finds, such as /data/0/id; repeat it."`
}

// Help is shown under the usage.
func (*vaultUse) Help() string {
	return `The server puts the secret into the header that the item's policy names, sends the request, and gives the answer without the secret. The answer's body goes to standard output and its status to standard error; the exit code says that there was an answer, not that its status was a good one.

    avouch vault use "GitHub token" GET https://api.github.com/user --pointer /login`
}

// relayed is what came of a request.
type relayed struct {
	Status     int                        `json:"status"`
	Header     map[string][]string        `json:"header"`
	Body       string                     `json:"body"`
	BodyBase64 []byte                     `json:"body_base64"`
	Values     map[string]json.RawMessage `json:"values"`
	Truncated  bool                       `json:"truncated"`
	Masked     int                        `json:"masked"`
}

// Run has a request made.
func (c *vaultUse) Run(ctx context.Context, g *globals) error {
	body, err := c.request(g)
	if err != nil {
		return err
	}
	call := client.Call{Method: http.MethodPost, Path: []string{"fetch"}, Body: body}
	return onItem(ctx, g, &c.asker, c.Item, call, func(p page, v relayed) error { return c.print(g, p, v) })
}

func (c *vaultUse) request(g *globals) (map[string]any, error) {
	if u, err := url.Parse(c.Target); err == nil && u.User != nil {
		return nil, misused("a password is no part of an address: everybody on this machine can see arguments")
	}
	header := map[string]string{}
	for _, line := range c.Header {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, misused("--header %s is not like 'Accept: text/plain'", name)
		}
		header[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	body := map[string]any{"method": strings.ToUpper(c.Method), "url": c.Target, "header": header}
	switch {
	case c.Status:
		body["reduce"] = map[string]any{"status": true}
	case c.Pointer != nil:
		body["reduce"] = map[string]any{"pointers": c.Pointer}
	default:
		body["reduce"] = map[string]any{}
	}
	if c.BodyFile != "" {
		if err := c.distinct(c.BodyFile); err != nil {
			return nil, err
		}
		content, err := readInput(g, c.BodyFile, "the body")
		if err != nil {
			return nil, err
		}
		body["body"] = base64.StdEncoding.EncodeToString(content)
	}
	return body, nil
}

func (c *vaultUse) print(g *globals, p page, v relayed) error {
	if c.Status {
		_, err := fmt.Fprintln(p.to, v.Status)
		return err
	}
	notes := ""
	if v.Masked > 0 {
		notes = ", the secret masked in " + plural(int64(v.Masked), "place", "places")
	}
	if v.Truncated {
		notes += ", cut off: the answer is longer"
	}
	if _, err := fmt.Fprintf(g.Err, "status %d%s\n", v.Status, notes); err != nil {
		return err
	}
	if c.Pointer != nil {
		var all []detail
		for _, at := range slices.Sorted(maps.Keys(v.Values)) {
			all = append(all, detail{at, cell{text: string(v.Values[at])}})
		}
		return writeDetails(p, "", all)
	}
	content := v.BodyBase64
	if content == nil {
		content = []byte(v.Body)
	}
	if p.width == 0 {
		_, err := p.to.Write(content)
		return err
	}
	for line := range strings.Lines(string(content)) { // what a host sends must not move the cursor
		if _, err := io.WriteString(p.to, clean(strings.TrimRight(line, "\r\n"))+"\n"); err != nil {
			return err
		}
	}
	return nil
}
