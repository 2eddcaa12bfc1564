package server

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestKeyMails: what an organisation reads when a key of its own has leaked, or ends soon. AVOUCH_SHOW_MAILS=1 prints them.
func TestKeyMails(t *testing.T) {
	t.Parallel()
	s, box := newSite(t), newPostbox(t)
	n := s.start(t, func(c *Config) { c.Mail = mail.Config{Server: box.addr, From: "Avouch <avouch@avouch.example>"} })
	acme := n.organisation(t, "Acme")
	system := tenantdb.System(acme.id, "test")
	mailed := func(what string, words, never []string) {
		t.Helper()
		before := len(box.all())
		eventually(t, what, func() bool { return len(box.all()) > before })
		h, text := plain(t, box.all()[before])
		if os.Getenv("AVOUCH_SHOW_MAILS") != "" {
			t.Logf("%s\nTo: %s\nSubject: %s\n\n%s", what, h.Get("To"), h.Get("Subject"), text)
		}
		text = h.Get("Subject") + "\n" + text
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("%s: the mail does not say %q: %s", what, w, text)
			}
		}
		for _, w := range never {
			if strings.Contains(text, w) {
				t.Errorf("%s: the mail says %q: %s", what, w, text)
			}
		}
	}
	leak := apikey.Leak{
		Where: "to a public place (https://github.example/acme/app)", Via: "github", URL: "https://github.example/acme/app", Request: audit.NewRequestID(), Revoke: true,
	}
	key, id := n.newKey(t, acme, map[string]any{"name": "the leaky one"})
	n.call(t, ask{Method: "GET", Path: "/api/v1/organisation", Key: key}).want(t, http.StatusForbidden)
	must(t, n.Keys.Leaked(t.Context(), system, id, leak))
	mailed("a key that was revoked for a leak", []string{"Acme", "the leaky one", id, "https://github.example/acme/app", "revoked", "works no longer"}, []string{"still works", "revoke it at once", "--children", key})
	n.call(t, ask{Method: "GET", Path: "/api/v1/organisation", Key: key}).want(t, http.StatusUnauthorized)
	_, id = n.newKey(t, acme, map[string]any{"name": "the careless one"})
	maker, makerID := n.newKey(t, acme, map[string]any{"name": "the maker", "scopes": []string{"keys:write"}})
	for range 2 {
		n.newKey(t, party{id: acme.id, key: maker}, map[string]any{"name": "a customer's", "kind": "data"})
	}
	must(t, n.Keys.Leaked(t.Context(), system, makerID, leak))
	mailed("a key that has made others", []string{"the maker", "works no longer", "still in force: 2.", "avouch keys list --made-by " + makerID, "avouch keys revoke " + makerID + " --children"}, []string{"still works"})
	if few, many := keysLeft("999"), keysLeft("1000"); few != "999" || many != "at least 1000" {
		t.Errorf("%q and %q are left", few, many)
	}
	leak.Revoke, leak.Where = false, "in the address of a request"
	must(t, n.Keys.Leaked(t.Context(), system, id, leak))
	mailed("a key that leaked and works", []string{"the careless one", "still works", "revoke it at once"}, []string{"works no longer"})

	for after, words := range map[time.Duration][]string{
		12 * time.Hour:             {"expires in 1 day,", "A key of Acme", "Given to:   alice", "Last used:  never"},
		4*24*time.Hour + time.Hour: {"expires in 5 days,", "rotate"},
	} {
		end := time.Now().Add(after)
		n.newKey(t, acme, map[string]any{"name": "the late one", "owner": "alice", "expires_at": end.UTC().Format(time.RFC3339Nano)})
		must(t, n.notifyOfKeys(t.Context()))
		mailed("a key that ends", append(words, "the late one", end.UTC().Format(time.RFC1123)), nil)
	}
	must(t, n.notifyOfKeys(t.Context()))
}

// ticking is a clock that the test moves, and whose hours it strikes; shorter and longer intervals are real.
type ticking struct {
	now  atomic.Int64
	hour chan time.Time
}

func newTicking() *ticking {
	c := &ticking{hour: make(chan time.Time)}
	c.now.Store(time.Now().UnixNano())
	return c
}

func (c *ticking) clock() clock {
	return clock{at: func() time.Time { return time.Unix(0, c.now.Load()) }, tick: func(interval time.Duration) (<-chan time.Time, func()) {
		if interval == time.Hour {
			return c.hour, func() {}
		}
		t := time.NewTicker(interval)
		return t.C, t.Stop
	}}
}

// hourly is how many parts of a server wait for hours, each for its turn.
const hourly = 4

// strike moves the clock, and lets one hour end.
func (c *ticking) strike(t *testing.T, d time.Duration) {
	t.Helper()
	c.now.Add(int64(d))
	select {
	case c.hour <- time.Unix(0, c.now.Load()):
	case <-time.After(30 * time.Second):
		t.Fatal("nothing in the server waits for the hour to end")
	}
}

// TestExpiryNoticesComeBySchedule: nobody asks a server for notices: they come by the hour, each once, many keys in one mail.
func TestExpiryNoticesComeBySchedule(t *testing.T) {
	t.Parallel()
	s, box, c := newSite(t), newPostbox(t), newTicking()
	n := s.start(t, func(cfg *Config) {
		cfg.Mail, cfg.clock = mail.Config{Server: box.addr, From: "Avouch <avouch@avouch.example>"}, c.clock()
	})
	acme := n.organisation(t, "Acme")
	n.newKey(t, acme, map[string]any{"name": "the one"})
	n.newKey(t, acme, map[string]any{"name": "the other"})
	_, gone := n.newKey(t, acme, map[string]any{"name": "the third"})
	for i, move := range []time.Duration{61 * 24 * time.Hour, 23 * 24 * time.Hour, 5*24*time.Hour + 12*time.Hour} {
		c.strike(t, move)
		for range hourly - 2 {
			c.strike(t, time.Minute)
		}
		c.strike(t, time.Minute) // when this is taken, the pass before has ended
		eventually(t, "a mail arrives", func() bool { return len(box.all()) > i })
		all := box.all()
		h, text := plain(t, all[i])
		days, keys := []string{"29 days", "6 days", "1 day"}[i], 3-min(i, 1)
		if len(all) != i+1 || !strings.Contains(h.Get("Subject"), fmt.Sprintf("%d keys of Acme expire soon, the first in %s", keys, days)) ||
			!strings.Contains(text, "the one (") || !strings.Contains(text, "the other (") || strings.Contains(text, "the third") != (i == 0) {
			t.Fatalf("%d mails; the last is %s\n%s", len(all), h.Get("Subject"), text)
		}
		if i == 0 {
			must(t, second(n.Keys.Revoke(t.Context(), tenantdb.System(acme.id, "test"), gone)))
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestOneOrganisationsFaultIsNoOthers: what cannot be done for one organisation is done for those after it all the same.
func TestOneOrganisationsFaultIsNoOthers(t *testing.T) {
	t.Parallel()
	s, box := newSite(t), newPostbox(t)
	n := s.start(t, func(c *Config) { c.Mail = mail.Config{Server: box.addr, From: "Avouch <avouch@avouch.example>"} })
	broken, after := n.organisation(t, "Acme"), n.organisation(t, "Globex")
	if broken.id.String() > after.id.String() {
		broken, after = after, broken
	}
	end := time.Now().Add(12 * time.Hour).UTC().Format(time.RFC3339Nano)
	for _, p := range []party{broken, after} {
		key := map[string]any{"name": "x", "kind": "service", "expires_at": end}
		n.call(t, ask{Method: "POST", Path: "/api/v1/keys", Key: p.key, Body: key, Header: map[string]string{"Idempotency-Key": "one"}}).want(t, http.StatusCreated)
	}
	must(t, n.Ring.Destroy(t.Context(), broken.id, keyring.UseSubjects, 1))
	must(t, n.notifyOfKeys(t.Context()))
	eventually(t, "the other organisation is told", func() bool { return len(box.all()) == 1 })
	failed := func() int { return strings.Count(s.logged.String(), "background work failed for one organisation") }
	if failed() != 1 || !strings.Contains(s.logged.String(), broken.id.String()) {
		t.Errorf("the log does not say for whom it failed: %s", s.logged)
	}

	for _, sql := range []string{
		"UPDATE avouch.idempotency SET created_at = created_at - interval '90 days'",
		"CREATE FUNCTION avouch.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken'; END $$",
		"CREATE TRIGGER broken BEFORE DELETE ON avouch.idempotency FOR EACH ROW WHEN (OLD.tenant_id = '" + broken.id.String() + "') EXECUTE FUNCTION avouch.refuse()",
	} {
		must(t, second(s.admin.Exec(t.Context(), sql)))
	}
	must(t, n.purge(t.Context()))
	left, err := s.admin.Texts(t.Context(), "SELECT tenant_id::text FROM avouch.idempotency")
	must(t, err)
	if failed() != 2 || len(left) != 1 || left[0] != broken.id.String() {
		t.Errorf("one organisation's fault keeps what others do not need: %v", left)
	}
}

// TestKeyLastUsed: what a server sees of a request is what the key's last use says, whatever the operation.
func TestKeyLastUsed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme := n.organisation(t, "Acme")
	key, id := n.newKey(t, acme, nil)
	if got := n.get(t, "/api/v1/keys/"+id, acme.key); got.Body["last_used_at"] != nil {
		t.Errorf("before: %s", got.Raw)
	}
	for _, q := range []ask{
		{Method: "GET", Path: "/api/v1/keys", Key: key, Header: map[string]string{"User-Agent": "reader/1"}},
		{Method: "POST", Path: "/api/v1/verify", Key: key, Body: map[string]any{"token": "x", "agent": "x"}, Header: map[string]string{"User-Agent": "verifier/1"}},
		{Method: "POST", Path: "/api/v1/keys/verify", Key: key, Body: map[string]any{"key": "some key or other"}, Header: map[string]string{"User-Agent": "keys/1"}},
	} {
		a := n.call(t, q)
		if a.Status == http.StatusUnauthorized {
			t.Fatalf("%s: %s", a.asked, a.Raw)
		}
		must(t, n.Keys.Flush(t.Context()))
		got := n.get(t, "/api/v1/keys/"+id, acme.key)
		if a.Status < 400 || q.Method == "GET" { // a request that is refused for what it asks is a use too
			if got.text("last_used_with") != q.Header["User-Agent"] || got.text("last_used_from") != "127.0.0.1" || got.text("last_used_at") == "" {
				t.Errorf("after %s (%d): %s", a.asked, a.Status, got.Raw)
			}
		}
	}
}

// TestUsesSurviveAStop: what keys were used for in the last minute is written down before a server ends.
func TestUsesSurviveAStop(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n, after := s.start(t), s.start(t)
	acme := n.organisation(t, "Acme")
	key, id := n.newKey(t, acme, map[string]any{"kind": "owner"})
	before := len(after.entries(t, acme.id, "key.used"))
	for range 3 {
		n.get(t, "/api/v1/keys", key).want(t, http.StatusOK)
	}
	n.stop()
	times := 0
	for _, e := range after.entries(t, acme.id, "key.used")[before:] {
		if e.Target.ID == id {
			n, err := strconv.Atoi(e.field("times"))
			must(t, err)
			times += n
		}
	}
	if got := after.get(t, "/api/v1/keys/"+id, acme.key); times != 3 || got.Body["last_used_at"] == nil {
		t.Errorf("used %d times: %s", times, got.Raw)
	}
}

// TestDataKeysOpenNothing: there is no operation that a data key gets into.
func TestDataKeysOpenNothing(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	acme := n.organisation(t, "Acme")
	key, _ := n.newKey(t, acme, map[string]any{"kind": "data", "scopes": []string{"*"}})
	described := n.get(t, "/openapi.json", "").want(t, http.StatusOK)
	asked := 0
	for path, methods := range described.Body["paths"].(map[string]any) {
		for method, op := range methods.(map[string]any) {
			operation := op.(map[string]any)
			if id := operation["operationId"].(string); open()[id] != "" || !strings.HasPrefix(path, "/api/v1/") {
				continue // for everybody, or for directories
			}
			to := regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(path, "00000000000")
			for _, header := range []map[string]string{{"Authorization": "Bearer " + key}, {"X-API-Key": key}} {
				q := ask{Method: strings.ToUpper(method), Path: to, Header: header}
				if q.Method != "GET" && q.Method != "DELETE" {
					q.Body = `{}`
				}
				if a := n.call(t, q); a.Status != http.StatusUnauthorized {
					t.Errorf("%s (%v): %d %s", a.asked, operation["operationId"], a.Status, a.Raw)
				}
				asked++
			}
		}
	}
	if asked < 40 {
		t.Errorf("only %d requests were made", asked)
	}
	if found := n.entries(t, acme.id, "key.refused"); len(found) == 0 || found[0].field("reason") != "data_key" {
		t.Errorf("the log has %+v", found)
	}
}
