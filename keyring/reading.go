package keyring

import (
	"context"
	"time"

	"github.com/avouch-dev/avouch/internal/fresh"
)

// Callers share the reads of the records: otherwise whoever has one good token could make everyone wait behind a queue of
// reads, some with the heads of logs held.

const (
	readPatience = 6 * time.Second // as long as the door waits for an answer to a commit
	unknownEvery = 5 * time.Second // an unknown kid makes at most one read in this time
	unknownAgain = time.Second     // but if it failed, another after this: the kid may be of a new key
)

type reading = fresh.Read[[]SigningKey]

func (s *Signing) begin(ctx context.Context) *reading {
	return s.reads.Begin(ctx, struct{}{}, s.refresh)
}

// read is a read of the records that begins after it was asked for. At most one other goes before it.
func (s *Signing) read(ctx context.Context) ([]SigningKey, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return s.begin(ctx).Wait(ctx)
}

// readForUnknown is the read that an unknown kid makes, or the one that another kid made a moment ago. Whether a requester
// waits for its end makes no difference to it, so nobody can use it up by hanging up.
func (s *Signing) readForUnknown(ctx context.Context) error {
	s.mu.Lock()
	now := s.now()
	again := s.asked == nil
	if !again && s.asked.Over() {
		every := unknownEvery
		if s.asked.Err() != nil {
			every = unknownAgain
		}
		again = now.Sub(s.askedAt) >= every
	}
	if again {
		s.asked, s.askedAt = s.begin(ctx), now
	}
	r := s.asked
	s.mu.Unlock()
	_, err := r.Wait(ctx)
	return err
}
