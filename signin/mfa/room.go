package mfa

import (
	"context"
	"crypto/x509"
	"net/url"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// People is what the room asks of the organisations.
type People interface {
	// Allowed says which kinds of factors a person may use ("totp", "email", "sms", "passkey", "hardware"; nil is all), and
	// whether one is required.
	Allowed(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) (kinds []string, required bool, err error)
	// Profile is a person's name and e-mail address.
	Profile(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) (name, address string, err error)
	// MayReset refuses a caller who has not more power than the member, and says which owners are told.
	MayReset(ctx context.Context, tx *tenantdb.ReadTx, c tenantdb.Caller, member tenantdb.PersonID) (owners []tenantdb.PersonID, err error)
}

// Config is what the room needs.
type Config struct {
	DB     *tenantdb.DB
	Ring   *keyring.Ring
	People People
	// PublicURL is where people sign in: its host is what passkeys are bound to.
	PublicURL *url.URL
	Issuer    string // what authenticator apps show above the code; empty is Avouch
	// Sends says whether codes of a kind (Email, SMS) can be sent to people of the transaction's organisation, whose region may
	// have no sender; nil is always.
	Sends func(ctx context.Context, tx *tenantdb.ReadTx, kind string) (bool, error)
	// TextsPerDay is how many text messages the people of one organisation may be sent in a day, on all servers together; 0 is
	// DefaultTexts, a negative one is unlimited.
	TextsPerDay int
	// CodeDigits is the length of the codes that are sent, 6 to 8; 0 is 6.
	CodeDigits int
	// HardwareRoots are the makers whose attestation proves that a passkey is in hardware; with nil, none is. HardwareModels
	// narrows them to models, by AAGUID; empty is all models of these makers.
	HardwareRoots  *x509.CertPool
	HardwareModels [][16]byte
	// Changed is told of each change of a person's factors, in its transaction: to end sessions, to count the proof. It may be nil.
	Changed func(ctx context.Context, tx *tenantdb.Tx, ch Change) error
	// Locked says whether a person is the only owner of the organisation and its vault has the seeds of all these marks
	// (keyring.Ring.SeedMark): nobody could get at a code of them who needs one to get in. nil is no.
	Locked func(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID, marks [][]byte) (bool, error)
	// Lasts says whether a session is in force still; nil believes that all are.
	Lasts func(ctx context.Context, tx *tenantdb.ReadTx, session string) (bool, error)
	Now   func() time.Time // nil is time.Now
}

// Change is a change of a person's factors.
type Change struct {
	Person tenantdb.PersonID
	What   string // "added", "removed", "reset", "codes" (new recovery codes)
	Factor ID     // zero if it is about no single one
	Kind   string
	// Proof is what the person proved by confirming a factor that was added; Method is empty otherwise.
	Proof Proof
}

// Room is the second factors of all people.
type Room struct {
	cfg        Config
	web        *webauthn.WebAuthn // nil where there can be no passkeys
	noPasskeys string             // why
}

// New makes the room.
func New(cfg Config) *Room {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Issuer == "" {
		cfg.Issuer = "Avouch"
	}
	if cfg.Sends == nil {
		cfg.Sends = func(context.Context, *tenantdb.ReadTx, string) (bool, error) { return true, nil }
	}
	if cfg.TextsPerDay == 0 {
		cfg.TextsPerDay = DefaultTexts
	}
	if cfg.CodeDigits < 6 || cfg.CodeDigits > 8 {
		cfg.CodeDigits = 6
	}
	r := &Room{cfg: cfg}
	r.web, r.noPasskeys = relyingParty(cfg)
	return r
}

func (r *Room) instant() time.Time { return r.cfg.Now().UTC().Truncate(time.Microsecond) }

type factorKind struct{}

// ID names a factor.
type ID = id.ID[factorKind]

// ParseID reads a factor's canonical name.
func ParseID(s string) (ID, error) { return id.Parse[factorKind](s) }

// The kinds of factors. Hardware is a passkey that a maker attests; it is a word of the rules, not a kind of its own.
const (
	TOTP     = "totp"
	Email    = "email"
	SMS      = "sms"
	Passkey  = "passkey"
	Hardware = "hardware"
	Recovery = "recovery" // a method of proof: recovery codes are no factor
)

// MethodEnrol among the methods of a caller's Person says that the caller is at signing in and may do nothing but enrol.
const MethodEnrol = "enrol"

// The limits. Whoever keeps attempts counts their tries, and ends them at MaxTries.
const (
	MaxTries    = 5                // wrong answers of one attempt
	MaxSendings = 3                // codes sent for one attempt
	MostGuesses = 20               // wrong codes of one person in a day, whatever the number of attempts
	MostSent    = 10               // codes sent for one person in an hour
	CodeLife    = 10 * time.Minute // of codes that are sent, of challenges, and of enrolments that wait for their confirmation

	// DefaultTexts is Config.TextsPerDay, unless the installation says otherwise. Each message costs money, and whoever makes an
	// organisation names the numbers.
	DefaultTexts = 1000

	betweenSendings = time.Minute
	maxFactors      = 10 // of one person
	mostWaiting     = 10 // enrolments of one person that wait to be confirmed
)

// Prepare gets ready what Ask, Prove and changes of a person's factors need, so that they touch no disk in their transaction.
func (r *Room) Prepare(ctx context.Context, t tenantdb.TenantID, p tenantdb.PersonID) error {
	if err := r.cfg.Ring.Prepare(ctx, t, p); err != nil {
		return wrap("Prepare", err)
	}
	return wrap("Prepare", r.cfg.DB.Read(ctx, tenantdb.System(t, "factors"), func(tx *tenantdb.ReadTx) error {
		_, err := r.load(ctx, tx, p)
		return err
	}))
}

// person is the person that acts: factors are people's.
func person(c tenantdb.Caller) (tenantdb.Person, error) {
	p, ok := c.Person()
	if !ok || c.Actor().Kind != audit.ActorPerson || p.ID.IsZero() {
		return tenantdb.Person{}, problem.New(problem.Denied, "Only people have factors: sign in as a person.")
	}
	return p, nil
}
