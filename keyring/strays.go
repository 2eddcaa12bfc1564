package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// strayAge is how long a key may be on its way into the records: longer than a commit whose outcome is unknown can take.
const strayAge = 2 * time.Minute

// strays are keys that this process has had made in a KMS and that are not known to be in the records: another server was faster, or
// what became of the commit is not known. They are ended once it is sure that no record names them.
type strays struct {
	mu  sync.Mutex
	all map[reference]stray
}

type stray struct {
	kid   string
	since time.Time // zero if it is sure that it is not in the records
}

func (s *strays) add(r reference, kid string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[reference]stray{}
	}
	s.all[r] = stray{kid, now}
}

func (s *strays) forget(r reference) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, r)
}

func (s *strays) unstored(r reference) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one, ok := s.all[r]; ok {
		s.all[r] = stray{kid: one.kid}
	}
}

// due are those to be ended, now that the records are these. Those that are in them are strays no more.
func (s *strays) due(keys []SigningKey, now time.Time) (all []reference) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r, one := range s.all {
		switch {
		case slices.ContainsFunc(keys, func(k SigningKey) bool { return k.KID == one.kid }):
			delete(s.all, r)
		case one.since.IsZero(), keys != nil && now.Sub(one.since) > strayAge:
			all = append(all, r)
		}
	}
	return all
}

// endStrays ends them in the KMS. keys are all records; nil if they were not read.
func (s *Signing) endStrays(ctx context.Context, keys []SigningKey) (failed error) {
	for _, r := range s.strays.due(keys, s.now()) {
		if err := s.held.Signer.End(ctx, r.Key); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%w: %s, which no record names: %w", ErrNotEnded, r.Key, err))
			continue
		}
		s.strays.forget(r)
	}
	return failed
}

// spent says what became of a key that was made: it is in the records, it is not, or nobody knows.
func (s *Signing) spent(ctx context.Context, fresh *SigningKey, stored bool, unknown error) {
	if fresh.made == (reference{}) {
		return
	}
	switch {
	case unknown != nil: // it shows in the records, or does not
	case stored:
		s.strays.forget(fresh.made)
	default:
		s.strays.unstored(fresh.made)
		_ = s.endStrays(ctx, nil) // or at the next rotation
	}
}

// endHeld ends the key of a record in its KMS. Of a record that does not open nobody knows which that is.
func (s *Signing) endHeld(ctx context.Context, k *SigningKey) error {
	if _, held, err := k.sealed(); err != nil || !held {
		return nil
	}
	r, err := k.reference(ctx, s.wrapper)
	switch {
	case isDamage(err):
		return nil
	case err == nil && (s.held.Signer == nil || r.KMS != s.held.ID):
		err = fmt.Errorf("it is in %s, which this process was not given", r.KMS)
	case err == nil:
		err = s.held.Signer.End(ctx, r.Key)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNotEnded, k.KID, err)
	}
	return nil
}
