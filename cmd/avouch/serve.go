package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
)

// serveCmd is `avouch serve`.
type serveCmd struct {
	server.Config `embed:""`
}

// Help is the long text.
func (*serveCmd) Help() string {
	return "Runs a server against a database that `avouch migrate` has prepared. Several may run on one database; they share the key store. " +
		"It stops on SIGTERM and SIGINT, after the requests that are under way."
}

// logger writes to standard error, where it is nobody's data.
func logger(to io.Writer, asJSON bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if asJSON {
		return slog.New(slog.NewJSONHandler(to, options))
	}
	return slog.New(slog.NewTextHandler(to, options))
}

// Run is the command.
func (c *serveCmd) Run(ctx context.Context, g *globals) error {
	return c.run(ctx, g.Out, logger(g.Err, g.JSON), g.JSON)
}

func (c *serveCmd) run(ctx context.Context, out io.Writer, log *slog.Logger, asJSON bool) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := keyring.DenyDump(); err != nil {
		return lacks("the process cannot be protected from being dumped: %w", err)
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return lacks("cannot listen on %s: %w; choose another address with --listen (AVOUCH_LISTEN)", c.Listen, err)
	}
	defer l.Close()
	c.Version = thisBuild().Version
	s, err := server.Open(ctx, c.Config, l.Addr().String(), log)
	if err != nil {
		return explain(err)
	}
	defer s.Close()
	if asJSON {
		err = encode(out, map[string]string{"url": address(l, c.TLSCertFile != "")})
	} else {
		_, err = fmt.Fprintf(out, "Avouch %s answers at %s; its public address and issuer is %s\n", c.Version, address(l, c.TLSCertFile != ""), s.URL())
	}
	if err != nil {
		return err
	}
	go collectLess(s)
	return s.Serve(ctx, l)
}

func address(l net.Listener, secure bool) string {
	if secure {
		return "https://" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}

// explain gives the exit code of what keeps a server from starting: all of it is for the operator to mend.
func explain(err error) error {
	for _, known := range []error{server.ErrConfig, tenantdb.ErrTooPowerful, tenantdb.ErrSchema, os.ErrNotExist, os.ErrPermission} {
		if errors.Is(err, known) {
			return &exit{exitLacks, err}
		}
	}
	return lacks("the server cannot start: %w", err)
}
