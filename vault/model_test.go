package vault

import (
	"encoding/base32"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// model is what a test knows of who may use one item: what was granted, and what was lent.
type model struct {
	now      func() time.Time
	approval bool
	grants   map[Actor]*Grant
	lent     map[Actor][]lentLine
}

type lentLine struct {
	request RequestID
	until   time.Time
	bond    bool // lasts no longer than the grant
}

func (m *model) granted(who ...Actor) bool {
	for _, a := range who {
		if g := m.grants[a]; g != nil && (g.ExpiresAt == nil || m.now().Before(*g.ExpiresAt)) {
			return true
		}
	}
	return false
}

func (m *model) may(who Actor, groups ...Actor) bool {
	granted := m.granted(append(groups, who)...)
	for _, l := range m.lent[who] {
		if m.now().Before(l.until) && (!l.bond || granted) {
			return true
		}
	}
	return granted && !m.approval
}

// TestModel grants, revokes, asks, approves, withdraws and waits in any order, on two servers, and holds what each of three fetches on
// either to the model. What happened is printed, so that it can be done again.
func TestModel(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	sides := []*side{h.side, h.server(t, h.Another(t))}
	i := h.put(t, seedOf(HOTP)).ID
	ada, bob, b := h.member(t), h.member(t), h.robot(t, "read:codes")
	group := h.group(t, ada)
	robin, _, _, err := b.at(h.side).Stand(ctx, true)
	must(t, err)
	callers := map[Actor]func() tenantdb.Caller{ada.actor(): ada.caller, bob.actor(): bob.caller, b.actor(): func() tenantdb.Caller { return robin }}
	askers := []Actor{ada.actor(), bob.actor(), b.actor()}
	m := &model{now: h.clock.at, grants: map[Actor]*Grant{}, lent: map[Actor][]lentLine{}}
	seed := rand.Uint64()
	dice := rand.New(rand.NewPCG(seed, 1))
	var steps []string
	for range 120 {
		h.clock.pass(3 * time.Second)
		h.Admin(t, `UPDATE avouch.counter SET used = 0`) // it counts by the door's own clock, which stands still beside this one
		s, who := sides[dice.IntN(2)], askers[dice.IntN(3)]
		to := append([]Actor{group}, askers...)[dice.IntN(4)]
		var did string
		switch dice.IntN(7) {
		case 0, 1:
			var end *time.Time
			if dice.IntN(2) == 0 {
				at := h.clock.at().Add(time.Minute)
				end = &at
			}
			g, err := s.Grant(ctx, h.boss, i, to, ForCode, end)
			must(t, err)
			m.grants[to] = &g
			did = fmt.Sprint("grant ", to, end)
		case 2:
			if g := m.grants[to]; g != nil {
				_, err := s.Revoke(ctx, h.boss, i, g.ID)
				must(t, err)
				delete(m.grants, to)
				delete(m.lent, to) // what was lent to the same one ends with it
			}
			did = fmt.Sprint("revoke ", to)
		case 3, 4:
			granted := m.granted(who)
			if who == ada.actor() {
				granted = m.granted(who, group)
			}
			q, err := s.Ask(ctx, callers[who](), i, ForCode, "r", time.Minute)
			did = fmt.Sprint("ask ", who, err)
			if granted && !m.approval {
				refused(t, did, err, problem.Conflict, "without asking")
				break
			}
			must(t, err)
			if q, err = sides[dice.IntN(2)].Decide(ctx, h.fresh(), q.ID, dice.IntN(4) > 0); err == nil && q.Outcome == "approved" {
				m.lent[who] = append(m.lent[who], lentLine{q.ID, *q.Until, granted})
			}
			must(t, err)
			did += q.Outcome
		case 5:
			if all := m.lent[who]; len(all) > 0 {
				_, err := s.Withdraw(ctx, callers[who](), all[0].request)
				must(t, err)
				m.lent[who] = all[1:]
			}
			did = fmt.Sprint("withdraw ", who)
		case 6:
			m.approval = !m.approval
			_, err := s.Update(ctx, h.guard.caller(), i, "", Change{Policy: &Policy{Approval: m.approval}})
			must(t, err)
			did = fmt.Sprint("approval ", m.approval)
		}
		steps = append(steps, did)
		for _, a := range askers {
			var groups []Actor
			if a == ada.actor() {
				groups = []Actor{group}
			}
			s := sides[dice.IntN(2)]
			var asker Asker = caller{callers[a]()}
			if a == b.actor() {
				asker = b.at(s)
			}
			_, err := s.code(ctx, h.acme, asker, i, "")
			if want := m.may(a, groups...); want != (err == nil) {
				t.Fatalf("%s: %v, and the model says %v; seed %d, after\n%s", a, err, want, seed, strings.Join(steps, "\n"))
			}
		}
	}
}

// FuzzSeed: base32 as people write it is read as it is, or refused without being told again.
func FuzzSeed(f *testing.F) {
	for _, s := range []string{"JBSWY3DPEHPK3PXP", "jbsw y3dp-ehpk 3pxp====", "", "1", "A", "MFRGGZDFMZTWQ2LK!"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		seed, err := decodeSeed(secret.Text(s))
		if err != nil {
			var p *problem.Error
			if !errors.As(err, &p) || len(s) > 8 && strings.Contains(fmt.Sprintf("%v %+v", p.Detail, p.Fields), s) {
				t.Fatalf("%q is refused with %v", s, err)
			}
			return
		}
		again, err := decodeSeed(secret.Text(base32.StdEncoding.EncodeToString(seed)))
		if err != nil || string(again) != string(seed) {
			t.Fatalf("%q is %x, and then %x, %v", s, seed, again, err)
		}
	})
}
