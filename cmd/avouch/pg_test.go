package main

import (
	"context"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/avouch-dev/avouch/internal/pgtest"
)

// TestPgScripts runs the commands of pg on an empty database.
func TestPgScripts(t *testing.T) {
	t.Parallel()
	pg := pgtest.New(t, pgtest.Template{Name: "empty", Hash: "1", Build: func(context.Context, string) error { return nil }})
	testscript.Run(t, testscript.Params{
		Dir: "testdata/pg", RequireExplicitExec: true, RequireUniqueNames: true, Cmds: commands(),
		Setup: func(env *testscript.Env) error {
			env.Setenv("TZ", "UTC")
			env.Setenv("DSN", pg.AdminURL)
			return nil
		},
	})
}
