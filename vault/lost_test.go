package vault

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/pgfault"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestLostAnswers: the database's answer to a commit is lost, or half of it. Whoever tries again with the same key gets the code that the
// log says was given, and no counter is burnt; and what is given is in the log, of codes of time too.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	door, proxy := h.Behind(t)
	s := h.server(t, door)
	counted, timed := h.put(t, seedOf(HOTP)).ID, h.put(t, seedOf(TOTP)).ID
	var armed atomic.Value // the end of the reply that is lost, once
	armed.Store("")
	proxy.Choose(func(tag string) pgfault.Fault {
		if tag != "" && armed.CompareAndSwap(tag, "") {
			if proxy.Faults()%2 == 0 {
				return pgfault.Lose
			}
			return pgfault.Truncate
		}
		return pgfault.Pass
	})
	given := 0
	for n := range 20 {
		key := fmt.Sprint(n)
		armed.Store("COMMIT")
		first, err := s.Code(t.Context(), h.boss, counted, key)
		if err != nil && !problem.Is(err, problem.Unavailable) {
			t.Errorf("%d: %v", n, err)
		}
		armed.Store("")
		again, bad := s.Code(t.Context(), h.boss, counted, key)
		if bad != nil {
			t.Fatalf("%d: tried again: %v", n, bad)
		}
		if *again.Counter != int64(n) || err == nil && first.Code != again.Code {
			t.Errorf("%d: first %+v, %v, then counter %d", n, first, err, *again.Counter)
		}
		if err == nil {
			given++
		}
		armed.Store("SELECT 2") // of an append, which commits by itself: the log and a counter
		if _, err := s.Code(t.Context(), h.boss, timed, ""); err == nil {
			given++
		}
		armed.Store("")
		given++ // of again
	}
	if n := h.given(t, "vault.code_given"); n < given || proxy.Faults() < 10 {
		t.Errorf("%d were given, %d are in the log; %d faults", given, n, proxy.Faults())
	}
	t.Logf("%d faults, %d given", proxy.Faults(), given)
}

// TestMemoryIsBounded: however many items are asked for, so many are remembered of an organisation, and all are answered.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	m, at := newMemory(nil, time.Now), tenantdb.Head{Tenant: tenantdb.NewTenantID(), Epoch: 1}
	for n := range mostItems + 10 {
		i := Item{ID: ID(tenantdb.NewTenantID())}
		m.keep(&state{head: at, item: &i})
		if kept := len(m.rooms[at.Tenant].items); kept > mostItems || m.rooms[at.Tenant].items[i.ID] == nil {
			t.Fatalf("the %dth: %d are remembered", n+1, kept)
		}
	}
	for range mostTenants + 10 {
		i := Item{ID: ID(tenantdb.NewTenantID())}
		m.keep(&state{head: tenantdb.Head{Tenant: tenantdb.NewTenantID()}, item: &i})
	}
	if n := len(m.rooms); n > mostTenants {
		t.Errorf("%d organisations are remembered", n)
	}
}
