package mfa

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/sms"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Asked is a question to be put to a person.
type Asked struct {
	Attempt []byte // the digest that names the sign-in: codes are derived from it
	Person  tenantdb.PersonID
	Factor  ID // of Offered. A passkey stands for all passkeys that are offered
	// Sending is 1 for the first code of the attempt, at most MaxSendings; SentAt is when the one before was sent. Both are for
	// e-mail and SMS alone.
	Sending int
	SentAt  time.Time
	// Verify wants the authenticator to verify who holds it, not only that somebody does; for passkeys alone.
	Verify bool
}

// Question is what the person is shown.
type Question struct {
	Kind      string
	Options   json.RawMessage // for navigator.credentials.get, of a passkey: {"publicKey": ...}
	SentTo    string          // where the code went, masked
	ExpiresAt time.Time
}

// asking is what must be known of a question when it is answered. It is the state that Ask returns: kept with the attempt,
// never by the client. It holds no secret.
type asking struct {
	Kind         string                `json:"kind"`
	Factor       ID                    `json:"factor,omitzero"`
	Sending      int                   `json:"sending,omitempty"`
	At           time.Time             `json:"at"`
	Passwordless bool                  `json:"passwordless,omitempty"`
	Session      *webauthn.SessionData `json:"session,omitempty"`
}

// Ask puts a question: it sends a code (by a job, once the transaction has committed) or makes a challenge. A database's Note
// is enough of a transaction. The state belongs to the attempt and is wanted by Prove.
func (r *Room) Ask(ctx context.Context, tx *tenantdb.Tx, a Asked) (Question, []byte, error) {
	q, s, err := r.ask(ctx, tx, a)
	if err != nil {
		return Question{}, nil, wrap("Ask", err)
	}
	state, err := json.Marshal(s)
	return q, state, wrap("Ask", err)
}

func (r *Room) ask(ctx context.Context, tx *tenantdb.Tx, a Asked) (Question, asking, error) {
	_, usable, err := r.offered(ctx, &tx.ReadTx, a.Person)
	if err != nil {
		return Question{}, asking{}, err
	}
	f := find(usable, a.Factor)
	if f == nil {
		return Question{}, asking{}, noFactor()
	}
	now := r.instant()
	q := Question{Kind: f.Kind, SentTo: f.Hint, ExpiresAt: now.Add(CodeLife)}
	s := asking{Kind: f.Kind, Factor: f.ID, At: now}
	switch f.Kind {
	case Passkey:
		q.Options, s.Session, err = r.challenge(a.Person, usable, a.Verify)
	case Email, SMS:
		if len(a.Attempt) != sha256.Size {
			return Question{}, asking{}, errors.New("a code belongs to an attempt")
		}
		s.Sending = a.Sending
		if f.details.To == "" {
			q.SentTo, err = r.profileHint(ctx, &tx.ReadTx, a.Person)
		}
		if err == nil {
			err = r.send(ctx, tx, sending{a.Attempt, a.Person, f.ID, f.Kind, a.Sending, now}, a.SentAt)
		}
	}
	return q, s, err
}

func (r *Room) profileHint(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) (string, error) {
	_, address, err := r.cfg.People.Profile(ctx, tx, p)
	return maskAddress(address), err
}

func find(all []stored, f ID) *stored {
	for i := range all {
		if all[i].ID == f {
			return &all[i]
		}
	}
	return nil
}

func noFactor() error {
	return problem.New(problem.Missing, "There is no such factor that may be used now.")
}

// sending is one code on its way.
type sending struct {
	attempt []byte
	person  tenantdb.PersonID
	factor  ID
	kind    string
	number  int
	at      time.Time
}

// Sends says whether codes of a kind can be sent to people of the transaction's organisation: what is not sent is true.
func (r *Room) Sends(ctx context.Context, tx *tenantdb.ReadTx, kind string) (bool, error) {
	if kind != Email && kind != SMS {
		return true, nil
	}
	return r.cfg.Sends(ctx, tx, kind)
}

// sends refuses a code that nobody would bring: who waits for it waits in vain.
func (r *Room) sends(ctx context.Context, tx *tenantdb.ReadTx, kind string) error {
	ok, err := r.Sends(ctx, tx, kind)
	switch {
	case err != nil || ok:
		return err
	case kind == SMS:
		return problem.New(problem.Invalid, "Your organisation's people cannot be sent text messages here: choose another kind of factor.")
	}
	return problem.New(problem.Invalid, "Your organisation's people cannot be sent mail here: choose another kind of factor.")
}

// send asks for the job that sends a code, unless there were too many. The job holds no code: it derives it.
func (r *Room) send(ctx context.Context, tx *tenantdb.Tx, s sending, before time.Time) error {
	if s.number < 1 || s.number > MaxSendings {
		return problem.New(problem.TooMany, "No more codes are sent for this attempt. Begin again, or use another factor.")
	}
	if wait := before.Add(betweenSendings).Sub(s.at); s.number > 1 && wait > 0 {
		p := problem.New(problem.TooMany, "A code was sent less than a minute ago. Wait for it before you ask for another.")
		p.RetryAfter = wait
		return p
	}
	if err := r.sends(ctx, &tx.ReadTx, s.kind); err != nil {
		return err
	}
	n, err := slotSendings.take(ctx, tx, s.person, s.at, 1)
	if err != nil {
		return err
	}
	if n == 0 {
		p := problem.New(problem.TooMany, "Too many codes were sent within the hour. Use another factor, or try again later.")
		p.RetryAfter = slotSendings.next(s.at).Sub(s.at)
		return p
	}
	ids := map[string]string{
		"attempt": hex.EncodeToString(s.attempt), "person": s.person.String(), "factor": s.factor.String(), "sending": strconv.Itoa(s.number),
		"at": strconv.FormatInt(s.at.Unix(), 10),
	}
	if s.kind == SMS {
		if err := r.takeText(ctx, tx, s.at); err != nil {
			return err
		}
		return tx.Enqueue(ctx, sms.Job{Tenant: tx.Tenant().String(), IDs: ids})
	}
	return tx.Enqueue(ctx, mail.Job{Tenant: tx.Tenant().String(), Template: mail.SignInCode, IDs: ids})
}

// code derives what is sent: nobody who reads the database knows it, and each server does.
func (r *Room) code(ctx context.Context, t tenantdb.TenantID, attempt []byte, factor ID, number int) (string, error) {
	name, err := r.cfg.Ring.Pseudonym(ctx, t, "code", fmt.Sprintf("%x|%s|%d", attempt, factor, number))
	if err != nil {
		return "", err
	}
	return digits(name, r.cfg.CodeDigits)
}

// digits makes a number of a pseudonym's 128 bits. No code is likelier than another by more than 2^-101.
func digits(pseudonym string, n int) (string, error) {
	b, err := base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding).DecodeString(pseudonym)
	if err != nil || len(b) != 16 {
		return "", fmt.Errorf("a pseudonym of %d characters is no code", len(pseudonym))
	}
	most := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
	return fmt.Sprintf("%0*d", n, new(big.Int).Mod(new(big.Int).SetBytes(b), most)), nil
}

// slots are a number of things that one person may do in a while, on all servers together: each takes a value that is spent.
type slots struct {
	kind   string
	number int
	window time.Duration
}

var (
	slotSendings = slots{"mfa-sent", MostSent, time.Hour}
	slotGuesses  = slots{"mfa-guess", MostGuesses, 24 * time.Hour}
)

func (s slots) value(t tenantdb.TenantID, p tenantdb.PersonID, at time.Time, n int) [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%s|%s|%s|%d|%d", s.kind, t, p, at.Truncate(s.window).Unix(), n))
}

func (s slots) next(at time.Time) time.Time { return at.Truncate(s.window).Add(s.window) }

// take takes the first slot that is free, from one on, and says which: 0 is none.
func (s slots) take(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, at time.Time, from int) (int, error) {
	for n := from; n <= s.number; n++ {
		first, err := spend(ctx, tx, s.kind, s.value(tx.Tenant(), p, at, n), s.next(at))
		if first || err != nil {
			return n, err
		}
	}
	return 0, nil
}

// takeText takes one of the organisation's text messages of the day. It looks from the number of those that were taken on: a slot
// is given back by nobody, so that is where the free ones begin.
func (r *Room) takeText(ctx context.Context, tx *tenantdb.Tx, at time.Time) error {
	day := slots{"mfa-texts", r.cfg.TextsPerDay, 24 * time.Hour}
	if day.number < 0 {
		return nil
	}
	taken, err := spentUntil(ctx, &tx.ReadTx, day.kind, day.next(at))
	if err != nil {
		return err
	}
	n, err := day.take(ctx, tx, tenantdb.PersonID{}, at, taken+1)
	if err != nil || n != 0 {
		return err
	}
	p := problem.New(problem.TooMany, "Your organisation's people were sent %d text messages today, which is as many as may be. Use another factor, or a recovery code.", day.number)
	p.RetryAfter = day.next(at).Sub(at)
	return p
}
