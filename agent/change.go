package agent

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// stamp is a time as the database keeps it.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func revokedForGood() error {
	return problem.New(problem.Conflict, "The agent is revoked, which is final. Register another.")
}

// Get reads one agent, with its keys.
func (r *Room) Get(ctx context.Context, c tenantdb.Caller, id ID) (a Agent, err error) {
	if err := may(c, mayRead); err != nil {
		return Agent{}, err
	}
	err = r.db.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
		if a, err = loadAgent(ctx, tx, id); err == nil {
			a.Keys, err = loadKeys(ctx, tx, id)
		}
		return err
	})
	if err != nil {
		return Agent{}, fmt.Errorf("agent.Get: %w", err)
	}
	return a, nil
}

// List reads the newest agents that were made before one, nil for the newest of all; an empty status is every status.
func (r *Room) List(ctx context.Context, c tenantdb.Caller, before *ID, status Status, most int) (all []Agent, err error) {
	if err := may(c, mayRead); err != nil {
		return nil, err
	}
	err = r.db.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
		all, err = listAgents(ctx, tx, before, status, most)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("agent.List: %w", err)
	}
	return all, nil
}

// change alters an agent that is not revoked, and was not altered since ifMatch was read. fn edits the agent and says what
// happened; the zero event means nothing did.
func (r *Room) change(ctx context.Context, c tenantdb.Caller, id ID, ifMatch string, fn func(*tenantdb.Tx, *Agent) (audit.Event, error)) (a Agent, err error) {
	if err := may(c, mayWrite); err != nil {
		return Agent{}, err
	}
	if err := r.prepare(ctx, c.Tenant()); err != nil {
		return Agent{}, err
	}
	err = r.db.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		if a, err = loadAgent(ctx, &tx.ReadTx, id); err != nil {
			return audit.Event{}, err
		}
		if err := web.CheckMatch(ifMatch, a.Version); err != nil {
			return audit.Event{}, err
		}
		if a.RevokedAt != nil {
			return audit.Event{}, revokedForGood()
		}
		ev, err := fn(tx, &a)
		if err != nil || ev.Type == "" {
			return audit.Event{}, err
		}
		return ev, saveAgent(ctx, tx, &a)
	})
	r.recent.drop(c.Tenant(), id)
	if err != nil {
		return Agent{}, fmt.Errorf("agent.change: %w", err)
	}
	return a, nil
}

// Edit is what an owner wants otherwise; nil leaves a thing as it is.
type Edit struct {
	Name        *string
	Description *string
	Visibility  *Visibility
	VisibleTo   *[]tenantdb.TenantID
}

func (e *Edit) check() error {
	var fields []*problem.Field
	if e.Name != nil {
		fields = append(fields, checkName(*e.Name))
	}
	if e.Description != nil {
		fields = append(fields, checkDescription(*e.Description))
	}
	if v := e.Visibility; v != nil && *v != VisibleToAll && *v != VisibleToListed && *v != VisibleToNone {
		fields = append(fields, &problem.Field{Location: "body.visibility", Message: "must be all, listed or none"})
	}
	if e.VisibleTo != nil && len(*e.VisibleTo) > maxVisibleTo {
		fields = append(fields, &problem.Field{Location: "body.visible_to", Message: fmt.Sprintf("at most %d organisations", maxVisibleTo)})
	}
	return invalid(fields...)
}

// apply edits the agent and returns the names of what is otherwise now.
func (e *Edit) apply(a *Agent) (changed []string, err error) {
	set := func(name string, old *string, value *string) {
		if value != nil && *value != *old {
			*old, changed = *value, append(changed, name)
		}
	}
	set("name", &a.Name, e.Name)
	set("description", &a.Description, e.Description)
	seen, list := a.Visibility, a.VisibleTo
	if e.Visibility != nil {
		seen = *e.Visibility
	}
	switch {
	case e.VisibleTo != nil && len(*e.VisibleTo) > 0 && seen != VisibleToListed:
		return nil, invalid(&problem.Field{Location: "body.visible_to", Message: "goes with visibility listed only"})
	case e.VisibleTo != nil:
		list = slices.Clone(*e.VisibleTo)
		slices.SortFunc(list, func(x, y tenantdb.TenantID) int { return slices.Compare(x[:], y[:]) })
		list = slices.Compact(list)
	}
	if seen != VisibleToListed {
		list = nil
	}
	if seen != a.Visibility || !slices.Equal(list, a.VisibleTo) {
		changed = append(changed, "visibility")
	}
	a.Visibility, a.VisibleTo = seen, append([]tenantdb.TenantID{}, list...)
	return changed, nil
}

// Update alters what is said of an agent, and who may verify it. A new name is in the answers of verifications, so it
// counts as altering them.
func (r *Room) Update(ctx context.Context, c tenantdb.Caller, id ID, ifMatch string, e Edit) (Agent, error) {
	if err := e.check(); err != nil {
		return Agent{}, err
	}
	return r.change(ctx, c, id, ifMatch, func(_ *tenantdb.Tx, a *Agent) (audit.Event, error) {
		changed, err := e.apply(a)
		if err != nil || len(changed) == 0 {
			return audit.Event{}, err
		}
		alters := slices.Contains(changed, "visibility") || slices.Contains(changed, "name")
		ev := about(id, "agent.updated", alters, audit.Field{Name: "changed", Value: strings.Join(changed, " ")})
		if slices.Contains(changed, "visibility") {
			ev.Public = append(ev.Public, audit.Field{Name: "visibility", Value: string(a.Visibility)}, audit.Field{Name: "visible_to", Value: joinIDs(a.VisibleTo)})
		}
		if slices.Contains(changed, "name") {
			ev.Private = append(ev.Private, audit.Field{Name: "name", Value: a.Name})
		}
		if slices.Contains(changed, "description") {
			ev.Private = append(ev.Private, audit.Field{Name: "description", Value: a.Description})
		}
		return ev, nil
	})
}

func joinIDs(ids []tenantdb.TenantID) string {
	texts := make([]string, len(ids))
	for i, t := range ids {
		texts[i] = t.String()
	}
	return strings.Join(texts, " ")
}

// SetScopes replaces the scopes that an agent has. They are not in its tokens: those that exist change with them.
func (r *Room) SetScopes(ctx context.Context, c tenantdb.Caller, id ID, ifMatch string, scopes []string) (Agent, error) {
	if err := invalid(checkScopes(scopes, "body.scopes")); err != nil {
		return Agent{}, err
	}
	return r.change(ctx, c, id, ifMatch, func(tx *tenantdb.Tx, a *Agent) (audit.Event, error) {
		if err := r.knows(ctx, &tx.ReadTx, scopes, "body.scopes"); err != nil {
			return audit.Event{}, err
		}
		added, removed := missingFrom(a.Scopes, scopes), missingFrom(scopes, a.Scopes)
		a.Scopes = append([]string{}, scopes...)
		if len(added)+len(removed) == 0 {
			return audit.Event{}, nil
		}
		if len(added) > 0 {
			if err := gives(c); err != nil {
				return audit.Event{}, err
			}
		}
		ev := about(id, "agent.scopes_changed", true, audit.Field{Name: "added", Value: strconv.Itoa(len(added))},
			audit.Field{Name: "removed", Value: strconv.Itoa(len(removed))})
		ev.Private = []audit.Field{{Name: "scopes", Value: strings.Join(scopes, " ")}, {Name: "added", Value: strings.Join(added, " ")}, {Name: "removed", Value: strings.Join(removed, " ")}}
		return ev, nil
	})
}

// missingFrom is what list lacks of wanted.
func missingFrom(list, wanted []string) []string {
	return slices.DeleteFunc(slices.Clone(wanted), func(s string) bool { return slices.Contains(list, s) })
}

// Suspend takes an agent's rights away until it is resumed. Its tokens stay, and prove who it is, and that it may nothing.
func (r *Room) Suspend(ctx context.Context, c tenantdb.Caller, id ID) (Agent, error) {
	return r.change(ctx, c, id, "", func(_ *tenantdb.Tx, a *Agent) (audit.Event, error) {
		if a.SuspendedAt != nil {
			return audit.Event{}, problem.New(problem.Conflict, "The agent is suspended already.")
		}
		now := stamp(r.now())
		a.SuspendedAt = &now
		return about(id, "agent.suspended", true), nil
	})
}

// Resume ends a suspension.
func (r *Room) Resume(ctx context.Context, c tenantdb.Caller, id ID) (Agent, error) {
	return r.change(ctx, c, id, "", func(_ *tenantdb.Tx, a *Agent) (audit.Event, error) {
		if a.SuspendedAt == nil {
			return audit.Event{}, problem.New(problem.Conflict, "The agent is not suspended.")
		}
		if err := gives(c); err != nil {
			return audit.Event{}, err
		}
		a.SuspendedAt = nil
		return about(id, "agent.resumed", true), nil
	})
}

// Revoke ends an agent for good, and all its tokens with it.
func (r *Room) Revoke(ctx context.Context, c tenantdb.Caller, id ID) (Agent, error) {
	return r.change(ctx, c, id, "", func(_ *tenantdb.Tx, a *Agent) (audit.Event, error) {
		now := stamp(r.now())
		a.RevokedAt = &now
		return about(id, "agent.revoked", true), nil
	})
}

// RevokeTokens revokes all tokens that an agent has, in one step: later ones are of another generation. It says how many
// were still live.
func (r *Room) RevokeTokens(ctx context.Context, c tenantdb.Caller, id ID) (a Agent, live int64, err error) {
	a, err = r.change(ctx, c, id, "", func(tx *tenantdb.Tx, a *Agent) (audit.Event, error) {
		if live, err = revokeLive(ctx, tx, id, stamp(r.now())); err != nil {
			return audit.Event{}, err
		}
		a.Generation++
		return about(id, "tokens.revoked", true, audit.Field{Name: "generation", Value: strconv.FormatInt(a.Generation, 10)},
			audit.Field{Name: "count", Value: strconv.FormatInt(live, 10)}), nil
	})
	return a, live, err
}
