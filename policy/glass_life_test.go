package policy

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

func TestGlassDelay(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.rules.set(func(r *GlassRules) { r.Approval, r.Delay = ByDelay, time.Hour })
	ada, bob, eve := h.person(t, "breakglass:write"), h.person(t, "*"), h.person(t, "breakglass:write")
	h.rules.owners = []tenantdb.PersonID{bob.id}
	u, no := h.asks(t, ada), h.asks(t, eve)
	if h.mails(t, "glass_asked") != "2" {
		t.Error("the owner was not told of each")
	}
	_, err := h.glass.Approve(t.Context(), bob.caller(), u.ID)
	refused(t, "approving what time approves", err, problem.Conflict)
	h.clock.pass(time.Hour - time.Microsecond)
	h.settle(t)
	h.lends(t, ada)
	done(t, "refusing", second(h.glass.Refuse(t.Context(), bob.caller(), no.ID)))
	h.clock.pass(time.Microsecond)
	h.lends(t, ada) // nothing before the log has it
	h.settle(t)
	h.settle(t)
	h.lends(t, ada, "keys:write")
	h.lends(t, eve)
	if n := len(h.OfType(t, h.acme, "break_glass.opened")); n != 1 {
		t.Errorf("%d entries of its opening", n)
	}
	done(t, "ending by an approver", second(h.glass.Finish(t.Context(), bob.caller(), u.ID)))
	h.lends(t, ada)
	// Less than the least delay is the least; rules that changed meanwhile, a person who is gone and a server that slept open nothing.
	h.rules.set(func(r *GlassRules) { r.Delay = time.Second })
	for what, change := range map[string]func(*GlassRules){"tighter": func(r *GlassRules) { r.Capabilities = nil }, "by person": func(r *GlassRules) { r.Approval = ByPerson }} {
		p := h.person(t, "breakglass:write")
		u := h.asks(t, p)
		h.clock.pass(minDelay - time.Second)
		h.settle(t)
		if s := h.state(t, u.ID); s != Waiting {
			t.Errorf("%s: %s before the least delay", what, s)
		}
		kept := h.rules.rules
		h.rules.set(change)
		h.clock.pass(time.Second)
		h.settle(t)
		if s := h.state(t, u.ID); s != Lapsed {
			t.Errorf("%s: %s", what, s)
		}
		h.rules.set(func(r *GlassRules) { *r = kept })
	}
	gone, slept := h.person(t, "breakglass:write"), h.person(t, "breakglass:write")
	first, late := h.asks(t, gone), h.asks(t, slept)
	h.suspend(t, gone)
	h.clock.pass(minDelay + patience)
	h.settle(t)
	if s := h.state(t, first.ID) + " " + h.state(t, late.ID); s != "lapsed lapsed" {
		t.Errorf("of one who is gone and after a long sleep: %s", s)
	}
}

// suspend does so as if its room had forgotten break-glass.
func (h *house) suspend(t *testing.T, p *someone) {
	t.Helper()
	done(t, "suspending", h.DB.Change(t.Context(), tenantdb.System(h.acme, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), `UPDATE avouch.person SET suspended_at = now() WHERE tenant_id = $1 AND person_id = $2`, h.acme, p.id)
		return audit.Event{Type: "person.suspended"}, err
	}))
}

func TestGlassEndsWithThePerson(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ada, bob, eve := h.person(t, "breakglass:write"), h.person(t, "breakglass:approve"), h.person(t, "breakglass:write")
	u, other := h.broken(t, ada, bob), h.broken(t, eve, bob)
	end := func(p *someone) (n int) {
		done(t, "ending", h.DB.Change(t.Context(), tenantdb.System(h.acme, "test"), func(tx *tenantdb.Tx) (_ audit.Event, err error) {
			n, err = h.glass.End(t.Context(), tx, p.id, "removed")
			return audit.Event{Type: "person.removed"}, err
		}))
		return n
	}
	if n := end(ada); n != 1 || h.state(t, u.ID) != Ended {
		t.Errorf("%d ended, it is %s", n, h.state(t, u.ID))
	}
	h.lends(t, ada)
	h.lends(t, eve, "keys:write")
	if n := end(ada); n != 0 {
		t.Errorf("%d ended again", n)
	}
	h.clock.pass(3 * time.Hour)
	if n := end(eve); n != 1 || h.state(t, other.ID) != Expired {
		t.Errorf("of what has expired: %d, %s", n, h.state(t, other.ID))
	}
	w := h.asks(t, ada)
	if n := end(ada); n != 1 || h.state(t, w.ID) != Ended {
		t.Errorf("of what waits: %d, %s", n, h.state(t, w.ID))
	}
	_, err := h.glass.Approve(t.Context(), bob.caller(), w.ID)
	refused(t, "approving what ended", err, problem.Conflict)
}

// TestGlassIsNotHandedOn holds what the house relies on: lent capabilities are used, marked, and given to nobody.
func TestGlassIsNotHandedOn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ada, bob := h.person(t, "breakglass:write"), h.person(t, "breakglass:approve")
	h.broken(t, ada, bob)
	plain := ada.caller()
	ada.lent = h.lent(t, ada, h.clock.at())
	c := ada.caller()
	if plain.May("keys:write") || !c.May("keys:write") || c.Holds("keys:write") || c.May("agents:write") {
		t.Error("the caller may and holds other than it should")
	}
	if c.How() != "session:password+totp break-glass" || plain.How() != "session:password+totp" {
		t.Errorf("how: %s, %s", c.How(), plain.How())
	}
}

func TestGlassDecidedAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	beside := h.another(h.Another(t), nil)
	u := h.asks(t, h.person(t, "breakglass:write"))
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		p := h.person(t, "breakglass:approve")
		wg.Go(func() {
			g := []*Glass{h.glass, beside}[i%2]
			do := []func(context.Context, tenantdb.Caller, UseID) (Use, error){g.Approve, g.Refuse}[i/2%2]
			_, errs[i] = do(t.Context(), p.caller(), u.ID)
		})
	}
	wg.Wait()
	good := 0
	for _, err := range errs {
		if err == nil {
			good++
		} else if !problem.Is(err, problem.Conflict) {
			t.Error(err)
		}
	}
	n := len(h.OfType(t, h.acme, "break_glass.opened")) + len(h.OfType(t, h.acme, "break_glass.refused"))
	if good != 1 || n != 1 {
		t.Errorf("%d decided, with %d entries", good, n)
	}
}

func TestGlassAskedAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	beside := h.another(h.Another(t), nil)
	ada := h.person(t, "breakglass:write")
	var wg sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = []*Glass{h.glass, beside}[i%2].Ask(t.Context(), ada.caller(), Asked{"The pager went off at night", []string{"keys:write"}, time.Hour})
		})
	}
	wg.Wait()
	if n := len(slices.DeleteFunc(errs, func(err error) bool { return err != nil })); n != 1 {
		t.Errorf("%d wait at once", n)
	}
}

// model is what a use should be, by the rules in words.
type model struct {
	state                string
	due, opened, expires time.Time
	reviewed             bool
}

// TestGlassLife drives uses through whatever may happen to them, and holds them against the model after each step.
func TestGlassLife(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	bob := h.person(t, "*")
	rapid.Check(t, func(r *rapid.T) {
		ada := h.person(t, "breakglass:write")
		approval := rapid.SampledFrom([]string{ByPerson, ByDelay}).Draw(r, "approval")
		h.rules.set(func(g *GlassRules) { g.Approval, g.Delay = approval, time.Hour })
		u := h.asks(t, ada)
		m := model{state: Waiting, due: u.AskedAt.Add(24 * time.Hour)}
		if approval == ByDelay {
			m.due = u.AskedAt.Add(time.Hour)
		}
		tick := func() {
			if now := h.clock.at(); m.state == Opened && !now.Before(m.expires) {
				m.state = Expired
			} else if m.state == Waiting && approval == ByPerson && !now.Before(m.due) {
				m.state = Lapsed
			}
		}
		open := func() {
			m.state, m.opened, m.expires = Opened, h.clock.at(), h.clock.at().Add(time.Hour)
		}
		// try does something, which must work exactly if the model says so.
		try := func(what string, works bool, err error) bool {
			if works != (err == nil) {
				r.Fatalf("%s while %s: %v", what, m.state, err)
			}
			return works
		}
		r.Repeat(map[string]func(*rapid.T){
			"pass": func(r *rapid.T) {
				h.clock.pass(time.Duration(rapid.SampledFrom([]int{1, 20, 40, 60, 25 * 60}).Draw(r, "minutes")) * time.Minute)
				tick()
			},
			"settle": func(*rapid.T) {
				h.settle(t)
				if now := h.clock.at(); m.state == Waiting && approval == ByDelay && !now.Before(m.due) {
					if open(); now.Sub(m.due) >= patience {
						m.state, m.opened = Lapsed, time.Time{}
					}
				}
			},
			"approve": func(*rapid.T) {
				if try("approve", m.state == Waiting && approval == ByPerson, second(h.glass.Approve(t.Context(), bob.caller(), u.ID))) {
					open()
				}
			},
			"approve own": func(*rapid.T) {
				ada := &someone{h: h, id: ada.id, caps: []string{"*"}}
				try("approve own", false, second(h.glass.Approve(t.Context(), ada.caller(), u.ID)))
			},
			"refuse": func(*rapid.T) {
				if try("refuse", m.state == Waiting, second(h.glass.Refuse(t.Context(), bob.caller(), u.ID))) {
					m.state = Refused
				}
			},
			"end": func(r *rapid.T) {
				who := rapid.SampledFrom([]*someone{ada, bob}).Draw(r, "who")
				if try("end", m.state == Waiting || m.state == Opened, second(h.glass.Finish(t.Context(), who.caller(), u.ID))) {
					m.state = Ended
				}
			},
			"review": func(*rapid.T) {
				over := !m.opened.IsZero() && m.state != Opened && !m.reviewed
				if try("review", over, second(h.glass.Review(t.Context(), bob.caller(), u.ID, "Looked at all of it"))) {
					m.reviewed = true
				}
			},
			"review own": func(*rapid.T) {
				ada := &someone{h: h, id: ada.id, caps: []string{"*"}}
				try("review own", false, second(h.glass.Review(t.Context(), ada.caller(), u.ID, "Looked at all of it")))
			},
			"": func(r *rapid.T) {
				if s := h.state(t, u.ID); s != m.state {
					r.Fatalf("it is %s, and should be %s", s, m.state)
				}
				got := h.lent(t, ada, h.clock.at())
				if (m.state == Opened) != (len(got) == 1) || len(h.lent(t, ada, m.opened.Add(-time.Microsecond))) > 0 {
					r.Fatalf("while %s, lent is %v", m.state, got)
				}
			},
		})
		_, err := h.glass.Finish(t.Context(), bob.caller(), u.ID)
		if err != nil && !problem.Is(err, problem.Conflict) {
			r.Fatal(err)
		}
	})
	// Every step that changed something has its entry: the log tells the same story.
	all, err := h.glass.List(t.Context(), bob.caller(), UseID{}, false, 10_000)
	done(t, "listing", err)
	told := map[string][]string{}
	for _, e := range h.Entries(t, h.acme) {
		if what, ok := strings.CutPrefix(e.Type, "break_glass."); ok {
			told[e.Target.ID] = append(told[e.Target.ID], what)
		}
	}
	for i := range all {
		u := &all[i]
		want := []string{"asked"}
		if !u.OpenedAt.IsZero() {
			want = append(want, "opened")
		}
		if u.Outcome != "" {
			want = append(want, u.Outcome)
		}
		if !u.ReviewedAt.IsZero() {
			want = append(want, "reviewed")
		}
		if got := told[u.ID.String()]; !slices.Equal(got, want) {
			t.Errorf("the log tells %v of what was %v", got, want)
		}
	}
}
