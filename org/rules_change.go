package org

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

type changeKind struct{}

// ChangeID names a change of the rules that waits.
type ChangeID = id.ID[changeKind]

// ParseChangeID reads the canonical form.
func ParseChangeID(s string) (ChangeID, error) { return id.Parse[changeKind](s) }

// lowerWait is how long a change that lowers what protects everybody waits: time for the owners to see the notice.
const lowerWait = 24 * time.Hour

// PendingChange is a change of the rules that waits because it lowers what is asked of people.
type PendingChange struct {
	ID      ChangeID
	AskedBy string // kind and id of the actor
	AskedAt time.Time
	DueAt   time.Time
	EndedAt time.Time // zero while it waits
	Outcome string    // "applied" or "cancelled"

	body pendingBody
}

// After are the rules of second factors as the change would leave them.
func (p PendingChange) After() (mfa string, roles []string, factors map[string][]string) {
	return p.body.After.MFA, p.body.After.MFARoles, p.body.After.Factors
}

// pendingBody holds of the rules those of second factors, before and after.
type pendingBody struct {
	Before Rules `json:"before"`
	After  Rules `json:"after"`
}

// onlyMFA is the rules' part about second factors.
func (r Rules) onlyMFA() Rules { return Rules{MFA: r.MFA, MFARoles: r.MFARoles, Factors: r.Factors} }

func (r *Rules) takeMFA(o Rules) { r.MFA, r.MFARoles, r.Factors = o.MFA, o.MFARoles, o.Factors }

// RulesChange is what is changed of the rules; nil fields stay.
type RulesChange struct {
	MFA             *string
	MFARoles        *[]string
	Factors         *map[string][]string
	IdleTimeout     *time.Duration
	SessionLifetime *time.Duration
	ProgramLifetime *time.Duration
	Addresses       *[]netip.Prefix
	AccessAlgorithm *string
	RetentionDays   *int
	BreakGlass      *GlassRules
}

func (ch RulesChange) apply(r Rules) Rules {
	assign(&r.MFA, ch.MFA)
	assign(&r.IdleTimeout, ch.IdleTimeout)
	assign(&r.SessionLifetime, ch.SessionLifetime)
	assign(&r.ProgramLifetime, ch.ProgramLifetime)
	assign(&r.AccessAlgorithm, ch.AccessAlgorithm)
	assign(&r.RetentionDays, ch.RetentionDays)
	assign(&r.BreakGlass, ch.BreakGlass)
	if ch.MFARoles != nil {
		r.MFARoles = sorted(*ch.MFARoles)
	}
	if ch.Factors != nil {
		r.Factors = map[string][]string{}
		for role, kinds := range *ch.Factors {
			r.Factors[role] = sorted(kinds)
		}
	}
	if ch.Addresses != nil {
		r.Addresses = slices.Clone(*ch.Addresses)
		for i, p := range r.Addresses {
			r.Addresses[i] = p.Masked()
		}
	}
	return r
}

func assign[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// SetRules are the rules as they stand, and what waits.
type SetRules struct {
	Rules
	Version int64 // the organisation's
	Pending []PendingChange
}

// GetRules are the rules of the caller's organisation.
func (r *Room) GetRules(ctx context.Context, c tenantdb.Caller) (out SetRules, err error) {
	if err := need(c, "organisation:read"); err != nil {
		return SetRules{}, err
	}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		if out.Rules, out.Version, err = loadRules(ctx, tx); err == nil {
			out.Pending, err = waiting(ctx, tx)
		}
		return err
	})
	if err != nil {
		return SetRules{}, fmt.Errorf("org.GetRules: %w", err)
	}
	return out, nil
}

// UpdateRules changes the rules, from the version that ifMatch names. What asks more of people holds at once. What asks for less
// of a second factor waits for a day, of which every owner is told; it takes an owner with a fresh proof, as does every change of
// who approves that the glass is broken.
func (r *Room) UpdateRules(ctx context.Context, c tenantdb.Caller, ifMatch string, ch RulesChange) (out SetRules, err error) {
	err = r.change(ctx, c, "organisation:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		before, version, err := loadRules(ctx, &tx.ReadTx)
		if err != nil {
			return audit.Event{}, err
		}
		if err := web.MustMatch(ifMatch, version); err != nil {
			return audit.Event{}, err
		}
		after := ch.apply(before)
		roles, err := allRoles(ctx, &tx.ReadTx)
		if err != nil {
			return audit.Event{}, err
		}
		if err := after.check(names(roles, nameOf)); err != nil {
			return audit.Event{}, err
		}
		if err := r.mayRule(a, before, after, ch.Addresses != nil); err != nil {
			return audit.Event{}, err
		}
		if err := r.keepsOwners(ctx, tx, a, before, after); err != nil {
			return audit.Event{}, err
		}
		out = SetRules{Rules: after, Version: version}
		e := audit.Event{Type: "organisation.rules_changed", Target: audit.Target{Kind: "organisation", ID: tx.Tenant().String()}}
		if after.lowersMFA(before) {
			if err := r.postpone(ctx, tx, a, before, after, &e); err != nil {
				return audit.Event{}, err
			}
			out.takeMFA(before)
		}
		e.Alters = !slices.Equal(before.Addresses, out.Addresses) // keys that people made count from these alone
		changed := changedRules(before, out.Rules)
		if e.Private = append(e.Private, changed...); len(e.Private) == 0 {
			return audit.Event{}, nil
		}
		out.Version++
		if err := saveRules(ctx, tx, out.Rules, out.Version); err != nil {
			return audit.Event{}, err
		}
		if !out.sameMFA(before) {
			if err := r.KeepsWayIn(ctx, &tx.ReadTx); err != nil {
				return audit.Event{}, err
			}
		}
		out.Pending, err = waiting(ctx, &tx.ReadTx)
		return e, err
	})
	if err != nil {
		return SetRules{}, fmt.Errorf("org.UpdateRules: %w", err)
	}
	return out, nil
}

// mayRule refuses a change that needs more than organisation:write, or that would shut out whoever makes it.
func (r *Room) mayRule(a authority, before, after Rules, addresses bool) error {
	if addresses && !a.system && !after.Allows(a.caller.Address()) {
		return problem.New(problem.Invalid, "Your own address is not among these: the change would shut you out.")
	}
	if after.lowersMFA(before) || !reflect.DeepEqual(before.BreakGlass, after.BreakGlass) {
		return a.ownerInPerson(r.cfg.Now())
	}
	return nil
}

// keepsOwners refuses whoever is no owner and says by which factors, or from where, an owner comes: by rules that owners cannot meet
// they would be shut out, and could not change them back.
func (r *Room) keepsOwners(ctx context.Context, tx *tenantdb.Tx, a authority, before, after Rules) error {
	if a.owns() {
		return nil
	}
	only := problem.New(problem.Denied, "Only an owner says by which factors, or from where, owners sign in.")
	if !slices.Equal(before.Addresses, after.Addresses) {
		return only
	}
	all, err := owners(ctx, &tx.ReadTx)
	for _, p := range all {
		s, err := standing(ctx, &tx.ReadTx, p)
		if err != nil {
			return err
		}
		if !slices.Equal(before.AllowedFactors(s.Roles), after.AllowedFactors(s.Roles)) {
			return only
		}
	}
	return err
}

// postpone keeps the part about second factors for later, and tells every owner.
func (r *Room) postpone(ctx context.Context, tx *tenantdb.Tx, a authority, before, after Rules, e *audit.Event) error {
	there, err := waiting(ctx, &tx.ReadTx)
	if err != nil {
		return err
	}
	if len(there) > 0 {
		return problem.New(problem.Conflict, "A change that asks less of people waits already: cancel it first.")
	}
	now := r.instant()
	p := PendingChange{
		ID: id.At[changeKind](now), AskedBy: a.by(), AskedAt: now, DueAt: now.Add(lowerWait), body: pendingBody{before.onlyMFA(), after.onlyMFA()},
	}
	e.Type = "organisation.rules_lowering_asked"
	e.Public = append(e.Public, field("change", p.ID.String()), field("due_at", p.DueAt.Format(time.RFC3339)))
	e.Private = append(e.Private, changedRules(before.onlyMFA(), after.onlyMFA())...)
	for i := range e.Private {
		e.Private[i].Name = "asked_" + e.Private[i].Name
	}
	if err := insertPending(ctx, tx, p); err != nil {
		return err
	}
	return r.tellOwners(ctx, tx, mail.RulesLowered, map[string]string{"change": p.ID.String()})
}

// changedRules are those that differ, as the log keeps them: some are an organisation's own words and addresses.
func changedRules(before, after Rules) (out []audit.Field) {
	was, is := fieldsOf(before), fieldsOf(after)
	for i := range is {
		if was[i].Value != is[i].Value {
			out = append(out, is[i])
		}
	}
	return out
}

func fieldsOf(r Rules) []audit.Field {
	var out []audit.Field
	v := reflect.ValueOf(r)
	for i := range v.NumField() {
		b, err := json.Marshal(v.Field(i).Interface())
		if err != nil {
			b = []byte("null")
		}
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		out = append(out, field(name, string(b)))
	}
	return out
}

// CancelChange ends a change that waits; every owner can.
func (r *Room) CancelChange(ctx context.Context, c tenantdb.Caller, which ChangeID) (p PendingChange, err error) {
	err = r.change(ctx, c, "organisation:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		if !a.owns() {
			return audit.Event{}, problem.New(problem.Denied, "Only an owner cancels this.")
		}
		if p, err = loadPending(ctx, &tx.ReadTx, which); err != nil {
			return audit.Event{}, err
		}
		if !p.EndedAt.IsZero() {
			return audit.Event{}, problem.New(problem.Conflict, "The change was %s before.", p.Outcome)
		}
		return p.event("organisation.rules_lowering_cancelled", tx.Tenant()), endPending(ctx, tx, which, r.instant(), "cancelled")
	})
	if err != nil {
		return PendingChange{}, fmt.Errorf("org.CancelChange: %w", err)
	}
	return p, nil
}

func (p PendingChange) event(typ string, t tenantdb.TenantID) audit.Event {
	return audit.Event{
		Type: typ, Target: audit.Target{Kind: "organisation", ID: t.String()}, Public: []audit.Field{field("change", p.ID.String()), field("asked_by", p.AskedBy)},
	}
}

// ApplyDue applies the changes of an organisation whose wait is over, and says how many. One that no longer fits is cancelled: if
// the rules of second factors changed since, it would undo that, if its asker is no owner any more, nobody stands for it, and what would
// shut the only owner out helps nobody.
func (r *Room) ApplyDue(ctx context.Context, by tenantdb.Caller) (applied int, err error) {
	if by.Actor().Kind != audit.ActorSystem {
		return 0, problem.New(problem.Denied, "This is done by Avouch itself.")
	}
	due, err := r.due(ctx, by)
	if err != nil || len(due) == 0 {
		return 0, err
	}
	for _, id := range due {
		err := r.change(ctx, by, "organisation:write", func(tx *tenantdb.Tx, _ authority) (audit.Event, error) {
			p, err := loadPending(ctx, &tx.ReadTx, id)
			if err != nil || !p.EndedAt.IsZero() {
				return audit.Event{}, err
			}
			rules, version, err := loadRules(ctx, &tx.ReadTx)
			if err != nil {
				return audit.Event{}, err
			}
			holds, err := r.holdsNow(ctx, &tx.ReadTx, p.AskedBy)
			if err != nil {
				return audit.Event{}, err
			}
			if !slices.Contains(holds, tenantdb.Everything) || !rules.sameMFA(p.body.Before) {
				return p.event("organisation.rules_lowering_cancelled", tx.Tenant()), endPending(ctx, tx, id, r.instant(), "cancelled")
			}
			e, err := r.applyPending(ctx, tx, p, rules, version)
			if err == nil && e.Type == "organisation.rules_changed" {
				applied++
			}
			return e, err
		})
		if err != nil {
			return applied, fmt.Errorf("org.ApplyDue: %w", err)
		}
	}
	return applied, nil
}

// applyPending puts a change of the rules into force, unless it would shut the only owner out.
func (r *Room) applyPending(ctx context.Context, tx *tenantdb.Tx, p PendingChange, before Rules, version int64) (audit.Event, error) {
	after := before
	after.takeMFA(p.body.After)
	if err := saveRules(ctx, tx, after, version+1); err != nil {
		return audit.Event{}, err
	}
	err := r.KeepsWayIn(ctx, &tx.ReadTx)
	if problem.Is(err, problem.Conflict) {
		if err := saveRules(ctx, tx, before, version); err != nil {
			return audit.Event{}, err
		}
		return p.event("organisation.rules_lowering_cancelled", tx.Tenant()), endPending(ctx, tx, p.ID, r.instant(), "cancelled")
	}
	if err != nil {
		return audit.Event{}, err
	}
	e := p.event("organisation.rules_changed", tx.Tenant())
	e.Private = changedRules(before.onlyMFA(), p.body.After)
	return e, endPending(ctx, tx, p.ID, r.instant(), "applied")
}

func (r *Room) due(ctx context.Context, by tenantdb.Caller) (due []ChangeID, err error) {
	err = r.cfg.DB.Read(ctx, by, func(tx *tenantdb.ReadTx) error {
		there, err := waiting(ctx, tx)
		for _, p := range there {
			if !r.cfg.Now().Before(p.DueAt) {
				due = append(due, p.ID)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("org.ApplyDue: %w", err)
	}
	return due, nil
}

// tellOwners asks for a mail to each owner who can act.
func (r *Room) tellOwners(ctx context.Context, tx *tenantdb.Tx, t mail.Template, about map[string]string) error {
	all, err := owners(ctx, &tx.ReadTx)
	if err != nil {
		return err
	}
	return tell(ctx, tx, all, t, about)
}

func tell(ctx context.Context, tx *tenantdb.Tx, people []PersonID, t mail.Template, about map[string]string) error {
	return mail.ToEach(ctx, tx, tx.Tenant().String(), people, t, about)
}
