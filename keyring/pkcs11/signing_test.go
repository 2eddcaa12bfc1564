//go:build pkcs11

package pkcs11

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/wrappertest"
)

// TestSigner: the token holds signing keys as every KMS does.
func TestSigner(t *testing.T) {
	t.Parallel()
	w := newWrapper(t, "signing", "none")
	w.token.timeout = 8 * time.Second // making an RSA key takes a while
	wrappertest.RunSigner(t, wrappertest.SignerKind{
		Signer: w, Secrets: []string{pin},
		Hang: func(*testing.T) {
			for range sessions { // all are at work, and come to no end
				<-w.token.free
			}
		},
	})
}

// TestSigningKeysStay: what Make makes has never been outside of the token and cannot be taken out; its label says whose it is; both
// halves go.
func TestSigningKeysStay(t *testing.T) {
	t.Parallel()
	m := newMaker(t, "signing")
	w := newWrapper(t, "signing", "none")
	ref, public, err := w.Make(t.Context(), keyring.ES256, "avouch-test-1")
	if err != nil {
		t.Fatal(err)
	}
	id, err := hex.DecodeString(ref)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := m.s.of(pkcs11.CKO_PRIVATE_KEY, id)
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	if got, err := m.s.ctx.GetAttributeValue(m.s.handle, keys[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)}); err == nil {
		t.Errorf("the token gives the key away: %d bytes", len(got[0].Value))
	}
	if err := m.s.stays(keys[0]); err != nil {
		t.Error(err)
	}
	label, err := m.s.ctx.GetAttributeValue(m.s.handle, keys[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, nil)})
	if err != nil || string(label[0].Value) != "avouch-test-1 "+keyring.Thumbprint(public) {
		t.Errorf("%q, %v", label[0].Value, err)
	}
	if err := w.End(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
		if left, err := m.s.of(class, id); err != nil || len(left) != 0 {
			t.Errorf("%d objects of class %d are left, %v", len(left), class, err)
		}
	}
	// One that can leave the token is not taken for one that Make has made.
	leaving := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
	}
	_, private, err := m.s.ctx.GenerateKeyPair(m.s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)},
		[]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, p256)}, leaving)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.s.stays(private); err == nil || !strings.Contains(err.Error(), "could leave") {
		t.Errorf("one that can leave: %v", err)
	}
}
