package org

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

type invitationKind struct{}

// InvitationID names an invitation. What is private of an invitation is about the data subject of the same id.
type InvitationID = id.ID[invitationKind]

// ParseInvitationID reads the canonical form.
func ParseInvitationID(s string) (InvitationID, error) { return id.Parse[invitationKind](s) }

const (
	invitationLife  = 7 * 24 * time.Hour
	mostInvitations = 1000 // open ones of an organisation
	mailsPerHour    = 3    // of invitations to one address, from each server
	joinLink        = "join"
	// Of one organisation, from each server: else who signs up could mail the world, and use up what is kept of addresses.
	mostMailsPerHour = 300
)

// Invitation is an offer to join.
type Invitation struct {
	ID         InvitationID
	Name       string // as the inviter knows it; may be empty
	Address    string // normalised
	Roles      []string
	Groups     []GroupID
	InvitedBy  string // kind and id of the actor
	CreatedAt  time.Time
	SentAt     time.Time
	ExpiresAt  time.Time
	AcceptedAt time.Time
	RevokedAt  time.Time

	sealed    []byte
	pseudonym string
}

// Open reports whether the invitation can be accepted.
func (i Invitation) Open(now time.Time) bool {
	return i.AcceptedAt.IsZero() && i.RevokedAt.IsZero() && now.Before(i.ExpiresAt)
}

// State is a word for where the invitation stands: open, accepted, revoked or expired.
func (i Invitation) State(now time.Time) string {
	switch {
	case !i.AcceptedAt.IsZero():
		return "accepted"
	case !i.RevokedAt.IsZero():
		return "revoked"
	case !now.Before(i.ExpiresAt):
		return "expired"
	}
	return "open"
}

func (i Invitation) subject() audit.SubjectID { return audit.SubjectID(i.ID) }

// NewInvitation is an invitation to be made.
type NewInvitation struct {
	Address string
	Name    string // may be empty
	Roles   []string
	Groups  []GroupID
}

// Invite mails somebody a link by which they join with roles and groups that the inviter holds, within seven days. Its answer is
// the same whether another organisation knows the address.
func (r *Room) Invite(ctx context.Context, c tenantdb.Caller, n NewInvitation) (Invitation, error) {
	if err := need(c, "members:write"); err != nil {
		return Invitation{}, err
	}
	in, err := r.invitation(ctx, c, n)
	if err != nil {
		return Invitation{}, err
	}
	err = r.change(ctx, c, "members:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		in.InvitedBy = a.by()
		if err := r.mayInvite(ctx, &tx.ReadTx, a, in); err != nil {
			return audit.Event{}, err
		}
		if err := r.CheckMail(ctx, &tx.ReadTx); err != nil {
			return audit.Event{}, err
		}
		if !r.mayMail(c.Tenant(), in.pseudonym) {
			return audit.Event{}, tooMany()
		}
		return r.send(ctx, tx, in)
	})
	if err != nil {
		return Invitation{}, fmt.Errorf("org.Invite: %w", err)
	}
	return in, nil
}

// InviteOwner mails somebody a link by which they become an owner. by is the operator: a system caller of that organisation.
func (r *Room) InviteOwner(ctx context.Context, by tenantdb.Caller, address, name string) (Invitation, error) {
	if by.Actor().Kind != audit.ActorSystem {
		return Invitation{}, problem.New(problem.Denied, "Only the operator does this with organisations.")
	}
	if by.Tenant() == tenantdb.Platform {
		return Invitation{}, problem.New(problem.Invalid, "The installation's own organisation has no people.")
	}
	return r.Invite(ctx, by, NewInvitation{Address: address, Name: name, Roles: []string{RoleOwner}})
}

// inviteFirst invites the first owner of an organisation that a stranger has made. Nobody learns whether a mail left: one address
// gets a few in an hour, whoever asks.
func (r *Room) inviteFirst(ctx context.Context, c tenantdb.Caller, address, name string) error {
	in, err := r.invitation(ctx, c, NewInvitation{Address: address, Name: name, Roles: []string{RoleOwner}})
	if err != nil || !r.mayMail(tenantdb.Platform, in.pseudonym) {
		return err
	}
	in.InvitedBy = by(audit.Actor{Kind: audit.ActorSystem, ID: "sign-up"})
	if err := r.cfg.Ring.Prepare(ctx, c.Tenant(), audit.SubjectID{}); err != nil {
		return err
	}
	return r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) { return r.send(ctx, tx, in) })
}

// mayMail takes one of the few invitations that an address gets in an hour from one organisation, or from all strangers who sign
// up: those of one organisation say nothing of another. They are told apart as addresses of networks are, by 64 bits.
func (r *Room) mayMail(from tenantdb.TenantID, pseudonym string) bool {
	now := r.cfg.Now()
	if from != tenantdb.Platform && r.inviting.Take(apart(from.String()), now) > 0 {
		return false
	}
	return r.mails.Take(apart(from.String()+pseudonym), now) == 0
}

// apart is an address of its own kind, never one that stands for IPv4.
func apart(name string) netip.Addr {
	sum := sha256.Sum256([]byte(name))
	sum[0] = 0xfd
	return netip.AddrFrom16([16]byte(sum[:16]))
}

func tooMany() error {
	p := problem.New(problem.TooMany, "This address got %d invitations a short while ago, or your organisation sent %d. Try again later.", mailsPerHour, mostMailsPerHour)
	p.RetryAfter = time.Hour / mailsPerHour
	return p
}

// invitation is one to be made, sealed, and its keys ready.
func (r *Room) invitation(ctx context.Context, c tenantdb.Caller, n NewInvitation) (in Invitation, err error) {
	if r.cfg.Link == nil {
		return in, problem.New(problem.Unavailable, "Nobody can be invited here at present.")
	}
	if n.Name != "" {
		if err := checkName(n.Name); err != nil {
			return in, err
		}
	}
	now := r.instant()
	in = Invitation{
		ID: id.At[invitationKind](now), Name: n.Name, Roles: sorted(n.Roles), Groups: sortedGroups(n.Groups), CreatedAt: now, SentAt: now, ExpiresAt: now.Add(invitationLife),
	}
	if in.Address, in.pseudonym, err = r.Address(ctx, n.Address); err != nil {
		return in, err
	}
	plain, err := json.Marshal(Profile{Name: in.Name, Address: in.Address})
	if err != nil {
		return in, fmt.Errorf("org.invitation: %w", err)
	}
	if in.sealed, err = r.cfg.Ring.SealFields(ctx, c.Tenant(), in.subject(), plain, []byte(invitationData)); err != nil {
		return in, fmt.Errorf("org.invitation: %w", err)
	}
	return in, nil
}

const invitationData = "avouch/invitation/profile"

func (r *Room) unsealInvitation(ctx context.Context, t tenantdb.TenantID, in *Invitation) error {
	plain, err := r.cfg.Ring.OpenFields(ctx, t, in.subject(), in.sealed, []byte(invitationData))
	if err != nil {
		return fmt.Errorf("org.Invitation: %w", err)
	}
	var f Profile
	if err := json.Unmarshal(plain, &f); err != nil {
		return fmt.Errorf("org.Invitation: %w", err)
	}
	in.Name, in.Address = f.Name, f.Address
	return nil
}

// mayInvite refuses to give what the inviter does not hold.
func (r *Room) mayInvite(ctx context.Context, tx *tenantdb.ReadTx, a authority, in Invitation) error {
	gives, _, err := offered(ctx, tx, in, false)
	if err != nil {
		return err
	}
	if slices.Contains(in.Roles, RoleOwner) {
		if err := a.fresh(r.cfg.Now()); err != nil {
			return err
		}
	}
	return a.gives(gives)
}

// offered is what an invitation gives, and its groups. Groups that are gone are missing, or left out.
func offered(ctx context.Context, tx *tenantdb.ReadTx, in Invitation, without bool) (gives []string, groups []GroupID, err error) {
	roles := slices.Clone(in.Roles)
	for _, g := range in.Groups {
		one, err := loadGroup(ctx, tx, g)
		if problem.Is(err, problem.Missing) && without {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if one.ManagedBy != (ConnectionID{}) {
			return nil, nil, managed()
		}
		roles, groups = append(roles, one.Roles...), append(groups, g)
	}
	gives, err = capabilitiesOf(ctx, tx, roles)
	return gives, groups, err
}

// send makes the invitation, its link and the mail, if nobody of that address is there or invited.
func (r *Room) send(ctx context.Context, tx *tenantdb.Tx, in Invitation) (audit.Event, error) {
	known, err := addressKnown(ctx, &tx.ReadTx, in.pseudonym)
	if err != nil {
		return audit.Event{}, err
	}
	if known {
		return audit.Event{}, memberAlready()
	}
	open, invited, err := openInvitations(ctx, tx, in.pseudonym, in.CreatedAt)
	switch {
	case err != nil:
		return audit.Event{}, err
	case invited:
		return audit.Event{}, problem.New(problem.Conflict, "This address has an open invitation: send it again, or revoke it.")
	case open >= mostInvitations:
		return audit.Event{}, problem.New(problem.Conflict, "There are %d open invitations: revoke some first.", open)
	}
	if err := insertInvitation(ctx, tx, in); err != nil {
		return audit.Event{}, err
	}
	if err := r.post(ctx, tx, in); err != nil {
		return audit.Event{}, err
	}
	e := in.event("invitation.made")
	e.Public = append(e.Public, field("roles", strings.Join(in.Roles, " ")), field("groups", groupNames(in.Groups)))
	e.Private = []audit.Field{field("name", in.Name), field("address", in.Address)}
	return e, nil
}

func (r *Room) post(ctx context.Context, tx *tenantdb.Tx, in Invitation) error {
	link, err := r.cfg.Link(ctx, tx, joinLink, in.ID, in.ExpiresAt.Sub(in.SentAt))
	if err != nil {
		return fmt.Errorf("org: link: %w", err)
	}
	return tx.Enqueue(ctx, mail.Job{Tenant: tx.Tenant().String(), Template: mail.Invitation, IDs: map[string]string{"invitation": in.ID.String(), "link": link}})
}

func (i Invitation) event(typ string) audit.Event {
	return audit.Event{Type: typ, Target: audit.Target{Kind: "invitation", ID: i.ID.String()}, Subject: i.subject()}
}

// Invitations are those of the caller's organisation, the newest first, from behind after; open ones alone, or all.
func (r *Room) Invitations(ctx context.Context, c tenantdb.Caller, open bool, after InvitationID, limit int) (out []Invitation, err error) {
	if err := need(c, "members:read"); err != nil {
		return nil, err
	}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		out, err = listInvitations(ctx, tx, open, r.cfg.Now(), after, limit)
		return err
	})
	for i := range out {
		if err == nil {
			err = r.unsealInvitation(ctx, c.Tenant(), &out[i])
		}
	}
	if err != nil {
		return nil, fmt.Errorf("org.Invitations: %w", err)
	}
	return out, nil
}

// Invitation is one invitation with whom it is for: for the mail, and for the page behind its link. Reading it makes its key ready
// for Join.
func (r *Room) Invitation(ctx context.Context, tx *tenantdb.ReadTx, which InvitationID) (Invitation, error) {
	in, err := loadInvitation(ctx, tx, which)
	if err == nil {
		err = r.unsealInvitation(ctx, tx.Tenant(), &in)
	}
	return in, err
}

// Revoke ends an invitation that is open. Who revokes it must hold what it gives.
func (r *Room) Revoke(ctx context.Context, c tenantdb.Caller, which InvitationID) (in Invitation, err error) {
	err = r.change(ctx, c, "members:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		if in, err = r.decidableInvitation(ctx, tx, a, which); err != nil {
			return audit.Event{}, err
		}
		in.RevokedAt = r.instant()
		return in.event("invitation.revoked"), updateInvitation(ctx, tx, in)
	})
	if err == nil {
		err = r.unsealInvitation(ctx, c.Tenant(), &in)
	}
	if err != nil {
		return Invitation{}, fmt.Errorf("org.Revoke: %w", err)
	}
	return in, nil
}

func (r *Room) decidableInvitation(ctx context.Context, tx *tenantdb.Tx, a authority, which InvitationID) (Invitation, error) {
	in, err := loadInvitation(ctx, &tx.ReadTx, which)
	if err != nil {
		return in, err
	}
	if !in.AcceptedAt.IsZero() || !in.RevokedAt.IsZero() {
		return in, problem.New(problem.Conflict, "The invitation is %s.", in.State(r.cfg.Now()))
	}
	gives, _, err := offered(ctx, &tx.ReadTx, in, true)
	if err != nil {
		return in, err
	}
	return in, a.covers(gives)
}

// Resend mails an invitation again, with a new link and seven more days.
func (r *Room) Resend(ctx context.Context, c tenantdb.Caller, which InvitationID) (in Invitation, err error) {
	if err := need(c, "members:write"); err != nil {
		return Invitation{}, err
	}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		in, err = r.Invitation(ctx, tx, which)
		return err
	})
	if err == nil && r.cfg.Link == nil {
		err = problem.New(problem.Unavailable, "Nobody can be invited here at present.")
	}
	if err != nil {
		return Invitation{}, err
	}
	name, address := in.Name, in.Address
	err = r.change(ctx, c, "members:write", func(tx *tenantdb.Tx, a authority) (audit.Event, error) {
		if in, err = r.decidableInvitation(ctx, tx, a, which); err != nil {
			return audit.Event{}, err
		}
		if err := r.CheckMail(ctx, &tx.ReadTx); err != nil {
			return audit.Event{}, err
		}
		if !r.mayMail(c.Tenant(), in.pseudonym) {
			return audit.Event{}, tooMany()
		}
		in.Name, in.Address, in.SentAt = name, address, r.instant()
		in.ExpiresAt = in.SentAt.Add(invitationLife)
		if err := updateInvitation(ctx, tx, in); err != nil {
			return audit.Event{}, err
		}
		return in.event("invitation.sent_again"), r.post(ctx, tx, in)
	})
	if err != nil {
		return Invitation{}, fmt.Errorf("org.Resend: %w", err)
	}
	return in, nil
}

// Join makes a person of who was invited, with what the inviter gave and still holds, in a transaction of whoever has proved that
// the link was theirs. Prepare for n.ID and read Invitation first. Name is theirs to choose; address, roles and groups are the
// invitation's.
func (r *Room) Join(ctx context.Context, tx *tenantdb.Tx, which InvitationID, n NewPerson) (PersonID, audit.Event, error) {
	in, err := r.Invitation(ctx, &tx.ReadTx, which)
	if err != nil {
		return PersonID{}, audit.Event{}, err
	}
	if !in.Open(r.cfg.Now()) {
		return PersonID{}, audit.Event{}, problem.New(problem.Conflict, "The invitation is %s: ask for another one.", in.State(r.cfg.Now()))
	}
	gives, groups, err := offered(ctx, &tx.ReadTx, in, true)
	if err != nil {
		return PersonID{}, audit.Event{}, err
	}
	held, err := r.holdsNow(ctx, &tx.ReadTx, in.InvitedBy)
	if err != nil {
		return PersonID{}, audit.Event{}, err
	}
	if err := (authority{held: held}).gives(gives); err != nil || len(held) == 0 {
		return PersonID{}, audit.Event{}, problem.New(problem.Denied, "Who invited you may not do that any more: ask for another invitation.")
	}
	in.AcceptedAt = r.instant()
	if err := updateInvitation(ctx, tx, in); err != nil {
		return PersonID{}, audit.Event{}, err
	}
	if n.Name == "" {
		n.Name = in.Name
	}
	p, e, err := r.admit(ctx, tx, NewPerson{ID: n.ID, Name: n.Name, Address: in.Address, Roles: in.Roles, Groups: groups, Verified: true, Via: "invitation"})
	e.Public = append(e.Public, field("invitation", in.ID.String()), field("invited_by", in.InvitedBy))
	return p, e, err
}
