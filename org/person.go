package org

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Person is somebody of an organisation.
type Person struct {
	ID          PersonID
	Name        string
	Address     string    // of e-mail, normalised
	Roles       []string  // their own, sorted; those of their groups come to these
	Groups      []GroupID // in which they are
	ManagedBy   ConnectionID
	CreatedAt   time.Time
	VerifiedAt  time.Time // when the address was proved; zero if it was not
	SuspendedAt time.Time
	RemovedAt   time.Time
	Version     int64

	sealed    []byte // Profile
	pseudonym string // of the address
	external  string // pseudonym of External
}

// ConnectionID names a connection to an identity provider; the zero value is none.
type ConnectionID [16]byte

// Profile is the personal data of a person.
type Profile struct {
	Name     string `json:"name"`
	Address  string `json:"address"`
	External string `json:"external,omitempty"` // the id that their directory gave them
}

// NewPerson is somebody who joins.
type NewPerson struct {
	ID        PersonID // made beforehand, for Prepare
	Name      string
	Address   string
	Roles     []string // never RoleOwner: an owner is made by an owner
	Groups    []GroupID
	ManagedBy ConnectionID
	External  string // their id in the directory of ManagedBy; may be empty
	Verified  bool   // whether the address is proved to be theirs
	Via       string // how they come: "invitation", "directory", "sign-in"; a word for the log
}

const maxPersonName = 200

// checkName refuses a name that cannot be shown in one line.
func checkName(name string) error {
	if n := len([]rune(name)); n == 0 || n > maxPersonName || strings.TrimSpace(name) != name || strings.ContainsFunc(name, unshown) {
		return problem.New(problem.Invalid, "A name has 1 to %d characters, no space at its ends, and none that nobody sees or that moves others.", maxPersonName)
	}
	return nil
}

// unshown reports whether a character shows nothing, ends a line or turns the direction of text: names stand in mails.
func unshown(c rune) bool {
	const joiner, nonJoiner = '\u200d', '\u200c'
	return c != joiner && c != nonJoiner && unicode.In(c, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// Normal is the one form of an e-mail address in which people are found: lower case, composed characters, the domain in ASCII.
// Mail to it arrives where mail to the address does, as all providers that matter have it.
func Normal(address string) (string, error) {
	bad := problem.New(problem.Invalid, "This is not an e-mail address.")
	address = strings.TrimSpace(address)
	if !isAddress(address) {
		return "", bad
	}
	at := strings.LastIndexByte(address, '@')
	local := norm.NFKC.String(strings.ToLower(norm.NFKC.String(address[:at])))
	domain, err := idna.Lookup.ToASCII(strings.TrimSuffix(address[at+1:], "."))
	if err != nil || domain == "" || strings.ContainsAny(domain, "[]@") {
		return "", bad
	}
	normal := local + "@" + strings.ToLower(domain)
	if !isAddress(normal) || strings.ContainsFunc(normal, unshown) {
		return "", bad
	}
	return normal, nil
}

// Address normalises an address and finds the pseudonym by which people are looked up; it is the same in all organisations.
func (r *Room) Address(ctx context.Context, address string) (normal, pseudonym string, err error) {
	if normal, err = Normal(address); err != nil {
		return "", "", err
	}
	if pseudonym, err = r.cfg.Ring.Pseudonym(ctx, tenantdb.Platform, "address", normal); err != nil {
		return "", "", fmt.Errorf("org.Address: %w", err)
	}
	return normal, pseudonym, nil
}

// External is the pseudonym of a directory's id of a person. It is unlinkable across organisations.
func (r *Room) External(ctx context.Context, t tenantdb.TenantID, id string) (string, error) {
	name, err := r.cfg.Ring.Pseudonym(ctx, t, "external person", id)
	if err != nil {
		return "", fmt.Errorf("org.External: %w", err)
	}
	return name, nil
}

// Prepare makes ready to seal for a person, so that what is done under the head's lock does not touch the disk.
func (r *Room) Prepare(ctx context.Context, t tenantdb.TenantID, p PersonID) error {
	_, platform := r.cfg.Ring.Pseudonym(ctx, tenantdb.Platform, "address", "")
	_, own := r.cfg.Ring.Pseudonym(ctx, t, "external person", "")
	if err := errors.Join(platform, own, r.cfg.Ring.Prepare(ctx, t, audit.SubjectID{}), r.cfg.Ring.Prepare(ctx, t, p)); err != nil {
		return fmt.Errorf("org.Prepare: %w", err)
	}
	return nil
}

// profileData binds a sealed profile to its place; tenant and person are bound by the seal.
const profileData = "avouch/person/profile"

func (r *Room) sealProfile(ctx context.Context, t tenantdb.TenantID, p PersonID, f Profile) ([]byte, error) {
	plain, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	return r.cfg.Ring.SealFields(ctx, t, p, plain, []byte(profileData))
}

func (r *Room) openProfile(ctx context.Context, t tenantdb.TenantID, p PersonID, sealed []byte) (f Profile, err error) {
	plain, err := r.cfg.Ring.OpenFields(ctx, t, p, sealed, []byte(profileData))
	if err == nil {
		err = json.Unmarshal(plain, &f)
	}
	if err != nil {
		return Profile{}, fmt.Errorf("org.Profile: %w", err)
	}
	return f, nil
}

// Profile is a person's personal data.
func (r *Room) Profile(ctx context.Context, tx *tenantdb.ReadTx, p PersonID) (Profile, error) {
	one, err := loadPerson(ctx, tx, p)
	if err != nil {
		return Profile{}, err
	}
	return r.openProfile(ctx, tx.Tenant(), p, one.sealed)
}

// Admit makes a person, in a transaction of whoever decided that. Prepare first. It makes no owner: neither a directory nor a
// provider can.
func (r *Room) Admit(ctx context.Context, tx *tenantdb.Tx, n NewPerson) (PersonID, audit.Event, error) {
	if slices.Contains(n.Roles, RoleOwner) {
		return PersonID{}, audit.Event{}, problem.New(problem.Denied, "An owner is made by an owner, and nobody else.")
	}
	return r.admit(ctx, tx, n)
}

func (r *Room) admit(ctx context.Context, tx *tenantdb.Tx, n NewPerson) (PersonID, audit.Event, error) {
	if err := checkName(n.Name); err != nil {
		return PersonID{}, audit.Event{}, err
	}
	normal, pseudonym, err := r.Address(ctx, n.Address)
	if err != nil {
		return PersonID{}, audit.Event{}, err
	}
	p := Person{
		ID: n.ID, Name: n.Name, Address: normal, Roles: sorted(n.Roles), Groups: sortedGroups(n.Groups), ManagedBy: n.ManagedBy, CreatedAt: r.instant(), Version: 1, pseudonym: pseudonym,
	}
	if n.External != "" {
		if p.external, err = r.External(ctx, tx.Tenant(), n.External); err != nil {
			return PersonID{}, audit.Event{}, err
		}
	}
	if n.Verified {
		p.VerifiedAt = p.CreatedAt
	}
	if err := rolesExist(ctx, &tx.ReadTx, p.Roles); err != nil {
		return PersonID{}, audit.Event{}, err
	}
	if known, err := addressKnown(ctx, &tx.ReadTx, pseudonym); err != nil {
		return PersonID{}, audit.Event{}, err
	} else if known {
		return PersonID{}, audit.Event{}, memberAlready()
	}
	if p.sealed, err = r.sealProfile(ctx, tx.Tenant(), p.ID, Profile{n.Name, normal, n.External}); err != nil {
		return PersonID{}, audit.Event{}, fmt.Errorf("org.Admit: %w", err)
	}
	if err := insertPerson(ctx, tx, p); err != nil {
		return PersonID{}, audit.Event{}, err
	}
	for _, g := range p.Groups {
		if err := insertMember(ctx, tx, g, p.ID); err != nil {
			return PersonID{}, audit.Event{}, err
		}
	}
	e := p.event("person.joined")
	e.Public = append(e.Public, field("roles", strings.Join(p.Roles, " ")), field("groups", groupNames(p.Groups)), field("via", n.Via))
	e.Private = []audit.Field{field("name", n.Name), field("address", normal)}
	return p.ID, e, nil
}

// event is what the log says of a person; what is private of it is about that person, and erased with them.
func (p Person) event(typ string) audit.Event { return personEvent(typ, p.ID) }

func personEvent(typ string, p PersonID) audit.Event {
	return audit.Event{Type: typ, Target: audit.Target{Kind: "person", ID: p.String()}, Subject: p}
}

func field(name, value string) audit.Field { return audit.Field{Name: name, Value: value} }

func memberAlready() error {
	return problem.New(problem.Conflict, "Somebody with this address is a member already.")
}

func sorted(s []string) []string {
	out := slices.Clone(s)
	slices.Sort(out)
	return append([]string{}, slices.Compact(out)...)
}

// Filter says which people a list holds; empty fields let all through.
type Filter struct {
	Role  string // of their own
	Group GroupID
}
