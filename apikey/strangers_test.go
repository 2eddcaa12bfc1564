package apikey

import (
	"net/netip"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
)

// An address that sends unknown keys has no more of them looked up for a while; from others, and with known keys from there,
// everything goes on.
func TestUnknownKeysOfOneAddress(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	made, err := f.room.Create(t.Context(), owner, NewKey{Name: "x", Kind: Service})
	if err != nil {
		t.Fatal(err)
	}
	key := made.Secret.Expose()
	r := New(Config{DB: f.DB, Ring: f.Ring, UnknownPerMinute: 3, Now: f.now.Now})
	flood, other := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.9")
	unknown := func() string { raw, _ := mint(Owner, true); return raw.Expose() }
	for n, kind := range []problem.Kind{problem.Unauthenticated, problem.Unauthenticated, problem.Unauthenticated, problem.TooMany} {
		if _, err := r.IdentifyFrom(t.Context(), unknown(), flood); !problem.Is(err, kind) {
			t.Errorf("unknown key %d: %v", n+1, err)
		}
	}
	if _, err := r.IdentifyFrom(t.Context(), unknown(), netip.MustParseAddr("2001:db8::ffff")); !problem.Is(err, problem.TooMany) {
		t.Errorf("from the same network: %v", err)
	}
	if _, err := r.IdentifyFrom(t.Context(), unknown(), other); !problem.Is(err, problem.Unauthenticated) {
		t.Errorf("from another address: %v", err)
	}
	if _, err := r.IdentifyFrom(t.Context(), key, other); err != nil {
		t.Errorf("a key there is: %v", err)
	}
	if _, err := r.IdentifyFrom(t.Context(), key, flood); err != nil {
		t.Errorf("a key that is in memory, from there: %v", err)
	}
	f.now.move(time.Minute)
	if _, err := r.IdentifyFrom(t.Context(), unknown(), flood); !problem.Is(err, problem.Unauthenticated) {
		t.Errorf("a minute later: %v", err)
	}
}

// TestKnownKeyFromAFloodedAddress: whoever sends unknown keys from an address does not stop the keys that were seen to be good
// from working there, however long it lasts; not even what is in memory of them is needed to be young.
func TestKnownKeyFromAFloodedAddress(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	made := f.service(t, owner, NewKey{})
	r := New(Config{DB: f.DB, Ring: f.Ring, UnknownPerMinute: 60, Now: f.now.Now})
	shared := netip.MustParseAddr("192.0.2.9")
	known := func(after time.Duration) {
		t.Helper()
		if _, err := r.IdentifyFrom(t.Context(), made.Secret.Expose(), shared); err != nil {
			t.Fatalf("after %v: %v", after, err)
		}
	}
	known(0)
	const step = 10 * time.Second
	for after := step; after < 4*knownLife; after += step {
		f.now.move(step)
		for range 70 {
			raw, _ := mint(Owner, true)
			if _, err := r.IdentifyFrom(t.Context(), raw.Expose(), shared); err == nil {
				t.Fatal("an unknown key is known")
			}
		}
		known(after)
	}
	_, err := r.IdentifyFrom(t.Context(), forge(made), shared)
	for err != nil && problem.Is(err, problem.Unauthenticated) {
		_, err = r.IdentifyFrom(t.Context(), forge(made), shared)
	}
	want(t, err, problem.TooMany, "wrong secrets of the known key")
}
