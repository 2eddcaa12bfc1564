package pgtest

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// CREATE DATABASE copies what is in a database, and not what belongs to its name: privileges, and settings by ALTER.
const copyPrivileges = `UPDATE pg_database SET datacl = t.datacl, datdba = t.datdba
FROM pg_database t WHERE t.datname = $2 AND pg_database.datname = $1`

const copySettings = `INSERT INTO pg_db_role_setting (setdatabase, setrole, setconfig)
SELECT d.oid, s.setrole, s.setconfig FROM pg_db_role_setting s JOIN pg_database t ON t.oid = s.setdatabase, pg_database d
WHERE t.datname = $2 AND d.datname = $1`

func (m *membership) clone(ctx context.Context, name, template string) error {
	conn, err := m.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	create := "CREATE DATABASE " + ident(name) + " TEMPLATE " + ident(template) + " STRATEGY " + strategy
	if _, err := conn.Exec(ctx, create); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	batch.Queue(copyPrivileges, name, template)
	batch.Queue(copySettings, name, template)
	return conn.SendBatch(ctx, batch).Close()
}

func (m *membership) drop(ctx context.Context, name string) error {
	_, err := m.pool.Exec(ctx, "DROP DATABASE IF EXISTS "+ident(name)+" WITH (FORCE)")
	return err
}

func (m *membership) exists(ctx context.Context, name string) (bool, error) {
	var found bool
	err := m.pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&found)
	return found, err
}

// dropTests drops the databases of tests that were killed. Nobody else may be using the cluster.
func (m *membership) dropTests(ctx context.Context) error {
	rows, err := m.pool.Query(ctx, `SELECT datname FROM pg_database WHERE datname LIKE 'test\_%'`)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := m.drop(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// build makes a template under another name first: one that has its name is whole. Nobody connects to it afterwards,
// because a database that is in use cannot be copied.
func (m *membership) build(ctx context.Context, template Template) error {
	name := template.database()
	half := name + "_half"
	if err := m.drop(ctx, half); err != nil {
		return err
	}
	if _, err := m.pool.Exec(ctx, "CREATE DATABASE "+ident(half)+" TEMPLATE template0"); err != nil {
		return err
	}
	if err := template.Build(ctx, m.address.URL("postgres", half)); err != nil {
		return fmt.Errorf("building template %s: %w", template.Name, err)
	}
	for _, sql := range []string{
		"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '" + half + "'",
		"ALTER DATABASE " + ident(half) + " ALLOW_CONNECTIONS false",
		"ALTER DATABASE " + ident(half) + " RENAME TO " + ident(name),
		"CHECKPOINT",
	} {
		if _, err := m.pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("building template %s: %w", template.Name, err)
		}
	}
	return nil
}

func ident(name string) string { return pgx.Identifier{name}.Sanitize() }
