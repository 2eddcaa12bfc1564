package tenantdb

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/pgtest"
	"github.com/avouch-dev/avouch/internal/problem"
)

func TestChangeIsRecorded(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	c := newTenant(t, db, "Acme")
	before := head(t, db, c)
	if err := rename(t.Context(), db, c, "Acme Ltd"); err != nil {
		t.Fatal(err)
	}
	if head(t, db, c).Epoch == before.Epoch {
		t.Error("a change that alters decisions left the epoch")
	}
	got := logged(t, db, c)
	if len(got) != 2 || got[1].Type != "organisation.renamed" || got[1].Request != c.RequestID() || got[1].Actor != c.Actor() {
		t.Errorf("log: %+v", got)
	}
	if len(got[1].Public) != 0 || len(got[1].Commitments) != 1 {
		t.Errorf("a private field is not committed to, or not private: %+v", got[1])
	}
}

func TestChangeNeedsEntry(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	c := newTenant(t, db, "Acme")
	err := db.Change(t.Context(), c, func(tx *Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), `UPDATE avouch.organisation SET name = 'nobody knows'`)
		return audit.Event{}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	err = db.Change(t.Context(), c, func(tx *Tx) (audit.Event, error) {
		if _, err := tx.Exec(t.Context(), `UPDATE avouch.organisation SET name = 'nobody knows'`); err != nil {
			return audit.Event{}, err
		}
		return renamed("x"), boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("Change = %v, want the room's error", err)
	}
	if got := name(t, db, c); got != "Acme" {
		t.Errorf("name is %q: an unrecorded change stayed", got)
	}
	if got := logged(t, db, c); len(got) != 1 {
		t.Errorf("%d entries, want 1", len(got))
	}
}

func name(t *testing.T, db *DB, c Caller) (s string) {
	t.Helper()
	if err := db.Read(t.Context(), c, func(tx *ReadTx) error {
		return tx.QueryRow(t.Context(), `SELECT name FROM avouch.organisation`).Scan(&s)
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTriggerRefusesUnrecordedChange(t *testing.T) {
	t.Parallel()
	db, pg := fresh(t)
	c := newTenant(t, db, "Acme")
	conn := connect(t, pg.URL)
	for _, sql := range []string{
		`UPDATE avouch.organisation SET name = 'x'`,
		`INSERT INTO avouch.scope (tenant_id, name, risk, description, created_at) SELECT tenant_id, 'x:y', 'low', '', now() FROM avouch.organisation`,
	} {
		err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), setCallerSQL, c.Tenant().String(), ""); err != nil {
				return err
			}
			tag, err := tx.Exec(t.Context(), sql)
			if err == nil && tag.RowsAffected() != 1 {
				t.Errorf("%s touched %d rows", sql, tag.RowsAffected())
			}
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "without an audit entry") {
			t.Errorf("%s: %v, want a refusal at commit", sql, err)
		}
	}
}

func TestReadCannotWrite(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	c := newTenant(t, db, "Acme")
	err := db.Read(t.Context(), c, func(tx *ReadTx) error {
		rows, err := tx.Query(t.Context(), `UPDATE avouch.organisation SET name = 'x' RETURNING name`)
		if err != nil {
			return err
		}
		rows.Close()
		return rows.Err()
	})
	if err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("an UPDATE through Read: %v", err)
	}
}

func TestOtherTenantInvisible(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	a, b := newTenant(t, db, "A"), newTenant(t, db, "B")
	for _, sql := range []string{`SELECT count(*) FROM avouch.organisation`, `SELECT count(*) FROM avouch.audit_head`, `SELECT count(DISTINCT tenant_id) FROM avouch.audit_entry`} {
		var n int
		if err := db.Read(t.Context(), a, func(tx *ReadTx) error { return tx.QueryRow(t.Context(), sql).Scan(&n) }); err != nil || n != 1 {
			t.Errorf("%s sees %d tenants, %v", sql, n, err)
		}
	}
	err := db.Change(t.Context(), a, func(tx *Tx) (audit.Event, error) {
		n, err := tx.Exec(t.Context(), `UPDATE avouch.organisation SET name = 'mine' WHERE tenant_id = $1`, b.Tenant())
		if n != 0 {
			t.Errorf("changed %d rows of another tenant", n)
		}
		return renamed("x"), err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Change(t.Context(), a, func(tx *Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), `INSERT INTO avouch.counter (tenant_id, subject) VALUES ($1, 'x')`, b.Tenant())
		return renamed("x"), err
	})
	if err == nil || !strings.Contains(err.Error(), "row-level security") {
		t.Errorf("inserted a row for another tenant: %v", err)
	}
}

// A connection that was used before has the setting ”, which a bare cast would choke on; and whatever was set must be
// gone.
func TestNoTenantNoRows(t *testing.T) {
	t.Parallel()
	db, pg := fresh(t)
	c := newTenant(t, db, "A")
	conn := connect(t, pg.URL)
	for _, used := range []bool{false, true} {
		if used {
			if err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), setCallerSQL, c.Tenant().String(), "")
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		for _, table := range []string{"organisation", "audit_head", "audit_entry", "counter"} {
			var n int
			if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM avouch.`+table).Scan(&n); err != nil || n != 0 {
				t.Errorf("used=%v: %s shows %d rows, %v", used, table, n, err)
			}
		}
	}
}

func TestStaleEpochIsRefused(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	c := newTenant(t, db, "A")
	old := head(t, db, c)
	if err := rename(t.Context(), db, c, "B"); err != nil {
		t.Fatal(err)
	}
	_, err := db.Append(t.Context(), []Draft{draft(t, db, old, "stale")})
	var stale *StaleError
	if !errors.As(err, &stale) || len(stale.Heads) != 1 || stale.Heads[0] != head(t, db, c) {
		t.Fatalf("Append at an old epoch = %v", err)
	}
	if _, err := db.Append(t.Context(), []Draft{draft(t, db, stale.Heads[0], "again")}); err != nil {
		t.Fatal(err)
	}
	if got := logged(t, db, c); count(got, "test.stale") != 0 || count(got, "test.again") != 1 {
		t.Errorf("log: %v", got)
	}
}

func TestTwoTenantsAreAllOrNothing(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	a, b := newTenant(t, db, "A"), newTenant(t, db, "B")
	ha, hb := head(t, db, a), head(t, db, b)
	if _, err := db.Append(t.Context(), []Draft{draft(t, db, ha, "pair"), draft(t, db, hb, "pair")}); err != nil {
		t.Fatal(err)
	}
	if err := rename(t.Context(), db, b, "B2"); err != nil {
		t.Fatal(err)
	}
	_, err := db.Append(t.Context(), []Draft{draft(t, db, ha, "half"), draft(t, db, hb, "half")})
	var stale *StaleError
	if !errors.As(err, &stale) || stale.Heads[0].Tenant != b.Tenant() {
		t.Fatalf("Append = %v, want b to be stale", err)
	}
	if la, lb := logged(t, db, a), logged(t, db, b); count(la, "test.pair") != 1 || count(lb, "test.pair") != 1 || count(la, "test.half")+count(lb, "test.half") != 0 {
		t.Errorf("half a pair was appended")
	}
}

// Stale and good items share batches, from two servers, while changes run: whatever was acknowledged is there once.
func TestRecordExactlyOnce(t *testing.T) {
	t.Parallel()
	one, pg := fresh(t)
	two := open(t, pg.URL)
	a, b := newTenant(t, one, "A"), newTenant(t, one, "B")
	var acked, stale atomic.Int64
	// As long as it takes on a busy machine to have enough of both.
	until := time.Now().Add(30 * time.Second)
	enough := func() bool { return acked.Load() >= 300 && stale.Load() >= 20 || time.Now().After(until) }
	parallel(24, func(i int) {
		db := []*DB{one, two}[i%2]
		ha, hb := head(t, db, a), head(t, db, b)
		for !enough() {
			if i < 2 {
				if err := rename(t.Context(), db, []Caller{a, b}[i], fmt.Sprint(time.Now())); err != nil {
					t.Error(err)
				}
				time.Sleep(20 * time.Millisecond)
				continue
			}
			_, err := db.Append(t.Context(), []Draft{draft(t, db, ha, "pair"), draft(t, db, hb, "pair")})
			var se *StaleError
			switch {
			case err == nil:
				acked.Add(1)
			case errors.As(err, &se):
				stale.Add(1)
				ha, hb = head(t, db, a), head(t, db, b)
			default:
				t.Error(err)
			}
		}
	})
	if acked.Load() < 50 || stale.Load() < 5 {
		t.Errorf("only %d acknowledged and %d stale: the test does not test", acked.Load(), stale.Load())
	}
	if la, lb := count(logged(t, one, a), "test.pair"), count(logged(t, one, b), "test.pair"); int64(la) != acked.Load() || la != lb {
		t.Errorf("%d acknowledged, %d and %d in the logs", acked.Load(), la, lb)
	}
}

func TestCounterNeverExceeded(t *testing.T) {
	t.Parallel()
	one, pg := fresh(t)
	two := open(t, pg.URL)
	c := newTenant(t, one, "A")
	const limit = 137
	var acked, spent atomic.Int64
	parallel(32, func(i int) {
		db := []*DB{one, two}[i%2]
		h := head(t, db, c)
		for range 10 {
			_, err := db.AppendSpending(t.Context(), []Draft{draft(t, db, h, "use")}, Spend{Tenant: c.Tenant(), Subject: "verify", Period: 7, Limit: limit})
			var se *SpentError
			switch {
			case err == nil:
				acked.Add(1)
			case errors.As(err, &se):
				spent.Add(1)
			default:
				t.Error(err)
			}
		}
	})
	if acked.Load() != limit || acked.Load()+spent.Load() != 320 {
		t.Errorf("%d allowed and %d refused of 320, want exactly %d allowed", acked.Load(), spent.Load(), limit)
	}
	if n := count(logged(t, one, c), "test.use"); n != limit {
		t.Errorf("%d entries", n)
	}
	h := head(t, one, c)
	if _, err := one.AppendSpending(t.Context(), []Draft{draft(t, one, h, "next")}, Spend{Tenant: c.Tenant(), Subject: "verify", Period: 8, Limit: 1}); err != nil {
		t.Errorf("a new period: %v", err)
	}
	if _, err := one.AppendSpending(t.Context(), []Draft{draft(t, one, h, "none")}, Spend{Tenant: c.Tenant(), Subject: "nothing", Limit: 9}); err == nil {
		t.Error("a counter without a row let something through")
	}
}

func TestHeldHeadDelaysOnlyItsTenant(t *testing.T) {
	t.Parallel()
	db, pg := fresh(t)
	held, free := newTenant(t, db, "held"), newTenant(t, db, "free")
	hh, hf := head(t, db, held), head(t, db, free)
	conn := connect(t, pg.AdminURL)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT 1 FROM avouch.audit_head WHERE tenant_id = $1 FOR UPDATE`, held.Tenant()); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := db.Append(t.Context(), []Draft{draft(t, db, hh, "held")})
		waiting <- err
	}()
	// Decisions of the same tenant that want its head for themselves must not take what others wait on either.
	var deciding sync.WaitGroup
	for range 2 * besideConnections {
		deciding.Go(func() {
			_, _ = db.AppendLocked(t.Context(), []TenantID{held.Tenant()}, func() ([]Draft, []Spend, error) { return nil, nil, errors.New("not decided") })
		})
	}
	defer deciding.Wait()
	var worst time.Duration
	for start := time.Now(); time.Since(start) < time.Second; {
		began := time.Now()
		if _, err := db.Append(t.Context(), []Draft{draft(t, db, hf, "free")}); err != nil {
			t.Fatal(err)
		}
		worst = max(worst, time.Since(began))
	}
	select {
	case err := <-waiting:
		t.Fatalf("the held tenant's append ended: %v", err)
	default:
	}
	if worst > 3*time.Second {
		t.Errorf("a held head delayed another tenant by %v", worst)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Errorf("after the head was free: %v", err)
	}
	if count(logged(t, db, held), "test.held") != 1 {
		t.Error("the entry is not there once")
	}
}

func TestMissingTenant(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	ghost := System(NewTenantID(), "test")
	if err := rename(t.Context(), db, ghost, "x"); !problem.Is(err, problem.Missing) {
		t.Errorf("Change = %v", err)
	}
	if _, err := db.Record(t.Context(), ghost, audit.Event{Type: "x.y"}); !problem.Is(err, problem.Missing) {
		t.Errorf("Record = %v", err)
	}
}

func TestGroupSharesCommits(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	c := newTenant(t, db, "A")
	var commits atomic.Int64
	refused := errors.New("odd")
	g := NewGroup(db, func(tx *Tx, items []int) ([]audit.Event, []error, error) {
		commits.Add(1)
		events, errs := make([]audit.Event, len(items)), make([]error, len(items))
		for i, n := range items {
			events[i] = audit.Event{Type: "test.grouped"}
			if n%2 == 1 {
				errs[i] = refused
			}
		}
		return events, errs, nil
	})
	var done, odd atomic.Int64
	parallel(64, func(i int) {
		switch err := g.Do(t.Context(), c, i); {
		case err == nil:
			done.Add(1)
		case errors.Is(err, refused):
			odd.Add(1)
		default:
			t.Error(err)
		}
	})
	if done.Load() != 32 || odd.Load() != 32 || commits.Load() > 32 {
		t.Errorf("%d done, %d refused, %d commits", done.Load(), odd.Load(), commits.Load())
	}
	if n := count(logged(t, db, c), "test.grouped"); n != 32 {
		t.Errorf("%d entries, want 32", n)
	}
}

func TestEach(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	want := map[TenantID]bool{newTenant(t, db, "A").Tenant(): true, newTenant(t, db, "B").Tenant(): true}
	if err := db.Each(t.Context(), "test", func(c Caller) error {
		delete(want, c.Tenant())
		return nil
	}); err != nil || len(want) != 0 {
		t.Errorf("Each: %v, missed %v", err, want)
	}
}

// A row that is read in one round trip is as bound to its tenant as any other, and leaves a clean connection.
func TestReadRow(t *testing.T) {
	t.Parallel()
	pg := pgtest.New(t, template)
	db, err := Open(t.Context(), Config{URL: pg.URL, Sealer: plainSealer{}, Log: slog.New(slog.DiscardHandler), Connections: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	a, b := newTenant(t, db, "A"), newTenant(t, db, "B")
	name := func(c Caller, sql string, args ...any) (got string, err error) {
		err = db.ReadRow(t.Context(), c, sql, args, func(r pgx.Row) error { return r.Scan(&got) })
		return got, err
	}
	for range 3 {
		if got, err := name(a, `SELECT string_agg(name, ' ') FROM avouch.organisation`); got != "A" || err != nil {
			t.Errorf("A sees %q, %v", got, err)
		}
		if got, err := name(b, `SELECT name FROM avouch.organisation WHERE tenant_id = $1`, a.Tenant()); !errors.Is(err, pgx.ErrNoRows) {
			t.Errorf("B sees %q of A, %v", got, err)
		}
		if _, err := name(a, `SELECT 1/0::int4::text`); !problem.Is(err, problem.Unavailable) {
			t.Errorf("a statement that fails: %v", err)
		}
		if _, err := name(a, `UPDATE avouch.organisation SET name = 'C' RETURNING name`); !problem.Is(err, problem.Unavailable) {
			t.Errorf("a statement that writes: %v", err)
		}
		conn, err := db.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM avouch.organisation`).Scan(&n); err != nil || n != 0 || conn.Conn().PgConn().TxStatus() != 'I' {
			t.Errorf("the connection is left in state %c and sees %d, %v", conn.Conn().PgConn().TxStatus(), n, err)
		}
		conn.Release()
	}
}

// Servers' clocks differ: around midnight of a month's end they count in two periods, and neither gets more than its limit.
func TestPeriodNeverGoesBack(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	c := newTenant(t, db, "A")
	h := head(t, db, c)
	allowed := 0
	for n := range 40 {
		s := Spend{Tenant: c.Tenant(), Subject: "verify", Period: int64(24_000 + n%2), Limit: 3}
		switch _, err := db.AppendSpending(t.Context(), []Draft{draft(t, db, h, "spent")}, s); {
		case err == nil:
			allowed++
		case errors.As(err, new(*SpentError)):
		default:
			t.Fatal(err)
		}
	}
	if allowed != 4 { // one before the new period began, three in it
		t.Errorf("%d were allowed", allowed)
	}
}
