package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/pgfault"
)

// behind opens a door whose connections go through a fault proxy.
func behind(t *testing.T, pgURL string, patience time.Duration) (*DB, *pgfault.Proxy) {
	t.Helper()
	u, err := url.Parse(pgURL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	p, err := pgfault.Listen(q.Get("host"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	q.Set("host", p.Dir())
	u.RawQuery = q.Encode()
	db, err := Open(t.Context(), Config{URL: u.String(), Sealer: plainSealer{}, Log: slog.New(slog.DiscardHandler), Patience: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db, p
}

// acks is what callers were told, by entry.
type acks struct {
	mu  sync.Mutex
	yes map[audit.EntryID]Position
	no  map[audit.EntryID]error
}

func newAcks() *acks { return &acks{yes: map[audit.EntryID]Position{}, no: map[audit.EntryID]error{}} }

func (a *acks) add(d Draft, pos []Position, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		a.yes[d.entry] = pos[0]
	} else {
		a.no[d.entry] = err
	}
}

// check holds the promise: acknowledged is there, once, where it was said to be; refused is not there at all.
func (a *acks) check(t *testing.T, entries []audit.Entry) {
	t.Helper()
	at := map[audit.EntryID]int{}
	for i, e := range entries {
		if _, ok := at[e.ID]; ok {
			t.Errorf("entry %s is there twice", e.ID)
		}
		at[e.ID] = i
	}
	for e, pos := range a.yes {
		if i, ok := at[e]; !ok || int64(i) != int64(pos.Seq) {
			t.Errorf("entry %s was acknowledged at %d and is at %d (%v)", e, pos.Seq, i, ok)
		}
	}
	for e, err := range a.no {
		if i, ok := at[e]; ok {
			t.Errorf("entry %s was refused (%v) and is there at %d", e, err, i)
		}
	}
}

// underFaults appends and changes from many callers while a share of all replies meets the fault.
func underFaults(t *testing.T, fault pgfault.Fault, share int, late time.Duration) {
	t.Helper()
	direct, pg := fresh(t)
	c := newTenant(t, direct, "A")
	db, proxy := behind(t, pg.URL, 400*time.Millisecond)
	proxy.Late = late
	told := newAcks()
	var changes, unsure atomic.Int64
	proxy.Choose(func(string) pgfault.Fault {
		if rand.IntN(share) == 0 {
			return fault
		}
		return pgfault.Pass
	})
	parallel(12, func(i int) {
		h := head(t, direct, c)
		for range 30 {
			if i == 0 {
				switch err := rename(context.Background(), db, c, fmt.Sprint(i)); {
				case err == nil:
					changes.Add(1)
				default:
					unsure.Add(1)
				}
				continue
			}
			d := draft(t, db, h, "append")
			pos, err := db.Append(context.Background(), []Draft{d})
			told.add(d, pos, err)
			var stale *StaleError
			if errors.As(err, &stale) {
				h = stale.Heads[0]
			} else if err != nil {
				h = head(t, direct, c)
			}
		}
	})
	proxy.Choose(nil)
	entries := logged(t, direct, c)
	told.check(t, entries)
	if n := int64(count(entries, "organisation.renamed")); n != changes.Load() {
		t.Errorf("%d changes acknowledged (%d refused), %d in the log", changes.Load(), unsure.Load(), n)
	}
	if proxy.Faults() < 3 || len(told.yes) < 50 {
		t.Errorf("only %d faults and %d acknowledgements: the test does not test", proxy.Faults(), len(told.yes))
	}
	t.Logf("%d faults: %d acknowledged, %d refused", proxy.Faults(), len(told.yes), len(told.no))
}

func TestLostReply(t *testing.T) {
	t.Parallel()
	underFaults(t, pgfault.Lose, 12, 0)
}

func TestTruncatedReply(t *testing.T) {
	t.Parallel()
	underFaults(t, pgfault.Truncate, 12, 0)
}

func TestDuplicatedReply(t *testing.T) {
	t.Parallel()
	underFaults(t, pgfault.Duplicate, 6, 0)
}

func TestLateReply(t *testing.T) {
	t.Parallel()
	underFaults(t, pgfault.Delay, 20, 600*time.Millisecond)
}

// A statement that is still under way when its answer is given up for lost must not take effect afterwards.
func TestLateStatementIsFenced(t *testing.T) {
	t.Parallel()
	db, pg := fresh(t)
	c := newTenant(t, db, "A")
	h := head(t, db, c)
	admin := connect(t, pg.AdminURL)
	holder, err := admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), `SELECT 1 FROM avouch.audit_head WHERE tenant_id = $1 FOR UPDATE`, c.Tenant()); err != nil {
		t.Fatal(err)
	}
	d := draft(t, db, h, "late")
	w := &batchWork{}
	w.build([]*item{newItem([]Draft{d}, nil)}, time.Now())
	late := connect(t, pg.URL)
	done := make(chan error, 1)
	go func() { done <- db.exec(context.Background(), late, w) }() // waits for the head
	time.Sleep(100 * time.Millisecond)
	// Free the head for settle alone: the late statement is behind it in the queue, as a frozen backend would be.
	settled := make(chan map[audit.EntryID]audit.Seq, 1)
	go func() {
		found, err := db.settle([]*Draft{&d}, nil)
		if err != nil {
			t.Error(err)
		}
		settled <- found
	}()
	time.Sleep(100 * time.Millisecond)
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	found := <-settled
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	_, said := found[d.entry]
	if there := count(logged(t, db, c), "test.late") == 1; there != said {
		t.Errorf("settle said the entry is there: %v; it is: %v", said, there)
	}
}

func TestStandbyCancelledIsNoAcknowledgement(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	conn, err := db.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), `DO $$ BEGIN RAISE WARNING 'canceling wait for synchronous replication due to user request'; END $$`); err != nil {
		t.Fatal(err)
	}
	if !standbyCancelled(conn.Conn()) || standbyCancelled(conn.Conn()) {
		t.Error("the server's warning was not noticed exactly once")
	}
}
