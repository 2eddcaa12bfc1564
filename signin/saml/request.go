package saml

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/url"
	"time"

	library "github.com/crewjam/saml"
)

// maxRelayState is the most that a provider must hand back (saml-bindings-2.0, 3.4.3).
const maxRelayState = 80

const unspecified = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"

// Request is where to send the browser for a sign-in, and the id that its response must name. force asks the provider to
// prove the person again: compare the assertion's AuthnInstant, since a provider may ignore it. relayState comes back
// beside the response, unsigned, so it must mean nothing to anybody else.
//
// Requests are not signed: they say nothing that the browser could not say, and the response goes to a fixed address.
func Request(self Self, p Provider, force bool, relayState string, now time.Time) (redirect, id string, err error) {
	if err := self.check(); err != nil {
		return "", "", fmt.Errorf("saml.Request: %w", err)
	}
	if err := p.check(); err != nil {
		return "", "", fmt.Errorf("saml.Request: %w", err)
	}
	if len(relayState) > maxRelayState {
		return "", "", fmt.Errorf("saml.Request: a relay state of %d bytes: %w", len(relayState), refuse(Unusable))
	}
	var random [20]byte
	rand.Read(random[:]) // never fails: crypto/rand aborts the program instead (Go 1.24)
	id = "_" + hex.EncodeToString(random[:])
	format, create := p.NameIDFormat, true
	if format == "" {
		format = unspecified
	}
	r := library.AuthnRequest{
		ID: id, Version: "2.0", IssueInstant: now.UTC().Truncate(time.Second), Destination: p.SSOURL,
		Issuer:                      &library.Issuer{Value: self.EntityID},
		NameIDPolicy:                &library.NameIDPolicy{Format: &format, AllowCreate: &create},
		AssertionConsumerServiceURL: self.ACS,
		ProtocolBinding:             library.HTTPPostBinding,
	}
	if force {
		r.ForceAuthn = &force
	}
	u, err := r.Redirect(url.QueryEscape(relayState), &library.ServiceProvider{}) // the library does not escape it
	if err != nil {
		return "", "", fmt.Errorf("saml.Request: %w", err)
	}
	return u.String(), id, nil
}

// entity is the metadata of a service provider, as far as we have something to say.
type entity struct {
	XMLName  xml.Name `xml:"urn:oasis:names:tc:SAML:2.0:metadata EntityDescriptor"`
	EntityID string   `xml:"entityID,attr"`
	Role     struct {
		Protocol string `xml:"protocolSupportEnumeration,attr"`
		Requests bool   `xml:"AuthnRequestsSigned,attr"`
		Wants    bool   `xml:"WantAssertionsSigned,attr"`
		Format   string `xml:"NameIDFormat"`
		ACS      struct {
			Binding  string `xml:"Binding,attr"`
			Location string `xml:"Location,attr"`
			Index    int    `xml:"index,attr"`
			Default  bool   `xml:"isDefault,attr"`
		} `xml:"AssertionConsumerService"`
	} `xml:"SPSSODescriptor"`
}

// Metadata is the document that an administrator gives to the provider.
func (s Self) Metadata(p Provider) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("saml.Metadata: %w", err)
	}
	e := entity{EntityID: s.EntityID}
	e.Role.Protocol, e.Role.Wants, e.Role.Format = nsProtocol, true, p.NameIDFormat
	if e.Role.Format == "" {
		e.Role.Format = unspecified
	}
	e.Role.ACS.Binding, e.Role.ACS.Location, e.Role.ACS.Default = library.HTTPPostBinding, s.ACS, true
	out, err := xml.MarshalIndent(e, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("saml.Metadata: %w", err)
	}
	return append([]byte(xml.Header), append(out, '\n')...), nil
}
