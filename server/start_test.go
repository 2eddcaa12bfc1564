package server

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/secret"
)

// What keeps a server from starting is for its operator to mend, so each message must say how.
func TestRefusesToStart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(t).stop() // it is an installation: its issuer is fixed and its keys exist
	other := filepath.Join(t.TempDir(), "platform.key")
	must(t, os.WriteFile(other, []byte("YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY=\n"), 0o600))
	open := filepath.Join(t.TempDir(), "platform.key")
	text, err := os.ReadFile(s.keyFile())
	must(t, err)
	must(t, os.WriteFile(open, text, 0o644))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	taken := l.Addr().String()
	region := filepath.Join(s.dir, "regions.json")
	must(t, os.WriteFile(region, []byte(`{"eu": {"mail": {"server": "mail.eu.example:587", "from": "a@eu.example", "user": "eu", "password_file": "eu"}}}`), 0o600))
	must(t, os.WriteFile(filepath.Join(s.dir, "eu"), []byte("hunter2"), 0o600))
	for name, c := range map[string]struct {
		change func(*Config)
		says   []string // all of these
	}{
		"superuser":           {func(c *Config) { c.DatabaseURL = s.pg.AdminURL }, []string{"is a superuser", "more rights"}},
		"no schema":           {func(c *Config) { c.DatabaseURL = strings.Replace(s.pg.URL, s.pg.Name, "postgres", 1) }, []string{"avouch migrate"}},
		"no key":              {func(c *Config) { c.PlatformKeyFile = "" }, []string{"AVOUCH_PLATFORM_KEY_FILE", "AVOUCH_PLATFORM_KEY"}},
		"missing key file":    {func(c *Config) { c.PlatformKeyFile = filepath.Join(s.dir, "gone") }, []string{"AVOUCH_PLATFORM_KEY_FILE", "no such file"}},
		"key others can read": {func(c *Config) { c.PlatformKeyFile = open }, []string{"chmod 600"}},
		"no key at all in it": {func(c *Config) { c.PlatformKeyFile, c.PlatformKey = "", secret.Text("none") }, []string{"AVOUCH_PLATFORM_KEY", "base64"}},
		"another key":         {func(c *Config) { c.PlatformKeyFile = other }, []string{"platform key"}},
		"another key store":   {func(c *Config) { c.KeyStore = filepath.Join(t.TempDir(), "other") }, []string{"AVOUCH_KEY_STORE"}},
		"other issuer":        {func(c *Config) { c.PublicURL = "https://other.example" }, []string{"AVOUCH_PUBLIC_URL", s.issuer, "https://other.example"}},
		"plain http":          {func(c *Config) { c.PublicURL = "http://avouch.example" }, []string{"AVOUCH_PUBLIC_URL", "https"}},
		"no scheme":           {func(c *Config) { c.PublicURL = "avouch.example" }, []string{"AVOUCH_PUBLIC_URL", "https"}},
		"with a query":        {func(c *Config) { c.PublicURL = "https://avouch.example/?a" }, []string{"AVOUCH_PUBLIC_URL"}},
		"lone certificate":    {func(c *Config) { c.TLSCertFile = "cert.pem" }, []string{"AVOUCH_TLS_CERT_FILE", "AVOUCH_TLS_KEY_FILE"}},
		"lone key":            {func(c *Config) { c.TLSKeyFile = "key.pem" }, []string{"AVOUCH_TLS_CERT_FILE", "AVOUCH_TLS_KEY_FILE"}},
		"no certificate":      {func(c *Config) { c.TLSCertFile, c.TLSKeyFile = "gone.pem", "gone.pem" }, []string{"AVOUCH_TLS_CERT_FILE", "no such file"}},
		"bad proxy":           {func(c *Config) { c.TrustedProxies = []string{"10.0.0.0/8", "load-balancer"} }, []string{"AVOUCH_TRUSTED_PROXIES", `"load-balancer"`}},
		"bad collector":       {func(c *Config) { c.OTLPCAFile, c.OTLPEndpoint = s.keyFile(), "https://127.0.0.1:1" }, []string{"AVOUCH_OTLP_CA_FILE"}},
		"bad name server":     {func(c *Config) { c.DNSServer = "9.9.9.9" }, []string{"AVOUCH_DNS_SERVER", `"9.9.9.9"`}},
		"bad contact":         {func(c *Config) { c.SecurityEmail = "security@avouch.example" }, []string{"AVOUCH_SECURITY_CONTACT", "mailto:"}},
		"two contacts":        {func(c *Config) { c.SecurityEmail = "mailto:a@b.example\nContact: mailto:c@d.example" }, []string{"AVOUCH_SECURITY_CONTACT"}},
		"taken address":       {func(c *Config) { c.MetricsListen = taken }, []string{"AVOUCH_METRICS_LISTEN", "in use"}},
		"open profiler":       {func(c *Config) { c.PprofListen = "0.0.0.0:6060" }, []string{"AVOUCH_PPROF_LISTEN", "loopback"}},
		"no regions there":    {func(c *Config) { c.RegionsFile = "nowhere" }, []string{"AVOUCH_REGIONS_FILE", "nowhere"}},
		"one mail account": {func(c *Config) {
			c.RegionsFile, c.Mail = region, mail.Config{Server: "mail.example:587", From: "a@b.example", User: "avouch", Password: secret.Text("hunter2")}
		}, []string{"AVOUCH_REGIONS_FILE", "password is that of organisations without a region too"}},
		"mail in the clear": {func(c *Config) { c.Mail.Server, c.Mail.From, c.Mail.TLS = "mail.example:25", "a@b.example", "none" }, []string{"AVOUCH_MAIL_TLS"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := s.config()
			c.change(&cfg)
			opened, err := Open(t.Context(), cfg, "127.0.0.1:1", s.log(t))
			if err == nil {
				opened.Close()
				t.Fatal("it started")
			}
			for _, want := range c.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the message does not say %q: %v", want, err)
				}
			}
		})
	}
}

// The first start fixes the issuer for good, so an address that cannot be one must not get that far.
func TestUnusableIssuerIsNotFixed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, bad := range []string{"https://avouch.example/", "https://Avouch.example", "https://avouch.example?a", "https://a:b@avouch.example", "https://avouch.example#x"} {
		cfg := s.config()
		cfg.PublicURL = bad
		opened, err := Open(t.Context(), cfg, "127.0.0.1:1", s.log(t))
		if err == nil {
			opened.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "AVOUCH_PUBLIC_URL") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	found, err := s.admin.Texts(t.Context(), "SELECT issuer FROM avouch.installation")
	must(t, err)
	if len(found) != 0 {
		t.Errorf("the issuer is fixed: %q", found)
	}
	s.start(t)
}

// Without a public URL a server is for its own machine only.
func TestPublicURLIsNeeded(t *testing.T) {
	t.Parallel()
	for listen, ok := range map[string]bool{
		"127.0.0.1:80": true, "[::1]:80": true, "localhost:80": true, "0.0.0.0:80": false, "[::]:80": false, ":80": false, "192.0.2.1:80": false, "avouch.example:80": false,
	} {
		_, err := (&Config{DatabaseURL: "postgres://", KeyStore: "keystore"}).settings(listen)
		if (err == nil) != ok || !ok && !strings.Contains(err.Error(), "AVOUCH_PUBLIC_URL") {
			t.Errorf("listening on %s: %v", listen, err)
		}
	}
}

// An installation that began on loopback must not be opened to the network later, by another address to listen on.
func TestDevelopmentIsForLoopback(t *testing.T) {
	t.Parallel()
	for listen, ok := range map[string]bool{"127.0.0.1:80": true, "[::1]:80": true, "0.0.0.0:80": false, "[::]:80": false, "192.0.2.1:80": false} {
		for public, plain := range map[string]bool{"http://127.0.0.1:7070": true, "https://127.0.0.1:7070": false} {
			_, err := (&Config{DatabaseURL: "postgres://", KeyStore: "keystore", Development: true, PublicURL: public}).settings(listen)
			if (err == nil) != (ok || !plain) || err != nil && !strings.Contains(err.Error(), "loopback") {
				t.Errorf("%s, listening on %s: %v", public, listen, err)
			}
		}
	}
}

// What one server has done, the other knows at once: they share nothing but the database and the key store.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one := s.start(t)
	two := s.start(t)
	acme := one.organisation(t, "Acme")
	if got := two.get(t, "/api/v1/organisation", acme.key).want(t, http.StatusOK).text("name"); got != "Acme" {
		t.Errorf("the second server calls it %q", got)
	}
	key, id := two.newKey(t, acme, map[string]any{"kind": "owner", "scopes": []string{"agents:read"}})
	one.get(t, "/api/v1/agents", key).want(t, http.StatusOK)
	two.get(t, "/api/v1/agents", key).want(t, http.StatusOK)
	one.call(t, ask{Method: "POST", Path: "/api/v1/keys/" + id + "/revoke", Key: acme.key}).want(t, http.StatusOK)
	two.get(t, "/api/v1/agents", key).want(t, http.StatusUnauthorized)
	if a, b := one.get(t, "/.well-known/jwks.json", ""), two.get(t, "/.well-known/jwks.json", ""); a.Raw != b.Raw {
		t.Errorf("two key sets:\n%s\n%s", a.Raw, b.Raw)
	}
	one.stop()
	two.get(t, "/api/v1/organisation", acme.key).want(t, http.StatusOK)
}

// Many servers that start at once on a new database make one installation.
func TestServersStartTogether(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.issuer = "https://avouch.example"
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			opened, err := Open(t.Context(), s.config(), "127.0.0.1:1", s.log(t))
			if err != nil {
				t.Error(err)
				return
			}
			opened.Close()
		})
	}
	all.Wait()
	found, err := s.admin.Texts(t.Context(), "SELECT issuer FROM avouch.installation")
	must(t, err)
	if len(found) != 1 || found[0] != s.issuer {
		t.Errorf("the issuers are %q", found)
	}
}

// A server that is told to stop ends what is under way, takes nothing new, and leaves nothing behind.
func TestClose(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme := n.organisation(t, "Acme")
	release, err := s.admin.Hold(t.Context(), acme.id.String())
	must(t, err)
	t.Cleanup(release)
	done := make(chan answer, 1)
	go func() {
		a, err := n.try(context.Background(), ask{Method: "POST", Path: "/api/v1/scopes", Key: acme.key, Body: map[string]any{"name": "do:this", "risk": "low", "description": "x"}})
		if err != nil {
			t.Error(err)
		}
		done <- a
	}()
	eventually(t, "the request waits for the held head", func() bool {
		waiting, err := s.admin.Texts(t.Context(), "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
		must(t, err)
		return len(waiting) > 0
	})
	stopped := make(chan struct{})
	go func() { n.stop(); close(stopped) }()
	eventually(t, "the server no longer listens", func() bool {
		c, err := net.DialTimeout("tcp", n.addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	select {
	case <-stopped:
		t.Error("the server ended while a request was under way")
	default:
	}
	release()
	(<-done).want(t, http.StatusCreated)
	<-stopped
	eventually(t, "the server's connections are closed", func() bool {
		left, err := s.admin.Texts(t.Context(), "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() AND usename = 'avouch_server'")
		must(t, err)
		return len(left) == 0
	})
}
