package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/internal/client"
	"github.com/avouch-dev/avouch/tenantdb"
)

type keysCmd struct {
	List    keysList    `cmd:"" help:"List keys, the newest first."`
	Create  keysCreate  `cmd:"" help:"Make a key."`
	Show    keysShow    `cmd:"" help:"Show what is known of a key."`
	Revoke  keysRevoke  `cmd:"" help:"Revoke a key for good."`
	Disable keysDisable `cmd:"" help:"Stop a key until it is enabled."`
	Enable  keysEnable  `cmd:"" help:"Let a disabled key work again."`
	Update  keysUpdate  `cmd:"" help:"Change a key's name, metadata or limits."`
	Rotate  keysRotate  `cmd:"" help:"Replace a key by a new one that can do the same."`
	Verify  keysVerify  `cmd:"" help:"Ask whether a key that you gave to somebody is good."`
	Risks   keysRisks   `cmd:"" help:"List keys that need looking after."`
	Import  keysImport  `cmd:"" help:"Take over keys that were made elsewhere."`
	Owners  ownersCmd   `cmd:"" help:"What the keys that you gave to one owner share."`
	Scan    keysScan    `cmd:"" help:"Look for keys in files where none should be."`
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
	Owner        string     `json:"owner"`
	MaxUses      *int64     `json:"max_uses"`
	Remaining    *int64     `json:"remaining"`
	RateLimits   []rateView `json:"rate_limits"`
	AllowedCIDRs []string   `json:"allowed_cidrs"`
	MadeBy       string     `json:"made_by"`
	Metadata     metadata   `json:"metadata"`
	Replaces     string     `json:"replaces"`
	ReplacedBy   string     `json:"replaced_by"`
	NotBefore    *time.Time `json:"not_before"`
	LastUsedAt   *time.Time `json:"last_used_at"`
	LastUsedFrom string     `json:"last_used_from"`
	LeakedAt     *time.Time `json:"leaked_at"`
	DisabledAt   *time.Time `json:"disabled_at"`
	RevokedAt    *time.Time `json:"revoked_at"`
	Children     int64      `json:"children_revoked"` // where it was revoked just now
	Left         int64      `json:"children_left"`    // there too
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

func (k keyView) ended() string {
	if k.Children == 0 {
		return ""
	}
	return plural(k.Children, "key that came from it", "keys that came from it")
}

// left says what to do with the keys that came from one that was revoked and are in force.
func (k keyView) left() string {
	if k.Left == 0 {
		return ""
	}
	many := plural(k.Left, "key that came from it", "keys that came from it")
	if k.Left >= apikey.MostLeft {
		many = "at least " + many
	}
	return many + ": avouch keys list --made-by " + k.KeyID + "; avouch keys revoke " + k.KeyID + " --children ends them"
}

// uses says how often it can be used. What a key that made it has left can be less than its own.
func (k keyView) uses() string {
	switch {
	case k.Remaining != nil && k.MaxUses != nil:
		return grouped(*k.Remaining) + " left of " + grouped(*k.MaxUses)
	case k.Remaining != nil:
		return grouped(*k.Remaining) + " left"
	case k.MaxUses != nil: // where it was just made or changed
		return "at most " + grouped(*k.MaxUses)
	}
	return ""
}

func (k keyView) details(now time.Time) []detail {
	quota := "unlimited"
	switch {
	case k.Kind == "data":
		quota = ""
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
	rates := make([]string, len(k.RateLimits))
	for i, r := range k.RateLimits {
		rates[i] = r.String()
	}
	return []detail{
		{"key id", cell{k.KeyID, bold}},
		{"name", cell{text: k.Name}},
		{"given to", cell{text: k.Owner}},
		{"looks like", cell{text: k.Hint}},
		{"kind", cell{text: kind}},
		{"status", state(k.Status)},
		{"may", cell{text: k.may()}},
		{"only", cell{text: narrowed}},
		{"only", cell{text: owners}},
		{"from", cell{text: strings.Join(k.AllowedCIDRs, " ")}},
		{"verifications", cell{text: quota}},
		{"uses", cell{text: k.uses()}},
		{"rate", cell{text: strings.Join(rates, ", ")}},
		{"metadata", cell{text: k.Metadata.String()}},
		{"created", cell{text: instant(k.CreatedAt, now)}},
		{"made by", cell{text: k.MadeBy}},
		{"replaces", cell{text: k.Replaces}},
		{"replaced by", cell{text: k.ReplacedBy}},
		{"begins", cell{text: instant(deref(k.NotBefore), now)}},
		{"last used", cell{text: strings.TrimSpace(instant(deref(k.LastUsedAt), now) + " " + k.LastUsedFrom)}},
		{"leaked", cell{text: instant(deref(k.LeakedAt), now)}},
		{"expires", cell{text: k.expires(now, instant)}},
		{"disabled", cell{text: instant(deref(k.DisabledAt), now)}},
		{"revoked", cell{text: instant(deref(k.RevokedAt), now)}},
		{"ended with it", cell{text: k.ended()}},
		{"still in force", cell{text: k.left()}},
	}
}

type keysList struct {
	remote  `embed:""`
	listing `embed:""`
	Kind    string `enum:",owner,service,data" default:"" placeholder:"KIND" help:"Only owner, service or data keys."`
	Status  string `enum:",active,pending,disabled,expired,revoked" default:"" placeholder:"STATE" help:"Only active, pending, disabled, expired or revoked ones."`
	Owner   string `placeholder:"OWNER" help:"Only keys that were given to this one."`
	MadeBy  string `placeholder:"KEY-ID" help:"Only keys that this key made."`
}

// Run lists keys.
func (c *keysList) Run(ctx context.Context, g *globals) error {
	t := table{columns: []column{{name: "key id"}, {name: "status"}, {name: "kind"}, {name: "name", soft: true}, {name: "given to", soft: true}, {name: "expires"}, {name: "uses left", right: true}, {name: "may", soft: true}}}
	call := client.Call{Path: api("keys"), Query: filters("kind", c.Kind, "status", c.Status, "owner", c.Owner, "made_by", c.MadeBy)}
	return list(ctx, g, &c.remote, c.Limit, call, "keys", t, func(k keyView) []cell {
		left := ""
		if k.Remaining != nil {
			left = grouped(*k.Remaining)
		}
		return []cell{{text: k.KeyID}, state(k.Status), {text: k.Kind}, {text: k.Name}, {text: k.Owner}, {text: k.expires(g.Now(), ago)}, {text: left}, {text: k.may()}}
	})
}

type keysCreate struct {
	remote     `embed:""`
	disclosure `embed:""`
	once       `embed:""`
	Name       string `arg:"" help:"What people call it."`
	meters     `embed:""`
	Kind       string   `enum:"owner,service,data" default:"service" help:"owner: the organisation itself. service: one of its services, with a quota of its own. data: one of your users, for an API of your own."`
	Scope      []string `placeholder:"NAME" help:"What it may do; verify and audit:write for a service key, everything for an owner key if left out."`
	Resource   []string `placeholder:"NAME" help:"Narrows a service key to asking about this."`
	AgentsOf   []string `placeholder:"TENANT-ID" help:"Narrows a service key to this organisation's agents."`
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
	if _, err := tenantdb.ParseTenantID(c.Owner); err == nil && c.Kind == "service" {
		return misused("--owner is to whom you give the key, in your own words, and this is an organisation's id. To narrow a service key to its agents: --agents-of %s", c.Owner)
	}
	body := map[string]any{"name": c.Name, "kind": c.Kind}
	for name, values := range map[string][]string{"scopes": c.Scope, "resources": c.Resource, "owners": c.AgentsOf} {
		if values != nil {
			body[name] = values
		}
	}
	if err := c.fill(body, g.Now()); err != nil {
		return err
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
		answer, err := c.do(ctx, g, client.Call{Method: http.MethodPost, Path: api("keys"), Header: c.header(), Body: body})
		g.warnOfCut(answer, err)
		return answer, err
	}
	use := keyUse
	if c.Kind == "data" {
		use = "Give it to whom it is for; it does nothing here."
	}
	return c.made(g, shownOnce{"key", "key", use}, create, func(answer client.Answer) ([]detail, error) {
		var k keyView
		if err := answer.Into(&k); err != nil {
			return nil, err
		}
		return k.details(g.Now()), nil
	})
}

// warnOfCut says of a new key that it ends sooner than was wanted.
func (g *globals) warnOfCut(answer client.Answer, err error) {
	var made struct {
		Cut     bool      `json:"expiry_cut"`
		Expires time.Time `json:"expires_at"`
	}
	if err == nil && !g.JSON && answer.Into(&made) == nil && made.Cut {
		fmt.Fprintf(g.Err, "Note: the new key expires %s, with yours, and would else last longer. Make it with a key that lasts longer if that is too soon.\n", ago(made.Expires, g.Now()))
	}
}

const keyUse = "Programs expect it in AVOUCH_API_KEY."

// oneKey is a command about one key.
type oneKey struct {
	remote `embed:""`
	ID     string `arg:"" name:"key-id" help:"The key's id: not the key itself."`
}

func (c *oneKey) run(ctx context.Context, g *globals, method string, act ...string) error {
	return c.send(ctx, g, client.Call{Method: method, Path: api(append([]string{"keys", c.ID}, act...)...)})
}

func (c *oneKey) send(ctx context.Context, g *globals, call client.Call) error {
	answer, err := c.do(ctx, g, call)
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
	oneKey   `embed:""`
	Children bool `help:"End the keys that came from it too. That cannot be undone."`
}

// Help is shown under the usage.
func (*keysRevoke) Help() string {
	return `It alone ends, and the answer says how many keys that came from it are still in force. With --children those end too: the keys that it made, and those that these made. Whoever stole it may have made some; but what your backend's key made may be the keys of all your customers. avouch keys list --made-by KEY-ID shows what a key made.`
}

// Run revokes a key.
func (c *keysRevoke) Run(ctx context.Context, g *globals) error {
	call := client.Call{Method: http.MethodPost, Path: api("keys", c.ID, "revoke")}
	if c.Children {
		call.Body = map[string]any{"children": true}
	}
	return c.send(ctx, g, call)
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
