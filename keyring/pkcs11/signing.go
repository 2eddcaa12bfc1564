//go:build pkcs11

package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/avouch-dev/avouch/keyring"
)

// SignerID names the token in records of keys that it holds.
func (w *Wrapper) SignerID() string { return "pkcs11/" + w.cfg.Token }

const (
	idSize  = 16
	rsaBits = 3072
)

var (
	p256       = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07} // the curve's object identifier
	digestInfo = []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}
)

// Make makes a key pair on the token. What it is asked by is its CKA_ID; its label is the name, and the kid once that is known.
func (w *Wrapper) Make(ctx context.Context, algorithm, name string) (ref string, public crypto.PublicKey, err error) {
	id := make([]byte, idSize)
	rand.Read(id)
	ref = hex.EncodeToString(id)
	left := make(chan struct{}) // closed when nobody waits for it any more
	public, err = during(ctx, w.token, func(s session) (public crypto.PublicKey, err error) {
		err = w.writing(s, func(s session) error {
			public, err = s.make(algorithm, name, id)
			select {
			case <-left:
				return errors.Join(err, s.end(id))
			default:
				return err
			}
		})
		return public, err
	})
	if err != nil {
		close(left)
		return "", nil, fmt.Errorf("pkcs11.Make: %w", errors.Join(err, w.undo(ctx, ref)))
	}
	return ref, public, nil
}

// undo ends what may have been made.
func (w *Wrapper) undo(ctx context.Context, ref string) error {
	if err := w.End(context.WithoutCancel(ctx), ref); err != nil {
		return fmt.Errorf("and the key %s may be left there: %w", ref, err)
	}
	return nil
}

// writing does something in a session that may write: those that sign cannot. The login is the process's, on this token.
func (w *Wrapper) writing(s session, do func(session) error) error {
	slot, err := w.token.slot()
	if err != nil {
		return err
	}
	handle, err := s.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	defer s.ctx.CloseSession(handle)
	return do(session{s.ctx, handle})
}

func (s session) make(algorithm, name string, id []byte) (crypto.PublicKey, error) {
	var mechanism uint
	both := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, name), pkcs11.NewAttribute(pkcs11.CKA_ID, id)}
	public := append(slices.Clone(both), pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true))
	private := append(slices.Clone(both), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false))
	switch algorithm {
	case keyring.ES256:
		mechanism = pkcs11.CKM_EC_KEY_PAIR_GEN
		public = append(public, pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, p256))
	case keyring.RS256:
		mechanism = pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN
		public = append(public, pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, rsaBits), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	default:
		return nil, fmt.Errorf("%w: there are no keys for %.20q", keyring.ErrRefused, algorithm)
	}
	pub, prv, err := s.ctx.GenerateKeyPair(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, public, private)
	if err != nil {
		return nil, err
	}
	if err := s.stays(prv); err != nil {
		return nil, err
	}
	key, err := s.public(algorithm, pub)
	if err != nil {
		return nil, err
	}
	label := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, name+" "+keyring.Thumbprint(key))}
	return key, errors.Join(s.ctx.SetAttributeValue(s.handle, pub, label), s.ctx.SetAttributeValue(s.handle, prv, label))
}

// stays refuses a private key that was not made on the token, or could leave it or could have.
func (s session) stays(h pkcs11.ObjectHandle) error {
	got, err := s.ctx.GetAttributeValue(s.handle, h, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_LOCAL, nil), pkcs11.NewAttribute(pkcs11.CKA_ALWAYS_SENSITIVE, nil), pkcs11.NewAttribute(pkcs11.CKA_NEVER_EXTRACTABLE, nil),
	})
	if err != nil {
		return err
	}
	for _, a := range got {
		if len(a.Value) != 1 || a.Value[0] == 0 {
			return fmt.Errorf("%w: the key that the token made could leave it", keyring.ErrRefused)
		}
	}
	return nil
}

func (s session) public(algorithm string, h pkcs11.ObjectHandle) (crypto.PublicKey, error) {
	what := pkcs11.NewAttribute(pkcs11.CKA_MODULUS, nil)
	if algorithm == keyring.ES256 {
		what = pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)
	}
	got, err := s.ctx.GetAttributeValue(s.handle, h, []*pkcs11.Attribute{what})
	if err != nil || len(got) != 1 {
		return nil, errors.Join(err, errors.New("the token does not say what the public key is"))
	}
	if algorithm == keyring.RS256 {
		return &rsa.PublicKey{N: new(big.Int).SetBytes(got[0].Value), E: 1<<16 + 1}, nil
	}
	point := bytes.TrimPrefix(got[0].Value, []byte{0x04, 0x41}) // an OCTET STRING, which some tokens leave out
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, errors.New("the token does not say what the public key is")
	}
	return key, nil
}

// of are the objects of a class that have an id.
func (s session) of(class uint, id []byte) ([]pkcs11.ObjectHandle, error) {
	err := s.ctx.FindObjectsInit(s.handle, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_ID, id), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
	})
	if err != nil {
		return nil, err
	}
	found, _, err := s.ctx.FindObjects(s.handle, 3)
	return found, errors.Join(err, s.ctx.FindObjectsFinal(s.handle))
}

func idOf(ref string) ([]byte, error) {
	id, err := hex.DecodeString(ref)
	if err != nil || len(id) != idSize {
		return nil, fmt.Errorf("%w: that is no id of a key", keyring.ErrRefused)
	}
	return id, nil
}

// Sign signs a digest.
func (w *Wrapper) Sign(ctx context.Context, ref, algorithm string, digest []byte) ([]byte, error) {
	id, err := idOf(ref)
	if err != nil {
		return nil, fmt.Errorf("pkcs11.Sign: %w", err)
	}
	mechanism, input := uint(pkcs11.CKM_ECDSA), digest
	if algorithm == keyring.RS256 {
		mechanism, input = pkcs11.CKM_RSA_PKCS, slices.Concat(digestInfo, digest)
	}
	signature, err := during(ctx, w.token, func(s session) ([]byte, error) {
		keys, err := s.of(pkcs11.CKO_PRIVATE_KEY, id)
		if err != nil {
			return nil, err
		}
		if len(keys) != 1 {
			return nil, fmt.Errorf("%w: the token has %d keys of this id", keyring.ErrRefused, len(keys))
		}
		if err := s.ctx.SignInit(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, keys[0]); err != nil {
			return nil, err
		}
		return s.ctx.Sign(s.handle, input)
	})
	if err != nil {
		return nil, fmt.Errorf("pkcs11.Sign: %w", err)
	}
	return signature, nil
}

// End destroys both halves of a key.
func (w *Wrapper) End(ctx context.Context, ref string) error {
	id, err := idOf(ref)
	if err == nil {
		_, err = during(ctx, w.token, func(s session) (struct{}, error) {
			return struct{}{}, w.writing(s, func(s session) error { return s.end(id) })
		})
	}
	if err != nil {
		return fmt.Errorf("pkcs11.End: %w", err)
	}
	return nil
}

func (s session) end(id []byte) error {
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
		found, err := s.of(class, id)
		for _, h := range found {
			err = errors.Join(err, s.ctx.DestroyObject(s.handle, h))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
