package keyring

import (
	"context"
	"errors"
	"fmt"

	"github.com/avouch-dev/avouch/tenantdb"
)

// Rewrapped is a value that the newest version of an organisation's key did not wrap when it was looked at.
type Rewrapped struct {
	Under  uint32 // the version that wrapped it; 0 if it does not say
	Failed string // which it is, if it does not open and stays as it is
}

// Unreadable reports whether it is the value that is wrong, and no other one's matter: it is damaged, or its key is lost or destroyed.
func Unreadable(err error) bool {
	for _, e := range []error{ErrSealed, ErrFormat, ErrDamaged, ErrLost, ErrDestroyed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// RewrapSealed wraps the data key of a sealed value under the newest version of its organisation's key. What is sealed is neither
// opened nor moved: the bytes after the wrap are the same. again is false, and sealed comes back as it is, if the newest wraps it
// already.
func (r *Ring) RewrapSealed(ctx context.Context, t tenantdb.TenantID, item string, sealed []byte) (out []byte, again bool, err error) {
	w, body, err := parseEnvelope(sealed)
	if err != nil {
		return nil, false, fmt.Errorf("keyring.RewrapSealed: %w", err)
	}
	newest, err := r.key(ctx, heldName{t, UseWrap, 0})
	if err != nil {
		return nil, false, fmt.Errorf("keyring.RewrapSealed: %w", err)
	}
	if w.KeyVersion == newest.version {
		return sealed, false, nil
	}
	old, err := r.key(ctx, heldName{t, UseWrap, w.KeyVersion})
	if err != nil {
		return nil, false, fmt.Errorf("keyring.RewrapSealed: %w", err)
	}
	key, err := unwrapUnder(old.aead, w, Binding{t, item})
	if err != nil {
		return nil, false, fmt.Errorf("keyring.RewrapSealed: %w", err)
	}
	defer key.Clear()
	anew := wrapUnder(newest.aead, string(UseWrap), newest.version, key, Binding{t, item})
	return append(anew.append([]byte(envelopeMagic)), body...), true, nil
}
