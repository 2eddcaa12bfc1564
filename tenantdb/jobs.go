package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// Jobs are work to be done after a commit: River, in the same database, so that a job exists exactly if the change that
// wants it does. Arguments hold identifiers, never personal data or secrets: they are plain rows.

// StartJobs begins to work on jobs with the given workers and periodic jobs. The returned function stops it and waits
// for what is under way.
func (db *DB) StartJobs(ctx context.Context, log *slog.Logger, workers *river.Workers, periodic []*river.PeriodicJob) (stop func(context.Context) error, err error) {
	client, err := river.NewClient(quietDriver{riverpgxv5.New(db.pool)}, &river.Config{
		Schema: jobsSchema, Workers: workers, PeriodicJobs: periodic, Logger: log,
		Queues:   map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}},
		PollOnly: true,
	})
	if err != nil {
		return nil, fmt.Errorf("tenantdb.StartJobs: %w", err)
	}
	if err := client.Start(ctx); err != nil {
		return nil, fmt.Errorf("tenantdb.StartJobs: %w", err)
	}
	return client.Stop, nil
}

// Enqueue asks for a job, in this transaction.
func (tx *Tx) Enqueue(ctx context.Context, args river.JobArgs) error {
	if _, err := tx.db.jobs.InsertTx(ctx, connTx{tx.conn}, args, nil); err != nil {
		return fmt.Errorf("tenantdb.Enqueue: %w", err)
	}
	return nil
}

// newEnqueuer is a client that only inserts.
func newEnqueuer() (*river.Client[pgx.Tx], error) {
	return river.NewClient(quietDriver{riverpgxv5.New(nil)}, &river.Config{Schema: jobsSchema, PollOnly: true})
}

// connTx shows River the transaction that is open on a connection, without the right to end it.
type connTx struct{ conn }

type conn = *pgx.Conn

var errNotYours = errors.New("the transaction belongs to DB.Change")

func (connTx) Begin(context.Context) (pgx.Tx, error) { return nil, errNotYours }
func (connTx) Commit(context.Context) error          { return errNotYours }
func (connTx) Rollback(context.Context) error        { return errNotYours }
func (connTx) LargeObjects() pgx.LargeObjects        { return pgx.LargeObjects{} }
func (c connTx) Conn() *pgx.Conn                     { return c.conn }

// quietDriver never notifies: NOTIFY inside a transaction takes a lock of the whole database through its commit
// (ARCHITECTURE.md, "rules that follow").
type quietDriver struct{ riverdriver.Driver[pgx.Tx] }

func (quietDriver) SupportsListenNotify() bool { return false }
