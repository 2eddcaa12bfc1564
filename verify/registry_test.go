package verify

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/apikey"
)

// stalled is a registry whose reads stand still until they are let go or give up. Each says how long it may take.
func (h *house) stalled(begun chan<- time.Duration) (r *registry, let chan struct{}) {
	let = make(chan struct{})
	return newRegistry(h.DB, func(ctx context.Context) error {
		end, bounded := ctx.Deadline()
		if !bounded {
			end = time.Now().Add(time.Hour)
		}
		begun <- time.Until(end)
		select {
		case <-let:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}), let
}

// TestStalledReadIsNotWaitedFor: who waits for a read of the registry, its own or another's, goes when its own time is
// over; the read goes on for the others, for as long as it may take at most.
func TestStalledReadIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	h := open(t)
	_, id := h.newKey(t, h.service, apikey.NewKey{})
	begun := make(chan time.Duration, 1)
	r, let := h.stalled(begun)
	ask := func(ctx context.Context, failed chan<- error) {
		_, k, err := r.key(ctx, h.service.Tenant(), id)
		if err == nil && k == nil {
			err = errors.New("no key")
		}
		failed <- err
	}
	patient, first, second := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go ask(ctx, first)
	if bound := <-begun; bound > loadPatience {
		t.Errorf("the read may take %v", bound)
	}
	go ask(ctx, second)
	go ask(t.Context(), patient)
	cancel()
	for who, failed := range map[string]chan error{"who began the read": first, "who joined it": second} {
		select {
		case err := <-failed:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", who, err)
			}
		case <-time.After(loadPatience / 2):
			t.Errorf("%s still waits", who)
		}
	}
	close(let)
	if err := <-patient; err != nil {
		t.Errorf("who waited: %v", err)
	}
	if m := r.get(h.service.Tenant()); m == nil || m.keys[id] == nil {
		t.Error("what was read is not remembered")
	}
}

// TestNoReadOfBeforeIsJoined: a key that was enabled, with an acknowledgement, is not refused because of a read that began
// before and is under way.
func TestNoReadOfBeforeIsJoined(t *testing.T) {
	t.Parallel()
	h := open(t)
	_, id := h.newKey(t, h.service, apikey.NewKey{})
	_, err := h.keys.Disable(t.Context(), h.service, id)
	must(t, err)
	begun := make(chan time.Duration, 2)
	r, let := h.stalled(begun)
	old := make(chan bool, 1)
	go func() {
		_, k, err := r.key(t.Context(), h.service.Tenant(), id)
		old <- err == nil && !k.DisabledAt.IsZero()
	}()
	<-begun
	_, err = h.keys.Enable(t.Context(), h.service, id)
	must(t, err)
	anew := make(chan bool, 1)
	go func() {
		_, k, err := r.keyAnew(t.Context(), h.service.Tenant(), id)
		anew <- err == nil && k.DisabledAt.IsZero()
	}()
	select {
	case <-begun: // a read of its own, while the other stands still
	case <-time.After(loadPatience / 2):
		t.Error("it joined the read that began before")
	}
	close(let)
	if !<-old || !<-anew {
		t.Error("the read of before does not say disabled, or the one of after does")
	}
}
