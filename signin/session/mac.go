package session

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

const macPurpose = "session/row"

// mac binds what a session is to a key of the organisation, which is not in the database: whoever can write a row there, and has no
// more, has no session by it, nor makes one somebody else's, or proved. The digest of a program's token is left out, since that token
// is derived from such a key itself; so is what only ends a session.
func (r *Room) mac(ctx context.Context, t tenantdb.TenantID, s *record) ([]byte, error) {
	digest := "derived"
	if s.Kind == Browser {
		digest = hex.EncodeToString(s.digest)
	}
	sum, err := r.cfg.Ring.Derive(ctx, t, macPurpose, fmt.Appendf(nil, "%s/%s/%s/%s/%x/%d/%q/%q", s.ID, s.Person, s.Kind, digest, s.Via, s.ProvedAt.UnixMicro(), s.Methods, s.held))
	return sum[:], err
}

// written refuses a session that no server of ours wrote.
func (r *Room) written(ctx context.Context, t tenantdb.TenantID, s *record) error {
	want, err := r.mac(ctx, t, s)
	if errors.Is(err, keyring.ErrDestroyed) || err == nil && subtle.ConstantTimeCompare(want, s.mac) != 1 {
		err = Refused()
	}
	return err
}
