package postgres

import (
	"context"
	_ "embed" // the files of SQL
	"errors"
	"fmt"
	"strings"
)

//go:embed avouch.sql
var avouchSQL string

//go:embed keyhippo.sql
var keyhippoSQL string

//go:embed uninstall.sql
var uninstallSQL string

// Version is what avouch.sql installs.
const Version = 1

// ErrNotInstalled says that a database has no schema avouch_keys.
var ErrNotInstalled = errors.New("avouch_keys is not installed in this database")

// Options say what to install, and who hears what PostgreSQL has to say about it.
type Options struct {
	KeyHippo bool         // KeyHippo's names too
	Notice   func(string) // nil: nobody
}

// Install installs the schema avouch_keys, or brings it up to this version: all of it, or nothing.
func Install(ctx context.Context, dsn string, o Options) error {
	sql := avouchSQL
	if o.KeyHippo {
		sql = strings.TrimSuffix(avouchSQL, "COMMIT;\n") + strings.Replace(keyhippoSQL, "\nBEGIN;\n", "\n", 1)
	}
	if err := execute(ctx, dsn, o.Notice, sql); err != nil {
		return fmt.Errorf("postgres.Install: %w", err)
	}
	return nil
}

// Uninstall takes everything away that Install made: all keys, and the log. Without dropLog it does nothing but say so, in its
// error.
func Uninstall(ctx context.Context, dsn string, dropLog bool, notice func(string)) error {
	files := []string{uninstallSQL}
	if dropLog {
		files = []string{"SET avouch_keys.drop_log = 'yes'", uninstallSQL}
	}
	if err := execute(ctx, dsn, notice, files...); err != nil {
		return fmt.Errorf("postgres.Uninstall: %w", err)
	}
	return nil
}
