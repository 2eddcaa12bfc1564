package keyring

import (
	"context"
	"time"
)

// Callers share the reads of the records: otherwise whoever has one good token could make everyone wait behind a queue of
// reads, some with the heads of logs held. A caller may only share a read that begins after it asked. One that began
// before could miss a revocation that was acknowledged meanwhile.

const (
	readPatience = 6 * time.Second // as long as the door waits for an answer to a commit
	unknownEvery = 5 * time.Second // an unknown kid makes at most one read in this time
	unknownAgain = time.Second     // but if it failed, another after this: the kid may be of a new key
)

// reading is one read of the records, for all who wait for it. What it found is not to be looked at before done is closed.
type reading struct {
	done chan struct{}
	keys []SigningKey
	err  error
}

// begin gives a read that begins from now on. s.mu must be held.
func (s *Signing) begin(ctx context.Context) *reading {
	if s.coming == nil {
		s.coming = &reading{done: make(chan struct{})}
		// It must not end with the one who came first.
		go s.perform(context.WithoutCancel(ctx), s.coming, s.latest)
		s.latest = s.coming
	}
	return s.coming
}

// perform reads once the reading before it is over: the snapshots are replaced in the order in which they were read.
func (s *Signing) perform(ctx context.Context, r, before *reading) {
	defer close(r.done)
	if before != nil {
		<-before.done
	}
	s.mu.Lock()
	s.coming = nil // who asks from now on cannot share it
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	r.keys, r.err = s.refresh(ctx)
}

// wait is what the reading found, unless the caller's own time is over before.
func (r *reading) wait(ctx context.Context) ([]SigningKey, error) {
	select {
	case <-r.done:
		return r.keys, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (r *reading) over() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// read is a read of the records that begins after it was asked for. At most one other goes before it.
func (s *Signing) read(ctx context.Context) ([]SigningKey, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	r := s.begin(ctx)
	s.mu.Unlock()
	return r.wait(ctx)
}

// readForUnknown is the read that an unknown kid makes, or the one that another kid made a moment ago. Whether a requester
// waits for its end makes no difference to it, so nobody can use it up by hanging up.
func (s *Signing) readForUnknown(ctx context.Context) error {
	s.mu.Lock()
	now := s.now()
	again := s.asked == nil
	if !again && s.asked.over() {
		every := unknownEvery
		if s.asked.err != nil {
			every = unknownAgain
		}
		again = now.Sub(s.askedAt) >= every
	}
	if again {
		s.asked, s.askedAt = s.begin(ctx), now
	}
	r := s.asked
	s.mu.Unlock()
	_, err := r.wait(ctx)
	return err
}
