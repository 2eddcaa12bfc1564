package server

import (
	"context"
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// keysUnusable is the kind of incident that a signing key's record is no key: the platform's own, since it is everybody's.
const keysUnusable = "signing_key.unusable"

// watchKeys is the background work of reading the signing keys again. A record that cannot be used stops nothing but its
// own tokens (keyring.Unusable), so somebody must be told: in the log when it is first seen, and by an incident. Where it
// was the key that signs, another takes over now and not at the next rotation.
func (s *Server) watchKeys() func(context.Context) error {
	var told []string
	return func(ctx context.Context) error {
		if err := s.Signing.Refresh(ctx); err != nil {
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

func newKeyMetrics(r prometheus.Registerer, keys *keyring.Signing) {
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "avouch_signing_keys_unusable", Help: "Signing keys whose records cannot be used.",
	}, func() float64 { return float64(len(keys.Unusable())) }))
}
