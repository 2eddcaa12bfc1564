package mfa

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	netmail "net/mail"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/sms"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Wanted is a factor that a person wants to add.
type Wanted struct {
	Kind string // "totp", "email", "sms", "passkey"
	Name string // the person's own, to tell factors apart; may be empty
	To   string // the number, or an e-mail address beside that of the profile
}

// Begun is an enrolment that waits for its confirmation.
type Begun struct {
	ID        ID // the factor's, once it is confirmed
	Kind      string
	ExpiresAt time.Time
	Secret    secret.String   // of TOTP, as people type it
	URI       secret.String   // of TOTP, as apps read it
	Options   json.RawMessage // of a passkey, for navigator.credentials.create
	SentTo    string          // of e-mail and SMS, masked
}

// enrolment is what is kept of one until it is confirmed: a row of attempts, which ends by itself.
type enrolment struct {
	Factor  ID                    `json:"factor"`
	Person  tenantdb.PersonID     `json:"person"`
	Kind    string                `json:"kind"`
	Details details               `json:"details"`
	Session *webauthn.SessionData `json:"session,omitempty"`
	Begun   time.Time             `json:"begun"`

	digest [32]byte
	sends  int
	sentAt time.Time
}

const seedSize = 20 // 160 bits, as RFC 4226 recommends

func noEnrolment() error {
	return problem.New(problem.Missing, "No factor of that id waits to be confirmed: it was confirmed before, or it expired, or too many answers were wrong. Begin again.")
}

// name makes the enrolment's digest. It is keyed, so no text that somebody sends as the secret of an attempt is found by it.
func (r *Room) name(ctx context.Context, t tenantdb.TenantID, e *enrolment) error {
	n, err := r.cfg.Ring.Pseudonym(ctx, t, "enrolment", e.Person.String()+"|"+e.Factor.String())
	e.digest = sha256.Sum256([]byte(n))
	return err
}

// Begin begins to add a factor. Nothing counts before Confirm.
func (r *Room) Begin(ctx context.Context, c tenantdb.Caller, w Wanted) (Begun, error) {
	p, err := person(c)
	if err != nil {
		return Begun{}, err
	}
	if err := r.check(&w); err != nil {
		return Begun{}, err
	}
	if err := r.cfg.Ring.Prepare(ctx, c.Tenant(), p.ID); err != nil {
		return Begun{}, wrap("Begin", err)
	}
	e := enrolment{Factor: id.New[factorKind](), Person: p.ID, Kind: w.Kind, Details: details{Name: w.Name, To: w.To}, Begun: r.instant()}
	b := Begun{ID: e.Factor, Kind: e.Kind, ExpiresAt: e.Begun.Add(CodeLife)}
	if err := r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error { return r.prepare(ctx, tx, c, &e, &b) }); err != nil {
		return Begun{}, wrap("Begin", err)
	}
	if err := r.name(ctx, c.Tenant(), &e); err != nil {
		return Begun{}, wrap("Begin", err)
	}
	sealed, err := r.sealEnrolment(ctx, c.Tenant(), e)
	if err != nil {
		return Begun{}, wrap("Begin", err)
	}
	err = r.cfg.DB.Note(ctx, c, func(tx *tenantdb.Tx) error {
		waiting, err := clearEnrolments(ctx, tx, p.ID, e.Begun)
		if err != nil {
			return err
		}
		if waiting >= mostWaiting {
			tooMany := problem.New(problem.TooMany, "Too many factors wait to be confirmed. Confirm one, or begin again in ten minutes.")
			tooMany.RetryAfter = CodeLife
			return tooMany
		}
		if e.Kind == Email || e.Kind == SMS {
			e.sends, e.sentAt = 1, e.Begun
			if err := r.send(ctx, tx, e.sending(e.Begun), time.Time{}); err != nil {
				return err
			}
		}
		return insertEnrolment(ctx, tx, e, sealed)
	})
	return b, wrap("Begin", err)
}

// check refuses what could be no factor, whoever asks.
func (r *Room) check(w *Wanted) error {
	invalid := func(field, why string) error {
		p := problem.New(problem.Invalid, "The factor cannot be like that. See `errors`.")
		p.Fields = []problem.Field{{Location: "body." + field, Message: why}}
		return p
	}
	if err := checkName(w.Name); err != nil {
		return err
	}
	switch w.Kind {
	case SMS:
		n, err := sms.Number(w.To)
		if err != nil {
			return invalid("to", "must be a telephone number with + and the country's code, such as +49 30 1234567")
		}
		w.To = n
	case Email:
		a, err := netmail.ParseAddress(w.To)
		if w.To != "" && (err != nil || a.Address != w.To || a.Name != "" || len(w.To) > 254 || strings.ContainsFunc(w.To, unicode.IsControl)) {
			return invalid("to", "must be an e-mail address, or absent for your own")
		}
	case TOTP, Passkey:
		if w.To != "" {
			return invalid("to", "is for e-mail and SMS only")
		}
		if w.Kind == Passkey {
			return r.passkeys()
		}
	default:
		return invalid("kind", "must be totp, email, sms or passkey")
	}
	return nil
}

func checkName(name string) error {
	if n := len([]rune(name)); n <= 64 && !strings.ContainsFunc(name, unicode.IsControl) && strings.TrimSpace(name) == name {
		return nil
	}
	p := problem.New(problem.Invalid, "The factor cannot be called that. See `errors`.")
	p.Fields = []problem.Field{{Location: "body.name", Message: "must have at most 64 characters, none of them a control character, and no space at its ends"}}
	return p
}

// prepare makes what the person must answer with.
func (r *Room) prepare(ctx context.Context, tx *tenantdb.ReadTx, c tenantdb.Caller, e *enrolment, b *Begun) error {
	all, kinds, err := r.mayAdd(ctx, tx, c, *e)
	if err != nil {
		return err
	}
	name, address, err := r.cfg.People.Profile(ctx, tx, e.Person)
	if err != nil {
		return err
	}
	switch e.Kind {
	case TOTP:
		e.Details.Seed = make([]byte, seedSize)
		rand.Read(e.Details.Seed) // never fails
		b.Secret = secret.Text(otp.Text(e.Details.Seed))
		b.URI = secret.Text(otp.Usual().URI(r.cfg.Issuer, address, e.Details.Seed))
	case Passkey:
		who := holding(e.Person, all)
		who.name, who.address = name, address
		b.Options, e.Session, err = r.register(who, kinds != nil && !slices.Contains(kinds, Passkey))
	case SMS:
		b.SentTo = hint(SMS, e.Details.To)
	case Email:
		if e.Details.To == address {
			e.Details.To = "" // it follows the profile
		}
		if b.SentTo = hint(Email, e.Details.To); b.SentTo == "" {
			b.SentTo = maskAddress(address)
		}
	}
	return err
}

// mayAdd refuses what the caller may not add now: the rules allow the kind, there is room, and the caller's proof is good
// enough.
func (r *Room) mayAdd(ctx context.Context, tx *tenantdb.ReadTx, c tenantdb.Caller, e enrolment) ([]stored, []string, error) {
	all, err := r.load(ctx, tx, e.Person)
	if err != nil {
		return nil, nil, err
	}
	if err := r.proved(ctx, tx, all, e.Begun); err != nil {
		return nil, nil, err
	}
	kinds, _, err := r.cfg.People.Allowed(ctx, tx, e.Person)
	if err != nil {
		return nil, nil, err
	}
	if !permitted(kinds, e.Kind, true) {
		return nil, nil, problem.New(problem.Denied, "The rules of your organisation do not allow this kind of factor for you: %s.", strings.Join(kinds, ", "))
	}
	if len(all) >= maxFactors {
		return nil, nil, problem.New(problem.Conflict, "You have %d factors, which is as many as there can be. Remove one first.", len(all))
	}
	return all, kinds, nil
}

func (e *enrolment) sending(at time.Time) sending {
	return sending{e.digest[:], e.Person, e.Factor, e.Kind, e.sends, at}
}

func (r *Room) sealEnrolment(ctx context.Context, t tenantdb.TenantID, e enrolment) ([]byte, error) {
	plain, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return r.cfg.Ring.SealFields(ctx, t, e.Person, plain, place("enrolment", e.Factor))
}

func (r *Room) openEnrolment(ctx context.Context, t tenantdb.TenantID, e *enrolment, sealed []byte) error {
	plain, err := r.cfg.Ring.OpenFields(ctx, t, e.Person, sealed, place("enrolment", e.Factor))
	if err != nil {
		return err
	}
	if json.Unmarshal(plain, e) != nil {
		return errors.New("an enrolment cannot be read") // the error would quote what is sealed
	}
	return nil
}

// Resend sends another code for an enrolment by e-mail or SMS.
func (r *Room) Resend(ctx context.Context, c tenantdb.Caller, f ID) error {
	p, err := person(c)
	if err != nil {
		return err
	}
	e, now := enrolment{Factor: f, Person: p.ID}, r.instant()
	if err := r.name(ctx, c.Tenant(), &e); err != nil {
		return wrap("Resend", err)
	}
	return wrap("Resend", r.cfg.DB.Note(ctx, c, func(tx *tenantdb.Tx) error {
		sealed, err := findEnrolment(ctx, &tx.ReadTx, &e, now)
		if err == nil {
			err = r.openEnrolment(ctx, c.Tenant(), &e, sealed)
		}
		if err != nil {
			return err
		}
		if e.sends == 0 {
			return problem.New(problem.Invalid, "No code is sent for this kind of factor.")
		}
		counted, err := sendEnrolment(ctx, tx, e, now)
		if err != nil {
			return err
		}
		if !counted {
			return problem.New(problem.Conflict, "Another code was asked for at the same time.")
		}
		before := e.sentAt
		e.sends++
		return r.send(ctx, tx, e.sending(now), before)
	}))
}

// Confirmation is what proves that the person has what is enrolled.
type Confirmation struct {
	Code       secret.String
	Credential json.RawMessage // the JSON of the browser's PublicKeyCredential (toJSON)
}

// Confirm adds the factor of an enrolment. The try is counted first, in a transaction of its own.
func (r *Room) Confirm(ctx context.Context, c tenantdb.Caller, f ID, answer Confirmation) (Factor, error) {
	p, err := person(c)
	if err != nil {
		return Factor{}, err
	}
	if err := r.Prepare(ctx, c.Tenant(), p.ID); err != nil {
		return Factor{}, err
	}
	e := enrolment{Factor: f, Person: p.ID}
	if err := r.name(ctx, c.Tenant(), &e); err != nil {
		return Factor{}, wrap("Confirm", err)
	}
	var sealed []byte
	err = r.cfg.DB.Note(ctx, c, func(tx *tenantdb.Tx) (err error) {
		sealed, err = tryEnrolment(ctx, tx, &e, r.instant())
		return err
	})
	if err == nil {
		err = r.openEnrolment(ctx, c.Tenant(), &e, sealed)
	}
	if err != nil {
		return Factor{}, wrap("Confirm", err)
	}
	n := stored{Factor: Factor{ID: f, Kind: e.Kind, Name: e.Details.Name, Hint: hint(e.Kind, e.Details.To), CreatedAt: e.Begun, ConfirmedAt: r.instant(), Version: 1}}
	proof, err := r.confirmed(ctx, c.Tenant(), &e, &n, answer)
	var refused *Refusal
	if errors.As(err, &refused) {
		field := "code"
		if e.Kind == Passkey {
			field = "credential"
		}
		wrong := problem.New(problem.Invalid, "That does not confirm the factor. Try again.").Because(err)
		wrong.Fields = []problem.Field{{Location: "body." + field, Message: "is not right, has expired, or is for another factor"}}
		return Factor{}, wrong
	}
	if err == nil {
		n.sealed, err = r.seal(ctx, c.Tenant(), p.ID, f, e.Details)
	}
	if err == nil && e.Kind == TOTP {
		n.mark, err = r.cfg.Ring.SeedMark(ctx, c.Tenant(), e.Details.Seed)
	}
	if err == nil {
		err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) { return r.add(ctx, tx, c, e, n, proof) })
	}
	if err != nil {
		return Factor{}, wrap("Confirm", err)
	}
	return n.Factor, nil
}

// confirmed judges the answer to an enrolment, and completes the factor.
func (r *Room) confirmed(ctx context.Context, t tenantdb.TenantID, e *enrolment, n *stored, answer Confirmation) (Proof, error) {
	proof := Proof{Method: e.Kind, Factor: e.Factor}
	switch e.Kind {
	case TOTP:
		step, ok := matchTOTP(e.Details.Seed, clean(answer.Code), n.ConfirmedAt, 0)
		if !ok {
			return Proof{}, refuse("wrong code")
		}
		n.counter = step // it counts at no sign-in again
	case Passkey:
		if e.Session == nil || len(answer.Credential) == 0 {
			return Proof{}, refuse("no credential")
		}
		k, count, hardware, err := r.registered(&holder{person: e.Person}, e.Session, answer.Credential)
		if err != nil {
			return Proof{}, err
		}
		e.Details.Passkey, n.counter, n.Hardware = k, count, hardware
		proof.Hardware, proof.UserVerified = hardware, k.credential(0).Flags.UserVerified
	default:
		want, err := r.code(ctx, t, e.digest[:], e.Factor, e.sends)
		if err != nil {
			return Proof{}, err
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(clean(answer.Code))) != 1 {
			return Proof{}, refuse("wrong code")
		}
	}
	return proof, nil
}

// add makes the row. What Begin saw is asked again: another factor may have been added since, which a weaker proof must not
// stand beside.
func (r *Room) add(ctx context.Context, tx *tenantdb.Tx, c tenantdb.Caller, e enrolment, n stored, proof Proof) (audit.Event, error) {
	all, kinds, err := r.mayAdd(ctx, &tx.ReadTx, c, e)
	if err != nil {
		return audit.Event{}, err
	}
	if !permitted(kinds, n.Kind, n.Hardware) {
		return audit.Event{}, problem.New(problem.Denied, "The rules of your organisation want a hardware key of a maker that this installation trusts, and this passkey proves none.")
	}
	if n.Kind == TOTP {
		if err := r.keepsWayIn(ctx, &tx.ReadTx, e.Person, append(slices.Clone(all), n), kinds); err != nil {
			return audit.Event{}, err
		}
	}
	there, err := endEnrolment(ctx, tx, e)
	if err != nil {
		return audit.Event{}, err
	}
	if !there {
		return audit.Event{}, noEnrolment()
	}
	var credential []byte
	if k := e.Details.Passkey; k != nil {
		sum := sha256.Sum256(k.ID)
		credential = sum[:]
		owners, err := lookupPasskey(ctx, &tx.ReadTx, sum)
		if err != nil {
			return audit.Event{}, err
		}
		if len(owners) > 0 {
			return audit.Event{}, problem.New(problem.Conflict, "This passkey is registered already.")
		}
	}
	for _, f := range all { // what a reset left has served
		if f.Reset {
			if err := removeFactor(ctx, tx, f.ID); err != nil {
				return audit.Event{}, err
			}
		}
	}
	if err := insertFactor(ctx, tx, e.Person, n, credential); err != nil {
		return audit.Event{}, err
	}
	return r.changed(ctx, tx, Change{Person: e.Person, What: "added", Factor: n.ID, Kind: n.Kind, Proof: proof}, n)
}
