package incident

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/tenantdb"
)

const openedAlreadySQL = `SELECT EXISTS (SELECT FROM avouch.incident WHERE tenant_id = $1 AND kind = $2 AND subject = $3 AND resolved_at IS NULL)`

func openedAlready(ctx context.Context, tx *tenantdb.ReadTx, kind, subject string) (known bool, err error) {
	err = tx.QueryRow(ctx, openedAlreadySQL, tx.Tenant(), kind, subject).Scan(&known)
	return known, err
}

const insertSQL = `INSERT INTO avouch.incident (tenant_id, incident_id, kind, subject, detail, opened_at) VALUES ($1, $2, $3, $4, $5, $6)`

func insert(ctx context.Context, tx *tenantdb.Tx, in Incident) error {
	_, err := tx.Exec(ctx, insertSQL, tx.Tenant(), in.ID, in.Kind, in.Subject, in.Detail, in.Opened)
	return err
}

const incidentColumns = `incident_id, kind, subject, detail, opened_at, resolved_at`

func scan(row pgx.CollectableRow) (in Incident, err error) {
	var resolved *time.Time
	err = row.Scan(&in.ID, &in.Kind, &in.Subject, &in.Detail, &in.Opened, &resolved)
	if resolved != nil {
		in.Resolved = *resolved
	}
	return in, err
}

const (
	findSQL    = `SELECT ` + incidentColumns + ` FROM avouch.incident WHERE tenant_id = $1 AND incident_id = $2`
	resolveSQL = `UPDATE avouch.incident SET resolved_at = $3 WHERE tenant_id = $1 AND incident_id = $2 AND resolved_at IS NULL`
)

func find(ctx context.Context, tx *tenantdb.ReadTx, incident ID) (Incident, error) {
	rows, err := tx.Query(ctx, findSQL, tx.Tenant(), incident)
	if err != nil {
		return Incident{}, err
	}
	in, err := pgx.CollectExactlyOneRow(rows, scan)
	if errors.Is(err, pgx.ErrNoRows) {
		return Incident{}, missing()
	}
	return in, err
}

// resolve returns nil for an incident that is closed already.
func resolve(ctx context.Context, tx *tenantdb.Tx, incident ID, at time.Time) (*Incident, error) {
	in, err := find(ctx, &tx.ReadTx, incident)
	if err != nil {
		return nil, err
	}
	n, err := tx.Exec(ctx, resolveSQL, tx.Tenant(), incident, at)
	if err != nil || n == 0 {
		return nil, err
	}
	return &in, nil
}

const listSQL = `SELECT ` + incidentColumns + ` FROM avouch.incident
  WHERE tenant_id = $1 AND incident_id > $2 AND (resolved_at IS NULL OR NOT $3) ORDER BY incident_id LIMIT $4`

// list is in the order of ids, which is the order of time.
func list(ctx context.Context, tx *tenantdb.ReadTx, open bool, after ID, most int) ([]Incident, error) {
	rows, err := tx.Query(ctx, listSQL, tx.Tenant(), after, open, most)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}
