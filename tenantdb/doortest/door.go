package doortest

import (
	"bytes"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/pgtest"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Door is a database, the door to it and the keys, for one test.
type Door struct {
	DB   *tenantdb.DB
	Ring *keyring.Ring
	// Key is the platform key: what signing keys are wrapped with is derived from it.
	Key *keyring.Platform
	// Log is for what the test starts. What goes there goes to the test's output, and Logged returns it.
	Log *slog.Logger

	pg     *pgtest.DB
	store  string
	file   string // of the platform key
	logged *buffer
}

// Open makes an empty database and an empty key store. They are gone when the test ends.
func Open(t testing.TB) *Door {
	t.Helper()
	pg := pgtest.New(t, pgtest.Template{Name: "avouch", Hash: tenantdb.SchemaHash(), Build: tenantdb.Migrate})
	dir := t.TempDir()
	file := filepath.Join(dir, "platform.key")
	_, err := keyring.CreatePlatformKeyFile(file)
	must(t, err)
	d := &Door{pg: pg, store: filepath.Join(dir, "keystore"), file: file, logged: &buffer{}}
	d.Key, err = keyring.LoadPlatform(secret.String{}, file)
	must(t, err)
	wrapper, err := d.Key.Wrapper(keyring.ForKeyStore)
	must(t, err)
	must(t, keyring.CreateStore(t.Context(), d.store, wrapper))
	d.connect(t, secret.String{})
	return d
}

// Another is a second server on the same database and key store.
func (d *Door) Another(t testing.TB) *Door {
	t.Helper()
	return d.Peppered(t, "")
}

// Peppered is Another that was given peppers of its own for the digests of API keys (keyring.Config.Pepper).
func (d *Door) Peppered(t testing.TB, peppers string) *Door {
	t.Helper()
	other := &Door{Key: d.Key, pg: d.pg, store: d.store, file: d.file, logged: d.logged}
	other.connect(t, secret.Text(peppers))
	return other
}

// RingAt is a ring of another server, which takes the time from a clock.
func (d *Door) RingAt(t testing.TB, now func() time.Time) *keyring.Ring {
	t.Helper()
	r, err := keyring.New(t.Context(), keyring.Config{Dir: d.store, Platform: d.Key, Now: now})
	must(t, err)
	return r
}

// Places are where a process of its own finds the database, the key store and the platform key.
func (d *Door) Places() (url, store, keyFile string) { return d.pg.URL, d.store, d.file }

func (d *Door) connect(t testing.TB, peppers secret.String) {
	t.Helper()
	d.Log = slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), d.logged), nil))
	var err error
	d.Ring, err = keyring.New(t.Context(), keyring.Config{Dir: d.store, Platform: d.Key, Pepper: peppers})
	must(t, err)
	d.DB, err = tenantdb.Open(t.Context(), tenantdb.Config{URL: d.pg.URL, Sealer: d.Ring, Log: d.Log, Connections: 8})
	must(t, err)
	t.Cleanup(d.DB.Close)
}

// Logged is all that was written to Log so far, of every server of the door.
func (d *Door) Logged() string { return d.logged.String() }

// Tenant makes an organisation: its keys, its log with the entry of its making, and its row, without a quota.
func (d *Door) Tenant(t testing.TB, name string) tenantdb.TenantID {
	t.Helper()
	id := tenantdb.NewTenantID()
	d.create(t, id, name)
	return id
}

// Install makes the platform's own tenant, which signing keys and incidents belong to.
func (d *Door) Install(t testing.TB) {
	t.Helper()
	d.create(t, tenantdb.Platform, "platform")
}

func (d *Door) create(t testing.TB, id tenantdb.TenantID, name string) {
	t.Helper()
	must(t, d.Ring.CreateTenant(t.Context(), id))
	must(t, d.DB.Create(t.Context(), tenantdb.System(id, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		return audit.Event{Type: "organisation.created"}, insertOrganisation(t.Context(), tx, name)
	}))
}

// Caller is somebody of the tenant who was authenticated and may do what the capabilities say.
func (d *Door) Caller(tenant tenantdb.TenantID, capabilities ...string) tenantdb.Caller {
	return tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: tenant, Actor: audit.Actor{Kind: audit.ActorPerson, ID: "tester"}, How: "test", Scopes: capabilities,
		RequestID: audit.NewRequestID(), Address: netip.AddrFrom4([4]byte{127, 0, 0, 1}),
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// buffer is a log that several servers write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends to the log.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is the whole log.
func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
