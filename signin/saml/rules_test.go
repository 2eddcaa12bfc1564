package saml_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/semver"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/signin/saml"
	"github.com/avouch-dev/avouch/test/samlprovider"
)

// TestLibraries: the build has a goxmldsig that does not accept forged signatures (CVE-2026-33487). crewjam/saml alone would
// bring 1.4.0, so this fails if our own requirement is lost.
func TestLibraries(t *testing.T) {
	t.Parallel()
	least := map[string]string{"github.com/russellhaering/goxmldsig": "v1.6.1", "github.com/crewjam/saml": "v0.5.1"}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		t.Fatal("the test does not know what it was built of")
	}
	linked := map[string]string{}
	for _, d := range build.Deps {
		if d.Replace != nil {
			t.Errorf("%s is replaced by %s %s", d.Path, d.Replace.Path, d.Replace.Version)
		}
		linked[d.Path] = d.Version
	}
	for path, want := range least {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Version}} {{.Indirect}}", path).Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		version, indirect, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
		if semver.Compare(version, want) < 0 || indirect != "false" {
			t.Errorf("go.mod chooses %s %s (indirect: %s), want %s or later, required by ourselves", path, version, indirect, want)
		}
		if v, ok := linked[path]; ok && v != version {
			t.Errorf("linked is %s %s, go.mod says %s", path, v, version)
		}
	}
}

// TestReplay: the same response is accepted twice by Verify, which keeps nothing; both times it gives the id that the
// caller spends, and a time after which Verify itself refuses it.
func TestReplay(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "p256")
	raw := samlprovider.Bytes(p.Signed(genuine(p)))
	first := accept(t, connection(p), raw, clock())
	again := accept(t, connection(p), raw, first.Ends.Add(-time.Millisecond))
	if first.ID == "" || first.ID != again.ID || !first.Ends.Equal(again.Ends) {
		t.Errorf("%s until %v, then %s until %v", first.ID, first.Ends, again.ID, again.Ends)
	}
	refuse(t, connection(p), raw, first.Ends, saml.Expired)
	refuse(t, connection(p), raw, first.Ends.Add(24*time.Hour), saml.Expired)
}

// TestClock: clocks may differ by a minute and no more; and no assertion lasts longer than an hour.
func TestClock(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "p256")
	a := genuine(p)
	a.NotBefore, a.NotOnOrAfter, a.SessionEnd = a.Issued, a.Issued.Add(5*time.Minute), time.Time{}
	raw := samlprovider.Bytes(p.Signed(a))
	accept(t, connection(p), raw, a.Issued.Add(-time.Minute))
	refuse(t, connection(p), raw, a.Issued.Add(-time.Minute-time.Millisecond), saml.Early)
	accept(t, connection(p), raw, a.Issued.Add(6*time.Minute-time.Millisecond))
	refuse(t, connection(p), raw, a.Issued.Add(6*time.Minute), saml.Expired)

	early := accept(t, connection(p), raw, a.Issued.Add(-30*time.Second))
	if early.AuthnInstant.After(a.Issued.Add(-30 * time.Second)) {
		t.Errorf("proved in the future: %v", early.AuthnInstant)
	}
	if !early.SessionEnds.IsZero() {
		t.Errorf("the session ends %v, and the provider did not say", early.SessionEnds)
	}
	a.NotOnOrAfter = a.Issued.Add(10 * 365 * 24 * time.Hour)
	raw = samlprovider.Bytes(p.Signed(a))
	if got := accept(t, connection(p), raw, a.Issued); !got.Ends.Equal(a.Issued.Add(61 * time.Minute)) {
		t.Errorf("an assertion for ten years ends %v", got.Ends)
	}
	refuse(t, connection(p), raw, a.Issued.Add(61*time.Minute), saml.Expired)
}

// TestCertificates: several keys count during a rollover, and a certificate counts only in its own time.
func TestCertificates(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "rsa")
	raw := samlprovider.Bytes(p.Signed(genuine(p)))
	old := p.Certificate()
	if err := p.Rotate(); err != nil {
		t.Fatal(err)
	}
	next := samlprovider.Bytes(p.Signed(genuine(p)))
	c := connection(p)
	refuse(t, c, raw, clock(), saml.Signature)
	c.Certificates = []*x509.Certificate{p.Certificate(), old}
	accept(t, c, raw, clock())
	accept(t, c, next, clock())
	if !c.CertificatesEnd().Equal(p.Certificate().NotAfter) && !c.CertificatesEnd().Equal(old.NotAfter) {
		t.Errorf("they end %v", c.CertificatesEnd())
	}

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	dated := func(from, until time.Duration) *x509.Certificate {
		cert, err := samlprovider.Certify(key, clock().Add(from), clock().Add(until))
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	a := genuine(p)
	doc := a.Build()
	p.Sign(doc.Root().SelectElement("Assertion"), samlprovider.Signing{Dsig: "ds", Key: key})
	signed := samlprovider.Bytes(doc)
	for name, test := range map[string]struct {
		certs  []*x509.Certificate
		reason saml.Reason
	}{
		"in its time":               {[]*x509.Certificate{dated(-time.Hour, time.Hour)}, ""},
		"ended":                     {[]*x509.Certificate{dated(-time.Hour, -time.Second)}, saml.Certificate},
		"not begun":                 {[]*x509.Certificate{dated(time.Second, time.Hour)}, saml.Certificate},
		"ended, beside another key": {[]*x509.Certificate{dated(-time.Hour, -time.Second), old}, saml.Signature},
		"ended, and renewed":        {[]*x509.Certificate{dated(-time.Hour, -time.Second), dated(-time.Second, time.Hour)}, ""},
		"none":                      {nil, saml.Unusable},
	} {
		t.Run(name, func(t *testing.T) {
			c.Certificates = test.certs
			if test.reason == "" {
				accept(t, c, signed, clock())
				return
			}
			refuse(t, c, signed, clock(), test.reason)
		})
	}
}

// TestStatus: what the provider says of its failure becomes a word of ours, never its own text.
func TestStatus(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "p256")
	for codes, word := range map[string]string{
		"Responder AuthnFailed": "authn-failed", "Requester RequestDenied": "request-denied", "Responder NoAuthnContext": "no-authn-context",
		"Responder NoPassive": "no-passive", "Requester UnknownPrincipal": "unknown-principal", "Requester": "requester", "Responder": "responder",
		"VersionMismatch": "version-mismatch", "Responder <b>call+1-900</b>": "responder", "Nonsense": "other", "Responder Success": "responder",
	} {
		a := genuine(p)
		a.Status = strings.Split(codes, " ")
		_, err := saml.Verify(self(), connection(p), requestID, samlprovider.Bytes(p.Signed(a)), clock())
		refuse(t, connection(p), samlprovider.Bytes(p.Signed(a)), clock(), saml.Failed)
		if !strings.HasSuffix(fmt.Sprint(err), ": failed: "+word) || !strings.Contains(problem.Of(err).Detail, "("+word+")") {
			t.Errorf("%s: %v", codes, err)
		}
	}
}

// TestStrong: several factors count only by a context, or a method of Entra's list, that the connection names.
func TestStrong(t *testing.T) {
	t.Parallel()
	const mfa, entra = "https://refeds.org/profile/mfa", "http://schemas.microsoft.com/claims/multipleauthn"
	p := newProvider(t, "p256")
	for _, test := range []struct {
		context, method string
		listed          []string
		strong          bool
	}{
		{mfa, "", nil, false},
		{mfa, "", []string{mfa}, true},
		{mfa + "x", "", []string{mfa}, false},
		{"urn:x", entra, []string{entra}, true},
		{"urn:x", entra, []string{mfa}, false},
	} {
		a, c := genuine(p), connection(p)
		a.Context, c.StrongContexts = test.context, test.listed
		if test.method != "" {
			a.Attributes = []samlprovider.Attribute{{Name: "http://schemas.microsoft.com/claims/authnmethodsreferences", Values: []string{"urn:password", test.method}}}
		}
		if got := accept(t, c, samlprovider.Bytes(p.Signed(a)), clock()); got.Strong != test.strong {
			t.Errorf("%+v: strong %v", test, got.Strong)
		}
	}
}

// TestOtherConnection: a response for one connection of ours is nothing to another, though both have the same provider.
func TestOtherConnection(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "p256")
	raw := samlprovider.Bytes(p.Signed(genuine(p)))
	other := saml.Self{EntityID: "https://avouch.example/sso/saml/c2", ACS: "https://avouch.example/sso/saml/c2/acs"}
	for name, s := range map[string]saml.Self{"both": other, "acs": {EntityID: entityID, ACS: other.ACS}, "entity": {EntityID: other.EntityID, ACS: acs}} {
		if _, err := saml.Verify(s, connection(p), requestID, raw, clock()); err == nil {
			t.Errorf("accepted by another connection (%s)", name)
		}
	}
	if _, err := saml.Verify(self(), connection(p), "", raw, clock()); err == nil {
		t.Error("accepted without a request")
	}
}

// TestSettings: what cannot work, or is not safe, is said by field when it is entered.
func TestSettings(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "p256")
	block := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}))
	good := func() saml.Settings {
		return saml.Settings{EntityID: idp, SSOURL: "https://idp.example/sso", Certificates: []string{block, base64.StdEncoding.EncodeToString(p.Certificate().Raw)}, StrongContexts: []string{"urn:x"}}
	}
	for name, test := range map[string]struct {
		field  string
		change func(s *saml.Settings)
	}{
		"as it should be":        {"", func(s *saml.Settings) {}},
		"on this machine":        {"", func(s *saml.Settings) { s.SSOURL = "http://localhost:8080/sso" }},
		"by this machine's IPv6": {"", func(s *saml.Settings) { s.SSOURL = "http://[::1]:8080/sso" }},
		"no entity id":           {"entity_id", func(s *saml.Settings) { s.EntityID = "" }},
		"an invisible letter":    {"entity_id", func(s *saml.Settings) { s.EntityID += "\u200b" }},
		"without TLS":            {"sso_url", func(s *saml.Settings) { s.SSOURL = "http://idp.example/sso" }},
		"like this machine":      {"sso_url", func(s *saml.Settings) { s.SSOURL = "http://localhost.example/sso" }},
		"a script":               {"sso_url", func(s *saml.Settings) { s.SSOURL = "javascript:alert(1)" }},
		"with a password":        {"sso_url", func(s *saml.Settings) { s.SSOURL = "https://a:b@idp.example/" }},
		"an endless entity id":   {"entity_id", func(s *saml.Settings) { s.EntityID = "urn:" + strings.Repeat("x", 1024) }},
		"without a host":         {"sso_url", func(s *saml.Settings) { s.SSOURL = "https:///sso" }},
		"with a space":           {"sso_url", func(s *saml.Settings) { s.SSOURL += "?a b" }},
		"with an empty fragment": {"sso_url", func(s *saml.Settings) { s.SSOURL += "#" }},
		"with a fragment":        {"sso_url", func(s *saml.Settings) { s.SSOURL += "#x" }},
		"no certificate":         {"certificates", func(s *saml.Settings) { s.Certificates = nil }},
		"too many certificates":  {"certificates", func(s *saml.Settings) { s.Certificates = strings.Split(strings.Repeat("x ", 8)+"x", " ") }},
		"a private key":          {"certificates[0]", func(s *saml.Settings) { s.Certificates[0] = strings.ReplaceAll(block, "CERTIFICATE", "PRIVATE KEY") }},
		"two in one":             {"certificates[0]", func(s *saml.Settings) { s.Certificates[0] += block }},
		"nonsense":               {"certificates[1]", func(s *saml.Settings) { s.Certificates[1] = "AAAA" }},
		"a weak key":             {"certificates[1]", func(s *saml.Settings) { s.Certificates[1] = weak(t) }},
		"an empty context":       {"strong_contexts[0]", func(s *saml.Settings) { s.StrongContexts[0] = "" }},
		"a format too long":      {"name_id_format", func(s *saml.Settings) { s.NameIDFormat = strings.Repeat("x", 2000) }},
		"too many contexts":      {"strong_contexts", func(s *saml.Settings) { s.StrongContexts = strings.Split(strings.Repeat("x ", 32)+"x", " ") }},
		"a long certificate":     {"certificates[1]", func(s *saml.Settings) { s.Certificates[1] += strings.Repeat("\n", 20<<10) }},
		"a format with a space":  {"name_id_format", func(s *saml.Settings) { s.NameIDFormat = "a b" }},
	} {
		t.Run(name, func(t *testing.T) {
			s := good()
			test.change(&s)
			text, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			var kept saml.Settings
			if err := json.Unmarshal(text, &kept); err != nil {
				t.Fatal(err)
			}
			_, err = kept.Provider()
			if test.field == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if p := problem.Of(err); p == nil || p.Kind != problem.Invalid || len(p.Fields) != 1 || p.Fields[0].Location != test.field {
				t.Errorf("%v: %+v", err, p)
			}
		})
	}
}

// TestUnusable: a connection or a name of our own that was made by hand is held to the same.
func TestUnusable(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "p256")
	raw := samlprovider.Bytes(p.Signed(genuine(p)))
	for name, change := range map[string]func(c *saml.Provider, s *saml.Self){
		"no entity id":          func(c *saml.Provider, _ *saml.Self) { c.EntityID = "" },
		"no address":            func(c *saml.Provider, _ *saml.Self) { c.SSOURL = "" },
		"no certificate":        func(c *saml.Provider, _ *saml.Self) { c.Certificates = nil },
		"an empty certificate":  func(c *saml.Provider, _ *saml.Self) { c.Certificates = []*x509.Certificate{nil} },
		"too many certificates": func(c *saml.Provider, _ *saml.Self) { c.Certificates = slices.Repeat(c.Certificates, 9) },
		"a weak key": func(c *saml.Provider, _ *saml.Self) {
			der, err := base64.StdEncoding.DecodeString(weak(t))
			if err != nil {
				t.Fatal(err)
			}
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			c.Certificates = append(c.Certificates, cert)
		},
		"no name of ours":     func(_ *saml.Provider, s *saml.Self) { s.EntityID = "" },
		"no address of ours":  func(_ *saml.Provider, s *saml.Self) { s.ACS = "" },
		"ours is without TLS": func(_ *saml.Provider, s *saml.Self) { s.ACS = "http://avouch.example/acs" },
	} {
		t.Run(name, func(t *testing.T) {
			c, s := connection(p), self()
			change(&c, &s)
			_, err := saml.Verify(s, c, requestID, raw, clock())
			if why, _ := saml.Why(err); why != saml.Unusable {
				t.Errorf("Verify: %v", err)
			}
			_, _, err = saml.Request(s, c, false, "", clock())
			if why, _ := saml.Why(err); why != saml.Unusable {
				t.Errorf("Request: %v", err)
			}
		})
	}
}

// weak is the certificate of a key that can be broken.
func weak(t *testing.T) string {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := samlprovider.Certify(key, clock(), clock().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(cert.Raw)
}

// TestOtherECDSA: an ECDSA signature has one form, r and s side by side; the ASN.1 of other standards, or less, is none.
func TestOtherECDSA(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "p256")
	for name, rewrite := range map[string]func(raw []byte) []byte{
		"in ASN.1": func(raw []byte) []byte {
			der, err := asn1.Marshal([]*big.Int{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
			if err != nil {
				t.Fatal(err)
			}
			return der
		},
		"cut off": func(raw []byte) []byte { return raw[:40] },
		"longer":  func(raw []byte) []byte { return append(raw, 0) },
		"nothing": func([]byte) []byte { return nil },
		"zeroes":  func([]byte) []byte { return make([]byte, 64) },
	} {
		doc := p.Signed(genuine(p))
		value := doc.FindElement("//SignatureValue")
		raw, err := base64.StdEncoding.DecodeString(value.Text())
		if err != nil {
			t.Fatal(err)
		}
		value.SetText(base64.StdEncoding.EncodeToString(raw))
		accept(t, connection(p), samlprovider.Bytes(doc), clock())
		value.SetText(base64.StdEncoding.EncodeToString(rewrite(raw)))
		t.Run(name, func(t *testing.T) { refuse(t, connection(p), samlprovider.Bytes(doc), clock(), saml.Signature) })
	}
}
