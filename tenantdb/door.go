package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
)

// Config says how to open the door.
type Config struct {
	URL    string // of a role that has no more rights than a server needs
	Sealer Sealer
	Log    *slog.Logger
	// Tracer makes spans of statements; nil makes none.
	Tracer trace.TracerProvider
	// Observe is told of each batch: entries, and how long its commit took. It must not block.
	Observe func(entries int, took time.Duration)
	// Connections bounds the pool of reads and changes; 0 means 16. Reloads and the log's lane have eleven more.
	Connections int32
	// Patience is how long the answer to a commit is awaited before it counts as lost; 0 means 6 s.
	Patience time.Duration
	Now      func() time.Time // nil is time.Now
	// Gate refuses a tenant that nothing may be read, written or recorded of now; nil lets all in. Every operation asks it first, so it
	// must be as cheap as a look into a map.
	Gate func(ctx context.Context, t TenantID) error
}

// DB is the door.
type DB struct {
	pool     *pgxpool.Pool // reads and changes
	fresh    *pgxpool.Pool // reloads of what decisions are made from: they must not queue behind changes
	lanes    *pgxpool.Pool // the lane's, waits briefly for heads
	waiting  *pgxpool.Pool // for whoever waits long for heads
	sealer   Sealer
	log      *slog.Logger
	tracer   trace.Tracer
	now      func() time.Time
	gate     func(context.Context, TenantID) error
	patience time.Duration
	observe  func([]*item, time.Duration)
	// appendSQL is what this release appends with; tests have that of older ones.
	appendSQL string
	lane      *lane
	stop      context.CancelFunc
	ended     sync.WaitGroup
	locking   chan struct{} // see AppendLocked
	closed    atomic.Bool
	inside    sync.RWMutex       // read-locked by each Append: Close waits for those that wait for an outcome
	life      context.Context    // ends when Close will wait no longer for outcomes that are unknown
	abandon   context.CancelFunc // ends life
	heads     headMemory
	jobs      *river.Client[pgx.Tx]
}

// Open connects as the server, refuses a role with more rights than that takes (see CheckRights), and starts the lane.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	db := &DB{appendSQL: appendSQL, sealer: cfg.Sealer, log: cfg.Log, now: cfg.Now, observe: func([]*item, time.Duration) {}}
	if db.now == nil {
		db.now = time.Now
	}
	if db.gate = cfg.Gate; db.gate == nil {
		db.gate = func(context.Context, TenantID) error { return nil }
	}
	if db.patience = cfg.Patience; db.patience == 0 {
		db.patience = answerTimeout
	}
	tp := cfg.Tracer
	if tp == nil {
		tp = noop.NewTracerProvider()
	}
	db.tracer = tp.Tracer("avouch/tenantdb")
	if cfg.Observe != nil {
		db.observe = func(b []*item, took time.Duration) {
			n := 0
			for _, it := range b {
				n += len(it.drafts)
			}
			cfg.Observe(n, took)
		}
	}
	db.locking = make(chan struct{}, mostLocking)
	db.life, db.abandon = context.WithCancel(context.Background())
	err := db.connect(ctx, cfg)
	if err == nil {
		db.jobs, err = newEnqueuer()
	}
	if err != nil {
		db.abandon()
		db.closePools()
		return nil, fmt.Errorf("tenantdb.Open: %w", err)
	}
	run, stop := context.WithCancel(context.Background())
	db.stop = stop
	db.lane = newLane(db)
	db.ended.Go(func() { db.lane.run(run) })
	return db, nil
}

func (db *DB) connect(ctx context.Context, cfg Config) (err error) {
	most := cfg.Connections
	if most == 0 {
		most = 16
	}
	if db.pool, err = newPool(ctx, cfg, most, false, "5s"); err != nil {
		return err
	}
	if db.fresh, err = newPool(ctx, cfg, 4, false, "5s"); err != nil {
		return err
	}
	if db.lanes, err = newPool(ctx, cfg, 1, true, laneLockTimeout); err != nil {
		return err
	}
	if db.waiting, err = newPool(ctx, cfg, besideConnections+2, true, besideLockTimeout); err != nil {
		return err
	}
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if err := checkSchema(ctx, conn.Conn()); err != nil {
		return err
	}
	if err := checkOldest(ctx, conn.Conn()); err != nil {
		return err
	}
	if err := checkRights(ctx, conn.Conn()); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "SELECT avouch.ensure_partitions()")
	return err
}

func newPool(ctx context.Context, cfg Config, most int32, appends bool, lockTimeout string) (*pgxpool.Pool, error) {
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		// The URL may hold a password: pgx blanks it, but not in every malformed URL.
		return nil, errors.New("the database URL cannot be read")
	}
	pc.MaxConns = most
	pc.MaxConnLifetime = time.Hour
	if pc.ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		pc.ConnConfig.DescriptionCacheCapacity = 0 // of another mode, and made as large as that of statements all the same
	}
	params := pc.ConnConfig.RuntimeParams
	params["application_name"] = "avouch"
	params["lock_timeout"] = lockTimeout
	params["idle_in_transaction_session_timeout"] = "10s"
	// An acknowledgement means durable, whatever a database's default says.
	params["synchronous_commit"] = "on"
	if appends {
		// The plans of what append does depend on none of its values.
		params["plan_cache_mode"] = "force_generic_plan"
	} else if cfg.Tracer != nil {
		pc.ConnConfig.Tracer = otelpgx.NewTracer(otelpgx.WithTracerProvider(cfg.Tracer))
	}
	pc.ConnConfig.OnNotice = func(c *pgconn.PgConn, n *pgconn.Notice) {
		if n.Code == "01000" { // warning: "canceling wait for synchronous replication due to user request"
			c.CustomData()[noticed] = true
		}
	}
	return pgxpool.NewWithConfig(ctx, pc)
}

const noticed = "avouch.warning"

// standbyCancelled reports whether the server warned that it did not wait for its standbys: a commit that a failover
// may lose, so not one that may be acknowledged.
func standbyCancelled(c *pgx.Conn) bool {
	data := c.PgConn().CustomData()
	if data[noticed] == nil {
		return false
	}
	delete(data, noticed)
	return true
}

// closePatience is how long Close lets the outcome of a statement in doubt be asked for. A caller who is then told that it
// is unknown was told the truth.
const closePatience = 5 * time.Second

var errStopping = errors.New("the server is stopping")

// Close refuses what comes from now on and what waits, lets the statements that are under way end, and closes the
// connections. When it returns, every Append has its outcome. A database that does not answer delays it by the time that
// one statement may take and closePatience, not more.
func (db *DB) Close() {
	db.closed.Store(true)
	db.stop()
	hurry := time.AfterFunc(closePatience, db.abandon)
	defer hurry.Stop()
	left := make(chan struct{})
	go func() {
		defer close(left)
		db.ended.Wait()
		db.inside.Lock() // held by nobody else for long: there are only readers
		defer db.inside.Unlock()
	}()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for waiting := true; waiting; {
		db.refuseWaiting()
		select {
		case <-left:
			waiting = false
		case <-look.C:
		}
	}
	db.refuseWaiting() // whose callers have gone
	db.closePools()    // waits for reads and changes, which are cut off when the patience ends
	db.abandon()
}

// refuseWaiting finishes what was not sent yet, in the queue and beside it.
func (db *DB) refuseWaiting() {
	stopping := unavailable(errStopping)
	for it := db.lane.take(); it != nil; it = db.lane.take() {
		it.finish(stopping)
	}
	b := &db.lane.beside
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range b.groups {
		for _, it := range g.pending {
			it.finish(stopping)
		}
		g.pending = nil
	}
}

func (db *DB) closePools() {
	for _, p := range []*pgxpool.Pool{db.pool, db.fresh, db.lanes, db.waiting} {
		if p != nil {
			p.Close()
		}
	}
}

// Append appends drafts, all or none, each in its tenant's log. Errors: *StaleError if a tenant's epoch has moved,
// problem.Unavailable otherwise; in each case nothing was appended, unless the error is problem.Uncertain: ctx ended before
// the outcome was there, or the outcome could not be found out.
//
// It is the one operation that may span two tenants, for the verify room (ARCHITECTURE.md, "two tenants in one
// verification"). Everyone else uses Record.
func (db *DB) Append(ctx context.Context, drafts []Draft) ([]Position, error) {
	r, err := db.AppendSpending(ctx, drafts)
	return r.Positions, err
}

// AppendSpending is Append that takes from counters in the same commit, from all or none. Its error is *SpentError, and
// nothing was appended or taken, if one of them has not enough left.
func (db *DB) AppendSpending(ctx context.Context, drafts []Draft, spends ...Spend) (Receipt, error) {
	if !trace.SpanFromContext(ctx).IsRecording() { // most are not, and a span that nobody records costs as much as the queue
		return db.put(ctx, drafts, spends)
	}
	ctx, span := db.tracer.Start(ctx, "log.append")
	defer span.End()
	r, err := db.put(ctx, drafts, spends)
	if err != nil {
		span.RecordError(err)
	}
	return r, err
}

// put is the lane's, but for a closed door: nobody takes anything out of the queue any more.
func (db *DB) put(ctx context.Context, drafts []Draft, spends []Spend) (Receipt, error) {
	if db.closed.Load() { // said at once, also while Close waits for the lock
		return Receipt{}, unavailable(errStopping)
	}
	db.inside.RLock()
	defer db.inside.RUnlock()
	if db.closed.Load() {
		return Receipt{}, unavailable(errStopping)
	}
	return db.lane.put(ctx, drafts, spends)
}

// Record appends an event that changes nothing: a denial, a sensitive read, a sign-in. It returns when the entry is
// durable.
func (db *DB) Record(ctx context.Context, c Caller, ev audit.Event) (Position, error) {
	all, err := db.RecordAll(ctx, c, []audit.Event{ev})
	if err != nil {
		return Position{}, err
	}
	return all[0], nil
}

// RecordAll is Record for several, all or none and side by side in their order.
func (db *DB) RecordAll(ctx context.Context, c Caller, all []audit.Event) ([]Position, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*db.patience) // refusals are recorded also when their sender has gone
	defer cancel()
	at, headOf := db.now(), db.Head
	r, err := db.Decide(ctx, []TenantID{c.Tenant()}, func() ([]Draft, []Spend, error) {
		head, err := headOf(ctx, c.Tenant())
		if err != nil {
			return nil, nil, err
		}
		headOf = db.headNow
		drafts := make([]Draft, len(all))
		for i, ev := range all {
			if drafts[i], err = db.draftAt(ctx, c, head, ev, at); err != nil {
				return nil, nil, err
			}
		}
		return drafts, nil, nil
	})
	return r.Positions, err
}

// Head is the tenant's log and an epoch of it, maybe not the present one.
func (db *DB) Head(ctx context.Context, t TenantID) (Head, error) {
	if h, ok := db.heads.get(t); ok {
		return h, nil
	}
	return db.headNow(ctx, t)
}

func (db *DB) headNow(ctx context.Context, t TenantID) (Head, error) {
	h := Head{Tenant: t}
	err := db.Read(ctx, System(t, "head").Keyless(), func(tx *ReadTx) error {
		return tx.QueryRow(ctx, headSQL, t).Scan(&h.Log, &h.Epoch)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Head{}, problem.New(problem.Missing, "There is no such organisation.")
	}
	if err != nil {
		return Head{}, err
	}
	db.heads.put(h)
	return h, nil
}
