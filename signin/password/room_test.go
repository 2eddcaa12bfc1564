package password

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

const horse = "correct horse battery staple"

type fixture struct {
	*doortest.Door
	room *Room
	id   tenantdb.TenantID
	by   tenantdb.Caller
	ada  tenantdb.PersonID
}

func open(t *testing.T) fixture {
	t.Helper()
	d := doortest.Open(t)
	d.Install(t)
	id := d.Tenant(t, "Acme")
	f := fixture{d, New(Config{Ring: d.Ring, Quick: true}), id, d.Caller(id), tenantdb.PersonID{}}
	f.ada = f.person(t)
	return f
}

func (f fixture) person(t *testing.T) tenantdb.PersonID {
	t.Helper()
	p := audit.NewSubjectID()
	f.Admin(t, `ALTER TABLE avouch.person DISABLE TRIGGER ALL`)
	f.Admin(t, `INSERT INTO avouch.person (tenant_id, person_id, address, profile, created_at) VALUES ($1, $2, $3, '', now())`, f.id.String(), p.String(), fmt.Sprintf("%x", p)[:26])
	return p
}

// change runs fn as a change that the log has an entry of.
func (f fixture) change(t *testing.T, fn func(context.Context, *tenantdb.Tx) error) error {
	t.Helper()
	return f.DB.Change(t.Context(), f.by, func(tx *tenantdb.Tx) (audit.Event, error) {
		return audit.Event{Type: "test.changed"}, fn(t.Context(), tx)
	})
}

func (f fixture) hash(t *testing.T, p tenantdb.PersonID, plain string) Hash {
	t.Helper()
	h, err := f.room.Hash(t.Context(), Stranger, f.id, p, secret.Text(plain))
	must(t, err)
	return h
}

func (f fixture) store(t *testing.T, p tenantdb.PersonID, plain string) {
	t.Helper()
	h := f.hash(t, p, plain)
	must(t, f.change(t, func(ctx context.Context, tx *tenantdb.Tx) error { return f.room.Store(ctx, tx, p, h) }))
}

func (f fixture) load(t *testing.T, p tenantdb.PersonID) (s Stored) {
	t.Helper()
	must(t, f.DB.Read(t.Context(), f.by, func(tx *tenantdb.ReadTx) (err error) {
		s, err = f.room.Load(t.Context(), tx, p)
		return err
	}))
	return s
}

func (f fixture) verify(t *testing.T, s Stored, plain string) (ok, outdated bool) {
	t.Helper()
	ok, outdated, err := f.room.Verify(t.Context(), Stranger, s, secret.Text(plain))
	must(t, err)
	return ok, outdated
}

// TestPassword: the last one stored is right, in every way to type it, and nothing else is, until it ends.
func TestPassword(t *testing.T) {
	t.Parallel()
	f := open(t)
	none := f.load(t, f.ada)
	if !none.IsZero() {
		t.Error("there is a password before there is one")
	}
	if ok, _ := f.verify(t, none, ""); ok {
		t.Error("nobody's password is right")
	}
	f.store(t, f.ada, horse)
	first := f.load(t, f.ada)
	allow := func(s Stored, plain string) {
		t.Helper()
		if ok, outdated := f.verify(t, s, plain); !ok || outdated {
			t.Errorf("%q: right %v, outdated %v", plain, ok, outdated)
		}
	}
	deny := func(s Stored, plain string) {
		t.Helper()
		if ok, outdated := f.verify(t, s, plain); ok || outdated {
			t.Errorf("%q: right %v, outdated %v", plain, ok, outdated)
		}
	}
	allow(first, horse)
	for _, wrong := range []string{"", "correct horse battery stapl", horse + " ", "Correct horse battery staple", horse + "\x00", "\xff", strings.Repeat("a", MostBytes+1), "correct  horse battery staple"} {
		deny(first, wrong)
	}
	f.store(t, f.ada, "Gru\u0308n ist das Mai\u00a0gras")
	second := f.load(t, f.ada)
	allow(second, "Gr\u00fcn ist das Mai gras")
	deny(second, horse)
	if second.ChangedAt.Before(first.ChangedAt) || second.ChangedAt.IsZero() {
		t.Errorf("it was changed at %v, after %v", second.ChangedAt, first.ChangedAt)
	}
	for want := range 2 {
		must(t, f.change(t, func(ctx context.Context, tx *tenantdb.Tx) error {
			n, err := f.room.End(ctx, tx, f.ada, "left")
			if n != 1-want {
				t.Errorf("%d passwords ended", n)
			}
			return err
		}))
	}
	if !f.load(t, f.ada).IsZero() {
		t.Error("the password did not end")
	}
}

// TestHashIsOnePersons: it can be stored for nobody else, and a row that somebody copied in the database opens for nobody else.
func TestHashIsOnePersons(t *testing.T) {
	t.Parallel()
	f := open(t)
	bob, other := f.person(t), f.Tenant(t, "Other")
	h := f.hash(t, f.ada, horse)
	for why, err := range map[string]error{
		"another person": f.change(t, func(ctx context.Context, tx *tenantdb.Tx) error { return f.room.Store(ctx, tx, bob, h) }),
		"no hash":        f.change(t, func(ctx context.Context, tx *tenantdb.Tx) error { return f.room.Store(ctx, tx, f.ada, Hash{}) }),
		"another organisation": f.DB.Change(t.Context(), f.Caller(other), func(tx *tenantdb.Tx) (audit.Event, error) {
			return audit.Event{Type: "test.changed"}, f.room.Store(t.Context(), tx, f.ada, h)
		}),
	} {
		if !errors.Is(err, errNotTheirs) {
			t.Errorf("%s: %v", why, err)
		}
	}
	f.store(t, f.ada, horse)
	f.store(t, bob, "the snail wore a hat")
	f.Admin(t, `ALTER TABLE avouch.password DISABLE TRIGGER ALL`)
	f.Admin(t, `UPDATE avouch.password SET hash = (SELECT hash FROM avouch.password WHERE person_id = $1) WHERE person_id = $2`, bob.String(), f.ada.String())
	if ok, _, err := f.room.Verify(t.Context(), Stranger, f.load(t, f.ada), secret.Text("the snail wore a hat")); ok || !errors.Is(err, keyring.ErrSealed) {
		t.Errorf("another's hash opens: %v, %v", ok, err)
	}
}

// TestHashIsSealed: the row shows nothing of the hash, and neither does a value that is printed.
func TestHashIsSealed(t *testing.T) {
	t.Parallel()
	f := open(t)
	h := f.hash(t, f.ada, horse)
	s := Stored{hash: h}
	for _, printed := range []string{fmt.Sprintf("%v %+v %#v %s", h, h, h, h), fmt.Sprintf("%v %+v", s, s), string(h.sealed)} {
		if strings.Contains(printed, "argon2") || strings.Contains(printed, "horse") || strings.Contains(printed, fmt.Sprintf("%x", h.sealed[40:60])) {
			t.Errorf("%s", printed)
		}
	}
	text, err := f.Ring.Open(t.Context(), f.id, f.ada.String(), sealedField, sealedVersion, h.sealed)
	if must(t, err); !strings.HasPrefix(string(text), "$argon2id$v=19$") {
		t.Errorf("what is sealed is %s", text)
	}
}

// TestOutdatedHashes are told once the password was right, and replaced unless it was changed meanwhile.
func TestOutdatedHashes(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.store(t, f.ada, horse)
	old := f.load(t, f.ada)
	quickly := f.room
	f.room = New(Config{Ring: f.Ring, FIPS: true})
	if ok, outdated := f.verify(t, old, "the snail wore a hat"); ok || outdated {
		t.Error("a wrong password is right, or tells of the hash")
	}
	ok, outdated := f.verify(t, old, horse)
	if !ok || !outdated {
		t.Fatalf("a hash of another kind: right %v, outdated %v", ok, outdated)
	}
	fresh := f.hash(t, f.ada, horse)
	upgrade := func(s Stored, want bool) {
		t.Helper()
		must(t, f.change(t, func(ctx context.Context, tx *tenantdb.Tx) error {
			done, err := f.room.Upgrade(ctx, tx, s, fresh)
			if done != want {
				t.Errorf("it was replaced: %v", done)
			}
			return err
		}))
	}
	upgrade(old, true)
	now := f.load(t, f.ada)
	if ok, outdated := f.verify(t, now, horse); !ok || outdated || !now.ChangedAt.Equal(old.ChangedAt) {
		t.Errorf("after that: right %v, outdated %v, changed at %v and before at %v", ok, outdated, now.ChangedAt, old.ChangedAt)
	}
	f.room = quickly
	f.store(t, f.ada, "the snail wore a hat")
	upgrade(now, false)
	if ok, _ := f.verify(t, f.load(t, f.ada), "the snail wore a hat"); !ok {
		t.Error("an old password came back")
	}
	err := f.change(t, func(ctx context.Context, tx *tenantdb.Tx) error {
		_, err := f.room.Upgrade(ctx, tx, Stored{}, fresh)
		return err
	})
	if !errors.Is(err, errNotTheirs) {
		t.Errorf("an upgrade of nothing: %v", err)
	}
}

// TestOthersSeeNoPassword: an organisation sees those of its own people.
func TestOthersSeeNoPassword(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.store(t, f.ada, horse)
	f.by = f.Caller(f.Tenant(t, "Other"))
	if !f.load(t, f.ada).IsZero() {
		t.Error("another organisation reads it")
	}
	must(t, f.change(t, func(ctx context.Context, tx *tenantdb.Tx) error {
		n, err := f.room.End(ctx, tx, f.ada, "no reason")
		if n != 0 {
			t.Error("another organisation ends it")
		}
		return err
	}))
}

// TestBusy: while all permits are taken, who verifies is told to come back, and a real hash gives its permit back.
func TestBusy(t *testing.T) {
	t.Parallel()
	ring, id := newRing(t)
	r := New(Config{Ring: ring, Permits: 1, Patience: time.Millisecond})
	must(t, r.permits.take(t.Context(), Stranger))
	_, _, err := r.Verify(t.Context(), KnownDevice, Stored{}, secret.Text(horse))
	refused(t, err)
	_, err = r.Hash(t.Context(), Stranger, id, tenantdb.PersonID{1}, secret.Text(horse))
	refused(t, err)
	if c := r.Counts(); c.Refused != 2 || c.Waiting != 0 || c.Failed != 0 {
		t.Errorf("the counts are %+v", c)
	}
	r.permits.give()
	h, err := r.Hash(t.Context(), Stranger, id, tenantdb.PersonID{1}, secret.Text(horse))
	must(t, err)
	r.permits.patience = time.Minute
	ok, outdated, err := r.Verify(t.Context(), Stranger, Stored{hash: h}, secret.Text(horse))
	if must(t, err); !ok || outdated {
		t.Errorf("right %v, outdated %v", ok, outdated)
	}
	if _, err := r.Hash(t.Context(), Stranger, id, tenantdb.PersonID{1}, secret.Text("\xff")); !errors.Is(err, ErrUnfit) {
		t.Errorf("what is no text has a hash: %v", err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	r := New(Config{})
	personal := []string{"Ada Lovelace", "ada@engines.example", "Analytical Engines"}
	for _, good := range []string{horse, "пять старых велосипедов", "vK8#qLw2!zRt", "🐌🐌 wore a red hat", strings.Repeat(horse+" ", 36)[:MostBytes-1] + "x"} {
		if err := r.Check(t.Context(), secret.Text(good), personal...); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for bad, says := range map[string]string{
		"": "at least 12 characters", "vK8#qLw2!zR": "at least 12 characters", "ü\u0308ü\u0308ü\u0308ü\u0308ü\u0308": "at least 12 characters", strings.Repeat("a", MostBytes+1): "at most 1024 bytes",
		"a bell\x07 in the tower": "control characters", "\xff\xfe is no text at all": "control characters", "Password1234!": "known to others", "AdaLovelace1815": "your own name",
	} {
		err := r.Check(t.Context(), secret.Text(bad), personal...)
		e := problem.Of(err)
		if e == nil || e.Kind != problem.Invalid || len(e.Fields) != 1 || e.Fields[0].Location != "body.password" || !strings.Contains(e.Detail, says) {
			t.Errorf("%q: %v", bad, err)
		}
		if bad != "" && err != nil && strings.Contains(err.Error(), bad) {
			t.Errorf("the refusal quotes %q", bad)
		}
	}
}
