// Package migrations holds the schema: numbered SQL files, forward only. tenantdb.Migrate runs them.
//
// Servers N and N+1 run together on schema N+1: a migration adds, and a later release takes away.
package migrations

import "embed"

// Files are the migrations, named NNN_what.sql.
//
//go:embed *.sql
var Files embed.FS
