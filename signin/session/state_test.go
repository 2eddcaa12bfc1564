package session

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// family is what the specification says of one family of refresh tokens: which generation is present, when it was made and by
// whom, and whether the family is over. It was written from the doc comment of judge and not from its code.
type family struct {
	tokens  []string // by generation, from 1: all that were ever given out
	present int
	since   time.Time // of the last succession
	by      string    // the program that asked for it
	seen    time.Time
	over    bool
	born    time.Time
}

// expect is what happens to a token of a generation that a program presents: the generation that it is answered with, 0 for none.
func (f *family) expect(generation int, by string, now time.Time) int {
	if !now.Before(f.seen.Add(ProgramIdle)) || !now.Before(f.born.Add(DefaultProgramLife)) {
		f.over = true
	}
	switch {
	case f.over:
		return 0
	case generation == f.present:
		f.present, f.since, f.by, f.seen = generation+1, now, by, now
		return f.present
	case generation == f.present-1 && by == f.by && now.Sub(f.since) <= 10*time.Second:
		return f.present
	}
	f.over = true
	return 0
}

// TestRefreshFamiliesSoak drives families on two servers: an honest client whose answers are lost now and then, a thief who copies
// tokens out of what the client has or had, and a clock. What the client and the thief get is compared with the specification, and one
// thing that nothing may break: after a thief has used a stolen token, the two never both go on for more than ten seconds.
func TestRefreshFamiliesSoak(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	servers := []*house{h, h.another(t)}
	spans := []time.Duration{time.Millisecond, 9 * time.Second, 11 * time.Second, 15 * time.Minute, 20 * 24 * time.Hour, 31 * 24 * time.Hour}
	rapid.Check(t, func(rt *rapid.T) {
		h.person = h.join(t, Standing{Capabilities: []string{"agents:read"}})
		s, first := h.start(t, program(h.person))
		f := &family{tokens: []string{first}, present: 1, by: agentOfTests, seen: h.clock.now(), born: h.clock.now()}
		has, stolen := 1, 0 // generations that client and thief hold
		access := ""
		ask := func(rt *rapid.T, generation int, by string) int {
			server := servers[rapid.IntRange(0, 1).Draw(rt, "server")]
			want := f.expect(generation, by, h.clock.now())
			got, err := server.tryRefresh(t, Renewal{Token: renewal(f.tokens[generation-1]).Token, UserAgent: by})
			switch {
			case want == 0 && !problem.Is(err, problem.Unauthenticated):
				rt.Fatalf("generation %d of %d by %s is answered: %v", generation, f.present, by, err)
			case want == 0:
				return 0
			case err != nil:
				rt.Fatalf("generation %d of %d by %s: %v", generation, f.present, by, err)
			}
			if len(f.tokens) < want {
				f.tokens = append(f.tokens, got.Refresh.Expose())
			}
			if f.tokens[want-1] != got.Refresh.Expose() {
				rt.Fatalf("generation %d has two tokens", want)
			}
			access = got.Access.Expose()
			return want
		}
		rt.Repeat(map[string]func(*rapid.T){
			"": func(rt *rapid.T) {
				var row record
				must(t, h.DB.Read(t.Context(), tenantdb.System(h.tenant, "test"), func(tx *tenantdb.ReadTx) (err error) {
					row, err = load(t.Context(), tx, s.ID)
					return err
				}))
				ended := !row.endedAt.IsZero()
				if int(row.generation) != f.present || ended && !f.over || row.endedWhy != "" && row.endedWhy != "reused" {
					rt.Fatalf("the row says %d, ended %t; the model %d, over %t", row.generation, ended, f.present, f.over)
				}
				if f.over && access != "" {
					servers[1].refused(t, "the family is over", bearer(access))
					access = ""
				}
			},
			"refresh": func(rt *rapid.T) {
				if got := ask(rt, has, agentOfTests); got != 0 {
					has = got
				}
			},
			"lose the answer": func(rt *rapid.T) { ask(rt, has, agentOfTests) },
			"steal": func(rt *rapid.T) {
				stolen = rapid.IntRange(1, has).Draw(rt, "generation")
			},
			"use what was stolen": func(rt *rapid.T) {
				if stolen == 0 {
					rt.Skip("skipped: nothing was stolen")
				}
				by := rapid.SampledFrom([]string{agentOfTests, "thief/1"}).Draw(rt, "program")
				if got := ask(rt, stolen, by); got != 0 {
					stolen = got
				}
			},
			"wait": func(rt *rapid.T) {
				h.clock.advance(rapid.SampledFrom(spans).Draw(rt, "span"))
				for _, s := range servers {
					must(t, s.signing.Rotate(t.Context()))
				}
			},
		})
		// Both go on in turn, as both would: within two turns and ten seconds it is over, if they hold different generations.
		if !f.over && stolen != 0 && stolen != has {
			h.clock.advance(11 * time.Second)
			for range 2 {
				if got := ask(rt, has, agentOfTests); got != 0 {
					has = got
				}
				if got := ask(rt, stolen, "thief/1"); got != 0 {
					stolen = got
				}
				h.clock.advance(11 * time.Second)
			}
			if !f.over {
				rt.Fatalf("client and thief share a family")
			}
		}
	})
}
