package main

import (
	"context"
	"time"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
)

// demonstrator acts for an organisation of the demo, as its owner could.
func demonstrator(t tenantdb.TenantID) tenantdb.Caller { return tenantdb.System(t, "demo") }

// demonstrate makes what is missing of the demo: two organisations, their keys, a person, an agent and a token of it that has not
// expired. Each part is kept as soon as it is made: a key is shown once.
func demonstrate(ctx context.Context, s *server.Server, r *ready, keep func() error) error {
	for _, step := range []struct {
		done bool
		make func(context.Context, *server.Server, *ready) error
	}{
		{r.TenantID != "", demoOwner}, {r.OwnerPassword != "", demoPassword}, {r.OwnerID != "", demoPerson}, {r.ServiceTenantID != "", demoService}, {r.ServiceKey != "", demoServiceKey}, {r.AgentID != "", demoAgent},
	} {
		if step.done {
			continue
		}
		if err := step.make(ctx, s, r); err != nil {
			return err
		}
		if err := keep(); err != nil {
			return err
		}
	}
	return freshToken(ctx, s, r)
}

func demoOwner(ctx context.Context, s *server.Server, r *ready) error {
	made, err := s.Org.Create(ctx, org.NewOrganisation{Name: "Acme Robotics", ContactEmail: "owner@acme.example"})
	if err != nil {
		return err
	}
	r.TenantID, r.OwnerKey = made.ID.String(), made.OwnerKey.Expose()
	return nil
}

func demoService(ctx context.Context, s *server.Server, r *ready) error {
	made, err := s.Org.Create(ctx, org.NewOrganisation{Name: "Harbour Data", ContactEmail: "owner@harbour.example"})
	if err != nil {
		return err
	}
	r.ServiceTenantID, r.ServiceOwnerKey = made.ID.String(), made.OwnerKey.Expose()
	return nil
}

func demoServiceKey(ctx context.Context, s *server.Server, r *ready) error {
	t, err := tenantdb.ParseTenantID(r.ServiceTenantID)
	if err != nil {
		return err
	}
	// The service shows its verifications, so that the page of the badge has something to show.
	o, err := s.Org.Get(ctx, demonstrator(t))
	if err == nil {
		_, err = s.Org.Update(ctx, demonstrator(t), web.ETag(o.Version), org.Change{Badge: new(true)})
	}
	if err != nil {
		return err
	}
	made, err := s.Keys.Create(ctx, demonstrator(t), apikey.NewKey{Name: "Harbour Data API", Kind: apikey.Service})
	if err != nil {
		return err
	}
	r.ServiceKey = made.Secret.Expose()
	return nil
}

func demoAgent(ctx context.Context, s *server.Server, r *ready) error {
	t, err := tenantdb.ParseTenantID(r.TenantID)
	if err != nil {
		return err
	}
	if _, err := s.Policy.Add(ctx, demonstrator(t), policy.Scope{Name: "read:data", Risk: policy.Low, Description: "Read the data of a service"}); err != nil {
		return err
	}
	made, token, err := s.Agents.Register(ctx, demonstrator(t), agent.Registration{
		Name: "Research assistant", Description: "Looks things up for the demo.", Scopes: []string{"read:data", "read:email", "browse:web"},
	})
	if err != nil {
		return err
	}
	r.AgentID, r.AgentDID, r.AgentToken = made.ID.String(), s.Agents.DID(made.ID), token.Token.Expose()
	return nil
}

// freshToken replaces the demo's token if it is about to expire or proves nothing. An agent that has been suspended or
// revoked in the meantime keeps its old one: trying that out is what the demo is for.
func freshToken(ctx context.Context, s *server.Server, r *ready) error {
	claims, err := s.Agents.Checker().Check(ctx, r.AgentToken, time.Now())
	if err == nil && time.Until(claims.Expires) > 12*time.Hour {
		return nil
	}
	t, err := tenantdb.ParseTenantID(r.TenantID)
	if err != nil {
		return err
	}
	id, err := agent.ParseID(r.AgentID)
	if err != nil {
		return err
	}
	if a, err := s.Agents.Get(ctx, demonstrator(t), id); err != nil || a.Status() != agent.Active {
		return err
	}
	token, err := s.Agents.Issue(ctx, demonstrator(t), id, agent.Wish{})
	if err != nil {
		return err
	}
	r.AgentToken = token.Token.Expose()
	return nil
}
