package rotation

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// childEnv says that the test binary is a worker in a process of its own: it works until it comes to a point for the n-th time, says so
// and waits to be killed.
const childEnv = "AVOUCH_ROTATION_TEST_CHILD"

func child(args []string) int {
	if err := childWork(args[0], args[1], args[2], args[3], args[4], args[5]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	return 0
}

func childWork(url, store, keyFile, tenant, point, times string) error {
	ctx := context.Background()
	platform, err := keyring.LoadPlatform(secret.String{}, keyFile)
	if err != nil {
		return err
	}
	ring, err := keyring.New(ctx, keyring.Config{Dir: store, Platform: platform})
	if err != nil {
		return err
	}
	db, err := tenantdb.Open(ctx, tenantdb.Config{URL: url, Sealer: ring, Log: slog.New(slog.DiscardHandler), Connections: 2})
	if err != nil {
		return err
	}
	defer db.Close()
	id, err := tenantdb.ParseTenantID(tenant)
	if err != nil {
		return err
	}
	left, err := strconv.Atoi(times)
	if err != nil {
		return err
	}
	room := New(Config{DB: db, Ring: ring, Columns: columns(), Log: slog.New(slog.DiscardHandler), Chunk: 500, Lease: time.Second, at: func(at string) {
		if at != point {
			return
		}
		if left--; left == 0 {
			fmt.Println("here")
			select {}
		}
	}})
	for {
		_, did, err := room.Work(ctx, tenantdb.System(id, "rotation"), nil)
		if err != nil || did {
			return err
		}
		time.Sleep(20 * time.Millisecond) // until the lease of the one before has ended
	}
}

// killedAt starts a worker, waits until it is at the point for the n-th time, and kills it.
func (s *scene) killedAt(t *testing.T, point string, times int) {
	t.Helper()
	url, store, keyFile := s.Places()
	c := exec.Command(os.Args[0], url, store, keyFile, s.tenant.String(), point, fmt.Sprint(times))
	c.Env, c.Stderr = append(os.Environ(), childEnv+"=1"), t.Output()
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	said, err := bufio.NewReader(out).ReadString('\n')
	must(t, c.Process.Kill())
	_ = c.Wait()
	if said != "here\n" {
		t.Fatalf("the worker came to its end before it was at %q for the %d. time: %q, %v", point, times, said, err)
	}
}

func soak() bool { return os.Getenv("AVOUCH_SOAK") == "1" }

// TestKilledSoak: of 5,000 values (100,000 in a soak) and 200 data subjects; the worker is killed at seeded points inside a chunk, and
// the next goes on. Whoever reads or writes meanwhile sees no error.
func TestKilledSoak(t *testing.T) {
	t.Parallel()
	many := 5000
	if soak() {
		many = 100_000
	}
	s := open(t, func(c *Config) { c.Chunk, c.Lease = 500, time.Second })
	s.fill(t, many)
	s.Admin(t, `ANALYZE avouch.password`) // as autovacuum does
	private := s.people(t, 200)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	chunks := many / 500
	stop := s.traffic(t, many)
	s.begin(t)
	s.killedAt(t, "made", 1) // between the two new versions
	points := []string{"read", "wrapped", "put", "committed"}
	rnd.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	for _, point := range points[:3] {
		s.killedAt(t, point, 1+rnd.IntN(chunks/4))
	}
	s.killedAt(t, "subjects", 1)
	reads, writes := stop()
	time.Sleep(time.Second) // the last one's lease
	began, was := time.Now(), s.older(t, 2)
	n := s.work(t)
	t.Logf("measured: a rotation that was killed five times among %d values: the last worker wrapped %d in %v; %d reads and %d writes meanwhile, without an error",
		many, was, time.Since(began).Round(time.Millisecond), reads, writes)
	s.openAll(t, many)
	s.finish(t)
	if n := s.older(t, 2); n != 0 {
		t.Errorf("%d values are under the old version", n)
	}
	s.openAll(t, many)
	r := s.RingAt(t, s.clock.now)
	for i, b := range private {
		if got, err := r.OpenFields(t.Context(), s.tenant, person(i), b, nil); err != nil || string(got) != "private" {
			t.Fatalf("person %d: %q, %v", i, got, err)
		}
	}
	if n.Rows+writes < int64(many) || len(s.raised) > 0 {
		t.Errorf("%+v; told %q", n, s.raised)
	}
	s.pace(t, many)
}

// pace is how fast a rotation is that nobody disturbs.
func (s *scene) pace(t *testing.T, many int) {
	t.Helper()
	s.begin(t)
	began, rows := time.Now(), time.Duration(0)
	n, did, err := s.room.Work(t.Context(), s.by, func(n Run) {
		if n.place != subjectsPlace {
			rows = time.Since(began)
		}
	})
	must(t, err)
	if !did {
		t.Fatal("nothing was done")
	}
	t.Logf("measured: %d values wrapped anew in %v, %.0f rows/s, of which half is left to others; %d data subjects' keys in %v",
		n.Rows, rows.Round(time.Millisecond), float64(n.Rows)/rows.Seconds(), n.Keys, (time.Since(began) - rows).Round(time.Millisecond))
	began = time.Now()
	s.clock.advance(settling)
	if n = s.work(t); n.found != 0 {
		t.Errorf("%d were left", n.found)
	}
	t.Logf("measured: a look over %d values that finds nothing takes %v", many, time.Since(began).Round(time.Millisecond))
}

// people seals something of each of so many data subjects.
func (s *scene) people(t *testing.T, n int) (private [][]byte) {
	t.Helper()
	for i := range n {
		b, err := s.room.cfg.Ring.SealFields(t.Context(), s.tenant, person(i), []byte("private"), nil)
		must(t, err)
		private = append(private, b)
	}
	return private
}

// traffic reads and writes values all the time, on another server, which for a while takes the version before for the newest.
func (s *scene) traffic(t *testing.T, many int) (stop func() (reads, writes int64)) {
	t.Helper()
	var reads, writes atomic.Int64
	over := make(chan struct{})
	var wait sync.WaitGroup
	ring := s.RingAt(t, time.Now)
	loop := func(fn func(n int) error) {
		wait.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				if err := fn(rand.IntN(many)); err != nil { //nolint:gosec // not secret
					t.Errorf("meanwhile: %v", err)
					return
				}
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	ctx := context.WithoutCancel(t.Context())
	read := func(n int) error {
		b, err := s.stored(ctx, hashOf, person(n))
		if err != nil {
			return err
		}
		got, err := ring.Open(ctx, s.tenant, person(n).String(), "field", 1, b)
		if err == nil && string(got) != string(plain(n)) && string(got) != "rewritten" {
			err = fmt.Errorf("row %d: %q: %w", n, got, io.ErrUnexpectedEOF)
		}
		reads.Add(1)
		return err
	}
	loop(read)
	loop(read)
	loop(func(n int) error {
		b, err := ring.Seal(ctx, s.tenant, person(n).String(), "field", 1, []byte("rewritten"))
		if err != nil {
			return err
		}
		writes.Add(1)
		return s.DB.Change(ctx, s.by, func(tx *tenantdb.Tx) (audit.Event, error) {
			_, err := tx.Exec(ctx, `UPDATE avouch.password SET hash = $3, version = version + 1 WHERE tenant_id = $1 AND person_id = $2`, s.tenant, person(n), b)
			return audit.Event{Type: "test.written"}, err
		})
	})
	loop(func(n int) error {
		_, err := ring.SealFields(ctx, s.tenant, person(n%400), []byte("private"), nil)
		return err
	})
	return func() (int64, int64) {
		close(over)
		wait.Wait()
		return reads.Load(), writes.Load()
	}
}
