package sso

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/test/oidcprovider"
)

// TestWhoIsAdmitted: whose address the provider says it is, and whether it may say so.
func TestWhoIsAdmitted(t *testing.T) {
	t.Parallel()
	s := open(t)
	globex := s.Tenant(t, "Globex")
	theirs := s.caller(globex, s.member(t, globex, "boss@globex.example", org.RoleOwner), 0, tenantdb.Everything)
	d, err := s.rooms[0].AddDomain(t.Context(), theirs, "globex.example", ID{})
	must(t, err)
	s.dns.set(d.Record(), d.Token)
	_, err = s.rooms[0].Prove(t.Context(), theirs, "globex.example")
	must(t, err)
	other := s.connect(t, Admission{}, nil)
	s.prove(t, "acme-labs.example", other.ID)
	_, err = s.rooms[0].AddDomain(t.Context(), s.owner, "unproved.example", s.conn.ID)
	must(t, err)
	for name, tt := range map[string]struct {
		user   oidcprovider.User
		reason Reason
	}{
		"a proved domain":                     {user("1", "one@acme.example"), ""},
		"no address":                          {user("2", ""), ReasonUnverified},
		"what is no address":                  {user("3", "two words@@acme.example"), ReasonUnverified},
		"an address that is not verified":     {user("4", "four@acme.example", "email_verified", false), ReasonUnverified},
		"an address of which nothing is said": {user("5", "five@acme.example", "email_verified", nil), ReasonUnverified},
		"verified, in a word":                 {user("6", "six@acme.example", "email_verified", "true"), ""},
		"not verified, in a word":             {user("7", "seven@acme.example", "email_verified", "false"), ReasonUnverified},
		"an unproved domain":                  {user("8", "eight@unproved.example"), ReasonDomain},
		"a domain that nobody has":            {user("9", "nine@gmail.example"), ReasonDomain},
		"a domain of another organisation":    {user("10", "ten@globex.example"), ReasonDomain},
		"a domain of another connection":      {user("11", "eleven@acme-labs.example"), ReasonDomain},
		"a domain below a proved one":         {user("12", "twelve@evil.acme.example"), ReasonDomain},
		"a domain that looks like it":         {user("13", "thirteen@acmе.example"), ReasonDomain}, // a Cyrillic e
	} {
		if _, why := s.browser().signIn(t, tt.user); why != tt.reason {
			t.Errorf("%s: refused: %q, want %q", name, why, tt.reason)
		}
	}
	o := *s.conn.Settings.OIDC
	o.TrustEmail = true
	s.reconfigure(t, s.owner, Reconfigure{OIDC: &o})
	if _, why := s.browser().signIn(t, user("5", "five@acme.example", "email_verified", nil)); why != "" {
		t.Errorf("a provider that is trusted with its domain: %q", why)
	}
	if _, why := s.browser().signIn(t, user("8", "eight@unproved.example", "email_verified", nil)); why != ReasonUnverified {
		t.Errorf("but not with others: %q", why)
	}
	s.reconfigure(t, s.owner, Reconfigure{Admission: &Admission{}})
	if _, why := s.browser().signIn(t, user("14", "fourteen@acme.example")); why != ReasonStranger {
		t.Errorf("nobody is admitted any more: %q", why)
	}
	s.reconfigure(t, s.owner, Reconfigure{Admission: &Admission{JIT: true}})
	must(t, s.DB.Change(t.Context(), tenantdb.System(globex, "test"), func(tx *tenantdb.Tx) (audit.Event, error) { // who proved it a moment before, on another server
		_, err := tx.Exec(t.Context(), `INSERT INTO avouch.domain (tenant_id, domain, token, created_at, proved_at) VALUES ($1, 'acme.example', 'x', now(), now() - interval '1 day')`, tx.Tenant())
		return audit.Event{Type: "domain.proved"}, err
	}))
	if _, why := s.browser().signIn(t, user("15", "fifteen@acme.example")); why != ReasonDomain {
		t.Errorf("a domain that another organisation proved first: %q", why)
	}
}

// TestAccountsAreNotTaken: an address alone gives no account away that is worth more than the provider.
func TestAccountsAreNotTaken(t *testing.T) {
	t.Parallel()
	s := open(t)
	grace := s.member(t, s.acme, "grace@acme.example")
	a, why := s.browser().signIn(t, user("grace-1", "grace@acme.example"))
	if why != "" || a.Person != grace {
		t.Fatalf("a member's own account: %+v, refused: %s", a, why)
	}
	if a, why := s.browser().signIn(t, user("grace-1", "hopper@elsewhere.example", "email_verified", false)); why != "" || a.Person != grace {
		t.Errorf("the address changed at the provider: %+v, refused: %s", a, why)
	}
	if f, _ := s.profile(t, grace); f.Address != "grace@acme.example" {
		t.Errorf("the provider changed the address here: %s", f.Address)
	}
	if _, why := s.browser().signIn(t, user("grace-2", "grace@acme.example")); why != ReasonElse {
		t.Errorf("the address was given to somebody else there: %q", why)
	}
	if _, why := s.browser().signIn(t, user("ada-1", "ada@acme.example")); why != ReasonElse {
		t.Errorf("an owner's account: %q", why)
	}
	admin := s.member(t, s.acme, "admin@acme.example", org.RoleAdmin)
	only := s.caller(s.acme, s.ada, 0, "sso:read", "sso:write", "agents:read", "keys:read", "members:read", "organisation:read")
	_, err := s.rooms[0].Update(t.Context(), only, s.conn.ID, `"2"`, Reconfigure{})
	want(t, err, "conflict", "an old version")
	s.reconfigure(t, only, Reconfigure{Admission: &Admission{JIT: true, Roles: []string{org.RoleViewer}, Groups: nil}, Name: new("taken over")})
	if _, why := s.browser().signIn(t, user("admin-1", "admin@acme.example")); why != ReasonCeiling {
		t.Errorf("an administrator's account, by a connection of somebody who may do less: %q", why)
	}
	s.reconfigure(t, s.owner, Reconfigure{})
	if a, why := s.browser().signIn(t, user("admin-1", "admin@acme.example")); why != "" || a.Person != admin {
		t.Errorf("by one of an owner's: %q", why)
	}
	_, err = s.people.SuspendPerson(t.Context(), tenantdb.System(s.acme, "test"), grace)
	must(t, err)
	if _, why := s.browser().signIn(t, user("grace-1", "grace@acme.example")); why != ReasonInactive {
		t.Errorf("suspended: %q", why)
	}
}

// TestPromotedLater: a provider that an administrator chose is believed about a member, and about the same person no more when they
// have become an owner; nor is it believed about an owner who linked the account by hand, once an administrator changed it.
func TestPromotedLater(t *testing.T) {
	t.Parallel()
	s := open(t)
	admin := s.caller(s.acme, s.member(t, s.acme, "eve@acme.example", org.RoleAdmin), 0, tenantdb.Capabilities()...)
	provider := *s.conn.Settings.OIDC
	chosen := func(by tenantdb.Caller) { o := provider; s.reconfigure(t, by, Reconfigure{OIDC: &o}) }
	chosen(admin)
	grace := s.member(t, s.acme, "grace@acme.example")
	if a, why := s.browser().signIn(t, user("grace-1", "grace@acme.example")); why != "" || a.Person != grace {
		t.Fatalf("a member: %+v, refused: %s", a, why)
	}
	vouches := func(want bool, what string) {
		t.Helper()
		must(t, s.DB.Read(t.Context(), s.owner, func(tx *tenantdb.ReadTx) error {
			st, err := s.people.Standing(t.Context(), tx, grace)
			must(t, err)
			got, err := s.rooms[1].Vouches(t.Context(), tx, s.conn.ID, st.Capabilities)
			if err != nil || got != want {
				t.Errorf("%s: believed: %v, %v", what, got, err)
			}
			return nil
		}))
	}
	vouches(true, "a member's session")
	_, err := s.people.UpdatePerson(t.Context(), s.owner, grace, "", org.PersonChange{Roles: &[]string{org.RoleOwner}})
	must(t, err)
	if _, why := s.browser().signIn(t, user("grace-1", "grace@acme.example")); why != ReasonCeiling {
		t.Errorf("who became an owner: %q", why)
	}
	vouches(false, "an owner's session")
	chosen(s.owner)
	if a, why := s.browser().signIn(t, user("grace-1", "grace@acme.example")); why != "" || a.Person != grace {
		t.Errorf("by a connection of an owner's: %+v, refused: %s", a, why)
	}
	s.reconfigure(t, admin, Reconfigure{Name: new("another name")})
	vouches(true, "the same, by another name")
	chosen(admin)
	if _, why := s.browser().signIn(t, user("grace-1", "")); why != ReasonCeiling {
		t.Errorf("after an administrator changed it: %q", why)
	}
	s.provider.SignIn(user("ada-1", ""))
	b := s.browser()
	back, _ := oidcprovider.Visit(t, b.begin(t, "/api/v1/sso/prove", map[string]any{"connection_id": s.conn.ID.String(), "link": true}))
	if _, why := s.arrival(t, b.back(t, 0, back)); why != ReasonCeiling {
		t.Errorf("an owner links by it: %q", why)
	}
	chosen(s.owner)
	_, err = s.rooms[0].Switch(t.Context(), s.owner, s.conn.ID, false)
	must(t, err)
	vouches(false, "switched off")
}

func TestLink(t *testing.T) {
	t.Parallel()
	s := open(t)
	link := func(u oidcprovider.User) (Arrival, Reason) {
		s.provider.SignIn(u)
		b := s.browser()
		back, _ := oidcprovider.Visit(t, b.begin(t, "/api/v1/sso/prove", map[string]any{"connection_id": s.conn.ID.String(), "link": true}))
		return s.arrival(t, b.back(t, 0, back))
	}
	if _, why := link(user("ada-1", "")); why != "" || len(s.arrived) != 0 {
		t.Fatalf("refused: %q; a link begins no session: %v", why, s.arrived)
	}
	if a, why := s.browser().signIn(t, user("ada-1", "")); why != "" || a.Person != s.ada {
		t.Errorf("the owner signs in by it: %+v, refused: %s", a, why)
	}
	if _, why := link(user("mallory-1", "")); why != ReasonOther {
		t.Errorf("a second name: %q", why)
	}
	grace, _ := s.browser().signIn(t, user("grace-1", "grace@acme.example"))
	if _, why := link(user("grace-1", "")); why != ReasonOther {
		t.Errorf("the name of somebody else: %q", why)
	}
	s.apis[0] = s.api(s.Door, s.rooms[0], s.caller(s.acme, s.member(t, s.acme, "bob@acme.example"), 0))
	if _, why := link(user("grace-1", "")); why != ReasonOther {
		t.Errorf("the name of somebody else, for who has none: %q", why)
	}
	s.apis[0] = s.api(s.Door, s.rooms[0], s.caller(s.acme, s.ada, tenantdb.FreshProof+1, tenantdb.Everything))
	w := s.browser().send(t, 0, http.MethodPost, "/api/v1/sso/prove", `{"connection_id":"`+s.conn.ID.String()+`","link":true}`, "Content-Type", "application/json")
	if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "Prove yourself again") {
		t.Errorf("without a fresh proof: %d %s", w.Code, w.Body)
	}
	must(t, s.rooms[0].Unlink(t.Context(), s.owner, s.conn.ID, grace.Person))
	want(t, s.rooms[0].Unlink(t.Context(), s.owner, s.conn.ID, grace.Person), "missing", "unlinked twice")
	if a, why := s.browser().signIn(t, user("grace-new", "grace@acme.example")); why != "" || a.Person != grace.Person {
		t.Errorf("after her name was forgotten: %q", why)
	}
	weak := s.caller(s.acme, s.member(t, s.acme, "sso@acme.example", org.RoleAdmin), 0, tenantdb.Capabilities()...)
	want(t, s.rooms[0].Unlink(t.Context(), weak, s.conn.ID, s.ada), "denied", "an owner's name, forgotten by somebody else")
}

func TestInvited(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.reconfigure(t, s.owner, Reconfigure{Admission: &Admission{}})
	invite := func(address string, roles ...string) {
		_, err := s.people.Invite(t.Context(), s.owner, org.NewInvitation{Address: address, Roles: roles})
		must(t, err)
	}
	invite("guest@elsewhere.example", org.RoleAuditor)
	invite("grace@acme.example", org.RoleAdmin)
	invite("boss@acme.example", org.RoleOwner)
	if _, why := s.browser().signIn(t, user("guest-1", "guest@elsewhere.example", "email_verified", false)); why != ReasonUnverified {
		t.Errorf("an address that is not verified: %q", why)
	}
	if a, why := s.browser().signIn(t, user("guest-1", "Guest@Elsewhere.example")); why != "" {
		t.Errorf("refused: %q", why)
	} else if _, st := s.profile(t, a.Person); !slices.Equal(st.Roles, []string{org.RoleAuditor}) {
		t.Errorf("joined with %v", st.Roles)
	}
	if _, why := s.browser().signIn(t, user("guest-2", "guest@elsewhere.example")); why != ReasonDomain {
		t.Errorf("the invitation works twice: %q", why)
	}
	if _, why := s.browser().signIn(t, user("boss-1", "boss@acme.example")); why != ReasonCeiling {
		t.Errorf("an owner's invitation: %q", why)
	}
	viewer := s.caller(s.acme, s.ada, 0, "sso:read", "sso:write")
	s.reconfigure(t, viewer, Reconfigure{})
	if _, why := s.browser().signIn(t, user("grace-1", "grace@acme.example")); why != ReasonCeiling {
		t.Errorf("an invitation to more than the configurer holds: %q", why)
	}
	s.reconfigure(t, s.owner, Reconfigure{})
	if _, why := s.browser().signIn(t, user("grace-1", "grace@acme.example")); why != "" {
		t.Errorf("refused: %q", why)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	s := open(t)
	group := func(name string, roles ...string) org.GroupID {
		g, err := s.people.CreateGroup(t.Context(), s.owner, org.NewGroup{Name: name, Roles: roles})
		must(t, err)
		return g.ID
	}
	admins, auditors, own := group("Admins", org.RoleAdmin), group("Auditors", org.RoleAuditor), group("Own", org.RoleViewer)
	s.reconfigure(t, s.owner, Reconfigure{Admission: &Admission{JIT: true, Roles: []string{org.RoleViewer}, Groups: map[string]org.GroupID{"it-admins": admins, "audit": auditors}}})
	in := func(groups any) []string {
		a, why := s.browser().signIn(t, user("grace-1", "grace@acme.example", "groups", groups))
		if why != "" {
			t.Fatal(why)
		}
		_, st := s.profile(t, a.Person)
		return st.Roles
	}
	if got := in([]string{"it-admins", "audit", "something else"}); !slices.Equal(got, []string{org.RoleAdmin, org.RoleAuditor, org.RoleViewer}) {
		t.Errorf("%v", got)
	}
	if got := in("audit"); !slices.Equal(got, []string{org.RoleAuditor, org.RoleViewer}) {
		t.Errorf("one, without a list: %v", got)
	}
	if got := in(nil); !slices.Equal(got, []string{org.RoleViewer}) {
		t.Errorf("no claim is no group: %v", got)
	}
	grace := s.arrived[len(s.arrived)-1].Person
	_, err := s.people.AddMember(t.Context(), s.owner, own, grace)
	must(t, err)
	_, err = s.people.AddMember(t.Context(), s.owner, admins, grace)
	want(t, err, "conflict", "into the directory's group by hand")
	if got := in(nil); len(got) != 1 {
		t.Errorf("%v", got)
	}
	if _, st := s.profile(t, grace); !st.Active {
		t.Error("inactive")
	}
	// The group is widened later: whoever configured the connection did not hold that.
	s.reconfigure(t, s.caller(s.acme, s.ada, 0, append(tenantdb.Capabilities(), "sso:write")...), Reconfigure{})
	limited := s.caller(s.acme, s.ada, 0, "sso:read", "sso:write", "agents:read", "keys:read", "members:read", "organisation:read", "audit:read", "breakglass:read")
	s.reconfigure(t, limited, Reconfigure{Admission: &Admission{JIT: true, Roles: []string{org.RoleViewer}, Groups: map[string]org.GroupID{"audit": auditors}}})
	if got := in([]string{"it-admins", "audit"}); !slices.Equal(got, []string{org.RoleAuditor, org.RoleViewer}) {
		t.Errorf("%v", got)
	}
	_, err = s.people.UpdateGroup(t.Context(), s.owner, auditors, "", org.GroupChange{Roles: &[]string{org.RoleAdmin}})
	must(t, err)
	if got := in([]string{"audit"}); !slices.Equal(got, []string{org.RoleViewer}) {
		t.Errorf("a group that was widened takes people in: %v", got)
	}
	if e := s.OfType(t, s.acme, "person.groups_mapped"); len(e) == 0 || e[0].Field("added") != "2" {
		t.Errorf("%+v", e)
	}
}

// TestStartTellsNothing: of people nothing is asked, so nothing is told.
func TestStartTellsNothing(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.member(t, s.acme, "grace@acme.example")
	type said struct {
		status  int
		kind    string
		shape   int
		cookies int
	}
	ask := func(body map[string]any) said {
		text, err := json.Marshal(body)
		must(t, err)
		w := s.browser().send(t, 0, http.MethodPost, "/api/v1/sso/start", string(text), "Content-Type", "application/json")
		var out map[string]string
		must(t, json.Unmarshal(w.Body.Bytes(), &out))
		return said{w.Code, out["kind"], len(out), len(w.Result().Cookies())}
	}
	member, stranger := ask(map[string]any{"address": "grace@acme.example"}), ask(map[string]any{"address": "nobody@acme.example"})
	if member != stranger || member != (said{200, "oidc", 2, 1}) {
		t.Errorf("a member %+v, a stranger %+v", member, stranger)
	}
	none := ask(map[string]any{"address": "grace@nowhere.example"})
	if none != (said{200, "password", 2, 0}) {
		t.Errorf("a domain without a connection: %+v", none)
	}
	for what, body := range map[string]map[string]any{
		"what is no address": {"address": "grace"}, "nothing": {}, "no connection": {"connection_id": "x"}, "a connection that nobody has": {"connection_id": "0198a000-0000-7000-8000-000000000001"},
	} {
		if got := ask(body); got != none {
			t.Errorf("%s: %+v", what, got)
		}
	}
	_, err := s.rooms[0].Switch(t.Context(), s.owner, s.conn.ID, false)
	must(t, err)
	if got := ask(map[string]any{"address": "grace@acme.example"}); got != none {
		t.Errorf("a connection that is switched off: %+v", got)
	}
}

func TestEnd(t *testing.T) {
	t.Parallel()
	s := open(t)
	helper := s.member(t, s.acme, "helper@acme.example", org.RoleAdmin)
	s.reconfigure(t, s.caller(s.acme, helper, 0, tenantdb.Capabilities()...), Reconfigure{})
	if n, err := s.rooms[0].Get(t.Context(), s.owner, s.conn.ID); err != nil || len(n.Warnings) != 0 {
		t.Errorf("%v, %v", n.Warnings, err)
	}
	if _, why := s.browser().signIn(t, user("helper-1", "helper@acme.example")); why != "" {
		t.Fatal(why)
	}
	_, err := s.people.UpdatePerson(t.Context(), s.owner, helper, "", org.PersonChange{Roles: &[]string{org.RoleMember}})
	must(t, err)
	if n, err := s.rooms[0].Get(t.Context(), s.owner, s.conn.ID); err != nil || !slices.Equal(n.Warnings, []string{WarnConfigurer}) {
		t.Errorf("the configurer was demoted: %v, %v", n.Warnings, err)
	}
	ending := org.New(org.Config{DB: s.DB, Ring: s.Ring, Now: s.clock, Endings: map[string]org.Ending{"identities": s.rooms[0].End}})
	report, err := ending.Remove(t.Context(), s.owner, helper)
	if err != nil || report.Ended["identities"] != 1 || !slices.Equal(s.told, []Notice{{Kind: NoticeConfigurer, Connection: s.conn.ID}}) {
		t.Errorf("%+v, %v, told %+v", report, err, s.told)
	}
	for _, subject := range []string{"helper-1", "helper-2"} {
		if _, why := s.browser().signIn(t, user(subject, "helper@acme.example")); why != ReasonRemoved {
			t.Errorf("somebody who was removed comes back by the provider alone, as %s: refused: %q", subject, why)
		}
	}
	_, err = s.people.Invite(t.Context(), s.owner, org.NewInvitation{Address: "helper@acme.example", Roles: []string{org.RoleMember}})
	must(t, err)
	if a, why := s.browser().signIn(t, user("helper-2", "helper@acme.example")); why != "" || a.Person == helper {
		t.Errorf("invited again, they are another person: %+v, refused: %s", a, why)
	}
	if n, err := s.rooms[0].List(t.Context(), s.owner); err != nil || !slices.Equal(n[0].Warnings, []string{WarnConfigurer}) || !n[0].Enabled {
		t.Errorf("the configurer was removed: %+v, %v", n, err)
	}
}
