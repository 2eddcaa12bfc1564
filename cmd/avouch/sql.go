package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/avouch-dev/avouch/postgres"
)

const issuerSQL = `SELECT issuer FROM avouch.installation`

// fixedIssuer is the name under which an installation issues since its first start; "" before it.
func fixedIssuer(ctx context.Context, adminURL string) (issuer string, err error) {
	conn, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return "", fmt.Errorf("main.fixedIssuer: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := conn.QueryRow(ctx, issuerSQL).Scan(&issuer); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("main.fixedIssuer: %w", err)
	}
	return issuer, nil
}

// sameMachine reports whether a database's address leads to this machine: a socket, or loopback.
func sameMachine(databaseURL string) bool {
	cfg, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return false
	}
	at, err := netip.ParseAddr(cfg.Host)
	return strings.HasPrefix(cfg.Host, "/") || cfg.Host == "localhost" || err == nil && at.IsLoopback()
}

// unreached reports whether there was no connection at all.
func unreached(err error) bool {
	var failed *pgconn.ConnectError
	return errors.As(err, &failed)
}

// mayNotSee reports whether PostgreSQL refused to tell.
func mayNotSee(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == "42501" // insufficient_privilege
}

// plainPG is what went wrong with somebody's own PostgreSQL, in its own words, once.
func plainPG(err error) error {
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && strings.HasPrefix(refused.Message, "avouch_keys is not installed"):
		return postgres.ErrNotInstalled
	case errors.As(err, &refused):
		return errors.New(strings.Join(slices.DeleteFunc([]string{refused.Message, refused.Detail, refused.Hint}, func(s string) bool { return s == "" }), ". "))
	case unreached(err): // each way in has a line, with TLS and without
		var lines []string
		for line := range strings.Lines(err.Error()) {
			if line = strings.TrimSpace(line); !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
		return errors.New(strings.Join(lines, " "))
	}
	return err
}
