package doortest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/tenantdb"
)

const insertOrganisationSQL = `INSERT INTO avouch.organisation (tenant_id, name, created_at) VALUES ($1, $2, now())`

const insertCounterSQL = `INSERT INTO avouch.counter (tenant_id, subject) VALUES ($1, 'verify')`

func insertOrganisation(ctx context.Context, tx *tenantdb.Tx, name string) error {
	if _, err := tx.Exec(ctx, insertOrganisationSQL, tx.Tenant(), name); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, insertCounterSQL, tx.Tenant())
	return err
}

const entriesSQL = `SELECT seq, entry_id, body, sealed FROM avouch.audit_entry WHERE tenant_id = $1 ORDER BY seq`

type row struct {
	Seq    int64
	Entry  [16]byte
	Body   []byte
	Sealed []byte
}

func readEntries(ctx context.Context, tx *tenantdb.ReadTx) ([]row, error) {
	rows, err := tx.Query(ctx, entriesSQL, tx.Tenant())
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[row])
}

// Admin runs a statement as superuser, past all nets: for what a test cannot bring about otherwise.
func (d *Door) Admin(t testing.TB, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.pg.AdminURL)
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), sql, args...)
	must(t, err)
}

// AsServer runs a statement as the server's role, bound to a tenant, past the rooms: what an injection could do.
func (d *Door) AsServer(t testing.TB, tenant tenantdb.TenantID, sql string, args ...any) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.pg.URL)
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), `SELECT set_config('avouch.tenant', $1, false)`, tenant.String())
	must(t, err)
	_, err = conn.Exec(t.Context(), sql, args...)
	return err
}

// Text is the one value that a query of the superuser's answers, as text.
func (d *Door) Text(t testing.TB, sql string, args ...any) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.pg.AdminURL)
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	var s string
	must(t, conn.QueryRow(t.Context(), sql, args...).Scan(&s))
	return s
}
