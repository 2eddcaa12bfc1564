package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/avouch-dev/avouch/internal/devpg"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
)

// devCmd is `avouch dev`: everything in one directory.
type devCmd struct {
	Dir     string `env:"AVOUCH_DEV_DIR" default:".avouch" type:"path" help:"Directory of the keys, the key store and the private PostgreSQL. Made if it is missing."`
	Listen  string `env:"AVOUCH_LISTEN" default:"127.0.0.1:7070" help:"Address to listen on. Port 0 takes a free one, and the same again at the next start."`
	TLSCert string `name:"tls-cert" env:"AVOUCH_TLS_CERT_FILE" help:"Certificate chain, PEM: serve HTTPS."`
	TLSKey  string `name:"tls-key" env:"AVOUCH_TLS_KEY_FILE" help:"Its private key, PEM."`
}

// Help is the long text.
func (*devCmd) Help() string {
	return "Runs all of Avouch from one directory, with a PostgreSQL of its own, two organisations, their keys and an agent to try it with. " +
		"It makes no outbound connection. It comes back with its data after a restart, however it ended. " +
		"The variables of avouch serve hold here too, but for those of mail, quotas, sign-up, and of what is in the directory."
}

// ready is what `avouch dev --json` prints, and dev.json holds.
type ready struct {
	URL              string `json:"url"`
	TenantID         string `json:"tenant_id"`
	OwnerKey         string `json:"owner_key"`
	ServiceTenantID  string `json:"service_tenant_id"`
	ServiceOwnerKey  string `json:"service_owner_key"`
	ServiceKey       string `json:"service_key"`
	AgentID          string `json:"agent_id"`
	AgentDID         string `json:"agent_did"`
	AgentToken       string `json:"agent_token"`
	DatabaseURL      string `json:"database_url"`
	AdminDatabaseURL string `json:"admin_database_url"`
}

const devDatabase = "avouch"

// Run is the command.
func (c *devCmd) Run(ctx context.Context, g *globals) error {
	return c.run(ctx, g.Out, logger(g.Err, g.JSON), g.JSON)
}

func (c *devCmd) run(ctx context.Context, out io.Writer, log *slog.Logger, asJSON bool) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	collectLess()
	if err := keyring.DenyDump(); err != nil {
		return lacks("the process cannot be protected from being dumped: %w", err)
	}
	// The address comes first: that it is taken or too open is told at once, and not after a database has been made.
	before, err := c.remembered()
	if err != nil {
		return err
	}
	l, err := c.listen(before)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := c.guarded(l); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return lacks("%w", err)
	}
	pg, err := devpg.Start(ctx, devpg.Config{Dir: filepath.Join(c.Dir, "postgres"), Logger: log})
	if err != nil {
		return lacks("%w", err)
	}
	defer func() {
		if err := pg.Stop(context.Background()); err != nil {
			log.Error("PostgreSQL did not stop cleanly; it will recover at the next start", "error", err)
		}
	}()
	if err := prepare(ctx, pg); err != nil {
		return err
	}
	if err := c.makeKey(); err != nil {
		return err
	}
	return c.serve(ctx, pg, l, before, out, log, asJSON)
}

// prepare makes the database, or brings it up to this release.
func prepare(ctx context.Context, pg *devpg.Cluster) error {
	if err := tenantdb.CreateDatabase(ctx, pg.URL(devpg.Superuser, "postgres"), devDatabase); err != nil {
		return lacks("%w", err)
	}
	if err := tenantdb.Migrate(ctx, pg.URL(devpg.Superuser, devDatabase)); err != nil {
		return lacks("%w", err)
	}
	return nil
}

func (c *devCmd) serve(ctx context.Context, pg *devpg.Cluster, l net.Listener, before ready, out io.Writer, log *slog.Logger, asJSON bool) error {
	issuer, err := c.issuer(ctx, pg, l)
	if err != nil {
		return err
	}
	cfg, err := c.config(pg.URL("avouch_server", devDatabase), issuer)
	if err != nil {
		return err
	}
	s, err := server.Open(ctx, cfg, l.Addr().String(), log)
	if err != nil {
		return explain(err)
	}
	defer s.Close()
	now := before
	now.URL, now.DatabaseURL, now.AdminDatabaseURL = address(l, c.TLSCert != ""), pg.URL("avouch_server", devDatabase), pg.URL(devpg.Superuser, devDatabase)
	if err := demonstrate(ctx, s, &now, func() error { return c.remember(now) }); err != nil {
		return lacks("the demo could not be made: %w", err)
	}
	if err := c.remember(now); err != nil {
		return err
	}
	if err := greet(out, now, c.Dir, asJSON); err != nil {
		return err
	}
	if issuer != now.URL {
		log.InfoContext(ctx, "tokens and DIDs go on naming the address of the first start", "issuer", issuer)
	}
	go keepRunning(ctx, pg, log)
	return s.Serve(ctx, l)
}

// issuer is the address of the first start, wherever later ones listen: every token and DID names it. The database alone
// holds it, from the moment that a server has opened: a copy beside it would bind the directory to a start that failed.
func (c *devCmd) issuer(ctx context.Context, pg *devpg.Cluster, l net.Listener) (string, error) {
	fixed, err := fixedIssuer(ctx, pg.URL(devpg.Superuser, devDatabase))
	if err != nil {
		return "", lacks("%w", err)
	}
	issuer := cmp.Or(fixed, address(l, c.TLSCert != ""))
	if strings.HasPrefix(issuer, "http:") && !onLoopback(l) {
		return "", misused("the tokens and DIDs of %s name %s, which is for this machine only, and --listen %s is reached over the network: "+
			"listen on 127.0.0.1, or begin another directory with --dir", c.Dir, issuer, c.Listen)
	}
	return issuer, nil
}

// guarded refuses, before anything is made, to let keys and tokens travel in clear, and a certificate that cannot be used.
func (c *devCmd) guarded(l net.Listener) error {
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return misused("--tls-cert and --tls-key (AVOUCH_TLS_CERT_FILE and AVOUCH_TLS_KEY_FILE) go together")
	case c.TLSCert != "":
		if _, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey); err != nil {
			return lacks("--tls-cert and --tls-key (AVOUCH_TLS_CERT_FILE and AVOUCH_TLS_KEY_FILE) cannot be used: %w", err)
		}
	case !onLoopback(l):
		return misused("--listen %s (AVOUCH_LISTEN) is reached over the network, where keys and tokens would travel in clear: "+
			"give --tls-cert and --tls-key, or listen on 127.0.0.1", c.Listen)
	}
	return nil
}

func onLoopback(l net.Listener) bool {
	at, ok := l.Addr().(*net.TCPAddr)
	return ok && at.IP.IsLoopback()
}

// config is what the variables of `avouch serve` say, but for what follows from the directory, and for mail, which is caught.
func (c *devCmd) config(database, issuer string) (server.Config, error) {
	cfg, err := environment()
	cfg.DatabaseURL, cfg.KeyStore = database, filepath.Join(c.Dir, "keystore")
	cfg.PlatformKeyFile, cfg.PlatformKey = c.keyFile(), secret.String{}
	cfg.Listen, cfg.PublicURL, cfg.TLSCertFile, cfg.TLSKeyFile = c.Listen, issuer, c.TLSCert, c.TLSKey
	cfg.Mail, cfg.OperatorEmail = mail.Config{}, "operator@avouch.example"
	cfg.SignUp, cfg.TenantQuota, cfg.ServiceQuota, cfg.Development = true, -1, -1, true
	return cfg, err
}

func (c *devCmd) keyFile() string { return filepath.Join(c.Dir, "keys", "platform.key") }

// makeKey makes the platform key, if this is the first start.
func (c *devCmd) makeKey() error {
	if err := os.MkdirAll(filepath.Dir(c.keyFile()), 0o700); err != nil {
		return lacks("%w", err)
	}
	if _, err := keyring.CreatePlatformKeyFile(c.keyFile()); err != nil {
		return lacks("%w", err)
	}
	return nil
}

// remembered is what the last start left.
func (c *devCmd) remembered() (r ready, err error) {
	b, err := os.ReadFile(filepath.Join(c.Dir, "dev.json"))
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return r, lacks("%s cannot be read: %w", filepath.Join(c.Dir, "dev.json"), err)
	}
	return r, nil
}

func (c *devCmd) remember(r ready) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return c.write("dev.json", append(b, '\n'))
}

// write makes a file of the directory, whole or not at all.
func (c *devCmd) write(name string, content []byte) error {
	tmp, err := os.CreateTemp(c.Dir, name+".*") // mode 0600
	if err != nil {
		return lacks("%w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return lacks("%w", err)
	}
	if err := os.Rename(tmp.Name(), filepath.Join(c.Dir, name)); err != nil {
		return lacks("%w", err)
	}
	return nil
}

// listen takes the address that was asked for. Asked for any free port, it takes the one of the last start if it can:
// the issuer of every token that exists names it.
func (c *devCmd) listen(before ready) (net.Listener, error) {
	if host, port, err := net.SplitHostPort(c.Listen); err == nil && port == "0" && before.URL != "" {
		if u, err := url.Parse(before.URL); err == nil {
			if l, err := net.Listen("tcp", net.JoinHostPort(host, cmp.Or(u.Port(), "0"))); err == nil {
				return l, nil
			}
		}
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, c.notListening(before, err)
	}
	return l, nil
}

func (c *devCmd) notListening(before ready, err error) error {
	host, port, splitErr := net.SplitHostPort(c.Listen)
	switch {
	case splitErr != nil:
		return misused("--listen (AVOUCH_LISTEN) is host:port, such as 127.0.0.1:7070, and not %q", c.Listen)
	case !errors.Is(err, syscall.EADDRINUSE):
		return lacks("cannot listen on %s: %w; choose another address with --listen (AVOUCH_LISTEN)", c.Listen, err)
	}
	who := " by another program"
	if u, err := url.Parse(before.URL); err == nil && u.Host == c.Listen {
		who = ", perhaps by an avouch dev that runs in " + c.Dir + " already"
	}
	return lacks("port %s of %s is taken%s: choose another with --listen %s, or any free one with --listen %s (or AVOUCH_LISTEN)",
		port, host, who, net.JoinHostPort(host, "PORT"), net.JoinHostPort(host, "0"))
}

// keepRunning starts PostgreSQL again if it ends by itself, and does not give up: what keeps it from starting, such as a
// full disk, may pass.
func keepRunning(ctx context.Context, pg *devpg.Cluster, log *slog.Logger) {
	for {
		select {
		case <-pg.Done():
		case <-ctx.Done():
			return
		}
		if ctx.Err() != nil {
			return
		}
		err := pg.Restart(ctx)
		if err == nil {
			log.InfoContext(ctx, "PostgreSQL was started again")
			continue
		}
		log.ErrorContext(ctx, "PostgreSQL could not be started again; it is tried until it can", "error", err)
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
			return
		}
	}
}

func greet(out io.Writer, r ready, dir string, asJSON bool) error {
	if asJSON {
		return encode(out, r)
	}
	says := strings.NewReplacer(
		"{url}", r.URL, "{service_key}", r.ServiceKey, "{agent_token}", r.AgentToken, "{owner_key}", r.OwnerKey, "{service}", r.ServiceTenantID,
		"{database}", r.DatabaseURL, "{avouch}", os.Args[0], "{file}", filepath.Join(dir, "dev.json"),
	).Replace(welcome)
	_, err := io.WriteString(out, says)
	return err
}

// encode writes one JSON object on one line, with addresses as they are.
func encode(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

const welcome = `
Avouch runs at {url}  (API: {url}/docs)

Two organisations are set up: Acme Robotics owns an agent, and Harbour Data runs a service that the agent calls.
Try, in another terminal:

1. As the service, ask whether to let the agent in:

   curl -s {url}/api/v1/verify -H 'Authorization: Bearer {service_key}' -H 'Content-Type: application/json' \
     -d '{"token":"{agent_token}","target_resource":"harbour-data","scopes_requested":["read:data"]}'

2. As the agent's owner, see that it was asked, and by whom:

   curl -s '{url}/api/v1/audit/entries?limit=3' -H 'Authorization: Bearer {owner_key}'

3. As an auditor, check every log from its first entry to its last:

   AVOUCH_DATABASE_URL='{database}' {avouch} audit check

What anybody can see of the service: {url}/verified?service={service}
Mail is caught, and not sent:        {url}/dev/inbox

The keys are in {file}, readable by you alone. Stop with Ctrl-C; everything is there at the next start.
`
