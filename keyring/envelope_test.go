package keyring

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/tenantdb"
)

func TestSealOpens(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		item, field, version := rapid.String().Draw(t, "item"), rapid.String().Draw(t, "field"), rapid.Uint64().Draw(t, "version")
		sealed, err := r.Seal(ctx, tenant, item, field, version, plain)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Open(ctx, tenant, item, field, version, sealed); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("opens as %q: %v", got, err)
		}
		if len(plain) > 8 && bytes.Contains(sealed, plain) {
			t.Fatal("the plaintext is in the sealed value")
		}
		item2, field2 := rapid.String().Draw(t, "item2"), rapid.String().Draw(t, "field2")
		if item2 != item || field2 != field {
			if _, err := r.Open(ctx, tenant, item2, field2, version, sealed); !errors.Is(err, ErrSealed) {
				t.Fatalf("opens as %q/%q: %v", item2, field2, err)
			}
		}
	})
}

func TestSealedValueIsBoundToItsPlace(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	other := newTenant(t, r)
	sealed, err := r.Seal(ctx, tenant, "item-1", "seed", 7, []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	for what, open := range map[string]func() ([]byte, error){
		"tenant":          func() ([]byte, error) { return r.Open(ctx, other, "item-1", "seed", 7, sealed) },
		"item":            func() ([]byte, error) { return r.Open(ctx, tenant, "item-2", "seed", 7, sealed) },
		"field":           func() ([]byte, error) { return r.Open(ctx, tenant, "item-1", "note", 7, sealed) },
		"version":         func() ([]byte, error) { return r.Open(ctx, tenant, "item-1", "seed", 8, sealed) },
		"shifted lengths": func() ([]byte, error) { return r.Open(ctx, tenant, "item-1s", "eed", 7, sealed) },
	} {
		if got, err := open(); !errors.Is(err, ErrSealed) || got != nil {
			t.Errorf("with another %s: %q, %v", what, got, err)
		}
	}
	eachByteMatters(t, sealed, func(b []byte) error {
		_, err := r.Open(ctx, tenant, "item-1", "seed", 7, b)
		return err
	})
	if v, err := SealedUnder(sealed); v != 1 || err != nil {
		t.Errorf("SealedUnder = %d, %v", v, err)
	}
}

func TestEachSealHasItsOwnDataKey(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	h, err := r.key(ctx, heldName{tenant, UseWrap, 0})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 50 {
		sealed, err := r.Seal(ctx, tenant, "i", "f", 1, []byte("same"))
		if err != nil {
			t.Fatal(err)
		}
		w, body, err := parseEnvelope(sealed)
		if err != nil {
			t.Fatal(err)
		}
		key, err := unwrapUnder(h.aead, w, Binding{tenant, "i"})
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{string(key.Expose()), string(w.Blob[:12]), string(body[:12])} {
			if seen[part] {
				t.Fatal("a data key or a nonce came twice")
			}
			seen[part] = true
		}
	}
}

func TestSealForUnknownTenant(t *testing.T) {
	t.Parallel()
	r, _ := newRing(t)
	if _, err := r.Seal(context.Background(), tenantdb.NewTenantID(), "i", "f", 1, nil); !errors.Is(err, ErrUnknownTenant) {
		t.Error(err)
	}
}

func FuzzParseEnvelope(f *testing.F) {
	r, tenant := newRing(f)
	sealed, err := r.Seal(context.Background(), tenant, "i", "f", 1, []byte("plain"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte(envelopeMagic + wrappedMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, body, err := parseEnvelope(b)
		if err == nil && !bytes.Equal(append(w.append([]byte(envelopeMagic)), body...), b) {
			t.Errorf("%x does not read back", b)
		}
		if got, err := r.Open(context.Background(), tenant, "i", "f", 1, b); err == nil && !bytes.Equal(b, sealed) {
			t.Errorf("%x opens as %q", b, got)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	r, tenant := newRing(b)
	for b.Loop() {
		if _, err := r.Seal(context.Background(), tenant, "item", "field", 1, make([]byte, 32)); err != nil {
			b.Fatal(err)
		}
	}
}
