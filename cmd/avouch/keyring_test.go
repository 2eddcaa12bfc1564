package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/pgtest"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/transit/transittest"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestKeyringScripts runs the commands of the platform's keys, each script on an installation and a KMS of its own.
func TestKeyringScripts(t *testing.T) {
	t.Parallel()
	e := transittest.New()
	t.Cleanup(e.Close)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/keyring", RequireExplicitExec: true, RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "mode": mode, "logged": logged, "spoils": spoils, "tenant": tenant, "begun-ahead": begunAhead, "kms-rotates": func(*testscript.TestScript, bool, []string) { e.Rotate() },
		},
		Setup: func(env *testscript.Env) error {
			pg := pgtest.New(t, pgtest.Template{Name: "avouch", Hash: tenantdb.SchemaHash(), Build: tenantdb.Migrate})
			token := filepath.Join(env.WorkDir, "kms.token")
			if err := os.WriteFile(token, []byte(transittest.Root), 0o600); err != nil {
				return err
			}
			cfg := server.Config{
				DatabaseURL: pg.URL, PlatformKeyFile: filepath.Join(env.WorkDir, "platform.key"), KeyStore: filepath.Join(env.WorkDir, "keystore"), PublicURL: "https://avouch.example",
			}
			for name, value := range map[string]string{
				"AVOUCH_DATABASE_URL": cfg.DatabaseURL, "AVOUCH_PLATFORM_KEY_FILE": cfg.PlatformKeyFile, "AVOUCH_KEY_STORE": cfg.KeyStore, "AVOUCH_PUBLIC_URL": cfg.PublicURL,
				"DATABASE_URL": cfg.DatabaseURL, "PLATFORM_KEY_FILE": cfg.PlatformKeyFile, "KEY_STORE": cfg.KeyStore, "AVOUCH_URL": cfg.PublicURL, // for what is done to it
				"KMS_ADDRESS": e.URL, "KMS_TOKEN_FILE": token, "USER": "grace", "TZ": "UTC",
			} {
				env.Setenv(name, value)
			}
			return installed(cfg)
		},
	})
}

// installed makes an installation with two organisations, which have a key each.
func installed(cfg server.Config) error {
	if _, err := keyring.CreatePlatformKeyFile(cfg.PlatformKeyFile); err != nil {
		return err
	}
	s, err := server.Operate(context.Background(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer s.Close()
	for _, name := range []string{"Acme", "Harbour"} {
		if _, err := s.Org.Create(context.Background(), org.NewOrganisation{Name: name, ContactEmail: "owner@" + name + ".example"}); err != nil {
			return err
		}
	}
	return nil
}

// tenant VARIABLE NAME: the id of an organisation.
func tenant(ts *testscript.TestScript, _ bool, args []string) {
	s := operating(ts)
	defer s.Close()
	ts.Check(s.DB.Each(context.Background(), "test", func(c tenantdb.Caller) error {
		o, err := s.Org.Get(context.Background(), c)
		if err == nil && o.Name == args[1] {
			ts.Setenv(args[0], c.Tenant().String())
		}
		return err
	}))
}

// begun-ahead TENANT: the organisation's rotation is one that a server began whose clock was a day ahead, and that has made nothing.
func begunAhead(ts *testscript.TestScript, _ bool, args []string) {
	s := operating(ts)
	defer s.Close()
	t, err := tenantdb.ParseTenantID(args[0])
	ts.Check(err)
	ts.Check(s.DB.Note(context.Background(), tenantdb.System(t, "test"), func(tx *tenantdb.Tx) error {
		_, err := tx.Exec(context.Background(), `UPDATE avouch.key_rotation SET begun_at = begun_at + interval '1 day', due_at = due_at + interval '1 day',
			made_at = NULL, wrap = wrap + 1, subjects = subjects + 1, rows = 0, keys = 0 WHERE tenant_id = $1`, t)
		return err
	}))
}

// logged TYPE N: the platform's log has so many entries of a type, all of them by the operator.
func logged(ts *testscript.TestScript, _ bool, args []string) {
	db, err := tenantdb.Open(context.Background(), tenantdb.Config{URL: ts.Getenv("AVOUCH_DATABASE_URL"), Log: slog.New(slog.DiscardHandler)})
	ts.Check(err)
	defer db.Close()
	n := 0
	err = db.Read(context.Background(), tenantdb.System(tenantdb.Platform, "test"), func(tx *tenantdb.ReadTx) error {
		rows, err := tx.Query(context.Background(), `SELECT body FROM avouch.audit_entry ORDER BY seq`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var body []byte
			if err := rows.Scan(&body); err != nil {
				return err
			}
			e, err := audit.Decode(body)
			if err != nil {
				return err
			}
			if e.Type == args[0] {
				n++
				if e.Actor.ID != "operator/grace" {
					return fmt.Errorf("%s by %s", e.Type, e.Actor.ID)
				}
			}
		}
		return rows.Err()
	})
	ts.Check(err)
	if fmt.Sprint(n) != args[1] {
		ts.Fatalf("%d entries of %s", n, args[0])
	}
}
