package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/avouch-dev/avouch/tenantdb"
)

// Issuer is the address that this installation signs as. It is fixed at the first start: every token and every DID that
// was given out holds it.
type Issuer struct {
	url string
	did string // did:web of the address; a DID of an agent begins with it
}

// ParseIssuer reads an issuer: an http or https address without credentials, query, fragment or slash at the end.
func ParseIssuer(s string) (Issuer, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Issuer{}, errors.New("agent.ParseIssuer: the issuer is not an address")
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "":
		return Issuer{}, fmt.Errorf("agent.ParseIssuer: %q is not an http or https address with a host", u.Redacted())
	case u.User != nil, u.RawQuery != "" || u.ForceQuery, strings.Contains(s, "#"), strings.HasSuffix(u.Path, "/"):
		return Issuer{}, fmt.Errorf("agent.ParseIssuer: %q has credentials, a query, a fragment or a slash at the end", u.Redacted())
	case u.String() != s, strings.ToLower(u.Host) != u.Host:
		return Issuer{}, fmt.Errorf("agent.ParseIssuer: want the issuer in its normal form, %q", strings.ToLower(u.Scheme+"://"+u.Host)+u.EscapedPath())
	}
	parts := []string{"did:web", didPart(u.Host)}
	for segment := range strings.SplitSeq(strings.TrimPrefix(u.Path, "/"), "/") {
		if segment != "" {
			parts = append(parts, didPart(segment))
		}
	}
	return Issuer{url: s, did: strings.Join(parts, ":")}, nil
}

// String is the issuer as tokens hold it.
func (i Issuer) String() string { return i.url }

// DID is the agent's name for the world: did:web, so that its document is found at <issuer>/agents/<id>/did.json.
func (i Issuer) DID(a ID) string { return i.did + ":agents:" + a.String() }

// didPart escapes what is not an idchar of DID Core, section 3.1: the colon before a port is one.
func didPart(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// document is a DID document (DID Core 1.0, section 5; did:web). It holds keys and ids, and nothing that the owner wrote.
type document struct {
	Context        []string    `json:"@context"`
	ID             string      `json:"id"`
	Methods        []didMethod `json:"verificationMethod,omitempty"`
	Authentication []string    `json:"authentication,omitempty"`
	Assertion      []string    `json:"assertionMethod,omitempty"`
	Services       []didPoint  `json:"service,omitempty"`
	Deactivated    bool        `json:"deactivated,omitempty"`
}

type didMethod struct {
	ID         string `json:"id"`
	Type       string `json:"type"`
	Controller string `json:"controller"`
	Key        jwk    `json:"publicKeyJwk"`
}

type didPoint struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Endpoint string `json:"serviceEndpoint"`
}

// didDocument writes the document of an agent. did:web has no place for metadata beside the document, so a revoked agent's
// says in itself that it is deactivated, and holds no key any more.
func (i Issuer) didDocument(a ID, keys []PublicKey, revoked bool) ([]byte, error) {
	did := i.DID(a)
	d := document{
		Context: []string{"https://www.w3.org/ns/did/v1", "https://w3id.org/security/suites/jws-2020/v1"},
		ID:      did, Deactivated: revoked,
	}
	if revoked {
		keys = nil
	} else {
		d.Services = []didPoint{
			{did + "#verify", "AvouchVerify", i.url + "/api/v1/verify"},
			{did + "#jwks", "JsonWebKeySet", i.url + "/.well-known/jwks.json"},
		}
	}
	for _, k := range keys {
		public, err := k.jwk()
		if err != nil {
			return nil, fmt.Errorf("agent.didDocument: %w", err)
		}
		name := did + "#" + k.KID
		d.Methods = append(d.Methods, didMethod{name, "JsonWebKey2020", did, public})
		d.Authentication = append(d.Authentication, name)
		if k.Use == UseSigning {
			d.Assertion = append(d.Assertion, name)
		}
	}
	b, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("agent.didDocument: %w", err)
	}
	return b, nil
}

// Document is the agent's DID document, for everyone. An agent that nobody but its owner may verify has none: it is
// missing, like one that never was.
func (r *Room) Document(ctx context.Context, agent ID) ([]byte, error) {
	owner, ok, err := ownerOf(ctx, r.db, agent)
	if err != nil {
		return nil, fmt.Errorf("agent.Document: %w", err)
	}
	if !ok {
		return nil, missing()
	}
	var a Agent
	err = r.db.Read(ctx, tenantdb.System(owner, "did"), func(tx *tenantdb.ReadTx) (err error) {
		if a, err = loadAgent(ctx, tx, agent); err == nil {
			a.Keys, err = loadKeys(ctx, tx, agent)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("agent.Document: %w", err)
	}
	if a.Visibility == VisibleToNone {
		return nil, missing()
	}
	return r.issuer.didDocument(agent, a.Keys, a.RevokedAt != nil)
}
