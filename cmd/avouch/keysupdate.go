package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/avouch-dev/avouch/internal/client"
)

// metadata is a JSON object as it is typed and as it came; nil is none.
type metadata []byte

// UnmarshalText reads what was typed.
func (m *metadata) UnmarshalText(b []byte) error {
	var object map[string]any
	if err := json.Unmarshal(b, &object); err != nil || object == nil {
		return errors.New(`must be a JSON object, such as '{"team":"shop"}'`)
	}
	*m = slices.Clone(b)
	return nil
}

// UnmarshalJSON keeps what came.
func (m *metadata) UnmarshalJSON(b []byte) error {
	*m = slices.Clone(b)
	return nil
}

// MarshalJSON is what was typed.
func (m metadata) MarshalJSON() ([]byte, error) { return m, nil }

// String is the object on one line; nothing of one that is empty.
func (m metadata) String() string {
	var b bytes.Buffer
	if json.Compact(&b, m) != nil || b.String() == "{}" || b.String() == "null" {
		return ""
	}
	return b.String()
}

type keysUpdate struct {
	oneKey   `embed:""`
	Name     *string   `placeholder:"TEXT" help:"What people call it."`
	Metadata metadata  `placeholder:"JSON" help:"Your own, a JSON object in place of the one that is there."`
	Uses     *liftable `placeholder:"N" help:"How often it can be used at all, counted from its first use; none for as often as it likes."`
	Rate     []string  `placeholder:"NAME=N/TIME" help:"Its rate limits, in place of those that are there; none for none."`
	From     []string  `placeholder:"NETWORK" help:"From where it can be used, in place of what is there; none for anywhere."`
	Resource []string  `placeholder:"NAME" help:"What a service key may ask about, in place of what is there; none for anything."`
	AgentsOf []string  `placeholder:"TENANT-ID" help:"Whose agents a service key may verify, in place of what is there; none for anybody's."`
	Quota    *liftable `placeholder:"N" help:"A service key's verifications a month; none for any number."`
}

// Help is shown under the usage.
func (*keysUpdate) Help() string {
	return `What is left out stays. What a key may do, to whom it was given and when it expires never change: make a new one.

    avouch keys update 3kRlGxdIFxt --rate requests=50/1m --from none`
}

// none is how a list is emptied or a limit lifted: no flag leaves it as it is.
const none = "none"

// liftable is a limit as it is typed: a number, or none.
type liftable struct{ limit *int64 }

// UnmarshalText reads what was typed.
func (l *liftable) UnmarshalText(b []byte) error {
	if string(b) == none {
		l.limit = nil
		return nil
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return fmt.Errorf("must be a number or %s", none)
	}
	l.limit = &n
	return nil
}

// Run changes a key.
func (c *keysUpdate) Run(ctx context.Context, g *globals) error {
	body := map[string]any{}
	if c.Name != nil {
		body["name"] = *c.Name
	}
	if c.Metadata != nil {
		body["metadata"] = c.Metadata
	}
	for name, n := range map[string]*liftable{"max_uses": c.Uses, "monthly_quota": c.Quota} {
		if n != nil {
			body[name] = n.limit
		}
	}
	for name, list := range map[string][]string{"allowed_cidrs": c.From, "resources": c.Resource, "owners": c.AgentsOf} {
		if list != nil {
			body[name] = orEmptied(list)
		}
	}
	if c.Rate != nil {
		rates, err := parseRates(orEmptied(c.Rate))
		if err != nil {
			return err
		}
		body["rate_limits"] = append([]rateView{}, rates...)
	}
	if len(body) == 0 {
		return misused("there is nothing to change: say what, as in --name")
	}
	return c.send(ctx, g, client.Call{Method: http.MethodPatch, Path: api("keys", c.ID), Body: body})
}

// orEmptied is a list as it was typed, where none alone is the empty one.
func orEmptied(typed []string) []string {
	if len(typed) == 1 && typed[0] == none {
		return []string{}
	}
	return typed
}
