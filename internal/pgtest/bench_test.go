package pgtest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// BenchmarkNew is what a test pays for its database: made, used a little, and dropped.
func BenchmarkNew(b *testing.B) {
	New(b, small)
	for _, parallel := range []int{1, 4} {
		b.Run(fmt.Sprint(parallel), func(b *testing.B) {
			b.SetParallelism(parallel)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					db, err := process.newDatabase(context.Background(), small)
					if err == nil {
						err = run(context.Background(), db.URL, "INSERT INTO note SELECT repeat('x', 1000) FROM generate_series(1, 500)")
					}
					if err == nil {
						err = process.drop(context.Background(), db.Name)
					}
					if err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

var small = Template{Name: "small", Hash: "1", Build: func(ctx context.Context, adminURL string) error {
	return run(ctx, adminURL, ensureRole("avouch_server", "LOGIN"), ensureRole("avouch_owner", "NOLOGIN"),
		"CREATE TABLE note (text text)", "GRANT ALL ON note TO avouch_server", manyTables())
}}

func manyTables() string {
	var sql strings.Builder
	for i := range 60 {
		fmt.Fprintf(&sql, "CREATE TABLE t%d (id int primary key, a text unique, b timestamptz);", i)
	}
	return sql.String()
}

func ensureRole(name, login string) string {
	return fmt.Sprintf(`DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '%s') THEN CREATE ROLE %s %s; END IF; END $$`, name, name, login)
}

func run(ctx context.Context, url string, statements ...string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}
