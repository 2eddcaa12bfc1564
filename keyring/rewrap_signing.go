package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/secret"
)

// Rewrap wraps the private parts of signing keys, which are in the database, under the newest version of the wrapper's key. Each is a
// change of its own, with its entry in the log; it may be ended at any point and begun again. by is the store bound to whoever asks. An
// error names the keys that do not open: they stay as they are, and need what they needed. progress may be nil.
func (s *Signing) Rewrap(ctx context.Context, by SigningStore, progress func(Progress)) (p Progress, err error) {
	newest, err := s.wrapper.Describe(ctx)
	if err != nil {
		return p, fmt.Errorf("keyring.Rewrap: %w", err)
	}
	keys, err := by.Load(ctx)
	if err != nil {
		return p, fmt.Errorf("keyring.Rewrap: %w", err)
	}
	var closed Failures
	for _, k := range keys {
		if k.destroyed() {
			continue
		}
		p.Keys++
		again, err := s.rewrapKey(ctx, by, k, newest)
		if isDamage(err) {
			closed = append(closed, fmt.Errorf("signing key %s: %w", k.KID, err))
			p.Failed++
			continue
		}
		if err != nil {
			return p, fmt.Errorf("keyring.Rewrap: signing key %s: %w", k.KID, errors.Join(append(closed, err)...))
		}
		if again {
			p.Wrapped++
		}
		if progress != nil {
			progress(p)
		}
	}
	if err := s.Refresh(ctx); err != nil {
		return p, fmt.Errorf("keyring.Rewrap: %w", errors.Join(append(closed, err)...))
	}
	if len(closed) > 0 {
		return p, fmt.Errorf("keyring.Rewrap: %w", closed)
	}
	return p, nil
}

// rewrapKey wraps outside of the records' lock, and stores under it unless the record has changed meanwhile.
func (s *Signing) rewrapKey(ctx context.Context, by SigningStore, k SigningKey, newest Description) (again bool, err error) {
	w, held, err := k.sealed()
	if err != nil {
		return false, err
	}
	if w.KeyID == newest.KeyID && w.KeyVersion == newest.Version {
		return false, nil
	}
	b := k.binding(held)
	plain, err := s.wrapper.Unwrap(ctx, w, b)
	if err != nil {
		return false, err
	}
	defer plain.Clear()
	anew, err := s.wrapper.Wrap(ctx, plain, b)
	if err != nil {
		return false, err
	}
	if err := proves(ctx, s.wrapper, anew, b, plain); err != nil {
		return false, err
	}
	err = by.Change(ctx, func(now []SigningKey) (SigningKey, audit.Event, bool) {
		i := slices.IndexFunc(now, func(n SigningKey) bool { return n.KID == k.KID && slices.Equal(n.Private, k.Private) })
		if i < 0 {
			return SigningKey{}, audit.Event{}, false
		}
		again = true
		stored := now[i]
		stored.Private = seal(anew, held)
		return stored, audit.Event{
			Type: "signing_key.rewrapped", Target: audit.Target{Kind: "signing_key", ID: k.KID},
			Public: []audit.Field{{Name: "algorithm", Value: k.Algorithm}, {Name: "wrapped_by", Value: anew.KeyID}, {Name: "version", Value: strconv.FormatUint(uint64(anew.KeyVersion), 10)}},
		}, true
	})
	return again, err
}

// Needed counts the signing keys by what opens them. What is not in it can be taken away.
func (s *Signing) Needed(ctx context.Context) (map[Wrapping]int, error) {
	keys, err := s.store.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("keyring.Needed: %w", err)
	}
	needed := map[Wrapping]int{}
	for _, k := range keys {
		if w, _, err := k.sealed(); err == nil {
			needed[Wrapping{w.KeyID, w.KeyVersion}]++
		}
	}
	return needed, nil
}

// proves opens what is about to count, or to take the place of the only other copy.
func proves(ctx context.Context, by KeyWrapper, w Wrapped, b Binding, key secret.Bytes) error {
	return opensAs(ctx, by.Unwrap, w, b, key)
}

func opensAs(ctx context.Context, unwrap func(context.Context, Wrapped, Binding) (secret.Bytes, error), w Wrapped, b Binding, key secret.Bytes) error {
	if err := w.check(); err != nil {
		return fmt.Errorf("what was wrapped cannot be kept, and nothing was made or replaced: %w", err)
	}
	again, err := unwrap(ctx, w, b)
	if err != nil {
		return fmt.Errorf("what was wrapped does not open, and nothing was made or replaced: %w", err)
	}
	defer again.Clear()
	if !again.Equal(key) {
		return fmt.Errorf("what was wrapped opens as another key, and nothing was made or replaced: %w", ErrSealed)
	}
	return nil
}
