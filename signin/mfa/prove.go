package mfa

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Answer is what a person answered. One of Code, Assertion and RecoveryCode is there.
type Answer struct {
	Attempt []byte // as in Asked
	State   []byte // what Ask or AskPasskey returned; TOTP and recovery codes need none
	Person  tenantdb.PersonID
	Factor  ID // which the Code is of
	Code    secret.String
	// Assertion is the JSON of the browser's PublicKeyCredential (toJSON).
	Assertion    json.RawMessage
	RecoveryCode secret.String
}

// Proof is that a person has a factor, once.
type Proof struct {
	Method       string // "totp", "email", "sms", "passkey", "recovery"
	Factor       ID     // zero for a recovery code
	Hardware     bool   // a passkey that its maker attests to be in hardware
	UserVerified bool   // a passkey's authenticator verified who holds it
	// EnrolOnly says that the rules want another factor: the person may enrol one, and nothing else before.
	EnrolOnly bool
	// Reset says that it is by what an administrator's reset left.
	Reset bool
}

// Refusal is an answer that proves nothing. Its problem is the same whatever was wrong; Event is what the log must be told
// beside, if it has a type (Tell does it).
type Refusal struct {
	Event audit.Event
	why   string
}

// Error says why, for the log.
func (r *Refusal) Error() string { return "refused: " + r.why }

// Unwrap is what the person is told.
func (r *Refusal) Unwrap() error {
	return problem.New(problem.Unauthenticated, "That is not right, or it was used before. Try again, with a new code if there is one.")
}

func refuse(why string) error { return &Refusal{why: why} }

// Try counts an answer before Prove judges it, in a transaction of its own (a Note): what counts guesses must not roll back
// with a wrong one. It refuses codes of a person for whom too many wrong ones were given today, whatever the number of
// attempts; passkeys and recovery codes cannot be guessed and are not counted. Prove gives back what was no guess.
func (r *Room) Try(ctx context.Context, tx *tenantdb.Tx, a Answer) error {
	if a.Code.IsZero() {
		return nil
	}
	now := r.instant()
	n, err := slotGuesses.take(ctx, tx, a.Person, now, 1)
	if err != nil {
		return wrap("Try", err)
	}
	if n == 0 {
		p := problem.New(problem.TooMany, "Too many wrong codes were given for this account today. Use a passkey or a recovery code, or try again tomorrow.")
		p.RetryAfter = slotGuesses.next(now).Sub(now)
		return p
	}
	if n == slotGuesses.number {
		return wrap("Try", r.notify(ctx, tx, a.Person, a.Person, "guessed", ""))
	}
	return nil
}

// Prove judges an answer, in a transaction with an entry of its own. What counted does not count again, on any server. Its
// error is a *Refusal if the answer proves nothing.
func (r *Room) Prove(ctx context.Context, tx *tenantdb.Tx, a Answer) (Proof, error) {
	o, usable, err := r.offered(ctx, &tx.ReadTx, a.Person)
	if err != nil {
		return Proof{}, wrap("Prove", err)
	}
	var p Proof
	switch {
	case !a.RecoveryCode.IsZero():
		p, err = r.proveRecovery(ctx, tx, a, o)
	case len(a.Assertion) > 0:
		p, err = r.provePasskey(ctx, tx, a, usable)
	default:
		p, err = r.proveCode(ctx, tx, a, usable)
	}
	if err != nil {
		return Proof{}, wrap("Prove", err)
	}
	p.EnrolOnly = o.Enrol
	return p, nil
}

// Tell records what a refusal has to tell, after its transaction has ended, and tells the person of a cloned passkey.
func (r *Room) Tell(ctx context.Context, c tenantdb.Caller, p tenantdb.PersonID, err error) error {
	var refused *Refusal
	if !errors.As(err, &refused) || refused.Event.Type == "" {
		return nil
	}
	return wrap("Tell", r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		return refused.Event, r.notify(ctx, tx, p, p, "cloned", Passkey)
	}))
}

// clean is a code as people type it.
func clean(s secret.String) string {
	return strings.NewReplacer(" ", "", "\u00a0", "", "-", "", "\t", "").Replace(s.Expose())
}

func (r *Room) proveCode(ctx context.Context, tx *tenantdb.Tx, a Answer, usable []stored) (p Proof, err error) {
	f := find(usable, a.Factor)
	if f == nil || f.Kind == Passkey {
		return Proof{}, refuse("no such factor")
	}
	now := r.instant()
	if f.Kind == TOTP {
		step, ok := matchTOTP(f.details.Seed, clean(a.Code), now, f.counter)
		if ok && f.mark == nil { // it was added when factors had none
			f.mark, err = r.cfg.Ring.SeedMark(ctx, tx.Tenant(), f.details.Seed)
		}
		if ok && err == nil {
			ok, err = useStep(ctx, tx, f, step, now)
		}
		if err == nil && !ok {
			err = refuse("wrong code")
		}
	} else {
		err = r.proveSent(ctx, tx, a, f, now)
	}
	if err == nil {
		err = giveBackGuess(ctx, tx, a.Person, now)
	}
	return Proof{Method: f.Kind, Factor: f.ID, Reset: f.Reset}, err
}

// skew is how many steps a clock may be off.
const skew = 1

func matchTOTP(seed []byte, code string, now time.Time, last int64) (int64, bool) {
	return otp.Usual().Match(seed, code, now, skew, last)
}

func giveBackGuess(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, now time.Time) error {
	values := make([][]byte, slotGuesses.number)
	for n := range values {
		v := slotGuesses.value(tx.Tenant(), p, now, n+1)
		values[n] = v[:]
	}
	return giveBack(ctx, tx, slotGuesses.kind, values)
}

// proveSent judges a code that was sent: the last of its attempt, while it is fresh, once.
func (r *Room) proveSent(ctx context.Context, tx *tenantdb.Tx, a Answer, f *stored, now time.Time) error {
	s, err := readState(a.State)
	if err != nil || s.Kind != f.Kind || s.Factor != f.ID || s.Sending == 0 {
		return refuse("no code was sent")
	}
	if now.Sub(s.At) > CodeLife {
		return refuse("the code has expired")
	}
	want, err := r.code(ctx, tx.Tenant(), a.Attempt, f.ID, s.Sending)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(want), []byte(clean(a.Code))) != 1 {
		return refuse("wrong code")
	}
	once := sha256.Sum256(fmt.Appendf(nil, "%x|%s|%d", a.Attempt, f.ID, s.Sending))
	first, err := spend(ctx, tx, "mfa-code", once, s.At.Add(2*CodeLife))
	if err == nil && !first {
		err = refuse("the code was used")
	}
	if err == nil {
		_, err = use(ctx, tx, f.ID, now)
	}
	return err
}

func readState(state []byte) (s asking, err error) {
	if len(state) == 0 {
		return s, errors.New("nothing was asked")
	}
	return s, json.Unmarshal(state, &s)
}

func (r *Room) provePasskey(ctx context.Context, tx *tenantdb.Tx, a Answer, usable []stored) (Proof, error) {
	s, err := readState(a.State)
	if err != nil || s.Kind != Passkey || s.Session == nil {
		return Proof{}, refuse("no challenge was made")
	}
	now := r.instant()
	if now.Sub(s.At) > CodeLife {
		return Proof{}, refuse("the challenge has expired")
	}
	seen, err := r.verify(a, s, usable)
	if err != nil {
		return Proof{}, err
	}
	first, err := spend(ctx, tx, "mfa-challenge", sha256.Sum256([]byte(s.Session.Challenge)), s.At.Add(2*CodeLife))
	if err != nil {
		return Proof{}, err
	}
	if !first {
		return Proof{}, refuse("the challenge was used")
	}
	ok, err := useCount(ctx, tx, seen.factor.ID, seen.count, now)
	if err != nil {
		return Proof{}, err
	}
	if !ok {
		return Proof{}, cloned(a.Person, seen.factor.ID)
	}
	return Proof{Method: Passkey, Factor: seen.factor.ID, Hardware: seen.factor.Hardware, UserVerified: seen.verified}, nil
}

// cloned is a passkey whose count went back: there may be two of it.
func cloned(p tenantdb.PersonID, f ID) error {
	return &Refusal{why: "the sign count went back", Event: audit.Event{
		Type: "factor.cloned", Target: audit.Target{Kind: "factor", ID: f.String()}, Outcome: audit.Denied,
		Public: []audit.Field{{Name: "person_id", Value: p.String()}, {Name: "kind", Value: Passkey}},
	}}
}
