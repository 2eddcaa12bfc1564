package org

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"time"
	"unicode"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/pace"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// FirstKey makes an organisation's first owner key, inside the transaction that makes the organisation.
type FirstKey interface {
	MintOwnerKey(ctx context.Context, tx *tenantdb.Tx) (key secret.String, id string, err error)
}

// DefaultSignUps is how many organisations strangers of one address may make in an hour, unless the installation says
// otherwise.
const DefaultSignUps = 10

// Config is what the room needs.
type Config struct {
	DB       *tenantdb.DB
	Ring     *keyring.Ring
	FirstKey FirstKey
	// MonthlyQuota is a new organisation's verifications a month; nil is unlimited. DefaultQuota is what an installation
	// begins with.
	MonthlyQuota *int64
	SignUp       bool // whether strangers may make organisations
	// SignUpsPerHour is how many of them one address may make in an hour, on each server; 0 is DefaultSignUps, a negative
	// one is unlimited.
	SignUpsPerHour int
	// Regions are the names of the regions that an organisation can be in; without any there are none.
	Regions []string
	// Mails says whether mail leaves from a region, "" being none; nil is from everywhere.
	Mails func(region string) bool
	// Link makes a secret link of a purpose for an invitation or a person, and gives its name, from which the mail derives it; it
	// takes the place of an earlier one. Without it nobody can be invited.
	Link func(ctx context.Context, tx *tenantdb.Tx, purpose string, subject [16]byte, life time.Duration) (link string, err error)
	// Endings end what a person has in other rooms, by what it is: EndSessions, "api_keys", "factors". They run in the
	// transaction that removes the person, by name; the report counts each.
	Endings map[string]Ending
	// Demoted ends the sessions that a person may have only as an owner, when they are one no more; nil is nothing.
	Demoted Ending
	// ShutOut says whether an owner could prove themselves by codes of the organisation's own vault alone, at which they could not get
	// then; nil is no.
	ShutOut func(ctx context.Context, tx *tenantdb.ReadTx, owner PersonID) (bool, error)
	// KeysOf counts the keys in force that a person made; KeyHolds says what a key may do at this moment, and refuses one
	// that is not in force.
	KeysOf   func(ctx context.Context, tx *tenantdb.ReadTx, p PersonID) (int, error)
	KeyHolds func(ctx context.Context, tx *tenantdb.ReadTx, key string) (capabilities []string, err error)
	// Joins refuses that a person is put into a group by whom what other rooms gave the group would be theirs then. alone says that an
	// organisation's only owner does it, for which there is nobody else. Leaves is told who leaves a group. nil is nothing.
	Joins  func(ctx context.Context, tx *tenantdb.ReadTx, g GroupID, p PersonID) (alone bool, err error)
	Leaves func(ctx context.Context, tx *tenantdb.Tx, g GroupID, people []PersonID) error
	// RoleUsed counts what uses a role in other rooms; nil is nothing.
	RoleUsed func(ctx context.Context, tx *tenantdb.ReadTx, role string) (int, error)
	// Restored lets go of what somebody else has taken since the organisation was deleted, and says in the entry what that was; nil
	// is nothing.
	Restored func(ctx context.Context, tx *tenantdb.Tx) (public []audit.Field, err error)
	// Lasts says whether a session is in force still; nil believes that all are.
	Lasts func(ctx context.Context, tx *tenantdb.ReadTx, session string) (bool, error)
	// Raise opens an incident unless one of the same kind and subject is open: incident.Room.Raise; nil is nothing.
	Raise func(ctx context.Context, c tenantdb.Caller, kind, subject, detail string) (opened bool, err error)
	// OpenKMS makes the wrapper of an organisation's own key management; what is wrong with the settings is a problem.
	OpenKMS func(KMS) (keyring.KeyWrapper, error)
	Now     func() time.Time // nil is time.Now
}

// Ending ends what a person has, and says how much that was. why is a word for the log.
type Ending func(ctx context.Context, tx *tenantdb.Tx, p PersonID, why string) (ended int, err error)

// EndSessions is the ending of sessions: it also runs when a person is suspended.
const EndSessions = "sessions"

// DefaultQuota is an organisation's verifications a month, unless the installation says otherwise.
const DefaultQuota = 10_000

// Room is the organisations.
type Room struct {
	cfg       Config
	signUps   *pace.Pace
	mails     *pace.Pace // of invitations to one address
	inviting  *pace.Pace // of one organisation, to whatever addresses
	kmsChecks *pace.Pace
}

// New makes the room.
func New(cfg Config) *Room {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Mails == nil {
		cfg.Mails = func(string) bool { return true }
	}
	if cfg.SignUpsPerHour == 0 {
		cfg.SignUpsPerHour = DefaultSignUps
	}
	return &Room{cfg: cfg, signUps: pace.New(cfg.SignUpsPerHour, time.Hour), mails: pace.New(mailsPerHour, time.Hour), inviting: pace.New(mostMailsPerHour, time.Hour), kmsChecks: pace.New(20, time.Minute)}
}

func (r *Room) instant() time.Time { return r.cfg.Now().UTC().Truncate(time.Microsecond) }

// month is the period of a monthly quota's counter, as the verify room counts it.
func (r *Room) month() int32 {
	now := r.cfg.Now().UTC()
	return int32(now.Year()*12 + int(now.Month()) - 1)
}

// Organisation is a tenant.
type Organisation struct {
	ID            tenantdb.TenantID
	Name          string // public: services see it beside the names of its agents
	ContactEmail  string // for notices
	CreatedAt     time.Time
	SuspendedAt   time.Time // zero if it is not
	TokenLifetime time.Duration
	LiveTokens    int    // how many unexpired, unrevoked tokens an agent may have
	MonthlyQuota  *int64 // verifications a month; nil is unlimited
	Used          *int64 // of MonthlyQuota in this month; nil where it is unlimited, and nobody counts
	Badge         bool   // whether /verified shows when it last verified an agent
	Region        string // where its data may be sent; empty is anywhere
	DeletedAt     time.Time
	ShreddedAt    time.Time // when its keys were destroyed
	Version       int64

	contact []byte // ContactEmail, sealed
}

// NewOrganisation is an organisation to be made.
type NewOrganisation struct {
	Name         string
	ContactEmail string // may be empty
	Region       string // one of Config.Regions, or empty
	// OwnerAddress is whom to invite as its first owner; may be empty. OwnerName may be, too.
	OwnerAddress, OwnerName string
	// Request is the request of a stranger who signs up; zero if Avouch itself or its operator makes it.
	Request web.RequestMeta
}

// Created is a new organisation, and the only sight of its first owner key.
type Created struct {
	Organisation
	OwnerKey   secret.String
	OwnerKeyID string
}

// Create makes an organisation. The order is the argument: its keys come first, since nothing can be sealed without them;
// a crash then leaves keys that nobody's data needs. All the rest is one transaction.
func (r *Room) Create(ctx context.Context, n NewOrganisation) (Created, error) {
	if err := r.checkNew(n); err != nil {
		return Created{}, err
	}
	made := Created{Organisation: Organisation{
		ID: tenantdb.NewTenantID(), Name: n.Name, ContactEmail: n.ContactEmail, CreatedAt: r.instant(),
		TokenLifetime: 24 * time.Hour, LiveTokens: 1000, MonthlyQuota: r.cfg.MonthlyQuota, Region: n.Region, Version: 1,
	}}
	if made.MonthlyQuota != nil {
		made.Used = new(int64)
	}
	if err := r.cfg.Ring.CreateTenant(ctx, made.ID); err != nil {
		return Created{}, fmt.Errorf("org.Create: %w", err)
	}
	if err := errors.Join(r.seal(ctx, &made.Organisation), r.cfg.Ring.Prepare(ctx, made.ID, audit.SubjectID{})); err != nil {
		return Created{}, fmt.Errorf("org.Create: %w", err)
	}
	err := r.cfg.DB.Create(ctx, maker(made.ID, n.Request), func(tx *tenantdb.Tx) (audit.Event, error) {
		err := insert(ctx, tx, made.Organisation)
		if err == nil {
			made.OwnerKey, made.OwnerKeyID, err = r.cfg.FirstKey.MintOwnerKey(ctx, tx)
		}
		return made.created(), err
	})
	if err == nil && n.OwnerAddress != "" {
		err = r.inviteFirst(ctx, maker(made.ID, n.Request), n.OwnerAddress, n.OwnerName)
	}
	if err != nil {
		return Created{}, fmt.Errorf("org.Create: %w", err)
	}
	return made, nil
}

// checkNew refuses, before anything is made, what would fail after it.
func (r *Room) checkNew(n NewOrganisation) error {
	if err := check(&n.Name, &n.ContactEmail); err != nil {
		return err
	}
	if err := r.checkRegion(n.Region); err != nil || n.OwnerAddress == "" {
		return err
	}
	if _, err := Normal(n.OwnerAddress); err != nil {
		return err
	}
	if n.OwnerName != "" {
		if err := checkName(n.OwnerName); err != nil {
			return err
		}
	}
	if r.cfg.Link == nil {
		return problem.New(problem.Unavailable, "Nobody can be invited here at present.")
	}
	if !r.cfg.Mails(n.Region) {
		p := unmailed()
		p.Fields = []problem.Field{{Location: "body.owner_address", Message: "gets no mail from here: leave it out, or name a region that sends mail"}}
		return p
	}
	return nil
}

// maker is who makes an organisation: a stranger, or the operator.
func maker(id tenantdb.TenantID, m web.RequestMeta) tenantdb.Caller {
	if m.ID.IsZero() {
		return tenantdb.System(id, "operator")
	}
	return tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: id, Actor: audit.Actor{Kind: audit.ActorNobody}, How: "sign-up",
		RequestID: audit.RequestID(m.ID), CallerRequestID: m.CallerRequestID, Address: m.Address,
	})
}

func (c *Created) created() audit.Event {
	return audit.Event{
		Type: "organisation.created", Target: audit.Target{Kind: "organisation", ID: c.ID.String()},
		Public:  []audit.Field{{Name: "owner_key", Value: c.OwnerKeyID}, {Name: "monthly_quota", Value: quota(c.MonthlyQuota)}},
		Private: c.private(),
	}
}

func (o *Organisation) private() []audit.Field {
	return []audit.Field{{Name: "name", Value: o.Name}, {Name: "contact_email", Value: o.ContactEmail}}
}

func quota(n *int64) string {
	if n == nil {
		return "unlimited"
	}
	return fmt.Sprint(*n)
}

// check says what is wrong with a name or a contact address; nil ones are left alone.
func check(name, contact *string) error {
	p := problem.New(problem.Invalid, "The organisation cannot be like that. See `errors`.")
	if name != nil {
		if n := len([]rune(*name)); n == 0 || n > 200 || strings.ContainsFunc(*name, unicode.IsControl) || strings.TrimSpace(*name) != *name {
			p.Fields = append(p.Fields, problem.Field{Location: "body.name", Message: "must have 1 to 200 characters, none of them a control character, and no space at its ends"})
		}
	}
	if contact != nil && *contact != "" && !isAddress(*contact) {
		p.Fields = append(p.Fields, problem.Field{Location: "body.contact_email", Message: "is not an e-mail address"})
	}
	if len(p.Fields) == 0 {
		return nil
	}
	return p
}

// isAddress accepts a bare address: it goes into the headers of mail.
func isAddress(s string) bool {
	if len(s) > 254 { // before it is parsed, which takes longer the longer it is
		return false
	}
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s && a.Name == "" && !strings.ContainsFunc(s, func(c rune) bool {
		return unicode.IsControl(c) || unicode.IsSpace(c) || c == '"'
	})
}

// The address is bound to its organisation and its field, not to a version: it must stay readable when others change.
const contactItem, contactField = "organisation", "contact"

func (r *Room) seal(ctx context.Context, o *Organisation) (err error) {
	if o.ContactEmail == "" {
		o.contact = nil
		return nil
	}
	o.contact, err = r.cfg.Ring.Seal(ctx, o.ID, contactItem, contactField, 0, []byte(o.ContactEmail))
	return err
}

func (r *Room) open(ctx context.Context, o *Organisation) error {
	if len(o.contact) == 0 {
		return nil
	}
	b, err := r.cfg.Ring.Open(ctx, o.ID, contactItem, contactField, 0, o.contact)
	if !o.ShreddedAt.IsZero() && errors.Is(err, keyring.ErrDestroyed) {
		return nil
	}
	o.ContactEmail = string(b)
	return err
}

func need(c tenantdb.Caller, capability string) error {
	if c.Actor().Kind == audit.ActorSystem || c.May(capability) {
		return nil
	}
	return problem.New(problem.Denied, "This needs the capability %s.", capability)
}

// Get is the caller's organisation.
func (r *Room) Get(ctx context.Context, c tenantdb.Caller) (o Organisation, err error) {
	if err := need(c, "organisation:read"); err != nil {
		return Organisation{}, err
	}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		o, err = load(ctx, tx, r.month())
		return err
	})
	if err == nil {
		err = r.open(ctx, &o)
	}
	if err != nil {
		return Organisation{}, fmt.Errorf("org.Get: %w", err)
	}
	return o, nil
}

// Contact is where to send an organisation's notices; "" if it gave no address.
func (r *Room) Contact(ctx context.Context, id tenantdb.TenantID) (string, error) {
	o, err := r.Get(ctx, tenantdb.System(id, "notice"))
	return o.ContactEmail, err
}
