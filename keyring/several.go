package keyring

import (
	"context"
	"fmt"
	"slices"

	"github.com/avouch-dev/avouch/internal/secret"
)

// Named is a KeyWrapper that says, without asking anyone, which wrapped keys are its own: those with its KeyID.
type Named interface {
	KeyWrapper
	KeyID() string
}

// Several wraps under the first of some wrappers, and unwraps with the one that a wrapped key names: while an installation moves from
// one to another, until Rewrap has been through.
type Several struct{ all []Named }

// NewSeveral puts wrappers together. The first one is the newest.
func NewSeveral(newest Named, older ...Named) *Several {
	return &Several{append([]Named{newest}, older...)}
}

// KeyID is the newest's.
func (s *Several) KeyID() string { return s.all[0].KeyID() }

// KeyIDs are those of all wrappers.
func (s *Several) KeyIDs() (ids []string) {
	for _, w := range s.all {
		ids = append(ids, w.KeyID())
	}
	return ids
}

// Wrap encrypts a key under the newest.
func (s *Several) Wrap(ctx context.Context, key secret.Bytes, b Binding) (Wrapped, error) {
	return s.all[0].Wrap(ctx, key, b)
}

// Unwrap decrypts a key with the wrapper that it names, and with no other.
func (s *Several) Unwrap(ctx context.Context, w Wrapped, b Binding) (secret.Bytes, error) {
	for _, one := range s.all {
		if one.KeyID() == w.KeyID {
			return one.Unwrap(ctx, w, b)
		}
	}
	return secret.Bytes{}, fmt.Errorf("keyring.Unwrap: wrapped under %q, and this process was given %q: %w", w.KeyID, s.KeyIDs(), ErrSealed)
}

// Describe is the newest's.
func (s *Several) Describe(ctx context.Context) (Description, error) { return s.all[0].Describe(ctx) }

// All describes each of the wrappers, the newest first.
func (s *Several) All(ctx context.Context) (all []Description, err error) {
	for _, w := range s.all {
		d, err := w.Describe(ctx)
		if err != nil {
			return nil, fmt.Errorf("keyring.All: %s: %w", w.KeyID(), err)
		}
		all = append(all, d)
	}
	return all, nil
}

// Opens reports whether some wrapper unwraps what was wrapped so, as their descriptions say.
func (d Description) Opens(w Wrapping) bool {
	return d.KeyID == w.KeyID && slices.Contains(d.Versions, w.Version)
}
