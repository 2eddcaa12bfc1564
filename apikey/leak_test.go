package apikey

import (
	"context"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// jobs are the mails that wait to be sent, oldest first.
func (f fixture) jobs(t *testing.T) (list []struct {
	Tenant, Template string
	IDs              map[string]string
}) {
	t.Helper()
	must(t, json.Unmarshal([]byte(f.Text(t, `SELECT coalesce(json_agg(args ORDER BY id), '[]')::text FROM avouch_jobs.river_job`)), &list))
	return list
}

func nobody(id tenantdb.TenantID) tenantdb.Caller {
	return tenantdb.NewCaller(tenantdb.CallerSpec{Tenant: id, Actor: audit.Actor{Kind: audit.ActorNobody}, How: "none", RequestID: audit.NewRequestID()})
}

// TestLeaked: a key that was seen in a request is marked, its organisation told, and it goes on working: who sent it may have
// been its owner.
func TestLeaked(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	other, _ := f.owner(t, "Globex")
	k := f.service(t, owner, NewKey{GivenTo: "alice"})
	l := Leak{Where: "in the address of a request", Via: "request", Request: audit.NewRequestID()}
	must(t, f.room.Leaked(t.Context(), nobody(id), k.ID, l))
	f.as(t, k)
	got, err := f.room.Get(t.Context(), owner, k.ID)
	if err != nil || got.LeakedAt.IsZero() || !got.RevokedAt.IsZero() || got.Version != 2 {
		t.Errorf("it is %+v, %v", got.Key, err)
	}
	if e := f.Last(t, id); e.Type != "key.leaked" || e.Target.ID != k.ID || e.Outcome != audit.Denied || e.Field("where") != "request" || e.Field("revoked") != "false" {
		t.Errorf("the entry is %+v", e)
	}
	if j := f.jobs(t); len(j) != 1 || j[0].Tenant != id.String() || j[0].IDs["key"] != k.ID || j[0].IDs["where"] != l.Where || j[0].IDs["request"] != l.Request.String() {
		t.Errorf("the mails are %+v", j)
	}
	found, _, err := f.room.Risks(t.Context(), owner, nil, 10)
	must(t, err)
	i := slices.IndexFunc(found, func(r AtRisk) bool { return r.ID == k.ID })
	if i < 0 || found[i].Risks[0].Code != "leaked" || found[i].Risks[0].Severity != Critical {
		t.Errorf("its risks are %+v", found)
	}
	want(t, f.room.Leaked(t.Context(), nobody(other), k.ID, l), problem.Missing, "a key of another organisation")
}

// TestLeakIsToldOnceADay: whoever sends a key where it may not be, again and again, has it written each time, and its owner told
// once a day; also of a key that ended before. What ends it is told at once, and a successor has a day of its own.
func TestLeakIsToldOnceADay(t *testing.T) {
	t.Parallel()
	f, now := open(t).still()
	id, owner := f.owner(t, "Acme")
	for _, status := range []Status{Active, Revoked} {
		now.move(time.Second)
		k := f.service(t, owner, NewKey{Scopes: maker})
		if status == Revoked {
			must(t, second(f.room.Revoke(t.Context(), owner, k.ID)))
		}
		entries, mails := len(f.OfType(t, id, "key.leaked")), len(f.jobs(t))
		before, err := f.room.Get(t.Context(), owner, k.ID)
		must(t, err)
		for hour := range 72 {
			now.move(time.Hour)
			must(t, f.room.Leaked(t.Context(), nobody(id), k.ID, Leak{Where: "there", Via: "request"}))
			day := int64(hour/24) + 1
			got, err := f.room.Get(t.Context(), owner, k.ID)
			if n := len(f.jobs(t)) - mails; err != nil || int64(n) != day || got.Version != before.Version+day || now.Now().Sub(got.LeakedAt) != time.Duration(hour%24)*time.Hour {
				t.Fatalf("%s, hour %d: %d mails, version %d, %v, %v", status, hour, n, got.Version, got.LeakedAt, err)
			}
		}
		if n := len(f.OfType(t, id, "key.leaked")) - entries; n != 72 {
			t.Errorf("%s: %d entries", status, n)
		}
		if status == Revoked {
			continue
		}
		mails = len(f.jobs(t))
		now.move(time.Second)
		next, err := f.room.Rotate(t.Context(), f.as(t, k), k.ID, time.Hour)
		must(t, err)
		now.move(time.Second)
		must(t, f.room.Leaked(t.Context(), nobody(id), next.ID, Leak{Where: "there", Via: "request"}))
		must(t, f.room.Leaked(t.Context(), nobody(id), k.ID, Leak{Where: "in public", Via: "github", Revoke: true}))
		if n := len(f.jobs(t)) - mails; n != 2 {
			t.Errorf("of a successor, and of the end: %d mails", n)
		}
	}
}

// TestLeakedKeyStaysLeaked: a key that leaked does not lose the mark by replacing itself: whoever has it has the new one. If
// another replaces it, that is what was to be done.
func TestLeakedKeyStaysLeaked(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	for what, by := range map[string]func(Created) tenantdb.Caller{
		"itself": func(k Created) tenantdb.Caller { return f.as(t, k) }, "another": func(Created) tenantdb.Caller { return owner },
	} {
		k := f.service(t, owner, NewKey{Scopes: maker})
		must(t, f.room.Leaked(t.Context(), nobody(id), k.ID, Leak{Where: "there", Via: "request"}))
		next, err := f.room.Rotate(t.Context(), by(k), k.ID, 0)
		must(t, err)
		found, _, err := f.room.Risks(t.Context(), owner, nil, 100)
		must(t, err)
		marked := slices.ContainsFunc(found, func(r AtRisk) bool {
			return r.ID == next.ID && slices.ContainsFunc(r.Risks, func(one Risk) bool { return one.Code == "leaked" })
		})
		if marked != (what == "itself") {
			t.Errorf("replaced by %s, the new one is marked: %t", what, marked)
		}
	}
}

// gitHub is a room that believes a signer, and its routes.
func (f fixture) gitHub(t *testing.T, s signer) (fixture, *web.API[tenantdb.Caller]) {
	t.Helper()
	cfg := f.room.cfg
	cfg.GitHubKeys = gitHubKeys(t, listed(t, s.public(t)))
	g := fixture{f.Door, New(cfg), f.now}
	return g, g.api()
}

// alert posts a body as GitHub does.
func alert(t *testing.T, api http.Handler, name, signature, body string) (status int, raw string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/secret-scanning/github", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if name != "" {
		r.Header.Set(GitHubKeyHeader, name)
	}
	if signature != "" {
		r.Header.Set(GitHubSignatureHeader, signature)
	}
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func alertOf(keys ...string) string {
	list := make([]map[string]string, len(keys))
	for i, k := range keys {
		list[i] = map[string]string{"token": k, "type": "avouch_api_key", "url": fmt.Sprintf("https://github.example/acme/app/blob/main/a%d.env", i), "source": "content"}
	}
	b, _ := json.Marshal(list) // of texts
	return string(b)
}

// labels are what GitHub is told of each text.
func labels(t *testing.T, raw string) map[string]string {
	t.Helper()
	var list []Feedback
	if err := json.Unmarshal([]byte(raw), &list); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	out := map[string]string{}
	for _, f := range list {
		out[f.TokenHash] = f.Label
	}
	return out
}

func hashOf(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }

// TestGitHubAlert: a key of ours that GitHub found is revoked on every server before GitHub has its answer, its organisation's
// log says so and a mail waits; what is no key of ours is said to be none; and all of it once, however often GitHub sends it.
func TestGitHubAlert(t *testing.T) {
	t.Parallel()
	s := newSigner(t, "now", elliptic.P256())
	f, api := open(t).gitHub(t, s)
	other := f.beside(t)
	id, owner := f.owner(t, "Acme")
	globex, theirOwner := f.owner(t, "Globex")
	svc, data, theirs := f.service(t, owner, NewKey{}), f.make(t, owner, NewKey{Kind: Data}), f.service(t, theirOwner, NewKey{})
	gone := f.service(t, owner, NewKey{})
	must(t, second(f.room.Revoke(t.Context(), owner, gone.ID)))
	unknown, _ := mint(Owner, true)
	real := []string{svc.Secret.Expose(), data.Secret.Expose(), theirs.Secret.Expose(), gone.Secret.Expose()}
	none := []string{unknown.Expose(), forge(svc), svc.Secret.Expose()[:69] + "!", "ghp_somebody_else's", svc.Hint}
	body := alertOf(append(slices.Clone(real), none...)...)
	for range 3 {
		status, raw := alert(t, api, "now", s.sign(t, body), body)
		if status != http.StatusOK {
			t.Fatalf("%d: %s", status, raw)
		}
		said := labels(t, raw)
		for _, k := range real {
			if said[hashOf(k)] != "true_positive" || strings.Contains(raw, k) {
				t.Errorf("of a key of ours: %s", raw)
			}
		}
		for _, k := range none {
			if said[hashOf(k)] != "false_positive" {
				t.Errorf("of %s: %s", k, raw)
			}
		}
		if len(said) != len(real)+len(none) {
			t.Errorf("%d answers", len(said))
		}
		for _, room := range []*Room{f.room, other.room} {
			for _, k := range []Created{svc, theirs} {
				_, err := room.Authenticate(t.Context(), k.Secret.Expose(), web.RequestMeta{})
				want(t, err, problem.Unauthenticated, "a key that leaked")
			}
		}
		if got, err := f.room.Get(t.Context(), owner, data.ID); err != nil || got.Status(f.now.Now()) != Revoked || got.LeakedAt.IsZero() || got.Version != 2 {
			t.Errorf("the data key is %+v, %v", got.Key, err)
		}
		if a, b := len(f.OfType(t, id, "key.leaked")), len(f.OfType(t, globex, "key.leaked")); a != 3 || b != 1 || len(f.jobs(t)) != 4 {
			t.Errorf("%d and %d entries, %d mails", a, b, len(f.jobs(t)))
		}
	}
	e := f.OfType(t, id, "key.leaked")[0]
	if e.Target.ID != svc.ID || e.Field("where") != "github" || e.Field("revoked") != "true" || e.How != "github" || e.Private["url"] != "https://github.example/acme/app/blob/main/a0.env" || strings.Contains(string(e.Body), "github.example") {
		t.Errorf("the entry is %+v", e)
	}
	if j := f.jobs(t)[0]; !strings.Contains(j.IDs["where"], "https://github.example/acme/app/blob/main/a0.env") {
		t.Errorf("the mail does not say where: %+v", j)
	}
	for _, k := range real {
		f.nowhere(t, "a key that leaked", []byte(k), svc.Hint)
	}
}

// TestOneAlertCostsNoOther: GitHub is told to send its alerts again if this server cannot judge one of them, and every other that
// came with it is heeded at once. One of which nobody can ever say whose it is does not even cost that.
func TestOneAlertCostsNoOther(t *testing.T) {
	t.Parallel()
	s := newSigner(t, "now", elliptic.P256())
	door := open(t)
	oldest, newest := on(door.Peppered(t, pepper("1"))), on(door.Peppered(t, pepper("3")))
	f, api := on(door.Peppered(t, pepper("2"))).gitHub(t, s)
	_, owner := f.owner(t, "Acme")
	retired, early := oldest.service(t, owner, NewKey{}), newest.service(t, owner, NewKey{}) // of a pepper that this server has not been given
	first, last := f.service(t, owner, NewKey{}), f.service(t, owner, NewKey{})
	status := func(keys ...Created) (int, map[string]string) {
		var texts []string
		for _, k := range keys {
			texts = append(texts, k.Secret.Expose())
		}
		body := alertOf(texts...)
		code, raw := alert(t, api, "now", s.sign(t, body), body)
		if code != http.StatusOK {
			return code, nil
		}
		return code, labels(t, raw)
	}
	revoked := func(k Created, is bool) {
		t.Helper()
		if got, err := f.room.Get(t.Context(), owner, k.ID); err != nil || got.RevokedAt.IsZero() == is {
			t.Errorf("revoked: %t, %v", !is, err)
		}
	}
	if code, said := status(retired, first); code != http.StatusOK || said[hashOf(retired.Secret.Expose())] != "false_positive" || said[hashOf(first.Secret.Expose())] != "true_positive" {
		t.Errorf("with a retired one: %d %v", code, said)
	}
	revoked(first, true)
	if code, _ := status(early, last); code != http.StatusServiceUnavailable {
		t.Errorf("with one that cannot be judged here yet: %d", code)
	}
	revoked(last, true)
	revoked(early, false)
}

// TestAlertsThatNobodyLookedAt: if the time is over before all were heeded, GitHub is not told that all is well: it would not send
// them again.
func TestAlertsThatNobodyLookedAt(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	k := f.service(t, owner, NewKey{})
	alerts, err := parseAlerts([]byte(alertOf("no key at all", k.Secret.Expose())))
	must(t, err)
	over, end := context.WithCancel(t.Context())
	end()
	_, err = f.room.heedAll(over, alerts, audit.NewRequestID())
	want(t, err, problem.Unavailable, "alerts that nobody looked at")
	f.as(t, k)
	said, err := f.room.heedAll(t.Context(), alerts, audit.NewRequestID())
	if err != nil || len(said) != 2 {
		t.Errorf("sent again: %v, %v", said, err)
	}
	_, err = f.room.Authenticate(t.Context(), k.Secret.Expose(), web.RequestMeta{})
	want(t, err, problem.Unauthenticated, "the key")
}

// TestForgedAlert: nobody but GitHub ends keys so, and who tries leaves nothing.
func TestForgedAlert(t *testing.T) {
	t.Parallel()
	s, stranger := newSigner(t, "now", elliptic.P256()), newSigner(t, "now", elliptic.P256())
	plain := open(t)
	f, api := plain.gitHub(t, s)
	_, owner := f.owner(t, "Acme")
	k := f.service(t, owner, NewKey{})
	body := alertOf(k.Secret.Expose())
	good := s.sign(t, body)
	before := f.state(t)
	entries := f.Text(t, `SELECT count(*)::text FROM avouch.audit_entry`)
	for what, tt := range map[string]struct {
		api                   http.Handler
		name, signature, body string
		status                int
	}{
		"no signature":                    {api, "now", "", body, 401},
		"no name":                         {api, "", good, body, 401},
		"a name that is not known":        {api, "next", good, body, 401},
		"a stranger's":                    {api, "now", stranger.sign(t, body), body, 401},
		"another body":                    {api, "now", good, body + " ", 401},
		"a server that was given no keys": {plain.api(), "now", good, body, 401},
		"what is no list":                 {api, "now", s.sign(t, `{"token":"x"}`), `{"token":"x"}`, 400},
		"an empty list":                   {api, "now", s.sign(t, `[]`), `[]`, 400},
	} {
		status, raw := alert(t, tt.api, tt.name, tt.signature, tt.body)
		if unlisted := strings.Contains(raw, "AVOUCH_GITHUB_KEYS_FILE"); unlisted != strings.Contains(what, "given no keys") {
			t.Errorf("%s: it says %s", what, raw)
		}
		if status != tt.status || strings.Contains(raw, k.Secret.Expose()[21:64]) {
			t.Errorf("%s: %d %s", what, status, raw)
		}
	}
	if f.state(t) != before || f.Text(t, `SELECT count(*)::text FROM avouch.audit_entry`) != entries || len(f.jobs(t)) != 0 {
		t.Error("it left something")
	}
	f.as(t, k)
	if strings.Contains(f.Logged(), k.Secret.Expose()[21:64]) {
		t.Error("the log holds the key")
	}
}

// TestAlertAfterALeakInARequest: that a key was seen before does not keep an alert from ending it.
func TestAlertAfterALeakInARequest(t *testing.T) {
	t.Parallel()
	s := newSigner(t, "now", elliptic.P256())
	f, api := open(t).gitHub(t, s)
	id, owner := f.owner(t, "Acme")
	k := f.service(t, owner, NewKey{})
	must(t, f.room.Leaked(t.Context(), nobody(id), k.ID, Leak{Where: "there", Via: "request"}))
	f.now.move(time.Hour)
	body := alertOf(k.Secret.Expose())
	if status, raw := alert(t, api, "now", s.sign(t, body), body); status != http.StatusOK {
		t.Fatal(status, raw)
	}
	_, err := f.room.Authenticate(t.Context(), k.Secret.Expose(), web.RequestMeta{})
	want(t, err, problem.Unauthenticated, "the key")
	if n := len(f.jobs(t)); n != 2 {
		t.Errorf("%d mails", n)
	}
}
