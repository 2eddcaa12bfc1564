package e2e

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Database is a superuser's way into a database: to see what servers wrote, and to do to it what no server may.
type Database struct{ pool *pgxpool.Pool }

// Connect opens a few connections.
func Connect(ctx context.Context, url string) (*Database, error) {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("e2e.Connect: %w", err)
	}
	return &Database{pool}, nil
}

// Close closes the connections.
func (d *Database) Close() { d.pool.Close() }

// Exec runs a statement and returns how many rows it touched.
func (d *Database) Exec(ctx context.Context, sql string, args ...any) (int64, error) {
	tag, err := d.pool.Exec(ctx, sql, args...)
	if err != nil {
		return 0, fmt.Errorf("e2e.Exec: %w", err)
	}
	return tag.RowsAffected(), nil
}

// Texts is the first column of what a query finds.
func (d *Database) Texts(ctx context.Context, sql string, args ...any) ([]string, error) {
	rows, err := d.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("e2e.Texts: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// Row is an entry as the table has it.
type Row struct {
	Seq              int64
	Request          string
	Body, Leaf, Prev []byte
}

// Log is a tenant's log as the tables have it.
type Log struct {
	ID    string
	Size  int64
	Chain []byte
	Rows  []Row
}

// Log reads a tenant's whole log.
func (d *Database) Log(ctx context.Context, tenant string) (l Log, err error) {
	err = pgx.BeginTxFunc(ctx, d.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT log_id::text, size, chain FROM avouch.audit_head WHERE tenant_id = $1`, tenant).Scan(&l.ID, &l.Size, &l.Chain)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT seq, request_id::text, body, leaf, prev FROM avouch.audit_entry WHERE tenant_id = $1 ORDER BY seq, written_at`, tenant)
		if err != nil {
			return err
		}
		l.Rows, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Row])
		return err
	})
	if err != nil {
		return l, fmt.Errorf("e2e.Log: %w", err)
	}
	return l, nil
}

// Hold locks a tenant's head until release is called.
func (d *Database) Hold(ctx context.Context, tenant string) (release func(), err error) {
	tx, err := d.pool.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("e2e.Hold: %w", err)
	}
	if _, err := tx.Exec(ctx, `SELECT 1 FROM avouch.audit_head WHERE tenant_id = $1 FOR UPDATE`, tenant); err != nil {
		return nil, fmt.Errorf("e2e.Hold: %w", err)
	}
	return func() { tx.Rollback(context.WithoutCancel(ctx)) }, nil
}

// Held reports whether somebody has a tenant's head locked now.
func (d *Database) Held(ctx context.Context, tenant string) (bool, error) {
	rows, err := d.Texts(ctx, `SELECT tenant_id::text FROM avouch.audit_head WHERE tenant_id = $1 FOR UPDATE SKIP LOCKED`, tenant)
	return len(rows) == 0, err
}
