package sso

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"context"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/outbound"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

func settings(issuer string) Settings {
	return Settings{OIDC: &OIDC{Issuer: issuer, ClientID: "avouch", ClientSecret: "s3cret-s3cret"}}
}

func TestConnections(t *testing.T) {
	t.Parallel()
	s := open(t)
	api := s.apis[0]
	made := doortest.Call(t, api, doortest.Request{Method: "POST", Path: "/api/v1/connections", Body: map[string]any{
		"kind": "oidc", "name": "Our provider", "oidc": map[string]any{"issuer": s.provider.URL, "client_id": "avouch", "client_secret": "s3cret-s3cret"}, "admission": map[string]any{"jit": true},
	}})
	if made.Status != 201 || made.Body["enabled"] != false || made.Body["client_secret_set"] != true || made.Body["version"] != 1.0 || made.Header.Get("ETag") != `"1"` {
		t.Fatalf("%d %s", made.Status, made.Raw)
	}
	at := "/api/v1/connections/" + made.Body["connection_id"].(string)
	if made.Body["redirect_uri"] != public+"/api/v1/sso/"+made.Body["connection_id"].(string)+"/callback" || fmt.Sprint(made.Body["admission"]) != "map[jit:true roles:[member]]" {
		t.Errorf("%s", made.Raw)
	}
	if a := doortest.Call(t, api, doortest.Request{Method: "POST", Path: at + "/test"}); a.Body["ok"] != true {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	if a := doortest.Call(t, api, doortest.Request{Method: "POST", Path: at + "/enable"}); a.Body["enabled"] != true {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	for _, tt := range []struct {
		ifMatch string
		oidc    map[string]any
		status  int
	}{
		{"", nil, 428}, {`"7"`, nil, 412},
		{`"1"`, map[string]any{"issuer": "https://evil.example", "client_id": "avouch"}, 400}, // or the old secret goes there
		{`"1"`, map[string]any{"issuer": s.provider.URL, "client_id": "other"}, 400},
		{`"1"`, map[string]any{"issuer": s.provider.URL, "client_id": "avouch", "scopes": []string{"email"}}, 200},
		{`"2"`, map[string]any{"issuer": "https://other.example", "client_id": "avouch", "client_secret": "another"}, 200},
	} {
		a := doortest.Call(t, api, doortest.Request{Method: "PATCH", Path: at, Header: map[string]string{"If-Match": tt.ifMatch}, Body: map[string]any{"oidc": tt.oidc, "name": "Renamed"}})
		if a.Status != tt.status {
			t.Errorf("%s %v: %d %s", tt.ifMatch, tt.oidc, a.Status, a.Raw)
		}
	}
	listed := doortest.Call(t, api, doortest.Request{Method: "GET", Path: "/api/v1/connections"})
	if len(listed.Body["connections"].([]any)) != 2 || strings.Contains(listed.Raw+made.Raw, "cret-s3") || strings.Contains(listed.Raw, "another") {
		t.Errorf("%s", listed.Raw)
	}
	for _, e := range s.Entries(t, s.acme) {
		if strings.Contains(string(e.Body)+fmt.Sprint(e.Private), "s3cret") {
			t.Errorf("the log holds the secret: %s", e.Type)
		}
	}
	if stored := s.Text(t, `SELECT string_agg(encode(config, 'escape'), ' ') FROM avouch.connection`); strings.Contains(stored, "s3cret") || strings.Contains(stored, "issuer") {
		t.Error("the database holds the settings in clear")
	}
	if a := doortest.Call(t, api, doortest.Request{Method: "DELETE", Path: at}); a.Status != 204 {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	if a := doortest.Call(t, api, doortest.Request{Method: "GET", Path: at}); a.Status != 404 {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	var types []string
	for _, e := range s.Entries(t, s.acme) {
		if e.Target.ID == made.Body["connection_id"] {
			types = append(types, e.Type)
		}
	}
	if !slices.Equal(types, []string{"connection.made", "connection.enabled", "connection.changed", "connection.changed", "connection.removed"}) {
		t.Errorf("the log says %v", types)
	}
}

// TestWhoMayConnect: a connection gives what its maker holds, at most.
func TestWhoMayConnect(t *testing.T) {
	t.Parallel()
	s := open(t)
	r := s.rooms[0]
	admins, err := s.people.CreateGroup(t.Context(), s.owner, org.NewGroup{Name: "Admins", Roles: []string{org.RoleAdmin}})
	must(t, err)
	sso := []string{"sso:read", "sso:write"}
	viewer := append(slices.Clone(sso), "agents:read", "keys:read", "members:read", "organisation:read")
	lent := tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: s.acme, Actor: audit.Actor{Kind: audit.ActorPerson, ID: s.ada.String()}, How: "x", RequestID: audit.NewRequestID(), Scopes: []string{"sso:read"},
		Person: &tenantdb.Person{ID: s.ada, ProvedAt: s.clock(), Lent: []string{"sso:write"}},
	})
	globex := s.Tenant(t, "Globex")
	boss := s.member(t, globex, "boss@globex.example", org.RoleOwner)
	demoted := s.member(t, s.acme, "demoted@acme.example", org.RoleMember)
	for name, tt := range map[string]struct {
		caller    tenantdb.Caller
		admission Admission
		kind      string
	}{
		"an owner":                      {s.owner, Admission{JIT: true, Roles: []string{org.RoleAdmin}}, ""},
		"who holds what it gives":       {s.caller(s.acme, s.ada, 0, viewer...), Admission{JIT: true, Roles: []string{org.RoleViewer}}, ""},
		"without members":               {s.caller(s.acme, s.ada, 0, sso...), Admission{}, ""},
		"who does not":                  {s.caller(s.acme, s.ada, 0, viewer...), Admission{JIT: true, Roles: []string{org.RoleAdmin}}, "denied"},
		"by a group":                    {s.caller(s.acme, s.ada, 0, viewer...), Admission{Groups: map[string]org.GroupID{"x": admins.ID}}, "denied"},
		"who may only read":             {s.caller(s.acme, s.ada, 0, "sso:read"), Admission{}, "denied"},
		"who broke the glass":           {lent, Admission{}, "denied"},
		"whose proof is old":            {s.caller(s.acme, s.ada, tenantdb.FreshProof+time.Second, "*"), Admission{}, "denied"},
		"an owner who makes owners":     {s.owner, Admission{JIT: true, Roles: []string{org.RoleOwner}}, "invalid"},
		"a role that is not there":      {s.owner, Admission{JIT: true, Roles: []string{"nothing"}}, "invalid"},
		"a group that is not there":     {s.owner, Admission{Groups: map[string]org.GroupID{"x": {1}}}, "invalid"},
		"who was demoted meanwhile":     {s.caller(s.acme, demoted, 0, tenantdb.Capabilities()...), Admission{}, "denied"},
		"who is not there":              {s.caller(s.acme, boss, 0, "*"), Admission{}, "denied"},
		"of another organisation":       {s.caller(globex, boss, 0, "*"), Admission{Groups: map[string]org.GroupID{"x": admins.ID}}, "invalid"},
		"a group, by who holds its all": {s.owner, Admission{Groups: map[string]org.GroupID{"x": admins.ID}}, ""},
	} {
		set := settings("https://idp.example")
		set.Admission = tt.admission
		n, err := r.Connect(t.Context(), tt.caller, KindOIDC, "x", set)
		if tt.kind == "" && err != nil || tt.kind != "" && (err == nil || !strings.Contains(err.Error(), tt.kind+":")) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && tt.caller.Tenant() == s.acme {
			must(t, r.Disconnect(t.Context(), s.owner, n.ID))
		}
	}
	_, err = r.Switch(t.Context(), s.owner, s.conn.ID, false)
	must(t, err)
	_, err = r.Switch(t.Context(), s.caller(s.acme, s.ada, 0, sso...), s.conn.ID, true)
	want(t, err, "denied", "switching on what was configured by somebody who holds more")
	_, err = r.Get(t.Context(), s.caller(s.Tenant(t, "Initech"), s.ada, 0, "*"), s.conn.ID)
	want(t, err, "missing", "another organisation's")
}

func TestSettingsAreChecked(t *testing.T) {
	t.Parallel()
	for issuer, ok := range map[string]bool{
		"https://idp.example": true, "https://idp.example/tenant": true, "http://localhost:5556/dex": true, "http://127.0.0.1:1": true, "http://idp.example": false, "https://": false,
		"idp.example": false, "https://u:p@idp.example": false, "https://idp.example?x=1": false, "https://idp.example#": false, "https://idp.example/\n": false, "ldap://x": false, "": false,
	} {
		set := settings(issuer)
		if err := set.check(KindOIDC, "x"); (err == nil) != ok {
			t.Errorf("issuer %q: %v", issuer, err)
		}
	}
	for what, change := range map[string]func(*Settings){
		"no client": func(s *Settings) { s.OIDC.ClientID = "" }, "a mode": func(s *Settings) { s.OIDC.ResponseMode = "fragment" }, "a scope": func(s *Settings) { s.OIDC.Scopes = []string{"a b"} },
		"both kinds": func(s *Settings) { s.SAML = &SAML{} }, "no kind": func(s *Settings) { s.OIDC = nil }, "too many": func(s *Settings) { s.OIDC.TrustMFA = make([]string, 51) },
		"a group without a name": func(s *Settings) { s.Admission.Groups = map[string]org.GroupID{"": {}} },
	} {
		set := settings("https://idp.example")
		change(&set)
		if err := set.check(KindOIDC, "x"); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	for _, name := range []string{"", " x", "a\nb", strings.Repeat("x", 201)} {
		set := settings("https://idp.example")
		if err := set.check(KindOIDC, name); err == nil {
			t.Errorf("the name %q is taken", name)
		}
	}
	set := settings("https://idp.example")
	set.OIDC.Scopes = []string{"email"}
	if err := set.check(KindOIDC, "x"); err != nil || !slices.Equal(set.OIDC.Scopes, []string{"openid", "email"}) {
		t.Errorf("%v %v", set.OIDC.Scopes, err)
	}
}

// TestProvidersOfOurOwnNetworkAreNotAsked: nothing is dialled, and what is told does not say whether something is there.
func TestProvidersOfOurOwnNetworkAreNotAsked(t *testing.T) {
	t.Parallel()
	s := open(t)
	var dialled []string
	client, err := outbound.Client(outbound.Config{
		Lookup: func(context.Context, string, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("10.0.0.7")}, nil
		},
		Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			dialled = append(dialled, address)
			return nil, net.ErrClosed
		},
	})
	must(t, err)
	at, _ := url.Parse(public)
	r := New(Config{DB: s.DB, Ring: s.Ring, People: s.people, Public: at, Client: client, Now: s.clock, EndSessions: endSessions})
	n, err := r.Connect(t.Context(), s.owner, KindOIDC, "inside", settings("https://metadata.example"))
	must(t, err)
	inside := r.Check(t.Context(), n)
	_, err = r.Switch(t.Context(), s.owner, n.ID, true)
	must(t, err)
	_, err = r.Begin(t.Context(), Start{Connection: n.ID})
	want(t, err, "unavailable", "a sign-in")
	if len(dialled) != 0 {
		t.Errorf("dialled %v", dialled)
	}
	gone, err := s.rooms[0].Connect(t.Context(), s.owner, KindOIDC, "gone", settings("http://127.0.0.1:1"))
	must(t, err)
	if away := s.rooms[0].Check(t.Context(), gone); len(inside) != 1 || !slices.Equal(inside, away) {
		t.Errorf("refused: %v, not there: %v", inside, away)
	}
	if err := fmt.Sprint(errOf(r.Begin(t.Context(), Start{Connection: n.ID}))); strings.Contains(err, "10.0.0.7") {
		t.Errorf("%s", err)
	}
}

func errOf(_ Started, err error) error { return err }

// session writes a session's row.
func (s *scene) session(t *testing.T, p PersonID, via ID) {
	t.Helper()
	must(t, s.DB.Change(t.Context(), tenantdb.System(s.acme, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), `INSERT INTO avouch.session (tenant_id, session_id, person_id, kind, digest, description, methods, via, created_at, proved_at, held, expires_at, idle_seconds, mac)
			VALUES ($1, gen_random_uuid(), $2, 'browser', sha256(gen_random_uuid()::text::bytea), '', '{}', $3, now(), now(), '{}', now() + interval '1 day', 60, sha256('x'))`, s.acme, p, orNull(via))
		return audit.Event{Type: "session.started"}, err
	}))
}

func (s *scene) live(t *testing.T, p PersonID) string {
	t.Helper()
	return s.Text(t, `SELECT count(*)::text FROM avouch.session WHERE person_id = $1 AND ended_at IS NULL`, p)
}

func TestSwitchedOff(t *testing.T) {
	t.Parallel()
	s := open(t)
	a, _ := s.browser().signIn(t, user("grace-1", "grace@acme.example"))
	s.session(t, a.Person, s.conn.ID)
	s.session(t, a.Person, ID{})
	b := s.browser()
	s.provider.SignIn(user("grace-1", "grace@acme.example"))
	to := b.start(t, map[string]any{"connection_id": s.conn.ID.String()})
	if _, err := s.rooms[1].Switch(t.Context(), s.owner, s.conn.ID, false); err != nil || s.live(t, a.Person) != "1" {
		t.Errorf("%v; %s sessions live", err, s.live(t, a.Person))
	}
	w := b.back(t, 0, visit(t, to))
	if _, why := s.arrival(t, w); why != ReasonOff || w.Code != http.StatusUnauthorized {
		t.Errorf("who was under way: %q, %d", why, w.Code)
	}
	want(t, s.rooms[0].Disconnect(t.Context(), s.owner, s.conn.ID), "conflict", "a connection that a domain leads to")
	must(t, s.rooms[0].RemoveDomain(t.Context(), s.owner, "acme.example"))
	managed := func() string {
		return s.Text(t, `SELECT count(*)::text FROM avouch.person WHERE person_id = $1 AND managed_by IS NOT NULL`, a.Person)
	}
	if managed() != "1" {
		t.Error("the connection does not decide about whom it admitted")
	}
	must(t, s.rooms[0].Disconnect(t.Context(), s.owner, s.conn.ID))
	if managed() != "0" {
		t.Error("a connection that is gone decides about whom it admitted")
	}
	_, err := s.rooms[0].Update(t.Context(), s.owner, s.conn.ID, web.ETag(1), Reconfigure{})
	want(t, err, "missing", "a connection that is gone")
}

// TestWhoBelievesASecondFactor: to count a provider's word as a second factor asks less of everybody who comes by it, admins too, so
// it is for an owner, as org.UpdateRules has it.
func TestWhoBelievesASecondFactor(t *testing.T) {
	t.Parallel()
	s := open(t)
	admin := s.caller(s.acme, s.member(t, s.acme, "eve@acme.example", org.RoleAdmin), 0, tenantdb.Capabilities()...)
	set := settings("https://idp.example")
	set.OIDC.TrustMFA = []string{"pwd"}
	_, err := s.rooms[0].Connect(t.Context(), admin, KindOIDC, "Eve's own", set)
	want(t, err, "denied", "a connection whose password counts twice, by an administrator")
	o := *s.conn.Settings.OIDC
	o.TrustMFA = []string{"pwd"}
	_, err = s.rooms[0].Update(t.Context(), admin, s.conn.ID, web.ETag(s.conn.Version), Reconfigure{OIDC: &o})
	want(t, err, "denied", "the same of one that is there")
}
