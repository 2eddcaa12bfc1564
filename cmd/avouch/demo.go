package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/vault"
	"github.com/avouch-dev/avouch/vault/portable"
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
		{r.VaultItemID != "", demoItem},
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
		Name: "Research assistant", Description: "Looks things up for the demo.", Scopes: []string{"read:data", "read:email", "browse:web", codesScope},
	})
	if err != nil {
		return err
	}
	r.AgentID, r.AgentDID, r.AgentToken = made.ID.String(), s.Agents.DID(made.ID), token.Token.Expose()
	return nil
}

// What the agent of the demo may get codes of, and the scope that it needs for it.
const (
	demoItemName = "Supplier portal"
	codesScope   = "read:codes"
)

// demoItem puts a seed into the vault that nobody knows, and lets the agent have its codes. What a start that was killed has left is
// taken up; an agent that was suspended or revoked stays as it is.
func demoItem(ctx context.Context, s *server.Server, r *ready) error {
	t, err := tenantdb.ParseTenantID(r.TenantID)
	if err != nil {
		return err
	}
	id, err := agent.ParseID(r.AgentID)
	if err != nil {
		return err
	}
	c := demonstrator(t)
	a, err := s.Agents.Get(ctx, c, id)
	if err != nil || a.Status() != agent.Active {
		return err
	}
	if !slices.Contains(a.Scopes, codesScope) { // of a directory that was begun before there was a vault
		if _, err := s.Agents.SetScopes(ctx, c, id, web.ETag(a.Version), append(slices.Clone(a.Scopes), codesScope)); err != nil {
			return err
		}
	}
	item, err := demoSeed(ctx, s, c)
	if err != nil {
		return err
	}
	if _, err := s.Vault.Grant(ctx, c, item, vault.Actor{Kind: vault.AnAgent, ID: r.AgentID}, vault.ForCode, nil); err != nil {
		return err
	}
	r.VaultItemID = item.String()
	return nil
}

func demoSeed(ctx context.Context, s *server.Server, c tenantdb.Caller) (item vault.ID, err error) {
	there, err := s.Vault.List(ctx, c, vault.Filter{Text: demoItemName}, vault.ID{}, 1)
	if err != nil {
		return item, err
	}
	if len(there) > 0 {
		return there[0].ID, nil
	}
	seed := fmt.Appendf(nil, "otpauth://totp/%s?secret=%s", strings.ReplaceAll(demoItemName, " ", "%20"), rand.Text())
	made, err := s.Vault.Import(ctx, c, vault.Import{Format: portable.FormatURI, Data: seed, Folder: "demo"})
	if err != nil {
		return item, err
	}
	return made.Items[0].Item, nil
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
