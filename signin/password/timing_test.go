package password

import (
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/test/alike"
)

// TestNobodyTakesAsLongSoak times the refusal of somebody who has no password and of a wrong password, and of both with one that cannot be
// any, which who tries it knows. With hashes that cost next to nothing everything beside them stands out, and with real ones nothing
// does. It finds the difference where the work that hides it is left out.
func TestNobodyTakesAsLongSoak(t *testing.T) { // not beside others, which would be what it measures
	ring, id := newRing(t)
	kinds := func(cfg Config, plain string) []alike.Kind {
		r := New(cfg)
		h, err := r.Hash(t.Context(), Stranger, id, tenantdb.PersonID{1}, secret.Text(horse))
		must(t, err)
		refuse := func(s Stored) alike.Kind {
			return func(int) func() {
				// The keys of both are in memory, as they are of an organisation that somebody signs in to.
				_, err := ring.Open(t.Context(), id, tenantdb.PersonID{1}.String(), sealedField, sealedVersion, h.sealed)
				must(t, err)
				_, err = ring.Seal(t.Context(), tenantdb.Platform, "", "", 1, nil)
				must(t, err)
				return func() {
					if ok, _, err := r.Verify(t.Context(), Stranger, s, secret.Text(plain)); ok || err != nil {
						t.Fatal(ok, err)
					}
				}
			}
		}
		return []alike.Kind{refuse(Stored{}), refuse(Stored{hash: h})}
	}
	for what, plain := range map[string]string{"a wrong password": "the snail wore a hat", "one that cannot be": "the snail\xff wore a hat"} {
		d := alike.Same(3000, kinds(Config{Ring: ring, Quick: true}, plain)...)
		if t.Logf("measured: %s of nobody (0) and of somebody (1), with quick hashes: %s", what, d.Found); !d.Alike() {
			t.Errorf("%s: they can be told apart", what)
		}
		d = alike.Apart(1000, kinds(Config{Ring: ring, Quick: true, Unhidden: true}, plain)...)
		if t.Logf("measured: the same without the work that hides it: %s", d.Found); d.Alike() {
			t.Errorf("%s: without the work that hides it they cannot be told apart", what)
		}
		if !soak() {
			continue
		}
		d = alike.Same(30, kinds(Config{Ring: ring, Patience: time.Minute}, plain)...)
		if t.Logf("measured: the same with real hashes: %s", d.Found); !d.Alike() {
			t.Errorf("%s: they can be told apart", what)
		}
	}
}
