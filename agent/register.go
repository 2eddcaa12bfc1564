package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Registration is what an owner says of a new agent.
type Registration struct {
	Name        string
	Description string
	Scopes      []string
	Keys        []PublicKey
}

func (n *Registration) check() error {
	fields := []*problem.Field{checkName(n.Name), checkDescription(n.Description), checkScopes(n.Scopes, "body.capabilities")}
	if len(n.Keys) > maxKeys {
		fields = append(fields, &problem.Field{Location: "body.keys", Message: fmt.Sprintf("at most %d keys", maxKeys)})
	}
	seen := map[string]bool{}
	for _, k := range n.Keys {
		if seen[k.KID] {
			fields = append(fields, &problem.Field{Location: "body.keys", Message: "the same key is there twice: a key has one use"})
		}
		seen[k.KID] = true
	}
	return invalid(fields...)
}

// Register makes an agent and its first token, both or neither.
func (r *Room) Register(ctx context.Context, c tenantdb.Caller, n Registration) (Agent, Issued, error) {
	if err := gives(c); err != nil {
		return Agent{}, Issued{}, err
	}
	if err := n.check(); err != nil {
		return Agent{}, Issued{}, err
	}
	if err := r.prepare(ctx, c.Tenant()); err != nil {
		return Agent{}, Issued{}, err
	}
	now := stamp(r.now())
	a := Agent{
		ID: id.At[agentKind](now), Name: n.Name, Description: n.Description, Scopes: append([]string{}, n.Scopes...),
		Visibility: VisibleToAll, VisibleTo: []tenantdb.TenantID{}, CreatedAt: now, Generation: 1, Version: 1, Keys: n.Keys,
	}
	for i := range a.Keys {
		a.Keys[i].CreatedAt = now
	}
	for range triesToIssue {
		token, err := r.register(ctx, c, &a)
		if errors.Is(err, errMoved) {
			continue
		}
		if err != nil {
			return Agent{}, Issued{}, fmt.Errorf("agent.Register: %w", err)
		}
		return a, token, nil
	}
	return Agent{}, Issued{}, restless()
}

// register signs before it takes the head's lock, and makes sure under it that what the token was made from still holds.
func (r *Room) register(ctx context.Context, c tenantdb.Caller, a *Agent) (Issued, error) {
	var lifetime int64
	var high bool
	err := r.db.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
		if lifetime, err = ownersLifetime(ctx, tx); err == nil {
			err = r.knows(ctx, tx, a.Scopes, "body.capabilities")
		}
		if err == nil {
			high, err = r.risky(ctx, tx, a.Scopes)
		}
		return err
	})
	if err != nil {
		return Issued{}, err
	}
	token, err := r.mint(ctx, c.Tenant(), a.ID, a.Generation, lifetime, Wish{})
	if err != nil {
		return Issued{}, err
	}
	err = r.db.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		still, err := ownersLifetime(ctx, &tx.ReadTx)
		if err != nil {
			return audit.Event{}, err
		}
		if still != lifetime {
			return audit.Event{}, errMoved
		}
		if err := insertAgent(ctx, tx, a, issuerOf(c)); err != nil {
			return audit.Event{}, err
		}
		return registered(a, &token.claims), insertTokens(ctx, tx, []*Claims{&token.claims}, []string{issuerOf(c)})
	})
	token.Warnings = warnings(&token.claims, high)
	return token, err
}

// registered names the agent's keys; what the owner wrote is private, the names of scopes included.
func registered(a *Agent, token *Claims) audit.Event {
	ev := about(a.ID, "agent.registered", false, tokenFields(token)...)
	kids := make([]string, len(a.Keys))
	for i, k := range a.Keys {
		kids[i] = k.KID
	}
	ev.Public = append(ev.Public, audit.Field{Name: "scopes", Value: strconv.Itoa(len(a.Scopes))}, audit.Field{Name: "keys", Value: strings.Join(kids, " ")})
	ev.Private = []audit.Field{{Name: "name", Value: a.Name}, {Name: "description", Value: a.Description}, {Name: "scopes", Value: strings.Join(a.Scopes, " ")}}
	return ev
}

func tokenFields(t *Claims) []audit.Field {
	fields := []audit.Field{
		{Name: "jti", Value: t.JTI.String()},
		{Name: "expires_at", Value: t.Expires.Format(time.RFC3339)},
	}
	if t.Bound() {
		fields = append(fields, audit.Field{Name: "resources", Value: strconv.Itoa(len(t.Audience))})
	}
	if t.Uses > 0 {
		fields = append(fields, audit.Field{Name: "max_uses", Value: strconv.FormatInt(t.Uses, 10)})
	}
	return fields
}

func ownersLifetime(ctx context.Context, tx *tenantdb.ReadTx) (int64, error) {
	lifetime, suspended, err := tokenLifetime(ctx, tx)
	if err == nil && suspended {
		err = ownerSuspended()
	}
	return lifetime, err
}

func ownerSuspended() error {
	return problem.New(problem.Denied, "The organisation is suspended: its agents get no tokens.")
}
