package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
)

// scene is who verifies whom: two organisations, many others, and requests that are ready to be sent.
type scene struct {
	host      string // of the installation, whichever server is asked
	owner     string // key of the organisation whose agents are verified
	service   string // key of the other organisation, as its service has it
	auditor   string // key of that organisation's owner, which may read its log
	agents    []agent
	neighbour []neighbour
	tokens    []string  // issued and shown to no server yet
	given     string    // a data key of the service's organisation
	member    member    // of the organisation whose agents are verified
	metered   string    // another, with a number of uses and a rate limit that are never reached
	fetchers  []fetcher // agents that fetch codes, if those are measured
	fetched   int       // which of them fetched last
}

// neighbour is one of many organisations, with its agent.
type neighbour struct {
	key   string
	agent agent
}

// hotAgents is how many agents share the issuing of tokens. One alone would have thousands of live tokens, which nobody has.
const hotAgents = 64

// prepare makes the scene on a running `avouch dev`.
func prepare(ctx context.Context, dev *program, tenants, tokens, fetchers int) (*scene, error) {
	u, err := url.Parse(dev.ready.URL)
	if err != nil {
		return nil, fmt.Errorf("bench.prepare: %w", err)
	}
	c := newClient(dev.ready.URL)
	defer c.http.CloseIdleConnections()
	s := &scene{
		host: u.Host, owner: dev.ready.OwnerKey, service: dev.ready.ServiceKey, auditor: dev.ready.ServiceOwner,
		agents: make([]agent, hotAgents), neighbour: make([]neighbour, tenants), tokens: make([]string, tokens),
	}
	if err := c.allowTokens(ctx, s.owner); err != nil {
		return nil, err
	}
	err = each(ctx, len(s.agents), func(ctx context.Context, i int) (err error) {
		s.agents[i], err = c.register(ctx, s.owner, fmt.Sprintf("Agent %d", i))
		return err
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, tenants, func(ctx context.Context, i int) (err error) {
		n := &s.neighbour[i]
		if n.key, err = c.signUp(ctx, fmt.Sprintf("Neighbour %d", i)); err != nil {
			return err
		}
		if err := c.allowTokens(ctx, n.key); err != nil {
			return err
		}
		n.agent, err = c.register(ctx, n.key, "Agent")
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := s.giveKeys(ctx, c); err != nil {
		return nil, err
	}
	if s.member, err = c.join(ctx, s.owner); err != nil {
		return nil, err
	}
	if fetchers > 0 {
		if err := s.fillVault(ctx, c, fetchers); err != nil {
			return nil, err
		}
	}
	return s, each(ctx, tokens, func(ctx context.Context, i int) (err error) {
		s.tokens[i], err = c.issue(ctx, s.owner, s.agents[i%hotAgents].ID)
		return err
	})
}

// giveKeys makes the keys that are verified.
func (s *scene) giveKeys(ctx context.Context, c *client) (err error) {
	if s.given, err = c.newKey(ctx, s.auditor, map[string]any{"name": "given", "kind": "data", "scopes": []string{"documents:*"}}); err != nil {
		return err
	}
	s.metered, err = c.newKey(ctx, s.auditor, map[string]any{
		"name": "metered", "kind": "data", "scopes": []string{"documents:*"}, "max_uses": int64(1e12),
		"rate_limits": []any{map[string]any{"name": "never", "limit": int64(1e9), "duration_seconds": 60}},
	})
	return err
}

func (s *scene) verifyKey(key string) []byte {
	body, err := json.Marshal(map[string]any{"key": key, "scopes": []string{"documents:read"}})
	if err != nil {
		panic(err) // strings always encode
	}
	return request("POST", s.host, "/api/v1/keys/verify", s.service, string(body))
}

// signIn is a request to sign in, from a device that is known.
func (s *scene) signIn() []byte {
	body, err := json.Marshal(s.member.asked())
	if err != nil {
		panic(err) // strings always encode
	}
	return request("POST", s.host, signInPath, "", string(body), "Cookie: "+s.member.device)
}

// verify is a request to verify a token.
func (s *scene) verify(key, token, scope string) []byte {
	body, err := json.Marshal(map[string]any{"token": token, "target_resource": "https://bench.example/mail", "scopes_requested": []string{scope}})
	if err != nil {
		panic(err) // strings always encode
	}
	return request("POST", s.host, "/api/v1/verify", key, string(body))
}

// seen verifies the same token again and again: of the key's own agent, or of another organisation's.
func (s *scene) seen(key string) feed { return always(s.verify(key, s.agents[0].Token, capability)) }

// fresh verifies each token once, asking for a scope.
func (s *scene) fresh(key, scope string) feed {
	all := make([][]byte, len(s.tokens))
	for i, t := range s.tokens {
		all[i] = s.verify(key, t, scope)
	}
	return once(all)
}

// crowd has every neighbour verify: its own agent, or (apart 1) the next neighbour's.
func (s *scene) crowd(apart int) feed {
	all := make([][]byte, len(s.neighbour))
	for i, n := range s.neighbour {
		all[i] = s.verify(n.key, s.neighbour[(i+apart)%len(s.neighbour)].agent.Token, capability)
	}
	return inTurn(all...)
}

func (s *scene) newToken(key, agentID string) []byte {
	return request("POST", s.host, "/api/v1/agents/"+agentID+"/tokens", key, "{}")
}

// issueHot issues tokens in one organisation, issueWide in all of the neighbours.
func (s *scene) issueHot() feed {
	var all [][]byte
	for _, a := range s.agents {
		all = append(all, s.newToken(s.owner, a.ID))
	}
	return inTurn(all...)
}

func (s *scene) issueWide() feed {
	var all [][]byte
	for _, n := range s.neighbour {
		all = append(all, s.newToken(n.key, n.agent.ID))
	}
	return inTurn(all...)
}
