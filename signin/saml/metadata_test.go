package saml_test

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	library "github.com/crewjam/saml"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/signin/saml"
	"github.com/avouch-dev/avouch/test/samlprovider"
)

const redirectBinding = `<SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="https://idp.example/sso"/>`

// der is the certificate of specimens, as metadata writes it.
func der() string {
	s, err := specimens()
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(s.provider.Certificates[0].Raw)
}

func keyOf(use, cert string) string {
	return `<KeyDescriptor` + use + `><ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:X509Data><ds:X509Certificate>` + cert + `</ds:X509Certificate></ds:X509Data></ds:KeyInfo></KeyDescriptor>`
}

func entityOf(id, inside string) string {
	return `<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="` + id + `"><IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">` + inside + `</IDPSSODescriptor></EntityDescriptor>`
}

// descriptions are metadata as products write it.
func descriptions() map[string]string {
	good := entityOf(idp, keyOf(` use="signing"`, der())+redirectBinding)
	folded := strings.Join(strings.Split(der(), "A"), "A\n            ")
	return map[string]string{
		"plain":                    good,
		"no use, folded, comments": "<?xml version=\"1.0\"?>\n<!-- by hand -->\n" + entityOf(idp, keyOf("", "\n  "+folded+"\n")+"<!-- <!DOCTYPE --> "+redirectBinding),
		"a service beside":         `<EntitiesDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata"><EntityDescriptor entityID="https://sp.example"><SPSSODescriptor protocolSupportEnumeration="x"/></EntityDescriptor>` + good + `</EntitiesDescriptor>`,
		"signed, with other roles": strings.Replace(good, "<IDPSSODescriptor", `<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo><ds:Reference URI="#x"/></ds:SignedInfo><ds:SignatureValue>AAAA</ds:SignatureValue><ds:KeyInfo><ds:X509Data><ds:X509Certificate>`+der()+`</ds:X509Certificate></ds:X509Data></ds:KeyInfo></ds:Signature>`+
			`<RoleDescriptor xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:fed="http://docs.oasis-open.org/wsfed/federation/200706" xsi:type="fed:SecurityTokenServiceType" protocolSupportEnumeration="x">`+keyOf(` use="signing"`, "AAAA")+`</RoleDescriptor><IDPSSODescriptor`, 1),
		"byte order mark": "\ufeff<?xml version=\"1.0\" encoding=\"utf-8\"?>" + good,
		"prefixes, several, encryption key beside": `<md:EntitiesDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata">` + strings.NewReplacer("</ds:", "</ds:", "<ds:", "<ds:", "</", "</md:", "<", "<md:", ` xmlns="urn:oasis:names:tc:SAML:2.0:metadata"`, "").
			Replace(entityOf(idp, keyOf(` use="encryption"`, "AAAA")+keyOf(` use="signing"`, der())+redirectBinding)) + `</md:EntitiesDescriptor>`,
	}
}

func TestMetadataOfProducts(t *testing.T) {
	t.Parallel()
	for name, text := range descriptions() {
		t.Run(name, func(t *testing.T) {
			found, err := saml.ParseMetadata([]byte(text), "", clock())
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			p, err := found.Settings.Provider()
			if err != nil || p.EntityID != idp || p.SSOURL != "https://idp.example/sso" || len(p.Certificates) != 1 {
				t.Fatalf("%v, %v", p, err)
			}
		})
	}
}

// TestMetadataOfProvider: the test provider's own metadata, during a rollover, is enough to accept what either key signs.
func TestMetadataOfProvider(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "p256")
	before := samlprovider.Bytes(p.Signed(genuine(p)))
	if err := p.Rotate(); err != nil {
		t.Fatal(err)
	}
	found, err := saml.ParseMetadata(p.Metadata("https://idp.example/sso?tenant=1"), "", clock())
	if err != nil {
		t.Fatal(err)
	}
	if found.POST == "" || found.WantsSigned || len(found.Formats) != 1 || len(found.Settings.Certificates) != 2 {
		t.Errorf("%+v", found)
	}
	both, err := found.Settings.Provider()
	if err != nil {
		t.Fatal(err)
	}
	accept(t, both, before, clock())
	accept(t, both, samlprovider.Bytes(p.Signed(genuine(p))), clock())
	refuse(t, connection(p), before, clock(), saml.Signature)
}

func TestMetadataRefused(t *testing.T) {
	t.Parallel()
	key := keyOf(` use="signing"`, der())
	good := entityOf(idp, key+redirectBinding)
	with := func(attributes string) string {
		return strings.Replace(good, "<EntityDescriptor ", "<EntityDescriptor "+attributes+" ", 1)
	}
	for name, text := range map[string]string{
		"empty":                       "",
		"no XML":                      "entityID",
		"HTML":                        "<!doctype html><html></html>",
		"external entity":             `<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>` + good,
		"entity in a name":            `<!DOCTYPE x [<!ENTITY a "b">]>` + entityOf("&a;", key+redirectBinding),
		"instruction":                 `<?xml-stylesheet href="x"?>` + good,
		"too large":                   good + strings.Repeat(" ", 1<<20),
		"too deep":                    strings.Repeat("<a>", 100) + strings.Repeat("</a>", 100),
		"only a comment":              "<!-- -->",
		"endless comment":             "<!-- " + good,
		"two documents":               good + good,
		"no provider":                 `<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="x"/>`,
		"another namespace":           strings.ReplaceAll(good, "SAML:2.0:metadata", "SAML:1.0:metadata"),
		"no binding we speak":         entityOf(idp, key+strings.ReplaceAll(redirectBinding, "HTTP-Redirect", "SOAP")),
		"no key":                      entityOf(idp, redirectBinding),
		"encryption key only":         entityOf(idp, keyOf(` use="encryption"`, der())+redirectBinding),
		"no certificate":              entityOf(idp, keyOf("", "AAAA")+redirectBinding),
		"sign-in without TLS":         entityOf(idp, key+strings.ReplaceAll(redirectBinding, "https://", "http://")),
		"sign-in by script":           entityOf(idp, key+strings.ReplaceAll(redirectBinding, "https://idp.example/sso", "javascript:alert(1)")),
		"too many keys":               entityOf(idp, strings.Repeat(key, 3)+manyKeys(t)+redirectBinding),
		"not valid any more":          with(`validUntil="` + clock().Add(-time.Second).Format(time.RFC3339) + `"`),
		"two, and none named":         `<EntitiesDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata">` + good + entityOf("https://other.example", key+redirectBinding) + `</EntitiesDescriptor>`,
		"a role of another namespace": strings.Replace(good, "<IDPSSODescriptor", `<IDPSSODescriptor xmlns="urn:x"/><IDPSSODescriptor`, 1),
		"hidden elsewhere":            `<EntitiesDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata"><x xmlns="urn:x">` + good + `</x></EntitiesDescriptor>`,
	} {
		t.Run(name, func(t *testing.T) {
			found, err := saml.ParseMetadata([]byte(text), "", clock())
			if err == nil {
				t.Fatalf("taken: %+v", found)
			}
			if !problem.Is(err, problem.Invalid) || strings.Contains(problem.Of(err).Detail, "example") {
				t.Errorf("%v", err)
			}
		})
	}
	two := `<EntitiesDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata">` + good + entityOf("https://other.example", key+redirectBinding) + `</EntitiesDescriptor>`
	if found, err := saml.ParseMetadata([]byte(two), "https://other.example", clock()); err != nil || found.Settings.EntityID != "https://other.example" {
		t.Errorf("named: %+v, %v", found, err)
	}
}

// manyKeys are nine certificates, all different.
func manyKeys(t *testing.T) string {
	p := newProvider(t, "p256")
	var b strings.Builder
	for range 9 {
		b.WriteString(keyOf("", base64.StdEncoding.EncodeToString(p.Certificate().Raw)))
		if err := p.Rotate(); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// TestServiceMetadata: what we give to providers, to the letter, and as a library of theirs would read it.
func TestServiceMetadata(t *testing.T) {
	t.Parallel()
	got, err := self().Metadata(saml.Provider{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/metadata.xml")
	if err != nil || string(got) != string(want) {
		t.Errorf("%v; got\n%s", err, got)
	}
	var d library.EntityDescriptor
	if err := xml.Unmarshal(got, &d); err != nil || len(d.SPSSODescriptors) != 1 {
		t.Fatalf("%v: %+v", err, d)
	}
	sp := d.SPSSODescriptors[0]
	if d.EntityID != entityID || !*sp.WantAssertionsSigned || *sp.AuthnRequestsSigned || len(sp.AssertionConsumerServices) != 1 ||
		sp.AssertionConsumerServices[0].Location != acs || sp.AssertionConsumerServices[0].Binding != library.HTTPPostBinding {
		t.Errorf("%+v", sp)
	}
	if _, err := (saml.Self{EntityID: entityID, ACS: "http://avouch.example/acs"}).Metadata(saml.Provider{}); err == nil {
		t.Error("an ACS without TLS has metadata")
	}
}

// TestRequest: a provider reads what we ask, and each request has an id of its own.
func TestRequest(t *testing.T) {
	t.Parallel()
	p := connection(newProvider(t, "p256"))
	p.SSOURL = "https://idp.example/sso?tenant=a%26b"
	seen := map[string]bool{}
	for _, force := range []bool{false, true} {
		to, id, err := saml.Request(self(), p, force, "a b&SAMLRequest=c", clock())
		if err != nil {
			t.Fatal(err)
		}
		if seen[id] || len(id) != 41 {
			t.Errorf("the id %q", id)
		}
		seen[id] = true
		u, err := url.Parse(to)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		if u.Host != "idp.example" || q.Get("tenant") != "a&b" || q.Get("RelayState") != "a b&SAMLRequest=c" || len(q["SAMLRequest"]) != 1 {
			t.Errorf("%s", to)
		}
		asked, err := samlprovider.ReadRequest(q.Get("SAMLRequest"))
		if err != nil {
			t.Fatal(err)
		}
		want := samlprovider.Asked{ID: id, Issuer: entityID, ACS: acs, Destination: p.SSOURL, Format: "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified", Force: force}
		if asked != want {
			t.Errorf("asked %+v, want %+v", asked, want)
		}
	}
	if _, _, err := saml.Request(self(), p, false, strings.Repeat("x", 81), clock()); err == nil {
		t.Error("a relay state that providers cut off is sent")
	}
	if _, _, err := saml.Request(self(), saml.Provider{}, false, "", clock()); fmt.Sprint(err) == "<nil>" {
		t.Error("a request to nobody is made")
	}
}
