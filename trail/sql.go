package trail

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// querier is a transaction bound to one tenant: the door's, or one of an administrator's connection.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// head is a log as its head row says, and the first and last number of the rows there are, all as of one instant.
type head struct {
	log         audit.LogID
	size        int64
	chain       []byte
	first, last *int64 // nil if there are no rows
}

const headSQL = `SELECT h.log_id, h.size, h.chain,
  (SELECT e.seq FROM avouch.audit_entry e WHERE e.tenant_id = $1 ORDER BY e.seq LIMIT 1),
  (SELECT e.seq FROM avouch.audit_entry e WHERE e.tenant_id = $1 ORDER BY e.seq DESC LIMIT 1)
FROM (SELECT) one LEFT JOIN avouch.audit_head h ON h.tenant_id = $1`

// readHead reports false if the tenant has no head; first and last are read all the same.
func readHead(ctx context.Context, q querier, t tenantdb.TenantID) (h head, found bool, err error) {
	var log *audit.LogID
	var size *int64
	if err := q.QueryRow(ctx, headSQL, t).Scan(&log, &size, &h.chain, &h.first, &h.last); err != nil {
		return h, false, err
	}
	if log == nil {
		return h, false, nil
	}
	h.log, h.size = *log, *size
	return h, true, nil
}

const epochSQL = `SELECT epoch FROM avouch.audit_head WHERE tenant_id = $1`

// readEpoch is the epoch of the caller's log at this moment.
func readEpoch(ctx context.Context, db *tenantdb.DB, c tenantdb.Caller) (epoch int64, err error) {
	err = db.ReadRow(ctx, c, epochSQL, []any{c.Tenant()}, func(r pgx.Row) error { return r.Scan(&epoch) })
	return epoch, err
}

// row is an entry as the table has it. Nothing of it is believed: a superuser may have written it.
type row struct {
	seq                      int64
	entry                    audit.EntryID
	request                  audit.RequestID
	body, leaf, prev, sealed []byte
	about, person            *[16]byte // what it is looked up by
}

const rowColumns = `seq, entry_id, request_id, body, leaf, prev, sealed, about, person`

func scanRow(r pgx.CollectableRow) (v row, err error) {
	err = r.Scan(&v.seq, &v.entry, &v.request, &v.body, &v.leaf, &v.prev, &v.sealed, &v.about, &v.person)
	return v, err
}

func queryRows(ctx context.Context, q querier, sql string, args ...any) ([]row, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanRow)
}

// rangeSQL is by number and not by LIMIT alone, so that a number that is there twice is seen twice. The limit bounds
// what a table full of such rows can make a reader hold.
const rangeSQL = `SELECT ` + rowColumns + ` FROM avouch.audit_entry
  WHERE tenant_id = $1 AND seq >= $2 AND seq < $3 ORDER BY seq, written_at LIMIT $4`

func readRange(ctx context.Context, q querier, t tenantdb.TenantID, from, to int64) ([]row, error) {
	return queryRows(ctx, q, rangeSQL, t, from, to, 2*(to-from))
}

const (
	upwardsSQL = `SELECT ` + rowColumns + ` FROM avouch.audit_entry
  WHERE tenant_id = $1 AND seq >= $2 AND seq < $3 ORDER BY seq LIMIT $4`
	downwardsSQL = `SELECT ` + rowColumns + ` FROM avouch.audit_entry
  WHERE tenant_id = $1 AND seq >= $2 AND seq < $3 ORDER BY seq DESC LIMIT $4`
)

// readSpan reads at most so many rows of [from, to), from its upper end if newest is set.
func readSpan(ctx context.Context, q querier, t tenantdb.TenantID, from, to int64, newest bool, most int) ([]row, error) {
	if newest {
		return queryRows(ctx, q, downwardsSQL, t, from, to, most)
	}
	return queryRows(ctx, q, upwardsSQL, t, from, to, most)
}

const (
	requestSQL = `SELECT ` + rowColumns + ` FROM avouch.audit_entry
  WHERE tenant_id = $1 AND seq >= $2 AND seq < $3 AND request_id = $5 ORDER BY seq LIMIT $4`
	requestBackSQL = `SELECT ` + rowColumns + ` FROM avouch.audit_entry
  WHERE tenant_id = $1 AND seq >= $2 AND seq < $3 AND request_id = $5 ORDER BY seq DESC LIMIT $4`
)

// readRequest is readSpan of the rows of one request.
func readRequest(ctx context.Context, q querier, t tenantdb.TenantID, id audit.RequestID, from, to int64, newest bool, most int) ([]row, error) {
	if newest {
		return queryRows(ctx, q, requestBackSQL, t, from, to, most, id)
	}
	return queryRows(ctx, q, requestSQL, t, from, to, most, id)
}

const probeSQL = `SELECT written_at FROM avouch.audit_entry WHERE tenant_id = $1 AND seq >= $2 ORDER BY seq LIMIT 1`

// writtenAt is when the first entry from a number on was written; zero if there is none.
func writtenAt(ctx context.Context, q querier, t tenantdb.TenantID, seq int64) (at time.Time, err error) {
	err = q.QueryRow(ctx, probeSQL, t, seq).Scan(&at)
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, nil
	}
	return at, err
}

const leavesSQL = `SELECT seq, leaf FROM avouch.audit_entry WHERE tenant_id = $1 AND seq >= $2 AND seq < $3 ORDER BY seq`

// readLeaves reads the leaves of [from, to), and fails if there is not exactly one of each.
func readLeaves(ctx context.Context, q querier, t tenantdb.TenantID, from, to int64) ([][32]byte, error) {
	rows, err := q.Query(ctx, leavesSQL, t, from, to)
	if err != nil {
		return nil, err
	}
	leaves := make([][32]byte, 0, to-from)
	var seq int64
	var leaf []byte
	_, err = pgx.ForEachRow(rows, []any{&seq, &leaf}, func() error {
		if seq != from+int64(len(leaves)) || len(leaf) != 32 {
			return fmt.Errorf("%w: at entry %d", errBroken, from+int64(len(leaves)))
		}
		leaves = append(leaves, [32]byte(leaf))
		return nil
	})
	if err == nil && int64(len(leaves)) != to-from {
		err = fmt.Errorf("%w: at entry %d", errBroken, from+int64(len(leaves)))
	}
	return leaves, err
}

// direct is an administrator's own connection, for a check that must not rely on the server or its role.
type direct struct{ *pgx.Conn }

func connect(ctx context.Context, url string) (direct, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		// The URL may hold a password: pgx blanks it, but not in every malformed URL.
		return direct{}, errors.New("the database URL cannot be read")
	}
	cfg.RuntimeParams["application_name"] = "avouch audit check"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	return direct{conn}, err
}

// read runs fn in a short read-only transaction that is bound to a tenant, as the policies want it of ordinary roles.
func (d direct) read(ctx context.Context, t tenantdb.TenantID, fn func(querier) error) error {
	tx, err := d.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly, IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // nothing was written
	if _, err := tx.Exec(ctx, `SELECT set_config('avouch.tenant', $1, true)`, t.String()); err != nil {
		return err
	}
	return fn(tx)
}

// A role that policies do not bind sees every row, also of a tenant that is nowhere else: an entry that was moved.
const (
	seesAllSQL = `SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user`
	nextLogSQL = `SELECT min(t::text)::uuid FROM (
  (SELECT tenant_id FROM avouch.audit_head WHERE tenant_id > $1 ORDER BY 1 LIMIT 1) UNION ALL
  (SELECT tenant_id FROM avouch.audit_entry WHERE tenant_id > $1 ORDER BY 1 LIMIT 1)) found(t)`
	nextTenantSQL = `SELECT min(t::text)::uuid FROM avouch.lookup_tenants($1, 1) found(t)`
)

// tenants calls fn for each tenant that has a log or entries, as far as the role may see.
func (d direct) tenants(ctx context.Context, fn func(tenantdb.TenantID) error) error {
	var all bool
	if err := d.QueryRow(ctx, seesAllSQL).Scan(&all); err != nil {
		return err
	}
	next := nextTenantSQL
	if all {
		next = nextLogSQL
	}
	var after tenantdb.TenantID
	for {
		var t *tenantdb.TenantID
		if err := d.QueryRow(ctx, next, after).Scan(&t); err != nil || t == nil {
			return err
		}
		if err := fn(*t); err != nil {
			return err
		}
		after = *t
	}
}
