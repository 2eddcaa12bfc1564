//go:build pkcs11

package pkcs11

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
)

const (
	ivSize  = 12
	tagBits = 128
	// aeadDecryptFailed is of version 3 of the standard.
	aeadDecryptFailed = pkcs11.Error(0x42)
)

// Wrapper is the keys of one label on a token.
type Wrapper struct {
	secret.Hidden
	cfg   Config
	token *token
}

// New makes a wrapper. It opens the module and finds the token; the standard lets one thread at a time do so.
func New(c Config) (keyring.Named, error) {
	if c.Module == "" || c.Token == "" || c.Key == "" || len(c.Token)+len(c.Key) > 200 {
		return nil, errors.New("pkcs11.New: want the module, the token's label and the key's label")
	}
	t, err := openToken(c)
	if err != nil {
		return nil, fmt.Errorf("pkcs11.New: %w", err)
	}
	return &Wrapper{cfg: c, token: t}, nil
}

// KeyID names the key in what it wraps.
func (w *Wrapper) KeyID() string { return "pkcs11/" + w.cfg.Token + "/" + w.cfg.Key }

// Wrap encrypts a key under the newest version.
func (w *Wrapper) Wrap(ctx context.Context, key secret.Bytes, b keyring.Binding) (keyring.Wrapped, error) {
	out, err := during(ctx, w.token, func(s session) (keyring.Wrapped, error) {
		versions, err := s.keys(w.cfg.Key)
		if err != nil {
			return keyring.Wrapped{}, err
		}
		newest := versions[len(versions)-1]
		blob, err := s.encrypt(newest.handle, key.Expose(), keyring.AssociatedData(b, w.KeyID()))
		return keyring.Wrapped{KeyID: w.KeyID(), KeyVersion: newest.number, Blob: blob}, err
	})
	if err != nil {
		return keyring.Wrapped{}, fmt.Errorf("pkcs11.Wrap: %w", err)
	}
	return out, nil
}

// Unwrap decrypts what Wrap made. Each version is a key of its own, so the ciphertext is bound to it.
func (w *Wrapper) Unwrap(ctx context.Context, k keyring.Wrapped, b keyring.Binding) (secret.Bytes, error) {
	if k.KeyID != w.KeyID() {
		return secret.Bytes{}, fmt.Errorf("pkcs11.Unwrap: wrapped under %q, not %q: %w", k.KeyID, w.KeyID(), keyring.ErrSealed)
	}
	if len(k.Blob) < ivSize+tagBits/8 {
		return secret.Bytes{}, fmt.Errorf("pkcs11.Unwrap: %w", keyring.ErrSealed)
	}
	out, err := during(ctx, w.token, func(s session) (secret.Bytes, error) {
		versions, err := s.keys(w.cfg.Key)
		if err != nil {
			return secret.Bytes{}, err
		}
		i := slices.IndexFunc(versions, func(v version) bool { return v.number == k.KeyVersion })
		if i < 0 {
			return secret.Bytes{}, fmt.Errorf("%w: the token has no version %d of the key", keyring.ErrRefused, k.KeyVersion)
		}
		plain, err := s.decrypt(versions[i].handle, k.Blob, keyring.AssociatedData(b, w.KeyID()))
		return secret.Own(plain), err
	})
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("pkcs11.Unwrap: %w", err)
	}
	return out, nil
}

// Describe lists the versions on the token. Tokens do not say when a key was made.
func (w *Wrapper) Describe(ctx context.Context) (keyring.Description, error) {
	d, err := during(ctx, w.token, func(s session) (keyring.Description, error) {
		d := keyring.Description{Kind: "pkcs11", KeyID: w.KeyID()}
		versions, err := s.keys(w.cfg.Key)
		for _, v := range versions {
			d.Version, d.Versions = v.number, append(d.Versions, v.number)
		}
		return d, err
	})
	if err != nil {
		return keyring.Description{}, fmt.Errorf("pkcs11.Describe: %w", err)
	}
	return d, nil
}

// version is a key on the token.
type version struct {
	number uint32
	handle pkcs11.ObjectHandle
}

// session is a session that is logged in.
type session struct {
	ctx    *pkcs11.Ctx
	handle pkcs11.SessionHandle
}

const mostVersions = 1000

// keys are those of a label, the oldest first; at least one, or an error.
func (s session) keys(label string) (all []version, err error) {
	err = s.ctx.FindObjectsInit(s.handle, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
	})
	if err != nil {
		return nil, err
	}
	handles, _, err := s.ctx.FindObjects(s.handle, mostVersions)
	if err := errors.Join(err, s.ctx.FindObjectsFinal(s.handle)); err != nil {
		return nil, err
	}
	for _, h := range handles {
		v, err := s.version(h)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b version) int { return cmp.Compare(a.number, b.number) })
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: the token has no AES key with this label", keyring.ErrRefused)
	}
	for i := range all[1:] {
		if all[i].number == all[i+1].number {
			return nil, fmt.Errorf("%w: two keys on the token have the CKA_ID %d", keyring.ErrRefused, all[i].number)
		}
	}
	return all, nil
}

// version reads what a key is, and refuses one that could leave the token.
func (s session) version(h pkcs11.ObjectHandle) (version, error) {
	got, err := s.ctx.GetAttributeValue(s.handle, h, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_ID, nil), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, nil), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, nil),
	})
	if err != nil {
		return version{}, err
	}
	v := version{handle: h}
	for _, a := range got {
		yes := len(a.Value) == 1 && a.Value[0] != 0
		switch {
		case a.Type == pkcs11.CKA_ID && (len(a.Value) == 0 || len(a.Value) > 4):
			return version{}, fmt.Errorf("%w: a key's CKA_ID is to be its version, a number of one to four bytes", keyring.ErrRefused)
		case a.Type == pkcs11.CKA_ID:
			for _, b := range a.Value {
				v.number = v.number<<8 | uint32(b)
			}
		case a.Type == pkcs11.CKA_EXTRACTABLE && yes, a.Type == pkcs11.CKA_SENSITIVE && !yes:
			return version{}, fmt.Errorf("%w: a key on the token can be taken out of it: make one with CKA_SENSITIVE and without CKA_EXTRACTABLE", keyring.ErrRefused)
		}
	}
	if v.number == 0 {
		return version{}, fmt.Errorf("%w: a key's CKA_ID is to be its version, from 1 on", keyring.ErrRefused)
	}
	return v, nil
}

func (s session) encrypt(key pkcs11.ObjectHandle, plain, associated []byte) ([]byte, error) {
	iv := make([]byte, ivSize)
	rand.Read(iv)
	p := pkcs11.NewGCMParams(iv, associated, tagBits)
	defer p.Free()
	if err := s.ctx.EncryptInit(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, p)}, key); err != nil {
		return nil, err
	}
	sealed, err := s.ctx.Encrypt(s.handle, plain)
	if err != nil {
		return nil, err
	}
	if used := p.IV(); len(used) == ivSize { // some tokens take one of their own
		iv = used
	}
	return append(slices.Clone(iv), sealed...), nil
}

func (s session) decrypt(key pkcs11.ObjectHandle, blob, associated []byte) ([]byte, error) {
	plain, err := s.open(key, blob, associated)
	switch code := pkcs11.Error(0); {
	case err == nil:
		return plain, nil
	case errors.Is(err, pkcs11.Error(pkcs11.CKR_ENCRYPTED_DATA_INVALID)), errors.Is(err, aeadDecryptFailed):
		return nil, keyring.ErrSealed
	case !errors.As(err, &code) || !vague(code):
		return nil, err
	}
	// Some tokens have no code of their own for a tag that does not fit. Whether it is that, a ciphertext that does fit tells.
	probe, err2 := s.encrypt(key, make([]byte, 1), associated)
	if err2 != nil {
		return nil, err
	}
	if _, err2 = s.open(key, probe, associated); err2 != nil {
		return nil, err
	}
	return nil, keyring.ErrSealed
}

func (s session) open(key pkcs11.ObjectHandle, blob, associated []byte) ([]byte, error) {
	p := pkcs11.NewGCMParams(blob[:ivSize], associated, tagBits)
	defer p.Free()
	if err := s.ctx.DecryptInit(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, p)}, key); err != nil {
		return nil, err
	}
	return s.ctx.Decrypt(s.handle, blob[ivSize:])
}
