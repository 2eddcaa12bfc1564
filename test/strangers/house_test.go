package strangers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/pgtest"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/signin"
	"github.com/avouch-dev/avouch/signin/password"
	"github.com/avouch-dev/avouch/tenantdb"
)

// soak says whether the full counts are asked for.
func soak() bool { return os.Getenv("AVOUCH_SOAK") == "1" }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ground is what the servers of an installation share.
type ground struct {
	pg  *pgtest.DB
	dir string
}

const publicURL = "http://127.0.0.1:7070" // wherever its servers listen

func newGround(t testing.TB) ground {
	t.Helper()
	g := ground{pgtest.New(t, pgtest.Template{Name: "avouch", Hash: tenantdb.SchemaHash(), Build: tenantdb.Migrate}), t.TempDir()}
	_, err := keyring.CreatePlatformKeyFile(g.keyFile())
	must(t, err)
	return g
}

func (g ground) keyFile() string  { return filepath.Join(g.dir, "platform.key") }
func (g ground) keyStore() string { return filepath.Join(g.dir, "keystore") }

// house is a server in this process, and where it listens.
type house struct {
	*server.Server
	url string
}

// open starts a server. What change does is done to how it treats strangers; it is nil for a server as it is.
func (g ground) open(t testing.TB, change func(*password.Config, *signin.Config)) *house {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := server.Open(t.Context(), server.Config{
		DatabaseURL: g.pg.URL, DatabaseConnections: 16, PlatformKeyFile: g.keyFile(), KeyStore: g.keyStore(), PublicURL: publicURL, SignUp: true,
		TenantQuota: -1, ServiceQuota: -1, Version: "test", Development: true, Strangers: change,
	}, l.Addr().String(), log)
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
		s.Close()
	})
	return &house{s, "http://" + l.Addr().String()}
}

// company is an organisation with people.
type company struct {
	h   *house
	id  tenantdb.TenantID
	key string // of its owner
}

func (h *house) company(t testing.TB, name string) company {
	t.Helper()
	made, err := h.Org.Create(t.Context(), org.NewOrganisation{Name: name, ContactEmail: "owner@example.com"})
	must(t, err)
	return company{h, made.ID, made.OwnerKey.Expose()}
}

const goodPassword = "a tin of blue paint, 1974"

// person makes somebody with a role, and with the password if it is not empty.
func (c company) person(t testing.TB, address, role, plain string) tenantdb.PersonID {
	t.Helper()
	id := audit.NewSubjectID()
	must(t, c.h.Org.Prepare(t.Context(), c.id, id))
	must(t, c.h.Sessions.Prepare(t.Context(), c.id, id))
	var hash password.Hash
	if plain != "" {
		var err error
		hash, err = c.h.Passwords.Hash(t.Context(), password.KnownDevice, c.id, id, secret.Text(plain))
		must(t, err)
	}
	must(t, c.h.DB.Change(t.Context(), tenantdb.System(c.id, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, ev, err := c.h.Org.Admit(t.Context(), tx, org.NewPerson{ID: id, Name: "Somebody", Address: address, Roles: []string{role}, Verified: true, Via: "directory"})
		if err == nil && plain != "" {
			err = c.h.Passwords.Store(t.Context(), tx, id, hash)
		}
		return ev, err
	}))
	return id
}

// device is a cookie of a device from which somebody is known to sign in.
func (c company) device(t testing.TB, p tenantdb.PersonID) (value string) {
	t.Helper()
	must(t, c.h.DB.Note(t.Context(), tenantdb.System(c.id, "test"), func(tx *tenantdb.Tx) error {
		v, err := c.h.Sessions.RememberDevice(t.Context(), tx, p, "")
		value = "avouch-device=" + v.Expose()
		return err
	}))
	return value
}

// loopback is the address number n of those that are this machine's and no other test's.
func loopback(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 77, byte(n / 250), byte(1 + n%250)})
}

// somebody is a client at an address of its own.
type somebody struct {
	url, cookie string
	http        *http.Client
}

func (h *house) from(t testing.TB, n int) somebody { return from(t, h.url, n) }

func from(t testing.TB, url string, n int) somebody {
	t.Helper()
	dial := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback(n), 0))}
	to := &http.Transport{DialContext: dial.DialContext}
	t.Cleanup(to.CloseIdleConnections)
	return somebody{url: url, http: &http.Client{Transport: to, Timeout: 2 * time.Minute}}
}

// reply is an answer, and how long it took.
type reply struct {
	status int
	header http.Header
	body   string
	took   time.Duration
}

// ask posts JSON.
func (s somebody) ask(ctx context.Context, path string, body map[string]any, header ...string) (r reply, err error) {
	b, err := json.Marshal(body)
	if err != nil {
		return r, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, bytes.NewReader(b))
	if err != nil {
		return r, err
	}
	req.Header.Set("Content-Type", "application/json")
	if s.cookie != "" {
		req.Header.Set("Cookie", s.cookie)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	begun := time.Now()
	got, err := s.http.Do(req)
	if err != nil {
		return r, err
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	return reply{got.StatusCode, got.Header, string(text), time.Since(begun)}, err
}

func (s somebody) signIn(ctx context.Context, address, plain string) (reply, error) {
	return s.ask(ctx, "/api/v1/sign-in", map[string]any{"address": address, "password": plain})
}

func address(n int) string { return fmt.Sprintf("person%d@acme.example", n) }
