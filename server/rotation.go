package server

import (
	"fmt"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/rotation"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/signin/password"
	"github.com/avouch-dev/avouch/signin/sso"
	"github.com/avouch-dev/avouch/vault"
)

// sealedColumns are all columns in which rooms keep what Ring.Seal made (TestEveryColumnIsKnown).
func sealedColumns() []keyring.SealedColumn {
	return slices.Concat(org.Sealed(), apikey.Sealed(), policy.Sealed(), password.Sealed(), sso.Sealed(), vault.Sealed(), []keyring.SealedColumn{sealedAnswers()})
}

// openRotation makes the room that rotates organisations' keys.
func (s *Server) openRotation() error {
	const day = 24 * time.Hour
	every, kept := time.Duration(s.cfg.KeyRotation)*day, time.Duration(s.cfg.OldKeysKept)*day
	if every < 0 || kept < 0 {
		return fmt.Errorf("%w: AVOUCH_KEY_ROTATION and AVOUCH_OLD_KEYS_KEPT are days, and not below zero", ErrConfig)
	}
	s.Rotation = rotation.New(rotation.Config{
		DB: s.DB, Ring: s.Ring, Columns: sealedColumns(), Beside: s.Org.RewrapKMS, Raise: s.raise, Every: every, Kept: max(kept, rotation.LeastKept), Log: s.log, Now: s.now,
	})
	return nil
}
