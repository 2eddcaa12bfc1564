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
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/avouch-dev/avouch/internal/devpg"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/sms"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
)

// devCmd is `avouch dev`: everything in one directory.
type devCmd struct {
	Dir     string `env:"AVOUCH_DEV_DIR" default:".avouch" type:"path" help:"Directory of the keys, the key store and the private PostgreSQL. Made if it is missing."`
	Listen  string `env:"AVOUCH_LISTEN" default:"localhost:7070" help:"Address to listen on. Of localhost it is both, 127.0.0.1 and ::1. Port 0 takes a free one, and the same again at the next start."`
	TLSCert string `name:"tls-cert" env:"AVOUCH_TLS_CERT_FILE" help:"Certificate chain, PEM: serve HTTPS."`
	TLSKey  string `name:"tls-key" env:"AVOUCH_TLS_KEY_FILE" help:"Its private key, PEM."`
}

// Help is the long text.
func (*devCmd) Help() string {
	return "Runs all of Avouch from one directory, with a PostgreSQL of its own, two organisations, their keys, an agent and an owner who can sign in, to try it with. " +
		"It makes no outbound connection. It comes back with its data after a restart, however it ended. " +
		"The variables of avouch serve hold here too, but for those of mail, text messages, quotas, sign-up, and of what is in the directory."
}

// ready is what `avouch dev --json` prints, and dev.json holds.
type ready struct {
	URL              string `json:"url"`
	TenantID         string `json:"tenant_id"`
	OwnerKey         string `json:"owner_key"`
	OwnerID          string `json:"owner_id"` // the person
	OwnerAddress     string `json:"owner_address"`
	OwnerPassword    string `json:"owner_password"`
	ServiceTenantID  string `json:"service_tenant_id"`
	ServiceOwnerKey  string `json:"service_owner_key"`
	ServiceKey       string `json:"service_key"`
	AgentID          string `json:"agent_id"`
	AgentDID         string `json:"agent_did"`
	AgentToken       string `json:"agent_token"`
	VaultItemID      string `json:"vault_item_id"`
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
	if err := keyring.DenyDump(); err != nil {
		return lacks("the process cannot be protected from being dumped: %w", err)
	}
	// The address comes first: that it is taken or too open is told at once, and not after a database has been made.
	before, err := c.remembered()
	if err != nil {
		return err
	}
	listeners, err := c.listen(before)
	if err != nil {
		return err
	}
	defer closeAll(listeners)
	if err := c.guarded(listeners[0]); err != nil {
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
	return c.serve(ctx, pg, listeners, before, out, log, asJSON)
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

func (c *devCmd) serve(ctx context.Context, pg *devpg.Cluster, listeners []net.Listener, before ready, out io.Writer, log *slog.Logger, asJSON bool) error {
	l := listeners[0]
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
	now.URL, now.DatabaseURL, now.AdminDatabaseURL = c.address(l, issuer), pg.URL("avouch_server", devDatabase), pg.URL(devpg.Superuser, devDatabase)
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
		log.InfoContext(ctx, "tokens, DIDs and mail go on naming the address of the first start", "issuer", issuer)
	}
	if ok, why := s.Factors.Passkeys(); !ok {
		log.InfoContext(ctx, "passkeys cannot be tried in this directory, but in a new one (--dir) on localhost", "why", why)
	}
	go keepRunning(ctx, pg, log)
	go collectLess(s)
	return answer(ctx, s, listeners)
}

// issuer is the address of the first start, wherever later ones listen: every token and DID names it. The database alone
// holds it, from the moment that a server has opened: a copy beside it would bind the directory to a start that failed.
func (c *devCmd) issuer(ctx context.Context, pg *devpg.Cluster, l net.Listener) (string, error) {
	fixed, err := fixedIssuer(ctx, pg.URL(devpg.Superuser, devDatabase))
	if err != nil {
		return "", lacks("%w", err)
	}
	issuer := cmp.Or(fixed, c.address(l, ""))
	if strings.HasPrefix(issuer, "http:") && !onLoopback(l) {
		return "", misused("the tokens and DIDs of %s name %s, which is for this machine only, and --listen %s is reached over the network: "+
			"listen on localhost, or begin another directory with --dir", c.Dir, issuer, c.Listen)
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
			"give --tls-cert and --tls-key, or listen on localhost", c.Listen)
	}
	return nil
}

// config is what the variables of `avouch serve` say, but for what follows from the directory, and for mail and text messages, which
// are caught.
func (c *devCmd) config(database, issuer string) (server.Config, error) {
	cfg, err := environment()
	cfg.DatabaseURL, cfg.KeyStore = database, filepath.Join(c.Dir, "keystore")
	cfg.PlatformKeyFile, cfg.PlatformKey = c.keyFile(), secret.String{}
	cfg.Listen, cfg.PublicURL, cfg.TLSCertFile, cfg.TLSKeyFile = c.Listen, issuer, c.TLSCert, c.TLSKey
	cfg.Mail, cfg.SMS, cfg.OperatorEmail = mail.Config{}, sms.Config{}, "operator@avouch.example"
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
		"{sign_in}", signsIn(r), "{item}", cmp.Or(r.VaultItemID, "ITEM_ID"), "{database}", r.DatabaseURL, "{avouch}", os.Args[0], "{file}", filepath.Join(dir, "dev.json"),
	).Replace(welcome)
	_, err := io.WriteString(out, says)
	return err
}

// signsIn tells whoever has a browser how to sign in; nothing where the demo's owner could not be made.
func signsIn(r ready) string {
	if r.OwnerID == "" {
		return ""
	}
	return "Sign in as a person, the owner of Acme Robotics: " + r.URL + "/sign-in\n" +
		"  e-mail    " + r.OwnerAddress + "\n" +
		"  password  " + r.OwnerPassword + "\n" +
		"The first sign-in sets up a second factor; codes by e-mail arrive at " + r.URL + "/dev/inbox.\n\n"
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

{sign_in}Try, in another terminal:

1. As the service, ask whether to let the agent in:

   curl -s {url}/api/v1/verify -H 'Authorization: Bearer {service_key}' -H 'Content-Type: application/json' \
     -d '{"token":"{agent_token}","target_resource":"harbour-data","scopes_requested":["read:data"]}'

2. As the agent's owner, see that it was asked, and by whom:

   curl -s '{url}/api/v1/audit/entries?limit=3' -H 'Authorization: Bearer {owner_key}'

3. As the agent, get the one-time code that a site asks it for, whose seed it never sees:

   curl -s -X POST {url}/api/v1/vault/items/{item}/code -H 'Authorization: Bearer {agent_token}'

4. As an auditor, check every log from its first entry to its last:

   AVOUCH_DATABASE_URL='{database}' {avouch} audit check

What anybody can see of the service: {url}/verified?service={service}
Mail is caught, and not sent:        {url}/dev/inbox

The keys and the password are in {file}, readable by you alone. Stop with Ctrl-C; everything is there at the next start.
`
