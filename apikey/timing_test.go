package apikey

import (
	"crypto/sha256"
	"testing"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/test/alike"
)

// stock is so many keys that there are, as far as a look-up goes: each with an id, a secret and a digest of its own.
func (f fixture) stock(t *testing.T, tenant tenantdb.TenantID, times int) (keys []string) {
	t.Helper()
	var ids []string
	var digests [][]byte
	for range times {
		raw, p := mint(Service, true)
		d, err := f.Ring.KeyDigest(t.Context(), tenant, p.ID, 1, sha256.Sum256([]byte(raw.Expose())), 1, 1)
		must(t, err)
		keys, ids, digests = append(keys, raw.Expose()), append(ids, p.ID), append(digests, d[:])
	}
	f.Admin(t, `ALTER TABLE avouch.api_key_verifier DISABLE TRIGGER ALL`)
	f.Admin(t, `INSERT INTO avouch.api_key_verifier (tenant_id, key_id, digest, issued_at_ns, tenant_version, platform_version)
		SELECT $1, k.id, k.digest, 1, 1, 1 FROM unnest($2::text[], $3::bytea[]) AS k(id, digest)`, tenant.String(), ids, digests)
	f.Admin(t, `ANALYZE avouch.api_key_verifier`)
	return keys
}

// TestUnknownKeyTakesAsLong times the authentication of a key with an id that nobody has, and of one with the wrong secret, the
// secret of its organisation in memory and not; each call has a key of its own. It finds the difference where the work that
// hides it is left out.
func TestUnknownKeyTakesAsLong(t *testing.T) { // not beside others, which would be what it measures
	f := open(t)
	id, _ := f.owner(t, "Acme")
	keys := f.stock(t, id, 5000)
	cfg := f.room.cfg
	cfg.UnknownPerMinute = -1
	refuse := func(ready func(), forged func(n int, other string) string) alike.Kind {
		room := New(cfg)
		return func(n int) func() {
			other, _ := mint(Service, true)
			raw := forged(n, other.Expose())
			ready()
			return func() {
				if _, err := room.Authenticate(t.Context(), raw, web.RequestMeta{}); !problem.Is(err, problem.Unauthenticated) {
					t.Fatal(err)
				}
			}
		}
	}
	kinds := func(ready func()) []alike.Kind {
		return []alike.Kind{
			refuse(ready, func(_ int, other string) string { return other }),
			refuse(ready, func(n int, other string) string {
				body := keys[n][:21] + other[21:64]
				return body + checksum(body)
			}),
		}
	}
	cold, warm := func() { f.Ring.ForgetTenant(id) }, func() { must(t, second(f.Ring.KeyDigest(t.Context(), id, "", 1, [32]byte{}, 1, 1))) }
	for what, ready := range map[string]func(){"in memory": warm, "not in memory": cold} {
		d := alike.Same(len(keys), kinds(ready)...)
		if t.Logf("measured: authentication, an unknown id (0) and a wrong secret (1), the organisation's secret %s: %s", what, d.Found); !d.Alike() {
			t.Errorf("the secret %s: they can be told apart", what)
		}
	}
	cfg.Unhidden = true
	d := alike.Apart(len(keys)/5, kinds(warm)...)
	if t.Logf("measured: the same, in memory, without the work that hides it: %s", d.Found); d.Alike() {
		t.Error("without the work that hides it they cannot be told apart")
	}
}
