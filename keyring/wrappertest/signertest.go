package wrappertest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/keyring"
)

// SignerKind is a kind of KMS that holds signing keys, and what can be done to it from outside. What is nil cannot be done.
type SignerKind struct {
	Signer keyring.Signer
	// Disable takes the right to it away, which Enable gives back.
	Disable, Enable func(t *testing.T)
	// Hang makes the service take requests and answer none; it comes last.
	Hang func(t *testing.T)
	// Secrets are what no error may hold.
	Secrets []string
}

// signing is one signer on trial.
type signing struct {
	SignerKind
	t      *testing.T
	errors []error
}

// RunSigner tries what holds signing keys.
func RunSigner(t *testing.T, k SignerKind) {
	t.Helper()
	y := &signing{SignerKind: k, t: t}
	refs := map[string]string{}
	for _, algorithm := range []string{keyring.ES256, keyring.RS256} {
		one, other := y.make(algorithm), y.make(algorithm)
		if one == other {
			t.Errorf("%s: two keys are %s", algorithm, one)
		}
		y.ends(other, algorithm)
		refs[algorithm] = one
	}
	y.refuses(refs)
	for algorithm, ref := range refs {
		y.ends(ref, algorithm)
	}
	y.isSilent()
	for _, err := range y.errors {
		for _, hidden := range y.Secrets {
			if strings.Contains(fmt.Sprint(err), hidden) {
				t.Errorf("an error holds a secret: %.200v", err)
			}
		}
	}
}

// name is of a key that there was not.
func name() string { return "avouch-test-example-" + strings.ToLower(rand.Text()) }

// make makes a key, which signs, for several at once, what verifies with its public part alone.
func (y *signing) make(algorithm string) (ref string) {
	y.t.Helper()
	ref, public, err := y.Signer.Make(y.t.Context(), algorithm, name())
	if err != nil || ref == "" {
		y.t.Fatalf("%s: Make: %v", algorithm, err)
	}
	var done sync.WaitGroup
	for i := range 8 {
		done.Go(func() {
			digest := sha256.Sum256([]byte{byte(i)})
			signature, err := y.Signer.Sign(y.t.Context(), ref, algorithm, digest[:])
			if err != nil || !fits(public, digest[:], signature) {
				y.t.Errorf("%s: what it signs does not verify: %v", algorithm, err)
			}
			if digest[0]++; fits(public, digest[:], signature) {
				y.t.Errorf("%s: the signature is good for anything", algorithm)
			}
		})
	}
	done.Wait()
	return ref
}

// fits is RFC 7518's: of ES256 64 bytes, of RS256 as many as the modulus has.
func fits(public crypto.PublicKey, digest, signature []byte) bool {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		return p.Curve == elliptic.P256() && len(signature) == 64 && ecdsa.Verify(p, digest, new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	case *rsa.PublicKey:
		return p.N.BitLen() == 3072 && rsa.VerifyPKCS1v15(p, crypto.SHA256, digest, signature) == nil
	}
	return false
}

func (y *signing) sign(ref, algorithm string) error {
	digest := sha256.Sum256(nil)
	_, err := y.Signer.Sign(y.t.Context(), ref, algorithm, digest[:])
	y.errors = append(y.errors, err)
	return err
}

// ends: a key that is ended signs no more, and may be ended again.
func (y *signing) ends(ref, algorithm string) {
	y.t.Helper()
	for range 2 {
		if err := y.Signer.End(y.t.Context(), ref); err != nil {
			y.t.Errorf("%s: End: %v", algorithm, err)
		}
	}
	if err := y.sign(ref, algorithm); !errors.Is(err, keyring.ErrRefused) {
		y.t.Errorf("%s: an ended key signs: %v", algorithm, err)
	}
}

// refuses: what there is not, and what is not allowed, is refused and not silent.
func (y *signing) refuses(refs map[string]string) {
	y.t.Helper()
	if _, _, err := y.Signer.Make(y.t.Context(), "none", name()); !errors.Is(err, keyring.ErrRefused) {
		y.t.Errorf("a key for no algorithm: %v", err)
	}
	for _, ref := range []string{"", "../sys", "nobody's key"} {
		err, end := y.sign(ref, keyring.ES256), y.Signer.End(y.t.Context(), ref)
		if !errors.Is(err, keyring.ErrRefused) || !errors.Is(end, keyring.ErrRefused) {
			y.t.Errorf("%q signs and ends: %v, %v", ref, err, end)
		}
	}
	if y.Disable == nil {
		return
	}
	y.Disable(y.t)
	_, _, err := y.Signer.Make(y.t.Context(), keyring.ES256, name())
	for what, err := range map[string]error{"Make": err, "Sign": y.sign(refs[keyring.ES256], keyring.ES256), "End": y.Signer.End(y.t.Context(), refs[keyring.RS256])} {
		if y.errors = append(y.errors, err); !errors.Is(err, keyring.ErrRefused) || errors.Is(err, keyring.ErrSilent) {
			y.t.Errorf("%s, which is not allowed: %v", what, err)
		}
	}
	y.Enable(y.t)
	for algorithm, ref := range refs {
		if err := y.sign(ref, algorithm); err != nil {
			y.t.Errorf("%s, which is allowed again: %v", algorithm, err)
		}
	}
}

// isSilent: whoever waits for what does not come is told so in time, and heeded when gone.
func (y *signing) isSilent() {
	y.t.Helper()
	ref := y.make(keyring.ES256)
	over, cancel := context.WithCancel(y.t.Context())
	cancel()
	digest := sha256.Sum256(nil)
	if _, err := y.Signer.Sign(over, ref, keyring.ES256, digest[:]); !errors.Is(err, context.Canceled) || !errors.Is(err, keyring.ErrSilent) {
		y.t.Errorf("for a caller who is gone: %v", err)
	}
	y.Hang(y.t)
	began := time.Now()
	if err := y.sign(ref, keyring.ES256); !errors.Is(err, keyring.ErrSilent) || time.Since(began) > patience {
		y.t.Errorf("while it hangs, after %s: %v", time.Since(began), err)
	}
	hurry, cancel := context.WithTimeout(y.t.Context(), 50*time.Millisecond)
	defer cancel()
	began = time.Now()
	if _, err := y.Signer.Sign(hurry, ref, keyring.ES256, digest[:]); !errors.Is(err, keyring.ErrSilent) || time.Since(began) > patience/10 {
		y.t.Errorf("for a caller in a hurry, after %s: %v", time.Since(began), err)
	}
}
