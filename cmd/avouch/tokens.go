package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/client"
)

func asProblem(err error, p **client.Problem) bool { return errors.As(err, p) }

func tokenOnce() shownOnce {
	return shownOnce{"token", "token", "Give it to the agent as AGENT_TOKEN."}
}

// tokenDetails are those of a new token.
func tokenDetails(g *globals, jti string, expires time.Time, warnings []string) []detail {
	for _, w := range warnings {
		fmt.Fprintf(g.Err, "Mind: %s\n", clean(w))
	}
	return []detail{
		{"token id", cell{text: jti}},
		{"expires", cell{text: instant(expires, g.Now())}},
	}
}

type tokenIssue struct {
	remote     `embed:""`
	disclosure `embed:""`
	once       `embed:""`
	ID         string   `arg:"" name:"agent-id" help:"The agent's id."`
	Resource   []string `placeholder:"NAME" help:"A service that the token is for, by the name that it gives as target resource. It is denied everywhere else."`
	Lifetime   span     `placeholder:"SPAN" help:"How long it lives, such as 15m; as long as the organisation allows if left out."`
	MaxUses    int64    `placeholder:"N" help:"How many verifications may allow it."`
}

// Help is shown under the usage.
func (*tokenIssue) Help() string {
	return `A service that receives a token bound to it cannot use it elsewhere: bind tokens to what they are for.

    avouch agents token 0192f0c1-2222-7aaa-8bbb-123456789abc --resource mail.example --lifetime 15m
    export AGENT_TOKEN=$(avouch agents token 0192f0c1-2222-7aaa-8bbb-123456789abc --resource mail.example --quiet)`
}

// Run issues a token.
func (c *tokenIssue) Run(ctx context.Context, g *globals) error {
	body := map[string]any{}
	if len(c.Resource) > 0 {
		body["resources"] = c.Resource
	}
	if c.Lifetime > 0 {
		body["lifetime_seconds"] = int64(time.Duration(c.Lifetime) / time.Second)
	}
	if c.MaxUses > 0 {
		body["max_uses"] = c.MaxUses
	}
	issue := func() (client.Answer, error) {
		return c.do(ctx, g, client.Call{Method: http.MethodPost, Path: api("agents", c.ID, "tokens"), Header: c.header(), Body: body})
	}
	return c.made(g, tokenOnce(), issue, func(answer client.Answer) ([]detail, error) {
		var made struct {
			JTI      string    `json:"jti"`
			Expires  time.Time `json:"expires_at"`
			Warnings []string  `json:"warnings"`
		}
		if err := answer.Into(&made); err != nil {
			return nil, err
		}
		return tokenDetails(g, made.JTI, made.Expires, made.Warnings), nil
	})
}

// tokenView is the record of a token as the API shows it.
type tokenView struct {
	JTI       string     `json:"jti"`
	Status    string     `json:"status"`
	IssuedAt  time.Time  `json:"issued_at"`
	ExpiresAt time.Time  `json:"expires_at"`
	Resources []string   `json:"resources"`
	MaxUses   int64      `json:"max_uses"`
	Used      int64      `json:"used"`
	RevokedAt *time.Time `json:"revoked_at"`
}

func (t tokenView) uses() string {
	if t.MaxUses == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d", t.Used, t.MaxUses)
}

type tokensList struct {
	remote  `embed:""`
	listing `embed:""`
	ID      string `arg:"" name:"agent-id" help:"The agent's id."`
	Status  string `enum:",live,revoked,expired" default:"" placeholder:"STATE" help:"Only live, revoked or expired ones."`
}

// Run lists tokens.
func (c *tokensList) Run(ctx context.Context, g *globals) error {
	t := table{columns: []column{{name: "token id"}, {name: "status"}, {name: "issued"}, {name: "expires"}, {name: "uses"}, {name: "for", soft: true}}}
	call := client.Call{Path: api("agents", c.ID, "tokens"), Query: filters("status", c.Status)}
	return list(ctx, g, &c.remote, c.Limit, call, "tokens", t, func(v tokenView) []cell {
		return []cell{{text: v.JTI}, state(v.Status), {text: ago(v.IssuedAt, g.Now())}, {text: ago(v.ExpiresAt, g.Now())}, {text: v.uses()}, {text: words(v.Resources, "anything")}}
	})
}

type tokenRevoke struct {
	remote `embed:""`
	ID     string `arg:"" name:"agent-id" help:"The agent's id."`
	JTI    string `arg:"" name:"token-id" optional:"" help:"The token's id."`
	All    bool   `help:"All tokens that the agent has; those issued afterwards are good."`
}

// Run revokes one token of an agent, or all.
func (c *tokenRevoke) Run(ctx context.Context, g *globals) error {
	if c.All == (c.JTI != "") {
		return misused("name the token by its id, or give --all")
	}
	path := api("agents", c.ID, "tokens", "revoke-all")
	if !c.All {
		path = api("agents", c.ID, "tokens", c.JTI, "revoke")
	}
	answer, err := c.do(ctx, g, client.Call{Method: http.MethodPost, Path: path})
	if err != nil {
		return err
	}
	return show(g, answer.Body, func(p page, v struct {
		JTI     string `json:"jti"`
		Revoked int64  `json:"revoked"`
	}) error {
		what := "token " + v.JTI
		if c.All {
			what = plural(v.Revoked, "live token", "live tokens")
		}
		_, err := fmt.Fprintf(p.to, "%s: %s of agent %s.\n", p.paint("revoked", bad), clean(what), c.ID)
		return err
	})
}
