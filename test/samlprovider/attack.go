package samlprovider

import (
	"bytes"
	"slices"

	"github.com/beevik/etree"
)

// Forged is the name of the person that every forgery claims. A service provider that reads it has been deceived.
const Forged = "owner@victim.example"

// Attack is a response that must be refused. Every one is made from a response that the provider has really signed.
type Attack struct {
	Name string
	// Reason is the word by which signin/saml refuses it.
	Reason string
	Make   func(p *Provider, a Answer) []byte
}

// Corpus is every attack that we know.
func Corpus() []Attack {
	return slices.Concat(wrapping(), signatures(), references(), algorithms(), extras(), documents(), names(), spellings(), claims(), gaps())
}

// tree makes an attack of a change to the signed document.
func tree(name, reason string, change func(doc *etree.Document)) Attack {
	return Attack{name, reason, func(p *Provider, a Answer) []byte {
		a.Shape = Shapes()[0]
		doc := p.Signed(a)
		change(doc)
		return Bytes(doc)
	}}
}

// bytewise makes an attack of a change to the signed document's text: every old is replaced.
func bytewise(name, reason, old, with string) Attack {
	return Attack{name, reason, func(p *Provider, a Answer) []byte {
		a.Shape = Shapes()[0]
		text := Bytes(p.Signed(a))
		if !bytes.Contains(text, []byte(old)) {
			panic("samlprovider: attack " + name + " changes nothing")
		}
		return bytes.ReplaceAll(text, []byte(old), []byte(with))
	}}
}

// claim makes an attack of what a rightly signed response says.
func claim(name, reason string, change func(a *Answer)) Attack {
	return Attack{name, reason, func(p *Provider, a Answer) []byte {
		a.Shape = Shapes()[0]
		change(&a)
		return Bytes(p.Signed(a))
	}}
}

// written makes an attack of a change to the document before it is signed, so that the signature is right.
func written(name, reason string, change func(doc *etree.Document)) Attack {
	return Attack{name, reason, func(p *Provider, a Answer) []byte {
		a.Shape = Shapes()[0]
		doc := a.Build()
		change(doc)
		p.Sign(assertionOf(doc), Signing{Dsig: "ds"})
		return Bytes(doc)
	}}
}

// signing makes an attack of the way in which the assertion is signed.
func signing(name, reason string, s func(p *Provider, doc *etree.Document) Signing) Attack {
	return Attack{name, reason, func(p *Provider, a Answer) []byte {
		a.Shape = Shapes()[0]
		doc := a.Build()
		with := s(p, doc)
		with.Dsig = "ds"
		p.Sign(assertionOf(doc), with)
		return Bytes(doc)
	}}
}

func assertionOf(doc *etree.Document) *etree.Element { return doc.Root().SelectElement("Assertion") }

// forge writes the forged name into an assertion, or the one inside a response.
func forge(el *etree.Element) {
	for _, n := range el.FindElements(".//NameID") {
		n.SetText(Forged)
	}
}

// without is a copy of an element that lacks its signature, as the enveloped-signature transform leaves it.
func without(el *etree.Element) *etree.Element {
	c := el.Copy()
	c.RemoveChild(c.SelectElement("Signature"))
	return c
}
