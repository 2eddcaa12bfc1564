package server

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/signin/password"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/trail"
)

// addressOf gives a person a password, and says what they sign in with.
func (p *place) addressOf(t testing.TB, who tenantdb.PersonID) (address string) {
	t.Helper()
	h, err := p.Passwords.Hash(t.Context(), password.KnownDevice, p.id, who, secret.Text(goodPassword))
	must(t, err)
	must(t, p.DB.Change(t.Context(), tenantdb.System(p.id, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		of, err := p.Org.Profile(t.Context(), &tx.ReadTx, who)
		must(t, err)
		address = of.Address
		return audit.Event{Type: "test.password"}, p.Passwords.Store(t.Context(), tx, who, h)
	}))
	return address
}

// waysIn are all that somebody of the organisation gets in with, each with a try at a server.
func (p *pair) waysIn(t testing.TB, h held) map[string]func(*live) bool {
	t.Helper()
	gets := func(path string, header map[string]string) func(*live) bool {
		return func(n *live) bool {
			return n.call(t, ask{Method: "GET", Path: path, Header: header}).Status == http.StatusOK
		}
	}
	directory, _ := p.newKey(t, p.acme.party, object{"scopes": []string{"scim:write"}})
	bearer := func(key string) map[string]string { return map[string]string{"Authorization": "Bearer " + key} }
	address, connection := p.acme.addressOf(t, h.person), p.acme.object(t, "connection that is on", p.acme.owner)
	agent := p.acme.as(t, p.acme.owner, "POST", "/api/v1/agents/register", object{"name": "x", "capabilities": []string{}})
	checks, _ := p.newKey(t, p.organisation(t, "Service-of-"+p.acme.name), nil)
	return map[string]func(*live) bool{
		"a browser": gets("/api/v1/agents", h.browser), "a program": gets("/api/v1/agents", h.program), "a key": gets("/api/v1/agents", bearer(p.acme.key)),
		"a directory's key": gets("/scim/v2/Users", bearer(directory)),
		"a refresh token": func(n *live) bool {
			a := n.call(t, ask{Method: "POST", Path: "/api/v1/session/refresh", Body: object{"refresh_token": h.refresh, "client_id": "cli"}})
			if a.Status == http.StatusOK {
				h.refresh = a.text("refresh_token")
			}
			return a.Status == http.StatusOK
		},
		"a password": func(n *live) bool {
			return n.call(t, ask{Method: "POST", Path: "/api/v1/sign-in", Body: object{"address": address, "password": goodPassword}}).Status == http.StatusOK
		},
		"a provider": func(n *live) bool {
			a := n.call(t, ask{Method: "POST", Path: "/api/v1/sso/start", Body: object{"connection_id": connection}}).want(t, http.StatusOK)
			return a.text("kind") != "password" || a.text("redirect_url") != "" || a.Header.Get("Set-Cookie") != ""
		},
		"an agent of it": func(n *live) bool {
			a := n.call(t, ask{Method: "POST", Path: "/api/v1/verify", Key: checks, Body: object{"token": agent.text("token")}})
			return a.Status == http.StatusOK && a.text("decision") == "ALLOWED"
		},
	}
}

// follow opens the stream of a log, and reads until it has what there is. One that does not end by itself ends with a failure.
func (n *live) follow(t testing.TB, header map[string]string) io.ReadCloser {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	r, err := n.request(ctx, ask{Method: "GET", Path: "/api/v1/audit/stream?from=0", Header: header})
	must(t, err)
	got, err := (&http.Client{}).Do(r)
	must(t, err)
	t.Cleanup(func() { got.Body.Close() })
	if got.StatusCode != http.StatusOK {
		t.Fatalf("%d", got.StatusCode)
	}
	var seen strings.Builder
	for buf := make([]byte, 4096); !strings.Contains(seen.String(), "session.started"); {
		n, err := got.Body.Read(buf)
		must(t, err)
		seen.Write(buf[:n])
	}
	return got.Body
}

// TestOrganisationEndsOnBoth: of an organisation that is suspended or deleted nobody is let in any more, by whatever credential, and
// nobody who was let in hears more of it; its log can be checked all the same.
func TestOrganisationEndsOnBoth(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for _, name := range []string{"Suspended", "Deleted"} {
		p.acme = p.place(t, name)
		h := p.signedIn(t, org.RoleAdmin)
		ways := p.waysIn(t, h)
		for what, in := range ways {
			if !in(p.second) || !in(p.live) {
				t.Fatalf("%s, at first: %s does not get in", name, what)
			}
		}
		streams := map[string]io.ReadCloser{
			"a browser": p.second.follow(t, h.browser), "a program": p.second.follow(t, h.program), "a key": p.second.follow(t, map[string]string{"X-Api-Key": p.acme.key}),
		}
		if name == "Suspended" {
			must(t, p.Org.Suspend(t.Context(), tenantdb.System(p.acme.id, "operator"), ""))
		} else {
			p.acme.as(t, p.acme.owner, "POST", "/api/v1/organisation/delete", object{"confirm": name})
		}
		for what, in := range ways {
			if in(p.second) || in(p.live) {
				t.Errorf("%s: %s gets in", name, what)
			}
		}
		for what, stream := range streams {
			b, err := io.ReadAll(stream) // which ends
			if err != nil || !strings.Contains(string(b), "the credential no longer counts") || strings.Contains(string(b), "organisation."+strings.ToLower(name)) {
				t.Errorf("%s: the stream of %s ends with %v: %s", name, what, err, b[max(0, len(b)-300):])
			}
		}
		p.checks(t, p.acme.id)
	}
}

// checks exports an organisation's log and checks it without a server.
func (p *pair) checks(t testing.TB, tenant tenantdb.TenantID) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	sum, err := p.second.Trail.Export(t.Context(), tenantdb.System(tenant, "operator"), audit.Into(root), trail.ExportOptions{})
	must(t, err)
	report, err := audit.CheckDir(dir, audit.Known{})
	if err != nil || report.Checked != sum.Size || report.Size < 5 {
		t.Errorf("the log does not verify: %v, %+v", err, report)
	}
}
