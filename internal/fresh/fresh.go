// Package fresh lets many callers share one read of something that must not be stale.
//
// A caller shares only a read that begins after it asked: one that began before could miss a change that was acknowledged
// meanwhile. So at most one read of a thing runs at a time, whatever is asked, and nobody waits for more than two:
// TestReadBeginsAfterItWasAskedFor, TestManyShareOne.
package fresh

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Reads are the reads of things named by K that give T.
type Reads[K comparable, T any] struct {
	patience time.Duration
	mu       sync.Mutex
	coming   map[K]*Read[T] // not begun yet
	last     map[K]*Read[T] // the newest, until it is over
}

// New makes reads that may take so long each.
func New[K comparable, T any](patience time.Duration) *Reads[K, T] {
	return &Reads[K, T]{patience: patience, coming: map[K]*Read[T]{}, last: map[K]*Read[T]{}}
}

// Read is one read, for all who wait for it.
type Read[T any] struct {
	done  chan struct{}
	value T
	err   error
}

// Begin gives a read of k that begins from now on. It does not end with ctx, which only lends its values: others wait for it
// too. read may run after Begin's caller has gone.
func (rs *Reads[K, T]) Begin(ctx context.Context, k K, read func(context.Context) (T, error)) *Read[T] {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r := rs.coming[k]; r != nil {
		return r
	}
	r, before := &Read[T]{done: make(chan struct{})}, rs.last[k]
	rs.coming[k], rs.last[k] = r, r
	go rs.perform(context.WithoutCancel(ctx), k, r, before, read)
	return r
}

// perform reads once the read before is over: what is read later is newer.
func (rs *Reads[K, T]) perform(ctx context.Context, k K, r, before *Read[T], read func(context.Context) (T, error)) {
	defer close(r.done)
	if before != nil {
		<-before.done
	}
	rs.mu.Lock()
	delete(rs.coming, k) // who asks from now on cannot share it
	rs.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, rs.patience)
	defer cancel()
	defer func() {
		if v := recover(); v != nil { // of a request's goroutine it would end the request, and not the server
			r.err = fmt.Errorf("fresh: the read panicked: %v\n%s", v, debug.Stack())
		}
		rs.mu.Lock()
		defer rs.mu.Unlock()
		if rs.last[k] == r {
			delete(rs.last, k)
		}
	}()
	r.value, r.err = read(ctx)
}

// Wait is what the read found, unless the caller's own time is over before. What it found is shared: it must not be changed.
func (r *Read[T]) Wait(ctx context.Context) (T, error) {
	select {
	case <-r.done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// Over reports whether the read has ended, and Err may be asked.
func (r *Read[T]) Over() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// Err is how a read that is over failed.
func (r *Read[T]) Err() error { return r.err }
