package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/server"
)

// domain is the organisation's in the tests of providers and directories.
const domain = "engines.example"

// organised is an organisation whose owner joined by mail and uses its API by a program.
type organised struct {
	*people
	zone   *zone
	client *http.Client
	tenant string
	token  string // the owner's
	key    string // of the owner's authenticator
	codes  []string
}

const ada = "ada@" + domain

// organise opens a server that asks a name server of ours and reaches providers on this machine, and has an owner join; with a
// certificate, over TLS.
func organise(t testing.TB, cert, key, ca string) *organised {
	t.Helper()
	z, dns := nameServer(t)
	o := &organised{zone: z, client: &http.Client{Timeout: time.Minute, CheckRedirect: client.CheckRedirect}}
	o.people = openPeople(t, func(c *server.Config) {
		c.OutboundNetworks, c.OutboundCAFile, c.DNSServer = []string{"127.0.0.0/8"}, ca, dns
		if cert != "" {
			c.TLSCertFile, c.TLSKeyFile, c.PublicURL = cert, key, strings.Replace(c.PublicURL, "http:", "https:", 1)
		}
	})
	if ca != "" {
		text, err := os.ReadFile(ca)
		must(t, err)
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(text)
		o.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
		t.Cleanup(o.client.CloseIdleConnections)
	}
	o.asks(t, "POST", "/api/v1/organisations", "", map[string]any{"name": "Analytical Engines", "owner_address": ada}).want(t, http.StatusCreated)
	step := o.joins(t, ada, "Ada Lovelace")
	step = o.goesOn(t, step, map[string]any{"do": "enrol", "kind": "totp", "name": "My phone"})
	enrolment, _ := step.Body["enrolment"].(map[string]any)
	o.key, _ = enrolment["secret"].(string)
	step = o.goesOn(t, step, map[string]any{"do": "confirm", "factor": enrolment["id"], "code": code(t, o.key, 0)})
	o.token, o.tenant, o.codes = step.text("access_token"), step.text("tenant_id"), texts(step.Body["recovery_codes"])
	if o.token == "" {
		t.Fatalf("the owner has no token: %s", step.Raw)
	}
	return o
}

// asks is node.call by the public address, with an organisation's own authority.
func (o *organised) asks(t testing.TB, method, path, token string, body any, header ...string) answer {
	t.Helper()
	b, err := json.Marshal(body)
	must(t, err)
	q, err := http.NewRequestWithContext(t.Context(), method, o.site+path, bytes.NewReader(b))
	must(t, err)
	if body == nil {
		q.Body, q.ContentLength = http.NoBody, 0
	} else {
		q.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		q.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	return o.sends(t, q)
}

func (o *organised) sends(t testing.TB, q *http.Request) answer {
	t.Helper()
	r, err := o.client.Do(q)
	must(t, err)
	defer r.Body.Close()
	a := answer{Status: r.StatusCode, Header: r.Header, asked: q.Method + " " + q.URL.Path}
	a.Raw, err = io.ReadAll(r.Body)
	must(t, err)
	if json.Unmarshal(a.Raw, &a.Body) != nil {
		a.Body = nil
	}
	return a
}

// does is a request of the owner's that succeeds.
func (o *organised) does(t testing.TB, method, path string, body any, header ...string) answer {
	t.Helper()
	a := o.asks(t, method, path, o.token, body, header...)
	if a.Status/100 != 2 {
		t.Fatalf("%s %s: %d %s", method, path, a.Status, a.Raw)
	}
	return a
}

// joins goes by the mailed invitation into an account, as a program does.
func (o *organised) joins(t testing.TB, address, name string) answer {
	t.Helper()
	_, link, _ := strings.Cut(o.link(address, "/join"), "#link=")
	return o.asks(t, "POST", "/api/v1/join", "", map[string]any{"do": "join", "link": link, "name": name, "password": firstPassword, "kind": "program"}).want(t, http.StatusOK)
}

func (o *organised) goesOn(t testing.TB, step answer, body map[string]any) answer {
	t.Helper()
	body["attempt"] = step.text("attempt")
	a := o.asks(t, "POST", "/api/v1/sign-in/continue", "", body).want(t, http.StatusOK)
	if a.text("attempt") == "" && a.Body != nil {
		a.Body["attempt"] = body["attempt"]
	}
	return a
}

// invites makes a member who signs in with a password, and returns the first token.
func (o *organised) invites(t testing.TB, address, name string) (token string) {
	t.Helper()
	o.does(t, "POST", "/api/v1/invitations", map[string]any{"address": address, "roles": []string{"member"}})
	return o.joins(t, address, name).text("access_token")
}

// tries signs in by a password.
func (o *organised) tries(t testing.TB, address string) answer {
	t.Helper()
	return o.asks(t, "POST", "/api/v1/sign-in", "", map[string]any{"address": address, "password": firstPassword, "kind": "program"})
}

// provesDomain proves the domain by DNS, once its record is there, and gives it to a connection.
func (o *organised) provesDomain(t testing.TB, connection any) {
	t.Helper()
	made := o.does(t, "POST", "/api/v1/domains", map[string]any{"domain": domain, "connection_id": connection})
	o.asks(t, "POST", "/api/v1/domains/"+domain+"/prove", o.token, nil).want(t, http.StatusConflict)
	o.zone.say(made.text("record"), "somebody else's")
	o.asks(t, "POST", "/api/v1/domains/"+domain+"/prove", o.token, nil).want(t, http.StatusConflict)
	o.zone.say(made.text("record"), made.text("token"))
	if proved := o.does(t, "POST", "/api/v1/domains/"+domain+"/prove", nil); proved.text("proved_at") == "" {
		t.Errorf("the domain is not proved: %s", proved.Raw)
	}
}

// member is the member_id of an address.
func (o *organised) member(t testing.TB, address string) string {
	t.Helper()
	all, _ := o.does(t, "GET", "/api/v1/members", nil).Body["members"].([]any)
	i := slices.IndexFunc(all, func(m any) bool { return m.(map[string]any)["address"] == address })
	if i < 0 {
		t.Fatalf("%s is no member: %v", address, all)
	}
	return all[i].(map[string]any)["member_id"].(string)
}

// texts is a list of texts in JSON.
func texts(v any) (all []string) {
	list, _ := v.([]any)
	for _, one := range list {
		s, _ := one.(string)
		all = append(all, s)
	}
	return all
}
