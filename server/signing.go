package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// keysUnusable is the kind of incident that a signing key's record is no key: the platform's own, since it is everybody's.
const keysUnusable = "signing_key.unusable"

// keysRefused is the kind of incident that a KMS does not sign with a key that it holds.
const keysRefused = "signing_key.refused"

// openSigning opens the signing keys, and makes those that are missing.
func (s *Server) openSigning(ctx context.Context) error {
	s.Signing = keyring.NewSigning(keyring.NewSigningTable(s.DB, tenantdb.System(tenantdb.Platform, "signing")), s.wrappers.Signing, time.Now)
	if held := s.wrappers.Held; held.Signer != nil {
		held.Installation = s.set.public.Host
		s.Signing.Hold(held)
	}
	newKeyMetrics(s.metrics, s.Ring, s.Signing)
	switch err := s.Signing.Rotate(ctx); {
	case errors.Is(err, keyring.ErrNotEnded): // it is tried again, and stops nothing
		s.log.WarnContext(ctx, "a signing key was not ended in its KMS", "error", err)
	case err != nil && !(s.operating && errors.Is(err, keyring.ErrNoneOpens)): // who operates may revoke them
		return fmt.Errorf("server.Open: signing keys: %w", err)
	}
	return nil
}

// watchKeys is the background work of reading the signing keys again. A record that cannot be used stops nothing but its
// own tokens (keyring.Unusable), so somebody must be told: in the log when it is first seen, and by an incident. Where it
// was the key that signs, another takes over now and not at the next rotation.
func (s *Server) watchKeys() func(context.Context) error {
	var told []string
	return func(ctx context.Context) error {
		if err := s.Signing.Refresh(ctx); err != nil {
			return err
		}
		if err := s.opensKeys(ctx); err != nil { // then a record that does not open may be sound
			return err
		}
		all := s.Signing.Unusable()
		kids := make([]string, len(all))
		for i, u := range all {
			kids[i] = u.KID
			if !slices.Contains(told, u.KID) {
				s.log.ErrorContext(ctx, "a signing key cannot be used", "kid", u.KID, "error", u.Why)
			}
		}
		told = kids
		if len(all) == 0 {
			return nil
		}
		if err := s.raiseUnusable(ctx, all); err != nil {
			return err
		}
		return s.Signing.Rotate(ctx)
	}
}

// rotateKeys rotates the signing keys, unless this server cannot tell which of them are sound. A key that a KMS holds and does not sign
// with is told of, the next one too: to replace it takes somebody who knows why.
func (s *Server) rotateKeys(ctx context.Context) error {
	if err := s.opensKeys(ctx); err != nil {
		return err
	}
	err := s.Signing.Rotate(ctx)
	for _, k := range s.Signing.Refusing(ctx) {
		s.log.ErrorContext(ctx, "the key management does not sign with a key that it holds", "kid", k.KID, "error", k.Why)
		_, told := s.Incident.Raise(ctx, tenantdb.System(tenantdb.Platform, "signing"), keysRefused, k.KID,
			"The key management that holds this signing key does not sign with it: the key was deleted, replaced or disabled there, or the servers lost the right. No token is signed by it. "+
				"Give that back, or revoke the key with avouch keyring revoke: the next one takes over, and tokens that this one signed are refused.")
		err = errors.Join(err, told)
	}
	return err
}

func (s *Server) raiseUnusable(ctx context.Context, all []keyring.Unusable) error {
	for _, u := range all {
		_, err := s.Incident.Raise(ctx, tenantdb.System(tenantdb.Platform, "signing"), keysUnusable, u.KID,
			"The record of this signing key cannot be used, so every token that it signed is refused: restore the record from a backup, or revoke the key with avouch keyring revoke.")
		if err != nil {
			return fmt.Errorf("server.raiseUnusable: %w", err)
		}
	}
	return nil
}

func newKeyMetrics(r prometheus.Registerer, ring *keyring.Ring, keys *keyring.Signing) {
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "avouch_keys_in_memory", Help: "Organisations' keys that are unwrapped in this process's memory.",
	}, func() float64 { return float64(ring.Held()) }))
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "avouch_signing_keys_unusable", Help: "Signing keys whose records cannot be used.",
	}, func() float64 { return float64(len(keys.Unusable())) }))
}
