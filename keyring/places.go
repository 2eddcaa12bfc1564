package keyring

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Place is where a signing key is, for operators.
type Place struct {
	KID, Use, Algorithm string
	KMS, Key            string // that holds it, and what it knows it by; "" if it is wrapped in the database, and in servers' memory
	State               string // signs, next, verifies, retired, revoked or unusable
	SignsFrom           time.Time
	RetiresAt           time.Time // zero while no newer key signs
	Given               bool      // this process was given what signs with it
}

// Places says where the signing keys are that are not destroyed.
func (s *Signing) Places(ctx context.Context) ([]Place, error) {
	keys, err := s.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("keyring.Places: %w", err)
	}
	now, set := s.now(), s.set.Load()
	var all []Place
	for i := range keys {
		k := &keys[i]
		if k.destroyed() {
			continue
		}
		p := Place{KID: k.KID, Use: k.Use, Algorithm: k.Algorithm, State: set.state(k, now), SignsFrom: k.SignsFrom, RetiresAt: k.RetiresAt}
		if _, held, _ := k.sealed(); held {
			r, err := k.reference(ctx, s.wrapper)
			if err != nil && !isDamage(err) {
				return nil, fmt.Errorf("keyring.Places: %s: %w", k.KID, err)
			}
			p.KMS, p.Key = cmp.Or(r.KMS, "unknown"), r.Key
		}
		p.Given = p.KMS == "" || s.held.Signer != nil && p.KMS == s.held.ID
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Place) int {
		return cmp.Or(cmp.Compare(b.Use, a.Use), cmp.Compare(a.Algorithm, b.Algorithm), a.SignsFrom.Compare(b.SignsFrom))
	})
	return all, nil
}

func (set *keySet) state(k *SigningKey, now time.Time) string {
	_, out := set.left[k.KID]
	signer := signerAt(now, set.lines[k.line()])
	switch {
	case k.revoked():
		return "revoked"
	case out:
		return "unusable"
	case !k.published(now):
		return "retired"
	case signer != nil && signer.KID == k.KID:
		return "signs"
	case k.SignsFrom.After(now):
		return "next"
	}
	return "verifies"
}
