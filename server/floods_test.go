package server

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// sum is how many refusals entries tell of.
func sum(t testing.TB, entries []entry) (n int) {
	t.Helper()
	for _, e := range entries {
		if e.field("count") == "" {
			n++
			continue
		}
		count, err := strconv.Atoi(e.field("count"))
		must(t, err)
		n += count
	}
	return n
}

// flood sends a request many times, eight at once, and wants it refused each time.
func (n *live) flood(t testing.TB, times, status int, q func(i int) ask) {
	t.Helper()
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := w; i < times; i += 8 {
				if a, err := n.try(t.Context(), q(i)); err != nil || a.Status != status {
					t.Errorf("%d, %v: %s", a.Status, err, a.Raw)
					return
				}
			}
		})
	}
	all.Wait()
}

// What /verify refuses without a decision is in the log of the organisation that asked, as every other operation's is.
func TestVerifyRefusalsAreRecorded(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	acme := n.organisation(t, "Acme")
	key, id := n.newKey(t, acme, nil)
	narrow, narrowID := n.newKey(t, acme, map[string]any{"scopes": []string{"audit:write"}})
	spent, spentID := n.newKey(t, acme, map[string]any{"monthly_quota": 0})
	q := func(key string, body any) ask {
		return ask{Method: "POST", Path: "/api/v1/verify", Key: key, Body: body, Header: map[string]string{}}
	}
	text := q(key, "x")
	text.Header["Content-Type"] = "text/plain"
	for name, c := range map[string]struct {
		ask    ask
		status int
		kind   string
		key    string
	}{
		"malformed":  {q(key, `{"token":`), 400, "invalid", id},
		"no body":    {q(key, nil), 400, "invalid", id},
		"no token":   {q(key, map[string]any{"token": ""}), 400, "invalid", id},
		"unknown":    {q(key, map[string]any{"tokn": "x"}), 400, "invalid", id},
		"media type": {text, 415, "invalid", id},
		"large":      {q(key, `{"token":"`+strings.Repeat("x", 3<<20)+`"}`), 413, "invalid", id},
		"capability": {q(narrow, map[string]any{"token": "x"}), 403, "denied", narrowID},
		"quota":      {q(spent, map[string]any{"token": "x"}), 429, "too-many", spentID},
	} {
		before, others := len(n.entries(t, acme.id, "request.refused")), len(n.entries(t, acme.id, ""))
		a := n.call(t, c.ask)
		if a.Status != c.status || a.kind() != c.kind {
			t.Errorf("%s: %d %s, want %d %s", name, a.Status, a.kind(), c.status, c.kind)
		}
		found := n.entries(t, acme.id, "request.refused")[before:]
		if len(found) != 1 || len(n.entries(t, acme.id, "")) != others+1 {
			t.Errorf("%s: %d entries", name, len(found))
			continue
		}
		e := found[0]
		if e.field("kind") != c.kind || e.Target != (audit.Target{Kind: "operation", ID: "verify"}) || e.Outcome != audit.Denied || e.How != "api-key" ||
			e.Actor != (audit.Actor{Kind: audit.ActorKey, ID: c.key}) || e.Request.String() != a.Header.Get("X-Request-Id") || e.private["address"] != "127.0.0.1" {
			t.Errorf("%s: the entry is %+v %v", name, e.Entry, e.private)
		}
	}
	n.denials.flush(t.Context())
	for _, e := range n.entries(t, tenantdb.Platform, "requests.refused") {
		t.Errorf("counted as nobody's: %+v", e.Entry)
	}
}

// A key that does not work is refused before anything is said of what it sent, and the log says that it was used.
func TestVerifyWithAKeyThatDoesNotWork(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	acme := n.organisation(t, "Acme")
	key, id := n.newKey(t, acme, nil)
	n.call(t, ask{Method: "POST", Path: "/api/v1/keys/" + id + "/revoke", Key: acme.key}).want(t, http.StatusOK)
	a := n.call(t, ask{Method: "POST", Path: "/api/v1/verify", Key: key, Body: `{"token":`}).want(t, http.StatusUnauthorized)
	found := n.entries(t, acme.id, "key.refused")
	if len(found) != 1 || found[0].Target.ID != id || found[0].field("reason") != "revoked" || found[0].Request.String() != a.Header.Get("X-Request-Id") ||
		found[0].private["address"] != "127.0.0.1" || len(n.entries(t, acme.id, "request.refused")) != 0 {
		t.Errorf("the log has %+v", found)
	}
}

// A thousand bad requests are a few entries, and none of them goes unsaid.
func TestFloodOfBadRequests(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	acme := n.organisation(t, "Acme")
	key, id := n.newKey(t, acme, nil)
	bad := []ask{
		{Method: "POST", Path: "/api/v1/verify", Key: key, Body: `{"token":`}, {Method: "POST", Path: "/api/v1/verify", Key: key, Body: "{}"},
		{Method: "POST", Path: "/api/v1/scopes", Key: acme.key, Body: `{"name":`},
	}
	const each = 400
	for _, q := range bad {
		n.flood(t, each, http.StatusBadRequest, func(int) ask { return q })
	}
	n.denials.flush(t.Context())
	found := n.entries(t, acme.id, "request.refused")
	by := map[string][]entry{}
	for _, e := range found {
		by[e.Actor.ID] = append(by[e.Actor.ID], e)
	}
	if got := sum(t, by[id]); got != 2*each || sum(t, found) != 3*each {
		t.Errorf("the log tells of %d bad requests of the key, and of %d in all", got, sum(t, found))
	}
	// The background's own flush may have come in between.
	if len(by) != 2 || len(found) > 2*(singleRequests+2) {
		t.Errorf("%d entries, by %d keys", len(found), len(by))
	}
	last := by[id][len(by[id])-1]
	if last.field("kind") != "invalid" || last.field("since") == "" || last.Target.ID != "verify" || last.private["address"] != "127.0.0.1" || last.Outcome != audit.Denied {
		t.Errorf("the count is in %+v %v", last.Entry, last.private)
	}
}

// Whoever holds a key that was revoked cannot fill the log of the organisation that it was of.
func TestFloodWithARevokedKey(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	acme := n.organisation(t, "Acme")
	key, id := n.newKey(t, acme, nil)
	n.call(t, ask{Method: "POST", Path: "/api/v1/keys/" + id + "/revoke", Key: acme.key}).want(t, http.StatusOK)
	before := len(n.entries(t, acme.id, ""))
	const times = 1000
	paths := []ask{{Method: "GET", Path: "/api/v1/keys"}, {Method: "POST", Path: "/api/v1/verify", Body: map[string]any{"token": "x"}}, {Method: "POST", Path: "/api/v1/verify", Body: "{"}}
	n.flood(t, times, http.StatusUnauthorized, func(i int) ask {
		q := paths[i%len(paths)]
		q.Key = key
		return q
	})
	n.denials.flush(t.Context())
	found := n.entries(t, acme.id, "key.refused")
	if got := sum(t, found); got != times || len(found) > singleKeys+2 || len(n.entries(t, acme.id, "")) != before+len(found) {
		t.Errorf("%d uses in %d entries, of %d in all", got, len(found), len(n.entries(t, acme.id, ""))-before)
	}
	for _, e := range found {
		if e.Target.ID != id || e.Actor.ID != id || e.field("reason") != "revoked" || e.Outcome != audit.Denied || e.private["address"] != "127.0.0.1" {
			t.Errorf("the entry is %+v %v", e.Entry, e.private)
		}
	}
}

// Whoever has a key cannot fill its owner's log by putting it into addresses, nor the owner's mailbox; not either with pauses.
func TestFloodOfLeaks(t *testing.T) {
	t.Parallel()
	s, box, c := newSite(t), newPostbox(t), newTicking()
	n := s.start(t, func(cfg *Config) {
		cfg.Mail, cfg.clock = mail.Config{Server: box.addr, From: "avouch@avouch.example"}, c.clock()
	})
	n.denials.mu.Lock()
	n.denials.now = n.now
	n.denials.mu.Unlock()
	acme := n.organisation(t, "Acme")
	c.now.Add(int64(time.Second))
	leaks := 0
	leak := func(times int) {
		n.flood(t, times, http.StatusBadRequest, func(i int) ask {
			return []ask{
				{Method: "GET", Path: fmt.Sprintf("/api/v1/keys?n=%d&k=%s", i, url.QueryEscape(acme.key))}, {Method: "POST", Path: "/api/v1/keys/" + acme.key + "/revoke"},
			}[i%2]
		})
		leaks += times
		n.denials.flush(t.Context())
	}
	leak(100)
	found := n.entries(t, acme.id, "key.leaked")
	if got := sum(t, found); got != leaks || len(found) > singleLeaks+2 {
		t.Errorf("%d leaks in %d entries", got, len(found))
	}
	for range 5 {
		c.now.Add(int64(2 * quiet))
		n.denials.flush(t.Context()) // which forgets what was quiet
		leak(singleLeaks + 2)
	}
	if got := sum(t, n.entries(t, acme.id, "key.leaked")); got != leaks {
		t.Errorf("the log tells of %d leaks of %d", got, leaks)
	}
	c.now.Add(int64(24 * time.Hour))
	n.denials.flush(t.Context())
	leak(1)
	eventually(t, "the next day's mail arrives", func() bool { return len(box.all()) >= 2 })
	if len(box.all()) != 2 {
		t.Errorf("%d mails in two days", len(box.all()))
	}
	key, err := n.Keys.Get(t.Context(), tenantdb.System(acme.id, "test"), strings.Split(acme.key, "_")[2])
	if err != nil || key.Version != 3 {
		t.Errorf("its version is %d, %v: others' If-Match would fail for each leak", key.Version, err)
	}
}

// A verification that is refused because the log cannot be written is not tried to be written there and then: the answer
// comes, and the count is in the log when it can be written again.
func TestUnavailableIsCounted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme, other := n.organisation(t, "Acme"), n.organisation(t, "Other")
	key, id := n.newKey(t, acme, nil)
	q := ask{Method: "POST", Path: "/api/v1/verify", Key: key, Body: map[string]any{"token": "x"}}
	release, err := s.admin.Hold(t.Context(), acme.id.String())
	must(t, err)
	defer release()
	n.flood(t, 8, http.StatusServiceUnavailable, func(int) ask { return q })
	c := tenantdb.NewCaller(tenantdb.CallerSpec{Tenant: acme.id, Actor: audit.Actor{Kind: audit.ActorKey, ID: id}, How: "api-key", RequestID: audit.NewRequestID()})
	start := time.Now()
	n.refused(t.Context(), web.RequestMeta{}, &c, "add-scope", problem.New(problem.Unavailable, "Not now."))
	if took := time.Since(start); took > 3500*time.Millisecond { // an append waits for four
		t.Errorf("an answer was held up for %s", took)
	}
	n.call(t, ask{Method: "POST", Path: "/api/v1/scopes", Key: other.key, Body: "{"}).want(t, http.StatusBadRequest)
	for range singleRequests {
		n.call(t, ask{Method: "POST", Path: "/api/v1/scopes", Key: other.key, Body: "{"}).want(t, http.StatusBadRequest)
	}
	n.denials.flush(t.Context()) // it cannot write Acme's, and writes Other's
	if found := n.entries(t, other.id, "request.refused"); sum(t, found) != singleRequests+1 {
		t.Errorf("a log that cannot be written kept another from it: %d", sum(t, found))
	}
	if found := n.entries(t, acme.id, "request.refused"); len(found) != 0 {
		t.Fatalf("%+v in a log that cannot be written", found)
	}
	release()
	n.denials.flush(t.Context())
	got := map[string]string{}
	for _, e := range n.entries(t, acme.id, "request.refused") {
		got[e.Target.ID+" "+e.field("kind")+" "+e.Actor.ID] += e.field("count")
	}
	if want := map[string]string{"verify unavailable " + id: "8", "add-scope unavailable " + id: "1"}; !maps.Equal(got, want) {
		t.Errorf("the log has %v, want %v", got, want)
	}
}

// A count that makes no entry, whatever is wrong with it, keeps no other from the log, and the server's own log tells of it.
func TestRefusalThatIsNoEntry(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme := n.organisation(t, "Acme")
	nowhere := tenantdb.NewCaller(tenantdb.CallerSpec{Tenant: acme.id, Actor: audit.Actor{Kind: audit.ActorKey, ID: "key"}, RequestID: audit.NewRequestID()})
	for i := range 9 {
		n.refused(t.Context(), web.RequestMeta{}, &nowhere, fmt.Sprint("operation-", i), problem.New(problem.Unavailable, "Not now."))
	}
	n.flood(t, singleRequests+1, http.StatusBadRequest, func(int) ask { return ask{Method: "POST", Path: "/api/v1/scopes", Key: acme.key, Body: "{"} })
	n.denials.flush(t.Context())
	if found := n.entries(t, acme.id, "request.refused"); sum(t, found) != singleRequests+1 {
		t.Errorf("the log tells of %d", sum(t, found))
	}
	if said := s.logged.String(); !strings.Contains(said, "refusals were not recorded") || !strings.Contains(said, "count=9") {
		t.Error("nothing was said of what makes no entry")
	}
}

// A refusal that could not have its own entry is counted.
func TestRefusalThatCouldNotBeWritten(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme := n.organisation(t, "Acme")
	release, err := s.admin.Hold(t.Context(), acme.id.String())
	must(t, err)
	defer release()
	n.call(t, ask{Method: "POST", Path: "/api/v1/verify", Key: acme.key, Body: "{"}).want(t, http.StatusBadRequest)
	release()
	n.stop() // which writes what is owed
	after := s.start(t)
	if found := after.entries(t, acme.id, "request.refused"); len(found) != 1 || found[0].field("count") != "1" || found[0].field("kind") != "invalid" {
		t.Errorf("the log has %+v", found)
	}
}

// Sign-up is open to nobody by default, and to each address a few times when it is open.
func TestSignUpIsLimited(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t, func(c *Config) { c.TrustedProxies, c.SignUpsPerHour = []string{"127.0.0.1"}, 3 })
	from := func(address string) ask {
		return ask{Method: "POST", Path: "/api/v1/organisations", Body: map[string]any{"name": "A"}, Header: map[string]string{"X-Forwarded-For": address}}
	}
	for range 3 {
		n.call(t, from("192.0.2.7")).want(t, http.StatusCreated)
	}
	a := n.call(t, from("192.0.2.7")).want(t, http.StatusTooManyRequests)
	wait, err := strconv.Atoi(a.Header.Get("Retry-After"))
	if err != nil || wait < 1000 || wait > 1200 || a.kind() != "too-many" {
		t.Errorf("Retry-After %q, %s", a.Header.Get("Retry-After"), a.kind())
	}
	n.call(t, from("192.0.2.8")).want(t, http.StatusCreated)
	n.flood(t, 100, http.StatusTooManyRequests, func(int) ask { return from("192.0.2.7") })
	made, err := s.admin.Texts(context.Background(), "SELECT name FROM avouch.organisation WHERE name = 'A'")
	must(t, err)
	if len(made) != 4 {
		t.Errorf("%d organisations were made", len(made))
	}
	n.denials.flush(t.Context())
	counted := 0
	for _, e := range n.entries(t, tenantdb.Platform, "requests.refused") {
		if e.field("kind") == "too-many" && e.private["address"] == "192.0.2.7" {
			counted += sum(t, []entry{e})
		}
	}
	if counted != 101 {
		t.Errorf("%d refusals were counted", counted)
	}
	dev := s.start(t, func(c *Config) { c.TrustedProxies, c.SignUpsPerHour, c.Development = []string{"127.0.0.1"}, 3, true })
	for range 5 {
		dev.call(t, from("192.0.2.7")).want(t, http.StatusCreated)
	}
}
