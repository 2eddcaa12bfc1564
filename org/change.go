package org

import (
	"context"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Change is what an organisation may change of itself; nil fields stay. Its quota is the operator's.
type Change struct {
	Name          *string
	ContactEmail  *string
	TokenLifetime *time.Duration
	LiveTokens    *int
}

// The limits of an organisation's settings.
const (
	minTokenLifetime = 5 * time.Minute
	maxTokenLifetime = 24 * time.Hour
	maxLiveTokens    = 100_000
)

func (ch Change) check() error {
	if err := check(ch.Name, ch.ContactEmail); err != nil {
		return err
	}
	if d := ch.TokenLifetime; d != nil && (*d < minTokenLifetime || *d > maxTokenLifetime) {
		return problem.New(problem.Invalid, "token_lifetime_seconds is not between %d and %d.", int(minTokenLifetime.Seconds()), int(maxTokenLifetime.Seconds()))
	}
	if n := ch.LiveTokens; n != nil && (*n < 1 || *n > maxLiveTokens) {
		return problem.New(problem.Invalid, "live_tokens is not between 1 and %d.", maxLiveTokens)
	}
	return nil
}

// Update changes the caller's organisation, from the version that ifMatch names.
func (r *Room) Update(ctx context.Context, c tenantdb.Caller, ifMatch string, ch Change) (o Organisation, err error) {
	if err := need(c, "organisation:write"); err != nil {
		return Organisation{}, err
	}
	if err := ch.check(); err != nil {
		return Organisation{}, err
	}
	sealed := Organisation{ID: c.Tenant()}
	if ch.ContactEmail != nil {
		sealed.ContactEmail = *ch.ContactEmail
		if err := r.seal(ctx, &sealed); err != nil {
			return Organisation{}, fmt.Errorf("org.Update: %w", err)
		}
	}
	if err := r.cfg.Ring.Prepare(ctx, c.Tenant(), audit.SubjectID{}); err != nil {
		return Organisation{}, fmt.Errorf("org.Update: %w", err)
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		if o, err = load(ctx, &tx.ReadTx); err != nil {
			return audit.Event{}, err
		}
		if err := web.MustMatch(ifMatch, o.Version); err != nil {
			return audit.Event{}, err
		}
		e := ch.apply(&o, sealed.contact)
		if e.Type == "" {
			return e, nil
		}
		o.Version++
		return e, update(ctx, tx, o)
	})
	if err == nil {
		err = r.open(ctx, &o)
	}
	if err != nil {
		return Organisation{}, fmt.Errorf("org.Update: %w", err)
	}
	return o, nil
}

// apply makes the change and says what happened; an event without a type is that nothing did.
func (ch Change) apply(o *Organisation, contact []byte) audit.Event {
	e := audit.Event{Target: audit.Target{Kind: "organisation", ID: o.ID.String()}}
	if ch.Name != nil && *ch.Name != o.Name {
		o.Name = *ch.Name
		e.Private = append(e.Private, audit.Field{Name: "name", Value: o.Name})
		e.Alters = true // no decision, but the name that is told with it, which servers keep with the rules
	}
	if ch.ContactEmail != nil {
		o.contact = contact
		e.Private = append(e.Private, audit.Field{Name: "contact_email", Value: *ch.ContactEmail})
	}
	if d := ch.TokenLifetime; d != nil && *d != o.TokenLifetime {
		o.TokenLifetime = *d
		e.Public = append(e.Public, audit.Field{Name: "token_lifetime_seconds", Value: fmt.Sprint(int(d.Seconds()))})
	}
	if n := ch.LiveTokens; n != nil && *n != o.LiveTokens {
		o.LiveTokens = *n
		e.Public = append(e.Public, audit.Field{Name: "live_tokens", Value: fmt.Sprint(*n)})
	}
	if len(e.Private)+len(e.Public) > 0 {
		e.Type = "organisation.changed"
	}
	return e
}

// Suspend stops an organisation: its keys authenticate nobody and its agents are verified by nobody, from the moment that
// this returns. by is the operator: a system caller of that organisation. The reason is for the organisation to read.
func (r *Room) Suspend(ctx context.Context, by tenantdb.Caller, reason string) error {
	return r.suspension(ctx, by, "organisation.suspended", reason, r.instant())
}

// Resume undoes Suspend.
func (r *Room) Resume(ctx context.Context, by tenantdb.Caller, reason string) error {
	return r.suspension(ctx, by, "organisation.resumed", reason, time.Time{})
}

func (r *Room) suspension(ctx context.Context, by tenantdb.Caller, typ, reason string, at time.Time) error {
	switch {
	case by.Actor().Kind != audit.ActorSystem:
		return problem.New(problem.Denied, "Only the operator suspends and resumes organisations.")
	case by.Tenant() == tenantdb.Platform:
		return problem.New(problem.Invalid, "The installation's own organisation cannot be suspended.")
	case len(reason) > 1000:
		return problem.New(problem.Invalid, "The reason is longer than 1000 bytes.")
	}
	_, err := r.cfg.DB.Head(ctx, by.Tenant()) // an id that was mistyped is missing, and not a fault of the key store
	if err == nil {
		err = r.cfg.Ring.Prepare(ctx, by.Tenant(), audit.SubjectID{})
	}
	if err == nil {
		err = r.cfg.DB.Change(ctx, by, func(tx *tenantdb.Tx) (audit.Event, error) {
			o, err := load(ctx, &tx.ReadTx)
			if err != nil || o.SuspendedAt.IsZero() == at.IsZero() {
				return audit.Event{}, err
			}
			o.SuspendedAt = at
			o.Version++
			return audit.Event{
				Type: typ, Target: audit.Target{Kind: "organisation", ID: o.ID.String()}, Alters: true,
				Private: []audit.Field{{Name: "reason", Value: reason}},
			}, update(ctx, tx, o)
		})
	}
	if err != nil {
		return fmt.Errorf("org.suspension: %w", err)
	}
	return nil
}
