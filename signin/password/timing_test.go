package password

import (
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/test/alike"
)

// TestNobodyTakesAsLongSoak times the refusal of somebody who has no password, of a wrong password and of one that cannot be any. With
// hashes that cost next to nothing everything beside them stands out, and with real ones nothing does. It finds the difference
// where the work that hides it is left out.
func TestNobodyTakesAsLongSoak(t *testing.T) {
	t.Parallel()
	ring, id := newRing(t)
	kinds := func(cfg Config) []alike.Kind {
		r := New(cfg)
		h, err := r.Hash(t.Context(), Stranger, id, tenantdb.PersonID{1}, secret.Text(horse))
		must(t, err)
		refuse := func(s Stored, plain string) alike.Kind {
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
		return []alike.Kind{refuse(Stored{}, "the snail wore a hat"), refuse(Stored{hash: h}, "the snail wore a hat"), refuse(Stored{hash: h}, "the snail\xff wore a hat")}
	}
	d := alike.Same(4000, kinds(Config{Ring: ring, Quick: true})...)
	if t.Logf("measured: nobody's password (0), a wrong one (1) and one that cannot be (2), with quick hashes: %s", d.Found); !d.Alike() {
		t.Error("they can be told apart")
	}
	d = alike.Apart(1000, kinds(Config{Ring: ring, Quick: true, Unhidden: true})...)
	if t.Logf("measured: the same without the work that hides it: %s", d.Found); d.Alike() {
		t.Error("without the work that hides it they cannot be told apart")
	}
	if !soak() {
		return
	}
	d = alike.Same(40, kinds(Config{Ring: ring, Patience: time.Minute})...)
	if t.Logf("measured: the same with real hashes: %s", d.Found); !d.Alike() {
		t.Error("they can be told apart")
	}
}
