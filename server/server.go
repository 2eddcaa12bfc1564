package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/incident"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/region"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/kms"
	"github.com/avouch-dev/avouch/keyring/rotation"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/signin"
	"github.com/avouch-dev/avouch/signin/link"
	"github.com/avouch-dev/avouch/signin/mfa"
	"github.com/avouch-dev/avouch/signin/pages"
	"github.com/avouch-dev/avouch/signin/password"
	"github.com/avouch-dev/avouch/signin/scim"
	"github.com/avouch-dev/avouch/signin/session"
	"github.com/avouch-dev/avouch/signin/sso"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/trail"
	"github.com/avouch-dev/avouch/vault"
	"github.com/avouch-dev/avouch/verify"
)

// Server is an Avouch server: the rooms, wired.
type Server struct {
	cfg       Config
	set       settings
	log       *slog.Logger
	metrics   *prometheus.Registry
	traces    *traces
	wrappers  kms.Wrappers
	Ring      *keyring.Ring
	DB        *tenantdb.DB
	Signing   *keyring.Signing
	Org       *org.Room
	Keys      *apikey.Room
	Agents    *agent.Room
	Policy    *policy.Room
	Verify    *verify.Room
	Trail     *trail.Room
	Incident  *incident.Room
	Glass     *policy.Glass
	Vault     *vault.Room
	Links     *link.Links
	Passwords *password.Room
	Factors   *mfa.Room
	Sessions  *session.Room
	SignIn    *signin.Room
	SSO       *sso.Room
	SCIM      *scim.Room
	Rotation  *rotation.Room
	outbound  *http.Client
	senders   *region.Senders
	inbox     *mail.Inbox
	api       *web.API[tenantdb.Caller]
	denials   *denials
	health    health
	cert      *certificate // nil without TLS
	beside    []*http.Server
	stopped   context.CancelFunc
	work      sync.WaitGroup
	first     sync.WaitGroup // of what runs in the background: its first turn
	stopJobs  func(context.Context) error
	// operating is for an operator's command, which may have to mend what a server must not start with.
	operating bool
}

// Open makes a server that is about to listen on the given address. It refuses to if the database, the keys or the issuer
// do not fit. Close it in the end.
func Open(ctx context.Context, cfg Config, listen string, log *slog.Logger) (*Server, error) {
	set, err := cfg.settings(listen)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, set: set, log: log, metrics: prometheus.NewRegistry()}
	if s.traces, err = newTraces(ctx, &cfg); err != nil {
		return nil, err
	}
	if err := s.open(ctx); err != nil {
		s.Close()
		return nil, err
	}
	if err := s.Ring.BeginPepper(); err != nil {
		s.Close()
		return nil, fmt.Errorf("server.Open: %w", err)
	}
	s.routes()
	s.background()
	return s, nil
}

func (s *Server) open(ctx context.Context) (err error) {
	if s.cfg.TLSCertFile != "" {
		if s.cert, err = newCertificate(s.cfg.TLSCertFile, s.cfg.TLSKeyFile); err != nil {
			return fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	for _, open := range []func(context.Context) error{s.openMail, s.openOutbound, s.openKeys, s.openRooms, s.openBeside} {
		if err := open(ctx); err != nil {
			return err
		}
	}
	return nil
}

// openAPIKeys makes the room of keys.
func (s *Server) openAPIKeys() error {
	cfg := apikey.Config{DB: s.DB, Ring: s.Ring, ServiceQuota: limit(s.cfg.ServiceQuota), KeysPerOwner: s.cfg.KeysPerOwner, UnknownPerMinute: s.cfg.UnknownKeys, Refused: s.keyRefused, HeldBy: s.heldBy, Now: s.now}
	if s.cfg.KeysPerOwner < 0 {
		return fmt.Errorf("%w: AVOUCH_KEYS_PER_OWNER is below zero", ErrConfig)
	}
	if s.cfg.GitHubKeysFile != "" {
		list, err := os.ReadFile(s.cfg.GitHubKeysFile)
		if err == nil {
			cfg.GitHubKeys, err = apikey.ParseGitHubKeys(list)
		}
		if err != nil {
			return fmt.Errorf("%w: AVOUCH_GITHUB_KEYS_FILE: %w", ErrConfig, err)
		}
	}
	s.Keys = apikey.New(cfg)
	return nil
}

func (s *Server) openRooms(ctx context.Context) (err error) {
	batches := newBatchMetrics(s.metrics)
	s.DB, err = tenantdb.Open(ctx, tenantdb.Config{
		URL: s.cfg.DatabaseURL, Sealer: s.Ring, Log: s.log, Tracer: s.traces.provider, Observe: batches.observe, Connections: s.cfg.DatabaseConnections, Gate: s.usable(),
	})
	if err != nil {
		return fmt.Errorf("server.Open: %w", err)
	}
	issuer := s.set.public.String()
	s.denials = newDenials(s.DB, s.log)
	if err := s.openAPIKeys(); err != nil {
		return err
	}
	s.Links = link.New(s.DB, s.Ring, s.now)
	s.Org = org.New(org.Config{
		DB: s.DB, Ring: s.Ring, FirstKey: s.Keys, MonthlyQuota: limit(s.cfg.TenantQuota), SignUp: s.cfg.SignUp, SignUpsPerHour: s.cfg.signUps(),
		Regions: s.senders.Names(), Mails: s.Mails, Link: s.link, Endings: s.endings(), Demoted: s.demoted, ShutOut: s.shutOut, KeysOf: s.Keys.KeysOf, KeyHolds: s.Keys.Holds, Lasts: s.sessionLasts, RoleUsed: s.roleUsed, Joins: s.joins, Leaves: s.leaves, Restored: s.restored, OpenKMS: s.openKMS, Raise: s.raise, Now: s.now,
	})
	if err := s.Org.EnsurePlatform(ctx); err != nil {
		return fmt.Errorf("server.Open: %w", err)
	}
	if err := s.Org.FixIssuer(ctx, issuer); err != nil {
		return fmt.Errorf("server.Open: %w", err)
	}
	if err := s.openSigning(ctx); err != nil {
		return err
	}
	s.Policy = policy.New(policy.Config{DB: s.DB, Ring: s.Ring})
	s.Agents = agent.New(agent.Config{DB: s.DB, Ring: s.Ring, Signing: s.Signing, Scopes: s.Policy, Issuer: s.set.issuer})
	s.Incident = incident.New(incident.Config{DB: s.DB, Opened: tellOfIncident})
	s.Trail = trail.New(trail.Config{
		DB: s.DB, Sealer: s.Ring, Host: s.set.public.Host, Log: s.log, Raise: s.raise, Recheck: s.recheck, Spans: s.traces.recent.of,
	})
	s.openGlass()
	for _, open := range []func() error{s.openPeople, s.openRotation} {
		if err := open(); err != nil {
			return err
		}
	}
	s.Verify = verify.New(verify.Config{DB: s.DB, Keys: s.Keys, Tokens: s.Agents.Checker(), Signing: s.Signing, Issuer: issuer})
	return s.openVault()
}

// routes registers every operation.
func (s *Server) routes() {
	s.api = web.New(web.Config[tenantdb.Caller]{
		Title: "Avouch", Version: s.cfg.Version, Description: description, Tags: tags,
		PublicURL: s.set.public, TrustedProxies: s.set.proxies,
		Authenticate: s.authenticate, SameOrigin: s.Sessions.SameOrigin, Allow: allow, Admit: s.Keys.Admit, Refused: s.refused, Leaked: s.leaked,
		Idempotency: &idempotency{db: s.DB, ring: s.Ring},
		Logger:      s.log, Metrics: s.metrics, Tracer: s.traces.provider,
	})
	s.Verify.Routes(s.api)
	s.Agents.Routes(s.api)
	s.Policy.Routes(s.api)
	s.Keys.Routes(s.api)
	s.Org.Routes(s.api)
	s.SignIn.Routes(s.api)
	s.Sessions.Routes(s.api)
	s.Factors.Routes(s.api)
	s.SSO.Routes(s.api)
	s.SCIM.Routes(s.api)
	s.Glass.Routes(s.api)
	s.Vault.Routes(s.api)
	s.Trail.Routes(s.api)
	s.Incident.Routes(s.api)
	pages.Routes(s.api)
	s.wellKnown()
	s.inboxPages()
	s.probes()
}

// Handler answers requests.
func (s *Server) Handler() http.Handler { return s.api }

// URL is the public one, the issuer of tokens.
func (s *Server) URL() string { return s.set.public.String() }

// grace is how long requests that are under way may take to end when the server stops.
const grace = 20 * time.Second

// Serve answers on the listener until ctx ends, then lets what is under way finish.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var secure *tls.Config
	if s.cert != nil {
		secure = web.TLS(s.cert.get)
	}
	srv := web.Server(s.api, s.log, secure, web.Limits{})
	failed := make(chan error, 1)
	go func() {
		if secure != nil {
			failed <- srv.ServeTLS(l, "", "")
		} else {
			failed <- srv.Serve(l)
		}
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("server.Serve: %w", err)
	case <-ctx.Done():
	}
	s.health.stopping.Store(true)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := srv.Shutdown(end); err != nil && !errors.Is(err, http.ErrServerClosed) {
		srv.Close()
		return fmt.Errorf("server.Serve: requests were cut off: %w", err)
	}
	return nil
}

// Close ends background work and the database's connections.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if s.stopped != nil {
		s.stopped()
		if s.stopJobs != nil {
			if err := s.stopJobs(ctx); err != nil {
				s.log.WarnContext(ctx, "jobs were cut off", "error", err)
			}
		}
	}
	for _, b := range s.beside {
		b.Close()
	}
	s.work.Wait()
	if s.denials != nil {
		s.denials.flush(ctx)
	}
	if s.Keys != nil { // each use of a key is to be in its organisation's log
		if err := errors.Join(s.Keys.Flush(ctx), s.Keys.Renew(ctx)); err != nil {
			s.log.WarnContext(ctx, "uses of keys were not written down", "error", err)
		}
	}
	if s.DB != nil {
		s.DB.Close()
	}
	s.traces.close(ctx)
}

func isLoopback(a netip.Addr) bool { return a.IsValid() && a.Unmap().IsLoopback() }

// RevokeSigningKey ends a signing key in an emergency: when it returns, every server refuses every token that it signed.
func (s *Server) RevokeSigningKey(ctx context.Context, by tenantdb.Caller, kid string) error {
	if err := s.Signing.Revoke(ctx, keyring.NewSigningTable(s.DB, by), kid); err != nil {
		return fmt.Errorf("server.RevokeSigningKey: %w", err)
	}
	// A decision made with the old keys was made at an epoch that is now old: the append refuses it, and whoever decides
	// again reads the keys again.
	if err := s.DB.MoveEpochs(ctx); err != nil {
		return fmt.Errorf("server.RevokeSigningKey: the key is revoked, but not every server knows; do it again: %w", err)
	}
	return nil
}
