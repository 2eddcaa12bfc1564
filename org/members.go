package org

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// People are the members of the caller's organisation, in the order in which they joined, from behind after.
func (r *Room) People(ctx context.Context, c tenantdb.Caller, f Filter, after PersonID, limit int) (people []Person, err error) {
	if err := need(c, "members:read"); err != nil {
		return nil, err
	}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		people, err = listPeople(ctx, tx, f, after, limit)
		return err
	})
	for i := range people {
		if err == nil {
			err = r.unseal(ctx, c.Tenant(), &people[i])
		}
	}
	if err != nil {
		return nil, fmt.Errorf("org.People: %w", err)
	}
	return people, nil
}

// unseal opens a person's profile. Of who was erased nothing is left.
func (r *Room) unseal(ctx context.Context, t tenantdb.TenantID, p *Person) error {
	f, err := r.openProfile(ctx, t, p.ID, p.sealed)
	if errors.Is(err, keyring.ErrDestroyed) {
		err = nil
	}
	p.Name, p.Address = f.Name, f.Address
	return err
}

// Person is one person, also one who was removed.
func (r *Room) Person(ctx context.Context, c tenantdb.Caller, id PersonID) (p Person, err error) {
	if err := need(c, "members:read"); err != nil {
		return Person{}, err
	}
	return r.person(ctx, c, id)
}

func (r *Room) person(ctx context.Context, c tenantdb.Caller, id PersonID) (p Person, err error) {
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		p, err = loadPerson(ctx, tx, id)
		return err
	})
	if err == nil {
		err = r.unseal(ctx, c.Tenant(), &p)
	}
	if err != nil {
		return Person{}, fmt.Errorf("org.Person: %w", err)
	}
	return p, nil
}

// Names are what those of some people are called who are, or were, of the caller's organisation: name and address. Of who was erased, and
// of whom nothing can be read, there is none.
func (r *Room) Names(ctx context.Context, c tenantdb.Caller, people []PersonID) (map[PersonID]string, error) {
	if err := need(c, "members:read"); err != nil {
		return nil, err
	}
	var found []Person
	err := r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
		found, err = loadPeople(ctx, tx, people)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("org.Names: %w", err)
	}
	names := map[PersonID]string{}
	for i := range found {
		if p := &found[i]; r.unseal(ctx, c.Tenant(), p) == nil && p.Name != "" {
			names[p.ID] = p.Name + " <" + p.Address + ">"
		}
	}
	return names, nil
}

// PersonChange is what is changed of a person; nil fields stay.
type PersonChange struct {
	Name  *string
	Roles *[]string // of their own
}

// ChangedPerson is a person after a change.
type ChangedPerson struct {
	Person
	// KeysKept is how many keys in force the person made, if the change took a capability from them: keys keep what they
	// have, and it is for whoever made the change to revoke them.
	KeysKept int
}

// UpdatePerson changes somebody who may not do more than the caller, from a version if ifMatch names one.
func (r *Room) UpdatePerson(ctx context.Context, c tenantdb.Caller, id PersonID, ifMatch string, ch PersonChange) (out ChangedPerson, err error) {
	if err := need(c, "members:write"); err != nil {
		return ChangedPerson{}, err
	}
	before, err := r.person(ctx, c, id) // and so an id that nobody has makes no key
	if err == nil && ch.Name != nil {
		err = nameable(before, *ch.Name)
	}
	if err == nil && ch.Name != nil {
		err = r.Prepare(ctx, c.Tenant(), id)
	}
	if err != nil {
		return ChangedPerson{}, err
	}
	err = r.change(ctx, c, "members:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		p, had, err := r.decidable(ctx, tx, a, id)
		if err != nil {
			return audit.Event{}, err
		}
		if err := web.CheckMatch(ifMatch, p.Version); err != nil {
			return audit.Event{}, err
		}
		e := p.event("person.changed")
		if ch.Roles != nil {
			if err := r.setRoles(ctx, tx, a, &p, *ch.Roles, &e); err != nil {
				return audit.Event{}, err
			}
		}
		if err := r.rename(ctx, tx, &p, ch.Name, &e); err != nil {
			return audit.Event{}, err
		}
		out.Person = p
		if len(e.Public)+len(e.Private) == 0 {
			return audit.Event{}, nil
		}
		p.Version++
		out.Person = p
		if err := updatePerson(ctx, tx, p); err != nil {
			return audit.Event{}, err
		}
		if ch.Roles != nil {
			if err := r.KeepsWayIn(ctx, &tx.ReadTx); err != nil {
				return audit.Event{}, err
			}
		}
		out.KeysKept, err = r.keysKept(ctx, &tx.ReadTx, id, had)
		return e, err
	})
	if err == nil {
		err = r.unseal(ctx, c.Tenant(), &out.Person)
	}
	if err != nil {
		return ChangedPerson{}, fmt.Errorf("org.UpdatePerson: %w", err)
	}
	return out, nil
}

// nameable refuses a name for somebody whose name a directory decides.
func nameable(p Person, name string) error {
	if p.ManagedBy != (ConnectionID{}) {
		return problem.New(problem.Conflict, "The name comes from the organisation's directory: change it there.")
	}
	return checkName(name)
}

// decidable is a person about whom the caller may decide, and what that person may do.
func (r *Room) decidable(ctx context.Context, tx *tenantdb.Tx, a authority, id PersonID) (p Person, has []string, err error) {
	if p, err = present(ctx, &tx.ReadTx, id); err != nil {
		return p, nil, err
	}
	s, err := standing(ctx, &tx.ReadTx, id)
	if err != nil {
		return p, nil, err
	}
	return p, s.Capabilities, a.covers(s.Capabilities)
}

func (r *Room) setRoles(ctx context.Context, tx *tenantdb.Tx, a authority, p *Person, roles []string, e *audit.Event) error {
	roles = sorted(roles)
	if slices.Equal(roles, p.Roles) {
		return nil
	}
	gives, err := capabilitiesOf(ctx, &tx.ReadTx, roles)
	if err != nil {
		return err
	}
	if err := a.gives(gives); err != nil {
		return err
	}
	was, is := slices.Contains(p.Roles, RoleOwner), slices.Contains(roles, RoleOwner)
	if was != is {
		if err := a.fresh(r.cfg.Now()); err != nil {
			return err
		}
	}
	if was && !is {
		if err := notLast(ctx, &tx.ReadTx, p.ID); err != nil {
			return err
		}
		ended, err := r.demote(ctx, tx, p.ID)
		if err != nil {
			return err
		}
		e.Public = append(e.Public, ended...)
		if err := r.tellOfLess(ctx, tx, *p, false); err != nil {
			return err
		}
	}
	e.Public = append(e.Public, field("roles", strings.Join(roles, " ")), field("before", strings.Join(p.Roles, " ")))
	p.Roles = roles
	return nil
}

// demote ends the sessions that only an owner may have, and says in the entry how many those were.
func (r *Room) demote(ctx context.Context, tx *tenantdb.Tx, p PersonID) (public []audit.Field, err error) {
	if r.cfg.Demoted == nil {
		return nil, nil
	}
	n, err := r.cfg.Demoted(ctx, tx, p, "owner_no_more")
	if n > 0 {
		public = append(public, field(EndSessions, fmt.Sprint(n)))
	}
	return public, err
}

// freshIfOwner refuses an old proof of who sends an owner away.
func (r *Room) freshIfOwner(a authority, p Person) error {
	if !slices.Contains(p.Roles, RoleOwner) {
		return nil
	}
	return a.fresh(r.cfg.Now())
}

// tellOfLess tells every owner, and the one whom it is about, that an owner is one no more, or cannot act as one.
func (r *Room) tellOfLess(ctx context.Context, tx *tenantdb.Tx, p Person, suspended bool) error {
	if !slices.Contains(p.Roles, RoleOwner) {
		return nil
	}
	told, err := r.OwnersOfLate(ctx, &tx.ReadTx)
	if err != nil {
		return err
	}
	if !slices.Contains(told, p.ID) {
		told = append(told, p.ID)
	}
	about := map[string]string{"who": p.ID.String(), "by": by(tx.Caller().Actor()), "at": r.instant().Format(time.RFC3339)}
	if suspended {
		about["suspended"] = "true"
	}
	return tell(ctx, tx, told, mail.Ownership, about)
}

// notLast refuses to do without the last owner who can act.
func notLast(ctx context.Context, tx *tenantdb.ReadTx, p PersonID) error {
	all, err := owners(ctx, tx)
	if err == nil && len(all) == 1 && all[0] == p {
		err = problem.New(problem.Conflict, "This is the last owner who can act: make another one first.")
	}
	return err
}

// ownersOwn refuses whoever is no owner and decides about one, as a directory would.
func ownersOwn(c tenantdb.Caller, p Person) error {
	if c.Actor().Kind == audit.ActorSystem || c.Holds(tenantdb.Everything) || !slices.Contains(p.Roles, RoleOwner) {
		return nil
	}
	return problem.New(problem.Denied, "Only an owner decides about owners.")
}

func (r *Room) rename(ctx context.Context, tx *tenantdb.Tx, p *Person, name *string, e *audit.Event) error {
	if name == nil {
		return nil
	}
	f, err := r.openProfile(ctx, tx.Tenant(), p.ID, p.sealed)
	if err != nil || f.Name == *name {
		return err
	}
	f.Name = *name
	if p.sealed, err = r.sealProfile(ctx, tx.Tenant(), p.ID, f); err != nil {
		return err
	}
	e.Private = append(e.Private, field("name", f.Name))
	return nil
}

// keysKept counts the keys in force of a person who lost a capability.
func (r *Room) keysKept(ctx context.Context, tx *tenantdb.ReadTx, p PersonID, had []string) (int, error) {
	s, err := standing(ctx, tx, p)
	if err != nil {
		return 0, err
	}
	if s.Active && len(common(had, s.Capabilities)) == len(had) || r.cfg.KeysOf == nil {
		return 0, nil
	}
	return r.cfg.KeysOf(ctx, tx, p)
}

// SuspendPerson keeps somebody out until they are resumed, and ends their sessions. Keys that they made stay, and are counted.
func (r *Room) SuspendPerson(ctx context.Context, c tenantdb.Caller, id PersonID) (ChangedPerson, error) {
	return r.pause(ctx, c, id, r.instant())
}

// ResumePerson undoes SuspendPerson. Who resumes gives back what the person may do, and must hold it.
func (r *Room) ResumePerson(ctx context.Context, c tenantdb.Caller, id PersonID) (ChangedPerson, error) {
	return r.pause(ctx, c, id, time.Time{})
}

func (r *Room) pause(ctx context.Context, c tenantdb.Caller, id PersonID, at time.Time) (out ChangedPerson, err error) {
	err = r.change(ctx, c, "members:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		if a.is(id) {
			return audit.Event{}, problem.New(problem.Conflict, "Nobody suspends or resumes themselves.")
		}
		p, _, err := r.decidable(ctx, tx, a, id)
		if err == nil && !at.IsZero() {
			err = r.freshIfOwner(a, p)
		}
		if err != nil {
			return audit.Event{}, err
		}
		var e audit.Event
		out.Person, e, err = r.Pause(ctx, tx, p.ID, at)
		if err == nil && e.Type == "" && !at.IsZero() { // by whom? if by a directory, it is no more the directory's to undo
			var taken bool
			if taken, err = takeSuspension(ctx, tx, id); taken {
				e = out.event("person.suspended")
			}
		}
		if err == nil && e.Type != "" && !at.IsZero() && r.cfg.KeysOf != nil {
			out.KeysKept, err = r.cfg.KeysOf(ctx, &tx.ReadTx, id)
		}
		return e, err
	})
	if err == nil {
		err = r.unseal(ctx, c.Tenant(), &out.Person)
	}
	if err != nil {
		return ChangedPerson{}, fmt.Errorf("org.pause: %w", err)
	}
	return out, nil
}

// Pause suspends a person, or resumes them if at is zero, in a transaction of whoever decided that, as a directory does. It keeps
// the last owner, and owners from all but owners and Avouch itself; whether else the caller may decide about the person is for the
// caller's room to know. An event without a type is that nothing changed.
func (r *Room) Pause(ctx context.Context, tx *tenantdb.Tx, id PersonID, at time.Time) (Person, audit.Event, error) {
	p, err := present(ctx, &tx.ReadTx, id)
	if err == nil {
		err = ownersOwn(tx.Caller(), p)
	}
	if err != nil || p.SuspendedAt.IsZero() == at.IsZero() {
		return p, audit.Event{}, err
	}
	e := p.event("person.resumed")
	if !at.IsZero() {
		e.Type = "person.suspended"
		if err := notLast(ctx, &tx.ReadTx, id); err != nil {
			return p, audit.Event{}, err
		}
		if end := r.cfg.Endings[EndSessions]; end != nil {
			n, err := end(ctx, tx, id, "suspended")
			if err != nil {
				return p, audit.Event{}, err
			}
			e.Public = append(e.Public, field(EndSessions, fmt.Sprint(n)))
		}
	}
	p.SuspendedAt = at
	p.Version++
	if err := updatePerson(ctx, tx, p); err != nil {
		return p, audit.Event{}, err
	}
	err = r.ownerGone(ctx, tx, p)
	if err == nil && !at.IsZero() {
		err = r.tellOfLess(ctx, tx, p, true)
	}
	return p, e, err
}

// ownerGone refuses to do without an owner, when that is done, where the one who is left has no way in.
func (r *Room) ownerGone(ctx context.Context, tx *tenantdb.Tx, p Person) error {
	if !slices.Contains(p.Roles, RoleOwner) {
		return nil
	}
	return r.KeepsWayIn(ctx, &tx.ReadTx)
}
