package gcpkms

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/keyring"
)

// ring is the key ring of the key that wraps.
func (w *Wrapper) ring() string {
	ring, _, _ := strings.Cut(w.cfg.Key, "/cryptoKeys/")
	return ring
}

// SignerID names the key ring in records of keys that it holds.
func (w *Wrapper) SignerID() string { return "gcpkms/" + w.ring() }

// algorithms are the service's names.
var algorithms = map[string]string{keyring.ES256: "EC_SIGN_P256_SHA256", keyring.RS256: "RSA_SIGN_PKCS1_3072_SHA256"}

var (
	signingName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
	signingRef  = regexp.MustCompile(`^[a-z0-9-]{1,63}/cryptoKeyVersions/1$`)
)

const (
	generated = 20 * time.Second // a key is to be ready by then
	lookAgain = 250 * time.Millisecond
)

// Make makes a key beside the one that wraps, where that is protected by hardware in hardware too. What it is asked by is its one version.
func (w *Wrapper) Make(ctx context.Context, algorithm, name string) (ref string, public crypto.PublicKey, err error) {
	kind := algorithms[algorithm]
	if kind == "" || !signingName.MatchString(name) {
		return "", nil, fmt.Errorf("gcpkms.Make: %w: there are no keys for %.20q", keyring.ErrRefused, algorithm)
	}
	var beside struct {
		Template struct {
			Level string `json:"protectionLevel"`
		} `json:"versionTemplate"`
	}
	if err := w.ask(ctx, http.MethodGet, w.cfg.Key, nil, &beside); err != nil {
		return "", nil, fmt.Errorf("gcpkms.Make: %w", err)
	}
	ref = name + "/cryptoKeyVersions/1"
	in := map[string]any{
		"purpose": "ASYMMETRIC_SIGN", "labels": map[string]string{"avouch": "signing"},
		"versionTemplate": map[string]string{"algorithm": kind, "protectionLevel": beside.Template.Level},
	}
	var out struct{}
	if err = w.ask(ctx, http.MethodPost, w.ring()+"/cryptoKeys?cryptoKeyId="+name, in, &out); err == nil {
		public, err = w.public(ctx, ref, kind)
	}
	if err != nil { // the service may have made it, and its answer be lost
		return "", nil, fmt.Errorf("gcpkms.Make: %w", errors.Join(err, w.undo(ctx, ref)))
	}
	return ref, public, nil
}

// undo ends what may have been made.
func (w *Wrapper) undo(ctx context.Context, ref string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.cfg.Timeout)
	defer cancel()
	if err := w.End(ctx, ref); err != nil {
		return fmt.Errorf("and the key %s may be left there: %w", ref, err)
	}
	return nil
}

// public waits for a key to be generated, which the service does after its answer.
func (w *Wrapper) public(ctx context.Context, ref, kind string) (crypto.PublicKey, error) {
	ctx, cancel := context.WithTimeout(ctx, generated)
	defer cancel()
	var out struct {
		PEM       string   `json:"pem"`
		Sum       checksum `json:"pemCrc32c"`
		Algorithm string   `json:"algorithm"`
	}
	for {
		err := w.ask(ctx, http.MethodGet, w.signingPath(ref)+"/publicKey", nil, &out)
		if err == nil {
			break
		}
		if !errors.Is(err, errState) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: the key is not ready: %w", keyring.ErrSilent, ctx.Err())
		case <-time.After(lookAgain):
		}
	}
	if out.Sum != sum([]byte(out.PEM)) {
		return nil, ErrAltered
	}
	block, _ := pem.Decode([]byte(out.PEM))
	if block == nil || out.Algorithm != kind {
		return nil, fmt.Errorf("%w: the key is another than was to be made", keyring.ErrRefused)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the key management's answer holds no public key")
	}
	return public, nil
}

func (w *Wrapper) signingPath(ref string) string { return w.ring() + "/cryptoKeys/" + ref }

// Sign signs a digest.
func (w *Wrapper) Sign(ctx context.Context, ref, algorithm string, digest []byte) ([]byte, error) {
	if !signingRef.MatchString(ref) {
		return nil, fmt.Errorf("gcpkms.Sign: %w: that is no name of a key", keyring.ErrRefused)
	}
	var out struct {
		Name      string   `json:"name"`
		Signature []byte   `json:"signature"`
		Sum       checksum `json:"signatureCrc32c"`
		Digest    bool     `json:"verifiedDigestCrc32c"`
	}
	in := map[string]any{"digest": map[string]any{"sha256": digest}, "digestCrc32c": sum(digest)}
	if err := w.ask(ctx, http.MethodPost, w.signingPath(ref)+":asymmetricSign", in, &out); err != nil {
		return nil, fmt.Errorf("gcpkms.Sign: %w", err)
	}
	if !out.Digest || out.Sum != sum(out.Signature) || out.Name != w.signingPath(ref) {
		return nil, fmt.Errorf("gcpkms.Sign: %w", ErrAltered)
	}
	if algorithm == keyring.RS256 {
		return out.Signature, nil
	}
	signature, err := keyring.FromDER(out.Signature)
	if err != nil {
		return nil, fmt.Errorf("gcpkms.Sign: %w", err)
	}
	return signature, nil
}

// End schedules the destruction of a key's version: it signs no more from then on. The service keeps the name for good.
func (w *Wrapper) End(ctx context.Context, ref string) error {
	if !signingRef.MatchString(ref) {
		return fmt.Errorf("gcpkms.End: %w: that is no name of a key", keyring.ErrRefused)
	}
	var out struct {
		State string `json:"state"`
	}
	err := w.ask(ctx, http.MethodPost, w.signingPath(ref)+":destroy", map[string]any{}, &out)
	if errors.Is(err, errState) {
		if again := w.ask(ctx, http.MethodGet, w.signingPath(ref), nil, &out); again == nil && strings.HasPrefix(out.State, "DESTROY") {
			return nil
		}
	}
	if err != nil && !errors.Is(err, errMissing) {
		return fmt.Errorf("gcpkms.End: %w", err)
	}
	return nil
}
