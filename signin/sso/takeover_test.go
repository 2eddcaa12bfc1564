package sso

import (
	"testing"

	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/signin/saml"
	"github.com/avouch-dev/avouch/test/samlprovider"
)

// TestWhoChangesTheKeysIsNobodyElse: who may change connections and little else puts keys of their own into one by which an owner
// signs in, and says that the owner came.
func TestWhoChangesTheKeysIsNobodyElse(t *testing.T) {
	t.Parallel()
	s := openSAML(t)
	arrive := func(idp *samlprovider.Provider, name string) (Arrival, Reason) {
		b := s.browser()
		asked, relay := s.ask(t, b)
		return s.arrival(t, s.post(t, b, 0, idp.Response(idp.Answer(asked.Issuer, asked.ACS, asked.ID, name)), relay))
	}
	boss, why := arrive(s.idp, "boss@acme.example")
	if why != "" {
		t.Fatal(why)
	}
	grace, why := arrive(s.idp, "grace@acme.example")
	if why != "" {
		t.Fatal(why)
	}
	_, err := s.people.UpdatePerson(t.Context(), s.owner, boss.Person, "", org.PersonChange{Roles: &[]string{org.RoleOwner}})
	must(t, err)
	if a, why := arrive(s.idp, "boss@acme.example"); why != "" || a.Person != boss.Person {
		t.Fatalf("an owner who was linked before: %q", why)
	}
	evil, err := samlprovider.New(samlprovider.Config{EntityID: "https://idp.acme.example", Now: s.clock, Attributes: func(name string) []samlprovider.Attribute {
		return []samlprovider.Attribute{{Name: "email", Values: []string{name}}}
	}})
	must(t, err)
	mallory := s.caller(s.acme, s.ada, 0, "sso:read", "sso:write", "agents:read", "agents:write", "audit:read", "breakglass:read", "breakglass:write", "keys:read", "keys:write", "members:read", "organisation:read", "read:identity", "vault:code", "vault:read", "vault:use", "vault:write", "verify")
	was := *s.conn.Settings.SAML
	now := was
	found, err := saml.ParseMetadata(evil.Metadata(samlSSO), "", s.clock())
	must(t, err)
	now.Certificates, now.StrongContexts = found.Settings.Certificates, nil
	s.reconfigure(t, mallory, Reconfigure{SAML: &now})
	if a, why := arrive(evil, "boss@acme.example"); why != ReasonCeiling {
		t.Errorf("an owner's session, by keys of somebody who may do less: %+v, refused: %q", a, why)
	}
	if a, why := arrive(evil, "grace@acme.example"); why != "" || a.Person != grace.Person {
		t.Errorf("who may do no more than whoever changed the keys: %q", why)
	}
	s.reconfigure(t, s.owner, Reconfigure{SAML: &was})
	if a, why := arrive(s.idp, "boss@acme.example"); why != "" || a.Person != boss.Person {
		t.Errorf("after an owner has put the keys back: %q", why)
	}
}
