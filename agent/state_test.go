package agent

import (
	"flag"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
)

// model is what an agent ought to be, kept beside the real one. It is written from VERIFY.md, not from the code.
type model struct {
	id                 ID
	revoked, suspended bool
	tokens             []modelToken
}

type modelToken struct {
	raw     Issued
	revoked bool
}

// machine drives the room and the model with the same operations.
type machine struct {
	h      *house
	t      *rapid.T
	agents []*model
}

func (m *machine) pick() *model {
	if len(m.agents) == 0 {
		m.register()
	}
	return rapid.SampledFrom(m.agents).Draw(m.t, "agent")
}

func (m *machine) must(err error) {
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) register() {
	a, token, err := m.h.room.Register(m.t.Context(), m.h.owner, Registration{Name: "x"})
	m.must(err)
	m.agents = append(m.agents, &model{id: a.ID, tokens: []modelToken{{raw: token}}})
}

// expect compares an outcome with the one that the model allows.
func (m *machine) expect(what string, err error, possible bool) bool {
	if possible && err != nil || !possible && !problem.Is(err, problem.Conflict) {
		m.t.Fatalf("%s: %v, possible: %t", what, err, possible)
	}
	return possible
}

func (m *machine) suspend() {
	a := m.pick()
	_, err := m.h.room.Suspend(m.t.Context(), m.h.owner, a.id)
	if m.expect("suspend", err, !a.revoked && !a.suspended) {
		a.suspended = true
	}
}

func (m *machine) resume() {
	a := m.pick()
	_, err := m.h.room.Resume(m.t.Context(), m.h.owner, a.id)
	if m.expect("resume", err, !a.revoked && a.suspended) {
		a.suspended = false
	}
}

func (m *machine) revoke() {
	a := m.pick()
	_, err := m.h.room.Revoke(m.t.Context(), m.h.owner, a.id)
	if m.expect("revoke", err, !a.revoked) {
		a.revoked = true
	}
}

func (m *machine) issue() {
	a := m.pick()
	token, err := m.h.room.Issue(m.t.Context(), m.h.owner, a.id, Wish{})
	if m.expect("issue", err, !a.revoked && !a.suspended) {
		a.tokens = append(a.tokens, modelToken{raw: token})
	}
}

func (m *machine) revokeToken() {
	a := m.pick()
	k := rapid.IntRange(0, len(a.tokens)-1).Draw(m.t, "token")
	_, err := m.h.room.RevokeToken(m.t.Context(), m.h.owner, a.id, a.tokens[k].raw.JTI)
	if m.expect("revoke token", err, !a.revoked && !a.tokens[k].revoked) {
		a.tokens[k].revoked = true
	}
}

func (m *machine) revokeAll() {
	a := m.pick()
	_, live, err := m.h.room.RevokeTokens(m.t.Context(), m.h.owner, a.id)
	if !m.expect("revoke all", err, !a.revoked) {
		return
	}
	for k := range a.tokens {
		if !a.tokens[k].revoked {
			live--
		}
		a.tokens[k].revoked = true
	}
	if live != 0 {
		m.t.Fatalf("revoke all counted %d too many", live)
	}
}

// check holds the real agents to the model: what they say of themselves, and whom their tokens still prove.
func (m *machine) check() {
	for _, a := range m.agents {
		got, err := m.h.room.Get(m.t.Context(), m.h.owner, a.id)
		m.must(err)
		want := Active
		switch {
		case a.revoked:
			want = Revoked
		case a.suspended:
			want = Suspended
		}
		if got.Status() != want {
			m.t.Fatalf("the agent is %s, want %s", got.Status(), want)
		}
		records, err := m.h.room.Tokens(m.t.Context(), m.h.owner, a.id, nil, "", 200)
		m.must(err)
		if len(records) != len(a.tokens) {
			m.t.Fatalf("%d records of %d tokens", len(records), len(a.tokens))
		}
		for _, token := range a.tokens {
			i := slices.IndexFunc(records, func(r Record) bool { return r.JTI == token.raw.JTI })
			if i < 0 || (records[i].Status(m.h.clock.now()) == TokenRevoked) != token.revoked {
				m.t.Fatalf("a token's record is at %d, revoked should be %t", i, token.revoked)
			}
			_, err := m.h.room.Authenticate(m.t.Context(), token.raw.Token.Expose(), web.RequestMeta{})
			if trusted := !a.revoked && !a.suspended && !token.revoked; (err == nil) != trusted {
				m.t.Fatalf("trusted should be %t: %v", trusted, err)
			}
		}
	}
	m.h.clock.forward(time.Second)
}

// TestMain makes a run of rapid shorter than its default, since each step is several commits: -rapid.checks says otherwise.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "20"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func TestStateMachine(t *testing.T) {
	t.Parallel()
	h := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		m := &machine{h: h, t: rt}
		rt.Repeat(map[string]func(*rapid.T){
			"register": func(*rapid.T) { m.register() },
			"suspend":  func(*rapid.T) { m.suspend() },
			"resume":   func(*rapid.T) { m.resume() },
			"revoke":   func(*rapid.T) { m.revoke() },
			"issue":    func(*rapid.T) { m.issue() },
			"token":    func(*rapid.T) { m.revokeToken() },
			"all":      func(*rapid.T) { m.revokeAll() },
			"":         func(*rapid.T) { m.check() },
		})
	})
}
