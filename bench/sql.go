package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/internal/devpg"
	"github.com/avouch-dev/avouch/postgres"
)

// inside is a connection to a database with the SQL package, beside a function of one line that only hashes. Both are called
// with prepared statements, as applications do.
type inside struct {
	conn *pgx.Conn
	keys []insideKey
}

type insideKey struct{ name, key string }

const insideSQL = `
CREATE FUNCTION public.bare(presented text) RETURNS bytea LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN sha512(convert_to(presented, 'UTF8')); END $$;
SELECT avouch_keys.define_permission('read_notes'), avouch_keys.define_permission('write_notes');
SELECT avouch_keys.define_scope('reader', '{read_notes}'), avouch_keys.define_scope('writer', '{read_notes,write_notes}');
SELECT avouch_keys.give_role('ada', avouch_keys.define_role(avouch_keys.define_group('staff'), 'writer', '{read_notes,write_notes}'));
SELECT set_config('request.jwt.claims', '{"sub": "ada"}', false);
SELECT avouch_keys.create_key('other', 'reader') FROM generate_series(1, 20);`

// openInside makes a database of its own in the cluster of `avouch dev`, whose URL names a lesser role.
func openInside(ctx context.Context, serverURL string) (in *inside, err error) {
	u, err := url.Parse(serverURL)
	if err != nil {
		return nil, fmt.Errorf("bench.openInside: %w", err)
	}
	const name = "bench_keys"
	u.User, u.Path = url.User(devpg.Superuser), "/postgres"
	if err := execute(ctx, u.String(), "CREATE DATABASE "+name); err != nil {
		return nil, fmt.Errorf("bench.openInside: %w", err)
	}
	u.Path = "/" + name
	if err := postgres.Install(ctx, u.String(), postgres.Options{}); err != nil {
		return nil, fmt.Errorf("bench.openInside: %w", err)
	}
	in = &inside{}
	if in.conn, err = pgx.Connect(ctx, u.String()); err != nil {
		return nil, fmt.Errorf("bench.openInside: %w", err)
	}
	if err := in.conn.PgConn().Exec(ctx, insideSQL).Close(); err != nil {
		return nil, errors.Join(fmt.Errorf("bench.openInside: %w", err), in.close(ctx))
	}
	for kind, scope := range map[string]string{"without a scope": "NULL", "with a scope": "'reader'"} {
		k := insideKey{name: kind}
		if err := in.conn.QueryRow(ctx, "SELECT key FROM avouch_keys.create_key('k', "+scope+")").Scan(&k.key); err != nil {
			return nil, errors.Join(fmt.Errorf("bench.openInside: %w", err), in.close(ctx))
		}
		in.keys = append(in.keys, k)
	}
	if _, err := in.conn.Exec(ctx, "VACUUM ANALYZE"); err != nil {
		return nil, errors.Join(fmt.Errorf("bench.openInside: %w", err), in.close(ctx))
	}
	return in, nil
}

func execute(ctx context.Context, dsn, sql string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

func (in *inside) close(ctx context.Context) error { return in.conn.Close(ctx) }

// ask is what a statement takes, from its sending to its answer, which must be one.
func (in *inside) ask(ctx context.Context, sql, key string) (time.Duration, error) {
	began := time.Now()
	var out []byte
	if err := in.conn.QueryRow(ctx, sql, key).Scan(&out); err != nil {
		return 0, fmt.Errorf("bench.inside: %w", err)
	}
	if took := time.Since(began); out != nil {
		return took, nil
	}
	return 0, errors.New("bench.inside: a good key was refused")
}
