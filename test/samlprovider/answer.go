package samlprovider

import (
	"fmt"
	"slices"
	"time"

	"github.com/beevik/etree"
)

// The names of SAML's namespaces.
const (
	Protocol  = "urn:oasis:names:tc:SAML:2.0:protocol"
	Assertion = "urn:oasis:names:tc:SAML:2.0:assertion"
	Signature = "http://www.w3.org/2000/09/xmldsig#"
)

// Attribute is something that a provider says about a person.
type Attribute struct {
	Name   string
	Values []string
}

// Answer is everything that a response says. Its zero value says nothing; Provider.Answer fills in what is right.
type Answer struct {
	Issuer, ACS, Audience, RequestID string
	ID                               string // of the assertion; the response's is derived from it
	Subject, Format                  string
	Attributes                       []Attribute
	Issued, AuthnInstant, SessionEnd time.Time
	NotBefore, NotOnOrAfter          time.Time
	Context                          string
	Status                           []string // codes, the outer first; empty is success
	Shape                            Shape
}

// Shape is how a product writes a response: prefixes, order, and what it signs. All of these mean the same.
type Shape struct {
	Name                         string
	Protocol, Assertion, Dsig    string // prefixes; an empty one makes it the default namespace
	Response, Inner              bool   // what is signed
	AttributesFirst, Declaration bool
	Prefixes                     string // InclusiveNamespaces
	EachRole                     bool   // one Attribute for each value
}

// Shapes are those of products in wide use.
func Shapes() []Shape {
	return []Shape{
		{Name: "plain", Protocol: "samlp", Assertion: "saml", Dsig: "ds", Inner: true},
		{Name: "response", Protocol: "samlp", Assertion: "saml", Dsig: "ds", Response: true},
		{Name: "both", Protocol: "samlp", Assertion: "saml", Dsig: "ds", Response: true, Inner: true},
		{Name: "keycloak", Protocol: "samlp", Assertion: "saml", Dsig: "dsig", Response: true, Inner: true, EachRole: true},
		{Name: "okta", Protocol: "saml2p", Assertion: "saml2", Dsig: "ds", Response: true, Inner: true, Declaration: true, Prefixes: "xs"},
		{Name: "adfs", Protocol: "samlp", Dsig: "ds", Inner: true, AttributesFirst: true},
		{Name: "defaults", Inner: true, Response: true}, // every namespace is the default one where it is needed
		{Name: "entra", Protocol: "samlp", Inner: true, AttributesFirst: true},
	}
}

func (s Shape) protocol(parent *etree.Element, tag string) *etree.Element {
	return child(parent, s.Protocol, tag)
}

func (s Shape) assertion(parent *etree.Element, tag string) *etree.Element {
	return child(parent, s.Assertion, tag)
}

func child(parent *etree.Element, prefix, tag string) *etree.Element {
	if prefix != "" {
		tag = prefix + ":" + tag
	}
	return parent.CreateElement(tag)
}

func declare(el *etree.Element, prefix, ns string) {
	if prefix == "" {
		el.CreateAttr("xmlns", ns)
		return
	}
	el.CreateAttr("xmlns:"+prefix, ns)
}

func set(el *etree.Element, pairs ...string) *etree.Element {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			el.CreateAttr(pairs[i], pairs[i+1])
		}
	}
	return el
}

func at(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// Build is the response without a signature.
func (a Answer) Build() *etree.Document {
	doc := etree.NewDocument()
	if a.Shape.Declaration {
		doc.CreateProcInst("xml", `version="1.0" encoding="UTF-8"`)
	}
	s := a.Shape
	root := child(&doc.Element, s.Protocol, "Response")
	declare(root, s.Protocol, Protocol)
	if s.Name == "plain" || s.Name == "response" || s.Name == "both" || s.Name == "keycloak" {
		declare(root, s.Assertion, Assertion)
	}
	set(root, "Destination", a.ACS, "ID", a.ID+"-r", "InResponseTo", a.RequestID, "IssueInstant", at(a.Issued), "Version", "2.0")
	issuer := s.assertion(root, "Issuer")
	if issuer.NamespaceURI() != Assertion {
		declare(issuer, s.Assertion, Assertion)
	}
	issuer.SetText(a.Issuer)
	parent := s.protocol(root, "Status")
	for _, code := range append(slices.Clone(a.Status), "Success")[:max(1, len(a.Status))] {
		parent = set(s.protocol(parent, "StatusCode"), "Value", "urn:oasis:names:tc:SAML:2.0:status:"+code)
	}
	if len(a.Status) > 0 {
		s.protocol(root.SelectElement("Status"), "StatusMessage").SetText("<script>alert('said by the provider')</script>")
		return doc
	}
	a.build(root)
	return doc
}

func (a Answer) build(root *etree.Element) {
	s := a.Shape
	el := s.assertion(root, "Assertion")
	declare(el, s.Assertion, Assertion)
	if s.Prefixes != "" {
		declare(el, "xs", "http://www.w3.org/2001/XMLSchema")
	}
	set(el, "ID", a.ID, "IssueInstant", at(a.Issued), "Version", "2.0")
	s.assertion(el, "Issuer").SetText(a.Issuer)
	subject := s.assertion(el, "Subject")
	set(s.assertion(subject, "NameID"), "Format", a.Format).SetText(a.Subject)
	confirmation := set(s.assertion(subject, "SubjectConfirmation"), "Method", "urn:oasis:names:tc:SAML:2.0:cm:bearer")
	set(s.assertion(confirmation, "SubjectConfirmationData"), "InResponseTo", a.RequestID, "NotOnOrAfter", at(a.NotOnOrAfter), "Recipient", a.ACS)
	conditions := set(s.assertion(el, "Conditions"), "NotBefore", at(a.NotBefore), "NotOnOrAfter", at(a.NotOnOrAfter))
	s.assertion(s.assertion(conditions, "AudienceRestriction"), "Audience").SetText(a.Audience)
	if s.AttributesFirst {
		a.attributes(el)
	}
	authn := set(s.assertion(el, "AuthnStatement"), "AuthnInstant", at(a.AuthnInstant), "SessionIndex", a.ID+"-s", "SessionNotOnOrAfter", at(a.SessionEnd))
	s.assertion(s.assertion(authn, "AuthnContext"), "AuthnContextClassRef").SetText(a.Context)
	if !s.AttributesFirst {
		a.attributes(el)
	}
}

func (a Answer) attributes(el *etree.Element) {
	if len(a.Attributes) == 0 {
		return
	}
	s := a.Shape
	statement := s.assertion(el, "AttributeStatement")
	for _, one := range a.Attributes {
		var parent *etree.Element
		for i, v := range one.Values {
			if i == 0 || s.EachRole {
				parent = set(s.assertion(statement, "Attribute"), "Name", one.Name, "NameFormat", "urn:oasis:names:tc:SAML:2.0:attrname-format:basic")
			}
			value := s.assertion(parent, "AttributeValue")
			if s.Name == "keycloak" || s.Name == "okta" {
				declare(value, "xsi", "http://www.w3.org/2001/XMLSchema-instance")
				if s.Prefixes == "" {
					declare(value, "xs", "http://www.w3.org/2001/XMLSchema")
				}
				value.CreateAttr("xsi:type", "xs:string")
			}
			value.SetText(v)
		}
	}
}

// Bytes is a document as it is sent.
func Bytes(doc *etree.Document) []byte {
	out, err := doc.WriteToBytes()
	if err != nil {
		panic(fmt.Sprintf("samlprovider: a document that cannot be written: %v", err)) // memory only: cannot fail
	}
	return out
}
