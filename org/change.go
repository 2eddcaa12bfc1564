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
	Badge         *bool
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
		if o, err = load(ctx, &tx.ReadTx, r.month()); err != nil {
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
	if b := ch.Badge; b != nil && *b != o.Badge {
		o.Badge = *b
		e.Public = append(e.Public, audit.Field{Name: "badge", Value: fmt.Sprint(*b)})
	}
	if len(e.Private)+len(e.Public) > 0 {
		e.Type = "organisation.changed"
	}
	return e
}
