package awskms

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/wrappertest"
)

// TestSigner: the service holds signing keys as every KMS does, against a server that checks signatures and rights.
func TestSigner(t *testing.T) {
	t.Parallel()
	m := newMoto(t)
	admin, avouch := m.newUser("admin", "*"), m.newUser("avouch", "kms:*")
	m.checkSignatures()
	f := newFront(t, m.URL)
	c, err := avouch.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wrappertest.RunSigner(t, wrappertest.SignerKind{
		Signer: m.wrapper(f.URL, m.newKey(admin), avouch), Hang: f.hang, Secrets: []string{c.SecretAccessKey},
		Disable: func(*testing.T) { m.permit(admin, "avouch", "s3:*") }, Enable: func(*testing.T) { m.permit(admin, "avouch", "kms:*") },
	})
}

// TestSDKAgreesOnSigning: the SDK's own client sees the key as it was to be made, checks what it signs, and sees it go.
func TestSDKAgreesOnSigning(t *testing.T) {
	t.Parallel()
	m := newMoto(t)
	w, sdk := m.wrapper(m.URL, m.newKey(anyone), anyone), m.sdk(anyone)
	ref, public, err := w.Make(t.Context(), keyring.ES256, "avouch-test-1")
	if err != nil {
		t.Fatal(err)
	}
	d, err := sdk.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &ref})
	if err != nil || d.KeyMetadata.KeySpec != types.KeySpecEccNistP256 || d.KeyMetadata.KeyUsage != types.KeyUsageTypeSignVerify || *d.KeyMetadata.Description != "avouch-test-1 "+keyring.Thumbprint(public) {
		t.Fatalf("%+v, %v", d, err)
	}
	tags, err := sdk.ListResourceTags(t.Context(), &kms.ListResourceTagsInput{KeyId: &ref})
	if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].TagKey != "avouch" || *tags.Tags[0].TagValue != "signing" {
		t.Errorf("%+v, %v", tags, err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := sdk.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: &ref}); err != nil || string(p.PublicKey) != string(der) {
		t.Errorf("another public key: %v", err)
	}
	digest := sha256.Sum256([]byte("x"))
	theirs, err := sdk.Sign(t.Context(), &kms.SignInput{KeyId: &ref, Message: digest[:], MessageType: types.MessageTypeDigest, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := keyring.FromDER(theirs.Signature); err != nil || len(raw) != 64 {
		t.Errorf("what the SDK was given: %x, %v", raw, err)
	}
	if err := w.End(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	d, err = sdk.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &ref})
	if err != nil || d.KeyMetadata.KeyState != types.KeyStatePendingDeletion {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestMakeLeavesNothing: a key that is another than was to be made, or that cannot be named, is ended; so is the second of two ends fine,
// as the service has it.
func TestMakeLeavesNothing(t *testing.T) {
	t.Parallel()
	m := newMoto(t)
	f := newFront(t, m.URL)
	w := m.wrapper(f.URL, m.newKey(anyone), anyone)
	for _, operation := range []string{"GetPublicKey", "UpdateKeyDescription"} {
		f.set(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), "."+operation) {
				return false
			}
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{"__type": "AccessDeniedException"})
			return true
		})
		if _, _, err := w.Make(t.Context(), keyring.ES256, "avouch-spoiled"); !errors.Is(err, keyring.ErrRefused) {
			t.Errorf("without %s: %v", operation, err)
		}
	}
	f.set(nil)
	all, err := m.sdk(anyone).ListKeys(t.Context(), &kms.ListKeysInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all.Keys {
		d, err := m.sdk(anyone).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: k.KeyArn})
		if err != nil || d.KeyMetadata.KeyUsage == types.KeyUsageTypeSignVerify && d.KeyMetadata.KeyState != types.KeyStatePendingDeletion {
			t.Errorf("%+v is left, %v", d.KeyMetadata, err)
		}
	}
	ref, _, err := w.Make(t.Context(), keyring.ES256, "avouch-one")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.End(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".ScheduleKeyDeletion") {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": "KMSInvalidStateException"})
		return true
	})
	if err := w.End(t.Context(), ref); err != nil {
		t.Errorf("one that is ended already: %v", err)
	}
	other, _, err := w.Make(t.Context(), keyring.ES256, "avouch-two")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.End(t.Context(), other); !errors.Is(err, keyring.ErrRefused) {
		t.Errorf("one that is in another state: %v", err)
	}
	elsewhere := strings.Replace(ref, region, "us-east-1", 1)
	if _, err := w.Sign(t.Context(), elsewhere, keyring.ES256, make([]byte, 32)); !errors.Is(err, keyring.ErrRefused) {
		t.Errorf("a key of another region: %v", err)
	}
}
