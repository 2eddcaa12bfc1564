package session

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

const agentOfTests = "avouch-cli/1.0"

func renewal(token string) Renewal {
	return Renewal{Token: secret.Text(token), UserAgent: agentOfTests}
}

// tokens signs a program in.
func (h *house) tokens(t testing.TB, n New) Tokens {
	t.Helper()
	s, v := h.start(t, n)
	got, err := h.room.Tokens(t.Context(), h.tenant, s.ID, secret.Text(v))
	must(t, err)
	return got
}

func (h *house) refresh(t testing.TB, n Renewal) Tokens {
	t.Helper()
	got, err := h.tryRefresh(t, n)
	must(t, err)
	return got
}

func (h *house) noRefresh(t testing.TB, why string, n Renewal) {
	t.Helper()
	got, err := h.tryRefresh(t, n)
	if !problem.Is(err, problem.Unauthenticated) || !got.Access.IsZero() || !got.Refresh.IsZero() {
		t.Errorf("%s: %v", why, err)
	}
}

func TestRefreshRotates(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	first := h.tokens(t, program(h.person))
	api := h.another(t).api()
	h.clock.advance(14 * time.Minute)
	a := call(t, api, "POST", "/api/v1/session/refresh", []string{"User-Agent", agentOfTests}, map[string]string{"refresh_token": first.Refresh.Expose()})
	next, _ := a.Body["refresh_token"].(string)
	if a.Status != 200 || next == first.Refresh.Expose() || a.Body["token_type"] != "Bearer" || a.Body["expires_in"].(float64) < 899 || a.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("refreshing: %+v", a)
	}
	h.counts(t, bearer(a.Body["access_token"].(string)))
	h.counts(t, bearer(first.Access.Expose())) // its time is not over
	h.clock.advance(2 * time.Minute)
	h.refused(t, "an access token of 16 minutes", bearer(first.Access.Expose()))
	third := h.refresh(t, renewal(next))
	e := h.Last(t, h.tenant)
	if e.Type != "session.refreshed" || e.Field("generation") != "3" || e.Actor.ID != h.person.String() || e.Target.ID != first.Session.String() {
		t.Errorf("the entry is %+v", e.Entry)
	}
	row := h.Text(t, `SELECT s::text || encode(s.digest, 'escape') FROM avouch.session s`)
	if strings.Contains(row, third.Refresh.Expose()) {
		t.Error("the token is in the database")
	}
	if a := call(t, api, "POST", "/api/v1/session/refresh", nil, map[string]string{"refresh_token": "avr_x"}); a.Status != 401 {
		t.Errorf("a malformed token: %+v", a)
	}
}

func TestLostAnswer(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	other := h.another(t)
	for _, c := range []struct {
		why   string
		after time.Duration
		n     func(*Renewal)
		lives bool
	}{
		{"at once", 0, func(*Renewal) {}, true},
		{"after ten seconds", 10 * time.Second, func(*Renewal) {}, true},
		{"after more", 10*time.Second + time.Microsecond, func(*Renewal) {}, false},
		{"by another program", 0, func(n *Renewal) { n.UserAgent = "curl/8" }, false},
		{"without the client's id", 0, func(n *Renewal) { n.ClientID = "" }, false},
		{"with another id", 0, func(n *Renewal) { n.ClientID = "laptop-2" }, false},
		{"on a clock that is behind", -time.Second, func(*Renewal) {}, true},
	} {
		n := program(h.person)
		n.Binding = "laptop-1"
		first := h.tokens(t, n)
		ask := Renewal{Token: first.Refresh, ClientID: "laptop-1", UserAgent: agentOfTests}
		lost := h.refresh(t, ask)
		h.clock.advance(c.after)
		c.n(&ask)
		if !c.lives {
			other.noRefresh(t, c.why, ask)
			h.noRefresh(t, c.why+", the successor", Renewal{Token: lost.Refresh, ClientID: "laptop-1", UserAgent: agentOfTests})
			h.refused(t, c.why+", the access token", bearer(lost.Access.Expose()))
			continue
		}
		got := other.refresh(t, ask)
		if got.Refresh.Expose() != lost.Refresh.Expose() || got.Access.Expose() == lost.Access.Expose() {
			t.Errorf("%s: another successor", c.why)
		}
		// Once the successor is used, the answer was not lost.
		successor := Renewal{Token: got.Refresh, ClientID: "laptop-1", UserAgent: agentOfTests}
		h.refresh(t, successor)
		h.noRefresh(t, c.why+", after the successor was used", ask)
	}
}

// TestTokensAreTheirClients: where a client chose an id, the present token alone is worth nothing, and ends the family.
func TestTokensAreTheirClients(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, wrong := range []string{"", "laptop-2"} {
		n := program(h.person)
		n.Binding = "laptop-1"
		tokens := h.tokens(t, n)
		ask := Renewal{Token: tokens.Refresh, ClientID: "laptop-1", UserAgent: "another program, which may be newer"}
		tokens = h.refresh(t, ask)
		ask.Token, ask.ClientID = tokens.Refresh, wrong
		h.noRefresh(t, "without the client's id", ask)
		if e := h.Last(t, h.tenant); e.Type != "session.reused" || e.Field("reason") != "client" {
			t.Errorf("the entry is %+v", e.Entry)
		}
		ask.ClientID = "laptop-1"
		h.noRefresh(t, "afterwards", ask)
	}
}

// TestStolenToken replays an old token: the family is over for the thief and for the person, and both log and person learn of it.
func TestStolenToken(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	first := h.tokens(t, program(h.person))
	second := h.refresh(t, renewal(first.Refresh.Expose()))
	third := h.refresh(t, renewal(second.Refresh.Expose()))
	_, v := h.start(t, browser(h.person))
	var done sync.WaitGroup
	for range 8 {
		done.Go(func() { h.noRefresh(t, "an older token", renewal(first.Refresh.Expose())) })
	}
	done.Wait()
	h.noRefresh(t, "the newest one", renewal(third.Refresh.Expose()))
	h.refused(t, "the access token", bearer(third.Access.Expose()))
	h.counts(t, withCookie(v))
	e := h.OfType(t, h.tenant, "session.reused")
	if len(e) != 1 || e[0].Field("reason") != "older" || e[0].Field("generation") != "1" || e[0].Field("present") != "3" || e[0].Private["address"] != "192.0.2.1" || e[0].Outcome != audit.Done {
		t.Errorf("the entries are %+v", e)
	}
	job := h.Text(t, `SELECT string_agg(args::text, ' ') FROM avouch_jobs.river_job WHERE kind = 'mail.send'`)
	if strings.Count(job, "session_reused") != 1 || !strings.Contains(job, h.person.String()) || !strings.Contains(job, first.Session.String()) {
		t.Errorf("the mails are %s", job)
	}
}

// TestMadeUpTokens does harm to nobody: who knows a session's id alone cannot end it.
func TestMadeUpTokens(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	first := h.tokens(t, program(h.person))
	present := h.refresh(t, renewal(first.Refresh.Expose()))
	_, cookie := h.start(t, browser(h.person))
	true1, err := parseRefresh(present.Refresh.Expose())
	must(t, err)
	other := h.Tenant(t, "Other")
	elsewhere, err := h.room.refreshToken(t.Context(), other, true1.id, true1.generation)
	must(t, err)
	future, err := h.room.refreshToken(t.Context(), h.tenant, true1.id, true1.generation+1)
	must(t, err)
	before := h.Last(t, h.tenant).Seq
	for why, token := range map[string]string{
		"another secret":              refresh{true1.id, true1.generation, [32]byte{1}}.encode(),
		"an older one's":              refresh{true1.id, 1, true1.secret}.encode(),
		"another session":             refresh{ID{1}, 1, true1.secret}.encode(),
		"derived for another tenant":  elsewhere.Expose(),
		"of a generation to come":     future.Expose(),
		"a cookie":                    cookie,
		"the access token":            present.Access.Expose(),
		"cut":                         present.Refresh.Expose()[:73],
		"lengthened":                  present.Refresh.Expose() + "A",
		"with another prefix":         "avk_" + present.Refresh.Expose()[4:],
		"nothing":                     "",
		"with the other alphabet":     "avr_" + strings.Repeat("+", 70),
		"with bits that do not count": present.Refresh.Expose()[:73] + string(rune(present.Refresh.Expose()[73]+1)),
	} {
		h.noRefresh(t, why, renewal(token))
	}
	if h.Last(t, h.tenant).Seq != before {
		t.Errorf("made-up tokens write %+v", h.Last(t, h.tenant).Entry)
	}
	h.refresh(t, renewal(present.Refresh.Expose()))
}

func TestProgramsEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, c := range []struct {
		why string
		do  func(Tokens)
	}{
		{"idle for thirty days", func(Tokens) { h.clock.advance(ProgramIdle) }},
		{"the rules let programs live for an hour", func(Tokens) {
			h.clock.advance(time.Hour)
			h.people.set(h.person, func(st *Standing) { st.ProgramLife = time.Hour })
		}},
		{"suspended", func(Tokens) { h.people.set(h.person, func(st *Standing) { st.Active = false }) }},
		{"from elsewhere", func(Tokens) {
			h.people.set(h.person, func(st *Standing) { st.Addresses = append(st.Addresses, netip.MustParsePrefix("198.51.100.0/24")) })
		}},
		{"without the second factor that is wanted now", func(Tokens) { h.people.set(h.person, func(st *Standing) { st.NeedsMFA = true }) }},
		{"offboarded", func(Tokens) {
			h.change(t, func(tx *tenantdb.Tx) error { _, err := h.room.End(t.Context(), tx, h.person, "removed"); return err })
		}},
	} {
		h.person = h.join(t, Standing{Capabilities: []string{"agents:read"}})
		n := program(h.person)
		n.Methods = []string{"password"}
		tokens := h.tokens(t, n)
		must(t, h.signing.Rotate(t.Context()))
		c.do(tokens)
		must(t, h.signing.Rotate(t.Context()))
		h.refused(t, c.why+", access", bearer(tokens.Access.Expose()))
		h.noRefresh(t, c.why, renewal(tokens.Refresh.Expose()))
	}
	// Who refreshes every week goes on, for ninety days.
	h.person = h.join(t, Standing{})
	tokens := h.tokens(t, program(h.person))
	for range 12 {
		h.clock.advance(7 * 24 * time.Hour)
		must(t, h.signing.Rotate(t.Context()))
		tokens = h.refresh(t, renewal(tokens.Refresh.Expose()))
	}
	h.clock.advance(7 * 24 * time.Hour)
	h.noRefresh(t, "after ninety-one days", renewal(tokens.Refresh.Expose()))
}

// TestHundredRefreshesGetOneSuccessor has a crowd on two servers.
func TestHundredRefreshesGetOneSuccessor(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	servers := []*house{h, h.another(t)}
	first := h.tokens(t, program(h.person))
	var mu sync.Mutex
	got := map[string]bool{}
	var done sync.WaitGroup
	for i := range 100 {
		done.Go(func() {
			tokens, err := servers[i%2].tryRefresh(t, renewal(first.Refresh.Expose()))
			mu.Lock()
			defer mu.Unlock()
			got[fmt.Sprint(tokens.Refresh.Expose(), err)] = true
		})
	}
	done.Wait()
	if len(got) != 1 || len(h.OfType(t, h.tenant, "session.refreshed")) != 1 || !strings.HasPrefix(names(got)[0], "avr_") {
		t.Errorf("a hundred refreshes got %d answers: %v", len(got), names(got))
	}
}

func TestParseRefresh(t *testing.T) {
	t.Parallel()
	// Frozen: clients keep these for months.
	const golden = "avr_AQIDBAUGBwgJCgsMDQ4PEAAAAAegoaKjpKWmp6ipqqusra6vsLGys7S1tre4ubq7vL2-vw"
	want := refresh{id: ID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, generation: 7}
	for i := range want.secret {
		want.secret[i] = byte(0xa0 + i)
	}
	if got, err := parseRefresh(golden); err != nil || got != want || want.encode() != golden {
		t.Errorf("%+v, %v; encoded %s", got, err, want.encode())
	}
	for _, generation := range []uint32{0, 1 << 31, 1<<32 - 1} {
		if _, err := parseRefresh(refresh{generation: generation}.encode()); err == nil {
			t.Errorf("generation %d is taken", generation)
		}
	}
}

func FuzzParseRefresh(f *testing.F) {
	f.Add("avr_AQIDBAUGBwgJCgsMDQ4PEAAAAAegoaKjpKWmp6ipqqusra6vsLGys7S1tre4ubq7vL2-vw")
	f.Add("avr_" + strings.Repeat("A", 69) + "\n")
	f.Add("avr_" + base64.RawURLEncoding.EncodeToString(make([]byte, 52)))
	f.Fuzz(func(t *testing.T, s string) {
		token, err := parseRefresh(s)
		if err != nil && token != (refresh{}) || err == nil && (token.encode() != s || token.generation < 1) {
			t.Errorf("%q is %+v, %v", s, token, err)
		}
	})
}

func FuzzProgramName(f *testing.F) {
	for _, s := range []string{"", "curl/8.1", "Mozilla/5.0 (iPhone) Safari", "\xff\x00", "Edg"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := ProgramName(s)
		if got == "" || len(got) > 40 || strings.ContainsFunc(got, func(c rune) bool { return c < ' ' || c > '~' || strings.ContainsRune(`<>&"'`, c) }) {
			t.Errorf("%q is called %q", s, got)
		}
	})
}

func TestProgramNames(t *testing.T) {
	t.Parallel()
	for agent, want := range map[string]string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36 Edg/140.0":     "Edge on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15":     "Safari on macOS",
		"Mozilla/5.0 (Linux; Android 15; Pixel) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Mobile Safari/537.36":           "Chrome on Android",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/604.1": "Safari on iPhone",
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                                    "Firefox on Linux",
		"curl/8.9.1": "curl", "avouch-cli/1.0": "avouch-cli", "Go-http-client/2.0": "Go-http-client", "": "unknown program", "<script>": "script",
	} {
		if got := ProgramName(agent); got != want || ProgramName(got) != want {
			t.Errorf("%q is called %q", agent, got)
		}
	}
}

func TestNarrowed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ token, now, want []string }{
		{[]string{"a", "b"}, []string{"b", "c"}, []string{"b"}}, {[]string{"*"}, []string{"a"}, []string{"a"}}, {[]string{"a"}, []string{"*"}, []string{"a"}},
		{[]string{"*"}, []string{"*"}, []string{"*"}}, {nil, []string{"*"}, nil}, {[]string{"a"}, nil, nil},
	} {
		if got := narrowed(c.token, c.now); !slices.Equal(got, c.want) {
			t.Errorf("%v of who may %v now is %v", c.token, c.now, got)
		}
	}
}
