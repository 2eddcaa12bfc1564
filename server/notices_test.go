package server

import (
	"net/http"
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
	agent := tenantdb.NewCaller(tenantdb.CallerSpec{Tenant: acme.id, Actor: audit.Actor{Kind: audit.ActorAgent, ID: "x"}})
	if err := n.recheck(t.Context(), agent); !problem.Is(err, problem.Denied) {
		t.Errorf("an agent: %v", err)
	}
}
