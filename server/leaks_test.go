package server

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	netmail "net/mail"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/tenantdb"
)

// postbox is an SMTP server that keeps what it is given.
type postbox struct {
	addr string
	mu   sync.Mutex
	mail []string // as it came over the wire, after DATA
}

func newPostbox(t testing.TB) *postbox {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &postbox{addr: l.Addr().String()}
	var open sync.WaitGroup
	t.Cleanup(func() { l.Close(); open.Wait() })
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { p.serve(c) })
		}
	})
	return p
}

func (p *postbox) serve(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(c)
	say := func(line string) { io.WriteString(c, line+"\r\n") }
	for say("220 postbox ESMTP"); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.ToUpper(verb) {
		case "DATA":
			say("354 go on")
			var message strings.Builder
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				message.WriteString(strings.TrimPrefix(line, "."))
			}
			p.mu.Lock()
			p.mail = append(p.mail, message.String())
			p.mu.Unlock()
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (p *postbox) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.mail...)
}

// plain is a message's headers and its text.
func plain(t testing.TB, message string) (h netmail.Header, text string) {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(message))
	must(t, err)
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	must(t, err)
	part, err := multipart.NewReader(m.Body, params["boundary"]).NextRawPart()
	must(t, err)
	var body io.Reader = part
	if part.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
		body = quotedprintable.NewReader(part)
	}
	b, err := io.ReadAll(body)
	must(t, err)
	return m.Header, string(b)
}

func TestLeakedKeyInAnAddress(t *testing.T) {
	t.Parallel()
	s, box := newSite(t), newPostbox(t)
	n := s.start(t, func(c *Config) { c.Mail = mail.Config{Server: box.addr, From: "Avouch <avouch@avouch.example>"} })
	acme := n.organisation(t, "Acme")
	key, id := n.newKey(t, acme, map[string]any{"name": "the leaky one"})
	a := n.get(t, "/api/v1/keys?api_key="+url.QueryEscape(key), "").want(t, http.StatusBadRequest)
	if a.kind() != "invalid" || strings.Contains(a.Raw, key) {
		t.Errorf("the answer is %s", a.Raw)
	}
	found := n.entries(t, acme.id, "key.leaked")
	if len(found) != 1 {
		t.Fatalf("%d entries", len(found))
	}
	e := found[0]
	if e.Target.ID != id || e.Outcome != audit.Denied || e.Actor.Kind != audit.ActorNobody || e.Request.String() != a.Header.Get("X-Request-Id") || e.private["address"] != "127.0.0.1" {
		t.Errorf("the entry is %+v %v", e.Entry, e.private)
	}
	eventually(t, "the owner's mail arrives", func() bool { return len(box.all()) == 1 })
	h, text := plain(t, box.all()[0])
	if h.Get("To") != "<owner@acme.example>" || !strings.Contains(h.Get("Subject"), "leaked") {
		t.Errorf("to %s: %s", h.Get("To"), h.Get("Subject"))
	}
	for _, want := range []string{"Acme", "the leaky one", id, a.Header.Get("X-Request-Id")} {
		if !strings.Contains(text, want) {
			t.Errorf("the mail does not say %q: %s", want, text)
		}
	}
	s.nowhere(t, n, box, key)
}

// nowhere looks for a secret in all that was written, sent or stored, and makes sure that it looks where something is.
func (s *site) nowhere(t *testing.T, n *live, box *postbox, secret string) {
	t.Helper()
	dump, err := s.admin.Texts(t.Context(), `SELECT query_to_xml(format('SELECT t::text FROM %I.%I t', table_schema, table_name), true, true, '')::text
		FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_type = 'BASE TABLE'`)
	must(t, err)
	places := map[string]string{"log": s.logged.String(), "mail": strings.Join(box.all(), ""), "metrics": n.get(t, "/metrics", "").Raw, "database": strings.Join(dump, "")}
	for place, text := range places {
		if len(text) < 100 {
			t.Errorf("the %s is empty: nothing was looked at", place)
		}
		// The part behind the id is the secret one; a part of it is as bad as the whole.
		part := secret[len(secret)-24 : len(secret)-8]
		if strings.Contains(text, part) || strings.Contains(text, hex.EncodeToString([]byte(part))) {
			t.Errorf("the %s holds the key", place)
		}
	}
	for _, there := range []string{"mail.send", hex.EncodeToString([]byte("key.leaked"))} { // a job's text, and bytes of an entry
		if !strings.Contains(places["database"], there) {
			t.Errorf("the dump does not hold %s: it is not a dump", there)
		}
	}
}

// TestLeakedKeyInAPath: the likeliest mistake, a key for its key_id, is a leak whatever the method and wherever it leads.
func TestLeakedKeyInAPath(t *testing.T) {
	t.Parallel()
	for _, public := range []string{"", "https://avouch.example"} {
		s, box := newSite(t), newPostbox(t)
		s.issuer = public
		n := s.start(t, func(c *Config) {
			c.PublicURL, c.TrustedProxies, c.Mail = public, []string{"127.0.0.1"}, mail.Config{Server: box.addr, From: "avouch@avouch.example"}
		})
		acme := n.organisation(t, "Acme")
		made, err := n.Keys.Create(t.Context(), tenantdb.System(acme.id, "test"), apikey.NewKey{Name: "the leaky one", Kind: apikey.Data})
		must(t, err)
		key := made.Secret.Expose()
		for i, q := range []ask{
			{Method: "GET", Path: "/api/v1/keys/" + key, Key: acme.key}, {Method: "POST", Path: "/api/v1/keys/" + key + "/revoke"},
			{Method: "PUT", Path: "/api/v1/key-owners/" + strings.ReplaceAll(key, "_", "%255F"), Body: "{}"},
			{Method: "GET", Path: "/nowhere/" + strings.ReplaceAll(key, "_", "%5f")}, {Method: "GET", Path: "/agents/" + key + "/did.json"},
		} {
			a := n.call(t, q).want(t, http.StatusBadRequest)
			if !strings.Contains(a.text("detail"), "key_id") || strings.Contains(a.Raw, key) || a.Header.Get("Location") != "" {
				t.Errorf("%s: %s", a.asked, a.Raw)
			}
			found := n.entries(t, acme.id, "key.leaked")
			if len(found) != i+1 || found[i].Target.ID != made.ID || found[i].Request.String() != a.Header.Get("X-Request-Id") {
				t.Errorf("%s: %d entries", a.asked, len(found))
			}
		}
		if k, err := n.Keys.Get(t.Context(), tenantdb.System(acme.id, "test"), made.ID); err != nil || k.LeakedAt.IsZero() {
			t.Errorf("it is not marked: %v", err)
		}
		eventually(t, "the owner's mail arrives", func() bool { return len(box.all()) == 1 })
		s.nowhere(t, n, box, key)
	}
}

// TestCredentialsThatDisagree: who sends two is told so, and who sends none is told both ways to send one.
func TestCredentialsThatDisagree(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	acme := n.organisation(t, "Acme")
	other, _ := n.newKey(t, acme, nil)
	for what, c := range map[string]struct {
		header map[string]string
		status int
		says   string
	}{
		"none":     {nil, http.StatusUnauthorized, "X-API-Key"},
		"two":      {map[string]string{"Authorization": "Bearer " + acme.key, "X-API-Key": other}, http.StatusUnauthorized, "Two different credentials"},
		"no key":   {map[string]string{"Authorization": "Basic eDp5"}, http.StatusUnauthorized, "X-API-Key"},
		"one":      {map[string]string{"X-API-Key": acme.key}, http.StatusOK, ""},
		"one, two": {map[string]string{"Authorization": "Bearer " + acme.key, "X-API-Key": acme.key}, http.StatusOK, ""},
	} {
		a := n.call(t, ask{Method: "GET", Path: "/api/v1/organisation", Header: c.header})
		if a.Status != c.status || !strings.Contains(a.text("detail"), c.says) {
			t.Errorf("%s: %d %s", what, a.Status, a.Raw)
		}
	}
}

func TestLeakedKeyOverPlainHTTP(t *testing.T) {
	t.Parallel()
	s, box := newSite(t), newPostbox(t)
	s.issuer = "https://avouch.example"
	n := s.start(t, func(c *Config) {
		c.TrustedProxies, c.Mail = []string{"127.0.0.1"}, mail.Config{Server: box.addr, From: "avouch@avouch.example"}
	})
	acme := n.organisation(t, "Acme")
	for i, q := range []ask{
		{Method: "GET", Path: "/api/v1/keys", Key: acme.key},
		{Method: "GET", Path: "/api/v1/keys", Header: map[string]string{"X-Api-Key": acme.key}},
		{Method: "POST", Path: "/api/v1/verify", Key: acme.key, Body: map[string]any{"token": "x"}},
		{Method: "GET", Path: "/docs?k=" + acme.key},
	} {
		a := n.call(t, q).want(t, http.StatusBadRequest)
		if a.Header.Get("Location") != "" || !strings.Contains(a.text("detail"), "plain HTTP") {
			t.Errorf("%s: %s", a.asked, a.Raw)
		}
		if found := len(n.entries(t, acme.id, "key.leaked")); found != i+1 {
			t.Errorf("%s: %d entries", a.asked, found)
		}
	}
	eventually(t, "the owner's mail arrives", func() bool { return len(box.all()) == 1 })
	s.nowhere(t, n, box, acme.key)
}

// A credential that is not real tells nobody anything: no entry, no mail, and the same answer as for a real one.
func TestLeakedNonsense(t *testing.T) {
	t.Parallel()
	s, box := newSite(t), newPostbox(t)
	n := s.start(t, func(c *Config) { c.Mail = mail.Config{Server: box.addr, From: "avouch@avouch.example"} })
	acme := n.organisation(t, "Acme")
	damaged := acme.key[:len(acme.key)-1] + "0"
	if damaged == acme.key {
		damaged = acme.key[:len(acme.key)-1] + "1"
	}
	leaked := n.get(t, "/api/v1/keys?k="+acme.key, "").want(t, http.StatusBadRequest)
	for _, k := range []string{damaged, "avk_live_00000000000_nonsense", "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.AAAA"} {
		a := n.get(t, "/api/v1/keys?k="+k, "").want(t, http.StatusBadRequest)
		if a.text("detail") != leaked.text("detail") {
			t.Errorf("the answer tells a real key from another: %s", a.Raw)
		}
	}
	eventually(t, "the real one's mail arrives", func() bool { return len(box.all()) == 1 })
	if found := n.entries(t, acme.id, "key.leaked"); len(found) != 1 {
		t.Errorf("%d entries", len(found))
	}
}

// wrongSecret is a key's id with the secret of nobody, another one for each n, and the right checksum.
func wrongSecret(key string, n int) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	body := key[:21] + fmt.Sprintf("%043d", n)
	sum, out := crc32.ChecksumIEEE([]byte(body)), [6]byte{}
	for i := range out {
		out[5-i] = digits[sum%62]
		sum /= 62
	}
	return body + string(out[:])
}

// TestLeakedNonsenseIsCounted: unknown keys in the addresses of requests are looked up as often as in headers, and no more often:
// both count as one. A key that this server knows is told of all the same.
func TestLeakedNonsenseIsCounted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t, func(c *Config) { c.UnknownKeys = 3 })
	acme := n.organisation(t, "Acme")
	n.get(t, "/api/v1/organisation", acme.key).want(t, http.StatusOK)
	for i := range 3 {
		n.get(t, "/api/v1/keys?k="+wrongSecret(acme.key, i), "").want(t, http.StatusBadRequest)
	}
	n.get(t, "/api/v1/keys", wrongSecret(acme.key, 3)).want(t, http.StatusTooManyRequests)
	n.get(t, "/api/v1/keys?k="+acme.key, "").want(t, http.StatusBadRequest)
	if found := n.entries(t, acme.id, "key.leaked"); len(found) != 1 {
		t.Errorf("%d entries of the known key", len(found))
	}
}

// In development mail goes into a page, and in production there is no such page.
func TestDevelopmentInbox(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t, func(c *Config) { c.Development = true })
	acme := n.organisation(t, "Acme")
	key, id := n.newKey(t, acme, nil)
	n.get(t, "/api/v1/keys?k="+key, "").want(t, http.StatusBadRequest)
	eventually(t, "the mail is in the inbox", func() bool { return len(n.inbox.Messages()) == 1 })
	if list := n.get(t, "/dev/inbox", "").want(t, http.StatusOK); !strings.Contains(list.Raw, "owner@acme.example") {
		t.Errorf("the list is %s", list.Raw)
	}
	if one := n.get(t, "/dev/inbox/1", "").want(t, http.StatusOK); !strings.Contains(one.Raw, id) || strings.Contains(one.Raw, key) {
		t.Errorf("the message is %s", one.Raw)
	}
	// The page of a site whose own name leads to this machine is told nothing.
	for host, status := range map[string]int{"evil.example": 403, "evil.example:7070": 403, "localhost.evil.example": 403, "localhost": 200, "[::1]:7070": 200, "127.0.0.1": 200} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.url+"/dev/inbox/1", nil)
		must(t, err)
		req.Host = host
		got, err := n.client.Do(req)
		must(t, err)
		said, err := io.ReadAll(got.Body)
		must(t, errors.Join(err, got.Body.Close()))
		if got.StatusCode != status || strings.Contains(string(said), id) != (status == 200) {
			t.Errorf("as %s: %d: %s", host, got.StatusCode, said)
		}
	}
	production := s.start(t)
	production.get(t, "/dev/inbox", "").want(t, http.StatusNotFound)
}
