package pgtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/devpg"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestRole is a role beside avouch_server and avouch_owner that tests may connect as, once they have created it.
const TestRole = "avouch_test"

// Template is what a test's database begins as.
type Template struct {
	Name string // says in the database's name what it is
	Hash string // of all that Build does: another hash is another template
	// Build fills an empty database; adminURL connects to it as superuser.
	Build func(ctx context.Context, adminURL string) error
}

// database names the template's database. Roles belong to the whole cluster, so Build has to expect its own.
func (t Template) database() string {
	sum := sha256.Sum256([]byte(t.Name + "\x00" + t.Hash))
	return "tmpl_" + hex.EncodeToString(sum[:12])
}

// DB is a database of one test.
type DB struct {
	Name     string
	URL      string // as avouch_server, as the product's servers connect
	OwnerURL string // as superuser who has taken the role avouch_owner, which cannot log in
	AdminURL string // as superuser
	address  devpg.Address
}

// URLAs connects to the database as another role: TestRole, avouch_owner, avouch_server or postgres.
func (d *DB) URLAs(role string) string { return d.address.URL(role, d.Name) }

// process is what this test process has of the shared cluster. It is a variable because the locks that keep the cluster
// running belong to the process, not to a test.
var process = &membership{}

// New makes a database from a template and drops it when the test ends. Without PostgreSQL on the machine the test is
// skipped, or fails if CI=true.
func New(t testing.TB, template Template) *DB {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
	defer cancel()
	db, err := process.newDatabase(ctx, template)
	if err != nil {
		giveUp(t, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := process.drop(ctx, db.Name); err != nil {
			t.Errorf("pgtest: dropping the test's database: %v", err)
		}
	})
	return db
}

// Private starts a durable cluster for one test alone, which may kill and restart it; it stops when the test ends. The
// directory is a temporary one unless cfg names another.
func Private(t testing.TB, cfg devpg.Config) *devpg.Cluster {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	c, err := devpg.Start(t.Context(), cfg)
	if err != nil {
		giveUp(t, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Errorf("pgtest: stopping the test's cluster: %v", err)
		}
	})
	return c
}

func giveUp(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, devpg.ErrNoBinaries) && os.Getenv("CI") != "true" {
		t.Skipf("skipped: no PostgreSQL server binaries: %v", err)
	}
	t.Fatalf("pgtest: %v", err)
}

// newDatabase copies the template, which somebody may have thrown away since this process saw it: then once more.
func (m *membership) newDatabase(ctx context.Context, template Template) (*DB, error) {
	if err := m.join(ctx, template); err != nil {
		return nil, err
	}
	name := "test_" + strings.ToLower(rand.Text())
	for attempt := 0; ; attempt++ {
		if err := m.ensure(ctx, template); err != nil {
			return nil, err
		}
		err := m.clone(ctx, name, template.database())
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && pgErr.Code == "3D000" && attempt == 0 {
			m.forget(template)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("copying template %s: %w", template.Name, err)
		}
		break
	}
	admin := m.address.URL(devpg.Superuser, name)
	return &DB{
		Name: name, URL: m.address.URL("avouch_server", name), AdminURL: admin,
		OwnerURL: admin + "&options=-c%20role%3Davouch_owner", address: m.address,
	}, nil
}
