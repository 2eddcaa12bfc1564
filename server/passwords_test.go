package server

import (
	"crypto/fips140"
	"crypto/sha1" //nolint:gosec // lists of breached passwords are of these
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/signin"
	"github.com/avouch-dev/avouch/signin/password"
	"github.com/avouch-dev/avouch/tenantdb"
)

// refusedPasswords tries passwords that nobody should have at a door where one is set.
func refusedPasswords(t testing.TB, door, breached string, set func(plain string) reply) {
	t.Helper()
	for what, c := range map[string]struct{ plain, said string }{
		"short": {"tin of blue", "at least 12 characters"}, "common": {"passwordpassword", "known to others"}, "of the operator's file": {breached, "known to others"},
		"the person's name": {"Katharina-Obermoser-1", "your own name"}, "the person's address": {"Steinwender-1", "your own name"}, "the organisation": {"Blaufeld-2026", "your own name"},
	} {
		if r := set(c.plain); r.status != 400 || !strings.Contains(r.text, c.said) {
			t.Errorf("%s, %s: %d %s", door, what, r.status, r.text)
		}
	}
}

// TestNewPasswordsAreChecked: wherever somebody sets a password, one that others know or try first is refused, and what one came with
// is not used up by that.
func TestNewPasswordsAreChecked(t *testing.T) {
	t.Parallel()
	const breached = "a brass lamp by the quay, 1987"
	file := filepath.Join(t.TempDir(), "breached")
	_, err := password.Import{Out: file}.From(t.Context(), strings.NewReader(fmt.Sprintf("%X:7\n", sha1.Sum([]byte(breached))))) //nolint:gosec // as above
	must(t, err)
	h := newHouse(t, func(c *Config) { c.Breached.File = file })
	org, ada := h.owner(t, "Blaufeld")
	in, err := h.Org.InviteOwner(t.Context(), tenantdb.System(org.id, "operator"), "k.steinwender@elsewhere.example", "Kat")
	must(t, err)
	kat := newBrowser(t, h, in.Address)
	link := h.linkOf(t, org.id, in.ID)
	join := func(plain string) reply {
		return kat.ask(t, "POST", "/api/v1/join", object{"do": "join", "link": link, "name": "Katharina Obermoser", "password": plain})
	}
	refusedPasswords(t, "joining", breached, join)
	kat.enrol(t, join(goodPassword).want(t, 200)["attempt"].(string))

	change := func(plain string) reply {
		return kat.ask(t, "PUT", "/api/v1/password", object{"old": goodPassword, "new": plain})
	}
	refusedPasswords(t, "changing", breached, change)
	if r := change("another long password, 9"); r.status != 204 {
		t.Errorf("%d %s", r.status, r.text)
	}

	h.later(time.Hour)
	link = kat.recovery(t, org.id, kat.personID(t))
	renew := func(plain string) reply {
		return h.stranger(t, kat).ask(t, "POST", "/api/v1/recovery/finish", object{"link": link, "password": plain})
	}
	refusedPasswords(t, "recovering", breached, renew)
	renew("yet another password, 10").want(t, 200)
	ada.ask(t, "GET", "/api/v1/session", nil).want(t, 200)
}

// hash is how a person's password is kept.
func (h *house) hash(t testing.TB, tenant tenantdb.TenantID, p tenantdb.PersonID) (phc string, changed time.Time) {
	t.Helper()
	var sealed []byte
	must(t, h.DB.Read(t.Context(), tenantdb.System(tenant, "test"), func(tx *tenantdb.ReadTx) error {
		return tx.QueryRow(t.Context(), `SELECT hash, changed_at FROM avouch.password WHERE tenant_id = $1 AND person_id = $2`, tenant, p).Scan(&sealed, &changed)
	}))
	plain, err := h.Ring.Open(t.Context(), tenant, p.String(), "password", 1, sealed)
	must(t, err)
	return string(plain), changed
}

// TestHashIsMadeAnewAtSignIn: who signs in with a password that was hashed more cheaply has it hashed as it is done now, and notices
// nothing.
func TestHashIsMadeAnewAtSignIn(t *testing.T) {
	t.Parallel()
	s, h, now := newSite(t), &house{}, &house{}
	h.live = s.start(t, development(&h.ahead))
	acme, ada := h.owner(t, "Acme")
	id := ada.personID(t)
	was, changed := h.hash(t, acme.id, id)
	if !strings.HasPrefix(was, "$argon2id$v=19$m=64,t=1,") {
		t.Fatalf("at first: %s", was)
	}
	now.live = s.start(t, development(&h.ahead), func(c *Config) {
		c.quick, c.Strangers = false, func(p *password.Config, _ *signin.Config) { p.Patience = time.Minute }
	})
	later := newBrowser(t, now, ada.address)
	later.password(t, "wrong, but long enough").want(t, 401)
	if still, _ := now.hash(t, acme.id, id); still != was {
		t.Errorf("a wrong password changed the hash: %s", still)
	}
	later.password(t, goodPassword).want(t, 200)
	want := "$argon2id$v=19$m=65536,t=3,p=1$"
	if fips140.Enabled() {
		want = "$pbkdf2-sha256$i=600000,l=32$"
	}
	anew, at := now.hash(t, acme.id, id)
	if !strings.HasPrefix(anew, want) || !at.Equal(changed) {
		t.Errorf("after a sign-in: %s, changed at %s, and before %s", anew, at, changed)
	}
	later.password(t, goodPassword).want(t, 200)
	if again, _ := now.hash(t, acme.id, id); again != anew {
		t.Errorf("hashed once more: %s", again)
	}
	ada.ask(t, "GET", "/api/v1/session", nil).want(t, 200)
}
