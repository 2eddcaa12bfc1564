package keyring

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestOwnKMSModel: whatever is done in whatever order, by two servers, what an organisation has sealed opens if and only if its keys are
// the platform's, or its key management lets it; and what is refused is refused with the problem that says so.
func TestOwnKMSModel(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	stores := 0
	rapid.Check(t, func(rt *rapid.T) {
		stores++
		dir := filepath.Join(base, fmt.Sprint(stores))
		if err := CreateStore(t.Context(), dir, mustWrapper(t, mustPlatform(t, firstPlatformKey), ForKeyStore)); err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		c, kms := newClock(), newCustomer(t)
		rings := []*Ring{ownRing(t, dir, c, kms), ownRing(t, dir, c, kms)}
		id := tenantdb.NewTenantID()
		if err := rings[0].CreateTenant(t.Context(), id); err != nil {
			rt.Fatal(err)
		}
		var sealed [][]byte
		own, lets := false, true
		some := func(rt *rapid.T) *Ring { return rings[rapid.IntRange(0, 1).Draw(rt, "server")] }
		// may is an operation that may be refused for one reason alone.
		may := func(rt *rapid.T, err error) bool {
			if err != nil && !problem.Is(err, problem.TenantKey) {
				rt.Fatalf("%v", err)
			}
			return err == nil
		}
		rt.Repeat(map[string]func(*rapid.T){
			"hand over": func(rt *rapid.T) {
				_, err := some(rt).HandOver(t.Context(), id, testSetting, kms)
				if (err == nil) != lets {
					rt.Fatalf("its key management lets it is %t: %v", lets, err)
				}
				own = own || err == nil
			},
			"take back": func(rt *rapid.T) {
				if err := some(rt).TakeBack(t.Context(), id); err == nil {
					own = false
				} else if lets || !own {
					rt.Fatal(err)
				}
			},
			"revoke":  func(*rapid.T) { kms.revoke(ErrRefused); lets = false },
			"restore": func(*rapid.T) { kms.restore(); lets = true },
			"renew": func(rt *rapid.T) {
				_, err := some(rt).Renew(t.Context(), id, UseWrap)
				may(rt, err)
			},
			"rewrap": func(rt *rapid.T) {
				if _, err := some(rt).Rewrap(t.Context(), nil); err != nil {
					rt.Fatal(err)
				}
			},
			"seal": func(rt *rapid.T) {
				b, err := some(rt).Seal(t.Context(), id, "i", "f", 1, []byte("sealed"))
				if may(rt, err) {
					sealed = append(sealed, b)
				}
			},
			"wait": func(rt *rapid.T) {
				c.advance(time.Duration(rapid.IntRange(1, 20).Draw(rt, "seconds")) * time.Second)
				r := some(rt)
				r.TendOwn(t.Context())
				settled(r, id)
			},
			"": func(rt *rapid.T) {
				for _, b := range sealed {
					plain, err := some(rt).Open(t.Context(), id, "i", "f", 1, b)
					if may(rt, err) && string(plain) != "sealed" {
						rt.Fatalf("%q", plain)
					}
				}
			},
			"a life later": func(rt *rapid.T) {
				for range 3 { // the last asking may be refused because one was a moment ago
					c.advance(ownLife + time.Second)
					for _, r := range rings {
						r.TendOwn(t.Context())
						settled(r, id)
					}
				}
				for _, r := range rings {
					if open := r.Usable(t.Context(), id) == nil; open != (!own || lets) {
						rt.Fatalf("open is %t, where its keys are its own is %t and its key management lets it is %t", open, own, lets)
					}
				}
			},
		})
	})
}
