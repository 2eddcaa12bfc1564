package verify

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/test/alike"
)

// random is a number of so many digits, with a zero before it.
func random(digits int) string {
	b := []byte{'0'}
	for range digits - 1 {
		b = append(b, byte('0'+rand.IntN(10)))
	}
	return string(b)
}

// stock is so many keys that there are, as far as a look-up goes: each with an id, a secret and a digest of its own.
func (h *house) stock(t *testing.T, tenant tenantdb.TenantID, times int) (keys []string) {
	t.Helper()
	var ids []string
	var digests [][]byte
	for range times {
		key := another("avd_live_", random(11), random(43))
		d, err := h.Ring.KeyDigest(t.Context(), tenant, idOf(key), 1, sha256.Sum256([]byte(key)), 1, 1)
		must(t, err)
		keys, ids, digests = append(keys, key), append(ids, idOf(key)), append(digests, d[:])
	}
	h.Admin(t, `ALTER TABLE avouch.api_key_verifier DISABLE TRIGGER ALL`)
	h.Admin(t, `INSERT INTO avouch.api_key_verifier (tenant_id, key_id, digest, issued_at_ns, tenant_version, platform_version)
		SELECT $1, k.id, k.digest, 1, 1, 1 FROM unnest($2::text[], $3::bytea[]) AS k(id, digest)`, tenant.String(), ids, digests)
	h.Admin(t, `ANALYZE avouch.api_key_verifier`)
	return keys
}

// strangers are texts that are no keys of the service's organisation: an id that nobody has, a wrong secret, and a key of another
// organisation. Each n is another one.
func (h *house) strangers(t *testing.T, times int) (kinds []func(n int) string) {
	mine, theirs := h.stock(t, h.service.Tenant(), times), h.stock(t, h.owner.Tenant(), times)
	for n := range 10 {
		if _, found, err := h.keys.Find(t.Context(), h.owner.Tenant(), theirs[n]); err != nil || !found {
			t.Fatalf("another's key is none: %v", err)
		}
	}
	return []func(n int) string{
		func(int) string { return another("avd_live_", random(11), random(43)) },
		func(n int) string { return another("avd_live_", idOf(mine[n]), random(43)) },
		func(n int) string { return theirs[n] },
	}
}

// TestNoKeyTakesAsLongAsAnother times the search for a key, which is all that could take longer for one kind than for another,
// with the secret of the organisation that asks in memory and with those of both read anew; and finds the difference where the
// work that hides it is left out.
func TestNoKeyTakesAsLongAsAnother(t *testing.T) { // not beside others, which would be what it measures
	h := open(t)
	const times = 5000
	texts := h.strangers(t, times)
	blind := apikey.New(apikey.Config{DB: h.DB, Ring: h.Ring, Now: h.clock.now, Unhidden: true})
	search := func(room *apikey.Room, ready func()) (kinds []alike.Kind) {
		for _, text := range texts {
			kinds = append(kinds, func(n int) func() {
				raw := text(n)
				ready()
				return func() {
					if _, found, err := room.Find(t.Context(), h.service.Tenant(), raw); found || err != nil {
						t.Fatal(found, err)
					}
				}
			})
		}
		return kinds
	}
	warm := func() {
		_, err := h.Ring.KeyDigest(t.Context(), h.service.Tenant(), "", 1, [32]byte{}, 1, 1)
		must(t, err)
	}
	cold := func() { h.Ring.ForgetTenant(h.service.Tenant()); h.Ring.ForgetTenant(h.owner.Tenant()) }
	for what, ready := range map[string]func(){"in memory": warm, "not in memory": cold} {
		d := alike.Same(times, search(h.keys, ready)...)
		if t.Logf("measured: an unknown id (0), a wrong secret (1), another's key (2), secrets %s: %s", what, d.Found); !d.Alike() {
			t.Errorf("secrets %s: they can be told apart", what)
		}
	}
	kinds := search(blind, warm)
	for i, what := range map[int]string{0: "an unknown id", 2: "another's key"} {
		d := alike.Apart(times/5, kinds[i], kinds[1])
		if t.Logf("measured: %s (0) and a wrong secret (1), without the work that hides it: %s", what, d.Found); d.Alike() {
			t.Errorf("without the work that hides it, %s cannot be told from a wrong secret", what)
		}
	}
}

// TestNoKeyIsAnsweredAsFastAsAnother times whole answers over HTTP, commit and all.
func TestNoKeyIsAnsweredAsFastAsAnother(t *testing.T) { // not beside others, which would be what it measures
	h := open(t)
	const times = 1000
	texts := h.strangers(t, times)
	served := httptest.NewServer(h.api)
	defer served.Close()
	var kinds []alike.Kind
	for _, text := range texts {
		kinds = append(kinds, func(n int) func() {
			body := fmt.Sprintf(`{"key":%q}`, text(n))
			return func() {
				q, err := http.NewRequestWithContext(t.Context(), "POST", served.URL+"/api/v1/keys/verify", bytes.NewReader([]byte(body)))
				must(t, err)
				q.Header.Set("Authorization", "Bearer "+h.key)
				q.Header.Set("Content-Type", "application/json")
				r, err := served.Client().Do(q)
				must(t, err)
				defer r.Body.Close()
				if b, err := io.ReadAll(r.Body); err != nil || !bytes.HasPrefix(b, []byte(`{"valid":false,"code":"NOT_FOUND",`)) {
					t.Fatalf("%v %s", err, b)
				}
			}
		})
	}
	d := alike.Same(times, kinds...)
	if t.Logf("measured: an unknown id (0), a wrong secret (1), another's key (2), over HTTP: %s", d.Found); !d.Alike() {
		t.Error("they can be told apart by time")
	}
}
