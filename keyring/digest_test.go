package keyring

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/avouch-dev/avouch/tenantdb"
)

// TestCurrentKeyVersions: what another process replaced or destroyed a moment ago is not used for anything new, whatever is in
// memory here; and who is behind does not take for outdated what is newer.
func TestCurrentKeyVersions(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	clock := newClock()
	late, err := New(ctx, Config{Dir: r.store.dir, Platform: mustPlatform(t, firstPlatformKey+","+secondPlatformKey), Now: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	want := func(what string, version uint32) {
		t.Helper()
		got, platform, err := late.CurrentKeyVersions(ctx, tenant)
		if err != nil || got != version || platform != 2 || !late.InMemory(tenant, version) {
			t.Errorf("%s: %d, %d, %v; want %d", what, got, platform, err, version)
		}
	}
	outdated := func(what string, version, platform uint32, is bool) {
		t.Helper()
		if late.Outdated(ctx, tenant, KeyVersion{version, platform}) != is {
			t.Errorf("%s: %d is outdated: %v, want %v", what, version, !is, is)
		}
	}
	want("at first", 1)
	outdated("at first", 1, 2, false)
	outdated("the older pepper", 1, 1, true)
	if _, err := r.Renew(ctx, tenant, UseAPIKey); err != nil {
		t.Fatal(err)
	}
	outdated("not heard of yet", 1, 2, false)
	want("renewed elsewhere", 2)
	clock.advance(keyLife)
	outdated("heard of", 1, 2, true)
	outdated("heard of", 2, 2, false)
	if err := r.Destroy(ctx, tenant, UseAPIKey, 2); err != nil {
		t.Fatal(err)
	}
	want("destroyed elsewhere", 1)
	if err := r.Destroy(ctx, tenant, UseAPIKey, 1); err != nil {
		t.Fatal(err)
	}
	if got, _, err := late.CurrentKeyVersions(ctx, tenant); !errors.Is(err, ErrDestroyed) {
		t.Errorf("all destroyed elsewhere: %d, %v", got, err)
	}
	if got, _, err := late.CurrentKeyVersions(ctx, tenantdb.NewTenantID()); !errors.Is(err, ErrUnknownTenant) {
		t.Errorf("of a tenant that there is not: %v, %v", got, err)
	}
}

// TestDecoy: what PretendRead reads is made where there is none, as in a store of an earlier release, or where it is lost, and is
// the same for all processes from then on; it is not made anew where it is damaged.
func TestDecoy(t *testing.T) {
	t.Parallel()
	r, _ := newRing(t)
	dir := r.store.tenantDir(tenantdb.TenantID{})
	before := tree(t, dir)
	ringOn(t, r.store.dir, nil)
	if after := tree(t, dir); len(before) != 3 || !maps.Equal(before, after) {
		t.Errorf("it is %v, and was %v", after, before)
	}
	for _, lost := range []string{".", "apikey", "apikey/1"} {
		if err := os.RemoveAll(filepath.Join(dir, lost)); err != nil {
			t.Fatal(err)
		}
		if r.PretendRead(context.Background()) == nil {
			t.Errorf("without %s it is read", lost)
		}
		ringOn(t, r.store.dir, nil)
		if err := r.PretendRead(context.Background()); err != nil {
			t.Errorf("lost was %s: %v", lost, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "apikey", "1"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(context.Background(), Config{Dir: r.store.dir, Platform: mustPlatform(t, firstPlatformKey)}); !errors.Is(err, ErrDamaged) {
		t.Errorf("a damaged one: %v", err)
	}
}
