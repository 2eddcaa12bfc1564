package policy

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

const fine = "Looked at all of it"

func TestGlassReviews(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ada, bob := h.person(t, "*"), h.person(t, "breakglass:approve", "breakglass:read")
	u := h.broken(t, ada, bob)
	review := func(p *someone, remark string) error {
		return second(h.glass.Review(t.Context(), p.caller(), u.ID, remark))
	}
	refused(t, "reviewing what is open", review(bob, fine), problem.Conflict)
	h.clock.pass(time.Hour)
	refused(t, "reviewing one's own", review(ada, fine), problem.Denied)
	refused(t, "without the capability", review(h.person(t, "breakglass:read", "breakglass:write"), fine), problem.Denied)
	refused(t, "with what is lent", review(&someone{h: h, id: bob.id, lent: []string{"breakglass:approve"}}, fine), problem.Denied)
	refused(t, "without a remark", review(bob, "ok"), problem.Invalid)
	if err := h.AsServer(t, h.acme, `UPDATE avouch.break_glass SET reviewed_by = person_id::text, reviewed_at = now(), closed_at = now(), outcome = 'ended'`); err == nil || !strings.Contains(err.Error(), "check") {
		t.Errorf("past the room: %v", err)
	}
	h.clock.pass(reviewWithin)
	api := h.API(doortest.As(bob.caller()))
	h.glass.Routes(api)
	a := doortest.Call(t, api, doortest.Request{Method: "GET", Path: "/api/v1/break-glass?show=unreviewed"})
	if a.Status != http.StatusOK || len(a.Body["uses"].([]any)) != 1 || a.Body["uses"].([]any)[0].(map[string]any)["overdue"] != true {
		t.Errorf("after a week: %s", a.Raw)
	}
	done(t, "reviewing", review(bob, fine))
	if e := h.Last(t, h.acme); e.Type != "break_glass.reviewed" || e.Private["remark"] != fine || strings.Contains(string(e.Body), "Looked") {
		t.Errorf("the log says %+v", e)
	}
	refused(t, "reviewing twice", review(bob, fine), problem.Conflict)
	got, err := h.glass.Get(t.Context(), bob.caller(), u.ID)
	if err != nil || got.Remark != fine || got.Reason != "The pager went off at night" || got.Overdue(h.clock.at()) {
		t.Errorf("it reads %+v, %v", got, err)
	}
	// Erasing the person erases the texts, and nothing else.
	done(t, "erasing", h.Ring.DestroySubject(t.Context(), h.acme, ada.id))
	got, err = h.glass.Get(t.Context(), bob.caller(), u.ID)
	if err != nil || got.Remark != "" || got.Reason != "" || got.ReviewedBy != bob.id.String() {
		t.Errorf("after erasing it reads %+v, %v", got, err)
	}
}

func TestGlassWeeks(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ada, bob := h.person(t, "*"), h.person(t, "breakglass:approve", "breakglass:read")
	h.rules.owners = []tenantdb.PersonID{ada.id}
	remind := func() bool {
		t.Helper()
		did, err := h.glass.Remind(t.Context(), tenantdb.System(h.acme, "break-glass"))
		done(t, "reminding", err)
		return did
	}
	this := monday(start)
	if this != time.Date(2026, 11, 16, 0, 0, 0, 0, time.UTC) || monday(this) != this || monday(this.Add(week-1)) != this {
		t.Fatal("monday is wrong")
	}
	sign := func(p *someone, w time.Time) error {
		return second(h.glass.Sign(t.Context(), p.caller(), w, fine))
	}
	if remind() {
		t.Error("reminded of nothing")
	}
	u := h.broken(t, ada, bob)
	refused(t, "signing a week that goes on", sign(bob, this), problem.Conflict)
	if remind() {
		t.Error("reminded of what is open")
	}
	h.clock.pass(time.Hour)
	if !remind() || remind() {
		t.Error("not reminded once of what is not reviewed")
	}
	h.clock.pass(week)
	refused(t, "signing with a use that is not reviewed", sign(bob, this), problem.Conflict)
	done(t, "reviewing", second(h.glass.Review(t.Context(), bob.caller(), u.ID, fine)))
	if !remind() || remind() || h.mails(t, "glass_review") != "2" {
		t.Error("not reminded once of a week that is not signed off")
	}
	if got := h.Text(t, `SELECT args->>'ids' FROM avouch_jobs.river_job ORDER BY id DESC LIMIT 1`); got != `{"uses": "1", "week": "2026-11-16", "person": "`+ada.id.String()+`"}` {
		t.Errorf("the mail is about %s", got)
	}
	refused(t, "signing what one alone opened", sign(ada, this), problem.Denied)
	refused(t, "signing without the capability", sign(h.person(t, "breakglass:read"), this), problem.Denied)
	refused(t, "signing with what is lent", sign(&someone{h: h, id: bob.id, lent: []string{"breakglass:approve"}}, this), problem.Denied)
	refused(t, "no Monday", sign(bob, this.Add(24*time.Hour)), problem.Invalid)
	refused(t, "a week of nothing", sign(bob, this.Add(-week)), problem.Missing)
	refused(t, "a week to come", sign(bob, this.Add(10*week)), problem.Conflict)
	weeks, err := h.glass.Weeks(t.Context(), bob.caller(), time.Time{}, 10)
	if err != nil || len(weeks) != 1 || weeks[0].Uses != 1 || weeks[0].Unreviewed != 0 || weeks[0].SignedBy != "" {
		t.Errorf("weeks: %+v, %v", weeks, err)
	}
	done(t, "signing", sign(bob, this))
	if e := h.Last(t, h.acme); e.Type != "break_glass.week_signed" || e.Target.ID != "2026-11-16" || e.Field("uses") != "1" || e.Private["remark"] != fine {
		t.Errorf("the log says %+v", e)
	}
	refused(t, "signing twice", sign(bob, this), problem.Conflict)
	h.clock.pass(week)
	if remind() {
		t.Error("reminded though all is signed off")
	}
	if _, err := h.glass.Remind(t.Context(), bob.caller()); !problem.Is(err, problem.Denied) {
		t.Errorf("a person reminds: %v", err)
	}
	// Two who opened something: either may sign, for the other has looked at it.
	eve := h.person(t, "*")
	now := monday(h.clock.at())
	for _, p := range []*someone{ada, eve} {
		u := h.broken(t, p, bob)
		done(t, "ending", second(h.glass.Finish(t.Context(), p.caller(), u.ID)))
		done(t, "reviewing", second(h.glass.Review(t.Context(), bob.caller(), u.ID, fine)))
	}
	h.clock.pass(week)
	done(t, "signing as one of two", sign(ada, now))
}

func TestGlassSlice(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ada, bob := h.person(t, "breakglass:write"), h.person(t, "breakglass:approve", "breakglass:read", "audit:read")
	u := h.broken(t, ada, bob)
	record := func(c tenantdb.Caller, typ string) {
		_, err := h.DB.Record(t.Context(), c, audit.Event{Type: typ})
		done(t, typ, err)
	}
	record(ada.caller(), "idle.session")
	ada.lent = h.lent(t, ada, h.clock.at())
	record(ada.caller(), "key.created")
	record(ada.caller(), "key.revoked")
	record(bob.caller(), "other.person")
	found, next, err := h.glass.Entries(t.Context(), bob.caller(), u.ID, nil, 50)
	if err != nil || next != nil || len(found) != 2 || found[0].Type != "key.created" || found[1].Type != "key.revoked" {
		t.Errorf("the slice is %+v, %v", found, err)
	}
	if s := h.log.asked[0]; s.Actor != ada.id.String() || s.Since.After(u.OpenedAt) || s.Until.Before(u.ExpiresAt) || s.Until.After(u.ExpiresAt.Add(time.Hour)) {
		t.Errorf("it asked for %+v", s)
	}
	for _, p := range []*someone{ada, h.person(t, "audit:read", "breakglass:write"), h.person(t, "breakglass:read")} {
		_, _, err := h.glass.Entries(t.Context(), p.caller(), u.ID, nil, 50)
		refused(t, "reading the slice", err, problem.Denied)
	}
	api := h.API(doortest.As(bob.caller()))
	h.glass.Routes(api)
	var types []string
	path := "/api/v1/break-glass/" + u.ID.String() + "/entries?limit=1"
	for range 9 {
		a := doortest.Call(t, api, doortest.Request{Method: "GET", Path: path})
		for _, e := range a.Body["entries"].([]any) {
			types = append(types, e.(map[string]any)["type"].(string))
		}
		cursor, more := a.Body["next_cursor"].(string)
		if !more {
			break
		}
		path = "/api/v1/break-glass/" + u.ID.String() + "/entries?limit=1&cursor=" + cursor
	}
	if strings.Join(types, " ") != "key.created key.revoked" {
		t.Errorf("in pages it is %v", types)
	}
}

// TestGlassRoutes asks every operation as those who may not, and reads as those who may read a part.
func TestGlassRoutes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ada, bob, reader, nobody := h.person(t, "breakglass:write"), h.person(t, "breakglass:approve"), h.person(t, "breakglass:read", "audit:read"), h.person(t)
	call := func(p *someone, method, path string, body any) doortest.Answer {
		api := h.API(doortest.As(p.caller()))
		h.glass.Routes(api)
		return doortest.Call(t, api, doortest.Request{Method: method, Path: "/api/v1/break-glass" + path, Body: body})
	}
	a := call(ada, "POST", "", map[string]any{"reason": "The pager went off at night", "capabilities": []string{"keys:write"}})
	if a.Status != http.StatusCreated || a.Body["state"] != "waiting" || a.Body["minutes"] != 60.0 || a.Body["person_id"] != ada.id.String() {
		t.Fatalf("asking: %+v", a)
	}
	id := "/" + a.Body["use_id"].(string)
	remark := map[string]string{"remark": fine}
	for _, tt := range []struct {
		method, path string
		body         any
		may          []*someone
	}{
		{"POST", "", map[string]any{"reason": "The pager went off at night", "capabilities": []string{"keys:write"}}, []*someone{ada}},
		{"GET", "", nil, []*someone{ada, bob, reader, nobody}},
		{"GET", id, nil, []*someone{ada, reader}},
		{"POST", id + "/approve", nil, []*someone{bob}},
		{"POST", id + "/refuse", nil, []*someone{bob}},
		{"POST", id + "/end", nil, []*someone{ada, bob}},
		{"POST", id + "/review", remark, []*someone{bob}},
		{"GET", id + "/entries", nil, []*someone{reader}},
		{"GET", "/weeks", nil, []*someone{reader}},
		{"POST", "/weeks/2026-11-09/sign", remark, []*someone{bob}},
		{"PUT", "/hook", nil, nil},
	} {
		for _, p := range []*someone{nobody, reader, ada, bob} {
			may := false
			for _, m := range tt.may {
				may = may || m == p
			}
			a := call(p, tt.method, tt.path, tt.body)
			if out := a.Status == http.StatusForbidden || a.Status == http.StatusNotFound && tt.path == id || a.Status == http.StatusNotFound && tt.path == id+"/end"; out == may {
				t.Errorf("%s %s by %v: %d %s", tt.method, tt.path, p.caps, a.Status, a.Raw)
			}
		}
	}
	if a := call(nobody, "GET", "", nil); len(a.Body["uses"].([]any)) != 0 {
		t.Errorf("somebody sees others' uses: %s", a.Raw)
	}
	if a := call(ada, "GET", "", nil); len(a.Body["uses"].([]any)) != 1 {
		t.Errorf("the asker sees %s", a.Raw)
	}
	for range 3 {
		h.clock.pass(time.Minute)
		u := h.asks(t, h.person(t, "breakglass:write"))
		done(t, "refusing", second(h.glass.Refuse(t.Context(), bob.caller(), u.ID)))
	}
	seen, path := 0, "?limit=2"
	for range 5 {
		a := call(reader, "GET", path, nil)
		seen += len(a.Body["uses"].([]any))
		cursor, more := a.Body["next_cursor"].(string)
		if !more {
			break
		}
		path = "?limit=2&cursor=" + cursor
	}
	if seen != 4 {
		t.Errorf("pages have %d uses", seen)
	}
	if a := call(&someone{h: h, id: nobody.id, caps: []string{"*"}}, "PUT", "/hook", nil); a.Status != http.StatusOK || !strings.HasPrefix(a.Body["secret"].(string), "whsec_") {
		t.Errorf("an owner sets the hook: %+v", a)
	}
}
