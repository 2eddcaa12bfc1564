package session

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

func startOnly(t testing.TB, h *house, n New) func(*tenantdb.Tx) (audit.Event, error) {
	return func(tx *tenantdb.Tx) (audit.Event, error) {
		s, _, err := h.room.Start(t.Context(), tx, n)
		return s.Event(), err
	}
}

// listed are the sessions of an answer, by id.
func sessionsIn(t testing.TB, body map[string]any) map[string]map[string]any {
	t.Helper()
	out := map[string]map[string]any{}
	for _, s := range body["sessions"].([]any) {
		s := s.(map[string]any)
		out[s["session_id"].(string)] = s
	}
	return out
}

func TestOwnSessions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	api := h.another(t).api()
	mine, v := h.start(t, browser(h.person))
	second, v2 := h.start(t, browser(h.person))
	_, v3 := h.start(t, program(h.person))
	stranger := h.join(t, Standing{})
	theirs, vt := h.start(t, browser(stranger))

	a := call(t, api, "GET", "/api/v1/sessions", withCookie(v), nil)
	all := sessionsIn(t, a.Body)
	if one := all[mine.ID.String()]; len(all) != 3 || one["program"] != "Firefox on Linux" || one["device"] != "Ada's laptop" || one["address"] != "192.0.2.1" || one["current"] != true {
		t.Errorf("the list is %s", a.Raw)
	}
	if all[second.ID.String()]["current"] != false || strings.Contains(a.Raw, v) || strings.Contains(a.Raw, theirs.ID.String()) {
		t.Errorf("the list is %s", a.Raw)
	}
	if a := call(t, api, "POST", "/api/v1/sessions/"+theirs.ID.String()+"/end", withCookie(v), nil); a.Status != 404 {
		t.Errorf("another's session: %+v", a)
	}
	if a := call(t, api, "POST", "/api/v1/sessions/"+second.ID.String()+"/end", withCookie(v), nil); a.Status != 204 {
		t.Errorf("ending one: %+v", a)
	}
	h.refused(t, "ended on the other server", withCookie(v2))
	e := h.Last(t, h.tenant)
	if e.Type != "session.ended" || e.Target.ID != second.ID.String() || e.Actor.ID != h.person.String() || e.Field("why") != "ended" {
		t.Errorf("the entry is %+v", e.Entry)
	}
	if a := call(t, api, "POST", "/api/v1/sessions/"+second.ID.String()+"/end", withCookie(v), nil); a.Status != 204 || h.Last(t, h.tenant).Seq != e.Seq {
		t.Errorf("ending it again: %+v", a)
	}
	if a := call(t, api, "POST", "/api/v1/sessions/end-others", withCookie(v), nil); a.Status != 200 || a.Body["ended"] != 1.0 {
		t.Errorf("ending the others: %+v", a)
	}
	if _, err := h.room.Refresh(t.Context(), meta(), renewal(v3)); !problem.Is(err, problem.Unauthenticated) {
		t.Errorf("the program's session goes on: %v", err)
	}
	a = call(t, api, "POST", "/api/v1/sign-out", withCookie(v), nil)
	if a.Status != 204 || a.Header.Get("Set-Cookie") != "__Host-avouch=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax" {
		t.Errorf("signing out: %+v", a)
	}
	h.refused(t, "signed out", withCookie(v))
	h.counts(t, withCookie(vt))
}

func TestWhoAmI(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s, v := h.start(t, browser(h.person))
	a := call(t, h.api(), "GET", "/api/v1/session", withCookie(v), nil)
	if a.Body["person_id"] != h.person.String() || a.Body["tenant_id"] != h.tenant.String() || a.Body["session_id"] != s.ID.String() || a.Body["kind"] != "browser" ||
		a.Body["expires_at"] != s.ExpiresAt.Format(time.RFC3339Nano) || len(a.Body["capabilities"].([]any)) != 2 || len(a.Body["lent"].([]any)) != 0 {
		t.Errorf("who am I: %s", a.Raw)
	}
	api := h.API(doortest.As(h.Caller(h.tenant, tenantdb.Everything)))
	h.room.Routes(api)
	for _, path := range []string{"/api/v1/session", "/api/v1/sessions"} {
		if a := call(t, api, "GET", path, nil, nil); a.Status != 403 {
			t.Errorf("%s for a key: %+v", path, a)
		}
	}
}

func TestMembersSessions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	api := h.api()
	admin := h.join(t, Standing{Capabilities: []string{"agents:read", "agents:write", "members:read", "members:write"}})
	reader := h.join(t, Standing{Capabilities: []string{"members:read"}})
	owner := h.join(t, Standing{Capabilities: []string{tenantdb.Everything}})
	sign := func(p tenantdb.PersonID) []string { _, v := h.start(t, browser(p)); return withCookie(v) }
	member, asAdmin, asReader, asOwner := sign(h.person), sign(admin), sign(reader), sign(owner)
	of := func(p tenantdb.PersonID) string { return "/api/v1/members/" + p.String() + "/sessions" }

	if a := call(t, api, "GET", of(h.person), member, nil); a.Status != 403 {
		t.Errorf("a member lists: %+v", a)
	}
	if a := call(t, api, "GET", of(h.person), asReader, nil); a.Status != 200 || len(sessionsIn(t, a.Body)) != 1 || strings.Contains(a.Raw, "192.0.2.1") || strings.Contains(a.Raw, "Firefox") || strings.Contains(a.Raw, "laptop") {
		t.Errorf("a reader lists: %+v", a)
	}
	if a := call(t, api, "GET", of(h.person), asAdmin, nil); a.Status != 200 || !strings.Contains(a.Raw, "192.0.2.1") || !strings.Contains(a.Raw, "Firefox") {
		t.Errorf("an administrator lists: %+v", a)
	}
	for _, c := range []struct {
		who    string
		as     []string
		of     tenantdb.PersonID
		status int
	}{
		{"a member ends another's", member, admin, 403}, {"a reader ends a member's", asReader, h.person, 403}, {"an administrator ends an owner's", asAdmin, owner, 403},
		{"of nobody", asAdmin, audit.NewSubjectID(), 404},
	} {
		if a := call(t, api, "POST", of(c.of)+"/end", c.as, nil); a.Status != c.status {
			t.Errorf("%s: %+v", c.who, a)
		}
	}
	for _, headers := range [][]string{member, asOwner, asReader} {
		h.counts(t, headers)
	}
	if a := call(t, api, "POST", of(h.person)+"/end", asAdmin, nil); a.Status != 200 || a.Body["ended"] != 1.0 {
		t.Errorf("an administrator ends a member's: %+v", a)
	}
	h.refused(t, "ended by an administrator", member)
	if e := h.Last(t, h.tenant); e.Type != "sessions.ended" || e.Actor.ID != admin.String() || e.Target.ID != h.person.String() || e.Field("sessions") != "1" {
		t.Errorf("the entry is %+v", e.Entry)
	}
	if a := call(t, api, "POST", of(admin)+"/end", asOwner, nil); a.Status != 200 {
		t.Errorf("an owner ends an administrator's: %+v", a)
	}
	// What is lent outranks nobody.
	c := tenantdb.NewCaller(tenantdb.CallerSpec{Tenant: h.tenant, Actor: audit.Actor{Kind: audit.ActorPerson, ID: reader.String()}, How: "test",
		Scopes: []string{"members:read"}, RequestID: audit.NewRequestID(), Person: &tenantdb.Person{ID: reader, Lent: []string{tenantdb.Everything}}})
	if _, err := h.room.EndOf(t.Context(), c, owner); !problem.Is(err, problem.Denied) {
		t.Errorf("with broken glass an owner's sessions end: %v", err)
	}
	other := h.Tenant(t, "Other")
	if all, err := h.room.Of(t.Context(), h.Caller(other, tenantdb.Everything), owner); err != nil || len(all) != 0 {
		t.Errorf("another organisation sees %v, %v", all, err)
	}
}

func TestEndEverythingOfAPerson(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	kept, v := h.start(t, browser(h.person))
	_, v2 := h.start(t, browser(h.person))
	h.start(t, program(h.person))
	n := 0
	h.change(t, func(tx *tenantdb.Tx) (err error) {
		if n, err = h.room.Count(t.Context(), &tx.ReadTx, h.person); err != nil {
			return err
		}
		ended, err := h.room.EndOthers(t.Context(), tx, h.person, kept.ID, "password")
		if n != 3 || ended != 2 {
			t.Errorf("of %d sessions %d ended", n, ended)
		}
		return err
	})
	h.counts(t, withCookie(v))
	h.refused(t, "one of the others", withCookie(v2))
	h.clock.advance(13 * time.Hour)
	h.change(t, func(tx *tenantdb.Tx) (err error) {
		n, err = h.room.End(t.Context(), tx, h.person, "removed")
		return err
	})
	if n != 0 {
		t.Errorf("%d sessions are said to have been in force after 13 idle hours", n)
	}
	if left := h.Text(t, `SELECT count(*)::text FROM avouch.session WHERE ended_at IS NULL`); left != "0" {
		t.Errorf("%s sessions are left", left)
	}
}

func TestKnownDevices(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	other := h.join(t, Standing{})
	knows := func(p tenantdb.PersonID, cookie string) (known bool) {
		t.Helper()
		must(t, h.DB.Read(t.Context(), tenantdb.System(h.tenant, "test"), func(tx *tenantdb.ReadTx) (err error) {
			known, err = h.room.KnownDevice(t.Context(), tx, p, cookie)
			return err
		}))
		return known
	}
	remember := func(p tenantdb.PersonID, cookie string) (fresh string) {
		t.Helper()
		h.change(t, func(tx *tenantdb.Tx) error {
			v, err := h.room.RememberDevice(t.Context(), tx, p, cookie)
			fresh = v.Expose()
			return err
		})
		return fresh
	}
	planted, _ := value()
	first := remember(h.person, planted.Expose())
	if knows(h.person, planted.Expose()) || !knows(h.person, first) || knows(other, first) || knows(h.person, "") || knows(tenantdb.PersonID{}, first) {
		t.Error("who is known on which device is wrong")
	}
	if !strings.Contains(first, planted.Expose()) || !slices.Equal(values(remember(h.person, first)), values(first)) {
		t.Error("what others left on the device is lost, or the person gets a new value each time")
	}
	both := remember(other, first)
	if !knows(h.person, both) || !knows(other, both) {
		t.Error("two people on one device push each other out")
	}
	for range 2 * mostDevices {
		remember(h.person, "")
		h.clock.advance(time.Second)
	}
	if n := h.Text(t, `SELECT count(*)::text FROM avouch.device WHERE person_id = $1`, h.person); n != "20" || knows(h.person, first) {
		t.Errorf("%s devices of one person are remembered", n)
	}
	if long := strings.Repeat(planted.Expose()+".", 50); len(values(long)) != 1 {
		t.Errorf("of one value there are %d", len(values(long)))
	}
	last := remember(h.person, "")
	h.clock.advance(deviceLife)
	if knows(h.person, last) {
		t.Error("a device is known for ever")
	}
	last = remember(h.person, "")
	h.change(t, func(tx *tenantdb.Tx) error { _, err := h.room.ForgetDevices(t.Context(), tx, h.person); return err })
	if knows(h.person, last) || !knows(other, remember(other, both)) {
		t.Error("forgetting devices forgets too few or too many")
	}
	if got := h.room.DeviceOf(request("GET", "Cookie", "__Host-avouch-device="+both)); got != strings.Join(values(both), ".") {
		t.Errorf("the cookie says %q", got)
	}
}
