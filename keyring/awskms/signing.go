package awskms

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/avouch-dev/avouch/keyring"
)

// SignerID names the service, in its region, in records of keys that it holds.
func (w *Wrapper) SignerID() string { return "awskms/" + w.region }

// spec is what the service calls a key, and a signature with it.
type spec struct{ key, algorithm string }

var specs = map[string]spec{
	keyring.ES256: {"ECC_NIST_P256", "ECDSA_SHA_256"},
	keyring.RS256: {"RSA_3072", "RSASSA_PKCS1_V1_5_SHA_256"},
}

// The tag that all signing keys have, so that a policy can be about them and no others, and how long the service waits before it
// destroys one, which is the shortest that it offers.
const (
	tag         = "avouch"
	tagValue    = "signing"
	pendingDays = 7
)

// Make makes a key in the account and region of the one that wraps. Its description is the name, and the kid once that is known.
func (w *Wrapper) Make(ctx context.Context, algorithm, name string) (ref string, public crypto.PublicKey, err error) {
	s, ok := specs[algorithm]
	if !ok {
		return "", nil, fmt.Errorf("awskms.Make: %w: there are no keys for %.20q", keyring.ErrRefused, algorithm)
	}
	var out struct {
		KeyMetadata struct{ Arn, KeySpec, KeyUsage, Origin string }
	}
	in := map[string]any{
		"KeyUsage": "SIGN_VERIFY", "KeySpec": s.key, "Origin": "AWS_KMS", "Description": name, "Tags": []map[string]string{{"TagKey": tag, "TagValue": tagValue}},
	}
	if err := w.ask(ctx, "CreateKey", in, &out); err != nil {
		return "", nil, fmt.Errorf("awskms.Make: %w", err)
	}
	k := &out.KeyMetadata
	if err = w.ours(k.Arn); err != nil {
		return "", nil, fmt.Errorf("awskms.Make: %w", err)
	}
	if k.KeySpec != s.key || k.KeyUsage != "SIGN_VERIFY" || k.Origin != "AWS_KMS" {
		err = fmt.Errorf("%w: the key is another than was to be made", keyring.ErrRefused)
	} else if public, err = w.public(ctx, k.Arn); err == nil {
		err = w.ask(ctx, "UpdateKeyDescription", map[string]any{"KeyId": k.Arn, "Description": name + " " + keyring.Thumbprint(public)}, nil)
	}
	if err != nil {
		return "", nil, fmt.Errorf("awskms.Make: %w", errors.Join(err, w.undo(ctx, k.Arn)))
	}
	return k.Arn, public, nil
}

// undo ends what was made.
func (w *Wrapper) undo(ctx context.Context, ref string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.http.Timeout)
	defer cancel()
	if err := w.End(ctx, ref); err != nil {
		return fmt.Errorf("and the key %s is left there: %w", ref, err)
	}
	return nil
}

func (w *Wrapper) public(ctx context.Context, ref string) (crypto.PublicKey, error) {
	var out struct {
		PublicKey []byte
	}
	if err := w.ask(ctx, "GetPublicKey", map[string]any{"KeyId": ref}, &out); err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(out.PublicKey)
	if err != nil {
		return nil, errors.New("the key management's answer holds no public key")
	}
	return public, nil
}

// ours refuses what is no key of the region.
func (w *Wrapper) ours(ref string) error {
	if parts := keyName.FindStringSubmatch(ref); parts == nil || parts[2] != w.region {
		return fmt.Errorf("%w: that is no ARN of a key in %s", keyring.ErrRefused, w.region)
	}
	return nil
}

// Sign signs a digest.
func (w *Wrapper) Sign(ctx context.Context, ref, algorithm string, digest []byte) ([]byte, error) {
	s, ok := specs[algorithm]
	if err := w.ours(ref); err != nil || !ok {
		return nil, fmt.Errorf("awskms.Sign: %w", errors.Join(keyring.ErrRefused, err))
	}
	var out struct {
		Signature []byte
	}
	in := map[string]any{"KeyId": ref, "Message": digest, "MessageType": "DIGEST", "SigningAlgorithm": s.algorithm}
	if err := w.ask(ctx, "Sign", in, &out); err != nil {
		return nil, fmt.Errorf("awskms.Sign: %w", err)
	}
	if algorithm == keyring.RS256 {
		return out.Signature, nil
	}
	signature, err := keyring.FromDER(out.Signature)
	if err != nil {
		return nil, fmt.Errorf("awskms.Sign: %w", err)
	}
	return signature, nil
}

// End schedules a key's deletion: it signs no more from then on.
func (w *Wrapper) End(ctx context.Context, ref string) error {
	if err := w.ours(ref); err != nil {
		return fmt.Errorf("awskms.End: %w", err)
	}
	id := ref[strings.LastIndexByte(ref, '/')+1:]
	err := w.ask(ctx, "ScheduleKeyDeletion", map[string]any{"KeyId": id, "PendingWindowInDays": pendingDays}, nil)
	if errors.Is(err, errState) {
		var out struct {
			KeyMetadata struct{ KeyState string }
		}
		if again := w.ask(ctx, "DescribeKey", map[string]any{"KeyId": id}, &out); again == nil && strings.HasPrefix(out.KeyMetadata.KeyState, "Pending") {
			return nil
		}
	}
	if err != nil && !errors.Is(err, errMissing) {
		return fmt.Errorf("awskms.End: %w", err)
	}
	return nil
}
