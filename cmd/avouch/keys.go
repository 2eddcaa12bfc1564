package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/client"
)

type keysCmd struct {
	List    keysList    `cmd:"" help:"List keys, the newest first."`
	Create  keysCreate  `cmd:"" help:"Make a key."`
	Show    keysShow    `cmd:"" help:"Show what is known of a key."`
	Revoke  keysRevoke  `cmd:"" help:"Revoke a key for good."`
	Disable keysDisable `cmd:"" help:"Stop a key until it is enabled."`
	Enable  keysEnable  `cmd:"" help:"Let a disabled key work again."`
}

// keyView is a key as the API shows it.
type keyView struct {
	KeyID        string     `json:"key_id"`
	Hint         string     `json:"hint"`
	Name         string     `json:"name"`
	Kind         string     `json:"kind"`
	Live         bool       `json:"live"`
	Status       string     `json:"status"`
	Scopes       []string   `json:"scopes"`
	Resources    []string   `json:"resources"`
	Owners       []string   `json:"owners"`
	MonthlyQuota *int64     `json:"monthly_quota"`
	CreatedAt    time.Time  `json:"created_at"`
	ExpiresAt    *time.Time `json:"expires_at"`
	DisabledAt   *time.Time `json:"disabled_at"`
	RevokedAt    *time.Time `json:"revoked_at"`
}

func (k keyView) may() string {
	if len(k.Scopes) == 1 && k.Scopes[0] == "*" {
		return "everything"
	}
	return words(k.Scopes, "nothing")
}

func (k keyView) expires(now time.Time, say func(time.Time, time.Time) string) string {
	if k.ExpiresAt == nil {
		return "never"
	}
	return say(*k.ExpiresAt, now)
}

func (k keyView) details(now time.Time) []detail {
	quota := "unlimited"
	switch {
	case k.Kind == "owner":
		quota = "the organisation's"
	case k.MonthlyQuota != nil:
		quota = grouped(*k.MonthlyQuota) + " a month"
	}
	kind := k.Kind
	if !k.Live {
		kind += ", for trying"
	}
	narrowed := ""
	if len(k.Resources) > 0 {
		narrowed = "asks about " + strings.Join(k.Resources, " ")
	}
	owners := ""
	if len(k.Owners) > 0 {
		owners = "verifies agents of " + strings.Join(k.Owners, " ")
	}
	return []detail{
		{"key id", cell{k.KeyID, bold}},
		{"name", cell{text: k.Name}},
		{"looks like", cell{text: k.Hint}},
		{"kind", cell{text: kind}},
		{"status", state(k.Status)},
		{"may", cell{text: k.may()}},
		{"only", cell{text: narrowed}},
		{"only", cell{text: owners}},
		{"verifications", cell{text: quota}},
		{"created", cell{text: instant(k.CreatedAt, now)}},
		{"expires", cell{text: k.expires(now, instant)}},
		{"disabled", cell{text: instant(deref(k.DisabledAt), now)}},
		{"revoked", cell{text: instant(deref(k.RevokedAt), now)}},
	}
}

type keysList struct {
	remote  `embed:""`
	listing `embed:""`
	Kind    string `enum:",owner,service" default:"" placeholder:"KIND" help:"Only owner or service keys."`
	Status  string `enum:",active,disabled,expired,revoked" default:"" placeholder:"STATE" help:"Only active, disabled, expired or revoked ones."`
}

// Run lists keys.
func (c *keysList) Run(ctx context.Context, g *globals) error {
	t := table{columns: []column{{name: "key id"}, {name: "status"}, {name: "kind"}, {name: "name", soft: true}, {name: "expires"}, {name: "may", soft: true}}}
	call := client.Call{Path: api("keys"), Query: filters("kind", c.Kind, "status", c.Status)}
	return list(ctx, g, &c.remote, c.Limit, call, "keys", t, func(k keyView) []cell {
		return []cell{{text: k.KeyID}, state(k.Status), {text: k.Kind}, {text: k.Name}, {text: k.expires(g.Now(), ago)}, {text: k.may()}}
	})
}

type keysCreate struct {
	remote     `embed:""`
	disclosure `embed:""`
	once       `embed:""`
	Name       string   `arg:"" help:"What people call it."`
	Kind       string   `enum:"owner,service" default:"service" help:"owner: the organisation itself. service: one of its services, with a quota of its own."`
	Scope      []string `placeholder:"NAME" help:"What it may do; verify and audit:write for a service key, everything for an owner key if left out."`
	Resource   []string `placeholder:"NAME" help:"Narrows a service key to asking about this."`
	Owner      []string `placeholder:"TENANT-ID" help:"Narrows a service key to this organisation's agents."`
	Quota      *int64   `placeholder:"N" help:"A service key's verifications a month."`
	Expires    string   `placeholder:"WHEN" help:"A time, a span such as 30d, or never; in 90 days if left out."`
	Test       bool     `help:"A key for trying: only its prefix differs."`
}

// Help is shown under the usage.
func (*keysCreate) Help() string {
	return `The key is shown once and can do at most what yours can.

    avouch keys create "Mail gateway" --resource mail.example --expires 30d --secret-file gateway.key`
}

// Run makes a key.
func (c *keysCreate) Run(ctx context.Context, g *globals) error {
	body := map[string]any{"name": c.Name, "kind": c.Kind}
	for name, values := range map[string][]string{"scopes": c.Scope, "resources": c.Resource, "owners": c.Owner} {
		if values != nil {
			body[name] = values
		}
	}
	if c.Quota != nil {
		body["monthly_quota"] = *c.Quota
	}
	if c.Test {
		body["live"] = false
	}
	switch c.Expires {
	case "":
	case "never":
		body["expires_at"] = "never"
	default:
		at, err := parseWhen(c.Expires, g.Now(), 1)
		if err != nil {
			return misused("--expires %w", err)
		}
		body["expires_at"] = at.UTC().Format(time.RFC3339)
	}
	create := func() (client.Answer, error) {
		return c.do(ctx, g, client.Call{Method: http.MethodPost, Path: api("keys"), Header: c.header(), Body: body})
	}
	return c.made(g, shownOnce{"key", "key", keyUse}, create, func(answer client.Answer) ([]detail, error) {
		var k keyView
		if err := answer.Into(&k); err != nil {
			return nil, err
		}
		return k.details(g.Now()), nil
	})
}

const keyUse = "Programs expect it in AVOUCH_API_KEY."

// oneKey is a command about one key.
type oneKey struct {
	remote `embed:""`
	ID     string `arg:"" name:"key-id" help:"The key's id: not the key itself."`
}

func (c *oneKey) run(ctx context.Context, g *globals, method string, act ...string) error {
	if redact(c.ID) != c.ID {
		return misused("that is a key itself, and everybody on this machine can see arguments: revoke it. The key's id is in avouch keys list")
	}
	answer, err := c.do(ctx, g, client.Call{Method: method, Path: api(append([]string{"keys", c.ID}, act...)...)})
	if err != nil {
		return err
	}
	return show(g, answer.Body, func(p page, k keyView) error { return writeDetails(p, "", k.details(g.Now())) })
}

type keysShow struct {
	oneKey `embed:""`
}

// Run shows a key.
func (c *keysShow) Run(ctx context.Context, g *globals) error {
	return c.run(ctx, g, http.MethodGet)
}

type keysRevoke struct {
	oneKey `embed:""`
}

// Run revokes a key.
func (c *keysRevoke) Run(ctx context.Context, g *globals) error {
	return c.run(ctx, g, http.MethodPost, "revoke")
}

type keysDisable struct {
	oneKey `embed:""`
}

// Run disables a key.
func (c *keysDisable) Run(ctx context.Context, g *globals) error {
	return c.run(ctx, g, http.MethodPost, "disable")
}

type keysEnable struct {
	oneKey `embed:""`
}

// Run enables a key.
func (c *keysEnable) Run(ctx context.Context, g *globals) error {
	return c.run(ctx, g, http.MethodPost, "enable")
}
