package server

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestEveryColumnIsKnown: every column of bytes is one that the rotation of keys wraps anew, or one of these, which hold nothing that
// Ring.Seal made: else what is in it would end with the key that it is under. Whoever adds one says which.
func TestEveryColumnIsKnown(t *testing.T) {
	t.Parallel()
	others := map[string]string{
		"audit_head.chain": "a hash", "audit_entry.body": "the entry", "audit_entry.leaf": "a hash", "audit_entry.prev": "a hash",
		"audit_entry.sealed": "under the data subject's key (SealFields)", "idempotency.request": "a hash", "agent_key.public_key": "public",
		"signing_key.public_key": "public", "signing_key.private_key": "under the platform key", "api_key_verifier.digest": "a digest", "api_key_finder.finder": "a digest",
		"person.profile": "under the person's key", "invitation.profile": "under the person's key", "link.digest": "a digest", "link.data": "under the person's key",
		"factor.secret": "under the person's key", "factor.credential": "a digest", "recovery_code.digest": "a digest", "attempt.digest": "a digest",
		"attempt.state": "under the person's key; with it, for a quarter of an hour, the hash of a new password as Ring.Seal made it", "session.digest": "a digest",
		"session.description": "under the person's key", "session.client": "a hash", "session.mac": "a MAC", "device.digest": "a digest", "spent.value": "a digest",
		"break_glass.reason": "under the person's key", "break_glass.remark": "under the person's key", "glass_review.text": "under the organisation's own subject's key",
		"own_kms.settings": "as Ring.Seal makes it for the installation, in rows of others (org.RewrapKMS)", "vault_request.reason": "under the person's key", "vault_fetch.digest": "a digest",
		"factor.mark": "of a seed, under the pseudonym key", "vault_item.mark": "as factor.mark",
	}
	s := newSite(t)
	all, err := s.admin.Texts(t.Context(), `SELECT c.relname || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'avouch' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid = 'bytea'::regtype`)
	must(t, err)
	for _, col := range sealedColumns() {
		if !slices.Contains(all, col.Name()) || others[col.Name()] != "" {
			t.Errorf("%s is no column, or of both kinds", col.Name())
		}
		others[col.Name()] = "wrapped anew"
		key := []string{"tenant_id"}
		for _, k := range col.Key {
			key = append(key, k.Column)
		}
		is, err := s.admin.Texts(t.Context(), `SELECT a.attname FROM pg_index i JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k(n, at) ON true
			JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n WHERE i.indrelid = ('avouch.' || $1)::regclass AND i.indisprimary ORDER BY k.at`, col.Table)
		if err != nil || !slices.Equal(is, key) {
			t.Errorf("the key of %s is %v, not %v: %v", col.Table, is, key, err)
		}
	}
	for _, name := range all {
		if others[name] == "" {
			t.Errorf("%s: is it what Ring.Seal made? Then hand it to the rotation (sealedColumns), else say here what it is", name)
		}
		delete(others, name)
	}
	for name := range others {
		t.Errorf("%s: there is no such column", name)
	}
}

// TestRotationReachesEverything: what each room seals is wrapped anew by schedule, and works when the version before is destroyed.
func TestRotationReachesEverything(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *Config) { c.KeyRotation, c.OldKeysKept = 90, 35 })
	acme, ada := h.owner(t, "Acme")
	strange := newBrowser(t, h, "nobody@acme.example")
	nobody := func() int {
		return strange.ask(t, "POST", "/api/v1/sign-in", object{"address": strange.address, "password": goodPassword}).status
	}
	refused := nobody() // which has a hash of nothing in memory from now on
	ada.prove(t)
	ada.ask(t, "POST", "/api/v1/connections", object{"kind": "oidc", "name": "Provider", "oidc": object{"issuer": "https://127.0.0.1:9", "client_id": "avouch", "client_secret": "x"}}).want(t, 201)
	once := ask{Method: "POST", Path: "/api/v1/keys", Key: acme.key, Body: object{"name": "a key", "kind": "service"}, Header: map[string]string{"Idempotency-Key": "once"}}
	first := h.call(t, once).want(t, http.StatusCreated)
	must(t, h.Keys.Flush(t.Context()))
	var id tenantdb.PersonID
	must(t, id.UnmarshalText([]byte(ada.id(t))))
	_, err := h.Glass.SetHook(t.Context(), tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: acme.id, Actor: audit.Actor{Kind: audit.ActorPerson, ID: id.String()}, How: "session:passkey", Scopes: []string{tenantdb.Everything}, RequestID: audit.NewRequestID(),
		Person: &tenantdb.Person{ID: id, ProvedAt: time.Now()},
	}))
	must(t, err)

	item := h.call(t, ask{Method: "POST", Path: "/api/v1/vault/items", Key: acme.key, Body: object{"name": "AWS root", "type": "totp", "secret": rfcSeed}}).want(t, http.StatusCreated)
	code := "/api/v1/vault/items/" + item.text("item_id") + "/code"
	h.get(t, code, acme.key).want(t, 200) // and is remembered

	h.under(t, acme.id, 1)
	must(t, h.Rotation.Tick(t.Context()))
	h.under(t, acme.id, 1) // it is not time
	h.later(91 * 24 * time.Hour)
	for _, d := range []time.Duration{0, 3 * time.Minute, 62 * time.Minute, 36 * 24 * time.Hour} {
		h.later(d)
		must(t, h.Rotation.Tick(t.Context()))
		h.under(t, acme.id, 2)
	}
	for _, tenant := range []tenantdb.TenantID{acme.id, tenantdb.Platform} {
		if e := h.entries(t, tenant, "key_rotation.destroyed"); len(e) != 1 || e[0].Actor.Kind != audit.ActorSystem {
			t.Errorf("%s: %d entries of the end", tenant, len(e))
		}
	}
	h.Ring.ForgetTenant(acme.id)
	h.Ring.ForgetTenant(tenantdb.Platform)
	if now := nobody(); now != refused {
		t.Errorf("who has no password is answered %d, and was %d", now, refused)
	}
	ada.signIn(t, nil)
	h.get(t, code, acme.key).want(t, 200)
	h.ahead.Store(0)
	if again := h.call(t, once).want(t, http.StatusCreated); again.text("key") != first.text("key") {
		t.Error("the answer that was kept is another")
	}
	if o := h.get(t, "/api/v1/organisation", acme.key).want(t, 200); o.text("contact_email") != "owner@acme.example" {
		t.Errorf("the contact is %q", o.text("contact_email"))
	}
	if list := ada.ask(t, "GET", "/api/v1/connections", nil); list.status != 200 || !strings.Contains(list.text, "127.0.0.1:9") {
		t.Errorf("connections: %d %s", list.status, list.text)
	}
}

// under wants something in every column of a tenant, and all of it under a version.
func (h *house) under(t testing.TB, tenant tenantdb.TenantID, version uint32) {
	t.Helper()
	for _, col := range sealedColumns() {
		var found, other int
		must(t, h.DB.Read(t.Context(), tenantdb.System(tenant, "test"), func(tx *tenantdb.ReadTx) error {
			return tx.QueryRow(t.Context(), strings.NewReplacer("T", col.Table, "C", col.Column).Replace(
				`select count(*), count(*) filter (where substring(C from 1 for 13) <> $2) from avouch.T where tenant_id = $1 and C is not null`), tenant, keyring.SealedPrefix(version)).Scan(&found, &other)
		}))
		if found == 0 || other > 0 {
			t.Errorf("%s: %d values, %d of them not under version %d", col.Name(), found, other, version)
		}
	}
}
