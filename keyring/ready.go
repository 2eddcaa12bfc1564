package keyring

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/avouch-dev/avouch/internal/fresh"
	"github.com/avouch-dev/avouch/internal/secret"
)

// A process that opened the key store when it began may not do so now: its mark has come under a version of the platform key, or under a
// KMS, that the process was not given; or the KMS refuses. So the mark is tried again: for readiness, before a new key is made, and
// before what does not open is called altered.

const (
	// readyLife is how long Ready goes by what was found: anybody may ask a server whether it is ready, and a KMS may have its price.
	readyLife = 5 * time.Second
	// provePatience is how long a proof may take.
	provePatience = 5 * time.Second
)

// proof is whether the mark opened when it was last tried.
type proof struct {
	reads *fresh.Reads[struct{}, struct{}]
	mu    sync.Mutex
	at    time.Time // begun
	err   error
}

func newProof() *proof { return &proof{reads: fresh.New[struct{}, struct{}](provePatience)} }

// Ready says why this process cannot open the key store now, or nil: by its mark, which names what wraps now. What was found a few seconds
// ago counts. ErrNotGiven means that it has to be started again.
func (r *Ring) Ready(ctx context.Context) error {
	if err := r.opensStore(ctx, readyLife); err != nil {
		return fmt.Errorf("keyring.Ready: %w", err)
	}
	return nil
}

// opensStore tries the mark, unless that was done a moment ago.
func (r *Ring) opensStore(ctx context.Context, age time.Duration) error {
	p := r.mark
	p.mu.Lock()
	at, err := p.at, p.err
	p.mu.Unlock()
	if !at.IsZero() && time.Since(at) < age {
		return err
	}
	_, err = p.reads.Begin(ctx, struct{}{}, func(ctx context.Context) (struct{}, error) {
		began := time.Now()
		err := r.openMark(ctx)
		p.mu.Lock()
		p.at, p.err = began, err
		p.mu.Unlock()
		return struct{}{}, err
	}).Wait(ctx)
	if gone := ctx.Err(); gone != nil && err != nil {
		err = fmt.Errorf("%w: %w", ErrSilent, gone)
	}
	return err
}

func (r *Ring) openMark(ctx context.Context) error {
	var w Wrapped
	if err := twice(func() (err error) { w, err = r.store.readFile(filepath.Join(r.store.dir, markerFile)); return err }); err != nil {
		return err
	}
	key, err := r.wrapper.Unwrap(ctx, w, storeBinding)
	if errors.Is(err, ErrSealed) { // it opened when this process began
		return fmt.Errorf("the key store is wrapped by version %d of %s: %w", w.KeyVersion, w.KeyID, ErrNotGiven)
	}
	key.Clear()
	return err
}

// doubted is the error of a key that does not open. It says nothing of that key where the mark does not open either.
func (r *Ring) doubted(ctx context.Context, err error) error {
	if !errors.Is(err, ErrSealed) {
		return err
	}
	if closed := r.opensStore(ctx, 0); closed != nil {
		return closed
	}
	return err
}

// wrapNew wraps a key that is about to count, and proves that it opens: everything from then on would be sealed under it.
func (r *Ring) wrapNew(ctx context.Context, key secret.Bytes, b Binding) (Wrapped, error) {
	if err := r.opensStore(ctx, followLife); err != nil {
		return Wrapped{}, outage(err)
	}
	w, err := r.wrap(ctx, key, b)
	if err == nil {
		err = opensAs(ctx, r.unwrap, w, b, key)
	}
	return w, err
}
