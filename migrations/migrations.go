// Package migrations holds the schema: numbered SQL files, forward only. tenantdb.Migrate runs them.
//
// Servers N and N+1 run together on schema N+1: a migration adds, and a later release takes away. schema.sql is the whole
// schema that they make, to read; make schema writes it.
package migrations

import "embed"

// Files are the migrations, named NNN_what.sql.
//
//go:embed [0-9]*.sql
var Files embed.FS

// Oldest is how many migrations a server must know to run on this schema: raise it in the release whose migration takes
// away what servers of an earlier one still need, to the number that the oldest server not needing it knows.
const Oldest = 0
