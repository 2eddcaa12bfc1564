package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/pgfault"
	"github.com/avouch-dev/avouch/internal/problem"
)

// labelled runs fn so that every goroutine that it starts, and those that these start, can be told from other tests'.
func labelled(t *testing.T, fn func()) {
	t.Helper()
	pprof.Do(t.Context(), pprof.Labels("closing", t.Name()), func(context.Context) { fn() })
}

// leftOver is the stacks of the goroutines that labelled ones left running.
func leftOver(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
		t.Fatal(err)
	}
	var left []string
	for stack := range strings.SplitSeq(all.String(), "\n\n") {
		if strings.Contains(stack, fmt.Sprintf(`"closing":%q`, t.Name())) {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}

func noneIsLeft(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for left := leftOver(t); left != ""; left = leftOver(t) {
		if time.Now().After(deadline) {
			t.Fatalf("goroutines are left:\n%s", left)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestLeftOverSeesGoroutines(t *testing.T) {
	t.Parallel()
	end, begun := make(chan struct{}), make(chan struct{})
	labelled(t, func() {
		go func() {
			go func() { close(begun); <-end }()
		}()
	})
	<-begun
	if leftOver(t) == "" {
		t.Error("a goroutine that runs is not seen")
	}
	close(end)
	noneIsLeft(t)
}

func openQuietly(t *testing.T, url string) *DB {
	t.Helper()
	db, err := Open(t.Context(), Config{URL: url, Sealer: plainSealer{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

func TestClosedDoorRefusesAtOnce(t *testing.T) {
	t.Parallel()
	other, pg := fresh(t)
	c := newTenant(t, other, "A")
	var db *DB
	labelled(t, func() { db = openQuietly(t, pg.URL) })
	h := head(t, db, c)
	if _, err := db.Record(t.Context(), c, audit.Event{Type: "test.before"}); err != nil { // so that the head is remembered
		t.Fatal(err)
	}
	g := NewGroup(db, func(*Tx, []int) ([]audit.Event, []error, error) { return nil, nil, errors.New("must not run") })
	late := draft(t, db, h, "late")
	db.Close()
	noneIsLeft(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for what, do := range map[string]func() error{
		"Append": func() error { _, err := db.Append(ctx, []Draft{late}); return err },
		"Record": func() error { _, err := db.Record(ctx, c, audit.Event{Type: "test.late"}); return err },
		"Locked": func() error {
			_, err := db.AppendLocked(ctx, []TenantID{c.Tenant()}, func() ([]Draft, []Spend, error) { return []Draft{late}, nil, nil })
			return err
		},
		"Change":   func() error { return rename(ctx, db, c, "late") },
		"Read":     func() error { return db.Read(ctx, c, func(*ReadTx) error { return nil }) },
		"Group.Do": func() error { return g.Do(ctx, c, 1) },
	} {
		began := time.Now()
		if err := do(); !problem.Is(err, problem.Unavailable) {
			t.Errorf("%s: %v, want unavailable", what, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s took %v", what, took)
		}
	}
	db.Close() // again does no harm
	if got := logged(t, other, c); count(got, "test.late") != 0 || count(got, "organisation.renamed") != 0 {
		t.Error("something was appended through a closed door")
	}
}

// A server stops while callers keep coming: each is told the truth, and soon.
func TestCloseUnderLoad(t *testing.T) {
	t.Parallel()
	direct, pg := fresh(t)
	c := newTenant(t, direct, "A")
	for range 5 {
		var db *DB
		labelled(t, func() { db = openQuietly(t, pg.URL) })
		told, h := newAcks(), head(t, direct, c)
		var acked atomic.Int64
		var done sync.WaitGroup
		for range 64 {
			done.Go(func() {
				for {
					d := draft(t, direct, h, "load")
					pos, err := db.Append(context.Background(), []Draft{d})
					told.add(d, pos, err)
					if err != nil {
						return
					}
					acked.Add(1)
				}
			})
		}
		for acked.Load() < 100 {
			time.Sleep(time.Millisecond)
		}
		db.Close()
		done.Wait()
		noneIsLeft(t)
		told.check(t, logged(t, direct, c))
	}
}

// The database has stopped answering, the queue is full, and the server is told to stop.
func TestCloseWithFullQueue(t *testing.T) {
	t.Parallel()
	direct, pg := fresh(t)
	c := newTenant(t, direct, "A")
	h := head(t, direct, c)
	var db *DB
	var proxy *pgfault.Proxy
	labelled(t, func() { db, proxy = behind(t, pg.URL, time.Second) })
	if _, err := db.Append(t.Context(), []Draft{draft(t, direct, h, "warm")}); err != nil { // so that the next is sent at once
		t.Fatal(err)
	}
	proxy.Choose(func(string) pgfault.Fault { return pgfault.Lose })
	const callers = queueLength + 2000
	var done sync.WaitGroup
	var acked, refused atomic.Int64
	one := draft(t, direct, h, "full") // which of them is appended does not matter here
	began := make(chan struct{})
	for range callers {
		done.Go(func() {
			<-began
			switch _, err := db.Append(context.Background(), []Draft{one}); {
			case err == nil:
				acked.Add(1)
			case problem.Is(err, problem.Unavailable):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	close(began)
	for refused.Load() == 0 { // the first is refused when the queue is full
		time.Sleep(time.Millisecond)
	}
	start := time.Now()
	db.Close()
	done.Wait()
	if took := time.Since(start); took > closePatience+5*time.Second || took < closePatience/2 {
		t.Errorf("it took %v: too long, or the outcome of what was sent was not asked for", took)
	}
	if acked.Load()+refused.Load() != callers {
		t.Errorf("%d acknowledged and %d refused of %d", acked.Load(), refused.Load(), callers)
	}
	if err := proxy.Close(); err != nil {
		t.Error(err)
	}
	noneIsLeft(t)
}

// A caller who was let in before the door closed, and comes to the queue after its end, is told too.
func TestCloseWaitsForCallersInside(t *testing.T) {
	t.Parallel()
	direct, pg := fresh(t)
	c := newTenant(t, direct, "A")
	db := openQuietly(t, pg.URL)
	late := draft(t, direct, head(t, direct, c), "late")
	db.inside.RLock()
	closed := make(chan struct{})
	go func() { db.Close(); close(closed) }()
	for !db.closed.Load() {
		time.Sleep(time.Millisecond)
	}
	db.ended.Wait()
	time.Sleep(20 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := db.lane.put(ctx, []Draft{late}, nil); !errors.Is(err, errStopping) {
		t.Errorf("the late caller: %v", err)
	}
	select {
	case <-closed:
		t.Error("Close did not wait for the caller inside")
	default:
	}
	db.inside.RUnlock()
	<-closed
}

// Those who wait beside for a held head are told too, however many groups of them there are.
func TestCloseWhileHeadsAreHeld(t *testing.T) {
	t.Parallel()
	direct, pg := fresh(t)
	var callers []Caller
	admin := connect(t, pg.AdminURL)
	holder, err := admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * besideConnections {
		callers = append(callers, newTenant(t, direct, fmt.Sprint(i)))
	}
	var db *DB
	labelled(t, func() { db = openQuietly(t, pg.URL) })
	drafts := make([]Draft, len(callers))
	for i, c := range callers {
		drafts[i] = draft(t, direct, head(t, direct, c), "held")
	}
	if _, err := holder.Exec(t.Context(), `SELECT FROM avouch.audit_head FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	for i := range callers {
		done.Go(func() {
			if _, err := db.Append(context.Background(), drafts[i:i+1]); !problem.Is(err, problem.Unavailable) {
				t.Errorf("Append to a held log = %v", err)
			}
		})
	}
	waiting := func() int {
		db.lane.beside.mu.Lock()
		defer db.lane.beside.mu.Unlock()
		return len(db.lane.beside.groups)
	}
	for deadline := time.Now().Add(10 * time.Second); waiting() < len(callers) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if n := waiting(); n != len(callers) {
		t.Fatalf("%d groups wait: the test does not test", n)
	}
	if db.inside.TryLock() {
		db.inside.Unlock()
		t.Error("those who wait are not inside")
	}
	start := time.Now()
	db.Close()
	done.Wait()
	if took := time.Since(start); took > 7*time.Second { // one statement may wait for its lock, not one after the other
		t.Errorf("it took %v", took)
	}
	noneIsLeft(t)
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range callers {
		if count(logged(t, direct, c), "test.held") != 0 {
			t.Error("what was refused is in the log")
		}
	}
}

// A read whose caller would wait for ever is cut off when the patience of Close ends.
func TestCloseCutsOffReads(t *testing.T) {
	t.Parallel()
	db, _ := fresh(t)
	c := newTenant(t, db, "A")
	begun, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- db.Read(context.Background(), c, func(tx *ReadTx) error {
			close(begun)
			return tx.QueryRow(context.Background(), `SELECT pg_sleep(120)::text`).Scan(new(string))
		})
	}()
	<-begun
	began := time.Now()
	db.Close()
	if took := time.Since(began); took > 60*time.Second {
		t.Errorf("Close took %v", took)
	}
	if err := <-ended; err == nil {
		t.Error("the read ended well")
	}
}
