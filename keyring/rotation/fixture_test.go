package rotation

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	by time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.by)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by += d
}

// passwords are rows whose changes need an entry, answers rows whose changes need none, hooks a table with one row.
func columns() []keyring.SealedColumn {
	return []keyring.SealedColumn{
		{Table: "password", Column: "hash", Key: []keyring.KeyPart{{Column: "person_id", Type: "uuid"}}, Item: func(k []string) string { return k[0] }},
		{Table: "idempotency", Column: "answer", Key: []keyring.KeyPart{{Column: "actor", Type: "text"}, {Column: "key", Type: "text"}},
			Item: func(k []string) string { return k[0] + " " + k[1] }},
		{Table: "glass_hook", Column: "secret", Item: func([]string) string { return "hook" }},
	}
}

type scene struct {
	*doortest.Door
	clock  *clock
	tenant tenantdb.TenantID
	by     tenantdb.Caller
	room   *Room
	mu     sync.Mutex
	raised []string
}

func open(t testing.TB, change ...func(*Config)) *scene {
	t.Helper()
	s := &scene{Door: doortest.Open(t), clock: &clock{}}
	s.room = s.another(t, change...)
	s.inside(s.Tenant(t, "Acme"))
	return s
}

func (s *scene) inside(t tenantdb.TenantID) { s.tenant, s.by = t, tenantdb.System(t, "rotation") }

// another is the room on another server.
func (s *scene) another(t testing.TB, change ...func(*Config)) *Room {
	cfg := Config{
		DB: s.DB, Ring: s.RingAt(t, s.clock.now), Columns: columns(), Every: DefaultEvery, Log: s.Log, Now: s.clock.now, Chunk: 7, Lease: time.Millisecond,
		Raise: func(_ context.Context, _ tenantdb.Caller, kind, subject, detail string) (bool, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.raised = append(s.raised, kind+" "+subject+": "+detail)
			return true, nil
		},
	}
	for _, c := range change {
		c(&cfg)
	}
	return New(cfg)
}

// person is the n-th person that the tests make.
func person(n int) (p tenantdb.PersonID) {
	p[6], p[8] = 0x70, 0x80
	binary.BigEndian.PutUint32(p[12:], uint32(n)) //nolint:gosec // not so many
	return p
}

func plain(n int) []byte { return fmt.Appendf(nil, "secret %d", n) }

func (s *scene) seal(t testing.TB, r *keyring.Ring, item, text string) []byte {
	t.Helper()
	b, err := r.Seal(t.Context(), s.tenant, item, "field", 1, []byte(text))
	must(t, err)
	return b
}

// fill makes people with passwords, and puts in one of the other tables each.
func (s *scene) fill(t testing.TB, n int) {
	t.Helper()
	r := s.room.cfg.Ring
	for from := 0; from < n; from += 5000 {
		var ids []string
		var hashes [][]byte
		for i := from; i < min(n, from+5000); i++ {
			ids, hashes = append(ids, person(i).String()), append(hashes, s.seal(t, r, person(i).String(), string(plain(i))))
		}
		must(t, s.DB.Change(t.Context(), s.by, func(tx *tenantdb.Tx) (audit.Event, error) {
			if _, err := tx.Exec(t.Context(), `INSERT INTO avouch.person (tenant_id, person_id, profile, address, roles, created_at)
				SELECT $1, i::uuid, '\x01', lpad(right(i, 12), 26, 'a'), '{member}', now() FROM unnest($2::text[]) i`, s.tenant, ids); err != nil {
				return audit.Event{}, err
			}
			_, err := tx.Exec(t.Context(), `INSERT INTO avouch.password (tenant_id, person_id, hash, changed_at)
				SELECT $1, i::uuid, h, now() FROM unnest($2::text[], $3::bytea[]) x(i, h)`, s.tenant, ids, hashes)
			return audit.Event{Type: "test.filled"}, err
		}))
	}
	for k := range 20 {
		s.answer(t, r, fmt.Sprint(k), "answer")
	}
	secret := s.seal(t, r, "hook", "hook")
	must(t, s.DB.Change(t.Context(), s.by, func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), `INSERT INTO avouch.glass_hook (tenant_id, secret, set_by, set_at) VALUES ($1, $2, 'test', now())`, s.tenant, secret)
		return audit.Event{Type: "test.filled"}, err
	}))
}

func (s *scene) answer(t testing.TB, r *keyring.Ring, key, text string) {
	t.Helper()
	s.land(t, key, s.seal(t, r, "key:a "+key, text))
}

func (s *scene) land(t testing.TB, key string, sealed []byte) {
	t.Helper()
	must(t, s.DB.Note(t.Context(), s.by, func(tx *tenantdb.Tx) error {
		_, err := tx.Exec(t.Context(), `INSERT INTO avouch.idempotency (tenant_id, actor, key, request, answer) VALUES ($1, 'key:a', $2, '\x01', $3)
			ON CONFLICT (tenant_id, actor, key) DO UPDATE SET answer = excluded.answer`, s.tenant, key, sealed)
		return err
	}))
}

// stored is a value as it is in the database.
func (s *scene) stored(ctx context.Context, sql string, args ...any) (b []byte, err error) {
	err = s.DB.Read(ctx, s.by, func(tx *tenantdb.ReadTx) error {
		return tx.QueryRow(ctx, sql, append([]any{s.tenant}, args...)...).Scan(&b)
	})
	return b, err
}

const (
	hashOf   = `SELECT hash FROM avouch.password WHERE tenant_id = $1 AND person_id = $2`
	answerOf = `SELECT answer FROM avouch.idempotency WHERE tenant_id = $1 AND actor = 'key:a' AND key = $2`
	hookOf   = `SELECT secret FROM avouch.glass_hook WHERE tenant_id = $1`
)

func (s *scene) open(t testing.TB, r *keyring.Ring, item, want, sql string, args ...any) {
	t.Helper()
	b, err := s.stored(t.Context(), sql, args...)
	must(t, err)
	got, err := r.Open(t.Context(), s.tenant, item, "field", 1, b)
	if err != nil || want != "" && string(got) != want {
		t.Fatalf("%s: %q, %v", item, got, err)
	}
}

// openAll opens everything that fill made, by a ring that has nothing in memory.
func (s *scene) openAll(t testing.TB, n int) {
	t.Helper()
	r := s.RingAt(t, s.clock.now)
	all := map[string][]byte{}
	must(t, s.DB.Read(t.Context(), s.by, func(tx *tenantdb.ReadTx) error {
		rows, err := tx.Query(t.Context(), `SELECT person_id::text, hash FROM avouch.password WHERE tenant_id = $1`, s.tenant)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			var b []byte
			if err := rows.Scan(&id, &b); err != nil {
				return err
			}
			all[id] = b
		}
		return rows.Err()
	}))
	if len(all) != n {
		t.Fatalf("%d rows, want %d", len(all), n)
	}
	for i := range n {
		id := person(i).String()
		got, err := r.Open(t.Context(), s.tenant, id, "field", 1, all[id])
		if err != nil || string(got) != string(plain(i)) && string(got) != "rewritten" {
			t.Fatalf("row %d: %q, %v", i, got, err)
		}
	}
	for k := range 20 {
		s.open(t, r, "key:a "+fmt.Sprint(k), "", answerOf, fmt.Sprint(k))
	}
	s.open(t, r, "hook", "hook", hookOf)
}

// older counts values that do not begin as those of the version do.
func (s *scene) older(t testing.TB, version uint32) (n int) {
	t.Helper()
	must(t, s.DB.Read(t.Context(), s.by, func(tx *tenantdb.ReadTx) error {
		return tx.QueryRow(t.Context(), `SELECT count(*) FROM (SELECT hash AS v FROM avouch.password WHERE tenant_id = $1
			UNION ALL SELECT answer FROM avouch.idempotency WHERE tenant_id = $1 UNION ALL SELECT secret FROM avouch.glass_hook WHERE tenant_id = $1) x
			WHERE substring(v FROM 1 FOR 13) <> $2`, s.tenant, keyring.SealedPrefix(version)).Scan(&n)
	}))
	return n
}

func (s *scene) begin(t testing.TB) Run {
	t.Helper()
	n, err := s.room.Begin(t.Context(), s.by)
	must(t, err)
	return n
}

func (s *scene) work(t testing.TB) Run {
	t.Helper()
	n, did, err := s.room.Work(t.Context(), s.by, nil)
	must(t, err)
	if !did {
		t.Fatal("nothing was done")
	}
	return n
}

// finish goes on, as time does, until no rotation is left.
func (s *scene) finish(t testing.TB) {
	t.Helper()
	for range 100 {
		all, err := s.room.Runs(t.Context(), s.by)
		must(t, err)
		var due time.Time
		wraps := false // which comes before all that is kept
		for _, n := range all {
			if n.FinishedAt.IsZero() && !wraps && (due.IsZero() || n.DueAt.Before(due) || n.Wraps()) {
				due, wraps = n.DueAt, n.Wraps()
			}
		}
		if due.IsZero() {
			return
		}
		if wait := due.Sub(s.clock.now()); wait > 0 {
			s.clock.advance(wait + time.Second)
		}
		time.Sleep(3 * time.Millisecond) // a lease that a crash left
		_, _, err = s.room.Work(t.Context(), s.by, nil)
		must(t, err)
	}
	all, _ := s.room.Runs(t.Context(), s.by)
	t.Fatalf("the rotations do not end: %+v", all)
}

func (s *scene) versions(t testing.TB, use keyring.Use) (live, last uint32) {
	t.Helper()
	live, last, err := s.room.cfg.Ring.Versions(s.tenant, use)
	must(t, err)
	return live, last
}
