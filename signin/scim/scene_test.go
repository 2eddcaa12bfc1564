package scim

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/signin/sso"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// scene is an organisation with an owner, a proved domain (acme.example), and a directory's key.
type scene struct {
	*doortest.Door
	people *org.Room
	sso    *sso.Room
	room   *Room
	api    http.Handler
	acme   tenantdb.TenantID
	ada    PersonID
	owner  tenantdb.Caller

	mu    sync.Mutex
	token string // in DNS
	shut  bool   // the only owner would have no way in
}

func open(t *testing.T) *scene {
	t.Helper()
	d := doortest.Open(t)
	d.Install(t)
	s := &scene{Door: d, acme: d.Tenant(t, "Acme")}
	at, _ := url.Parse("https://avouch.test")
	s.people = org.New(org.Config{
		DB: d.DB, Ring: d.Ring, Endings: map[string]org.Ending{org.EndSessions: s.endSessions},
		ShutOut: func(_ context.Context, _ *tenantdb.ReadTx, owner PersonID) (bool, error) {
			return s.shut && owner == s.ada, nil
		},
	})
	s.sso = sso.New(sso.Config{DB: d.DB, Ring: d.Ring, People: s.people, Public: at, LookupTXT: func(context.Context, string) ([]string, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return []string{s.token}, nil
	}})
	s.room = New(Config{DB: d.DB, Ring: d.Ring, People: s.people, Public: at, Owns: s.sso.Owns})
	s.api = s.as(s.key(s.acme))
	s.ada = s.member(t, s.acme, "ada@acme.example", org.RoleOwner)
	s.owner = s.person(s.acme, s.ada, tenantdb.Everything)
	s.prove(t, s.owner, "acme.example")
	return s
}

// endSessions is what the session's room does.
func (s *scene) endSessions(ctx context.Context, tx *tenantdb.Tx, p PersonID, why string) (int, error) {
	n, err := tx.Exec(ctx, `UPDATE avouch.session SET ended_at = now(), ended_why = $3 WHERE tenant_id = $1 AND person_id = $2 AND ended_at IS NULL`, tx.Tenant(), p, why)
	return int(n), err
}

func (s *scene) as(c tenantdb.Caller) http.Handler {
	api := s.API(doortest.As(c))
	s.room.Routes(api)
	return api
}

func (s *scene) key(t tenantdb.TenantID) tenantdb.Caller {
	return tenantdb.NewCaller(tenantdb.CallerSpec{Tenant: t, Actor: audit.Actor{Kind: audit.ActorKey, ID: "key1"}, How: "api-key", Scopes: []string{"scim:write"}, RequestID: audit.NewRequestID()})
}

func (s *scene) person(t tenantdb.TenantID, p PersonID, capabilities ...string) tenantdb.Caller {
	return tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: t, Actor: audit.Actor{Kind: audit.ActorPerson, ID: p.String()}, How: "session:password+totp", Scopes: capabilities, RequestID: audit.NewRequestID(),
		Person: &tenantdb.Person{ID: p, ProvedAt: time.Now()},
	})
}

func (s *scene) prove(t *testing.T, c tenantdb.Caller, name string) {
	t.Helper()
	d, err := s.sso.AddDomain(t.Context(), c, name, sso.ID{})
	must(t, err)
	s.mu.Lock()
	s.token = d.Token
	s.mu.Unlock()
	_, err = s.sso.Prove(t.Context(), c, name)
	must(t, err)
}

// member makes a person without a directory.
func (s *scene) member(t *testing.T, tenant tenantdb.TenantID, address string, roles ...string) PersonID {
	t.Helper()
	n := org.NewPerson{ID: audit.NewSubjectID(), Name: "Somebody", Address: address, Verified: true, Via: "test"}
	must(t, s.people.Prepare(t.Context(), tenant, n.ID))
	system := tenantdb.System(tenant, "test")
	must(t, s.DB.Change(t.Context(), system, func(tx *tenantdb.Tx) (e audit.Event, err error) {
		_, e, err = s.people.Admit(t.Context(), tx, n)
		return e, err
	}))
	_, err := s.people.UpdatePerson(t.Context(), system, n.ID, "", org.PersonChange{Roles: &roles})
	must(t, err)
	return n.ID
}

func (s *scene) standing(t *testing.T, p PersonID) (st org.Standing) {
	t.Helper()
	must(t, s.DB.Read(t.Context(), tenantdb.System(s.acme, "test"), func(tx *tenantdb.ReadTx) (err error) {
		st, err = s.people.Standing(t.Context(), tx, p)
		return err
	}))
	return st
}

// ask sends a request of a directory.
func (s *scene) ask(t *testing.T, method, path string, body any, header ...string) doortest.Answer {
	t.Helper()
	h := map[string]string{"Content-Type": media}
	for i := 0; i+1 < len(header); i += 2 {
		h[header[i]] = header[i+1]
	}
	return doortest.Call(t, s.api, doortest.Request{Method: method, Path: "/scim/v2" + path, Header: h, Body: body})
}

// made makes a user, and says the id.
func (s *scene) made(t *testing.T, address string, more ...any) PersonID {
	t.Helper()
	body := map[string]any{"schemas": []string{schemaUser}, "userName": address}
	for i := 0; i+1 < len(more); i += 2 {
		body[more[i].(string)] = more[i+1]
	}
	a := s.ask(t, "POST", "/Users", body)
	if a.Status != 201 {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	return parseID(t, a.Body["id"])
}

func parseID(t *testing.T, v any) (p PersonID) {
	t.Helper()
	text, _ := v.(string)
	must(t, p.UnmarshalText([]byte(text)))
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
