package org

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// fixture is the room with the room of keys beside it, as a server puts them together.
type fixture struct {
	*doortest.Door
	room *Room
	keys *apikey.Room
}

func open(t *testing.T) fixture { return on(doortest.Open(t)) }

func on(d *doortest.Door) fixture {
	keys := apikey.New(apikey.Config{DB: d.DB, Ring: d.Ring})
	return fixture{d, New(Config{DB: d.DB, Ring: d.Ring, FirstKey: keys, MonthlyQuota: new(int64(DefaultQuota))}), keys}
}

func (f fixture) create(t *testing.T, name, contact string) (Created, tenantdb.Caller) {
	t.Helper()
	made, err := f.room.Create(t.Context(), NewOrganisation{Name: name, ContactEmail: contact})
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.keys.Authenticate(t.Context(), made.OwnerKey.Expose(), web.RequestMeta{})
	if err != nil {
		t.Fatal(err)
	}
	return made, c
}

func want(t *testing.T, err error, kind problem.Kind, what string) {
	t.Helper()
	if !problem.Is(err, kind) {
		t.Errorf("%s: got %v, want %s", what, err, kind)
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	f := open(t)
	made, owner := f.create(t, "Acme Ltd", "ops@acme.example")
	if owner.Tenant() != made.ID || owner.Actor().ID != made.OwnerKeyID || !owner.May("*") {
		t.Errorf("the first key is %+v", owner)
	}
	got, err := f.room.Get(t.Context(), owner)
	if err != nil || got.ID != made.ID || got.Name != "Acme Ltd" || got.ContactEmail != "ops@acme.example" || !got.CreatedAt.Equal(made.CreatedAt) ||
		got.TokenLifetime != 24*time.Hour || got.LiveTokens != 1000 || *got.MonthlyQuota != 10_000 || got.Version != 1 || !got.SuspendedAt.IsZero() {
		t.Errorf("read back as %+v, %v", got, err)
	}
	if n := f.Text(t, `SELECT count(*)::text FROM avouch.counter WHERE tenant_id = $1 AND subject = 'verify' AND used = 0`, made.ID.String()); n != "1" {
		t.Error("its counter is not there")
	}
	entries := f.Entries(t, made.ID)
	if e := entries[0]; len(entries) != 1 || e.Type != "organisation.created" || e.Field("owner_key") != made.OwnerKeyID || e.Field("monthly_quota") != "10000" ||
		e.Private["name"] != "Acme Ltd" || e.Actor.Kind != audit.ActorSystem {
		t.Errorf("the log is %+v", entries)
	}
	if s := fmt.Sprintf("%v %+v %#v", made, made, made); strings.Contains(s, made.OwnerKey.Expose()[21:64]) {
		t.Error("printing a new organisation tells its key")
	}
	unlimited := New(Config{DB: f.DB, Ring: f.Ring, FirstKey: f.keys})
	free, err := unlimited.Create(t.Context(), NewOrganisation{Name: "Free"})
	if err != nil || free.MonthlyQuota != nil {
		t.Errorf("without a quota: %+v, %v", free.Organisation, err)
	}
	for what, n := range map[string]NewOrganisation{
		"no name": {}, "a blank name": {Name: " "}, "a control character": {Name: "a\x1bb"}, "a long name": {Name: strings.Repeat("x", 201)},
		"no address": {Name: "x", ContactEmail: "nobody"}, "a name with the address": {Name: "x", ContactEmail: "Ada <ada@x.example>"},
		"a header": {Name: "x", ContactEmail: "a@x.example\r\nBcc: b@y.example"}, "a long address": {Name: "x", ContactEmail: strings.Repeat("a", 250) + "@x.example"},
	} {
		_, err := f.room.Create(t.Context(), n)
		want(t, err, problem.Invalid, what)
	}
}

// broken cannot mint.
type broken struct{}

func (broken) MintOwnerKey(context.Context, *tenantdb.Tx) (secret.String, string, error) {
	return secret.String{}, "", io.ErrUnexpectedEOF
}

func TestCreateIsWhole(t *testing.T) {
	t.Parallel()
	f := open(t)
	room := New(Config{DB: f.DB, Ring: f.Ring, FirstKey: broken{}})
	if made, err := room.Create(t.Context(), NewOrganisation{Name: "Acme"}); !errors.Is(err, io.ErrUnexpectedEOF) || made.ID != (tenantdb.TenantID{}) {
		t.Errorf("without a key: %+v, %v", made, err)
	}
	left := f.Text(t, `SELECT (SELECT count(*) FROM avouch.organisation) || ' ' || (SELECT count(*) FROM avouch.audit_head) || ' ' ||
		(SELECT count(*) FROM avouch.counter) || ' ' || (SELECT count(*) FROM avouch.audit_entry)`)
	if left != "0 0 0 0" {
		t.Errorf("left behind: %s", left)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	f := open(t)
	made, owner := f.create(t, "Acme", "ops@acme.example")
	id := made.ID
	_, err := f.room.Get(t.Context(), f.Caller(id, "keys:read", "organisation:write"))
	want(t, err, problem.Denied, "get without organisation:read")
	_, err = f.room.Update(t.Context(), f.Caller(id, "organisation:read", "keys:write"), `"1"`, Change{Name: new("Mine")})
	want(t, err, problem.Denied, "update without organisation:write")
	_, err = f.room.Update(t.Context(), owner, "", Change{Name: new("Mine")})
	if p := problem.Of(err); p == nil || p.HTTPStatus() != 428 {
		t.Errorf("without If-Match: %v", err)
	}
	_, err = f.room.Update(t.Context(), owner, `"2"`, Change{Name: new("Mine")})
	if p := problem.Of(err); p == nil || p.HTTPStatus() != 412 {
		t.Errorf("from another version: %v", err)
	}
	got, err := f.room.Update(t.Context(), f.Caller(id, "organisation:write"), `"1"`, Change{
		Name: new("Acme SE"), ContactEmail: new("new@acme.example"), TokenLifetime: new(time.Hour), LiveTokens: new(5), Badge: new(true),
	})
	read, readErr := f.room.Get(t.Context(), owner)
	if err != nil || readErr != nil || got.Version != 2 || read.Name != "Acme SE" || read.ContactEmail != "new@acme.example" ||
		read.TokenLifetime != time.Hour || read.LiveTokens != 5 || read.Version != 2 || !read.Badge || !got.Badge {
		t.Errorf("changed to %+v (%v), read back as %+v (%v)", got, err, read, readErr)
	}
	if got, err = f.room.Update(t.Context(), owner, `"2"`, Change{Name: new("Acme SE"), LiveTokens: new(5), Badge: new(true)}); err != nil || got.Version != 2 {
		t.Errorf("a change that changes nothing: %+v, %v", got, err)
	}
	if got, err = f.room.Update(t.Context(), owner, `"2"`, Change{ContactEmail: new("")}); err != nil || got.ContactEmail != "" {
		t.Errorf("taking the address away: %+v, %v", got, err)
	}
	for what, ch := range map[string]Change{
		"a short life": {TokenLifetime: new(time.Minute)}, "a long life": {TokenLifetime: new(25 * time.Hour)},
		"no tokens": {LiveTokens: new(0)}, "no name": {Name: new("")}, "no address": {ContactEmail: new("x")},
	} {
		_, err := f.room.Update(t.Context(), owner, `"3"`, ch)
		want(t, err, problem.Invalid, what)
	}
}

func TestOtherTenant(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, ours := f.create(t, "Acme", "")
	theirs, _ := f.create(t, "Globex", "secret@globex.example")
	if o, err := f.room.Get(t.Context(), ours); err != nil || o.Name != "Acme" {
		t.Errorf("sees %+v, %v", o, err)
	}
	if _, err := f.room.Update(t.Context(), ours, `"1"`, Change{Name: new("All mine")}); err != nil {
		t.Fatal(err)
	}
	if o, err := f.room.Get(t.Context(), tenantdb.System(theirs.ID, "test")); err != nil || o.Name != "Globex" {
		t.Errorf("the other is %+v, %v", o, err)
	}
	if err := f.room.Suspend(t.Context(), f.Caller(theirs.ID, "*"), ""); !problem.Is(err, problem.Denied) {
		t.Errorf("an owner suspends: %v", err)
	}
	_, err := f.room.Get(t.Context(), tenantdb.System(tenantdb.NewTenantID(), "test"))
	want(t, err, problem.Missing, "an organisation that is not there")
	want(t, f.room.Suspend(t.Context(), tenantdb.System(tenantdb.NewTenantID(), "operator"), ""), problem.Missing, "suspend one that is not there")
}

func TestContactIsSealed(t *testing.T) {
	t.Parallel()
	f := open(t)
	made, _ := f.create(t, "Acme", "ada@acme.example")
	other, _ := f.create(t, "Globex", "")
	address, err := f.room.Contact(t.Context(), made.ID)
	none, noneErr := f.room.Contact(t.Context(), other.ID)
	if err != nil || address != "ada@acme.example" || noneErr != nil || none != "" {
		t.Errorf("contacts: %q, %v; %q, %v", address, err, none, noneErr)
	}
	stored := f.Text(t, `SELECT encode(contact, 'escape') FROM avouch.organisation WHERE tenant_id = $1`, made.ID.String())
	for _, text := range []string{stored, string(f.Last(t, made.ID).Body), f.Logged()} {
		if strings.Contains(text, "ada@") {
			t.Errorf("in the clear: %q", text)
		}
	}
	f.Admin(t, `ALTER TABLE avouch.organisation DISABLE TRIGGER require_entry`)
	f.Admin(t, `UPDATE avouch.organisation SET contact = (SELECT contact FROM avouch.organisation WHERE tenant_id = $2) WHERE tenant_id = $1`, other.ID.String(), made.ID.String())
	if address, err := f.room.Contact(t.Context(), other.ID); err == nil || address != "" {
		t.Errorf("copied to another organisation it opens: %q", address)
	}
}

func TestSuspend(t *testing.T) {
	t.Parallel()
	f := open(t)
	made, owner := f.create(t, "Acme", "")
	other := on(f.Another(t))
	operator := tenantdb.System(made.ID, "operator")
	authenticate := func() error {
		_, err := other.keys.Authenticate(t.Context(), made.OwnerKey.Expose(), web.RequestMeta{})
		return err
	}
	if err := authenticate(); err != nil {
		t.Fatal(err)
	}
	epoch := func() string {
		return f.Text(t, `SELECT epoch::text FROM avouch.audit_head WHERE tenant_id = $1`, made.ID.String())
	}
	want(t, f.room.Suspend(t.Context(), owner, ""), problem.Denied, "an owner suspends itself")
	want(t, f.room.Suspend(t.Context(), operator, strings.Repeat("x", 1001)), problem.Invalid, "a long reason")
	before := epoch()
	for range 2 {
		if err := f.room.Suspend(t.Context(), operator, "unpaid by Ada"); err != nil {
			t.Fatal(err)
		}
	}
	want(t, authenticate(), problem.Unauthenticated, "a suspended organisation")
	if e := f.OfType(t, made.ID, "organisation.suspended"); len(e) != 1 || e[0].Private["reason"] != "unpaid by Ada" || strings.Contains(string(e[0].Body), "Ada") {
		t.Errorf("suspended: %+v", e)
	}
	if epoch() == before {
		t.Error("the epoch did not move: servers would go on verifying")
	}
	before = epoch()
	if err := f.room.Resume(t.Context(), operator, ""); err != nil {
		t.Fatal(err)
	}
	if err := authenticate(); err != nil || epoch() == before {
		t.Errorf("resumed: %v", err)
	}
	if err := f.room.EnsurePlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, f.room.Suspend(t.Context(), tenantdb.System(tenantdb.Platform, "operator"), ""), problem.Invalid, "suspend the installation")
}

func TestEverythingIsRecorded(t *testing.T) {
	t.Parallel()
	f := open(t)
	made, owner := f.create(t, "Acme", "")
	for i, ch := range []Change{{Name: new("Ada's")}, {LiveTokens: new(7)}, {ContactEmail: new("ada@acme.example")}, {TokenLifetime: new(5 * time.Minute)}, {Badge: new(true)}} {
		if _, err := f.room.Update(t.Context(), owner, web.ETag(int64(i+1)), ch); err != nil {
			t.Fatal(err)
		}
	}
	entries := f.OfType(t, made.ID, "organisation.changed")
	if len(entries) != 5 || entries[0].Private["name"] != "Ada's" || entries[1].Field("live_tokens") != "7" ||
		entries[2].Private["contact_email"] != "ada@acme.example" || entries[3].Field("token_lifetime_seconds") != "300" || entries[4].Field("badge") != "true" {
		t.Errorf("the log is %+v", entries)
	}
	for _, e := range entries {
		if strings.Contains(strings.ToLower(string(e.Body)), "ada") || e.Actor != owner.Actor() {
			t.Errorf("the entry is %+v", e)
		}
	}
}

func TestEnsurePlatform(t *testing.T) {
	t.Parallel()
	f := open(t)
	rooms := []*Room{f.room, on(f.Another(t)).room}
	errs := make([]error, 6)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = rooms[i%2].EnsurePlatform(t.Context()) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if e := f.Entries(t, tenantdb.Platform); len(e) != 1 || e[0].Type != "organisation.created" {
		t.Errorf("the log is %+v", e)
	}
}

// TestForeignKeyStore starts a server on the right database with an empty key store: it must neither run nor make new keys.
func TestForeignKeyStore(t *testing.T) {
	t.Parallel()
	f := open(t)
	if err := f.room.EnsurePlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "keystore")
	wrapper, err := f.Key.Wrapper(keyring.ForKeyStore)
	if err == nil {
		err = keyring.CreateStore(t.Context(), dir, wrapper)
	}
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.New(t.Context(), keyring.Config{Dir: dir, Platform: f.Key})
	if err != nil {
		t.Fatal(err)
	}
	room := New(Config{DB: f.DB, Ring: ring, FirstKey: f.keys})
	for range 2 {
		if err := room.EnsurePlatform(t.Context()); !errors.Is(err, ErrKeyStore) {
			t.Errorf("on an empty key store: %v", err)
		}
	}
}

func TestFixIssuer(t *testing.T) {
	t.Parallel()
	f := open(t)
	if err := f.room.EnsurePlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	names := []string{"https://a.example", "https://b.example"}
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = f.room.FixIssuer(t.Context(), names[i%2]) })
	}
	wg.Wait()
	fixed := f.Text(t, `SELECT issuer FROM avouch.installation`)
	for i, err := range errs {
		if (err == nil) != (names[i%2] == fixed) || err != nil && (!errors.Is(err, ErrIssuer) || !strings.Contains(err.Error(), fixed)) {
			t.Errorf("%s where %s was fixed: %v", names[i%2], fixed, err)
		}
	}
	e := f.OfType(t, tenantdb.Platform, "installation.issuer_fixed")
	if len(e) != 1 || e[0].Field("issuer") != fixed {
		t.Errorf("the log is %+v", e)
	}
	if err := f.AsServer(t, tenantdb.Platform, `UPDATE avouch.installation SET issuer = 'https://c.example'`); err == nil {
		t.Error("the server's role can change the issuer")
	}
}

func TestSignUp(t *testing.T) {
	t.Parallel()
	f := open(t)
	routes := func(room *Room) http.Handler {
		api := f.API(func(r *http.Request, m web.RequestMeta) (tenantdb.Caller, error) {
			return f.keys.Authenticate(r.Context(), apikey.FromHeader(r.Header), m)
		})
		room.Routes(api)
		return api
	}
	q := doortest.Request{Method: "POST", Path: "/api/v1/organisations", Body: map[string]string{"name": "Acme", "contact_email": "ops@acme.example"}}
	if a := doortest.Call(t, routes(f.room), q); a.Status != http.StatusForbidden || f.Text(t, `SELECT count(*)::text FROM avouch.organisation`) != "0" {
		t.Errorf("closed: %+v", a)
	}
	api := routes(New(Config{DB: f.DB, Ring: f.Ring, FirstKey: f.keys, SignUp: true}))
	a := doortest.Call(t, api, q)
	key, _ := a.Body["owner_key"].(string)
	if a.Status != http.StatusCreated || a.Body["name"] != "Acme" || a.Body["monthly_quota"] != nil || !strings.HasPrefix(key, "avk_live_"+a.Body["owner_key_id"].(string)) {
		t.Fatalf("open: %+v", a)
	}
	id, err := tenantdb.ParseTenantID(a.Body["tenant_id"].(string))
	if err != nil {
		t.Fatal(err)
	}
	if e := f.Last(t, id); e.Actor.Kind != audit.ActorNobody || e.How != "sign-up" || e.Request.String() != a.Header.Get("X-Request-Id") {
		t.Errorf("the entry is %+v", e)
	}
	q.Body = map[string]string{"name": ""}
	if a := doortest.Call(t, api, q); a.Status != http.StatusBadRequest {
		t.Errorf("without a name: %+v", a)
	}
	mine := doortest.Request{Method: "GET", Path: "/api/v1/organisation", Key: key}
	got := doortest.Call(t, api, mine)
	if got.Status != http.StatusOK || got.Body["contact_email"] != "ops@acme.example" || got.Body["token_lifetime_seconds"] != 86400.0 || got.Body["owner_key"] != nil ||
		got.Body["badge"] != false || got.Body["monthly_quota"] != nil || got.Body["used_this_month"] != nil {
		t.Errorf("get: %+v", got)
	}
	mine.Method, mine.Body = "PATCH", map[string]any{"token_lifetime_seconds": 600, "live_tokens": 3, "badge": true}
	if a := doortest.Call(t, api, mine); a.Status != http.StatusPreconditionRequired {
		t.Errorf("patch without If-Match: %+v", a)
	}
	mine.Header = map[string]string{"If-Match": got.Header.Get("ETag")}
	if a := doortest.Call(t, api, mine); a.Status != http.StatusOK || a.Body["token_lifetime_seconds"] != 600.0 || a.Body["badge"] != true || a.Header.Get("ETag") != `"2"` {
		t.Errorf("patch: %+v", a)
	}
	mine.Key = ""
	if a := doortest.Call(t, api, mine); a.Status != http.StatusUnauthorized {
		t.Errorf("without a key: %+v", a)
	}
	if slices.Contains(strings.Fields(f.Logged()), key) {
		t.Error("the key is in the log")
	}
}
