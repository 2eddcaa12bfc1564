package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/avouch-dev/avouch/audit"
)

// Rotate does what is to be done: makes the first key, makes the standby, retires and destroys, and lets the standby take
// over from a key that cannot be used. It is safe to call on every server at any time; each step is logged. It ends with a
// Refresh. What a KMS does not do is tried again at the next call, and keeps nothing else from being done; if it is nothing but keys that
// are still there, the error is ErrNotEnded.
func (s *Signing) Rotate(ctx context.Context) error {
	var failed []task
	var kept, gone error
	for range maxSteps {
		todo, keys, err := s.todo(ctx, failed)
		if err != nil {
			return fmt.Errorf("keyring.Rotate: %w", errors.Join(err, kept))
		}
		if len(todo) == 0 {
			if gone = errors.Join(gone, s.endStrays(ctx, keys)); kept == nil {
				kept = gone
			}
			if kept != nil {
				return fmt.Errorf("keyring.Rotate: %w", kept)
			}
			return nil
		}
		switch err := s.step(ctx, s.store, todo[0]); {
		case errors.Is(err, ErrNotEnded):
			failed, gone = append(failed, todo[0]), errors.Join(gone, err)
		case unable(err):
			failed, kept = append(failed, todo[0]), errors.Join(kept, err)
		case err != nil:
			return fmt.Errorf("keyring.Rotate: %w", err)
		}
	}
	return s.Refresh(ctx)
}

// unable reports whether it is a KMS that did not do something.
func unable(err error) bool { return errors.Is(err, ErrSilent) || errors.Is(err, ErrRefused) }

// task is an action on a line.
type task struct {
	of line
	action
	record SigningKey // that it is about; empty for create
}

func taskOf(l line, a action, keys []SigningKey) task {
	t := task{of: l, action: a}
	if i := slices.IndexFunc(keys, func(k SigningKey) bool { return k.KID == a.kid }); i >= 0 {
		t.record = keys[i]
	}
	return t
}

// todo reads the records again and says what a rotation has to do, but for what has failed.
func (s *Signing) todo(ctx context.Context, failed []task) (todo []task, keys []SigningKey, err error) {
	if keys, err = s.read(ctx); err != nil {
		return nil, nil, err
	}
	for _, l := range lines(keys) {
		if blocked := s.set.Load().someOpen(l); blocked != nil {
			err = errors.Join(err, blocked)
			continue
		}
		for _, a := range plan(s.now(), l.of(s.sound(keys))) {
			if !slices.ContainsFunc(failed, func(f task) bool { return f.of == l && f.do == a.do && f.kid == a.kid }) {
				todo = append(todo, taskOf(l, a, keys))
			}
		}
	}
	if len(todo) > 0 { // what is wrong with another line is said when there is nothing left to do
		return todo, keys, nil
	}
	return nil, keys, err
}

// step does one action if it is still called for. A new key is made and wrapped before the records are locked: that may be calls to a
// KMS. So is the end of one that a KMS holds, since the record is all that knows of it; whoever comes second finds it gone.
func (s *Signing) step(ctx context.Context, store SigningStore, t task) error {
	var fresh SigningKey
	var err error
	switch t.do {
	case create:
		fresh, err = s.newKey(ctx, t.of)
	case destroy:
		err = s.endHeld(ctx, &t.record)
	}
	if err != nil {
		return err
	}
	stored := false
	err = store.Change(ctx, func(keys []SigningKey) (SigningKey, audit.Event, bool) {
		stored = false
		keys = t.of.of(s.sound(keys))
		for _, still := range plan(s.now(), keys) {
			if still.do == t.do && still.kid == t.kid {
				k := still.apply(s.now(), keys, fresh)
				stored = true
				return k, still.event(k), true
			}
		}
		return SigningKey{}, audit.Event{}, false
	})
	s.spent(ctx, &fresh, stored, err)
	return err
}

// Revoke ends a key in an emergency: every token that it signed is refused, as soon as a server refreshes. If it is the
// one that signs, its successor takes over first (the standby, which verifiers know), so that there is always a signer.
// by is the store bound to whoever revokes. It ends with a Rotate; what a KMS does not do of that is left to the next.
func (s *Signing) Revoke(ctx context.Context, by SigningStore, kid string) error {
	if !s.set.Load().knows(kid) {
		if err := s.Refresh(ctx); err != nil {
			return fmt.Errorf("keyring.Revoke: %w", err)
		}
	}
	of := s.set.Load().lineOf(kid)
	var fresh SigningKey
	for range maxSteps {
		var outcome error
		stored := false
		err := by.Change(ctx, func(keys []SigningKey) (k SigningKey, event audit.Event, change bool) {
			k, event, outcome = revocation(s.now(), keys, s.sound(keys), kid, fresh)
			stored = outcome == nil && k.KID == fresh.KID
			return k, event, outcome == nil
		})
		if stored || err != nil {
			s.spent(ctx, &fresh, stored, err)
			fresh = SigningKey{}
		}
		switch {
		case err != nil:
			return fmt.Errorf("keyring.Revoke: %w", err)
		case errors.Is(outcome, errNoSuccessor):
			if fresh, err = s.newKey(ctx, of); err != nil {
				return fmt.Errorf("keyring.Revoke: %w", err)
			}
			continue
		}
		if fresh.KID != "" && outcome != nil { // another took over meanwhile
			s.spent(ctx, &fresh, false, nil)
		}
		switch {
		case errors.Is(outcome, ErrRevokedKey):
			return s.revoked(ctx)
		case outcome != nil:
			return fmt.Errorf("keyring.Revoke: %w", outcome)
		}
	}
	return errors.New("keyring.Revoke: the key went on signing, whatever took over from it")
}

// revoked does what follows a revocation. That others do not open, or that a KMS cannot be asked, does not undo it.
func (s *Signing) revoked(ctx context.Context) error {
	err := s.Rotate(ctx)
	switch {
	case errors.Is(err, ErrNoneOpens):
		return nil
	case unable(err), errors.Is(err, ErrNotEnded):
		return s.Refresh(ctx)
	}
	return err
}
