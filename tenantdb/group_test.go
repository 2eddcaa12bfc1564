package tenantdb

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
)

// A caller who goes while its item waits takes it back; one whose item is under way learns what became of it. In neither
// case does a thing happen that its caller was told did not.
func TestGroupTellsTheTruthToWhoGoes(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	c := newTenant(t, db, "A")
	begun, held := make(chan struct{}, 2), make(chan struct{})
	g := NewGroup(db, func(_ *Tx, items []string) ([]audit.Event, []error, error) {
		begun <- struct{}{}
		<-held
		events := make([]audit.Event, len(items))
		for i, name := range items {
			events[i] = audit.Event{Type: "test." + name}
		}
		return events, make([]error, len(items)), nil
	})
	ctx, leave := context.WithCancel(t.Context())
	under, waits, stays := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() { under <- g.Do(ctx, c, "under") }()
	<-begun
	go func() { waits <- g.Do(ctx, c, "waits") }()
	go func() { stays <- g.Do(t.Context(), c, "stays") }()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		g.mu.Lock()
		n := len(g.waiting[c.Tenant()])
		g.mu.Unlock()
		if n == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d items wait", n)
		}
	}
	leave()
	if err := <-waits; !problem.Is(err, problem.Unavailable) || problem.Uncertain(err) {
		t.Errorf("the item that waited: %v", err)
	}
	select {
	case err := <-under:
		t.Errorf("the item under way ended before its outcome: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(held)
	if err := <-under; err != nil {
		t.Errorf("the item under way: %v", err)
	}
	if err := <-stays; err != nil {
		t.Errorf("the item beside the one taken back: %v", err)
	}
	entries := logged(t, db, c)
	for name, want := range map[string]int{"test.under": 1, "test.waits": 0, "test.stays": 1} {
		if n := count(entries, name); n != want {
			t.Errorf("%s is in the log %d times", name, n)
		}
	}
}

// Who is told of a failure whose effect may still come is told so, and who is told of another is not.
func TestUnknownOutcomeSaysSo(t *testing.T) {
	t.Parallel()
	db, pg := fresh(t)
	c := newTenant(t, db, "A")
	d := draft(t, db, head(t, db, c), "held")
	holder, err := connect(t, pg.AdminURL).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), `SELECT FROM avouch.audit_head FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := db.Append(ctx, []Draft{d}); !problem.Is(err, problem.Unavailable) || !problem.Uncertain(err) {
		t.Errorf("an append whose caller has gone: %v", err)
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	lost := &doubt{drafts: []Draft{draft(t, db, head(t, db, c), "lost")}}
	if err := db.settled(lost, errUncertain); !problem.Is(err, problem.Unavailable) || problem.Uncertain(err) {
		t.Errorf("what is found to be not there: %v", err)
	}
	refused := errors.New("refused")
	if err := db.Change(t.Context(), c, func(*Tx) (audit.Event, error) { return audit.Event{}, refused }); err != refused || problem.Uncertain(err) {
		t.Errorf("a refused change: %v", err)
	}
	db.abandon() // as when settling takes too long
	if err := db.settled(lost, errUncertain); !problem.Is(err, problem.Unavailable) || !problem.Uncertain(err) {
		t.Errorf("what could not be settled: %v", err)
	}
	it := newItem(lost.drafts, nil)
	if err := db.resolve([]*item{it}, nil, errUncertain); !problem.Uncertain(unavailable(err)) || problem.Of(unavailable(err)).Detail == problem.Of(unavailable(refused)).Detail {
		t.Errorf("a batch that could not be settled: %v", unavailable(err))
	}
}
