package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/client"
)

type agentsCmd struct {
	List        agentsList     `cmd:"" help:"List agents, the newest first."`
	Show        agentsShow     `cmd:"" help:"Show one agent."`
	Register    agentsRegister `cmd:"" help:"Register an agent, and get its first token."`
	Update      agentsUpdate   `cmd:"" help:"Rename an agent, or say who may verify it."`
	Scopes      agentsScopes   `cmd:"" help:"Show or change what an agent may do."`
	Suspend     agentsSuspend  `cmd:"" help:"Stop an agent until it is resumed."`
	Resume      agentsResume   `cmd:"" help:"Let a suspended agent go on."`
	Revoke      revokeCmd      `cmd:"" help:"Revoke an agent for good, with all its tokens."`
	Token       tokenIssue     `cmd:"" help:"Issue a token."`
	Tokens      tokensList     `cmd:"" help:"List the tokens of an agent."`
	RevokeToken tokenRevoke    `cmd:"" name:"revoke-token" help:"Revoke one token of an agent, or all."`
}

// agentView is an agent as the API shows it.
type agentView struct {
	AgentID     string     `json:"agent_id"`
	DID         string     `json:"did"`
	Name        string     `json:"name"`
	Description string     `json:"description"`
	Status      string     `json:"status"`
	Scopes      []string   `json:"scopes"`
	Visibility  string     `json:"visibility"`
	VisibleTo   []string   `json:"visible_to"`
	CreatedAt   time.Time  `json:"created_at"`
	SuspendedAt *time.Time `json:"suspended_at"`
	RevokedAt   *time.Time `json:"revoked_at"`
	Keys        []struct {
		KID       string `json:"kid"`
		Use       string `json:"use"`
		Algorithm string `json:"algorithm"`
	} `json:"keys"`
}

// state colours a state by what it means.
func state(s string) cell {
	switch strings.ToLower(s) {
	case "active", "live", "allowed", "done":
		return cell{s, good}
	case "suspended", "disabled", "expired":
		return cell{s, warn}
	case "revoked", "denied", "failed", "deleted", "destroyed":
		return cell{s, bad}
	}
	return cell{s, plain}
}

func (a agentView) details(now time.Time) []detail {
	all := []detail{
		{"agent", cell{a.AgentID, bold}},
		{"name", cell{text: a.Name}},
		{"about", cell{text: a.Description}},
		{"did", cell{text: a.DID}},
		{"status", state(a.Status)},
		{"scopes", cell{text: words(a.Scopes, "none")}},
		{"verified by", cell{text: visible(a.Visibility, a.VisibleTo)}},
		{"created", cell{text: instant(a.CreatedAt, now)}},
		{"suspended", cell{text: instant(deref(a.SuspendedAt), now)}},
		{"revoked", cell{text: instant(deref(a.RevokedAt), now)}},
	}
	for _, k := range a.Keys {
		all = append(all, detail{"key", cell{text: k.KID + " " + k.Algorithm + " for " + k.Use}})
	}
	return all
}

func words(all []string, none string) string {
	if len(all) == 0 {
		return none
	}
	return strings.Join(all, " ")
}

func visible(who string, to []string) string {
	switch who {
	case "all":
		return "every organisation"
	case "none":
		return "your own organisation only"
	case "listed":
		return "your own organisation and " + words(to, "no other")
	}
	return who
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// showAgent prints the agent that a call answers with.
func (r *remote) showAgent(ctx context.Context, g *globals, call client.Call) error {
	answer, err := r.do(ctx, g, call)
	if err != nil {
		return err
	}
	return show(g, answer.Body, func(p page, a agentView) error { return writeDetails(p, "", a.details(g.Now())) })
}

type agentsList struct {
	remote  `embed:""`
	listing `embed:""`
	Status  string `enum:",active,suspended,revoked" default:"" placeholder:"STATE" help:"Only active, suspended or revoked ones."`
}

// Run lists agents.
func (c *agentsList) Run(ctx context.Context, g *globals) error {
	t := table{columns: []column{{name: "agent"}, {name: "status"}, {name: "name", soft: true}, {name: "created"}, {name: "scopes", soft: true}}}
	call := client.Call{Path: api("agents"), Query: filters("status", c.Status)}
	return list(ctx, g, &c.remote, c.Limit, call, "agents", t, func(a agentView) []cell {
		return []cell{{text: a.AgentID}, state(a.Status), {text: a.Name}, {text: ago(a.CreatedAt, g.Now())}, {text: words(a.Scopes, "none")}}
	})
}

// filters is a query of the pairs whose value is there.
func filters(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

type agentsShow struct {
	remote `embed:""`
	ID     string `arg:"" name:"agent-id" help:"The agent's id."`
}

// Run shows an agent.
func (c *agentsShow) Run(ctx context.Context, g *globals) error {
	return c.showAgent(ctx, g, client.Call{Path: api("agents", c.ID)})
}

type agentsRegister struct {
	remote      `embed:""`
	disclosure  `embed:""`
	once        `embed:""`
	Name        string   `arg:"" help:"What people call the agent; services that verify it see it."`
	Description string   `placeholder:"TEXT" help:"What it is for; only your organisation sees this."`
	Scope       []string `placeholder:"SCOPE" help:"What it may do; repeat it or separate by commas. avouch scopes list shows what there is."`
	PublicKey   []string `placeholder:"FILE" help:"The agent's public key, PEM. Its private half stays with the agent."`
}

// Help is shown under the usage.
func (*agentsRegister) Help() string {
	return `The first token is bound to no resource and meant for trying: issue others for what the agent really does (avouch agents token).

    avouch agents register "Inbox sorter" --scope read:email,write:calendar
    AGENT_TOKEN=$(avouch agents register "Inbox sorter" --scope read:email --quiet)`
}

// Run registers an agent.
func (c *agentsRegister) Run(ctx context.Context, g *globals) error {
	body := map[string]any{"name": c.Name, "capabilities": orNone(c.Scope)}
	if c.Description != "" {
		body["description"] = c.Description
	}
	var keys []map[string]string
	for _, file := range c.PublicKey {
		pem, err := os.ReadFile(file)
		if err != nil {
			return lacks("the public key cannot be read: %w", err)
		}
		if strings.Contains(string(pem), "PRIVATE KEY") {
			return misused("%s is a private key. It stays with the agent: give the public one", file)
		}
		keys = append(keys, map[string]string{"pem": string(pem)})
	}
	if keys != nil {
		body["keys"] = keys
	}
	register := func() (client.Answer, error) {
		return c.do(ctx, g, client.Call{Method: http.MethodPost, Path: api("agents", "register"), Header: c.header(), Body: body})
	}
	return c.made(g, tokenOnce(), register, func(answer client.Answer) ([]detail, error) {
		var a struct {
			agentView
			JTI      string    `json:"jti"`
			Expires  time.Time `json:"token_expires_at"`
			Warnings []string  `json:"warnings"`
		}
		if err := answer.Into(&a); err != nil {
			return nil, err
		}
		a.Name, a.Description = c.Name, c.Description
		return append(a.details(g.Now()), tokenDetails(g, a.JTI, a.Expires, a.Warnings)...), nil
	})
}

func orNone(all []string) []string {
	if all == nil {
		return []string{}
	}
	return all
}

type agentsUpdate struct {
	remote      `embed:""`
	ID          string   `arg:"" name:"agent-id" help:"The agent's id."`
	Name        string   `placeholder:"TEXT" help:"Its new name."`
	Description *string  `placeholder:"TEXT" help:"What it is for; empty takes it away."`
	Visibility  string   `enum:",all,listed,none" default:"" placeholder:"WHO" help:"Who may verify it beside your own organisation: all, listed or none."`
	VisibleTo   []string `placeholder:"TENANT-ID" help:"The organisations, with --visibility listed."`
}

// Run changes an agent.
func (c *agentsUpdate) Run(ctx context.Context, g *globals) error {
	body := map[string]any{}
	if c.Name != "" {
		body["name"] = c.Name
	}
	if c.Description != nil {
		body["description"] = *c.Description
	}
	if c.Visibility != "" {
		body["visibility"] = c.Visibility
	}
	if c.VisibleTo != nil {
		body["visible_to"] = c.VisibleTo
	}
	if len(body) == 0 {
		return misused("nothing is to be changed: give --name, --description, --visibility or --visible-to")
	}
	return c.showAgent(ctx, g, client.Call{Method: http.MethodPatch, Path: api("agents", c.ID), Body: body})
}

type agentsScopes struct {
	remote `embed:""`
	ID     string   `arg:"" name:"agent-id" help:"The agent's id."`
	Set    []string `placeholder:"SCOPE" help:"Grant exactly these."`
	None   bool     `help:"Grant nothing at all."`
	Add    []string `placeholder:"SCOPE" help:"Grant these too."`
	Remove []string `placeholder:"SCOPE" help:"Take these away."`
}

// Help is shown under the usage.
func (*agentsScopes) Help() string {
	return `A change holds for all tokens that the agent has, from the answer on, on every server.

    avouch agents scopes 0192f0c1-2222-7aaa-8bbb-123456789abc --add read:email --remove write:email`
}

// Run shows or changes an agent's scopes.
func (c *agentsScopes) Run(ctx context.Context, g *globals) error {
	modes := 0
	for _, given := range []bool{c.Set != nil, c.None, c.Add != nil || c.Remove != nil} {
		if given {
			modes++
		}
	}
	if modes > 1 {
		return misused("--set, --none, and --add with --remove are three ways to say what the agent may do: use one")
	}
	if modes == 0 {
		return c.showAgent(ctx, g, client.Call{Path: api("agents", c.ID)})
	}
	if c.Set != nil || c.None {
		return c.showAgent(ctx, g, c.put(orNone(c.Set), ""))
	}
	for n := 0; ; n++ {
		err := c.edit(ctx, g)
		var p *client.Problem
		// Somebody else changed the agent in between: what is to be added and removed still is.
		if n < 3 && asProblem(err, &p) && p.Status == http.StatusPreconditionFailed {
			continue
		}
		return err
	}
}

func (c *agentsScopes) put(scopes []string, etag string) client.Call {
	call := client.Call{Method: http.MethodPut, Path: api("agents", c.ID, "scopes"), Body: map[string]any{"scopes": scopes}}
	if etag != "" {
		call.Header = http.Header{"If-Match": {etag}}
	}
	return call
}

func (c *agentsScopes) edit(ctx context.Context, g *globals) error {
	answer, err := c.do(ctx, g, client.Call{Path: api("agents", c.ID)})
	if err != nil {
		return err
	}
	var a agentView
	if err := answer.Into(&a); err != nil {
		return err
	}
	scopes := slices.DeleteFunc(a.Scopes, func(s string) bool { return slices.Contains(c.Remove, s) })
	for _, s := range c.Add {
		if !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	return c.showAgent(ctx, g, c.put(orNone(scopes), answer.Header.Get("ETag")))
}

type agentsSuspend struct {
	remote `embed:""`
	ID     string `arg:"" name:"agent-id" help:"The agent's id."`
}

// Run suspends an agent.
func (c *agentsSuspend) Run(ctx context.Context, g *globals) error {
	return c.showAgent(ctx, g, client.Call{Method: http.MethodPost, Path: api("agents", c.ID, "suspend")})
}

type agentsResume struct {
	remote `embed:""`
	ID     string `arg:"" name:"agent-id" help:"The agent's id."`
}

// Run resumes an agent.
func (c *agentsResume) Run(ctx context.Context, g *globals) error {
	return c.showAgent(ctx, g, client.Call{Method: http.MethodPost, Path: api("agents", c.ID, "resume")})
}

type revokeCmd struct {
	remote `embed:""`
	ID     string `arg:"" name:"agent-id" help:"The agent's id."`
}

// Help is shown under the usage.
func (*revokeCmd) Help() string {
	return `When the command returns, no server allows the agent anything, whatever token it shows. There is no way back: to stop an agent for a time, use avouch agents suspend.`
}

// Run revokes an agent. It does not ask whether that is meant: it is for emergencies, and for scripts.
func (c *revokeCmd) Run(ctx context.Context, g *globals) error {
	answer, err := c.do(ctx, g, client.Call{Method: http.MethodPost, Path: api("agents", c.ID, "revoke")})
	if err != nil {
		return err
	}
	return show(g, answer.Body, func(p page, a agentView) error {
		_, err := fmt.Fprintf(p.to, "%s: agent %s (%s). No server allows it anything any more.\n", p.paint("revoked", bad), a.AgentID, clean(a.Name))
		return err
	})
}
