package session

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/fresh"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Standing is what a person may do in the organisation at an instant, and how long the organisation's rules let a session last.
type Standing struct {
	Active              bool
	Why                 string // of who is not: a word of a closed list, such as "suspended"
	Roles, Capabilities []string
	NeedsMFA            bool           // a second factor must be among the methods
	Factors             []string       // the kinds that count, as rules name them; nil is all
	Addresses           []netip.Prefix // from where; none is from everywhere
	Algorithm           string         // of access tokens: keyring.ES256, which empty means too, or keyring.RS256
	Idle                time.Duration  // of browsers; 0 is DefaultIdle
	Life                time.Duration  // of browsers; 0 is DefaultLife
	ProgramLife         time.Duration  // 0 is DefaultProgramLife
}

// People says who people are in their organisation.
type People interface {
	Standing(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) (Standing, error)
}

// Glass says what break-glass lends a person whose session was proved at an instant.
type Glass interface {
	Lent(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID, provedAt time.Time) ([]string, error)
}

// Config is what the room needs.
type Config struct {
	DB      *tenantdb.DB
	Ring    *keyring.Ring
	Signing *keyring.Signing
	People  People
	Glass   Glass // nil lends nothing
	// Vouches says whether a connection is still believed about somebody who may do this much. A session that began by one counts
	// only then, whatever its person became since. Nil believes all.
	Vouches func(ctx context.Context, tx *tenantdb.ReadTx, via [16]byte, capabilities []string) (bool, error)
	Issuer  string // the public URL: of https or not decides about cookies, its origin is the only one that pages may ask from
	// Refused records that a session was refused which is in force, or was stolen. A server bounds here what a flood of them writes
	// to the organisation's log; nil writes each of them.
	Refused func(ctx context.Context, c tenantdb.Caller, ev audit.Event) error
	Now     func() time.Time // nil is time.Now
}

// The times of sessions, where an organisation does not say less.
const (
	DefaultIdle        = 12 * time.Hour
	DefaultLife        = 7 * 24 * time.Hour
	DefaultProgramLife = 90 * 24 * time.Hour
	// ProgramIdle ends the session of a program that did nothing for so long. The rule about idle browsers is about desks that
	// somebody left, so it is not for programs.
	ProgramIdle = 30 * 24 * time.Hour
	// Most is how many sessions in force a person has.
	Most = 100

	seenEvery   = time.Minute
	forgetAfter = 30 * 24 * time.Hour
)

// Room is the sessions of all people.
type Room struct {
	cfg     Config
	origin  string
	secure  bool
	cross   *http.CrossOriginProtection
	present *fresh.Reads[presented, presence]
	noted   noted
}

// NewRoom makes the room. It fails if the issuer is no address.
func NewRoom(cfg Config) (*Room, error) {
	u, err := url.Parse(cfg.Issuer)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("session.NewRoom: the issuer %q is not an http or https address", cfg.Issuer)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Refused == nil {
		cfg.Refused = func(ctx context.Context, c tenantdb.Caller, ev audit.Event) error {
			_, err := cfg.DB.Record(ctx, c, ev)
			return err
		}
	}
	r := &Room{
		cfg: cfg, origin: u.Scheme + "://" + u.Host, secure: u.Scheme == "https", cross: http.NewCrossOriginProtection(),
		present: fresh.New[presented, presence](readPatience), noted: noted{at: map[ID]time.Time{}},
	}
	if err := r.cross.AddTrustedOrigin(r.origin); err != nil {
		return nil, fmt.Errorf("session.NewRoom: %w", err)
	}
	return r, nil
}

// instant is now, as the database will give it back.
func (r *Room) instant() time.Time { return r.cfg.Now().UTC().Truncate(time.Microsecond) }

// Prepare brings into memory what Start needs of the key store, so that nothing is waited for while the log's head is locked.
func (r *Room) Prepare(ctx context.Context, t tenantdb.TenantID, p tenantdb.PersonID) error {
	if err := r.cfg.Ring.Prepare(ctx, t, p); err != nil {
		return fmt.Errorf("session.Prepare: %w", err)
	}
	if _, err := r.cfg.Ring.Derive(ctx, t, refreshPurpose, nil); err != nil {
		return fmt.Errorf("session.Prepare: %w", err)
	}
	return nil
}
