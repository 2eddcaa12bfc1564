package signin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/signin/mfa"
	"github.com/avouch-dev/avouch/tenantdb"
)

// What an attempt is for.
const (
	toSignIn  = "sign-in" // a factor is asked for
	toEnrol   = "enrol"   // a first factor is set up
	toProve   = "prove"   // whoever has a session proves to be still there
	toPasskey = "passkey" // who it is will be seen: of the platform, and of nobody yet
)

const (
	attemptLife = 15 * time.Minute
	// MaxTries is how many answers there may be in one attempt. How many of one person are wrong in a day, package mfa bounds.
	MaxTries = mfa.MaxTries
)

// attempt is a sign-in under way, or a fresh proof within a session.
type attempt struct {
	digest           []byte
	person           tenantdb.PersonID
	session          [16]byte
	purpose          string
	proofs           []string
	sealed           []byte // of state
	tries, sends     int
	sent             time.Time
	via              [16]byte
	until, provedAt  time.Time
	created, expires time.Time
	state            attemptState
}

// attemptState is what nobody who reads the table should see.
type attemptState struct {
	Program  bool   `json:"program,omitempty"`  // the session that is wanted is a program's
	Client   string `json:"client,omitempty"`   // what the program calls itself
	Device   string `json:"device,omitempty"`   // what the person calls the device
	Known    bool   `json:"known,omitempty"`    // somebody signed in from the device before
	Factor   string `json:"factor,omitempty"`   // that was asked for
	Question []byte `json:"question,omitempty"` // what an answer is compared with
	Password []byte `json:"password,omitempty"` // which becomes the person's with the proof: the hash, sealed
}

const attemptPrefix = "ava_"

// newAttempt is one with a secret that nobody has yet.
func (r *Room) newAttempt(purpose string, person tenantdb.PersonID) (attempt, secret.String) {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	raw := secret.Text(attemptPrefix + base64.RawURLEncoding.EncodeToString(b))
	now := r.instant()
	return attempt{digest: digestOf(raw), person: person, purpose: purpose, proofs: []string{}, created: now, expires: now.Add(attemptLife)}, raw
}

func digestOf(s secret.String) []byte {
	sum := sha256.Sum256([]byte(s.Expose()))
	return sum[:]
}

// over is the answer to every attempt that cannot go on, whatever the reason.
func over() error {
	return problem.New(problem.Unauthenticated, "This sign-in is over: it took too long, was wrong too often, or has ended. Begin again.")
}

// tenantOf is whose attempt it is. Errors: over.
func (r *Room) tenantOf(ctx context.Context, raw secret.String) (tenantdb.TenantID, error) {
	if !strings.HasPrefix(raw.Expose(), attemptPrefix) || len(raw.Expose()) != len(attemptPrefix)+43 {
		return tenantdb.TenantID{}, over()
	}
	t, err := lookupAttempt(ctx, r.cfg.DB, digestOf(raw))
	if err != nil {
		return t, fmt.Errorf("signin.tenantOf: %w", err)
	}
	if t.IsZero() {
		return t, over()
	}
	return t, nil
}

// resume is an attempt that can go on, locked. Errors: over.
func (r *Room) resume(ctx context.Context, tx *tenantdb.Tx, raw secret.String, purposes ...string) (attempt, error) {
	return r.load(ctx, tx, raw, MaxTries, purposes...)
}

func (r *Room) load(ctx context.Context, tx *tenantdb.Tx, raw secret.String, tries int, purposes ...string) (attempt, error) {
	a, found, err := loadAttempt(ctx, tx, digestOf(raw))
	if err != nil {
		return a, err
	}
	if !found || !slices.Contains(purposes, a.purpose) || a.tries >= tries || !r.instant().Before(a.expires) {
		return attempt{}, over()
	}
	plain, err := r.cfg.Ring.OpenFields(ctx, tx.Tenant(), a.person, a.sealed, a.place())
	if errors.Is(err, keyring.ErrSealed) || len(a.sealed) == 0 { // no server of ours wrote it
		return attempt{}, over()
	}
	if err != nil {
		return attempt{}, fmt.Errorf("signin.resume: %w", err)
	}
	if err := json.Unmarshal(plain, &a.state); err != nil {
		return attempt{}, fmt.Errorf("signin.resume: %w", err)
	}
	return a, nil
}

// place binds an attempt's state to whose it is and to what was proved: whoever can write a row alone has proved nothing by it.
func (a *attempt) place() []byte {
	return fmt.Appendf(nil, "avouch/attempt/%x/%s/%s/%x/%x/%d/%d/%q", a.digest, a.purpose, a.person, a.session, a.via, micro(a.until), micro(a.provedAt), a.proofs)
}

// micro is a time as the table keeps it.
func micro(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func (r *Room) seal(ctx context.Context, tx *tenantdb.Tx, a *attempt) error {
	plain, err := json.Marshal(a.state)
	if err != nil {
		return err
	}
	a.sealed, err = r.cfg.Ring.SealFields(ctx, tx.Tenant(), a.person, plain, a.place())
	return err
}

// begin writes an attempt down.
func (r *Room) begin(ctx context.Context, tx *tenantdb.Tx, a attempt) error {
	if err := r.seal(ctx, tx, &a); err != nil {
		return fmt.Errorf("signin.begin: %w", err)
	}
	return insertAttempt(ctx, tx, a)
}

// keep writes down how an attempt goes on.
func (r *Room) keep(ctx context.Context, tx *tenantdb.Tx, a attempt) error {
	if err := r.seal(ctx, tx, &a); err != nil {
		return fmt.Errorf("signin.keep: %w", err)
	}
	return updateAttempt(ctx, tx, a)
}

// end makes an attempt one that cannot go on.
func (r *Room) end(ctx context.Context, tx *tenantdb.Tx, a attempt) error {
	a.expires, a.state = r.instant(), attemptState{}
	return r.keep(ctx, tx, a)
}

// Purge forgets attempts that are over and no longer counted.
func (r *Room) Purge(ctx context.Context, c tenantdb.Caller) error {
	before := r.instant().Add(-time.Hour)
	err := r.cfg.DB.Note(ctx, c, func(tx *tenantdb.Tx) error {
		_, err := purgeAttempts(ctx, tx, before)
		return err
	})
	if err != nil {
		return fmt.Errorf("signin.Purge: %w", err)
	}
	return nil
}
