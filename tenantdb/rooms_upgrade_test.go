package tenantdb_test

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/pgtest"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rooms are those of an installation, on a database.
func rooms(t *testing.T, pg *pgtest.DB, dir string) *server.Server {
	t.Helper()
	s, err := server.Operate(t.Context(), server.Config{
		DatabaseURL: pg.URL, DatabaseConnections: 4, PlatformKeyFile: filepath.Join(dir, "platform.key"), KeyStore: filepath.Join(dir, "keystore"),
		PublicURL: "https://avouch.example.com", TenantQuota: -1, ServiceQuota: -1, Version: "test",
	}, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

// What this release's rooms have written is there after the next run of the migrations, in use and as it was.
func TestRoomsSurviveMigration(t *testing.T) {
	t.Parallel()
	known, err := tenantdb.KnownVersion()
	must(t, err)
	pg, dir := tenantdb.MigratedTo(t, known), t.TempDir()
	_, err = keyring.CreatePlatformKeyFile(filepath.Join(dir, "platform.key"))
	must(t, err)
	s := rooms(t, pg, dir)
	acme, err := s.Org.Create(t.Context(), org.NewOrganisation{Name: "Acme", ContactEmail: "ops@acme.example"})
	must(t, err)
	owner := tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: acme.ID, Actor: audit.Actor{Kind: audit.ActorPerson, ID: "tester"}, How: "test", Scopes: []string{tenantdb.Everything}, RequestID: audit.NewRequestID(),
	})
	_, err = s.Policy.Add(t.Context(), owner, policy.Scope{Name: "pay:invoices", Risk: policy.High, Description: "Pay"})
	must(t, err)
	_, err = s.Keys.Create(t.Context(), owner, apikey.NewKey{Name: "shop", Kind: apikey.Service})
	must(t, err)
	robin, token, err := s.Agents.Register(t.Context(), owner, agent.Registration{Name: "Robin", Description: "reads", Scopes: []string{"pay:invoices"}})
	must(t, err)
	_, err = s.Incident.Raise(t.Context(), owner, "log.broken", "x", "It broke.")
	must(t, err)

	before := tenantdb.Tables(t, pg)
	must(t, tenantdb.Migrate(t.Context(), pg.AdminURL))
	tenantdb.Preserved(t, before, tenantdb.Tables(t, pg))
	for _, s := range []*server.Server{s, rooms(t, pg, dir)} { // one that was running, and one that starts
		o, err := s.Org.Get(t.Context(), owner)
		if err != nil || o.Name != "Acme" || o.ContactEmail != "ops@acme.example" {
			t.Errorf("the organisation is %+v: %v", o, err)
		}
		if who, err := s.Keys.Identify(t.Context(), acme.OwnerKey.Expose()); err != nil || who.Tenant != acme.ID {
			t.Errorf("the owner's key: %v", err)
		}
		if c, err := s.Agents.Checker().Check(t.Context(), token.Token.Expose(), time.Now()); err != nil || c.Agent != robin.ID {
			t.Errorf("the token: %v", err)
		}
		if a, err := s.Agents.Get(t.Context(), owner, robin.ID); err != nil || a.Name != "Robin" {
			t.Errorf("the agent is %+v: %v", a, err)
		}
	}
}
