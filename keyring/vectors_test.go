package keyring

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// vectors were made by an independent implementation (Python, pyca/cryptography) from the comments of this package. They
// never change: a format that changes gets a new magic and vectors of its own.
type vectors struct {
	PlatformKey string            `json:"platform_key"`
	Derived     map[string]hexKey `json:"derived"`
	Tenant      tenantdb.TenantID `json:"tenant"`
	Subject     audit.SubjectID   `json:"subject"`
	KeyFile     struct {
		Use     Use    `json:"use"`
		Version uint32 `json:"version"`
		Key     hexKey `json:"key"`
		Content hexKey `json:"content"`
	} `json:"key_file"`
	Envelope struct {
		WrapKey    hexKey `json:"wrap_key"`
		KeyVersion uint32 `json:"key_version"`
		Item       string `json:"item"`
		Field      string `json:"field"`
		Version    uint64 `json:"version"`
		Plaintext  hexKey `json:"plaintext"`
		Sealed     hexKey `json:"sealed"`
		Commitment hexKey `json:"commitment"`
	} `json:"envelope"`
	Fields struct {
		SubjectKey hexKey `json:"subject_key"`
		AAD        hexKey `json:"aad"`
		Plaintext  hexKey `json:"plaintext"`
		Sealed     hexKey `json:"sealed"`
	} `json:"fields"`
	Digest struct {
		TenantKey  hexKey `json:"tenant_key"`
		Pepper     hexKey `json:"pepper"`
		KeyID      string `json:"key_id"`
		IssuedAtNS int64  `json:"issued_at_ns"`
		H0         hexKey `json:"h0"`
		Digest     hexKey `json:"digest"`
	} `json:"digest"`
	Pseudonym struct {
		Key                 hexKey
		Kind, ID, Pseudonym string
	} `json:"pseudonym"`
	Derive struct {
		Key     hexKey
		Purpose string
		Message hexKey
		Derived hexKey
	} `json:"derive"`
	Thumbprint struct{ X, Y, KID string } `json:"thumbprint"`
}

type hexKey []byte

func (h *hexKey) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func (h hexKey) secret() secret.Bytes { return secret.Own(slices.Clone(h)) }

func readVectors(t *testing.T) (v vectors) {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// vectorRing is a ring whose tenant's wrapping key is the file of the vectors.
func vectorRing(t *testing.T, v vectors) *Ring {
	t.Helper()
	r := ringOn(t, newStoreDir(t), nil)
	if err := r.CreateTenant(context.Background(), v.Tenant); err != nil {
		t.Fatal(err)
	}
	file := r.store.file(keyName{tenant: v.Tenant, use: v.KeyFile.Use}, v.KeyFile.Version)
	if err := os.WriteFile(file, v.KeyFile.Content, 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVectorsOfPlatformAndStore(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	p := mustPlatform(t, v.PlatformKey)
	for use, want := range v.Derived {
		if key, err := p.derive(use, 1); err != nil || !bytes.Equal(key.Expose(), want) {
			t.Errorf("derived for %q: another key, %v", use, err)
		}
	}
	h, err := vectorRing(t, v).key(context.Background(), heldName{v.Tenant, v.KeyFile.Use, v.KeyFile.Version})
	if err != nil || !bytes.Equal(h.key.Expose(), v.KeyFile.Key) {
		t.Errorf("key file: %v", err)
	}
	w, err := decodeKeyFile(v.KeyFile.Content)
	if err != nil || !bytes.Equal(encodeKeyFile(w), v.KeyFile.Content) {
		t.Errorf("a key file is not written as it is read: %v", err)
	}
}

func TestVectorsOfSealedForms(t *testing.T) {
	t.Parallel()
	v, ctx := readVectors(t), context.Background()
	r := vectorRing(t, v)
	e := v.Envelope
	if got, err := r.Open(ctx, v.Tenant, e.Item, e.Field, e.Version, e.Sealed); err != nil || !bytes.Equal(got, e.Plaintext) {
		t.Errorf("envelope: %q, %v", got, err)
	}
	if got, err := Commitment(e.Sealed, e.Version); err != nil || !bytes.Equal(got[:], e.Commitment) {
		t.Errorf("commitment %x, want %x: %v", got, e.Commitment, err)
	}
	if got, err := Commitment(e.Sealed, e.Version+1); err != nil || bytes.Equal(got[:], e.Commitment) {
		t.Errorf("of another version, the commitment is %x: %v", got, err)
	}
	wrap, err := r.key(ctx, heldName{v.Tenant, UseSubjects, 0})
	if err != nil {
		t.Fatal(err)
	}
	n := keyName{v.Tenant, usePerson, v.Subject}
	subject := wrapUnder(wrap.aead, string(UseSubjects), wrap.version, v.Fields.SubjectKey.secret(), Binding{v.Tenant, n.item(1)})
	if _, err := r.store.create(n, 1, subject); err != nil {
		t.Fatal(err)
	}
	if got, err := r.OpenFields(ctx, v.Tenant, v.Subject, v.Fields.Sealed, v.Fields.AAD); err != nil || !bytes.Equal(got, v.Fields.Plaintext) {
		t.Errorf("fields: %q, %v", got, err)
	}
}

func TestVectorsOfDigestAndNames(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	d, p := v.Digest, v.Pseudonym
	if got := keyDigest(d.TenantKey.secret(), d.Pepper.secret(), v.Tenant, d.KeyID, d.IssuedAtNS, [32]byte(d.H0)); !bytes.Equal(got[:], d.Digest) {
		t.Errorf("digest %x, want %x", got, d.Digest)
	}
	if got := pseudonym(p.Key.secret(), p.Kind, p.ID); got != p.Pseudonym {
		t.Errorf("pseudonym %s, want %s", got, p.Pseudonym)
	}
	if got := derived(v.Derive.Key.secret(), v.Derive.Purpose, v.Derive.Message); !bytes.Equal(got[:], v.Derive.Derived) {
		t.Errorf("derived %x, want %x", got, v.Derive.Derived)
	}
	x, _ := base64.RawURLEncoding.DecodeString(v.Thumbprint.X)
	y, _ := base64.RawURLEncoding.DecodeString(v.Thumbprint.Y)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
	if err != nil || keyID(key) != v.Thumbprint.KID {
		t.Errorf("kid: %v, want %s", err, v.Thumbprint.KID)
	}
}

func TestKeyDigest(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	other := newTenant(t, r)
	tv, pv, err := r.CurrentKeyVersions(ctx, tenant)
	if err != nil || tv != 1 || pv != 1 {
		t.Fatal(tv, pv, err)
	}
	digest := func(r *Ring, tenant tenantdb.TenantID, id string, at int64, h0 byte) [32]byte {
		t.Helper()
		d, err := r.KeyDigest(ctx, tenant, id, at, [32]byte{h0}, tv, pv)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	one := digest(r, tenant, "0123456789A", 7, 1)
	if digest(ringOn(t, r.store.dir, nil), tenant, "0123456789A", 7, 1) != one {
		t.Error("another server has another digest")
	}
	for what, d := range map[string][32]byte{
		"tenant": digest(r, other, "0123456789A", 7, 1), "id": digest(r, tenant, "0123456789B", 7, 1), "time": digest(r, tenant, "0123456789A", 8, 1),
		"key": digest(r, tenant, "0123456789A", 7, 2),
	} {
		if d == one {
			t.Errorf("another %s, the same digest", what)
		}
	}
	for what, v := range map[string][2]uint32{"tenant version": {2, 1}, "no tenant version": {0, 1}, "platform version": {1, 2}, "no platform version": {1, 0}} {
		if _, err := r.KeyDigest(ctx, tenant, "0123456789A", 7, [32]byte{1}, v[0], v[1]); err == nil {
			t.Errorf("with another %s there is a digest", what)
		}
	}
}

func TestPepperVersions(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	before, err := r.KeyDigest(ctx, tenant, "id", 1, [32]byte{}, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	with := func(platform, pepper string) *Ring {
		t.Helper()
		ring, err := New(ctx, Config{Dir: r.store.dir, Platform: mustPlatform(t, platform), Pepper: ownSecret(pepper)})
		if err != nil {
			t.Fatal(err)
		}
		return ring
	}
	own := with(firstPlatformKey, firstPlatformKey)
	if _, v, err := own.CurrentKeyVersions(ctx, tenant); err != nil || v != ownPepper+1 {
		t.Errorf("the given pepper has version %d: %v", v, err)
	}
	if d, err := own.KeyDigest(ctx, tenant, "id", 1, [32]byte{}, 1, 1); err != nil || d != before {
		t.Errorf("a pepper given later changes digests made before: %v", err)
	}
	if d, err := own.KeyDigest(ctx, tenant, "id", 1, [32]byte{}, 1, ownPepper+1); err != nil || d == before {
		t.Errorf("the given pepper is not used: %v", err)
	}
	rotated := with(firstPlatformKey+","+secondPlatformKey, "")
	if d, err := rotated.KeyDigest(ctx, tenant, "id", 1, [32]byte{}, 1, 1); err != nil || d != before {
		t.Errorf("a new platform key changes digests made before: %v", err)
	}
	if _, v, _ := rotated.CurrentKeyVersions(ctx, tenant); v != 2 {
		t.Errorf("after a rotation new keys get version %d", v)
	}
}

func TestPseudonym(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	other, seen := newTenant(t, r), map[string]bool{}
	for _, of := range []tenantdb.TenantID{tenant, other} {
		for _, kindAndID := range [][2]string{{"person", "a"}, {"person", "b"}, {"agent", "a"}, {"persona", ""}, {"", "persona"}} {
			p, err := r.Pseudonym(ctx, of, kindAndID[0], kindAndID[1])
			if err != nil || len(p) != 26 || seen[p] {
				t.Errorf("%v: %q, %v, seen %v", kindAndID, p, err, seen[p])
			}
			seen[p] = true
			if again, _ := r.Pseudonym(ctx, of, kindAndID[0], kindAndID[1]); again != p {
				t.Error("not stable")
			}
		}
	}
}

// TestPretendedWorkNeedsTheStore: where no secret could be read, no key is refused as one that is not there.
func TestPretendedWorkNeedsTheStore(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	if err := errors.Join(r.PretendRead(ctx), r.PretendDigest(ctx, "0123456789A", [32]byte{})); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(r.store.dir, r.store.dir+"-away"); err != nil {
		t.Fatal(err)
	}
	_, real := r.KeyDigest(ctx, tenant, "0123456789A", 1, [32]byte{}, 1, 1)
	for what, err := range map[string]error{"a real one": real, "PretendRead": r.PretendRead(ctx), "PretendDigest": r.PretendDigest(ctx, "0123456789A", [32]byte{})} {
		if err == nil {
			t.Errorf("%s does without the key store", what)
		}
	}
}

func BenchmarkKeyDigest(b *testing.B) {
	r, tenant := newRing(b)
	for b.Loop() {
		if _, err := r.KeyDigest(context.Background(), tenant, "0123456789A", 1, [32]byte{}, 1, 1); err != nil {
			b.Fatal(err)
		}
	}
}
