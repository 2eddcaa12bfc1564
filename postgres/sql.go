package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// execute runs files of SQL, each as one message, on a connection of their own.
func execute(ctx context.Context, dsn string, notice func(string), files ...string) error {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return err
	}
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		// 42P06 and 42P07 say that what IF NOT EXISTS asks about is there.
		if notice != nil && n.Code != "42P06" && n.Code != "42P07" {
			notice(n.Message)
		}
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range files {
		if err := conn.PgConn().Exec(ctx, sql).Close(); err != nil {
			return err
		}
	}
	return nil
}

// readLog reads the whole log at one moment.
func readLog(ctx context.Context, dsn string, begin func(installation string) *chain) (Report, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return Report{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadWrite})
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // nothing was written
	var installed bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'avouch_keys')`).Scan(&installed); err != nil {
		return Report{}, err
	}
	if !installed {
		return Report{}, ErrNotInstalled
	}
	if err := holdPlain(ctx, tx); err != nil {
		return Report{}, err
	}
	var r Report
	var size int64
	var hash []byte
	err = tx.QueryRow(ctx, `SELECT i.id::text, i.version, h.size, h.hash FROM ONLY avouch_keys.installation i, ONLY avouch_keys.head h`).Scan(&r.Installation, &r.Version, &size, &hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return Report{}, fmt.Errorf("the installation's row or the log's head is gone: %w", err)
	}
	if err != nil {
		return Report{}, err
	}
	c := begin(r.Installation)
	if err := eachEntry(ctx, tx, c.add); err != nil {
		return Report{}, err
	}
	c.end(size, hash)
	r.Size, r.Hash, r.Fault = c.next, hex.EncodeToString(c.hash[:]), c.fault
	return r, nil
}

// hold keeps the tables of the log as they are. A superuser keeps their schema's name too, which no lock of a table does.
const hold = `
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL row_security = off;
DO $$
BEGIN
  IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN PERFORM FROM pg_namespace WHERE nspname = 'avouch_keys' FOR SHARE; END IF;
END $$;
SET TRANSACTION READ ONLY;
SET LOCAL ROLE avouch_keys_owner;
LOCK TABLE ONLY avouch_keys.installation, ONLY avouch_keys.head, ONLY avouch_keys.log IN SHARE UPDATE EXCLUSIVE MODE;`

// odd names the tables of the log that are not plain: PostgreSQL would run code to read them, and plan it for an index.
const odd = `
SELECT coalesce(string_agg(t.name, ', '), '')
FROM (VALUES ('installation'), ('head'), ('log')) AS t(name), pg_namespace n LEFT JOIN LATERAL (SELECT * FROM pg_class WHERE relnamespace = n.oid AND relname = t.name) c ON true
WHERE n.nspname = 'avouch_keys' AND (c.relkind = 'r' AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'heap') AND NOT c.relhasrules AND NOT c.relforcerowsecurity
  AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped AND (a.atttypid >= 16384 OR a.attgenerated <> ''))
  AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL))
  AND NOT EXISTS (SELECT FROM pg_statistic_ext s WHERE s.stxrelid = c.oid)) IS NOT TRUE`

// holdPlain makes sure that reading the log runs nothing that whoever may become its owner has put there: a superuser who
// checks has become the owner only for as long as no such code says otherwise.
func holdPlain(ctx context.Context, tx pgx.Tx) error {
	if err := tx.Conn().PgConn().Exec(ctx, hold).Close(); err != nil {
		return err
	}
	var names string
	if err := tx.QueryRow(ctx, odd).Scan(&names); err != nil {
		return err
	}
	if names != "" {
		return fmt.Errorf("of the tables of avouch_keys these are no longer as they were installed, so nothing was read: %s", names)
	}
	return nil
}

// eachEntry reads the log in its order until add has had enough.
func eachEntry(ctx context.Context, tx pgx.Tx, add func(*entry) bool) error {
	rows, err := tx.Query(ctx, `SELECT seq, (extract(epoch FROM at) * 1000000)::bigint, actor, action, target, data::text, body, prev, hash
		FROM ONLY avouch_keys.log ORDER BY seq`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var e entry
		if err := rows.Scan(&e.seq, &e.micros, &e.actor, &e.action, &e.target, &e.data, &e.body, &e.prev, &e.hash); err != nil {
			return err
		}
		if !add(&e) {
			return nil
		}
	}
	return rows.Err()
}
