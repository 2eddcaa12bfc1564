package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

func TestGlassLendsToTheEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ada, bob := h.person(t, "breakglass:write"), h.person(t, "breakglass:approve")
	h.rules.owners = []tenantdb.PersonID{bob.id, ada.id}
	before := h.clock.at()
	h.clock.pass(time.Minute)
	u := h.asks(t, ada, "keys:write", "agents:write", "keys:write")
	h.lends(t, ada)
	if e := h.Last(t, h.acme); e.Type != "break_glass.asked" || e.Field("capabilities") != "agents:write keys:write" || e.Field("minutes") != "60" ||
		e.Field("person") != ada.id.String() || e.Private["reason"] != u.Reason || strings.Contains(string(e.Body), "pager") {
		t.Errorf("the log says %+v", e)
	}
	h.clock.pass(time.Minute)
	u, err := h.glass.Approve(t.Context(), bob.caller(), u.ID)
	done(t, "approving", err)
	opened := h.clock.at()
	h.lends(t, ada, "agents:write", "keys:write")
	h.lends(t, bob)
	for _, early := range []time.Time{before, opened.Add(-time.Microsecond)} {
		if got := h.lent(t, ada, early); got != nil {
			t.Errorf("a session that was proved before it opened is lent %v", got)
		}
	}
	h.clock.pass(time.Hour - time.Microsecond)
	h.lends(t, ada, "agents:write", "keys:write")
	h.clock.pass(time.Microsecond)
	h.lends(t, ada)
	if got := h.lent(t, ada, opened); got != nil {
		t.Errorf("lent after its end: %v", got)
	}
	if s := h.state(t, u.ID); s != Expired {
		t.Errorf("it is %s", s)
	}
	h.settle(t)
	h.settle(t)
	if n := len(h.OfType(t, h.acme, "break_glass.expired")); n != 1 || h.mails(t, "glass_asked") != "2" || h.mails(t, "glass_opened") != "2" {
		t.Errorf("%d entries of its end, %s and %s mails", n, h.mails(t, "glass_asked"), h.mails(t, "glass_opened"))
	}
}

func TestGlassLendsNoMoreThanTheRules(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ada, bob := h.person(t, "breakglass:write"), h.person(t, "breakglass:approve")
	ask := func(capabilities []string, life time.Duration, reason string) error {
		_, err := h.glass.Ask(t.Context(), ada.caller(), Asked{reason, capabilities, life})
		return err
	}
	const why = "The pager went off at night"
	for _, c := range []string{"*", "breakglass:approve", "breakglass:write", "no:such", "members:write", ""} {
		refused(t, "asking for "+c, ask([]string{"keys:write", c}, time.Hour, why), problem.Denied)
	}
	refused(t, "nothing", ask(nil, time.Hour, why), problem.Invalid)
	refused(t, "too long", ask([]string{"keys:write"}, 2*time.Hour+time.Minute, why), problem.Invalid)
	refused(t, "no time", ask([]string{"keys:write"}, 0, why), problem.Invalid)
	for _, bad := range []string{"", "too short", strings.Repeat(" ", 50), strings.Repeat("x", 1001), "with a zero \x00 in it", "no UTF-8 in this\xff"} {
		refused(t, "reason "+bad[:min(len(bad), 12)], ask([]string{"keys:write"}, time.Hour, bad), problem.Invalid)
	}
	if n := len(h.Entries(t, h.acme)); n != 3 {
		t.Errorf("refused, and the log has %d entries", n)
	}
	u := h.broken(t, ada, bob)
	h.rules.set(func(r *GlassRules) { r.Capabilities = []string{"agents:write"} })
	h.lends(t, ada)
	h.rules.set(func(r *GlassRules) { r.Capabilities = []string{"keys:write", "*"} })
	h.lends(t, ada, "keys:write")
	_, err := h.glass.Finish(t.Context(), ada.caller(), u.ID)
	done(t, "ending", err)
	h.rules.set(func(r *GlassRules) { *r = GlassRules{} })
	refused(t, "with rules that lend nothing", ask([]string{"keys:write"}, time.Hour, why), problem.Denied)
	// A use that waits while the rules grow tighter does not open.
	h.rules.set(func(r *GlassRules) { *r = GlassRules{Capabilities: []string{"keys:write"}} })
	for _, tighter := range []func(*GlassRules){
		func(r *GlassRules) { r.Capabilities = nil }, func(r *GlassRules) { r.MaxLife = time.Minute }, func(r *GlassRules) { r.Approval = ByExternal },
	} {
		u := h.asks(t, ada)
		h.rules.set(tighter)
		_, err := h.glass.Approve(t.Context(), bob.caller(), u.ID)
		refused(t, "approving under tighter rules", err, problem.Conflict)
		h.rules.set(func(r *GlassRules) { *r = GlassRules{Capabilities: []string{"keys:write"}} })
		_, err = h.glass.Finish(t.Context(), ada.caller(), u.ID)
		done(t, "withdrawing", err)
	}
}

func TestGlassNeedsAnother(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ada, bob := h.person(t, "*"), h.person(t, "breakglass:approve")
	u := h.asks(t, ada)
	approve := func(p *someone) error {
		_, err := h.glass.Approve(t.Context(), p.caller(), u.ID)
		return err
	}
	refuse := func(p *someone) error {
		_, err := h.glass.Refuse(t.Context(), p.caller(), u.ID)
		return err
	}
	refused(t, "approving one's own", approve(ada), problem.Denied)
	refused(t, "refusing one's own", refuse(ada), problem.Denied)
	none := h.person(t, "breakglass:read", "breakglass:write", "organisation:write")
	refused(t, "approving without the capability", approve(none), problem.Denied)
	refused(t, "refusing without the capability", refuse(none), problem.Denied)
	none.lent = []string{"breakglass:approve"}
	refused(t, "approving with what is lent", approve(none), problem.Denied)
	bob.proved = 5*time.Minute + time.Second
	err := approve(bob)
	refused(t, "approving without a fresh proof", err, problem.Denied)
	if !strings.HasPrefix(problem.Of(err).Detail, "Prove yourself again") {
		t.Errorf("it says %q", problem.Of(err).Detail)
	}
	refused(t, "refusing without a fresh proof", refuse(bob), problem.Denied)
	bob.proved = 0
	for _, c := range []tenantdb.Caller{h.Caller(h.acme, "*"), tenantdb.System(h.acme, "x")} {
		_, err := h.glass.Approve(t.Context(), c, u.ID)
		refused(t, "approving as what is no person", err, problem.Denied)
	}
	other := &someone{h: &house{Door: h.Door, clock: h.clock, acme: h.Tenant(t, "Globex")}, id: bob.id, caps: []string{"*"}}
	refused(t, "approving another organisation's", approve(other), problem.Missing)
	h.lends(t, ada)
	h.rules.left = bob.id
	refused(t, "approving by who has left meanwhile", approve(bob), problem.Denied)
	h.rules.left = tenantdb.PersonID{}
	done(t, "approving", approve(bob))
	refused(t, "approving twice", approve(bob), problem.Conflict)
	refused(t, "refusing what is open", refuse(bob), problem.Conflict)
	eve := h.person(t, "breakglass:write")
	u = h.asks(t, eve)
	h.clock.pass(patience)
	refused(t, "approving what lapsed and is not settled", approve(bob), problem.Conflict)
	h.lends(t, eve)
	// The tables know it too: what an injection could write is held as well.
	for _, sql := range []string{`UPDATE avouch.break_glass SET decided_by = person_id::text`, `UPDATE avouch.break_glass SET capabilities = '{*}'`, `DELETE FROM avouch.break_glass`} {
		if err := h.AsServer(t, h.acme, sql); err == nil {
			t.Errorf("%s was done", sql)
		}
	}
}

func TestGlassAskingNeeds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ask := func(c tenantdb.Caller) error {
		_, err := h.glass.Ask(t.Context(), c, Asked{"The pager went off at night", []string{"keys:write"}, time.Hour})
		return err
	}
	ada := h.person(t, "breakglass:read", "breakglass:approve")
	refused(t, "without the capability", ask(ada.caller()), problem.Denied)
	ada.lent = []string{"breakglass:write"}
	refused(t, "with what is lent", ask(ada.caller()), problem.Denied)
	refused(t, "as a key", ask(h.Caller(h.acme, "*")), problem.Denied)
	ada = h.person(t, "breakglass:write")
	ada.proved = 6 * time.Minute
	refused(t, "without a fresh proof", ask(ada.caller()), problem.Denied)
	ada.proved = -6 * time.Minute
	refused(t, "with a proof of the future", ask(ada.caller()), problem.Denied)
	ada.proved = 5 * time.Minute
	done(t, "asking", ask(ada.caller()))
	refused(t, "asking beside what waits", ask(ada.caller()), problem.Conflict)
	h.clock.pass(24 * time.Hour)
	done(t, "asking after it lapsed", ask(ada.caller()))
	if n := len(h.OfType(t, h.acme, "break_glass.lapsed")); n != 1 {
		t.Errorf("%d entries of what lapsed", n)
	}
	// Each asking is a mail to every owner.
	for i := range mostAsked - 1 {
		uses, err := h.glass.List(t.Context(), ada.caller(), UseID{}, false, 1)
		done(t, "listing", err)
		_, err = h.glass.Finish(t.Context(), ada.caller(), uses[0].ID)
		done(t, "withdrawing", err)
		h.clock.pass(time.Second)
		done(t, "asking again "+string(rune('0'+i)), ask(ada.caller()))
	}
	uses, _ := h.glass.List(t.Context(), ada.caller(), UseID{}, false, 1)
	_, err := h.glass.Finish(t.Context(), ada.caller(), uses[0].ID)
	done(t, "withdrawing", err)
	refused(t, "asking without end", ask(ada.caller()), problem.TooMany)
}

// TestGlassApproverIsNotTheAskersMake has the asker try to make an approver for the purpose.
func TestGlassApproverIsNotTheAskersMake(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.clock.mu.Lock()
	h.clock.now = time.Now().UTC() // the entries' times are the door's
	h.clock.mu.Unlock()
	key := tenantdb.NewCaller(tenantdb.CallerSpec{Tenant: h.acme, Actor: audit.Actor{Kind: audit.ActorKey, ID: "k"}, How: "api-key", RequestID: audit.NewRequestID()})
	byKey := func(typ string, target audit.Target, public ...audit.Field) {
		t.Helper()
		_, err := h.DB.Record(t.Context(), key, audit.Event{Type: typ, Target: target, Public: public})
		done(t, typ, err)
	}
	roles := audit.Field{Name: "roles", Value: "admin"}
	record := func(by *someone, typ string, target audit.Target, public ...audit.Field) {
		t.Helper()
		_, err := h.DB.Record(t.Context(), by.caller(), audit.Event{Type: typ, Target: target, Public: public})
		done(t, typ, err)
	}
	for _, tt := range []struct {
		what string
		make func(ada, bob *someone)
		ok   bool
	}{
		{"nothing happened", func(_, _ *someone) {}, true},
		{"the asker did something else", func(ada, _ *someone) { record(ada, "agent.registered", audit.Target{Kind: "agent", ID: "a"}) }, true},
		{"the approver signed in", func(_, bob *someone) { record(bob, "session.started", bob.target()) }, true},
		{"the asker changed the approver", func(ada, bob *someone) { record(ada, "person.changed", bob.target()) }, false},
		{"the approver changed own roles", func(_, bob *someone) {
			record(bob, "person.changed", bob.target(), audit.Field{Name: "roles", Value: "admin"}, audit.Field{Name: "before"})
		}, false},
		{"the approver changed own name", func(_, bob *someone) { record(bob, "person.changed", bob.target()) }, true},
		{"the asker changed another's roles", func(ada, _ *someone) {
			record(ada, "person.changed", ada.target(), audit.Field{Name: "roles", Value: "admin"})
		}, true},
		{"the asker put the approver into a group", func(ada, bob *someone) {
			record(ada, "group.member_added", audit.Target{Kind: "group", ID: "x"}, audit.Field{Name: "roles", Value: "admin"}, audit.Field{Name: "person", Value: bob.id.String()})
		}, false},
		{"the asker put another into a group", func(ada, _ *someone) {
			record(ada, "group.member_added", audit.Target{Kind: "group", ID: "x"}, audit.Field{Name: "roles", Value: "admin"}, audit.Field{Name: "person", Value: ada.id.String()})
		}, true},
		{"a key changed the approver's roles", func(_, bob *someone) { byKey("person.changed", bob.target(), roles) }, false},
		{"a key changed the approver's name", func(_, bob *someone) { byKey("person.changed", bob.target()) }, true},
		{"a key changed the asker's roles", func(ada, _ *someone) { byKey("person.changed", ada.target(), roles) }, true},
		{"a third person changed the approver's roles", func(_, bob *someone) { record(h.person(t, "*"), "person.changed", bob.target(), roles) }, true},
		{"the asker gave the organisation away", func(ada, bob *someone) {
			record(ada, "organisation.transferred", audit.Target{Kind: "organisation", ID: h.acme.String()}, audit.Field{Name: "to", Value: bob.id.String()})
		}, false},
		{"the asker named the approver in a field", func(ada, bob *someone) {
			record(ada, "thing.changed", audit.Target{Kind: "thing", ID: "x"}, audit.Field{Name: "people", Value: "x " + bob.id.String()})
		}, false},
		{"the asker changed a group", func(ada, _ *someone) { record(ada, "group.changed", audit.Target{Kind: "group", ID: "x"}) }, false},
		{"the asker changed a role", func(ada, _ *someone) { record(ada, "role.changed", audit.Target{Kind: "role", ID: "x"}) }, false},
		{"a third person changed a role", func(_, _ *someone) { record(h.person(t, "*"), "role.changed", audit.Target{Kind: "role", ID: "x"}) }, true},
		{"a key changed a role", func(_, _ *someone) { byKey("role.changed", audit.Target{Kind: "role", ID: "x"}) }, false}, // the last: it counts for all that come after it
	} {
		for _, when := range []string{"before the asking", "after it"} {
			ada, bob := h.person(t, "*"), h.person(t, "breakglass:approve")
			if when == "before the asking" {
				tt.make(ada, bob)
			}
			u := h.asks(t, ada)
			if when == "after it" {
				tt.make(ada, bob)
			}
			_, err := h.glass.Approve(t.Context(), bob.caller(), u.ID)
			if tt.ok {
				done(t, tt.what+" "+when, err)
				continue
			}
			refused(t, tt.what+" "+when, err, problem.Denied)
			_, err = h.glass.Refuse(t.Context(), bob.caller(), u.ID)
			done(t, "refusing all the same", err)
		}
	}
	young := &someone{h: h, id: audit.NewSubjectID(), caps: []string{"breakglass:approve"}}
	h.makePerson(t, young.id, h.clock.at().Add(-time.Minute))
	eve := h.person(t, "*")
	_, err := h.glass.Approve(t.Context(), young.caller(), h.asks(t, eve).ID)
	refused(t, "an account of a minute", err, problem.Denied)
	gone := &someone{h: h, id: audit.NewSubjectID(), caps: []string{"breakglass:approve"}}
	uses, _ := h.glass.List(t.Context(), eve.caller(), UseID{}, false, 1)
	_, err = h.glass.Approve(t.Context(), gone.caller(), uses[0].ID)
	refused(t, "nobody's account", err, problem.Denied)
}
