package mfa

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// assert asks for a passkey and gives the authenticator's answer, which a test may change.
func (f *fixture) assert(t testing.TB, a *authenticator, asked Asked, changes ...func(*Answer)) (Proof, error) {
	t.Helper()
	q, state, err := f.ask(t, f.room, asked)
	must(t, err)
	answer := Answer{Attempt: asked.Attempt, State: state, Person: asked.Person, Assertion: a.get(t, q.Options)}
	for _, change := range changes {
		change(&answer)
	}
	return f.prove(t, f.other, answer)
}

func TestPasskey(t *testing.T) {
	t.Parallel()
	f := open(t)
	key := newAuthenticator()
	made := f.passkey(t, f.ada, key)
	if made.Kind != Passkey || made.Hardware || string(key.handle) != string(f.ada[:]) {
		t.Errorf("made %+v, for %x", made, key.handle)
	}
	second := newAuthenticator()
	f.passkey(t, f.ada, second)
	asked := Asked{Attempt: attempt("a"), Person: f.ada, Factor: made.ID}
	for range 2 { // it does not count, which is fine
		if p, err := f.assert(t, key, asked); err != nil || p != (Proof{Method: Passkey, Factor: made.ID, UserVerified: true}) {
			t.Errorf("%+v, %v", p, err)
		}
	}
	if p, err := f.assert(t, second, asked); err != nil || p.Factor == made.ID {
		t.Errorf("another passkey of the person: %+v, %v", p, err)
	}
	key.verifies = false
	if p, err := f.assert(t, key, asked); err != nil || p.UserVerified {
		t.Errorf("without verification: %+v, %v", p, err)
	}
	asked.Verify = true
	if _, err := f.assert(t, key, asked); !refused(err) {
		t.Errorf("without verification where it is wanted: %v", err)
	}
}

func TestForgedAssertions(t *testing.T) {
	t.Parallel()
	f := open(t)
	key := newAuthenticator()
	made := f.passkey(t, f.ada, key)
	asked := Asked{Attempt: attempt("a"), Person: f.ada, Factor: made.ID}
	eve := f.person(t, f.tenant, "eve@example.com")
	hers := newAuthenticator()
	f.passkey(t, eve, hers)
	_, old, err := f.ask(t, f.room, asked)
	must(t, err)
	f.clock.pass(time.Minute)
	for says, attack := range map[string]func() (Proof, error){
		"on another site": func() (Proof, error) {
			a := *key
			a.origin = "https://avouch.example.evil.test"
			return f.assert(t, &a, asked)
		},
		"of another port":          func() (Proof, error) { a := *key; a.origin += ":8443"; return f.assert(t, &a, asked) },
		"over plain HTTP":          func() (Proof, error) { a := *key; a.origin = "http://avouch.example"; return f.assert(t, &a, asked) },
		"for another party":        func() (Proof, error) { a := *key; a.rp = "example"; return f.assert(t, &a, asked) },
		"by another key":           func() (Proof, error) { a := *key; a.key = hers.key; return f.assert(t, &a, asked) },
		"of another person":        func() (Proof, error) { return f.assert(t, hers, asked) },
		"with another's handle":    func() (Proof, error) { a := *key; a.handle = hers.handle; return f.assert(t, &a, asked) },
		"that became able to sync": func() (Proof, error) { a := *key; a.synced = true; return f.assert(t, &a, asked) },
		"to another challenge":     func() (Proof, error) { return f.assert(t, key, asked, func(a *Answer) { a.State = old }) },
		"to none":                  func() (Proof, error) { return f.assert(t, key, asked, func(a *Answer) { a.State = nil }) },
		"that is a registration": func() (Proof, error) {
			return f.assert(t, key, asked, func(a *Answer) {
				a.Assertion = json.RawMessage(strings.Replace(string(a.Assertion), "signature", "x", 1))
			})
		},
		"of a megabyte": func() (Proof, error) {
			return f.assert(t, key, asked, func(a *Answer) { a.Assertion = append(a.Assertion, make([]byte, 1<<20)...) })
		},
		"after ten minutes": func() (Proof, error) {
			return f.assert(t, key, asked, func(*Answer) { f.clock.pass(CodeLife + time.Second) })
		},
	} {
		if p, err := attack(); !refused(err) || p.Method != "" {
			t.Errorf("an assertion %s: %+v, %v", says, p, err)
		}
	}
	if _, err := f.assert(t, key, asked); err != nil {
		t.Errorf("one that is right: %v", err)
	}
}

// A count that goes back is a copy: refused, in the log, and the person is told.
func TestClonedPasskey(t *testing.T) {
	t.Parallel()
	f := open(t)
	key := newAuthenticator()
	key.counts = true
	made := f.passkey(t, f.ada, key)
	asked := Asked{Attempt: attempt("a"), Person: f.ada, Factor: made.ID}
	copied := *key
	for range 3 {
		if _, err := f.assert(t, key, asked); err != nil {
			t.Fatal(err)
		}
	}
	for _, says := range []string{"behind", "still behind", "level"} {
		if _, err := f.assert(t, &copied, asked); !refused(err) {
			t.Errorf("a copy that is %s: %v", says, err)
		}
	}
	copied.count, copied.counts = 0, false
	if _, err := f.assert(t, &copied, asked); !refused(err) {
		t.Errorf("a copy that counts no more: %v", err)
	}
	found := f.OfType(t, f.tenant, "factor.cloned")
	if len(found) != 4 || found[0].Target.ID != made.ID.String() || found[0].Outcome != audit.Denied || found[0].Field("person_id") != f.ada.String() {
		t.Errorf("the log says %+v", found)
	}
	told := f.mails(t, mail.FactorChanged)
	if last := told[len(told)-1]; !strings.Contains(last.What, "copy") || last.To != "ada@example.com" {
		t.Errorf("the person was told %+v", last)
	}
	if _, err := f.assert(t, key, asked); err != nil {
		t.Errorf("the passkey itself: %v", err)
	}
}

func TestPasswordless(t *testing.T) {
	t.Parallel()
	f := open(t)
	key := newAuthenticator()
	made := f.passkey(t, f.ada, key)
	try := func(a *authenticator, as tenantdb.PersonID) (Owner, Proof, error) {
		q, state, err := f.room.AskPasskey(t.Context())
		must(t, err)
		if strings.Contains(string(q.Options), "allowCredentials") || !strings.Contains(string(q.Options), `"userVerification":"required"`) {
			t.Errorf("asked %s", q.Options)
		}
		answer := a.get(t, q.Options)
		who, err := f.other.FindPasskey(t.Context(), answer)
		if err != nil {
			return who, Proof{}, err
		}
		if !as.IsZero() {
			who.Person = as
		}
		p, err := f.prove(t, f.other, Answer{Attempt: attempt("a"), State: state, Person: who.Person, Assertion: answer})
		if err == nil {
			if _, err := f.prove(t, f.room, Answer{Attempt: attempt("b"), State: state, Person: who.Person, Assertion: answer}); !refused(err) {
				t.Errorf("the same again: %v", err)
			}
		}
		return who, p, err
	}
	if who, p, err := try(key, tenantdb.PersonID{}); err != nil || who != (Owner{f.tenant, f.ada, made.ID}) || !p.UserVerified || p.Factor != made.ID {
		t.Errorf("%+v, %+v, %v", who, p, err)
	}
	eve := f.person(t, f.tenant, "eve@example.com")
	hers := newAuthenticator()
	f.passkey(t, eve, hers)
	if _, _, err := try(hers, f.ada); !refused(err) {
		t.Errorf("as somebody else: %v", err)
	}
	for says, change := range map[string]func(*authenticator){
		"nobody's":          func(a *authenticator) { a.id = []byte("unknown credential") },
		"without a handle":  func(a *authenticator) { a.handle = nil },
		"another's handle":  func(a *authenticator) { a.handle = eve[:] },
		"a handle too long": func(a *authenticator) { a.handle = append(a.handle[:16:16], 0) },
		"without verifying": func(a *authenticator) { a.verifies = false },
		"of another key":    func(a *authenticator) { a.key = hers.key },
	} {
		a := *key
		change(&a)
		if _, _, err := try(&a, tenantdb.PersonID{}); !refused(err) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// Credential ids are the authenticator's choice. Who registers somebody else's id gets nothing, and takes nothing.
func TestRegisteredTwice(t *testing.T) {
	t.Parallel()
	f := open(t)
	key := newAuthenticator()
	f.passkey(t, f.ada, key)
	thief := newAuthenticator()
	thief.id = key.id
	eve := f.person(t, f.tenant, "eve@example.com")
	if _, err := f.register(t, f.as(eve, Passkey), thief); !isKind(err, problem.Conflict) {
		t.Errorf("another person of the organisation: %v", err)
	}
	abroad := &fixture{Door: f.Door, clock: f.clock, members: f.members, room: f.room, other: f.other, tenant: f.Tenant(t, "Other")}
	mallory := abroad.person(t, abroad.tenant, "mallory@example.com")
	if _, err := abroad.register(t, abroad.as(mallory, Passkey), thief); !isKind(err, problem.Conflict) {
		t.Errorf("a person of another organisation: %v", err)
	}
	// Two at the same time in two organisations can both be made: then the handle decides.
	abroad.passkey(t, mallory, newAuthenticator())
	sum := sha256.Sum256(key.id)
	abroad.exec(t, `UPDATE avouch.factor SET credential = $1 WHERE person_id = $2`, sum[:], mallory)
	q, _, err := f.room.AskPasskey(t.Context())
	must(t, err)
	for _, p := range []tenantdb.PersonID{f.ada, mallory} {
		key.handle = p[:]
		if who, err := f.room.FindPasskey(t.Context(), key.get(t, q.Options)); err != nil || who.Person != p {
			t.Errorf("found %+v, %v", who, err)
		}
	}
}

func TestForgedRegistrations(t *testing.T) {
	t.Parallel()
	f := open(t)
	eve := f.person(t, f.tenant, "eve@example.com")
	for says, change := range map[string]func(*authenticator){
		"on another site":   func(a *authenticator) { a.origin = "https://evil.test" },
		"for another party": func(a *authenticator) { a.rp = "evil.test" },
	} {
		a := newAuthenticator()
		change(a)
		if _, err := f.register(t, f.as(f.ada, "password"), a); !isKind(err, problem.Invalid) {
			t.Errorf("a registration %s: %v", says, err)
		}
	}
	b, err := f.room.Begin(t.Context(), f.as(f.ada, "password"), Wanted{Kind: Passkey})
	must(t, err)
	other, err := f.room.Begin(t.Context(), f.as(f.ada, "password"), Wanted{Kind: Passkey})
	must(t, err)
	answer := newAuthenticator().create(t, b.Options)
	if _, err := f.room.Confirm(t.Context(), f.as(f.ada, "password"), other.ID, Confirmation{Credential: answer}); !isKind(err, problem.Invalid) {
		t.Errorf("to another challenge: %v", err)
	}
	if _, err := f.room.Confirm(t.Context(), f.as(eve, "password"), b.ID, Confirmation{Credential: answer}); !isKind(err, problem.Missing) {
		t.Errorf("by another person: %v", err)
	}
	if _, err := f.room.Confirm(t.Context(), f.as(f.ada, "password"), b.ID, Confirmation{Credential: answer}); err != nil {
		t.Error(err)
	}
	if _, err := f.other.Confirm(t.Context(), f.as(f.ada, Passkey), b.ID, Confirmation{Credential: answer}); !isKind(err, problem.Missing) {
		t.Errorf("again: %v", err)
	}
}

// Only what a trusted maker attests is hardware.
func TestHardware(t *testing.T) {
	t.Parallel()
	var model, another [16]byte
	rand.Read(model[:])
	rand.Read(another[:])
	good, unknown := newMaker(t), newMaker(t)
	f := open(t, func(c *Config) { c.HardwareRoots, c.HardwareModels = good.pool(), [][16]byte{model} })
	for says, c := range map[string]struct {
		change func(*authenticator)
		want   bool
	}{
		"attested by its maker":       {func(a *authenticator) { a.maker = good }, true},
		"attested by another maker":   {func(a *authenticator) { a.maker = unknown }, false},
		"of another model":            {func(a *authenticator) { a.maker, a.model = good, another }, false},
		"that attests itself":         {func(a *authenticator) { a.self = true }, false},
		"that attests nothing":        {func(*authenticator) {}, false},
		"that can be backed up":       {func(a *authenticator) { a.maker, a.synced = good, true }, false},
		"attested, without verifying": {func(a *authenticator) { a.maker, a.verifies = good, false }, true},
	} {
		a := newAuthenticator()
		a.model = model
		c.change(a)
		p := f.person(t, f.tenant, "a@example.com")
		made, err := f.register(t, f.as(p, "password"), a)
		if err != nil || made.Hardware != c.want {
			t.Errorf("a passkey %s: %+v, %v", says, made, err)
			continue
		}
		if proof, err := f.assert(t, a, Asked{Person: p, Factor: made.ID}); err != nil || proof.Hardware != c.want {
			t.Errorf("a passkey %s: %+v, %v", says, proof, err)
		}
	}
	f.members.rule(true, Hardware)
	soft, hard := newAuthenticator(), newAuthenticator()
	hard.maker, hard.model = good, model
	p := f.person(t, f.tenant, "b@example.com")
	if _, err := f.register(t, f.as(p, "password", MethodEnrol), soft); !isKind(err, problem.Denied) {
		t.Errorf("where the rules want hardware, a passkey without: %v", err)
	}
	if _, err := f.register(t, f.as(p, "password", MethodEnrol), hard); err != nil {
		t.Errorf("where the rules want hardware, one: %v", err)
	}
	trusting := open(t)
	a := newAuthenticator()
	a.maker, a.model = good, model
	if made := trusting.passkey(t, trusting.ada, a); made.Hardware {
		t.Error("without trusted makers a passkey is hardware")
	}
}

func TestNoPasskeysOnAddresses(t *testing.T) {
	t.Parallel()
	for public, want := range map[string]string{
		"https://avouch.example": "", "http://localhost:8080": "", "https://192.0.2.7": "IP address", "https://[2001:db8::1]:8443": "IP address", "http://avouch.example": "https",
	} {
		u, err := url.Parse(public)
		must(t, err)
		ok, why := New(Config{PublicURL: u}).Passkeys()
		if ok != (want == "") || !strings.Contains(why, want) {
			t.Errorf("%s: %v, %s", public, ok, why)
		}
	}
	f := open(t, func(c *Config) { c.PublicURL = &url.URL{Scheme: "https", Host: "192.0.2.7"} })
	if _, err := f.register(t, f.as(f.ada, "password"), newAuthenticator()); !isKind(err, problem.Invalid) || !strings.Contains(problem.Of(err).Detail, "IP address") {
		t.Errorf("%v", err)
	}
	if _, _, err := f.room.AskPasskey(t.Context()); !isKind(err, problem.Invalid) {
		t.Errorf("%v", err)
	}
}
