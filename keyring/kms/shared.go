package kms

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"golang.org/x/sync/singleflight"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
)

// shared lets those who unwrap the same at the same time share one call. What servers remember of a key ends for all who use it at once,
// and each of them would ask the KMS then.
type shared struct {
	secret.Hidden
	keyring.Named
	calls singleflight.Group
}

// Unwrap decrypts a key. The call goes on when who began it hangs up: others may wait for it, and the driver ends it in time.
func (s *shared) Unwrap(ctx context.Context, w keyring.Wrapped, b keyring.Binding) (secret.Bytes, error) {
	if err := ctx.Err(); err != nil {
		return secret.Bytes{}, fmt.Errorf("kms.Unwrap: %w: %w", keyring.ErrSilent, err)
	}
	same := fmt.Sprintf("%s %d %x %s %q", w.KeyID, w.KeyVersion, sha256.Sum256(w.Blob), b.Tenant, b.Item)
	call := s.calls.DoChan(same, func() (any, error) { return s.Named.Unwrap(context.WithoutCancel(ctx), w, b) })
	select {
	case <-ctx.Done():
		return secret.Bytes{}, fmt.Errorf("kms.Unwrap: %w: %w", keyring.ErrSilent, ctx.Err())
	case got := <-call:
		if got.Err != nil {
			return secret.Bytes{}, got.Err
		}
		key, ok := got.Val.(secret.Bytes)
		if !ok {
			return secret.Bytes{}, fmt.Errorf("kms.Unwrap: a key of %T", got.Val)
		}
		return secret.Own(slices.Clone(key.Expose())), nil // each clears its own; nobody knows who is the last to read the first
	}
}
