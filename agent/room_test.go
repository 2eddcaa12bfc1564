package agent

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// house is the room on a real database, with one organisation and its owner.
type house struct {
	*doortest.Door
	room   *Room
	clock  *clock
	tenant tenantdb.TenantID
	owner  tenantdb.Caller
}

func open(t testing.TB) *house {
	t.Helper()
	h := &house{Door: doortest.Open(t), clock: newClock()}
	h.begin(t)
	return h
}

func (h *house) begin(t testing.TB) {
	t.Helper()
	h.Install(t)
	h.room = h.newRoom(t, h.Door)
	h.tenant = h.Tenant(t, "Acme")
	h.owner = h.Caller(h.tenant, tenantdb.Everything)
}

// newRoom is the room as one server has it.
func (h *house) newRoom(t testing.TB, d *doortest.Door) *Room {
	t.Helper()
	wrapper, err := d.Key.Wrapper(keyring.ForSigning)
	must(t, err)
	signing := keyring.NewSigning(keyring.NewSigningTable(d.DB, tenantdb.System(tenantdb.Platform, "signing")), wrapper, h.clock.now)
	must(t, signing.Rotate(t.Context()))
	return New(Config{
		DB: d.DB, Ring: d.Ring, Signing: signing, Scopes: policy.New(policy.Config{DB: d.DB, Ring: d.Ring}),
		Issuer: mustIssuer(t, testIssuer), Now: h.clock.now,
	})
}

func (h *house) register(t testing.TB, scopes ...string) (Agent, Issued) {
	t.Helper()
	a, token, err := h.room.Register(t.Context(), h.owner, Registration{Name: "Robin the reader", Description: "reads\nall day", Scopes: scopes})
	must(t, err)
	return a, token
}

// set changes the organisation's row, as its own room would.
func (h *house) set(t testing.TB, sql string, value any) {
	t.Helper()
	must(t, h.DB.Change(t.Context(), h.owner, func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), sql, value)
		return audit.Event{Type: "organisation.updated", Alters: true}, err
	}))
}

func wantKind(t testing.TB, what string, err error, kind problem.Kind) {
	t.Helper()
	if !problem.Is(err, kind) {
		t.Errorf("%s: %v, want a problem of the kind %s", what, err, kind)
	}
}

// claimsOf reads a token as a verifier does.
func (h *house) claimsOf(t testing.TB, token Issued) Claims {
	t.Helper()
	c, err := h.room.Checker().Check(t.Context(), token.Token.Expose(), h.clock.now())
	must(t, err)
	must(t, c.ValidAt(h.clock.now(), 0))
	return c
}

func TestRegister(t *testing.T) {
	t.Parallel()
	h := open(t)
	keys := []PublicKey{goodKey(t, "P-256"), goodKey(t, "Ed25519")}
	keys[1].Use = UseWebBotAuth
	a, token, err := h.room.Register(t.Context(), h.owner, Registration{"Robin", "", []string{"read:email", "read:identity"}, keys})
	must(t, err)
	c := h.claimsOf(t, token)
	if c.Agent != a.ID || c.Tenant != h.tenant || c.JTI != token.JTI || c.Bound() || c.Generation != 1 || c.Expires.Sub(c.IssuedAt) != 24*time.Hour {
		t.Errorf("claims %+v", c)
	}
	got, err := h.room.Get(t.Context(), h.owner, a.ID)
	must(t, err)
	if got.Name != "Robin" || got.Status() != Active || len(got.Keys) != 2 || got.Visibility != VisibleToAll || !slices.Equal(got.Scopes, a.Scopes) || got.Version != 1 {
		t.Errorf("agent %+v", got)
	}
	if len(token.Warnings) != 1 {
		t.Errorf("warnings %q: an unbound token is all there is to warn of", token.Warnings)
	}
	_, risky := h.register(t, "write:email")
	if len(risky.Warnings) != 2 {
		t.Errorf("warnings %q: a day with a scope of high risk deserves one", risky.Warnings)
	}
	twice := []PublicKey{goodKey(t, "P-256"), goodKey(t, "P-256")}
	for name, bad := range map[string]Registration{
		"no name": {}, "long name": {Name: strings.Repeat("é", 201)}, "blank": {Name: "  "}, "line end": {Name: "a\nb"},
		"long description": {Name: "x", Description: strings.Repeat("x", 2001)}, "control": {Name: "x", Description: "\x1b[31m"},
		"unknown scope": {Name: "x", Scopes: []string{"read:email", "fly:plane"}}, "scope twice": {Name: "x", Scopes: []string{"read:email", "read:email"}},
		"scope of no form": {Name: "x", Scopes: []string{"read email"}}, "many scopes": {Name: "x", Scopes: make([]string, 51)}, "key twice": {Name: "x", Keys: twice},
	} {
		_, _, err := h.room.Register(t.Context(), h.owner, bad)
		wantKind(t, name, err, problem.Invalid)
	}
	long := Registration{Name: strings.Repeat("é", 200), Description: strings.Repeat("é", 2000)}
	if _, _, err := h.room.Register(t.Context(), h.owner, long); err != nil {
		t.Errorf("the longest name and description: %v", err)
	}
}

func TestIssue(t *testing.T) {
	t.Parallel()
	h := open(t)
	a, _ := h.register(t, "write:email")
	token, err := h.room.Issue(t.Context(), h.owner, a.ID, Wish{Resources: []string{"your-service", "https://b.example"}, Lifetime: time.Hour, MaxUses: 3})
	must(t, err)
	c := h.claimsOf(t, token)
	if !slices.Equal(c.Audience, []string{"your-service", "https://b.example"}) || c.Uses != 3 || c.Expires.Sub(c.IssuedAt) != time.Hour || len(token.Warnings) != 0 {
		t.Errorf("claims %+v, warnings %q", c, token.Warnings)
	}
	if n := h.Text(t, `SELECT used || ' ' || period FROM avouch.counter WHERE tenant_id = $1 AND subject = 'token:' || $2`, h.tenant, token.JTI.String()); n != "0 0" {
		t.Errorf("the counter of its uses is at %q", n)
	}
	for name, bad := range map[string]Wish{
		"short": {Lifetime: 299 * time.Second}, "long": {Lifetime: 24*time.Hour + time.Second}, "half a second": {Lifetime: time.Hour + time.Millisecond},
		"negative uses": {MaxUses: -1}, "many uses": {MaxUses: maxUses + 1}, "empty resource": {Resources: []string{""}},
		"resource with space": {Resources: []string{"a b"}}, "long resource": {Resources: []string{strings.Repeat("x", 257)}},
		"resource twice": {Resources: []string{"a", "a"}}, "many resources": {Resources: make([]string, 17)}, "the issuer alone": {Resources: []string{testIssuer}},
	} {
		_, err := h.room.Issue(t.Context(), h.owner, a.ID, bad)
		wantKind(t, name, err, problem.Invalid)
	}
	sixteen := make([]string, 16)
	for i := range sixteen {
		sixteen[i] = fmt.Sprintf("%02d", i) + strings.Repeat("x", 254)
	}
	full, err := h.room.Issue(t.Context(), h.owner, a.ID, Wish{Resources: sixteen})
	must(t, err)
	if c := h.claimsOf(t, full); !slices.Equal(c.Audience, sixteen) {
		t.Error("sixteen resources did not come back")
	}
	tooLong := slices.Clone(sixteen)
	for i := range tooLong {
		tooLong[i] = fmt.Sprintf("%02d", i) + strings.Repeat(`"`, 254)
	}
	_, err = h.room.Issue(t.Context(), h.owner, a.ID, Wish{Resources: tooLong})
	wantKind(t, "longer than a token may be", err, problem.Invalid)
}

// TestOwnersLifetime changes the organisation's setting beside a room that remembers the old one.
func TestOwnersLifetime(t *testing.T) {
	t.Parallel()
	h := open(t)
	a, _ := h.register(t)
	life := func(w Wish) time.Duration {
		t.Helper()
		token, err := h.room.Issue(t.Context(), h.owner, a.ID, w)
		must(t, err)
		c := h.claimsOf(t, token)
		return c.Expires.Sub(c.IssuedAt)
	}
	if d := life(Wish{}); d != 24*time.Hour {
		t.Errorf("by default %s", d)
	}
	set := func(interval string) {
		h.set(t, `UPDATE avouch.organisation SET token_lifetime = $1::interval`, interval)
	}
	set("10 minutes")
	if d := life(Wish{}); d != 10*time.Minute {
		t.Errorf("after the setting: %s", d)
	}
	_, err := h.room.Issue(t.Context(), h.owner, a.ID, Wish{Lifetime: time.Hour})
	wantKind(t, "longer than the setting", err, problem.Invalid)
	if _, token := h.register(t); token.Expires.Sub(h.clock.now()) != 10*time.Minute {
		t.Errorf("a first token until %s", token.Expires)
	}
	set("2 hours")
	if d := life(Wish{Lifetime: time.Hour}); d != time.Hour {
		t.Errorf("an hour became %s", d)
	}
	if d := life(Wish{}); d != 2*time.Hour {
		t.Errorf("after the second setting: %s", d)
	}
}

// TestCapOnTwoServers asks two servers for more tokens than an agent may have, all at once.
func TestCapOnTwoServers(t *testing.T) {
	t.Parallel()
	h := open(t)
	const most, asked = 40, 100
	h.set(t, `UPDATE avouch.organisation SET live_tokens = $1`, most)
	rooms := []*Room{h.room, h.newRoom(t, h.Another(t))}
	a, _ := h.register(t) // one token
	b, _ := h.register(t)
	var good, full atomic.Int64
	var all sync.WaitGroup
	for i := range asked {
		all.Go(func() {
			for n, id := range []ID{a.ID, b.ID} {
				_, err := rooms[(i+n)%2].Issue(t.Context(), h.owner, id, Wish{})
				switch {
				case err == nil:
					good.Add(1)
				case problem.Is(err, problem.TooMany):
					full.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if good.Load() != 2*(most-1) || full.Load() != 2*(asked-most+1) {
		t.Errorf("%d tokens and %d refusals of %d", good.Load(), full.Load(), 2*asked)
	}
	for _, id := range []ID{a.ID, b.ID} {
		live, err := h.room.Tokens(t.Context(), h.owner, id, nil, TokenLive, 200)
		must(t, err)
		if len(live) != most {
			t.Errorf("%d live tokens", len(live))
		}
	}
	if n := len(h.OfType(t, h.tenant, "token.issued")); n != 2*(most-1) {
		t.Errorf("%d entries of tokens", n)
	}
	tokens, err := h.room.Tokens(t.Context(), h.owner, a.ID, nil, TokenLive, 1)
	must(t, err)
	_, err = h.room.RevokeToken(t.Context(), h.owner, a.ID, tokens[0].JTI)
	must(t, err)
	if _, err := rooms[1].Issue(t.Context(), h.owner, a.ID, Wish{}); err != nil {
		t.Errorf("a revoked token still counts: %v", err)
	}
	h.clock.forward(25 * time.Hour)
	must(t, h.room.signing.Rotate(t.Context()))
	if _, err := h.room.Issue(t.Context(), h.owner, a.ID, Wish{}); err != nil {
		t.Errorf("expired tokens still count: %v", err)
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	h := open(t)
	a, first := h.register(t)
	ctx := t.Context()
	_, err := h.room.Resume(ctx, h.owner, a.ID)
	wantKind(t, "resume what is active", err, problem.Conflict)
	got, err := h.room.Suspend(ctx, h.owner, a.ID)
	must(t, err)
	if got.Status() != Suspended || got.Version != 2 {
		t.Errorf("suspended: %+v", got)
	}
	_, err = h.room.Suspend(ctx, h.owner, a.ID)
	wantKind(t, "suspend twice", err, problem.Conflict)
	_, err = h.room.Issue(ctx, h.owner, a.ID, Wish{})
	wantKind(t, "a token for a suspended agent", err, problem.Conflict)
	got, err = h.room.Resume(ctx, h.owner, a.ID)
	must(t, err)
	if got.Status() != Active {
		t.Errorf("resumed: %+v", got)
	}
	second, err := h.room.Issue(ctx, h.owner, a.ID, Wish{})
	must(t, err)
	record, err := h.room.RevokeToken(ctx, h.owner, a.ID, second.JTI)
	must(t, err)
	if record.Status(h.clock.now()) != TokenRevoked {
		t.Errorf("revoked: %+v", record)
	}
	_, err = h.room.RevokeToken(ctx, h.owner, a.ID, second.JTI)
	wantKind(t, "revoke a token twice", err, problem.Conflict)
	_, live, err := h.room.RevokeTokens(ctx, h.owner, a.ID)
	must(t, err)
	if live != 1 {
		t.Errorf("%d were live, want the first alone", live)
	}
	third, err := h.room.Issue(ctx, h.owner, a.ID, Wish{})
	must(t, err)
	if c := h.claimsOf(t, third); c.Generation != 2 {
		t.Errorf("the token after is of generation %d", c.Generation)
	}
	_, err = h.room.Revoke(ctx, h.owner, a.ID)
	must(t, err)
	name := "x"
	for what, do := range map[string]func() error{
		"revoke":          func() error { _, err := h.room.Revoke(ctx, h.owner, a.ID); return err },
		"resume":          func() error { _, err := h.room.Resume(ctx, h.owner, a.ID); return err },
		"suspend":         func() error { _, err := h.room.Suspend(ctx, h.owner, a.ID); return err },
		"token":           func() error { _, err := h.room.Issue(ctx, h.owner, a.ID, Wish{}); return err },
		"token elsewhere": func() error { _, err := h.newRoom(t, h.Another(t)).Issue(ctx, h.owner, a.ID, Wish{}); return err },
		"scopes":          func() error { _, err := h.room.SetScopes(ctx, h.owner, a.ID, "", nil); return err },
		"rename":          func() error { _, err := h.room.Update(ctx, h.owner, a.ID, "", Edit{Name: &name}); return err },
		"revoke all":      func() error { _, _, err := h.room.RevokeTokens(ctx, h.owner, a.ID); return err },
		"revoke a token":  func() error { _, err := h.room.RevokeToken(ctx, h.owner, a.ID, third.JTI); return err },
	} {
		wantKind(t, what+" after revocation", do(), problem.Conflict)
	}
	_, err = h.room.RevokeToken(ctx, h.owner, a.ID, TokenID{1})
	wantKind(t, "no such token", err, problem.Missing)
	_ = first
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	a, _ := h.register(t, "read:email")
	name, text, listed, none := "Robin II", "other", VisibleToListed, VisibleToNone
	friends := []tenantdb.TenantID{tenantdb.NewTenantID(), tenantdb.NewTenantID()}
	got, err := h.room.Update(ctx, h.owner, a.ID, web.ETag(1), Edit{&name, &text, &listed, &friends})
	must(t, err)
	if got.Name != name || got.Description != text || got.Visibility != listed || len(got.VisibleTo) != 2 || got.Version != 2 {
		t.Errorf("%+v", got)
	}
	_, err = h.room.Update(ctx, h.owner, a.ID, web.ETag(1), Edit{Name: &text})
	if p := problem.Of(err); p == nil || p.HTTPStatus() != http.StatusPreconditionFailed {
		t.Errorf("an update from an old version: %v", err)
	}
	if got, err = h.room.Update(ctx, h.owner, a.ID, "", Edit{Name: &name}); err != nil || got.Version != 2 {
		t.Errorf("what changes nothing: %v, version %d", err, got.Version)
	}
	got, err = h.room.Update(ctx, h.owner, a.ID, "", Edit{Visibility: &none})
	must(t, err)
	if len(got.VisibleTo) != 0 {
		t.Error("the list outlived its setting")
	}
	_, err = h.room.Update(ctx, h.owner, a.ID, "", Edit{VisibleTo: &friends})
	wantKind(t, "a list without its setting", err, problem.Invalid)
	empty, odd, many := "", Visibility("some"), make([]tenantdb.TenantID, 101)
	for what, e := range map[string]Edit{"empty name": {Name: &empty}, "odd visibility": {Visibility: &odd}, "long list": {Visibility: &listed, VisibleTo: &many}} {
		_, err = h.room.Update(ctx, h.owner, a.ID, "", e)
		wantKind(t, what, err, problem.Invalid)
	}
	got, err = h.room.SetScopes(ctx, h.owner, a.ID, web.ETag(3), []string{"browse:web", "read:email"})
	must(t, err)
	if !slices.Equal(got.Scopes, []string{"browse:web", "read:email"}) {
		t.Errorf("scopes %v", got.Scopes)
	}
	_, err = h.room.SetScopes(ctx, h.owner, a.ID, "", []string{"fly:plane"})
	wantKind(t, "a scope that nobody knows", err, problem.Invalid)
	_, err = h.room.SetScopes(ctx, h.owner, a.ID, web.ETag(3), nil)
	wantKind(t, "scopes from an old version", err, problem.Conflict)
}

// operations are all of the room's, on one agent and token.
func (h *house) operations(t testing.TB, a ID, jti TokenID) (reads, writes map[string]func(tenantdb.Caller) error) {
	ctx, name := t.Context(), "x"
	reads = map[string]func(tenantdb.Caller) error{
		"get":    func(c tenantdb.Caller) error { _, err := h.room.Get(ctx, c, a); return err },
		"tokens": func(c tenantdb.Caller) error { _, err := h.room.Tokens(ctx, c, a, nil, "", 10); return err },
	}
	writes = map[string]func(tenantdb.Caller) error{
		"update": func(c tenantdb.Caller) error { _, err := h.room.Update(ctx, c, a, "", Edit{Name: &name}); return err },
		"scopes": func(c tenantdb.Caller) error {
			_, err := h.room.SetScopes(ctx, c, a, "", []string{"browse:web"})
			return err
		},
		"suspend":      func(c tenantdb.Caller) error { _, err := h.room.Suspend(ctx, c, a); return err },
		"issue":        func(c tenantdb.Caller) error { _, err := h.room.Issue(ctx, c, a, Wish{}); return err },
		"revoke token": func(c tenantdb.Caller) error { _, err := h.room.RevokeToken(ctx, c, a, jti); return err },
		"revoke all":   func(c tenantdb.Caller) error { _, _, err := h.room.RevokeTokens(ctx, c, a); return err },
		"resume":       func(c tenantdb.Caller) error { _, err := h.room.Resume(ctx, c, a); return err },
		"revoke":       func(c tenantdb.Caller) error { _, err := h.room.Revoke(ctx, c, a); return err },
	}
	return reads, writes
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	h := open(t)
	reader, writer := h.Caller(h.tenant, "agents:read"), h.Caller(h.tenant, "agents:write")
	nobody := h.Caller(h.tenant, "verify", "audit:write", "keys:write", "read:identity")
	deny := func(what string, err error) { t.Helper(); wantKind(t, what, err, problem.Denied) }
	allow := func(what string, err error) { t.Helper(); must(t, err) }
	for _, w := range []string{"update", "scopes", "suspend", "issue", "revoke token", "revoke all", "resume", "revoke"} {
		a, token := h.register(t)
		if w == "resume" {
			_, err := h.room.Suspend(t.Context(), h.owner, a.ID)
			must(t, err)
		}
		reads, writes := h.operations(t, a.ID, token.JTI)
		before := len(h.Entries(t, h.tenant))
		deny(w+" by a reader", writes[w](reader))
		deny(w+" by nobody", writes[w](nobody))
		if n := len(h.Entries(t, h.tenant)); n != before {
			t.Errorf("%s: a refusal changed something", w)
		}
		allow(w+" by a writer", writes[w](writer))
		for name, read := range reads {
			deny(name+" by a writer", read(writer))
			allow(name+" by a reader", read(reader))
		}
	}
	_, err := h.room.List(t.Context(), writer, nil, "", 10)
	deny("list by a writer", err)
	_, err = h.room.List(t.Context(), reader, nil, "", 10)
	allow("list by a reader", err)
	_, _, err = h.room.Register(t.Context(), reader, Registration{Name: "x"})
	deny("register by a reader", err)
	_, _, err = h.room.Register(t.Context(), writer, Registration{Name: "x"})
	allow("register by a writer", err)
}

func TestOtherTenant(t *testing.T) {
	t.Parallel()
	h := open(t)
	a, token := h.register(t)
	stranger := h.Caller(h.Tenant(t, "Other"), tenantdb.Everything)
	reads, writes := h.operations(t, a.ID, token.JTI)
	for what, do := range reads {
		wantKind(t, what, do(stranger), problem.Missing)
	}
	// The room remembers the owner's agent by now; a stranger must not profit from it.
	must(t, writes["issue"](h.owner))
	for what, do := range writes {
		wantKind(t, what, do(stranger), problem.Missing)
	}
	all, err := h.room.List(t.Context(), stranger, nil, "", 10)
	must(t, err)
	if len(all) != 0 {
		t.Errorf("a stranger's list: %+v", all)
	}
	mine, _, err := h.room.Register(t.Context(), stranger, Registration{Name: "mine"})
	must(t, err)
	_, err = h.room.RevokeToken(t.Context(), stranger, mine.ID, token.JTI)
	wantKind(t, "another's token on one's own agent", err, problem.Missing)
	if got, err := h.room.Get(t.Context(), h.owner, a.ID); err != nil || got.Status() != Active || got.Version != 1 {
		t.Errorf("the owner's agent is at version %d: %v", got.Version, err)
	}
}
