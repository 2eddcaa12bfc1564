package apikey

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// pepper is a version of a pepper as Config.Pepper takes it.
func pepper(version string) string {
	return version + ":" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(version+"abc", 8)))
}

// outdated are the keys that Risks says to have an old digest.
func (f fixture) outdated(t *testing.T, by tenantdb.Caller) (ids []string) {
	t.Helper()
	found, _, err := f.room.Risks(t.Context(), by, nil, 100)
	must(t, err)
	for _, k := range found {
		if slices.ContainsFunc(k.Risks, func(r Risk) bool { return r.Code == "outdated_digest" }) {
			ids = append(ids, k.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// renewable are keys of each sort, one that is used after a secret was replaced and one that is not.
type renewable struct {
	tenant         tenantdb.TenantID
	owner          tenantdb.Caller
	used, idle     Created
	imports        []Imported // the first is used
	usedBy, idleBy string     // what was imported
}

func (f fixture) renewable(t *testing.T) renewable {
	t.Helper()
	r := renewable{usedBy: "imported and used", idleBy: "imported and idle"}
	r.tenant, r.owner = f.owner(t, "Acme")
	r.used, r.idle = f.service(t, r.owner, NewKey{}), f.service(t, r.owner, NewKey{})
	var err error
	r.imports, err = f.room.Import(t.Context(), r.owner, []Foreign{foreign(r.usedBy, NewKey{}), foreign(r.idleBy, NewKey{})})
	must(t, err)
	return r
}

// useSome uses one key of each sort.
func (f fixture) useSome(t *testing.T, r renewable) {
	t.Helper()
	f.as(t, r.used)
	if id, ok := f.found(t, r.tenant, r.usedBy); !ok || id != r.imports[0].KeyID {
		t.Fatalf("the imported key is found as %q", id)
	}
}

// idle is what Risks is to list: all keys but those that were used.
func (f fixture) idle(t *testing.T, r renewable) (ids []string) {
	t.Helper()
	keys, err := f.room.List(t.Context(), r.owner, Filter{}, nil, 100)
	must(t, err)
	for _, k := range keys {
		if k.ID != r.used.ID && k.ID != r.imports[0].KeyID {
			ids = append(ids, k.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// TestPepperRotation: with a new pepper given beside the old one, all keys work on; those that are used need the old one no
// longer, and the others are known.
func TestPepperRotation(t *testing.T) {
	t.Parallel()
	door := open(t)
	before := on(door.Peppered(t, pepper("1")))
	r := before.renewable(t)
	if ids := before.outdated(t, r.owner); len(ids) != 0 {
		t.Errorf("outdated from the start: %v", ids)
	}
	both := on(door.Peppered(t, pepper("1")+","+pepper("2")))
	if ids := both.outdated(t, r.owner); len(ids) != 5 {
		t.Errorf("outdated after the rotation: %v", ids)
	}
	both.useSome(t, r)
	must(t, both.room.Renew(t.Context()))
	if got, want := both.outdated(t, r.owner), both.idle(t, r); !slices.Equal(got, want) {
		t.Errorf("outdated are %v, want %v", got, want)
	}
	entries := both.OfType(t, r.tenant, "key.redigested")
	if len(entries) != 2 || entries[0].Field("tenant_version") != "1" || entries[0].Field("platform_version") != "65538" {
		t.Errorf("the log has %+v", entries)
	}
	both.useSome(t, r)
	on(door.Peppered(t, pepper("2")+","+pepper("1"))).useSome(t, r)
	must(t, both.room.Renew(t.Context()))
	if n := len(both.OfType(t, r.tenant, "key.redigested")); n != 2 {
		t.Errorf("%d entries: what is up to date is made anew", n)
	}
	after := on(door.Peppered(t, pepper("2")))
	after.useSome(t, r)
	_, err := after.room.Authenticate(t.Context(), r.idle.Secret.Expose(), web.RequestMeta{})
	want(t, err, problem.Unauthenticated, "a key whose pepper is gone")
	if _, ok := after.found(t, r.tenant, r.idleBy); ok {
		t.Error("an imported key is found without its pepper")
	}
	_, err = before.room.Authenticate(t.Context(), forge(r.used), web.RequestMeta{})
	if err == nil {
		t.Error("a wrong secret is let in by a server without the new pepper")
	}
	both.as(t, r.idle) // the old pepper, given again, opens what needs it
}

// TestImportedKeysAndALackingPepper: a server that lacks the newer pepper says nothing of keys that were digested with it, and
// imports none: what it cannot find, it would import once more, also what was revoked.
func TestImportedKeysAndALackingPepper(t *testing.T) {
	t.Parallel()
	door := open(t)
	before, both := on(door.Peppered(t, pepper("1"))), on(door.Peppered(t, pepper("1")+","+pepper("2")))
	r := before.renewable(t)
	both.useSome(t, r)
	must(t, both.room.Renew(t.Context()))
	before = on(door.Peppered(t, pepper("1"))) // with nothing in memory
	for _, raw := range []string{r.usedBy, r.idleBy, "nobody's key at all"} {
		_, _, err := before.room.Find(t.Context(), r.tenant, raw)
		want(t, err, problem.Unavailable, raw)
	}
	must(t, second(both.room.Revoke(t.Context(), r.owner, r.imports[0].KeyID)))
	_, err := before.room.Import(t.Context(), r.owner, []Foreign{foreign(r.usedBy, NewKey{})})
	want(t, err, problem.Unavailable, "import a key that was revoked once more")
	again, err := both.room.Import(t.Context(), r.owner, []Foreign{foreign(r.usedBy, NewKey{})})
	if err != nil || !again[0].There || again[0].KeyID != r.imports[0].KeyID {
		t.Errorf("with both peppers: %+v, %v", again, err)
	}
	if n := both.Text(t, `SELECT count(*)::text FROM avouch.api_key_finder`); n != "2" {
		t.Errorf("%s keys are imported", n)
	}
}

// TestSecretRotation: the same for the organisation's own secret, which is then destroyed.
func TestSecretRotation(t *testing.T) {
	t.Parallel()
	f := open(t)
	r := f.renewable(t)
	version, err := f.room.RenewSecret(t.Context(), tenantdb.System(r.tenant, "operator"))
	if err != nil || version != 2 {
		t.Fatalf("version %d, %v", version, err)
	}
	f.useSome(t, r) // from memory
	elsewhere := on(f.Another(t))
	elsewhere.useSome(t, r)
	made := elsewhere.service(t, r.owner, NewKey{})
	f.as(t, made)
	again, err := elsewhere.room.Import(t.Context(), r.owner, []Foreign{foreign(r.idleBy, NewKey{}), foreign(r.usedBy, NewKey{})})
	if err != nil || !again[0].There || !again[1].There {
		t.Errorf("what was imported under the old secret is imported once more: %+v, %v", again, err)
	}
	must(t, elsewhere.room.Renew(t.Context()))
	idle := slices.DeleteFunc(elsewhere.idle(t, r), func(id string) bool { return id == made.ID })
	if got := elsewhere.outdated(t, r.owner); !slices.Equal(got, idle) {
		t.Errorf("outdated are %v, want %v", got, idle)
	}
	must(t, f.Ring.Destroy(t.Context(), r.tenant, keyring.UseAPIKey, 1))
	last := on(f.Another(t))
	last.useSome(t, r)
	last.as(t, made)
	_, err = last.room.Authenticate(t.Context(), r.idle.Secret.Expose(), web.RequestMeta{})
	want(t, err, problem.Unauthenticated, "a key whose secret is destroyed")
	if _, ok := last.found(t, r.tenant, r.idleBy); ok {
		t.Error("an imported key is found whose secret is destroyed")
	}
}

// TestRenewalThatFails: a digest that cannot be stored is made again at the key's next use, and until then the key works with
// the old one.
func TestRenewalThatFails(t *testing.T) {
	t.Parallel()
	f := open(t)
	r := f.renewable(t)
	must(t, second(f.room.RenewSecret(t.Context(), tenantdb.System(r.tenant, "operator"))))
	f.now.move(knownLife)
	f.useSome(t, r)
	f.Admin(t, `ALTER TABLE avouch.api_key_verifier RENAME TO away`)
	err := f.room.Renew(t.Context())
	f.Admin(t, `ALTER TABLE avouch.away RENAME TO api_key_verifier`)
	if err == nil || errors.Unwrap(err) == nil && !strings.Contains(err.Error(), "apikey.Renew") {
		t.Errorf("Renew: %v", err)
	}
	must(t, f.room.Renew(t.Context())) // has nothing
	if n := len(f.outdated(t, r.owner)); n != 5 {
		t.Errorf("%d keys are outdated", n)
	}
	f.now.move(knownLife)
	f.useSome(t, r)
	must(t, f.room.Renew(t.Context()))
	if n := len(f.outdated(t, r.owner)); n != 3 {
		t.Errorf("%d keys are outdated", n)
	}
	on(f.Another(t)).useSome(t, r)
}

// TestWrongSecretIsNotRenewed: only who proves to have a key has its digest made anew.
func TestWrongSecretIsNotRenewed(t *testing.T) {
	t.Parallel()
	f := open(t)
	r := f.renewable(t)
	must(t, second(f.room.RenewSecret(t.Context(), tenantdb.System(r.tenant, "operator"))))
	_, err := f.room.Authenticate(t.Context(), forge(r.used), web.RequestMeta{})
	want(t, err, problem.Unauthenticated, "a wrong secret")
	if _, ok := f.found(t, r.tenant, forge(r.idle)); ok {
		t.Error("a wrong secret is found")
	}
	if n := len(f.room.renewals.keys); n != 0 {
		t.Errorf("%d digests are made anew for who has no key", n)
	}
	f.now.move(knownLife)
	f.as(t, r.used)
	must(t, f.room.Renew(t.Context()))
	_, err = f.room.Authenticate(t.Context(), forge(r.used), web.RequestMeta{})
	want(t, err, problem.Unauthenticated, "a wrong secret, after it was made anew")
}

// TestRenewedElsewhere: a key whose digest another server has made anew, with a secret that this one has not heard of yet, is
// the key that it was, and not imported twice.
func TestRenewedElsewhere(t *testing.T) {
	t.Parallel()
	f := open(t)
	r := f.renewable(t)
	late := on(f.Another(t))
	late.useSome(t, r)
	must(t, second(f.room.RenewSecret(t.Context(), tenantdb.System(r.tenant, "operator"))))
	f.now.move(knownLife)
	f.useSome(t, r)
	must(t, f.room.Renew(t.Context()))
	late.now.move(knownLife)
	late.useSome(t, r)
	done, err := late.room.Import(t.Context(), r.owner, []Foreign{foreign(r.usedBy, NewKey{}), foreign(r.idleBy, NewKey{})})
	if err != nil || !done[0].There || !done[1].There {
		t.Errorf("imported once more: %+v, %v", done, err)
	}
}

// TestRetiredPepper: a key whose pepper was taken away proves nothing any more, and is refused as an unknown one is. One whose
// pepper this server was not given yet may be good: that is said of it, and nothing is refused.
func TestRetiredPepper(t *testing.T) {
	t.Parallel()
	door := open(t)
	before, after := on(door.Peppered(t, pepper("1"))), on(door.Peppered(t, pepper("2")))
	_, owner := before.owner(t, "Acme")
	old, younger := before.service(t, owner, NewKey{}), after.service(t, owner, NewKey{})
	unknown, _ := mint(Service, true)
	texts := map[string]bool{}
	for what, raw := range map[string]string{"a retired key": old.Secret.Expose(), "its wrong secret": forge(old), "an unknown id": unknown.Expose()} {
		_, err := after.room.Authenticate(t.Context(), raw, web.RequestMeta{})
		want(t, err, problem.Unauthenticated, what)
		texts[err.Error()] = true
	}
	if len(texts) != 1 {
		t.Errorf("refusals differ: %v", texts)
	}
	_, err := before.room.Authenticate(t.Context(), younger.Secret.Expose(), web.RequestMeta{})
	want(t, err, problem.Unavailable, "a key with a pepper that this server was not given yet")
}

// TestRenewalIsNotUndone: a server that has not heard of a renewal takes no digest back to the older secret, neither of what it
// sees now nor of what it saw before.
func TestRenewalIsNotUndone(t *testing.T) {
	t.Parallel()
	f := open(t)
	r := f.renewable(t)
	late := on(f.Another(t))
	late.useSome(t, r)
	operator := tenantdb.System(r.tenant, "operator")
	must(t, second(f.room.RenewSecret(t.Context(), operator)))
	f.now.move(knownLife)
	f.useSome(t, r)
	must(t, f.room.Renew(t.Context()))
	late.now.move(knownLife)
	late.useSome(t, r)
	must(t, late.room.Renew(t.Context()))
	entries := f.OfType(t, r.tenant, "key.redigested")
	if len(entries) != 2 || entries[0].Field("tenant_version") != "2" || entries[1].Field("tenant_version") != "2" {
		t.Errorf("the log has %+v", entries)
	}
	must(t, second(f.room.RenewSecret(t.Context(), operator)))
	f.now.move(knownLife)
	f.useSome(t, r) // made anew with the third, and not stored yet
	must(t, second(late.room.RenewSecret(t.Context(), operator)))
	must(t, f.room.Renew(t.Context()))
	if n := len(f.OfType(t, r.tenant, "key.redigested")); n != 2 {
		t.Errorf("%d entries: what was overtaken is stored", n)
	}
	on(f.Another(t)).useSome(t, r)
}

// TestImportedKeysAreSoughtUnderFewSecrets: however often an organisation's secret is replaced, an imported key is looked for under
// those alone that keys still need.
func TestImportedKeysAreSoughtUnderFewSecrets(t *testing.T) {
	t.Parallel()
	f := open(t)
	r := f.renewable(t)
	pairs := func() (found []keyVersions) {
		must(t, f.DB.Read(t.Context(), r.owner, func(tx *tenantdb.ReadTx) (err error) {
			found, err = findPairs(t.Context(), tx)
			return err
		}))
		return found
	}
	for range 5 {
		must(t, second(f.room.RenewSecret(t.Context(), tenantdb.System(r.tenant, "operator"))))
		f.now.move(knownLife)
		f.useSome(t, r)
		must(t, f.room.Renew(t.Context()))
	}
	if got := pairs(); !slices.Equal(got, []keyVersions{{1, 1}, {6, 1}}) {
		t.Errorf("with an idle key and one in use: %v", got)
	}
	if id, ok := f.found(t, r.tenant, r.idleBy); !ok || id != r.imports[1].KeyID {
		t.Errorf("the idle one is found as %q", id)
	}
	must(t, f.room.Renew(t.Context()))
	if got := pairs(); !slices.Equal(got, []keyVersions{{6, 1}}) {
		t.Errorf("with both in use: %v", got)
	}
}
