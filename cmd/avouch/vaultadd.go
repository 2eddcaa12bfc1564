package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"github.com/avouch-dev/avouch/internal/client"
)

// knownBy are the flags that say what people know an item by.
type knownBy struct {
	Issuer  *string  `placeholder:"TEXT" help:"Whose account it is, such as AWS."`
	Account *string  `placeholder:"TEXT" help:"Which account."`
	Folder  *string  `placeholder:"FOLDER" help:"Where it lies, by parts: cloud/aws."`
	Tag     []string `placeholder:"TAG" help:"Tags; repeat it or separate by commas."`
	Notes   *string  `placeholder:"TEXT" help:"What whoever uses it should know. Nothing secret: who sees the item sees them."`
	Icon    *string  `placeholder:"NAME" help:"A name that a client knows a picture by."`
	Listed  *bool    `negatable:"" help:"Whether every member may know that it is there, and ask for it."`
}

// describe puts what was given into a body.
func (a *knownBy) describe(body map[string]any) {
	for name, value := range map[string]*string{"issuer": a.Issuer, "account": a.Account, "folder": a.Folder, "notes": a.Notes, "icon": a.Icon} {
		if value != nil {
			body[name] = *value
		}
	}
	if a.Tag != nil {
		body["tags"] = a.Tag
	}
	if a.Listed != nil {
		body["listed"] = *a.Listed
	}
}

// narrowing are the flags of an item's policy.
type narrowing struct {
	PolicyFile string   `placeholder:"FILE" help:"The policy as JSON: what a secret may be used for (fetch) stands there. The flags beside it change it. - is standard input."`
	Approval   *bool    `negatable:"" help:"Whether a second person must approve before anybody uses it."`
	Hours      *string  `placeholder:"HOURS" help:"Only then, such as 'mon-fri 08:00-18:00 Europe/Berlin'; always takes it away."`
	From       []string `placeholder:"NETWORK" help:"Only from this address or network; repeat it. anywhere takes it away."`
	Uses       string   `enum:",once,once_each,any" default:"" placeholder:"HOW" help:"Each code once, to whoever comes first (once), or once to each (once_each); any takes it away."`
}

// change changes a policy, and says whether there was anything to change.
func (n *narrowing) change(g *globals, policy map[string]any) (changed bool, err error) {
	if n.PolicyFile != "" {
		text, err := readInput(g, n.PolicyFile, "the policy")
		if err != nil {
			return false, err
		}
		var read map[string]any
		if err := json.Unmarshal(text, &read); err != nil || read == nil {
			return false, misused(`--policy-file holds no JSON object such as {"fetch": {"hosts": ["api.example.com"], "header": "Authorization", "value": "Bearer {secret}"}}`)
		}
		clear(policy)
		for name, value := range read {
			policy[name] = value
		}
		changed = true
	}
	if n.Approval != nil {
		policy["approval"], changed = *n.Approval, true
	}
	if n.Hours != nil {
		delete(policy, "hours")
		if changed = true; *n.Hours != "always" {
			h, err := parseHours(*n.Hours)
			if err != nil {
				return false, misused("--hours: %w", err)
			}
			policy["hours"] = h
		}
	}
	if n.From != nil {
		networks, err := parseNetworks(n.From)
		if err != nil {
			return false, err
		}
		policy["allowed_cidrs"], changed = networks, true
	}
	if n.Uses != "" {
		if policy["uses"], changed = n.Uses, true; n.Uses == "any" {
			delete(policy, "uses")
		}
	}
	return changed, nil
}

// parseNetworks reads networks; an address alone is one of its own, and "anywhere" alone none.
func parseNetworks(texts []string) ([]string, error) {
	out := []string{}
	if len(texts) == 1 && texts[0] == "anywhere" {
		return out, nil
	}
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()).String())
			continue
		}
		n, err := netip.ParsePrefix(text)
		if err != nil || n != n.Masked() {
			return nil, misused("--from %s is neither an address nor a network such as 10.0.0.0/8", text)
		}
		out = append(out, text)
	}
	return out, nil
}

// source is where a secret comes from that is to be kept.
type source struct {
	SecretFile string `placeholder:"FILE" help:"File with the secret; standard input if left out, or -."`
	Algorithm  string `enum:",SHA1,SHA256,SHA512" default:"" placeholder:"NAME" help:"Of the codes: SHA1, SHA256 or SHA512. An otpauth:// address says it itself."`
	Digits     int    `placeholder:"N" help:"Of the codes, 6 if left out. An otpauth:// address says it itself."`
	Period     int64  `placeholder:"SECONDS" help:"Of the codes, 30 if left out. An otpauth:// address says it itself."`
	Counter    *int64 `placeholder:"N" help:"Of the next code, for hotp. An otpauth:// address says it itself."`
}

// mostInput is more than anything that is sent from here may have.
const mostInput = 32 << 20

// fill reads the secret, and puts it where its type has it.
func (s *source) fill(g *globals, kind string, body map[string]any) error {
	raw, err := readInput(g, s.SecretFile, "the secret")
	if err != nil {
		return err
	}
	text := strings.TrimSpace(string(raw))
	clear(raw)
	for name, given := range map[string]any{"algorithm": s.Algorithm, "digits": s.Digits, "period": s.Period} {
		if given != "" && given != 0 && given != int64(0) {
			body[name] = given
		}
	}
	if s.Counter != nil {
		body["counter"] = *s.Counter
	}
	const address = "otpauth://"
	switch {
	case text == "":
		return lacks("the secret is empty")
	case len(text) > len(address) && strings.EqualFold(text[:len(address)], address):
		body["uri"] = text
	case kind == "":
		return misused("--type says what it is: totp, hotp, steam, codes or secret. Only an otpauth:// address says so itself")
	case kind == "codes":
		var codes []string
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" {
				codes = append(codes, line)
			}
		}
		body["codes"] = codes
	default:
		body["secret"] = text
	}
	return nil
}

// readInput reads a file whole, or standard input: a person at a terminal is not waited for.
func readInput(g *globals, path, what string) ([]byte, error) {
	from, name := g.In, "standard input"
	if path == "" || path == "-" {
		if f, ok := g.In.(*os.File); ok && terminalWidth(f) > 0 {
			return nil, misused("%s comes from a file, or on standard input, and not from the keyboard, where it would be seen", what)
		}
	} else {
		f, err := os.Open(path)
		if err != nil {
			return nil, lacks("%s cannot be read: %w", what, err)
		}
		defer f.Close()
		from, name = f, path
	}
	b, err := io.ReadAll(io.LimitReader(from, mostInput+1))
	switch {
	case err != nil:
		return nil, lacks("%s cannot be read: %w", name, err)
	case len(b) > mostInput:
		return nil, misused("%s is larger than %d MiB", name, mostInput>>20)
	}
	return b, nil
}

// warnOfOpen says of files with secrets that others could read them. One that is not in the vault may be the only copy.
func warnOfOpen(g *globals, kept bool, paths ...string) {
	for _, path := range paths {
		if path == "" || path == "-" || runtime.GOOS == "windows" {
			continue
		}
		info, err := os.Stat(path)
		switch {
		case err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 == 0:
		case kept:
			fmt.Fprintf(g.Err, "Mind: others on this machine can read %s. Delete it, and think of who may have.\n", clean(path))
		default:
			fmt.Fprintf(g.Err, "Mind: others on this machine can read %s: chmod 600 it, and think of who may have.\n", clean(path))
		}
	}
}

type vaultAdd struct {
	asker     `embed:""`
	once      `embed:""`
	source    `embed:""`
	knownBy   `embed:""`
	narrowing `embed:""`
	Name      string `arg:"" optional:"" help:"What people call it; an otpauth:// address has a name of its own."`
	Type      string `enum:",totp,hotp,steam,codes,secret" default:"" placeholder:"TYPE" help:"totp, hotp or steam: the seed in base32. codes: recovery codes, one a line. secret: a text that is used and not seen. An otpauth:// address says it itself."`
}

// Help is shown under the usage.
func (*vaultAdd) Help() string {
	return `The secret is read from a file or from standard input, and shown to nobody again but by avouch vault export. Whoever adds an item may have its codes, and decides about it.

    avouch vault add "AWS root" --folder cloud --secret-file aws.otpauth
    pass show github/token | avouch vault add "GitHub token" --type secret --policy-file github.json`
}

// Run adds an item.
func (c *vaultAdd) Run(ctx context.Context, g *globals) error {
	if err := c.distinct(c.SecretFile, c.PolicyFile); err != nil {
		return err
	}
	asks, err := c.begin(g)
	if err != nil {
		return err
	}
	body, policy := map[string]any{}, map[string]any{}
	if c.Name != "" {
		body["name"] = c.Name
	}
	if c.Type != "" {
		body["type"] = c.Type
	}
	c.describe(body)
	changed, err := c.change(g, policy)
	if err != nil {
		return err
	}
	if changed {
		body["policy"] = policy
	}
	if err := c.fill(g, c.Type, body); err != nil {
		return err
	}
	call := client.Call{Method: http.MethodPost, Path: api("vault", "items"), Header: c.header(), Body: body}
	err = answers(ctx, asks, call, func(p page, i itemView) error { return i.print(g, p) })
	warnOfOpen(g, err == nil, c.SecretFile)
	return err
}

// distinct refuses to read two things from standard input.
func (a *asker) distinct(files ...string) error {
	n := 0
	if a.readsInput() {
		n++
	}
	for k, f := range files {
		if f == "-" || f == "" && k == 0 { // the first is what standard input is for
			n++
		}
	}
	if n > 1 {
		return misused("standard input can hold one thing only: name a file for the others")
	}
	return nil
}

type vaultUpdate struct {
	asker     `embed:""`
	knownBy   `embed:""`
	narrowing `embed:""`
	Item      string  `arg:"" help:"The item's id, or its name."`
	Name      *string `placeholder:"TEXT" help:"Its new name."`
}

// Help is shown under the usage.
func (*vaultUpdate) Help() string {
	return `The flags of the policy change what they name, and the rest of it stays; --policy-file takes its place.

    avouch vault update "AWS root" --approval --hours 'mon-fri 08:00-18:00 Europe/Berlin' --uses once`
}

// Run changes an item, as it was when it was looked up.
func (c *vaultUpdate) Run(ctx context.Context, g *globals) error {
	if c.PolicyFile != "" {
		if err := c.distinct(c.PolicyFile); err != nil {
			return err
		}
	}
	asks, err := c.begin(g)
	if err != nil {
		return err
	}
	body := map[string]any{}
	if c.Name != nil {
		body["name"] = *c.Name
	}
	c.describe(body)
	id, answer, err := asks.get(ctx, c.Item)
	if err != nil {
		return err
	}
	var now struct {
		Policy map[string]any `json:"policy"`
	}
	if err := answer.Into(&now); err != nil {
		return err
	}
	if now.Policy == nil {
		now.Policy = map[string]any{}
	}
	changed, err := c.change(g, now.Policy)
	if err != nil {
		return err
	}
	if changed {
		body["policy"] = now.Policy
	}
	if len(body) == 0 {
		return misused("nothing is to be changed: give --name, --folder, --tag, --approval or another flag")
	}
	call := client.Call{Method: http.MethodPatch, Path: vaultItem(id), Header: match(answer), Body: body}
	return answers(ctx, asks, call, func(p page, i itemView) error { return i.print(g, p) })
}

type vaultReplace struct {
	asker  `embed:""`
	source `embed:""`
	Item   string `arg:"" help:"The item's id, or its name."`
}

// Help is shown under the usage.
func (*vaultReplace) Help() string {
	return `Change it where it is used first. What the item is known by, its grants and its policy stay; but where the secret is sent
("fetch" of the policy) stays only if you have said that yourself: say it again, with avouch vault update --policy-file.

    avouch vault replace "AWS root" --secret-file new.otpauth`
}

// Run replaces what an item keeps secret.
func (c *vaultReplace) Run(ctx context.Context, g *globals) error {
	if err := c.distinct(c.SecretFile); err != nil {
		return err
	}
	asks, err := c.begin(g)
	if err != nil {
		return err
	}
	id, answer, err := asks.get(ctx, c.Item)
	if err != nil {
		return err
	}
	var i itemView
	body := map[string]any{}
	if err := errors.Join(answer.Into(&i), c.fill(g, i.Type, body)); err != nil {
		return err
	}
	call := client.Call{Method: http.MethodPut, Path: vaultItem(id, "secret"), Header: match(answer), Body: body}
	err = answers(ctx, asks, call, func(p page, anew itemView) error {
		if i.sent() && !anew.sent() {
			fmt.Fprintln(g.Err, "Mind: somebody else had said where it is sent, so it is sent nowhere now. Say it again: avouch vault update --policy-file.")
		}
		_, err := fmt.Fprintf(p.to, "%s: what item %s (%s) keeps. Codes and requests are made with the new one from now on.\n", p.paint("replaced", good), anew.ItemID, clean(anew.Name))
		return err
	})
	warnOfOpen(g, err == nil, c.SecretFile)
	return err
}

type vaultResync struct {
	asker   `embed:""`
	Item    string `arg:"" help:"The item's id, or its name: one of the type hotp."`
	Counter *int64 `placeholder:"N" help:"The counter of the next code."`
}

// Help is shown under the usage.
func (*vaultResync) Help() string {
	return `Without --counter it reads two codes from standard input that the device showed one after the other; at most a thousand steps ahead.

    printf '%s\n' 755224 287082 | avouch vault resync "Door"`
}

// Run moves the counter of an item.
func (c *vaultResync) Run(ctx context.Context, g *globals) error {
	body := map[string]any{}
	if c.Counter != nil {
		body["counter"] = *c.Counter
	} else {
		if err := c.distinct("-"); err != nil {
			return err
		}
		text, err := readInput(g, "-", "what the device showed")
		if err != nil {
			return err
		}
		codes := strings.Fields(string(text))
		if len(codes) != 2 {
			return misused("standard input holds %d codes: two are needed that the device showed one after the other, or --counter", len(codes))
		}
		body["codes"] = codes
	}
	call := client.Call{Method: http.MethodPost, Path: []string{"resync"}, Body: body}
	return onItem(ctx, g, &c.asker, c.Item, call, func(p page, v struct {
		Counter int64 `json:"counter"`
	}) error {
		_, err := fmt.Fprintf(p.to, "The next code is that of counter %d.\n", v.Counter)
		return err
	})
}
