package keyring

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// endless wraps into more bytes than a key's file has room for the length of.
type endless struct{ KeyWrapper }

func (e endless) Wrap(ctx context.Context, key secret.Bytes, b Binding) (Wrapped, error) {
	w, err := e.KeyWrapper.Wrap(ctx, key, b)
	w.Blob = append(make([]byte, 1<<16), w.Blob...)
	return w, err
}

func (e endless) Unwrap(ctx context.Context, w Wrapped, b Binding) (secret.Bytes, error) {
	if len(w.Blob) > 1<<16 {
		w.Blob = w.Blob[1<<16:]
	}
	return e.KeyWrapper.Unwrap(ctx, w, b)
}

// TestNewKeysAreProved: a key does not count before what was wrapped has opened as that key: one bad answer of a KMS ends nothing.
func TestNewKeysAreProved(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, bad := range map[string]func(KeyWrapper) KeyWrapper{
		"another key": func(w KeyWrapper) KeyWrapper { return forgetful{w} },
		"too long":    func(w KeyWrapper) KeyWrapper { return endless{w} },
		"damaged":     func(w KeyWrapper) KeyWrapper { return garbling{w} },
	} {
		r, tenant := newRing(t)
		own := newTenant(t, r)
		kms := newCustomer(t)
		handOver(t, r, own, kms)
		r.own = func(context.Context, tenantdb.TenantID, SettingID) (KeyWrapper, error) { return kms, nil }
		sealed, err := r.Seal(ctx, tenant, "item", "f", 1, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		good := r.wrapper
		r.wrapper = bad(good)
		anew := tenantdb.NewTenantID()
		held, noted := Deletion{At: start, Since: start}, newTenant(t, ringOn(t, r.store.dir, nil))
		if err := ringOn(t, r.store.dir, nil).NoteDeletion(ctx, noted, held); err != nil {
			t.Fatal(err)
		}
		_, renew := r.Renew(ctx, tenant, UseWrap)
		_, ownRenew := r.Renew(ctx, own, UseWrap)
		_, signing := newSigningKey(ctx, r.wrapper, agents)
		for what, err := range map[string]error{
			"CreateTenant": r.CreateTenant(ctx, anew), "Renew": renew, "RenewTo": r.RenewTo(ctx, tenant, UseSubjects, 2), "Renew of an organisation with its own KMS": ownRenew,
			"a note": r.NoteDeletion(ctx, noted, Deletion{At: start, Since: start, TakenBack: true}), "a first note": r.NoteUnneeded(ctx, noted, Unneeded{2, 2, start}),
			"a signing key": signing, "CreateStore": CreateStore(ctx, filepath.Join(t.TempDir(), "other"), r.wrapper),
		} {
			if err == nil {
				t.Errorf("%s: %s is made", name, what)
			}
		}
		r.wrapper = good
		if _, _, err := r.Versions(anew, UseWrap); !errors.Is(err, ErrUnknownTenant) {
			t.Errorf("%s: a tenant is made: %v", name, err)
		}
		for _, n := range []keyName{{tenant: tenant, use: UseWrap}, {tenant: tenant, use: UseSubjects}, {tenant: own, use: UseWrap}} {
			if live, last, err := r.Versions(n.tenant, n.use); live != 1 || last != 1 || err != nil {
				t.Errorf("%s: version %d, %d of %s, %v", name, live, last, n.use, err)
			}
		}
		if d, err := r.Deletion(ctx, noted); err != nil || d != held {
			t.Errorf("%s: the note says %+v, %v", name, d, err)
		}
		if since, err := r.Unneeded(ctx, noted, 2, 2); err != nil || !since.IsZero() {
			t.Errorf("%s: a note says %v, %v", name, since, err)
		}
		if b, err := r.Open(ctx, tenant, "item", "f", 1, sealed); err != nil || string(b) != "x" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		for _, id := range []tenantdb.TenantID{tenant, own} {
			if err := r.RenewTo(ctx, id, UseWrap, 2); err != nil {
				t.Errorf("%s: afterwards: %v", name, err)
			}
		}
	}
}

// garbling gives a ciphertext that nothing opens.
type garbling struct{ KeyWrapper }

func (g garbling) Wrap(ctx context.Context, key secret.Bytes, b Binding) (Wrapped, error) {
	w, err := g.KeyWrapper.Wrap(ctx, key, b)
	w.Blob[0] ^= 1
	return w, err
}
