package session

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Proved says that a session's person was proved again (step-up): it gives the session of a browser a new cookie value, and the
// old one ends with the commit. A program's session keeps its tokens; the zero secret says so. The session's
// second factors are those of the latest proof. The entry is the caller's.
func (r *Room) Proved(ctx context.Context, tx *tenantdb.Tx, id ID, methods []string, at time.Time) (secret.String, error) {
	s, err := load(ctx, &tx.ReadTx, id)
	if err != nil {
		return secret.String{}, fmt.Errorf("session.Proved: %w", err)
	}
	st, err := r.cfg.People.Standing(ctx, &tx.ReadTx, s.Person)
	if err != nil {
		return secret.String{}, fmt.Errorf("session.Proved: %w", err)
	}
	now := r.instant()
	if s.over(st, now) || !st.Active {
		return secret.String{}, fmt.Errorf("session.Proved: %w", Refused())
	}
	if at = at.UTC().Truncate(time.Microsecond); at.After(now) {
		at = now
	}
	if err := r.written(ctx, tx.Tenant(), &s); err != nil {
		return secret.String{}, fmt.Errorf("session.Proved: %w", err)
	}
	var v secret.String
	if s.Kind == Browser {
		v, s.digest = value()
	}
	all := s.Methods
	if at.Equal(s.ProvedAt) || at.After(s.ProvedAt) {
		// What was proved then, and not what was proved some time: a weak proof of now must not pass for the strong one of before.
		first := slices.DeleteFunc(slices.Clone(s.Methods), func(m string) bool { return slices.Contains(second, m) })
		all = slices.Compact(slices.Sorted(slices.Values(append(first, methods...))))
		s.held = capabilitiesOf(st)
	}
	if at.Before(s.ProvedAt) { // another proof was later
		at = s.ProvedAt
	}
	s.Methods, s.ProvedAt = all, at
	if s.mac, err = r.mac(ctx, tx.Tenant(), &s); err == nil {
		err = prove(ctx, tx, s)
	}
	if err != nil {
		return secret.String{}, fmt.Errorf("session.Proved: %w", err)
	}
	return v, nil
}

// End ends all sessions of a person and forgets the person's devices. It says how many were in force.
func (r *Room) End(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, why string) (int, error) {
	n, err := r.endBut(ctx, tx, p, ID{}, why)
	if err == nil {
		_, err = r.ForgetDevices(ctx, tx, p)
	}
	if err != nil {
		return 0, fmt.Errorf("session.End: %w", err)
	}
	return n, nil
}

// EndOthers ends all sessions of a person but one, as when the password changes. It says how many were in force.
func (r *Room) EndOthers(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, but ID, why string) (int, error) {
	n, err := r.endBut(ctx, tx, p, but, why)
	if err != nil {
		return 0, fmt.Errorf("session.EndOthers: %w", err)
	}
	return n, nil
}

func (r *Room) endBut(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, but ID, why string) (n int, err error) {
	now, ids := r.instant(), []ID(nil)
	for { // as many as are read at a time
		all, err := ofPerson(ctx, &tx.ReadTx, p)
		if err != nil {
			return 0, err
		}
		ids = ids[:0]
		for _, s := range all {
			if s.ID == but {
				continue
			}
			ids = append(ids, s.ID)
			if !s.over(Standing{}, now) {
				n++
			}
		}
		if len(ids) == 0 {
			return n, nil
		}
		if err := endRows(ctx, tx, ids, now, why); err != nil {
			return 0, err
		}
	}
}

// Count is how many sessions of a person are in force: whoever gives a role says in the entry how many sessions have it at once,
// without a new sign-in.
func (r *Room) Count(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) (int, error) {
	all, _, err := r.inForce(ctx, tx, p)
	if err != nil {
		return 0, fmt.Errorf("session.Count: %w", err)
	}
	return len(all), nil
}

func (r *Room) inForce(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) ([]record, Standing, error) {
	st, err := r.cfg.People.Standing(ctx, tx, p)
	if err != nil {
		return nil, st, err
	}
	all, err := ofPerson(ctx, tx, p)
	now := r.cfg.Now()
	return slices.DeleteFunc(all, func(s record) bool { return s.over(st, now) }), st, err
}

// person is whose session the caller has.
func person(c tenantdb.Caller) (tenantdb.Person, ID, error) {
	p, ok := c.Person()
	if !ok {
		return p, ID{}, problem.New(problem.Denied, "Only people have sessions: this credential is a key or a token of an agent.")
	}
	of, err := ParseID(p.Session)
	if err != nil {
		return p, of, fmt.Errorf("session: the caller's session %q: %w", p.Session, err)
	}
	return p, of, nil
}

// Mine is the caller's own sessions in force, seen last first.
func (r *Room) Mine(ctx context.Context, c tenantdb.Caller) (out []Session, current ID, err error) {
	p, current, err := person(c)
	if err == nil {
		out, err = r.list(ctx, c, p.ID)
	}
	if err != nil {
		return nil, current, fmt.Errorf("session.Mine: %w", err)
	}
	return out, current, nil
}

func (r *Room) list(ctx context.Context, c tenantdb.Caller, p tenantdb.PersonID) (out []Session, err error) {
	var all []record
	var st Standing
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		all, st, err = r.inForce(ctx, tx, p)
		return err
	})
	for _, s := range all {
		s.ExpiresAt, _ = s.ends(st)
		out = append(out, r.open(ctx, c.Tenant(), s))
	}
	return out, err
}

// Of is a member's sessions in force. Where from and with what is for those alone who may end them.
func (r *Room) Of(ctx context.Context, c tenantdb.Caller, p tenantdb.PersonID) ([]Session, error) {
	if !c.May("members:read") {
		return nil, problem.New(problem.Denied, "This needs the capability members:read.")
	}
	all, err := r.list(ctx, c, p)
	if err != nil {
		return nil, fmt.Errorf("session.Of: %w", err)
	}
	if !c.May("members:write") {
		for i := range all {
			all[i].Device, all[i].Program, all[i].Address = "", "", Session{}.Address
		}
	}
	return all, nil
}

// EndOne ends one of the caller's sessions, which may be the present one.
func (r *Room) EndOne(ctx context.Context, c tenantdb.Caller, id ID, why string) error {
	p, _, err := person(c)
	if err != nil {
		return err
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		s, err := load(ctx, &tx.ReadTx, id)
		if err != nil {
			return audit.Event{}, err
		}
		if s.Person != p.ID {
			return audit.Event{}, problem.New(problem.Missing, "There is no such session.")
		}
		if !s.endedAt.IsZero() {
			return audit.Event{}, nil
		}
		ev := ended("session.ended", p.ID, why, 1)
		ev.Target = audit.Target{Kind: "session", ID: id.String()}
		return ev, endRows(ctx, tx, []ID{id}, r.instant(), why)
	})
	if err != nil {
		return fmt.Errorf("session.EndOne: %w", err)
	}
	return nil
}

// EndMyOthers ends all the caller's sessions but the present one.
func (r *Room) EndMyOthers(ctx context.Context, c tenantdb.Caller) (n int, err error) {
	p, current, err := person(c)
	if err != nil {
		return 0, err
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		if n, err = r.endBut(ctx, tx, p.ID, current, "others"); err != nil || n == 0 {
			return audit.Event{}, err
		}
		return ended("sessions.ended", p.ID, "others", n), nil
	})
	if err != nil {
		return 0, fmt.Errorf("session.EndMyOthers: %w", err)
	}
	return n, nil
}

// EndOf ends all sessions of a member, for whoever may do all that the member may. What break-glass lends counts for the right
// to end sessions, and not for outranking: else it would end those of the people who lend it.
func (r *Room) EndOf(ctx context.Context, c tenantdb.Caller, p tenantdb.PersonID) (n int, err error) {
	if !c.May("members:write") {
		return 0, problem.New(problem.Denied, "This needs the capability members:write.")
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		st, err := r.cfg.People.Standing(ctx, &tx.ReadTx, p)
		if err != nil {
			return audit.Event{}, err
		}
		for _, capability := range st.Capabilities {
			if !c.Holds(capability) {
				return audit.Event{}, problem.New(problem.Denied, "The member may do what you may not: only somebody who may do all of it ends their sessions.")
			}
		}
		if n, err = r.endBut(ctx, tx, p, ID{}, "administrator"); err != nil || n == 0 {
			return audit.Event{}, err
		}
		return ended("sessions.ended", p, "administrator", n), nil
	})
	if err != nil {
		return 0, fmt.Errorf("session.EndOf: %w", err)
	}
	return n, nil
}

func ended(typ string, p tenantdb.PersonID, why string, n int) audit.Event {
	return audit.Event{
		Type: typ, Target: audit.Target{Kind: "person", ID: p.String()}, Subject: p,
		Public: []audit.Field{{Name: "person", Value: p.String()}, {Name: "why", Value: why}, {Name: "sessions", Value: strconv.Itoa(n)}},
	}
}
