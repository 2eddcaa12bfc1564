package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/avouch-dev/avouch/internal/client"
)

type scopesCmd struct {
	List scopesList `cmd:"" help:"List the scopes: the built-in ones and your organisation's own."`
	Add  scopesAdd  `cmd:"" help:"Add a scope of your own."`
}

// scopeView is a scope as the API shows it.
type scopeView struct {
	Name        string `json:"name"`
	Risk        string `json:"risk"`
	Description string `json:"description"`
	BuiltIn     bool   `json:"built_in"`
}

func risk(r string) cell {
	switch r {
	case "high":
		return cell{r, bad}
	case "medium":
		return cell{r, warn}
	}
	return cell{r, plain}
}

type scopesList struct {
	remote  `embed:""`
	listing `embed:""`
}

// Run lists scopes.
func (c *scopesList) Run(ctx context.Context, g *globals) error {
	t := table{columns: []column{{name: "scope"}, {name: "risk"}, {name: "whose"}, {name: "what it allows", soft: true}}}
	return list(ctx, g, &c.remote, c.Limit, client.Call{Path: api("scopes")}, "scopes", t, func(s scopeView) []cell {
		whose := "your own"
		if s.BuiltIn {
			whose = "built in"
		}
		return []cell{{text: s.Name}, risk(s.Risk), {text: whose}, {text: s.Description}}
	})
}

type scopesAdd struct {
	remote      `embed:""`
	once        `embed:""`
	Name        string `arg:"" help:"verb:noun in lower case, such as approve:invoices."`
	Risk        string `enum:"low,medium,high" required:"" help:"How much harm an agent can do with it: low, medium or high."`
	Description string `required:"" placeholder:"TEXT" help:"What an agent that has it may do."`
}

// Help is shown under the usage.
func (*scopesAdd) Help() string {
	return `A scope is there for good: agents may hold it and services may ask for it.

    avouch scopes add approve:invoices --risk high --description "Approve invoices up to 1,000 euros"`
}

// Run adds a scope.
func (c *scopesAdd) Run(ctx context.Context, g *globals) error {
	body := map[string]any{"name": c.Name, "risk": c.Risk, "description": c.Description}
	answer, err := c.do(ctx, g, client.Call{Method: http.MethodPost, Path: api("scopes"), Header: c.header(), Body: body})
	if err != nil {
		return err
	}
	return show(g, answer.Body, func(p page, s scopeView) error {
		_, err := fmt.Fprintf(p.to, "added: %s, risk %s.\n", clean(s.Name), clean(s.Risk))
		return err
	})
}
