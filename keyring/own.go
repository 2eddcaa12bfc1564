package keyring

import (
	"context"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// An organisation may keep its keys under a key management of its own. Then its key files are wrapped twice: under a key that is
// made for this organisation, its own key, and the result under the platform's wrapper, as every other. The own key lies in a file
// beside them, wrapped by the organisation's key management, and the result again by the platform's wrapper. So neither of the two
// opens anything alone; the platform key rotates without the organisation's key management, and that is asked for one key, however
// many keys and versions the organisation has.
//
//	tenants/<tenant>/own        the own key; not there if the organisation has no key management of its own
//	tenants/<tenant>/own.lock   who writes that file, or a key file of this organisation, holds this one
//
// An own key is made for each setting, and it never lies anywhere without what that setting's key management wraps it in: a copy of
// the key store from before, or what another key management opens, is of no use for what is made since. So keys move from one own key
// to another, or to the platform and back, one file after the other. Each names what wraps it. The own file has both own keys
// meanwhile: it is written before the first key moves, and again, or removed, after the last one has.
//
// What the platform's wrapper finds in the file, where KMS is the organisation's, and the second pair of lines is there only on the way:
//
//	magic (2) | check of the own key (16) | setting that names the KMS (16) | own key, wrapped by the KMS
//	          | check of the own key before (16) | own key before, wrapped by the same KMS
const (
	ownFile  = "own"
	ownLock  = "own.lock"
	ownMagic = "O\x01"
	ownCheck = 16
	// ownPrefix and the check name an own key in what it wraps.
	ownPrefix = "own/"
	// mostMoves is how often a key is looked for anew that somebody moves at this moment.
	mostMoves = 5
)

// SettingID names how an organisation's key management is reached. Zero is no setting: the platform opens by itself.
type SettingID [16]byte

// OwnKMS makes the wrapper that a setting of an organisation describes.
type OwnKMS func(ctx context.Context, t tenantdb.TenantID, s SettingID) (KeyWrapper, error)

// ErrNoOwnKMS means that the organisation's keys are under the platform's wrapper alone.
var ErrNoOwnKMS = errors.New("the organisation has no key management of its own")

// errMoved means that an own key is named that the own file, or what is in memory of it, has not: somebody moves the keys at this
// moment, and who looks again finds what fits; or it is lost.
var errMoved = fmt.Errorf("the own key that wraps it: %w", ErrLost)

// ownSum says which own key it is; zero is none.
type ownSum [ownCheck]byte

// owned is the content of an own file.
type owned struct {
	setting SettingID
	keys    []ownedKey // one, or two while keys are on their way from the second to the first
}

// ownedKey is an own key as the key management of the setting wrapped it.
type ownedKey struct {
	sum     ownSum
	wrapped Wrapped
}

// ownKeys are an organisation's own keys, opened.
type ownKeys struct {
	first ownSum // wraps
	aeads map[ownSum]cipher.AEAD
}

func ownBinding(t tenantdb.TenantID) Binding { return Binding{t, ownFile} }

func (s *store) ownPath(t tenantdb.TenantID) string { return filepath.Join(s.tenantDir(t), ownFile) }

func checkOf(own secret.Bytes) (sum ownSum) {
	m := hmac.New(sha256.New, own.Expose())
	m.Write([]byte("avouch/own/check/v1\n"))
	copy(sum[:], m.Sum(nil))
	return sum
}

func (o *owned) append(b []byte) []byte {
	b = append(b, ownMagic...)
	for i, k := range o.keys {
		b = append(b, k.sum[:]...)
		if i == 0 {
			b = append(b, o.setting[:]...)
		}
		b = k.wrapped.append(b)
	}
	return b
}

func parseOwned(b []byte) (o owned, err error) {
	if len(b) < len(ownMagic) || string(b[:len(ownMagic)]) != ownMagic {
		return owned{}, ErrDamaged
	}
	b = b[len(ownMagic):]
	for len(o.keys) == 0 || len(b) > 0 {
		var k ownedKey
		if len(b) < ownCheck+len(o.setting) || len(o.keys) == 2 {
			return owned{}, ErrDamaged
		}
		b = b[copy(k.sum[:], b):]
		if len(o.keys) == 0 {
			b = b[copy(o.setting[:], b):]
		}
		w, rest, err := readWrapped(b)
		if err != nil {
			return owned{}, ErrDamaged
		}
		w.Blob = append([]byte(nil), w.Blob...) // b is cleared
		k.wrapped, b = w, rest
		o.keys = append(o.keys, k)
	}
	if o.setting == (SettingID{}) {
		return owned{}, ErrDamaged
	}
	return o, nil
}

func (o *owned) names(sum ownSum) bool {
	return slices.ContainsFunc(o.keys, func(k ownedKey) bool { return k.sum == sum })
}

// readOwn reads an organisation's own file. There is none if the error is fs.ErrNotExist: most have none.
func (r *Ring) readOwn(ctx context.Context, t tenantdb.TenantID) (o owned, err error) {
	file := r.store.ownPath(t)
	if _, err := os.Lstat(file); err != nil {
		return owned{}, err
	}
	var w Wrapped
	if err := twice(func() (err error) { w, err = r.store.readFile(file); return err }); err != nil {
		return owned{}, err
	}
	plain, err := r.wrapper.Unwrap(ctx, w, ownBinding(t))
	if err != nil {
		return owned{}, fmt.Errorf("the own key of %s: %w", t, outage(r.doubted(ctx, err)))
	}
	defer plain.Clear()
	if o, err = parseOwned(plain.Expose()); err != nil {
		return owned{}, fmt.Errorf("%s: %w", file, err)
	}
	return o, nil
}

// OwnSetting is the setting of the key management that an organisation's keys are under; zero if that is the platform's alone. It is a
// look into the key store, and asks no key management.
func (r *Ring) OwnSetting(ctx context.Context, t tenantdb.TenantID) (SettingID, error) {
	o, err := r.readOwn(ctx, t)
	if errors.Is(err, fs.ErrNotExist) {
		return SettingID{}, nil
	}
	if err != nil {
		return SettingID{}, fmt.Errorf("keyring.OwnSetting: %w", err)
	}
	return o.setting, nil
}

// Usable refuses what is to be done with an organisation's keys or data while its own key management does not let it: with a problem
// that says so. For an organisation that has none, and for one that was let a moment ago, it is a look into a map.
func (r *Ring) Usable(ctx context.Context, t tenantdb.TenantID) error {
	now := r.now()
	l, ok := r.owners.get(t, now)
	if !ok {
		mark := r.owners.mark()
		var err error
		if l, err = r.ownerOf(ctx, t); err != nil {
			return fmt.Errorf("keyring.Usable: %w", err)
		}
		r.owners.put(t, timed[*lease]{l, now}, mark)
	}
	if l == nil {
		return nil
	}
	return l.check(ctx, now)
}

// ownerOf is what an organisation's own key management lets us have; nil if it has none.
func (r *Ring) ownerOf(ctx context.Context, t tenantdb.TenantID) (*lease, error) {
	_, err := r.readOwn(ctx, t)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return r.leaseOf(t), nil
}

func (r *Ring) leaseOf(t tenantdb.TenantID) *lease {
	l, _ := r.leases.LoadOrStore(t, &lease{ring: r, tenant: t})
	return l.(*lease)
}

// ownAEAD is an own key that the own file has, as far as its key management lets it. What is in memory may be of the file before.
func (r *Ring) ownAEAD(ctx context.Context, t tenantdb.TenantID, sum ownSum) (a cipher.AEAD, err error) {
	for range mostMoves {
		l := r.leaseOf(t)
		if a, err = l.open(ctx, sum); !errors.Is(err, errMoved) {
			break
		}
		l.leave()
	}
	return a, err
}

// wrap encrypts a tenant's key for the key store: under the organisation's own key, if it has one, and under the platform's wrapper.
// The own file is locked.
func (r *Ring) wrap(ctx context.Context, key secret.Bytes, b Binding) (Wrapped, error) {
	o, err := r.readOwn(ctx, b.Tenant)
	if errors.Is(err, fs.ErrNotExist) {
		return r.wrapper.Wrap(ctx, key, b)
	}
	if err != nil {
		return Wrapped{}, err
	}
	own, err := r.ownAEAD(ctx, b.Tenant, o.keys[0].sum)
	if err != nil {
		return Wrapped{}, err
	}
	return r.wrapTwice(ctx, own, o.keys[0].sum, key, b)
}

func (r *Ring) wrapTwice(ctx context.Context, own cipher.AEAD, sum ownSum, key secret.Bytes, b Binding) (Wrapped, error) {
	inner := secret.Own(wrapUnder(own, ownPrefix+hex.EncodeToString(sum[:]), 1, key, b).append(nil))
	defer inner.Clear()
	return r.wrapper.Wrap(ctx, inner, b)
}

// unwrap decrypts a tenant's key of the key store. After errMoved its file is to be read again.
func (r *Ring) unwrap(ctx context.Context, w Wrapped, b Binding) (secret.Bytes, error) {
	outer, err := r.wrapper.Unwrap(ctx, w, b)
	if err != nil {
		return outer, err
	}
	inner, sum, err := innerOf(outer)
	if err != nil || sum == (ownSum{}) {
		return outer, err
	}
	defer outer.Clear()
	o, err := r.readOwn(ctx, b.Tenant)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !o.names(sum) {
		err = errMoved
	}
	if err != nil {
		return secret.Bytes{}, err
	}
	own, err := r.ownAEAD(ctx, b.Tenant, sum)
	if err != nil {
		return secret.Bytes{}, err
	}
	return unwrapUnder(own, inner, b)
}

// innerOf is what the platform's wrapper found, and under which own key that is; under none if it is the key itself.
func innerOf(outer secret.Bytes) (inner Wrapped, sum ownSum, err error) {
	if len(outer.Expose()) == keySize {
		return inner, sum, nil
	}
	inner, rest, err := readWrapped(outer.Expose())
	name, ok := strings.CutPrefix(inner.KeyID, ownPrefix)
	if err != nil || len(rest) > 0 || !ok || len(name) != 2*ownCheck {
		return inner, sum, ErrDamaged
	}
	if _, err := hex.Decode(sum[:], []byte(name)); err != nil || sum == (ownSum{}) {
		return inner, sum, ErrDamaged
	}
	return inner, sum, nil
}
