package samlprovider

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/beevik/etree"
)

// Config is what a provider is made of.
type Config struct {
	EntityID string
	Key      string // "rsa" (the default), "p256", "p384" or "p521"
	Now      func() time.Time
	// Attributes are what it says of a person beside the name; nil says an address only.
	Attributes func(name string) []Attribute
	// SignedIn is how long ago people signed in there, if they are not to be asked anew.
	SignedIn time.Duration
}

// Provider is an identity provider. Its methods may be called from several goroutines.
type Provider struct {
	config Config

	mu    sync.Mutex
	key   crypto.Signer
	cert  *x509.Certificate
	old   []*x509.Certificate
	shape Shape
	fault string
}

// New makes a provider with a fresh key.
func New(c Config) (*Provider, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	p := &Provider{config: c, shape: Shapes()[0]}
	key, cert, err := p.fresh(c.Now())
	p.key, p.cert = key, cert
	return p, err
}

func (p *Provider) fresh(now time.Time) (crypto.Signer, *x509.Certificate, error) {
	var key crypto.Signer
	var err error
	switch p.config.Key {
	case "", "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "p256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "p521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	default:
		err = fmt.Errorf("no kind of key is called %q", p.config.Key)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("samlprovider.New: %w", err)
	}
	cert, err := Certify(key, now.Add(-time.Hour), now.Add(365*24*time.Hour))
	return key, cert, err
}

// Certify makes a certificate for a key, as providers do: signed by itself.
func Certify(key crypto.Signer, from, until time.Time) (*x509.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(from.UnixNano()), Subject: pkix.Name{CommonName: "idp.example"}, NotBefore: from, NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("samlprovider.Certify: %w", err)
	}
	return x509.ParseCertificate(der)
}

// Certificate is that of the key which signs at present.
func (p *Provider) Certificate() *x509.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cert
}

// Rotate changes the key. Metadata shows the old certificate beside the new one, as in a rollover.
func (p *Provider) Rotate() error {
	key, cert, err := p.fresh(p.config.Now())
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.old = append(p.old, p.cert)
	p.key, p.cert = key, cert
	return nil
}

// Write makes it write its responses as a product does: a name of Shapes.
func (p *Provider) Write(shape string) error {
	for _, s := range Shapes() {
		if s.Name == shape {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.shape = s
			return nil
		}
	}
	return fmt.Errorf("no shape is called %q", shape)
}

// Break makes it answer with an attack: a name of Corpus. An empty name makes it right again.
func (p *Provider) Break(attack string) error {
	if attack != "" && !slices.ContainsFunc(Corpus(), func(a Attack) bool { return a.Name == attack }) {
		return fmt.Errorf("no attack is called %q", attack)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = attack
	return nil
}

// Answer is a right answer to a request, about a person of that name.
func (p *Provider) Answer(entityID, acs, requestID, name string) Answer {
	now := p.config.Now().UTC().Truncate(time.Millisecond)
	var random [16]byte
	rand.Read(random[:]) // never fails (Go 1.24)
	attributes := []Attribute{{"email", []string{name}}}
	if p.config.Attributes != nil {
		attributes = p.config.Attributes(name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return Answer{
		Issuer: p.config.EntityID, ACS: acs, Audience: entityID, RequestID: requestID, ID: "_" + hex.EncodeToString(random[:]),
		Subject: name, Format: "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress", Attributes: attributes,
		Issued: now, AuthnInstant: now, SessionEnd: now.Add(8 * time.Hour), NotBefore: now.Add(-time.Minute), NotOnOrAfter: now.Add(5 * time.Minute),
		Context: "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport", Shape: p.shape,
	}
}

// Signed is the answer with the signatures of its shape: the assertion's first, since the response's covers it.
func (p *Provider) Signed(a Answer) *etree.Document {
	doc := a.Build()
	s := Signing{Dsig: a.Shape.Dsig, Prefixes: a.Shape.Prefixes}
	inner := doc.Root().SelectElement("Assertion")
	if a.Shape.Inner && inner != nil {
		p.Sign(inner, s)
	}
	if a.Shape.Response {
		p.Sign(doc.Root(), s)
	}
	return doc
}

// Response is what is sent: right, or the attack that Break named.
func (p *Provider) Response(a Answer) []byte {
	p.mu.Lock()
	fault := p.fault
	p.mu.Unlock()
	for _, attack := range Corpus() {
		if attack.Name == fault {
			return attack.Make(p, a)
		}
	}
	return Bytes(p.Signed(a))
}

// Metadata is the provider's own description, with its sign-in page at the given address.
func (p *Provider) Metadata(sso string) []byte {
	p.mu.Lock()
	certificates := append([]*x509.Certificate{p.cert}, p.old...)
	p.mu.Unlock()
	var b strings.Builder
	escape := func(s string) string {
		var e strings.Builder
		if err := xml.EscapeText(&e, []byte(s)); err != nil {
			panic(err) // a builder cannot fail
		}
		return e.String()
	}
	fmt.Fprintf(&b, `<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" xmlns:ds="%s" entityID="%s"><IDPSSODescriptor protocolSupportEnumeration="%s" WantAuthnRequestsSigned="false">`,
		Signature, escape(p.config.EntityID), Protocol)
	for _, c := range certificates {
		fmt.Fprintf(&b, `<KeyDescriptor use="signing"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>%s</ds:X509Certificate></ds:X509Data></ds:KeyInfo></KeyDescriptor>`,
			base64.StdEncoding.EncodeToString(c.Raw))
	}
	b.WriteString(`<NameIDFormat>urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress</NameIDFormat>`)
	for _, binding := range []string{"HTTP-POST", "HTTP-Redirect"} {
		fmt.Fprintf(&b, `<SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:%s" Location="%s"/>`, binding, escape(sso))
	}
	b.WriteString(`</IDPSSODescriptor></EntityDescriptor>`)
	return []byte(b.String())
}
