package keyring

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// The private fields of log entries are sealed by the thousand a second under one key per data subject, for years.
// Random 96-bit nonces allow 2^32 messages a key, so the subject's key encrypts nothing itself: each process derives from
// it, by HKDF-SHA-256 with a random 16-byte context that is written into the value, a key of its own, and derives a new
// one after maxSeals.
//
//	magic (2) | version of the subject's key (4) | context (16) | nonce (12) | ciphertext | tag (16)
const (
	fieldsMagic   = "F\x01"
	contextSize   = 16
	fieldsHeader  = len(fieldsMagic) + 4 + contextSize
	maxSeals      = 1 << 30
	subjectKeyTry = 5
)

type sealerName struct {
	tenant  tenantdb.TenantID
	subject audit.SubjectID
}

type openerName struct {
	sealerName
	header [fieldsHeader]byte
}

// fieldSealer is one derived key in use.
type fieldSealer struct {
	header [fieldsHeader]byte
	aead   cipher.AEAD
	seals  atomic.Uint64
}

// SealFields encrypts private fields of a data subject (the zero subject is the organisation itself). A subject's key is
// made at its first seal, which takes about a millisecond (fsync): not a thing to do under a lock. aad binds the value
// to its place.
func (r *Ring) SealFields(ctx context.Context, t tenantdb.TenantID, subject audit.SubjectID, plain, aad []byte) ([]byte, error) {
	s, err := r.sealer(ctx, sealerName{t, subject})
	if err != nil {
		return nil, fmt.Errorf("keyring.SealFields: %w", err)
	}
	out := make([]byte, fieldsHeader, fieldsHeader+len(plain)+gcmOverhead)
	copy(out, s.header[:])
	return s.aead.Seal(out, nil, plain, fieldsData(t, subject, s.header, aad)), nil
}

// Prepare makes ready to seal for a data subject, so that a SealFields under a lock soon after does not touch the disk.
func (r *Ring) Prepare(ctx context.Context, t tenantdb.TenantID, subject audit.SubjectID) error {
	if _, err := r.sealer(ctx, sealerName{t, subject}); err != nil {
		return fmt.Errorf("keyring.Prepare: %w", err)
	}
	return nil
}

// OpenFields decrypts what SealFields made, for the same tenant, subject and aad. ErrDestroyed means that the subject was
// erased.
func (r *Ring) OpenFields(ctx context.Context, t tenantdb.TenantID, subject audit.SubjectID, sealed, aad []byte) ([]byte, error) {
	header, body, err := parseFields(sealed)
	if err != nil {
		return nil, fmt.Errorf("keyring.OpenFields: %w", err)
	}
	a, err := r.opener(ctx, openerName{sealerName{t, subject}, header})
	if err != nil {
		return nil, fmt.Errorf("keyring.OpenFields: %w", err)
	}
	plain, err := a.Open(nil, nil, body, fieldsData(t, subject, header, aad))
	if err != nil {
		return nil, fmt.Errorf("keyring.OpenFields: %w", ErrSealed)
	}
	return plain, nil
}

// fieldsData is the additional data of sealed fields. All parts but the last have a fixed size.
func fieldsData(t tenantdb.TenantID, subject audit.SubjectID, header [fieldsHeader]byte, aad []byte) []byte {
	d := make([]byte, 0, len(t)+len(subject)+len(header)+len(aad))
	d = append(d, t[:]...)
	d = append(d, subject[:]...)
	d = append(d, header[:]...)
	return append(d, aad...)
}

func parseFields(b []byte) (header [fieldsHeader]byte, body []byte, err error) {
	if len(b) < fieldsHeader+gcmOverhead || string(b[:len(fieldsMagic)]) != fieldsMagic {
		return header, nil, ErrFormat
	}
	copy(header[:], b)
	if fieldsVersion(header) == 0 {
		return header, nil, ErrFormat
	}
	return header, b[fieldsHeader:], nil
}

func fieldsVersion(header [fieldsHeader]byte) uint32 {
	return binary.BigEndian.Uint32(header[len(fieldsMagic):])
}

func (r *Ring) sealer(ctx context.Context, n sealerName) (*fieldSealer, error) {
	if err := r.Usable(ctx, n.tenant); err != nil {
		return nil, err
	}
	now := r.now()
	if s, ok := r.sealers.get(n, now); ok && s.seals.Add(1) <= maxSeals {
		return s, nil
	}
	mark := r.sealers.mark()
	key, version, err := r.currentSubjectKey(ctx, keyName{n.tenant, usePerson, n.subject})
	if err != nil {
		return nil, err
	}
	defer key.Clear()
	s := &fieldSealer{}
	copy(s.header[:], fieldsMagic)
	binary.BigEndian.PutUint32(s.header[len(fieldsMagic):], version)
	rand.Read(s.header[fieldsHeader-contextSize:])
	if s.aead, err = deriveFields(key, s.header); err != nil {
		return nil, err
	}
	s.seals.Store(1)
	r.sealers.put(n, timed[*fieldSealer]{s, now}, mark)
	return s, nil
}

func (r *Ring) opener(ctx context.Context, n openerName) (cipher.AEAD, error) {
	if err := r.Usable(ctx, n.tenant); err != nil {
		return nil, err
	}
	now := r.now()
	if a, ok := r.openers.get(n, now); ok {
		return a, nil
	}
	mark := r.openers.mark()
	key, err := r.subjectKey(ctx, keyName{n.tenant, usePerson, n.subject}, fieldsVersion(n.header))
	if err != nil {
		return nil, err
	}
	defer key.Clear()
	a, err := deriveFields(key, n.header)
	if err != nil {
		return nil, err
	}
	r.openers.put(n, timed[cipher.AEAD]{a, now}, mark)
	return a, nil
}

func deriveFields(subject secret.Bytes, header [fieldsHeader]byte) (cipher.AEAD, error) {
	b, err := hkdf.Key(sha256.New, subject.Expose(), header[fieldsHeader-contextSize:], "avouch/fields/v1", keySize)
	if err != nil {
		return nil, err
	}
	key := secret.Own(b)
	defer key.Clear()
	return newAEAD(key)
}

// subjectKey reads one version of a subject's key and unwraps it with the tenant's key that wrapped it.
func (r *Ring) subjectKey(ctx context.Context, n keyName, version uint32) (secret.Bytes, error) {
	w, err := r.store.read(n, version)
	if err != nil {
		return secret.Bytes{}, err
	}
	if w.KeyID != string(UseSubjects) {
		return secret.Bytes{}, fmt.Errorf("the key of subject %s is wrapped under %q: %w", n.subject, w.KeyID, ErrDamaged)
	}
	wrap, err := r.key(ctx, heldName{n.tenant, UseSubjects, w.KeyVersion})
	if err != nil {
		return secret.Bytes{}, err
	}
	key, err := unwrapUnder(wrap.aead, w, Binding{n.tenant, n.item(version)})
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("the key of subject %s: %w", n.subject, err)
	}
	return key, nil
}

// currentSubjectKey reads the newest version, and makes one if the subject has none or was erased.
func (r *Ring) currentSubjectKey(ctx context.Context, n keyName) (secret.Bytes, uint32, error) {
	for range subjectKeyTry {
		live, last, err := r.store.versions(n)
		if err != nil {
			return secret.Bytes{}, 0, err
		}
		if live == 0 {
			live = last + 1
			if err := r.createSubjectKey(ctx, n, live); err != nil {
				return secret.Bytes{}, 0, err
			}
		}
		key, err := r.subjectKey(ctx, n, live)
		if errors.Is(err, ErrDestroyed) { // by another server, a moment ago
			continue
		}
		return key, live, err
	}
	return secret.Bytes{}, 0, fmt.Errorf("the key of subject %s is destroyed as fast as it is made: %w", n.subject, ErrDestroyed)
}

func (r *Ring) createSubjectKey(ctx context.Context, n keyName, version uint32) error {
	wrap, err := r.key(ctx, heldName{n.tenant, UseSubjects, 0})
	if err != nil {
		return err
	}
	key := newKey()
	defer key.Clear()
	_, err = r.store.create(n, version, wrapUnder(wrap.aead, string(UseSubjects), wrap.version, key, Binding{n.tenant, n.item(version)}))
	return err
}
