package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/client"
)

// ownersCmd is the commands about those to whom an organisation gives keys.
type ownersCmd struct {
	List   ownersList   `cmd:"" help:"List owners whose keys share something, by name."`
	Show   ownersShow   `cmd:"" help:"Show what one owner's keys share."`
	Set    ownersSet    `cmd:"" help:"Say what one owner's keys share."`
	Delete ownersDelete `cmd:"" help:"Let one owner's keys share nothing any more. The keys stay."`
}

// ownerView is an owner as the API shows it.
type ownerView struct {
	Owner      string     `json:"owner"`
	MaxKeys    *int64     `json:"max_keys"`
	RateLimits []rateView `json:"rate_limits"`
	Metadata   metadata   `json:"metadata"`
	CreatedAt  time.Time  `json:"created_at"`
}

func (o ownerView) keys() string {
	if o.MaxKeys == nil {
		return "the installation's default"
	}
	return "at most " + grouped(*o.MaxKeys)
}

func (o ownerView) rates() string {
	rates := make([]string, len(o.RateLimits))
	for i, r := range o.RateLimits {
		rates[i] = r.String()
	}
	return strings.Join(rates, ", ")
}

func (o ownerView) details(now time.Time) []detail {
	return []detail{
		{"owner", cell{o.Owner, bold}},
		{"keys in force", cell{text: o.keys()}},
		{"rate of all", cell{text: o.rates()}},
		{"metadata", cell{text: o.Metadata.String()}},
		{"since", cell{text: instant(o.CreatedAt, now)}},
	}
}

type ownersList struct {
	remote  `embed:""`
	listing `embed:""`
}

// Run lists owners.
func (c *ownersList) Run(ctx context.Context, g *globals) error {
	t := table{columns: []column{{name: "owner", soft: true}, {name: "keys in force"}, {name: "rate of all", soft: true}}}
	return list(ctx, g, &c.remote, c.Limit, client.Call{Path: api("key-owners")}, "owners", t, func(o ownerView) []cell {
		return []cell{{text: o.Owner}, {text: o.keys()}, {text: o.rates()}}
	})
}

// oneOwner is a command about one owner.
type oneOwner struct {
	remote `embed:""`
	Owner  string `arg:"" help:"In your own words, as with avouch keys create --owner."`
}

func (c *oneOwner) run(ctx context.Context, g *globals, method string, body any, says string) error {
	answer, err := c.do(ctx, g, client.Call{Method: method, Path: api("key-owners", c.Owner), Body: body})
	if err != nil {
		return err
	}
	return show(g, answer.Body, func(p page, o ownerView) error {
		all := o.details(g.Now())
		if says != "" {
			all = append(all, aside(says))
		}
		return writeDetails(p, "", all)
	})
}

type ownersShow struct {
	oneOwner `embed:""`
}

// Run shows an owner.
func (c *ownersShow) Run(ctx context.Context, g *globals) error {
	return c.run(ctx, g, http.MethodGet, nil, "")
}

type ownersSet struct {
	oneOwner `embed:""`
	MaxKeys  *int64   `placeholder:"N" help:"How many keys in force it may have; the installation's default if left out."`
	Rate     []string `placeholder:"NAME=N/TIME" help:"A rate limit of all its keys together, such as requests=1000/1h, beside each key's own."`
	Metadata metadata `placeholder:"JSON" help:"Your own, a JSON object."`
}

// Help is shown under the usage.
func (*ownersSet) Help() string {
	return `It takes the place of all that was said before: what is left out is gone. It holds for every use that comes after the answer.

    avouch keys owners set user_17 --max-keys 5 --rate requests=1000/1h`
}

// Run says what an owner's keys share.
func (c *ownersSet) Run(ctx context.Context, g *globals) error {
	body := map[string]any{}
	if c.MaxKeys != nil {
		body["max_keys"] = *c.MaxKeys
	}
	if c.Metadata != nil {
		body["metadata"] = c.Metadata
	}
	rates, err := parseRates(c.Rate)
	if err != nil {
		return err
	}
	if rates != nil {
		body["rate_limits"] = rates
	}
	return c.run(ctx, g, http.MethodPut, body, "")
}

type ownersDelete struct {
	oneOwner `embed:""`
}

// Run takes away what an owner's keys share.
func (c *ownersDelete) Run(ctx context.Context, g *globals) error {
	return c.run(ctx, g, http.MethodDelete, nil, "It holds no longer: this is what they shared.")
}
