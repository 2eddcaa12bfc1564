package transit

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/avouch-dev/avouch/keyring"
)

// SignerID names the engine in records of keys that it holds.
func (w *Wrapper) SignerID() string { return "transit/" + w.cfg.Mount }

// kinds are the engine's names of what keys for an algorithm are.
var kinds = map[string]string{keyring.ES256: "ecdsa-p256", keyring.RS256: "rsa-3072"}

var signingName = regexp.MustCompile(`^[a-z0-9-]{1,100}$`)

// keyInfo is what the engine says of a key for signatures.
type keyInfo struct {
	Type       string `json:"type"`
	Exportable bool   `json:"exportable"`
	Backup     bool   `json:"allow_plaintext_backup"`
	Versions   map[string]struct {
		PublicKey string `json:"public_key"`
	} `json:"keys"`
}

// Make makes a key that is never exported, in the same engine as the key that wraps.
func (w *Wrapper) Make(ctx context.Context, algorithm, name string) (ref string, public crypto.PublicKey, err error) {
	kind := kinds[algorithm]
	if kind == "" || !signingName.MatchString(name) {
		return "", nil, fmt.Errorf("transit.Make: %w: there are no keys for %.20q", keyring.ErrRefused, algorithm)
	}
	in := map[string]any{"type": kind, "exportable": false, "allow_plaintext_backup": false}
	if err = w.asking(ctx, http.MethodPost, w.keyPath(name), in, nil); err == nil {
		public, err = w.made(ctx, kind, name)
	}
	if err != nil { // the engine may have made it, and its answer be lost
		return "", nil, fmt.Errorf("transit.Make: %w", errors.Join(err, w.undo(ctx, name)))
	}
	return name, public, nil
}

// undo ends what may have been made.
func (w *Wrapper) undo(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.cfg.Timeout)
	defer cancel()
	if err := w.End(ctx, name); err != nil {
		return fmt.Errorf("and the key %s may be left there: %w", name, err)
	}
	return nil
}

// made reads the public part of a key, and that it stays where it is.
func (w *Wrapper) made(ctx context.Context, kind, name string) (crypto.PublicKey, error) {
	var k keyInfo
	if err := w.asking(ctx, http.MethodGet, w.keyPath(name), nil, &k); err != nil {
		return nil, err
	}
	if k.Type != kind || k.Exportable || k.Backup || len(k.Versions) != 1 {
		return nil, fmt.Errorf("%w: the key is another than was to be made", keyring.ErrRefused)
	}
	block, _ := pem.Decode([]byte(k.Versions["1"].PublicKey))
	if block == nil {
		return nil, errAnswer
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errAnswer
	}
	return public, nil
}

// Sign signs with the version that Make made: what somebody rotates there changes nothing here.
func (w *Wrapper) Sign(ctx context.Context, ref, algorithm string, digest []byte) ([]byte, error) {
	if !signingName.MatchString(ref) {
		return nil, fmt.Errorf("transit.Sign: %w: that is no name of a key", keyring.ErrRefused)
	}
	in := map[string]any{"input": base64.StdEncoding.EncodeToString(digest), "prehashed": true, "hash_algorithm": "sha2-256", "key_version": 1}
	text := base64.StdEncoding
	if algorithm == keyring.RS256 {
		in["signature_algorithm"] = "pkcs1v15"
	} else {
		in["marshaling_algorithm"], text = "jws", base64.RawURLEncoding
	}
	var out struct {
		Signature string `json:"signature"`
	}
	if err := w.asking(ctx, http.MethodPost, w.cfg.Mount+"/sign/"+ref, in, &out); err != nil {
		return nil, fmt.Errorf("transit.Sign: %w", err)
	}
	encoded, ok := strings.CutPrefix(out.Signature, "vault:v1:")
	signature, err := text.DecodeString(encoded)
	if !ok || err != nil {
		return nil, fmt.Errorf("transit.Sign: %w", errAnswer)
	}
	return signature, nil
}

// End deletes a key, which the engine does at once.
func (w *Wrapper) End(ctx context.Context, ref string) error {
	if !signingName.MatchString(ref) {
		return fmt.Errorf("transit.End: %w: that is no name of a key", keyring.ErrRefused)
	}
	var k keyInfo
	err := w.asking(ctx, http.MethodGet, w.keyPath(ref), nil, &k)
	if errors.Is(err, errMissing) {
		return nil
	}
	if err == nil {
		err = w.asking(ctx, http.MethodPost, w.keyPath(ref)+"/config", map[string]any{"deletion_allowed": true}, nil)
	}
	if err == nil {
		err = w.asking(ctx, http.MethodDelete, w.keyPath(ref), nil, nil)
	}
	if err == nil {
		return nil
	}
	// Another server may have been faster. Such a key is a bad request to the engine, as others are.
	if again := w.asking(ctx, http.MethodGet, w.keyPath(ref), nil, &k); errors.Is(again, errMissing) {
		return nil
	}
	return fmt.Errorf("transit.End: %w", err)
}

func (w *Wrapper) keyPath(name string) string { return w.cfg.Mount + "/keys/" + name }
