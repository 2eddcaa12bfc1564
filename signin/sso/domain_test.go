package sso

import (
	"slices"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
	"github.com/avouch-dev/avouch/test/oidcprovider"
)

func visit(t *testing.T, address string) string {
	t.Helper()
	back, _ := oidcprovider.Visit(t, address)
	return back
}

func TestNormalDomain(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"Acme.Example": "acme.example", "acme.example.": "acme.example", "bücher.example": "xn--bcher-kva.example", "a.b.co.uk": "a.b.co.uk", "acme.co.uk": "acme.co.uk",
		"co.uk": "", "com": "", "github.io": "", "s3.amazonaws.com": "", "localhost": "", "": "", "1.2.3.4": "", "a..b": "", "-a.example": "", "a_b.example": "", "a b.example": "", "user@acme.example": "", "acme.example/x": "", "*.acme.example": "",
	} {
		if got, err := NormalDomain(name); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
}

func FuzzNormalDomain(f *testing.F) {
	for _, s := range []string{"acme.example", "bücher.example", "co.uk", "ACME.example.", "xn--a.example", "1.1.1.1", "c7R\xdd.e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		one, err := NormalDomain(s)
		if err != nil {
			return
		}
		if two, err := NormalDomain(one); err != nil || two != one {
			t.Errorf("%q is %q, which is %q, %v", s, one, two, err)
		}
		if DomainOf("somebody@"+one) != one {
			t.Errorf("%q is not the domain of its own addresses", one)
		}
	})
}

func TestDomains(t *testing.T) {
	t.Parallel()
	s := open(t)
	api := s.apis[0]
	add := func(name string) doortest.Answer {
		return doortest.Call(t, api, doortest.Request{Method: "POST", Path: "/api/v1/domains", Body: map[string]any{"domain": name, "connection_id": s.conn.ID.String()}})
	}
	if a := add("co.uk"); a.Status != 400 {
		t.Errorf("a public suffix: %d %s", a.Status, a.Raw)
	}
	if a := add("acme.example"); a.Status != 409 {
		t.Errorf("twice: %d %s", a.Status, a.Raw)
	}
	made := add("Labs.Example")
	if made.Status != 201 || made.Body["domain"] != "labs.example" || made.Body["record"] != "_avouch-challenge.labs.example" || made.Body["proved_at"] != nil || len(made.Body["token"].(string)) < 40 {
		t.Fatalf("%d %s", made.Status, made.Raw)
	}
	prove := func() doortest.Answer {
		return doortest.Call(t, api, doortest.Request{Method: "POST", Path: "/api/v1/domains/labs.example/prove"})
	}
	if a := prove(); a.Status != 409 {
		t.Errorf("without a record: %d %s", a.Status, a.Raw)
	}
	s.dns.set("_avouch-challenge.labs.example", "avouch-domain-proof=of somebody else")
	if a := prove(); a.Status != 409 {
		t.Errorf("with another's: %d %s", a.Status, a.Raw)
	}
	s.dns.fail(true)
	if a := prove(); a.Status != 503 {
		t.Errorf("DNS is down: %d %s", a.Status, a.Raw)
	}
	s.dns.fail(false)
	if _, why := s.browser().signIn(t, user("1", "one@labs.example")); why != ReasonDomain {
		t.Errorf("before it is proved: %q", why)
	}
	s.dns.set("_avouch-challenge.labs.example", made.Body["token"].(string))
	if a := prove(); a.Status != 200 || a.Body["proved_at"] == nil {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	if _, why := s.browser().signIn(t, user("1", "one@labs.example")); why != "" {
		t.Errorf("afterwards: %q", why)
	}
	if a := doortest.Call(t, api, doortest.Request{Method: "GET", Path: "/api/v1/domains"}); a.Status != 200 || len(a.Body["domains"].([]any)) != 2 {
		t.Errorf("%s", a.Raw)
	}
	if a := doortest.Call(t, api, doortest.Request{Method: "DELETE", Path: "/api/v1/domains/labs.example"}); a.Status != 204 {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	weak := s.caller(s.acme, s.ada, 0, "sso:read")
	_, err := s.rooms[0].AddDomain(t.Context(), weak, "x.example", ID{})
	want(t, err, "denied", "without sso:write")
	_, err = s.rooms[0].Prove(t.Context(), s.caller(s.acme, s.ada, time.Hour, "*"), "acme.example")
	want(t, err, "denied", "without a fresh proof")
}

// TestFirstProverHasIt: two organisations can both write records at different times; the first has the domain until it lapses.
func TestFirstProverHasIt(t *testing.T) {
	t.Parallel()
	s := open(t)
	globex := s.Tenant(t, "Globex")
	boss := s.member(t, globex, "boss@globex.example", org.RoleOwner)
	theirs := s.caller(globex, boss, 0, tenantdb.Everything)
	d, err := s.rooms[0].AddDomain(t.Context(), theirs, "acme.example", ID{})
	must(t, err)
	s.dns.set(d.Record(), d.Token)
	_, err = s.rooms[0].Prove(t.Context(), theirs, "acme.example")
	want(t, err, "conflict", "a domain that another organisation has")
	system := tenantdb.System(s.acme, "test")
	must(t, s.rooms[0].Recheck(t.Context(), system)) // within the week: nothing
	steps := []struct {
		wait  time.Duration
		types []string
		told  []Notice
	}{
		{recheckAfter, []string{"domain.lapsing"}, []Notice{{Kind: NoticeDomainLapsing, Domain: "acme.example"}}},
		{recheckAfter, []string{"domain.lapsing", "domain.rechecked"}, []Notice{{Kind: NoticeDomainLapsing, Domain: "acme.example"}}},
		{recheckAfter, []string{"domain.lapsing", "domain.rechecked", "domain.lost"}, []Notice{{Kind: NoticeDomainLapsing, Domain: "acme.example"}, {Kind: NoticeDomainLost, Domain: "acme.example"}}},
	}
	for i, step := range steps {
		s.wait(step.wait)
		s.dns.fail(true)
		must(t, s.rooms[0].Recheck(t.Context(), system)) // no answer is no news
		s.dns.fail(false)
		must(t, s.rooms[0].Recheck(t.Context(), system))
		must(t, s.rooms[1].Recheck(t.Context(), system)) // once a week, on all servers
		var types []string
		for _, e := range s.Entries(t, s.acme) {
			if slices.Contains([]string{"domain.lapsing", "domain.rechecked", "domain.lost"}, e.Type) {
				types = append(types, e.Type)
			}
		}
		if !slices.Equal(types, step.types) || !slices.Equal(s.told, step.told) {
			t.Errorf("after %d weeks: %v, told %+v", i+1, types, s.told)
		}
	}
	theirs = s.caller(globex, boss, 0, tenantdb.Everything)
	if _, err := s.rooms[0].Prove(t.Context(), theirs, "acme.example"); err != nil {
		t.Errorf("after it was lost: %v", err)
	}
}

func TestRecordComesBack(t *testing.T) {
	t.Parallel()
	s := open(t)
	d, err := s.rooms[0].GetDomain(t.Context(), s.owner, "acme.example")
	must(t, err)
	s.dns.set(d.Record(), "gone")
	s.wait(recheckAfter)
	must(t, s.rooms[0].Recheck(t.Context(), tenantdb.System(s.acme, "test")))
	if d, _ := s.rooms[0].GetDomain(t.Context(), s.caller(s.acme, s.ada, 0, "*"), "acme.example"); d.LapsedAt.IsZero() || d.ProvedAt.IsZero() {
		t.Errorf("%+v", d)
	}
	s.dns.set(d.Record(), d.Token)
	s.wait(recheckAfter)
	must(t, s.rooms[0].Recheck(t.Context(), tenantdb.System(s.acme, "test")))
	if d, _ := s.rooms[0].GetDomain(t.Context(), s.caller(s.acme, s.ada, 0, "*"), "acme.example"); !d.LapsedAt.IsZero() || d.ProvedAt.IsZero() {
		t.Errorf("%+v", d)
	}
}

// TestRequired: people of the domain sign in by the connection and their other sessions end; owners keep their way in.
func TestRequired(t *testing.T) {
	t.Parallel()
	s := open(t)
	grace, bob := s.member(t, s.acme, "grace@acme.example"), s.member(t, s.acme, "bob@elsewhere.example")
	for _, p := range []PersonID{grace, bob, s.ada} {
		s.session(t, p, ID{})
		s.session(t, p, s.conn.ID)
	}
	required := func(address string, roles ...string) ID {
		t.Helper()
		var n ID
		must(t, s.DB.Read(t.Context(), tenantdb.System(s.acme, "test"), func(tx *tenantdb.ReadTx) (err error) {
			n, err = s.rooms[1].Required(t.Context(), tx, address, roles)
			return err
		}))
		return n
	}
	if !required("grace@acme.example").IsZero() {
		t.Error("required at first")
	}
	d, err := s.rooms[0].AddDomain(t.Context(), s.owner, "unproved.example", s.conn.ID)
	must(t, err)
	_, err = s.rooms[0].SetDomain(t.Context(), s.owner, d.Name, Redirect{Required: new(true)})
	want(t, err, "conflict", "an unproved domain")
	_, err = s.rooms[0].SetDomain(t.Context(), s.owner, "acme.example", Redirect{Required: new(true)})
	must(t, err)
	if s.live(t, grace) != "1" || s.live(t, bob) != "2" || s.live(t, s.ada) != "2" {
		t.Errorf("live: grace %s, bob %s, ada %s", s.live(t, grace), s.live(t, bob), s.live(t, s.ada))
	}
	if required("grace@acme.example", org.RoleAdmin) != s.conn.ID || !required("bob@elsewhere.example").IsZero() || !required("ada@acme.example", org.RoleOwner).IsZero() || !required("x@unproved.example").IsZero() {
		t.Error("it is required of others than it should be")
	}
	_, err = s.rooms[0].Switch(t.Context(), s.owner, s.conn.ID, false)
	must(t, err)
	if !required("grace@acme.example").IsZero() {
		t.Error("a connection that is switched off is required: nobody could sign in")
	}
	_, err = s.rooms[0].SetDomain(t.Context(), s.owner, "acme.example", Redirect{Required: new(true)})
	want(t, err, "conflict", "by a connection that is switched off")
}

// TestDemoted: an owner's password session is of whoever is no owner any more as little as another's.
func TestDemoted(t *testing.T) {
	t.Parallel()
	s := open(t)
	demote := func() (ended int) {
		t.Helper()
		must(t, s.DB.Change(t.Context(), tenantdb.System(s.acme, "test"), func(tx *tenantdb.Tx) (e audit.Event, err error) {
			ended, err = s.rooms[0].Demoted(t.Context(), tx, s.ada, "owner_no_more")
			return audit.Event{Type: "member.updated"}, err
		}))
		return ended
	}
	s.session(t, s.ada, ID{})
	s.session(t, s.ada, s.conn.ID)
	if n := demote(); n != 0 {
		t.Errorf("%d sessions ended where no connection is required", n)
	}
	_, err := s.rooms[0].SetDomain(t.Context(), s.owner, "acme.example", Redirect{Required: new(true)})
	must(t, err)
	if n := demote(); n != 1 || s.live(t, s.ada) != "1" {
		t.Errorf("%d sessions ended, %s live", n, s.live(t, s.ada))
	}
}

// TestRequiredAgain: what password began while nobody could come by the connection ends when it is required again.
func TestRequiredAgain(t *testing.T) {
	t.Parallel()
	s := open(t)
	grace, bob := s.member(t, s.acme, "grace@acme.example"), s.member(t, s.acme, "bob@elsewhere.example")
	begin := func() {
		for _, p := range []PersonID{grace, bob, s.ada} {
			s.session(t, p, ID{})
		}
	}
	ended := func(what string, want string) {
		t.Helper()
		if s.live(t, grace) != "0" || s.live(t, bob) != want || s.live(t, s.ada) != want {
			t.Errorf("%s: live: grace %s, bob %s, ada %s", what, s.live(t, grace), s.live(t, bob), s.live(t, s.ada))
		}
	}
	_, err := s.rooms[0].SetDomain(t.Context(), s.owner, "acme.example", Redirect{Required: new(true)})
	must(t, err)
	_, err = s.rooms[0].Switch(t.Context(), s.owner, s.conn.ID, false)
	must(t, err)
	begin()
	_, err = s.rooms[1].Switch(t.Context(), s.owner, s.conn.ID, true)
	must(t, err)
	ended("switched on again", "1")
	d, err := s.rooms[0].GetDomain(t.Context(), s.owner, "acme.example")
	must(t, err)
	s.dns.set(d.Record(), "gone")
	for range 3 {
		s.wait(recheckAfter)
		must(t, s.rooms[0].Recheck(t.Context(), tenantdb.System(s.acme, "test")))
	}
	begin()
	s.dns.set(d.Record(), d.Token)
	if d, err = s.rooms[1].Prove(t.Context(), s.caller(s.acme, s.ada, 0, tenantdb.Everything), d.Name); err != nil || !d.Required {
		t.Fatalf("%+v, %v", d, err)
	}
	ended("proved again", "2")
}

// TestRestoredTakesNothingBack: whoever proved a domain while its organisation was deleted keeps it; the others come back.
func TestRestoredTakesNothingBack(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.prove(t, "labs.example", s.conn.ID)
	s.wait(time.Minute)
	owner := s.caller(s.acme, s.ada, 0, tenantdb.Everything)
	_, err := s.people.Delete(t.Context(), owner, "Acme", "")
	must(t, err)
	globex := s.Tenant(t, "Globex")
	theirs := s.caller(globex, s.member(t, globex, "boss@globex.example", org.RoleOwner), 0, tenantdb.Everything)
	d, err := s.rooms[0].AddDomain(t.Context(), theirs, "acme.example", ID{})
	must(t, err)
	s.dns.set(d.Record(), d.Token)
	_, err = s.rooms[0].Prove(t.Context(), theirs, "acme.example")
	must(t, err)
	must(t, s.people.Restore(t.Context(), tenantdb.System(s.acme, "operator"), "they came back"))
	for name, want := range map[string]tenantdb.TenantID{"acme.example": globex, "labs.example": s.acme} {
		if has, err := s.rooms[0].holder(t.Context(), name); err != nil || has != want {
			t.Errorf("%s is %s's, not %s's: %v", name, has, want, err)
		}
		if d, err := s.rooms[0].GetDomain(t.Context(), owner, name); err != nil || d.ProvedAt.IsZero() != (want == globex) {
			t.Errorf("%+v, %v", d, err)
		}
	}
	if e := s.OfType(t, s.acme, "organisation.restored"); len(e) != 1 || e[0].Field("domains_lost") != "1" {
		t.Errorf("%+v", e)
	}
	if told := (Notice{Kind: NoticeDomainLost, Domain: "acme.example"}); !slices.Equal(s.told, []Notice{told}) {
		t.Errorf("told %+v", s.told)
	}
}
