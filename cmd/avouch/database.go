package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/trail"
)

// keys is where an operator's command finds the keys. The platform key itself, and addresses of databases, which may hold
// passwords, come from the environment alone.
type keys struct {
	PlatformKeyFile string `placeholder:"FILE" env:"AVOUCH_PLATFORM_KEY_FILE" help:"The platform key, to open private fields in the database; or AVOUCH_KMS and its variables."`
	KeyStore        string `placeholder:"DIR" env:"AVOUCH_KEY_STORE" help:"The organisations' keys, to open private fields in the database."`
}

// ring opens the keys, or is nil if none are named.
func (k *keys) ring(ctx context.Context) (*keyring.Ring, error) {
	served, err := environment()
	if err != nil {
		return nil, err
	}
	cfg := served.Keys()
	cfg.PlatformKeyFile, cfg.KeyStore = k.PlatformKeyFile, k.KeyStore
	if k.KeyStore == "" && k.PlatformKeyFile == "" && cfg.PlatformKey.IsZero() && cfg.KMS.Local() {
		return nil, nil
	}
	if k.KeyStore == "" {
		return nil, lacks("there is a platform key, and no key store: set AVOUCH_KEY_STORE to its directory")
	}
	_ = keyring.DenyDump() // a core dump would hold the keys; where that cannot be forbidden, the operator's limits hold
	ring, _, err := cfg.Open(ctx, false, nil)
	if err != nil {
		return nil, lacks("the keys cannot be had: %w", err)
	}
	return ring, nil
}

// checkDatabase checks every log that the role may see.
func (c *auditCheck) checkDatabase(ctx context.Context, g *globals) error {
	at := cmp.Or(g.Getenv("AVOUCH_ADMIN_DATABASE_URL"), g.Getenv("AVOUCH_DATABASE_URL"))
	if at == "" {
		return lacks("there is nothing to check: name the path of an export, or set AVOUCH_ADMIN_DATABASE_URL or AVOUCH_DATABASE_URL to check the database")
	}
	ring, err := c.ring(ctx)
	if err != nil {
		return err
	}
	var sealer tenantdb.Sealer
	if ring != nil {
		sealer = ring
	}
	sum := databaseSum{page: g.page()}
	err = trail.CheckDatabaseAt(ctx, at, sealer, func(l trail.LogReport) error {
		sum.add(&l)
		if g.JSON {
			return encode(g.Out, l)
		}
		return sum.line(&l)
	})
	if err != nil {
		return lacks("the database cannot be checked: %w", err)
	}
	if !g.JSON {
		if err := sum.end(); err != nil {
			return err
		}
	}
	if sum.broken > 0 {
		return &exit{code: exitFalse}
	}
	return nil
}

// databaseSum is what a check of a database has found so far.
type databaseSum struct {
	page                   page
	logs, broken, unopened int64
}

func (s *databaseSum) add(l *trail.LogReport) {
	s.logs++
	s.unopened += l.Unopened
	if !l.OK() {
		s.broken++
	}
}

func (s *databaseSum) line(l *trail.LogReport) error {
	verdict, says := s.page.paint("holds ", good), plural(l.Size, "entry", "entries")
	if f := l.Fault; f != nil {
		verdict = s.page.paint("BROKEN", bad)
		says = fmt.Sprintf("the first bad entry is %d of %s: %s", f.Index, grouped(l.Size), f.Reason)
		if f.Index == audit.Whole {
			says = "no single entry can be blamed: " + f.Reason
		}
	}
	if l.Tenant == tenantdb.Platform {
		says += " (the installation's own log)"
	}
	_, err := fmt.Fprintf(s.page.to, "%s  tenant %s  %s\n", verdict, l.Tenant, clean(says))
	return err
}

func (s *databaseSum) end() error {
	says := fmt.Sprintf("%s checked, %s.", plural(s.logs, "log", "logs"), map[bool]string{true: "all hold", false: grouped(s.broken) + " broken"}[s.broken == 0])
	if s.unopened > 0 {
		says += fmt.Sprintf(" %s not opened, for want of the keys: set AVOUCH_KEY_STORE and AVOUCH_PLATFORM_KEY_FILE to check those too.",
			plural(s.unopened, "group of private fields was", "groups of private fields were"))
	}
	_, err := fmt.Fprintln(s.page.to, says)
	return err
}

// exportDatabase writes one tenant's log from the database, as the operator.
func (c *auditExport) exportDatabase(ctx context.Context, g *globals, at string, create audit.Create) error {
	tenant, err := tenantdb.ParseTenantID(c.Tenant)
	if err != nil {
		return misused("--tenant %w", err)
	}
	by, err := c.in(g, tenant)
	if err != nil {
		return err
	}
	public, err := url.Parse(c.PublicURL)
	if err != nil || public.Host == "" {
		return lacks("AVOUCH_PUBLIC_URL is not set to the installation's address: the log's name begins with its host")
	}
	ring, err := c.ring(ctx)
	if err != nil {
		return err
	}
	if ring == nil {
		return lacks("the export is recorded in the log, which takes the organisation's keys: set AVOUCH_KEY_STORE and AVOUCH_PLATFORM_KEY_FILE")
	}
	log := slog.New(slog.NewTextHandler(io.Writer(g.Err), &slog.HandlerOptions{Level: slog.LevelWarn}))
	db, err := tenantdb.Open(ctx, tenantdb.Config{URL: at, Sealer: ring, Log: log, Connections: 2})
	if err != nil {
		return lacks("the database cannot be opened: %w", err)
	}
	defer db.Close()
	if c.Disclose && tenant != tenantdb.Platform {
		glass := policy.NewGlass(policy.GlassConfig{DB: db, Ring: ring})
		if err := db.Read(ctx, by, func(tx *tenantdb.ReadTx) error { return glass.Require(ctx, tx, by) }); err != nil {
			return refusal(err)
		}
	}
	room := trail.New(trail.Config{DB: db, Sealer: ring, Host: public.Host, Log: log})
	_, err = room.Export(ctx, by, create, trail.ExportOptions{Disclose: c.Disclose})
	if errors.Is(err, context.Canceled) {
		return err
	}
	if err != nil {
		return &exit{exitFalse, fmt.Errorf("the log cannot be exported: %w", err)}
	}
	return nil
}
