package main

import (
	"context"
	"fmt"
	"strings"
)

// fetchers is how many agents share the codes of the vault: each may fetch 60 in a minute, which no setting changes. So many may fetch
// 4,096 a second for ever, and 20,000 a second for the 12 seconds that the cells of a round take, warming included.
const fetchers = 4096

// grantsEach is how many of them are granted the same item: a few fewer than one can be granted to.
const grantsEach = 480

// seedOfNobody is the seed of RFC 6238's vectors.
const seedOfNobody = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"

// fetcher is an agent with the item that was granted to it.
type fetcher struct{ token, item string }

// fillVault puts items into the vault of the organisation, and grants them to agents.
func (s *scene) fillVault(ctx context.Context, c *client, agents int) error {
	items := make([]string, (agents+grantsEach-1)/grantsEach)
	for i := range items {
		var made struct {
			ID string `json:"item_id"`
		}
		wanted := map[string]any{"name": fmt.Sprintf("Item %d", i), "type": "totp", "secret": seedOfNobody}
		if _, err := c.call(ctx, "POST", "/api/v1/vault/items", s.owner, "", wanted, &made); err != nil {
			return err
		}
		items[i] = made.ID
	}
	ids := make([]string, agents)
	s.fetchers = make([]fetcher, agents)
	err := each(ctx, agents, func(ctx context.Context, i int) error {
		var made agent
		wanted := map[string]any{"name": fmt.Sprintf("Fetcher %d", i), "capabilities": []string{"read:codes"}}
		_, err := c.call(ctx, "POST", "/api/v1/agents/register", s.owner, "", wanted, &made)
		ids[i], s.fetchers[i] = made.ID, fetcher{made.Token, items[i/grantsEach]}
		return err
	})
	for i := 0; i < agents && err == nil; i++ { // one after the other: they change one organisation
		var ignored map[string]any
		_, err = c.call(ctx, "POST", "/api/v1/vault/items/"+s.fetchers[i].item+"/grants", s.owner, "", map[string]any{"agent_id": ids[i]}, &ignored)
	}
	return err
}

func (f fetcher) path() string { return "/api/v1/vault/items/" + f.item + "/code" }

// codes has the agents fetch in turn, going on where the cell before left off: nobody fetches sooner than need be.
func (s *scene) codes() feed {
	all := make([][]byte, len(s.fetchers))
	for i, f := range s.fetchers {
		all[i] = request("POST", s.host, f.path(), f.token, "")
	}
	return func(int) []byte {
		s.fetched = (s.fetched + 1) % len(all)
		return all[s.fetched]
	}
}

// introduce shows each agent's token to a server that does not know them: what is measured are tokens that were seen before.
func (s *scene) introduce(ctx context.Context, base string) error {
	c := newClient(base)
	defer c.http.CloseIdleConnections()
	return each(ctx, len(s.fetchers), func(ctx context.Context, i int) error {
		var out struct{ Code string }
		f := s.fetchers[i]
		if _, err := c.call(ctx, "POST", f.path(), f.token, "", nil, &out); err != nil {
			return err
		}
		if len(out.Code) != 6 || strings.Trim(out.Code, "0123456789") != "" {
			return fmt.Errorf("bench.introduce: %q is no code", out.Code)
		}
		return nil
	})
}

// rivalsCodes is OpenBao's TOTP engine with its audit file, as it was measured beside the hello of that day.
const rivalsCodes = 7_892

func (b *book) codeRows() []row {
	at := func(conns int) key { return key{cellCode, conns} }
	toHello := b.ratios(at(64), perSecond, key{cellHello, 64}, perSecond)
	rival := make([]float64, len(toHello))
	for i, r := range toHello {
		rival[i] = r * rivalsHello / rivalsCodes
	}
	return []row{
		{"vault: a code, agents' tokens seen before, c=64 / hello", "x", toHello, 0, 0, false},
		{"vault: a code, c=64 / OpenBao TOTP, audited", "x", rival, 0.8, 1.3, false},
		{"p99 of the same, c=16", "ms", b.values(at(16), p99), 10, 0, true},
		{"CPU of the same, c=64 (server + Postgres)", "us", b.values(at(64), cpu), 0, 0, true},
		{"vault: a code / verification, seen, same tenant, c=64", "x", b.ratios(at(64), perSecond, key{cellSame, 64}, perSecond), 0, 0, false},
	}
}
