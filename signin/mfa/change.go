package mfa

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// proveAgain is how a page recognises that a fresh proof is wanted.
const proveAgain = "Prove yourself again"

// proved refuses a caller whose proof is not good enough to change factors: a fresh one, by a method as strong as the
// strongest factor. Whoever has none enrols for the first time: then the sign-in that makes them is the proof; after a
// reset, one that includes the mailed code.
func proved(c tenantdb.Caller, all []stored, at time.Time) error {
	p, err := person(c)
	if err != nil {
		return err
	}
	most := strongest(all)
	if most == "" {
		reset := slices.ContainsFunc(all, func(f stored) bool { return f.Reset })
		if reset && !slices.Contains(p.Methods, Email) {
			return problem.New(problem.Denied, "%s: by the code that is sent to your e-mail address.", proveAgain)
		}
		if slices.Contains(p.Methods, MethodEnrol) {
			return nil
		}
	}
	if err := p.Fresh(at); err != nil || most == "" {
		return err
	}
	for _, m := range p.Methods {
		if strength(m) >= strength(most) {
			return nil
		}
	}
	return problem.New(problem.Denied, "%s: by %s, or with something as strong.", proveAgain, most)
}

// proved is proved of the transaction's caller, whose session must be in force still.
func (r *Room) proved(ctx context.Context, tx *tenantdb.ReadTx, all []stored, at time.Time) error {
	if p, ok := tx.Caller().Person(); ok && p.Session != "" && r.cfg.Lasts != nil {
		if lasts, err := r.cfg.Lasts(ctx, tx, p.Session); err != nil {
			return err
		} else if !lasts {
			return problem.New(problem.Denied, "You have been signed out.")
		}
	}
	return proved(tx.Caller(), all, at)
}

// changed is what every change of factors does beside: it mails the person, and tells Config.Changed.
func (r *Room) changed(ctx context.Context, tx *tenantdb.Tx, ch Change, f stored) (audit.Event, error) {
	if err := r.notify(ctx, tx, ch.Person, ch.Person, ch.What, ch.Kind); err != nil {
		return audit.Event{}, err
	}
	if r.cfg.Changed != nil {
		if err := r.cfg.Changed(ctx, tx, ch); err != nil {
			return audit.Event{}, err
		}
	}
	e := audit.Event{
		Type: "factor." + ch.What, Target: audit.Target{Kind: "factor", ID: f.ID.String()}, Subject: ch.Person,
		Public: []audit.Field{
			{Name: "person_id", Value: ch.Person.String()}, {Name: "kind", Value: f.Kind}, {Name: "hardware", Value: strconv.FormatBool(f.Hardware)},
		},
	}
	if f.Name != "" {
		e.Private = []audit.Field{{Name: "name", Value: f.Name}}
	}
	return e, nil
}

// Rename gives one's factor another name, from the version that ifMatch names.
func (r *Room) Rename(ctx context.Context, c tenantdb.Caller, f ID, ifMatch, name string) (Factor, error) {
	p, err := person(c)
	if err != nil {
		return Factor{}, err
	}
	if err := checkName(name); err != nil {
		return Factor{}, err
	}
	if err := r.Prepare(ctx, c.Tenant(), p.ID); err != nil {
		return Factor{}, err
	}
	var n Factor
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		all, err := r.load(ctx, &tx.ReadTx, p.ID)
		if err != nil {
			return audit.Event{}, err
		}
		old := find(all, f)
		if old == nil || old.Reset {
			return audit.Event{}, noFactor()
		}
		if err := web.MustMatch(ifMatch, old.Version); err != nil {
			return audit.Event{}, err
		}
		old.details.Name = name
		if old.sealed, err = r.seal(ctx, c.Tenant(), p.ID, f, old.details); err != nil {
			return audit.Event{}, err
		}
		if err := rename(ctx, tx, *old); err != nil {
			return audit.Event{}, err
		}
		n = old.Factor
		n.Name, n.Version = name, old.Version+1
		return audit.Event{
			Type: "factor.renamed", Target: audit.Target{Kind: "factor", ID: f.String()}, Subject: p.ID,
			Public: []audit.Field{{Name: "person_id", Value: p.ID.String()}}, Private: []audit.Field{{Name: "name", Value: name}},
		}, nil
	})
	return n, wrap("Rename", err)
}

// Remove takes one's factor away; with the last one go the recovery codes. It refuses where the rules want one and none
// would be left that they allow.
func (r *Room) Remove(ctx context.Context, c tenantdb.Caller, f ID) error {
	p, err := person(c)
	if err != nil {
		return err
	}
	if err := r.Prepare(ctx, c.Tenant(), p.ID); err != nil {
		return err
	}
	return wrap("Remove", r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		all, err := r.load(ctx, &tx.ReadTx, p.ID)
		if err != nil {
			return audit.Event{}, err
		}
		old := find(all, f)
		if old == nil || old.Reset {
			return audit.Event{}, noFactor()
		}
		if err := r.proved(ctx, &tx.ReadTx, all, r.instant()); err != nil {
			return audit.Event{}, err
		}
		kinds, required, err := r.cfg.People.Allowed(ctx, &tx.ReadTx, p.ID)
		if err != nil {
			return audit.Event{}, err
		}
		rest := slices.DeleteFunc(slices.Clone(all), func(o stored) bool { return o.ID == f })
		if required && !slices.ContainsFunc(rest, func(o stored) bool { return !o.Reset && permitted(kinds, o.Kind, o.Hardware) }) {
			return audit.Event{}, problem.New(problem.Conflict, "The rules of your organisation want a factor, and this is the last that they allow. Add another first.")
		}
		if err := r.keepsWayIn(ctx, &tx.ReadTx, p.ID, rest, kinds); err != nil {
			return audit.Event{}, err
		}
		if err := removeFactor(ctx, tx, f); err != nil {
			return audit.Event{}, err
		}
		if strongest(rest) == "" {
			if _, err := removeCodes(ctx, tx, p.ID); err != nil {
				return audit.Event{}, err
			}
		}
		return r.changed(ctx, tx, Change{Person: p.ID, What: "removed", Factor: f, Kind: old.Kind}, *old)
	}))
}

// Reset takes all factors of a member away, who lost them. That is no way around them: what is left is a code to the address
// in the profile, which the member proves beside the password, and then enrols anew before anything else. The member and all
// owners are told. Members are reset by people who have more power than they, with a fresh proof; the operator may reset all.
func (r *Room) Reset(ctx context.Context, c tenantdb.Caller, member tenantdb.PersonID) (removed int, err error) {
	if c.Actor().Kind != audit.ActorSystem {
		if !c.Holds("members:write") {
			return 0, problem.New(problem.Denied, "This needs the capability members:write, of your own.")
		}
		p, err := person(c)
		if err == nil {
			err = p.Fresh(r.instant())
		}
		if err != nil {
			return 0, err
		}
		if p.ID == member {
			return 0, problem.New(problem.Denied, "Nobody resets their own factors: somebody else must.")
		}
	}
	// Asked before a key is made for whoever is named, and again below.
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		_, err := r.cfg.People.MayReset(ctx, tx, c, member)
		return err
	})
	if err != nil {
		return 0, wrap("Reset", err)
	}
	return r.reset(ctx, c, member)
}

func (r *Room) reset(ctx context.Context, c tenantdb.Caller, member tenantdb.PersonID) (removed int, err error) {
	if err := r.cfg.Ring.Prepare(ctx, c.Tenant(), member); err != nil {
		return 0, wrap("Reset", err)
	}
	now := r.instant()
	left := stored{Factor: Factor{ID: id.New[factorKind](), Kind: Email, CreatedAt: now, ConfirmedAt: now}, details: details{Reset: true}}
	if left.sealed, err = r.seal(ctx, c.Tenant(), member, left.ID, left.details); err != nil {
		return 0, wrap("Reset", err)
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		owners, err := r.cfg.People.MayReset(ctx, &tx.ReadTx, c, member)
		if err != nil {
			return audit.Event{}, err
		}
		if removed, err = removeAll(ctx, tx, member); err != nil {
			return audit.Event{}, err
		}
		if err := insertFactor(ctx, tx, member, left, nil); err != nil {
			return audit.Event{}, err
		}
		for _, o := range owners {
			if o != member {
				if err := r.notify(ctx, tx, o, member, "reset", ""); err != nil {
					return audit.Event{}, err
				}
			}
		}
		e, err := r.changed(ctx, tx, Change{Person: member, What: "reset"}, left)
		e.Target = audit.Target{Kind: "person", ID: member.String()}
		e.Public = []audit.Field{{Name: "person_id", Value: member.String()}, {Name: "factors", Value: strconv.Itoa(removed)}}
		return e, err
	})
	return removed, wrap("Reset", err)
}

// End takes away all that a person who leaves could prove, in the transaction of the leaving, and says how many factors
// there were.
func (r *Room) End(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, _ string) (int, error) {
	n, err := removeAll(ctx, tx, p)
	return n, wrap("End", err)
}
