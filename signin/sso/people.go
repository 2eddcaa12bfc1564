package sso

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
)

// guest is somebody whom a provider proved, ready to be found among the people.
type guest struct {
	proof
	identity  string // pseudonym of the provider's name for them, by connection and issuer
	normal    string // their address; empty if there is none that is one
	pseudonym string
	ours      bool // the address is of a domain that the organisation has
	fresh     PersonID

	invitation org.InvitationID // that is open for the address; zero if none
}

// resolve is the person who arrived. What the provider's name was given to before counts; the address only for a first arrival.
func (r *Room) resolve(ctx context.Context, c tenantdb.Caller, n Connection, fl flow, p proof) (person PersonID, err error) {
	g, err := r.guest(ctx, c.Tenant(), n, p)
	if err != nil {
		return PersonID{}, fmt.Errorf("sso.resolve: %w", err)
	}
	err = r.cfg.DB.ChangeAll(ctx, c, func(tx *tenantdb.Tx) (events []audit.Event, err error) {
		if err := unchanged(ctx, &tx.ReadTx, n); err != nil {
			return nil, err
		}
		person, err = findIdentity(ctx, &tx.ReadTx, n.ID, g.identity)
		switch {
		case err != nil:
			return nil, err
		case fl.Purpose == toLink:
			events, err = r.link(ctx, tx, n, fl, g, person)
			person = fl.Person
		case fl.Purpose == toProve && person != fl.Person:
			return nil, refuse(ReasonOther)
		case person.IsZero():
			person, events, err = r.first(ctx, tx, n, g)
		}
		if err != nil {
			return nil, err
		}
		if s, err := r.cfg.People.Standing(ctx, &tx.ReadTx, person); err != nil {
			return nil, err
		} else if !s.Active {
			return nil, refuse(ReasonInactive)
		}
		moved, err := r.mapGroups(ctx, tx, n, g, person)
		if err != nil {
			return nil, err
		}
		return append(events, moved...), r.believed(ctx, tx, n, person)
	})
	if err != nil {
		return PersonID{}, fmt.Errorf("sso.resolve: %w", err)
	}
	return person, nil
}

// unchanged refuses a connection that was switched off, changed or removed while its provider answered: nobody is admitted or linked
// by what it was.
func unchanged(ctx context.Context, tx *tenantdb.ReadTx, n Connection) error {
	now, err := findConnection(ctx, tx, n.ID)
	if problem.Is(err, problem.Missing) || err == nil && (!now.Enabled || now.Version != n.Version) {
		return refuse(ReasonOff)
	}
	return err
}

// believed refuses a provider's word about who may do more than whoever chose the provider: somebody who was given more since they
// came first, or linked the account by hand, or was linked to what the provider was before.
func (r *Room) believed(ctx context.Context, tx *tenantdb.Tx, n Connection, p PersonID) error {
	s, err := r.cfg.People.Standing(ctx, &tx.ReadTx, p)
	if err == nil && !within(n.Settings.Trust, s.Capabilities) {
		err = refuse(ReasonCeiling)
	}
	return err
}

// Vouches says whether a connection is still believed about somebody who may do this much: it is there, switched on, and whoever
// chose its provider held as much. A session that began by it counts only then.
func (r *Room) Vouches(ctx context.Context, tx *tenantdb.ReadTx, connection ID, capabilities []string) (bool, error) {
	n, err := r.load(ctx, tx, connection)
	if problem.Is(err, problem.Missing) {
		return false, nil
	}
	return err == nil && n.Enabled && within(n.Settings.Trust, capabilities), err
}

// guest does what may be slow, before the log's head is locked.
func (r *Room) guest(ctx context.Context, t tenantdb.TenantID, n Connection, p proof) (g guest, err error) {
	g = guest{proof: p, fresh: audit.NewSubjectID()}
	if g.identity, err = r.cfg.Ring.Pseudonym(ctx, t, "sso-subject", n.ID.String()+"\x00"+p.subject); err != nil {
		return g, err
	}
	if err := r.cfg.People.Prepare(ctx, t, g.fresh); err != nil {
		return g, err
	}
	if p.address == "" {
		return g, nil
	}
	g.normal, g.pseudonym, err = r.cfg.People.Address(ctx, p.address)
	if problem.Is(err, problem.Invalid) {
		return g, nil
	}
	if err != nil {
		return g, err
	}
	holder, err := r.holder(ctx, DomainOf(g.normal))
	if err != nil {
		return g, err
	}
	g.ours = holder == t
	return g, r.cfg.DB.Read(ctx, tenantdb.System(t, "sso"), func(tx *tenantdb.ReadTx) error {
		if g.invitation, err = findInvitation(ctx, tx, g.pseudonym, r.instant()); err != nil || g.invitation.IsZero() {
			return err
		}
		_, err := r.cfg.People.Invitation(ctx, tx, g.invitation)
		return err
	})
}

// first finds or makes the person of a provider's name that is new here. The provider must vouch for the address, and the
// organisation must own its domain, unless it invited that very address: whoever can write any address into a token is nobody's
// provider of all mail.
func (r *Room) first(ctx context.Context, tx *tenantdb.Tx, n Connection, g guest) (PersonID, []audit.Event, error) {
	if g.normal == "" {
		return PersonID{}, nil, refuse(ReasonUnverified)
	}
	d, err := findDomain(ctx, &tx.ReadTx, DomainOf(g.normal))
	if err != nil && !problem.Is(err, problem.Missing) {
		return PersonID{}, nil, err
	}
	owned := err == nil && g.ours && !d.ProvedAt.IsZero() && d.Connection == n.ID
	if !g.vouched && !(g.believed && owned) {
		return PersonID{}, nil, refuse(ReasonUnverified)
	}
	person, err := findPerson(ctx, &tx.ReadTx, g.pseudonym)
	if err != nil {
		return PersonID{}, nil, err
	}
	var events []audit.Event
	switch {
	case !person.IsZero() && owned:
		err = r.mayLink(ctx, tx, n, person)
	case !person.IsZero():
		err = refuse(ReasonDomain)
	case !g.invitation.IsZero():
		person, events, err = r.join(ctx, tx, n, g)
	case !owned:
		err = refuse(ReasonDomain)
	default:
		person, events, err = r.admit(ctx, tx, n, g)
	}
	if err != nil {
		return PersonID{}, nil, err
	}
	return person, append(events, linked(n, person, "address")), insertIdentity(ctx, tx, n.ID, g.identity, person, r.instant())
}

func linked(n Connection, p PersonID, by string) audit.Event {
	e := event("identity.linked", n.ID, field("person", p.String()), field("by", by))
	e.Subject = p
	return e
}

// mayLink refuses to give an account that is there to a provider's name by its address alone, if the account is an owner's, may
// do more than whoever configured the connection, or has another name of the provider's: then the address was given to somebody
// else there.
func (r *Room) mayLink(ctx context.Context, tx *tenantdb.Tx, n Connection, p PersonID) error {
	s, err := r.cfg.People.Standing(ctx, &tx.ReadTx, p)
	if err != nil {
		return err
	}
	known, err := hasIdentity(ctx, &tx.ReadTx, n.ID, p)
	switch {
	case err != nil:
		return err
	case known:
		return refuse(ReasonElse)
	case slices.Contains(s.Roles, org.RoleOwner) || slices.Contains(s.Capabilities, tenantdb.Everything):
		return refuse(ReasonElse)
	case !within(n.Settings.Ceiling, s.Capabilities):
		return refuse(ReasonCeiling)
	}
	return nil
}

// link gives a provider's name to the account of a person who asked for it in a session with a fresh proof.
func (r *Room) link(ctx context.Context, tx *tenantdb.Tx, n Connection, fl flow, g guest, whose PersonID) ([]audit.Event, error) {
	if r.cfg.Lasts != nil { // whoever had the session may have been put out since
		if lasts, err := r.cfg.Lasts(ctx, &tx.ReadTx, fl.Session); err != nil {
			return nil, err
		} else if !lasts {
			return nil, refuse(ReasonEnded)
		}
	}
	switch known, err := hasIdentity(ctx, &tx.ReadTx, n.ID, fl.Person); {
	case err != nil:
		return nil, err
	case whose == fl.Person:
		return nil, nil
	case !whose.IsZero() || known:
		return nil, refuse(ReasonOther)
	}
	return []audit.Event{linked(n, fl.Person, "session")}, insertIdentity(ctx, tx, n.ID, g.identity, fl.Person, r.instant())
}

// join makes a member of whoever was invited. A provider may say whose address that is, as far as whoever configured the
// connection could have invited them; an owner's invitation takes the mail.
func (r *Room) join(ctx context.Context, tx *tenantdb.Tx, n Connection, g guest) (PersonID, []audit.Event, error) {
	in, err := r.cfg.People.Invitation(ctx, &tx.ReadTx, g.invitation)
	if err != nil {
		return PersonID{}, nil, err
	}
	roles, _, err := groupRoles(ctx, &tx.ReadTx, in.Groups)
	if err != nil {
		return PersonID{}, nil, err
	}
	gives, err := r.cfg.People.CapabilitiesOf(ctx, &tx.ReadTx, slices.Concat(in.Roles, roles))
	if err != nil {
		return PersonID{}, nil, err
	}
	if slices.Contains(gives, tenantdb.Everything) || !within(n.Settings.Ceiling, gives) {
		return PersonID{}, nil, refuse(ReasonCeiling)
	}
	p, e, err := r.cfg.People.Join(ctx, tx, g.invitation, org.NewPerson{ID: g.fresh, Name: displayName(g.name, g.normal)})
	return p, []audit.Event{e}, err
}

// admit makes a member of whoever may come without having been invited. Whom somebody removed does not come back so:
// the provider may know nothing of it.
func (r *Room) admit(ctx context.Context, tx *tenantdb.Tx, n Connection, g guest) (PersonID, []audit.Event, error) {
	a := n.Settings.Admission
	if !a.JIT {
		return PersonID{}, nil, refuse(ReasonStranger)
	}
	if removed, err := wasRemoved(ctx, &tx.ReadTx, g.pseudonym); err != nil {
		return PersonID{}, nil, err
	} else if removed {
		return PersonID{}, nil, refuse(ReasonRemoved)
	}
	gives, err := r.cfg.People.CapabilitiesOf(ctx, &tx.ReadTx, a.Roles)
	if err != nil {
		return PersonID{}, nil, err
	}
	if !within(n.Settings.Ceiling, gives) { // a role that was widened since
		return PersonID{}, nil, refuse(ReasonCeiling)
	}
	p, e, err := r.cfg.People.Admit(ctx, tx, org.NewPerson{
		ID: g.fresh, Name: displayName(g.name, g.normal), Address: g.normal, Roles: a.Roles, ManagedBy: org.ConnectionID(n.ID), Verified: true, Via: "sign-in",
	})
	return p, []audit.Event{e}, err
}

// displayName is what the provider calls somebody, or what stands before the @.
func displayName(name, address string) string {
	name = strings.Join(strings.Fields(strings.Map(func(c rune) rune {
		if !plain(string(c)) {
			return ' '
		}
		return c
	}, name)), " ")
	if n := []rune(name); len(n) > 200 {
		name = strings.TrimSpace(string(n[:200]))
	}
	if name == "" {
		name, _, _ = strings.Cut(address, "@")
	}
	return name
}

// mapGroups makes a person's membership of the connection's groups what the provider says: of those that it names they become
// a member, of the others they are one no more. A claim that is not there names none. Groups that meanwhile may do more than
// whoever configured the connection take nobody in, nor those with items of the vault whoever configured it.
func (r *Room) mapGroups(ctx context.Context, tx *tenantdb.Tx, n Connection, g guest, p PersonID) ([]audit.Event, error) {
	mapped := n.Settings.Admission.Groups
	if len(mapped) == 0 {
		return nil, nil
	}
	var every, wanted []org.GroupID
	for name, group := range mapped {
		every = append(every, group)
		if !slices.Contains(g.groups, name) {
			continue
		}
		roles, found, err := groupRoles(ctx, &tx.ReadTx, []org.GroupID{group})
		if err != nil {
			return nil, err
		}
		gives, err := r.cfg.People.CapabilitiesOf(ctx, &tx.ReadTx, roles)
		if err != nil {
			return nil, err
		}
		if found == 1 && !slices.Contains(roles, org.RoleOwner) && within(n.Settings.Ceiling, gives) {
			wanted = append(wanted, group)
		}
	}
	wanted, alone, err := r.heeded(ctx, tx, n, p, wanted)
	if err != nil {
		return nil, err
	}
	added, left, err := moveMember(ctx, tx, n.ID, p, every, wanted)
	for _, group := range left {
		err = errors.Join(err, r.cfg.People.Leave(ctx, tx, group, []PersonID{p}))
	}
	if err != nil || added == 0 && len(left) == 0 {
		return nil, err
	}
	e := event("person.groups_mapped", n.ID, field("person", p.String()), field("added", fmt.Sprint(added)), field("removed", fmt.Sprint(len(left))))
	e.Subject = p
	if alone {
		e.Public = append(e.Public, field("alone", "true"))
	}
	return []audit.Event{e}, nil
}

// heeded are the groups that a provider names, without those that would give the person what other rooms gave the group by their own word:
// the provider is whose that configured the connection. Who is in a group stays.
func (r *Room) heeded(ctx context.Context, tx *tenantdb.Tx, n Connection, p PersonID, wanted []org.GroupID) (heeded []org.GroupID, alone bool, err error) {
	if r.cfg.Gain == nil || len(wanted) == 0 {
		return wanted, false, nil
	}
	in, err := groupsOf(ctx, &tx.ReadTx, p)
	for _, g := range wanted {
		if err != nil {
			return nil, false, err
		}
		var gain []PersonID
		if !slices.Contains(in, g) {
			var one bool
			gain, one, err = r.cfg.Gain(ctx, &tx.ReadTx, n.ConfiguredBy, g, []PersonID{p})
			alone = alone || one
		}
		if len(gain) == 0 {
			heeded = append(heeded, g)
		}
	}
	return heeded, alone, err
}

// Unlink takes the provider's name away from an account: after an address was given to somebody else there, or the provider has
// changed how it names people. The person's sessions by the connection end.
func (r *Room) Unlink(ctx context.Context, c tenantdb.Caller, connection ID, p PersonID) error {
	return r.change(ctx, c, "Unlink", func(tx *tenantdb.Tx) (audit.Event, error) {
		s, err := r.cfg.People.Standing(ctx, &tx.ReadTx, p)
		if err != nil {
			return audit.Event{}, err
		}
		if !within(c.Scopes(), s.Capabilities) {
			return audit.Event{}, problem.New(problem.Denied, "The person may do more than you.")
		}
		gone, err := deleteIdentities(ctx, tx, connection, p)
		if err != nil || gone == 0 {
			return audit.Event{}, errors.Join(err, problem.New(problem.Missing, "The connection does not know the person."))
		}
		ended, err := r.cfg.EndSessions(ctx, tx, Ended{Person: p, Via: connection}, "identity_unlinked")
		e := event("identity.unlinked", connection, field("person", p.String()), field("sessions", fmt.Sprint(ended)))
		e.Subject = p
		return e, err
	})
}

// End forgets what providers call a person who leaves (org.Config.Endings), and tells the owners of connections that the person
// configured.
func (r *Room) End(ctx context.Context, tx *tenantdb.Tx, p PersonID, _ string) (int, error) {
	gone, err := deleteIdentities(ctx, tx, ID{}, p)
	if err != nil {
		return 0, fmt.Errorf("sso.End: %w", err)
	}
	theirs, err := configuredBy(ctx, &tx.ReadTx, string(audit.ActorPerson)+":"+p.String())
	for _, n := range theirs {
		if err == nil {
			err = r.cfg.Tell(ctx, tx, Notice{Kind: NoticeConfigurer, Connection: n})
		}
	}
	if err != nil {
		return 0, fmt.Errorf("sso.End: %w", err)
	}
	return int(gone), nil
}
