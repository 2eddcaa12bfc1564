package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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
