package server

import (
	"bufio"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// An incident's mail goes to where its organisation is reached when it is sent, and only once.
func TestIncidentNotice(t *testing.T) {
	t.Parallel()
	s, box := newSite(t), newPostbox(t)
	n := s.start(t, func(c *Config) { c.Mail = mail.Config{Server: box.addr, From: "Avouch <avouch@avouch.example>"} })
	acme, mute := n.organisation(t, "Acme"), n.organisation(t, "Mute")
	tag := n.get(t, "/api/v1/organisation", mute.key).Header.Get("Etag")
	n.call(t, ask{Method: "PATCH", Path: "/api/v1/organisation", Key: mute.key, Body: map[string]any{"contact_email": ""}, Header: map[string]string{"If-Match": tag}}).want(t, http.StatusOK)
	for _, p := range []party{mute, acme, acme} {
		_, err := n.Incident.Raise(t.Context(), tenantdb.System(p.id, "test"), "log.broken", "", "Entry 7 does not follow.")
		must(t, err)
	}
	eventually(t, "the mail arrives", func() bool { return len(box.all()) > 0 })
	eventually(t, "no mail is left to send", func() bool {
		left, err := s.admin.Texts(t.Context(), "SELECT id::text FROM avouch_jobs.river_job WHERE state NOT IN ('completed', 'cancelled')")
		must(t, err)
		return len(left) == 0
	})
	all := box.all()
	if len(all) != 1 {
		t.Fatalf("%d mails", len(all))
	}
	h, text := plain(t, all[0])
	if h.Get("To") != "<owner@acme.example>" || !strings.Contains(h.Get("Subject"), "Incident at Acme") || !strings.Contains(text, "Entry 7 does not follow.") {
		t.Errorf("to %s: %s: %s", h.Get("To"), h.Get("Subject"), text)
	}
	jobs, err := s.admin.Texts(t.Context(), "SELECT j::text FROM avouch_jobs.river_job j")
	must(t, err)
	for _, job := range jobs {
		if strings.Contains(job, "acme.example") || strings.Contains(job, "Acme") {
			t.Errorf("a job's row holds whom it is for: %s", job)
		}
	}
}

// Without a mail server notices wait: none is thrown away, and nothing fails for want of it.
func TestNoticesWaitForAMailServer(t *testing.T) {
	t.Parallel()
	s, box := newSite(t), newPostbox(t)
	without := s.start(t)
	acme := without.organisation(t, "Acme")
	_, err := without.Incident.Raise(t.Context(), tenantdb.System(acme.id, "test"), "log.broken", "", "Entry 7 does not follow.")
	must(t, err)
	eventually(t, "a try has failed", func() bool {
		tried, err := s.admin.Texts(t.Context(), "SELECT errors::text FROM avouch_jobs.river_job WHERE errors IS NOT NULL")
		must(t, err)
		return len(tried) == 1
	})
	without.stop()
	_, err = s.admin.Exec(t.Context(), "UPDATE avouch_jobs.river_job SET state = 'available', scheduled_at = now() - interval '1 second'") // an hour later
	must(t, err)
	s.start(t, func(c *Config) { c.Mail = mail.Config{Server: box.addr, From: "avouch@avouch.example"} })
	eventually(t, "the mail arrives", func() bool { return len(box.all()) == 1 })
}

// An incident of the installation goes to its operator; if nobody is told, the log says so loudly.
func TestInstallationIncidentNotice(t *testing.T) {
	t.Parallel()
	s, box := newSite(t), newPostbox(t)
	platform := tenantdb.System(tenantdb.Platform, "test")
	loud := func() int {
		return strings.Count(s.logged.String(), "level=ERROR msg=\"an incident of the installation is mailed to nobody\"")
	}
	n := s.start(t, func(c *Config) {
		c.Mail, c.OperatorEmail = mail.Config{Server: box.addr, From: "Avouch <avouch@avouch.example>"}, "Ops <ops@host.example>"
	})
	for range 2 {
		_, err := n.raise(t.Context(), platform, "log.broken", "tenant-7", "Entry 7 does not follow.")
		must(t, err)
	}
	eventually(t, "the mail arrives", func() bool { return len(box.all()) > 0 })
	h, text := plain(t, box.all()[0])
	if !strings.Contains(h.Get("To"), "<ops@host.example>") || !strings.Contains(h.Get("Subject"), n.URL()) || !strings.Contains(text, "About tenant-7: Entry 7 does not follow.") {
		t.Errorf("to %s: %s: %s", h.Get("To"), h.Get("Subject"), text)
	}
	if loud() != 0 {
		t.Errorf("the operator was told, and yet: %s", s.logged)
	}
	n.stop()

	quiet := s.start(t, func(c *Config) { c.Mail = mail.Config{Server: box.addr, From: "Avouch <avouch@avouch.example>"} })
	acme := quiet.organisation(t, "Acme")
	for _, c := range []tenantdb.Caller{platform, tenantdb.System(acme.id, "test")} {
		_, err := quiet.raise(t.Context(), c, "log.broken", "tenant-8", "Entry 8 does not follow.")
		must(t, err)
	}
	eventually(t, "no mail is left to send", func() bool {
		left, err := s.admin.Texts(t.Context(), "SELECT id::text FROM avouch_jobs.river_job WHERE state NOT IN ('completed', 'cancelled')")
		must(t, err)
		return len(left) == 0
	})
	if all := box.all(); len(all) != 2 || loud() != 1 || !strings.Contains(s.logged.String(), "AVOUCH_OPERATOR_EMAIL is not set") {
		t.Errorf("%d mails, %d errors: %s", len(all), loud(), s.logged)
	}
	quiet.stop()

	dev := s.start(t, func(c *Config) { c.Development, c.OperatorEmail = true, "operator@avouch.example" })
	_, err := dev.raise(t.Context(), platform, "log.broken", "tenant-9", "Entry 9 does not follow.")
	must(t, err)
	eventually(t, "the mail is in the inbox", func() bool { return len(dev.inbox.Messages()) == 1 })
	if list := dev.get(t, "/dev/inbox", ""); !strings.Contains(list.Raw, "operator@avouch.example") || loud() != 1 {
		t.Errorf("the inbox is %s", list.Raw)
	}
}

// Who hears of the installation's incidents is a setting that can be wrong.
func TestOperatorAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{OperatorEmail: "nobody"}, {OperatorEmail: "a@b.example\r\nBcc: c@d.example"}} {
		if err := (&Server{cfg: c}).openMail(t.Context()); !errors.Is(err, ErrConfig) || strings.Contains(err.Error(), c.OperatorEmail) {
			t.Errorf("%q: %v", c.OperatorEmail, err)
		}
	}
	for want, c := range map[string]Config{
		"AVOUCH_OPERATOR_EMAIL is not set": {Mail: mail.Config{Server: "mail.example:25"}},
		"AVOUCH_MAIL_SERVER is not set":    {OperatorEmail: "ops@host.example"},
		"":                                 {OperatorEmail: "ops@host.example", Development: true},
	} {
		if got := c.Unheard(); got != want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// A stream that is open is asked for its right again, and it ends with the key's.
func TestRecheck(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	acme := n.organisation(t, "Acme")
	caller := func(key string) tenantdb.Caller {
		t.Helper()
		c, err := n.Keys.Authenticate(t.Context(), key, web.RequestMeta{})
		must(t, err)
		return c
	}
	key, id := n.newKey(t, acme, map[string]any{"kind": "owner"})
	c, owner := caller(key), caller(acme.key)
	must(t, n.recheck(t.Context(), c))
	for _, end := range []string{"disable", "enable", "revoke"} {
		n.call(t, ask{Method: "POST", Path: "/api/v1/keys/" + id + "/" + end, Key: acme.key}).want(t, http.StatusOK)
		if err := n.recheck(t.Context(), c); (err == nil) != (end == "enable") {
			t.Errorf("after %s: %v", end, err)
		}
	}
	must(t, n.recheck(t.Context(), owner))
	must(t, n.Org.Suspend(t.Context(), tenantdb.System(acme.id, "operator"), "test"))
	if err := n.recheck(t.Context(), owner); !problem.Is(err, problem.Unauthenticated) {
		t.Errorf("a suspended organisation: %v", err)
	}
	must(t, n.Org.Resume(t.Context(), tenantdb.System(acme.id, "operator"), "test"))
	must(t, n.recheck(t.Context(), owner))
	inside := web.RequestMeta{Address: netip.MustParseAddr("192.0.2.1")}
	key, id = n.newKey(t, acme, map[string]any{"kind": "owner"})
	c, err := n.Keys.Authenticate(t.Context(), key, inside)
	must(t, err)
	for _, network := range []string{"192.0.2.0/24", "10.0.0.0/8"} {
		n.call(t, ask{Method: "PATCH", Path: "/api/v1/keys/" + id, Key: acme.key, Body: map[string]any{"allowed_cidrs": []string{network}}}).want(t, http.StatusOK)
		if err := n.recheck(t.Context(), c); (err == nil) != (network == "192.0.2.0/24") {
			t.Errorf("from an address of a stream's, with the key for %s alone: %v", network, err)
		}
	}
	agent := tenantdb.NewCaller(tenantdb.CallerSpec{Tenant: acme.id, Actor: audit.Actor{Kind: audit.ActorAgent, ID: "x"}})
	if err := n.recheck(t.Context(), agent); !problem.Is(err, problem.Denied) {
		t.Errorf("an agent: %v", err)
	}
}

// What comes into the log after a key's revocation is acknowledged is not shown on a stream that the key opened.
func TestStreamOfARevokedKey(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	acme := n.organisation(t, "Acme")
	key, id := n.newKey(t, acme, map[string]any{"kind": "owner"})
	r, err := n.request(t.Context(), ask{Method: "GET", Path: "/api/v1/audit/stream", Key: key})
	must(t, err)
	stream, err := n.client.Do(r)
	must(t, err)
	defer stream.Body.Close()
	lines := bufio.NewScanner(stream.Body)
	until := func(word string) (seen string) {
		for lines.Scan() {
			seen += lines.Text() + "\n"
			if strings.Contains(lines.Text(), word) {
				return seen
			}
		}
		return seen
	}
	state := func(action string) {
		n.call(t, ask{Method: "POST", Path: "/api/v1/audit/events", Key: acme.key, Body: map[string]any{"action": action}}).want(t, http.StatusOK)
	}
	state("shown")
	if seen := until(`"statement"`); !strings.Contains(seen, "shown") {
		t.Fatalf("the stream shows nothing while the key counts: %s", seen)
	}
	n.call(t, ask{Method: "POST", Path: "/api/v1/keys/" + id + "/revoke", Key: acme.key}).want(t, http.StatusOK)
	state("secret")
	if seen := until("event: end"); strings.Contains(seen, "secret") || strings.Contains(seen, `"statement"`) || !strings.Contains(seen, "event: end") {
		t.Errorf("after the revocation: %s", seen)
	}
	if seen := until("statement"); strings.Contains(seen, "event: entry") {
		t.Errorf("after its end: %s", seen)
	}
}
