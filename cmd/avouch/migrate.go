package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// migrateCmd is `avouch migrate`.
type migrateCmd struct {
	AdminDatabaseURL secret.String `env:"AVOUCH_ADMIN_DATABASE_URL" hidden:"" help:"The database, as its owner. Environment only: it may hold a password."`
}

// Help is the long text.
func (*migrateCmd) Help() string {
	return "Brings the database of AVOUCH_ADMIN_DATABASE_URL up to this release's schema, as a role that may create roles and schemas. " +
		"It only adds: servers of the release before go on working. A second run does nothing."
}

// Run is the command.
func (c *migrateCmd) Run(ctx context.Context, g *globals) error {
	return c.run(ctx, g.Out, g.JSON)
}

func (c *migrateCmd) run(ctx context.Context, out io.Writer, asJSON bool) error {
	if c.AdminDatabaseURL.IsZero() {
		return lacks("AVOUCH_ADMIN_DATABASE_URL is not set: it names the database, as its owner")
	}
	if err := tenantdb.Migrate(ctx, c.AdminDatabaseURL.Expose()); err != nil {
		return lacks("%w", err)
	}
	if asJSON {
		return json.NewEncoder(out).Encode(map[string]string{"schema": tenantdb.SchemaHash()})
	}
	_, err := fmt.Fprintln(out, "The database is ready for this release. Servers connect to it as avouch_server.")
	return err
}
