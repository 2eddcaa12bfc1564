package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/migrations"
)

// ErrTooPowerful wraps what a server's role may do that it must not.
var ErrTooPowerful = errors.New("the database role has more rights than a server may have")

// ErrSchema wraps what is wrong with the database's schema.
var ErrSchema = errors.New("the database is not ready")

// checkRights refuses a role with which the nets would not hold.
func checkRights(ctx context.Context, conn *pgx.Conn) error {
	found, err := column(ctx, conn, rightsSQL)
	if err != nil {
		return fmt.Errorf("rights: %w", err)
	}
	var may bool
	if err := conn.QueryRow(ctx, replicaRightSQL).Scan(&may); err != nil {
		return fmt.Errorf("rights: %w", err)
	}
	if may && !strings.HasPrefix(strings.Join(found, ""), "is a superuser") {
		found = append(found, "may set session_replication_role: REVOKE SET ON PARAMETER session_replication_role")
	}
	if len(found) > 0 {
		return fmt.Errorf("%w: it %s", ErrTooPowerful, strings.Join(found, "; it "))
	}
	return nil
}

// checkSchema refuses a database that this release does not fit. A newer schema is fine: migrations only add.
func checkSchema(ctx context.Context, conn *pgx.Conn) error {
	var version int
	if err := conn.QueryRow(ctx, "SELECT version FROM avouch.schema_version").Scan(&version); err != nil {
		return fmt.Errorf("%w: no Avouch schema that this role may use; run `avouch migrate` as the owner", ErrSchema)
	}
	files, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		return err
	}
	if version < len(files) {
		return fmt.Errorf("%w: its schema is at version %d and this release needs %d; run `avouch migrate` as the owner", ErrSchema, version, len(files))
	}
	return nil
}

func column(ctx context.Context, conn *pgx.Conn, sql string) ([]string, error) {
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// Catalogue lists each table, partition and view with a tenant that lacks one of the nets, as "table: what it lacks".
// It must equal the list in catalogue_test.go, where each exception has its reason.
func (db *DB) Catalogue(ctx context.Context) ([]string, error) {
	conn, release, err := db.acquire(ctx, db.pool)
	if err != nil {
		return nil, unreachable(err)
	}
	defer release()
	return column(ctx, conn.Conn(), catalogueSQL)
}
