package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/client"
	"github.com/avouch-dev/avouch/internal/id"
)

// grantView is a grant as the API shows it.
type grantView struct {
	GrantID   string     `json:"grant_id"`
	ItemID    string     `json:"item_id"`
	ItemName  string     `json:"item_name"`
	State     string     `json:"state"`
	Kind      string     `json:"kind"`
	To        string     `json:"to"`
	ToName    string     `json:"to_name"`
	Level     string     `json:"level"`
	GrantedBy string     `json:"granted_by"`
	ByName    string     `json:"granted_by_name"`
	GrantedAt time.Time  `json:"granted_at"`
	ExpiresAt *time.Time `json:"expires_at"`
	EndedAt   *time.Time `json:"ended_at"`
}

// status is the grant's state; where that is its holder's, it says whose.
func (v grantView) status() cell {
	switch v.State {
	case "ended":
		return state("revoked")
	case "gone":
		what := map[string]string{"person": "removed", "group": "deleted", "agent": "revoked", "key": "ended"}[v.Kind]
		return cell{v.Kind + " " + what, bad}
	case "suspended":
		what := map[string]string{"key": "disabled"}[v.Kind]
		return cell{v.Kind + " " + cmp.Or(what, "suspended"), warn}
	}
	return state(v.State)
}

func (v grantView) expires(now time.Time, say func(time.Time, time.Time) string) string {
	switch {
	case v.ExpiresAt != nil:
		return say(*v.ExpiresAt, now)
	case v.State == "gone" || v.State == "ended":
		return ""
	}
	return "never"
}

// whom is what people call what an id is of, and else its kind and the id: who asks may not know the name.
func whom(kind, id, name string) string { return strings.TrimSpace(kind + " " + cmp.Or(name, id)) }

// whomOf is whom of what names kind and id in one.
func whomOf(text, name string) string {
	kind, id, _ := strings.Cut(text, ":")
	return whom(kind, id, name)
}

// levels are what grants let somebody do, in words.
func levels(level string) string {
	if level == "seed" {
		return "use it, and export it"
	}
	return "use it"
}

func (v grantView) details(now time.Time) []detail {
	return []detail{
		{"grant", cell{v.GrantID, bold}}, {"item", cell{text: v.ItemID}}, {"name", cell{text: v.ItemName}}, {"to", cell{text: whom(v.Kind, v.To, v.ToName)}},
		{"may", cell{text: levels(v.Level)}}, {"status", v.status()}, {"granted", cell{text: instant(v.GrantedAt, now)}}, {"by", cell{text: whomOf(v.GrantedBy, v.ByName)}},
		{"expires", cell{text: v.expires(now, instant)}}, {"ended", cell{text: instant(deref(v.EndedAt), now)}},
	}
}

type vaultGrant struct {
	asker   `embed:""`
	once    `embed:""`
	Item    string `arg:"" help:"The item's id, or its name."`
	Person  string `xor:"to" placeholder:"MEMBER-ID" help:"A person, by the id that GET /api/v1/members says."`
	Group   string `xor:"to" placeholder:"GROUP-ID" help:"A group, with whoever is in it at the time, by the id that GET /api/v1/groups says."`
	Agent   string `xor:"to" placeholder:"AGENT-ID" help:"An agent, which needs the scope read:codes for codes and use:secrets for requests: avouch agents list shows its id."`
	Key     string `xor:"to" placeholder:"KEY-ID" help:"An API key: avouch keys list shows its id."`
	Level   string `enum:"code,seed" default:"code" placeholder:"LEVEL" help:"code: use it. seed: people may export its secret too."`
	Expires string `placeholder:"WHEN" help:"A time, or a span such as 8h; never if left out."`
}

// Help is shown under the usage.
func (*vaultGrant) Help() string {
	return `It is for one: --person, --group, --agent or --key. It takes the place of what was granted to the same one before. Nobody grants to themselves.

    avouch vault grant "AWS root" --group 0192f0c1-2222-7aaa-8bbb-123456789abc
    avouch vault grant "AWS root" --agent 0192f0c1-3333-7aaa-8bbb-123456789abc --expires 8h`
}

const membersAt = "GET /api/v1/members lists them, with names and addresses"

// isID refuses what is no id, such as an address or a name, and says where ids are; nothing is none.
func isID(what, text, where string) error {
	if _, err := id.Parse[struct{}](text); err != nil && text != "" {
		return misused("%s wants an id such as 0192f0c1-2222-7aaa-8bbb-123456789abc, and %q is none: %s", what, text, where)
	}
	return nil
}

// Run grants an item.
func (c *vaultGrant) Run(ctx context.Context, g *globals) error {
	if c.Person+c.Group+c.Agent+c.Key == "" {
		return misused("say to whom: --person, --group, --agent or --key")
	}
	if err := errors.Join(isID("--person", c.Person, membersAt), isID("--group", c.Group, "GET /api/v1/groups lists them"), isID("--agent", c.Agent, "avouch agents list shows them")); err != nil {
		return err
	}
	body := map[string]any{"level": c.Level}
	for name, id := range map[string]string{"person_id": c.Person, "group_id": c.Group, "agent_id": c.Agent, "key_id": c.Key} {
		if id != "" {
			body[name] = id
		}
	}
	if c.Expires != "" {
		at, err := parseWhen(c.Expires, g.Now(), 1)
		if err != nil {
			return misused("--expires %w", err)
		}
		body["expires_at"] = at.UTC().Format(time.RFC3339)
	}
	call := client.Call{Method: http.MethodPost, Path: []string{"grants"}, Header: c.header(), Body: body}
	return onItem(ctx, g, &c.asker, c.Item, call, func(p page, v grantView) error { return writeDetails(p, "", v.details(g.Now())) })
}

type vaultGrants struct {
	asker `embed:""`
	Item  string `arg:"" help:"The item's id, or its name."`
}

// Run lists grants.
func (c *vaultGrants) Run(ctx context.Context, g *globals) error {
	return onItem(ctx, g, &c.asker, c.Item, client.Call{Path: []string{"grants"}}, func(p page, v struct {
		Grants []grantView `json:"grants"`
	}) error {
		if len(v.Grants) == 0 {
			_, err := fmt.Fprintln(g.Err, "There are none.")
			return err
		}
		t := table{columns: []column{{name: "grant"}, {name: "to", soft: true}, {name: "may", soft: true}, {name: "status"}, {name: "expires"}}}
		for _, one := range v.Grants {
			now := g.Now()
			t.rows = append(t.rows, []cell{{text: one.GrantID}, {text: whom(one.Kind, one.To, one.ToName)}, {text: levels(one.Level)}, one.status(), {text: one.expires(now, ago)}})
		}
		return t.write(p)
	})
}

type vaultRevoke struct {
	asker `embed:""`
	Item  string `arg:"" help:"The item's id, or its name."`
	Grant string `arg:"" name:"grant-id" help:"The grant's id: avouch vault grants shows it."`
}

// Help is shown under the usage.
func (*vaultRevoke) Help() string {
	return `When the command returns, no fetch gets anything by the grant, on any server. What approved requests lend to the same one ends with it.`
}

// Run ends a grant.
func (c *vaultRevoke) Run(ctx context.Context, g *globals) error {
	call := client.Call{Method: http.MethodPost, Path: []string{"grants", c.Grant, "revoke"}}
	return onItem(ctx, g, &c.asker, c.Item, call, func(p page, v grantView) error { return writeDetails(p, "", v.details(g.Now())) })
}

// requestView is a request as the API shows it.
type requestView struct {
	RequestID string     `json:"request_id"`
	ItemID    string     `json:"item_id"`
	ItemName  string     `json:"item_name"`
	State     string     `json:"state"`
	Kind      string     `json:"kind"`
	By        string     `json:"by"`
	ByName    string     `json:"by_name"`
	Level     string     `json:"level"`
	Reason    string     `json:"reason"`
	Minutes   int        `json:"minutes"`
	AskedAt   time.Time  `json:"asked_at"`
	DueAt     time.Time  `json:"due_at"`
	DecidedBy *string    `json:"decided_by"`
	Decider   string     `json:"decided_by_name"`
	DecidedAt *time.Time `json:"decided_at"`
	Until     *time.Time `json:"until"`
	EndedAt   *time.Time `json:"ended_at"`
}

// stateOf colours a request's state.
func (v requestView) stateOf() cell {
	switch v.State {
	case "approved":
		return cell{v.State, good}
	case "waiting":
		return cell{v.State, warn}
	case "refused":
		return cell{v.State, bad}
	}
	return cell{text: v.State}
}

func (v requestView) details(now time.Time) []detail {
	due := ""
	if v.State == "waiting" {
		due = instant(v.DueAt, now)
	}
	return []detail{
		{"request", cell{v.RequestID, bold}}, {"item", cell{text: v.ItemID}}, {"name", cell{text: v.ItemName}}, {"state", v.stateOf()},
		{"asked by", cell{text: whom(v.Kind, v.By, v.ByName)}},
		{"to", cell{text: levels(v.Level)}}, {"for", cell{text: length(time.Duration(v.Minutes) * time.Minute)}}, {"reason", cell{text: v.Reason}},
		{"asked", cell{text: instant(v.AskedAt, now)}}, {"to be decided by", cell{text: due}}, {"decided", cell{text: instant(deref(v.DecidedAt), now)}},
		{"decided by", cell{text: whomOf(deref(v.DecidedBy), v.Decider)}}, {"lent until", cell{text: instant(deref(v.Until), now)}},
		{"ended", cell{text: instant(deref(v.EndedAt), now)}},
	}
}

type vaultRequest struct {
	asker   `embed:""`
	once    `embed:""`
	Item    string `arg:"" help:"The item's id, or its name."`
	Reason  string `required:"" placeholder:"TEXT" help:"Why: whoever decides reads it, and so do the owners."`
	Minutes int    `default:"15" placeholder:"N" help:"For how long, from the approval on: at most 10,080, which is a week."`
	Level   string `enum:"code,seed" default:"code" placeholder:"LEVEL" help:"code: to use it. seed: to export its secret too."`
}

// Help is shown under the usage.
func (*vaultRequest) Help() string {
	return `For an item that was not granted to you, or whose policy wants a second person. Every owner is told. What is asked for its use alone lends no export: ask for that with --level seed.

    avouch vault request "AWS root" --reason "Ticket 4711: the bill" --minutes 30
    avouch vault request "AWS root" --level seed --reason "The safe"`
}

// Run asks for an item.
func (c *vaultRequest) Run(ctx context.Context, g *globals) error {
	body := map[string]any{"reason": c.Reason, "minutes": c.Minutes, "level": c.Level}
	call := client.Call{Method: http.MethodPost, Path: []string{"requests"}, Header: c.header(), Body: body}
	err := onItem(ctx, g, &c.asker, c.Item, call, func(p page, v requestView) error { return writeDetails(p, "", v.details(g.Now())) })
	var p *client.Problem
	if c.Level == "code" && errors.As(err, &p) && strings.HasPrefix(p.Detail, "You may use it without asking") {
		return &advised{err, "Use it. To take its secret out, ask with --level seed."}
	}
	return err
}

type vaultRequests struct {
	asker   `embed:""`
	listing `embed:""`
	State   string `enum:",waiting,approved,refused,withdrawn,lapsed,expired,ended" default:"" placeholder:"STATE" help:"Only waiting, approved, refused, withdrawn, lapsed, expired or ended ones."`
}

// Run lists requests.
func (c *vaultRequests) Run(ctx context.Context, g *globals) error {
	asks, err := c.begin(g)
	if err != nil {
		return err
	}
	t := table{columns: []column{{name: "request"}, {name: "state"}, {name: "item", soft: true}, {name: "asked by", soft: true}, {name: "asked"}, {name: "for"}, {name: "to", soft: true}, {name: "reason", soft: true}}}
	call := client.Call{Path: api("vault", "requests"), Query: filters("state", c.State)}
	return asks.advise(listOf(ctx, g, asks.Client, c.Limit, call, "requests", t, func(v requestView) []cell {
		span := length(time.Duration(v.Minutes) * time.Minute)
		return []cell{{text: v.RequestID}, v.stateOf(), {text: cmp.Or(v.ItemName, v.ItemID)}, {text: whom(v.Kind, v.By, v.ByName)}, {text: ago(v.AskedAt, g.Now())}, {text: span}, {text: levels(v.Level)}, {text: v.Reason}}
	}))
}

// oneRequest is a command about one request.
type oneRequest struct {
	asker `embed:""`
	ID    string `arg:"" name:"request-id" help:"The request's id: avouch vault requests shows it."`
}

func (c *oneRequest) run(ctx context.Context, g *globals, act string) error {
	asks, err := c.begin(g)
	if err != nil {
		return err
	}
	call := client.Call{Method: http.MethodPost, Path: api("vault", "requests", c.ID, act)}
	return answers(ctx, asks, call, func(p page, v requestView) error { return writeDetails(p, "", v.details(g.Now())) })
}

type vaultApprove struct {
	oneRequest `embed:""`
}

// Help is shown under the usage.
func (*vaultApprove) Help() string {
	return `A person must have proved themselves in the last five minutes. Nobody approves what they asked for themselves, nor what a key of theirs asked for.`
}

// Run approves a request.
func (c *vaultApprove) Run(ctx context.Context, g *globals) error { return c.run(ctx, g, "approve") }

type vaultRefuse struct {
	oneRequest `embed:""`
}

// Run refuses a request.
func (c *vaultRefuse) Run(ctx context.Context, g *globals) error { return c.run(ctx, g, "refuse") }

type vaultWithdraw struct {
	oneRequest `embed:""`
}

// Run takes a request back.
func (c *vaultWithdraw) Run(ctx context.Context, g *globals) error { return c.run(ctx, g, "withdraw") }
