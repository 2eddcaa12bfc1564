package saml

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
)

// Self is what this service is called at a provider: both are addresses of the connection.
type Self struct {
	EntityID string // the audience of its assertions
	ACS      string // where its responses arrive (Assertion Consumer Service)
}

// Settings are what an administrator enters for a connection, or what ParseMetadata found. They are kept as JSON.
type Settings struct {
	EntityID string `json:"entity_id" doc:"The provider's entity id, exactly as it writes it"`
	SSOURL   string `json:"sso_url" doc:"Where sign-in requests go (HTTP-Redirect binding)"`
	// Certificates of the provider's signing keys, in PEM or as base64 of DER. Several while it changes its key.
	Certificates []string `json:"certificates" doc:"The provider's signing certificates, PEM or base64; several during a rollover"`
	NameIDFormat string   `json:"name_id_format,omitempty" doc:"The format of names to ask for; empty leaves it to the provider"`
	// StrongContexts are the authentication contexts that count as several factors. None do unless they are listed.
	StrongContexts []string `json:"strong_contexts,omitempty" doc:"Authentication contexts or methods that count as multi-factor"`
}

// Provider is a connection's identity provider, ready for use.
type Provider struct {
	EntityID, SSOURL string
	Certificates     []*x509.Certificate // pinned: no other key is believed, whatever a response carries
	NameIDFormat     string
	StrongContexts   []string
}

const (
	maxCertificates = 8
	maxName         = 1024 // characters of an entity id or address; SAML allows an entity id 1024
)

// Provider reads the settings. Everything that is wrong with them is said at once, by field.
func (s Settings) Provider() (Provider, error) {
	p := Provider{EntityID: s.EntityID, SSOURL: s.SSOURL, NameIDFormat: s.NameIDFormat, StrongContexts: s.StrongContexts}
	var fields []problem.Field
	wrong := func(where, what string) {
		fields = append(fields, problem.Field{Location: where, Message: what})
	}
	if bad := named(s.EntityID); bad != "" {
		wrong("entity_id", bad)
	}
	if bad := address(s.SSOURL); bad != "" {
		wrong("sso_url", bad)
	}
	if len(s.Certificates) == 0 || len(s.Certificates) > maxCertificates {
		wrong("certificates", fmt.Sprintf("There must be 1 to %d certificates.", maxCertificates))
	} else {
		for i, text := range s.Certificates {
			c, bad := certificate(text)
			if bad != "" {
				wrong(fmt.Sprintf("certificates[%d]", i), bad)
				continue
			}
			p.Certificates = append(p.Certificates, c)
		}
	}
	if len(s.NameIDFormat) > maxName || strings.ContainsFunc(s.NameIDFormat, odd) {
		wrong("name_id_format", "It must be a URN without spaces.")
	}
	if len(s.StrongContexts) > 32 {
		wrong("strong_contexts", "There may be at most 32.")
	}
	for i, c := range s.StrongContexts {
		if bad := named(c); bad != "" {
			wrong(fmt.Sprintf("strong_contexts[%d]", i), bad)
		}
	}
	if fields != nil {
		e := problem.New(problem.Invalid, "The settings of the SAML connection are not valid.")
		e.Fields = fields
		return Provider{}, e
	}
	return p, nil
}

// CertificatesEnd is when the last of the certificates ends: from then on nobody signs in by this connection.
func (p Provider) CertificatesEnd() time.Time {
	var end time.Time
	for _, c := range p.Certificates {
		if c.NotAfter.After(end) {
			end = c.NotAfter
		}
	}
	return end
}

// check refuses what Settings would: a Provider may have been made by hand.
func (p Provider) check() error {
	if named(p.EntityID) != "" || address(p.SSOURL) != "" || len(p.Certificates) == 0 || len(p.Certificates) > maxCertificates {
		return refuse(Unusable)
	}
	for _, c := range p.Certificates {
		if c == nil || strong(c) != "" {
			return refuse(Unusable)
		}
	}
	return nil
}

func (s Self) check() error {
	if named(s.EntityID) != "" || address(s.ACS) != "" {
		return refuse(Unusable)
	}
	return nil
}

// odd characters are those that no name in SAML has: two names that look alike must not both be entered.
func odd(r rune) bool { return r <= ' ' || r == 0x7f || r == '"' || r == '<' || r == '>' || r > 0x7e }

// named is what is wrong with a name, as a sentence; empty if nothing is.
func named(s string) string {
	if s == "" || len(s) > maxName || strings.ContainsFunc(s, odd) {
		return fmt.Sprintf("It must be a URI of 1 to %d ASCII characters without spaces.", maxName)
	}
	return ""
}

// address takes https, and http where no network is between: development on this machine.
func address(s string) string {
	u, err := url.Parse(s)
	const bad = "It must be an https:// address without user, password and fragment."
	if err != nil || named(s) != "" || u.Host == "" || u.User != nil || strings.Contains(s, "#") {
		return bad
	}
	if u.Scheme == "http" && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()) {
		return ""
	}
	if u.Scheme != "https" {
		return bad
	}
	return ""
}

// certificate reads one certificate, in PEM or as the bare base64 of metadata.
func certificate(text string) (*x509.Certificate, string) {
	if len(text) > 16<<10 {
		return nil, "It is too long for a certificate."
	}
	var der []byte
	if block, rest := pem.Decode([]byte(text)); block != nil {
		if block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
			return nil, "It must be one certificate, and nothing else (no private key)."
		}
		der = block.Bytes
	} else {
		var err error
		if der, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), "")); err != nil {
			return nil, "It is neither PEM nor base64."
		}
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, "It is not an X.509 certificate."
	}
	return c, strong(c)
}

// strong refuses keys that can be broken, and kinds that no algorithm on the list uses.
func strong(c *x509.Certificate) string {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits >= 2048 && bits <= 8192 {
			return ""
		}
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() || key.Curve == elliptic.P521() {
			return ""
		}
	}
	return "Its key must be RSA of 2048 to 8192 bits, or ECDSA on P-256, P-384 or P-521."
}
