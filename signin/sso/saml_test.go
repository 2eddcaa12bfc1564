package sso

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
	"github.com/avouch-dev/avouch/test/samlprovider"
)

const samlSSO = "https://idp.acme.example/sso"

// samlScene is a scene whose domain leads to a SAML provider.
type samlScene struct {
	*scene
	idp *samlprovider.Provider
}

func openSAML(t *testing.T) samlScene {
	t.Helper()
	s := open(t)
	idp, err := samlprovider.New(samlprovider.Config{EntityID: "https://idp.acme.example", Now: s.clock, Attributes: func(name string) []samlprovider.Attribute {
		return []samlprovider.Attribute{{Name: "email", Values: []string{name}}, {Name: "displayName", Values: []string{"Grace Hopper"}}, {Name: "groups", Values: []string{"audit", "other"}}}
	}})
	must(t, err)
	g, err := s.people.CreateGroup(t.Context(), s.owner, org.NewGroup{Name: "Auditors", Roles: []string{org.RoleAuditor}})
	must(t, err)
	made := doortest.Call(t, s.apis[0], doortest.Request{Method: "POST", Path: "/api/v1/connections", Body: map[string]any{
		"kind": "saml", "name": "By metadata", "admission": map[string]any{"jit": true, "groups": map[string]any{"audit": g.ID}},
		"saml": map[string]any{
			"metadata": string(idp.Metadata(samlSSO)), "address_attribute": "email", "name_attribute": "displayName", "groups_attribute": "groups",
			"trust_mfa": []string{"urn:oasis:names:tc:SAML:2.0:ac:classes:TimeSyncToken"},
		},
	}})
	if made.Status != 201 {
		t.Fatalf("%d %s", made.Status, made.Raw)
	}
	id, err := ParseID(made.Body["connection_id"].(string))
	must(t, err)
	s.conn, err = s.rooms[0].Switch(t.Context(), s.owner, id, true)
	must(t, err)
	if a := doortest.Call(t, s.apis[0], doortest.Request{Method: "PATCH", Path: "/api/v1/domains/acme.example", Body: map[string]any{"connection_id": id}}); a.Status != 200 || a.Body["connection_id"] != id.String() {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	return samlScene{s, idp}
}

// ask begins a sign-in, and says what the provider is asked and with which relay state.
func (s samlScene) ask(t *testing.T, b *browser) (samlprovider.Asked, string) {
	t.Helper()
	u, err := url.Parse(b.start(t, map[string]any{"address": "grace@acme.example"}))
	must(t, err)
	asked, err := samlprovider.ReadRequest(u.Query().Get("SAMLRequest"))
	must(t, err)
	if !strings.HasPrefix(u.String(), samlSSO+"?") {
		t.Errorf("the browser goes to %s", u)
	}
	return asked, u.Query().Get("RelayState")
}

func (s samlScene) post(t *testing.T, b *browser, server int, response []byte, relay string) *httptest.ResponseRecorder {
	t.Helper()
	form := url.Values{"SAMLResponse": {base64.StdEncoding.EncodeToString(response)}, "RelayState": {relay}}
	return b.send(t, server, http.MethodPost, "/api/v1/saml/"+s.conn.ID.String()+"/acs", form.Encode(), "Content-Type", "application/x-www-form-urlencoded", "Origin", "https://idp.acme.example")
}

func TestSAML(t *testing.T) {
	t.Parallel()
	s := openSAML(t)
	b := s.browser()
	asked, relay := s.ask(t, b)
	if asked.Issuer != public+"/api/v1/saml/"+s.conn.ID.String()+"/metadata" || asked.ACS != public+"/api/v1/saml/"+s.conn.ID.String()+"/acs" || asked.Force {
		t.Errorf("the provider is asked %+v", asked)
	}
	answer := s.idp.Answer(asked.Issuer, asked.ACS, asked.ID, "Grace@acme.example")
	right := s.idp.Response(answer)
	kept := map[string]string{}
	for name, value := range b.cookies {
		kept[name] = value
	}
	a, why := s.arrival(t, s.post(t, b, 0, right, relay))
	if why != "" || a.Method != "saml" || a.Connection != s.conn.ID || !a.ProvedAt.Equal(answer.AuthnInstant.Truncate(time.Second)) && !a.ProvedAt.Equal(answer.AuthnInstant) || a.Until.IsZero() || a.Strong {
		t.Fatalf("%+v, refused: %s", a, why)
	}
	if f, st := s.profile(t, a.Person); f.Name != "Grace Hopper" || f.Address != "grace@acme.example" || len(st.Roles) != 2 {
		t.Errorf("%+v %v", f, st.Roles)
	}
	b.cookies = kept
	if _, why := s.arrival(t, s.post(t, b, 1, right, relay)); why != ReasonReplay {
		t.Errorf("the same again: %q", why)
	}
	_, relay = s.ask(t, b)
	if _, why := s.arrival(t, s.post(t, b, 0, right, relay)); why != ReasonResponse {
		t.Errorf("an answer to another request: %q", why)
	}
	if w := s.post(t, s.browser(), 0, right, ""); w.Code != http.StatusUnauthorized {
		t.Errorf("unsolicited: %d", w.Code)
	}
	again := s.browser()
	asked, relay = s.ask(t, again)
	answer = s.idp.Answer(asked.Issuer, asked.ACS, asked.ID, "Grace@acme.example")
	answer.Context = "urn:oasis:names:tc:SAML:2.0:ac:classes:TimeSyncToken"
	if got, why := s.arrival(t, s.post(t, again, 1, s.idp.Response(answer), relay)); why != "" || !got.Strong || got.Person != a.Person {
		t.Errorf("%+v, refused: %s", got, why)
	}
	spent := s.browser()
	asked, relay = s.ask(t, spent)
	twice := s.idp.Answer(asked.Issuer, asked.ACS, asked.ID, "Grace@acme.example")
	twice.ID = answer.ID
	if _, why := s.arrival(t, s.post(t, spent, 1, s.idp.Response(twice), relay)); why != ReasonReplay {
		t.Errorf("an assertion of an id that was spent: %q", why)
	}
	passing := s.browser()
	asked, relay = s.ask(t, passing)
	answer = s.idp.Answer(asked.Issuer, asked.ACS, asked.ID, "grace@acme.example")
	answer.Format = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
	if _, why := s.arrival(t, s.post(t, passing, 1, s.idp.Response(answer), relay)); why != ReasonTransient {
		t.Errorf("a name for one sign-in: %q", why)
	}
	elsewhere := s.browser()
	asked, relay = s.ask(t, elsewhere)
	if _, why := s.arrival(t, s.post(t, elsewhere, 0, s.idp.Response(s.idp.Answer(asked.Issuer, asked.ACS, asked.ID, "x@gmail.example")), relay)); why != ReasonUnverified {
		t.Errorf("an address of a domain that is not ours: %q", why)
	}
	s.metadata(t)
}

func (s samlScene) metadata(t *testing.T) {
	t.Helper()
	w := s.browser().send(t, 0, http.MethodGet, "/api/v1/saml/"+s.conn.ID.String()+"/metadata", "")
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/samlmetadata+xml" || !strings.Contains(w.Body.String(), public+"/api/v1/saml/"+s.conn.ID.String()+"/acs") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := s.browser().send(t, 0, http.MethodGet, "/api/v1/saml/0198a000-0000-7000-8000-000000000001/metadata", ""); w.Code != 404 {
		t.Errorf("of a connection that is not there: %d", w.Code)
	}
}

// TestSAMLCorpus: each attack on responses is refused at the door, too, and recorded.
func TestSAMLCorpus(t *testing.T) {
	t.Parallel()
	s := openSAML(t)
	for _, attack := range samlprovider.Corpus() {
		b := s.browser()
		asked, relay := s.ask(t, b)
		bad := attack.Make(s.idp, s.idp.Answer(asked.Issuer, asked.ACS, asked.ID, samlprovider.Person))
		if w := s.post(t, b, 0, bad, relay); w.Code == http.StatusSeeOther {
			t.Errorf("%s: somebody arrived", attack.Name)
		}
	}
	if len(s.arrived) != 0 || len(s.OfType(t, s.acme, "identity.linked")) != 0 {
		t.Error("an attack left something behind")
	}
	refusals := s.OfType(t, s.acme, "sso.refused")
	for i, e := range refusals {
		if e.Field("reason") != string(ReasonResponse) {
			t.Errorf("%s: refused: %q", samlprovider.Corpus()[i].Name, e.Field("reason"))
		}
	}
	if len(refusals) != len(samlprovider.Corpus()) {
		t.Errorf("%d refusals were recorded", len(refusals))
	}
}
