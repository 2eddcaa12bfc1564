package samlprovider

import (
	"strings"
	"time"

	"github.com/beevik/etree"
)

// Person is the name that the corpus's genuine answers are about: what it replaces must be found in the text.
const Person = "ada@customer.example"

const elsewhere = "https://elsewhere.example/acs"

// claims are responses with a right signature that say the wrong thing, as another customer's, or an old one, does.
func claims() []Attack {
	return []Attack{
		claim("wrong-audience", "audience", func(a *Answer) { a.Audience = "https://elsewhere.example" }),
		claim("wrong-issuer", "issuer", func(a *Answer) { a.Issuer = "https://elsewhere.example/idp" }),
		written("wrong-issuer-in-assertion", "issuer", func(doc *etree.Document) {
			assertionOf(doc).SelectElement("Issuer").SetText("https://elsewhere.example/idp")
		}),
		tree("wrong-issuer-in-response", "issuer", func(doc *etree.Document) {
			doc.Root().SelectElement("Issuer").SetText("https://elsewhere.example/idp")
		}),
		tree("saml-1.1-response", "version", func(doc *etree.Document) { doc.Root().CreateAttr("Version", "1.1") }),
		tree("wrong-destination", "destination", func(doc *etree.Document) { doc.Root().CreateAttr("Destination", elsewhere) }),
		tree("no-destination", "destination", func(doc *etree.Document) { doc.Root().RemoveAttr("Destination") }),
		tree("unsolicited", "request", func(doc *etree.Document) { doc.Root().RemoveAttr("InResponseTo") }),
		claim("other-request", "request", func(a *Answer) { a.RequestID = "_another" }),
		on("other-request-in-assertion", "request", "//SubjectConfirmationData", "InResponseTo", "_another"),
		on("unsolicited-in-assertion", "request", "//SubjectConfirmationData", "InResponseTo", ""),
		on("wrong-recipient", "recipient", "//SubjectConfirmationData", "Recipient", elsewhere),
		on("no-recipient", "recipient", "//SubjectConfirmationData", "Recipient", ""),
		on("no-end", "confirmation", "//SubjectConfirmationData", "NotOnOrAfter", ""),
		on("holder-of-key", "confirmation", "//SubjectConfirmation", "Method", "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"),
		on("saml-1.1", "version", "//Assertion", "Version", "1.1"),
		on("time-malformed", "malformed", "//Conditions", "NotOnOrAfter", "tomorrow"),
		on("time-missing", "malformed", "//Assertion", "IssueInstant", ""),
		on("time-without-zone", "malformed", "//Conditions", "NotBefore", "2026-01-01T00:00:00"),
		claim("expired", "expired", func(a *Answer) { a.NotOnOrAfter = a.Issued.Add(-time.Minute) }),
		timed("expired-conditions", "expired", "//Conditions", "NotOnOrAfter", -time.Minute),
		timed("expired-confirmation", "expired", "//SubjectConfirmationData", "NotOnOrAfter", -time.Minute),
		timed("expired-session", "expired", "//AuthnStatement", "SessionNotOnOrAfter", -time.Second),
		timed("issued-long-ago", "expired", "//Assertion", "IssueInstant", -2*time.Hour),
		timed("early", "early", "//Conditions", "NotBefore", 61*time.Second),
		timed("early-confirmation", "early", "//SubjectConfirmationData", "NotBefore", 61*time.Second),
		timed("issued-in-the-future", "early", "//Assertion", "IssueInstant", 2*time.Minute),
		timed("proved-in-the-future", "early", "//AuthnStatement", "AuthnInstant", 2*time.Minute),
	}
}

// gaps are responses with a right signature that lack something, say it twice, or say it by a name that is none.
func gaps() []Attack {
	return []Attack{
		on("no-instant", "statement", "//AuthnStatement", "AuthnInstant", ""),
		written("confirmation-with-key", "confirmation", func(doc *etree.Document) {
			doc.FindElement("//SubjectConfirmationData").CreateElement("ds:KeyInfo").CreateAttr("xmlns:ds", Signature)
		}),
		written("confirmation-with-text", "confirmation", func(doc *etree.Document) { doc.FindElement("//SubjectConfirmationData").SetText("x") }),
		on("session-end-malformed", "statement", "//AuthnStatement", "SessionNotOnOrAfter", "soon"),
		written("context-empty", "statement", func(doc *etree.Document) { doc.FindElement("//AuthnContextClassRef").SetText("") }),
		written("context-with-element", "statement", func(doc *etree.Document) {
			doc.FindElement("//AuthnContextClassRef").CreateElement("saml:x")
		}),
		removed("no-statement", "statement", "//AuthnStatement"),
		removed("no-context", "statement", "//AuthnContextClassRef"),
		removed("no-name", "subject", "//NameID"),
		removed("no-subject", "structure", "//Subject"),
		removed("no-confirmation", "confirmation", "//SubjectConfirmation"),
		removed("no-conditions", "structure", "//Conditions"),
		removed("no-audience", "audience", "//AudienceRestriction"),
		copied("two-names", "subject", "//NameID"),
		copied("two-subjects", "structure", "//Subject"),
		copied("two-confirmations", "confirmation", "//SubjectConfirmation"),
		copied("two-statements", "statement", "//AuthnStatement"),
		written("two-audiences", "audience", func(doc *etree.Document) {
			doc.FindElement("//Conditions").CreateElement("saml:AudienceRestriction").CreateElement("saml:Audience").SetText(elsewhere)
		}),
		written("unknown-condition", "condition", func(doc *etree.Document) {
			doc.FindElement("//Conditions").CreateElement("saml:Condition")
		}),
		on("attribute-without-name", "attribute", "//Attribute", "Name", ""),
		claim("name-empty", "subject", func(a *Answer) { a.Subject = "" }),
		claim("name-too-long", "subject", func(a *Answer) { a.Subject = strings.Repeat("x", 513) }),
		claim("name-with-space", "subject", func(a *Answer) { a.Subject = " " + Forged }),
		claim("name-with-line", "subject", func(a *Answer) { a.Subject = "x\n" + Forged }),
		claim("name-with-invisible", "subject", func(a *Answer) { a.Subject = Forged + "\u200b" }),
		claim("refused-by-the-provider", "failed", func(a *Answer) { a.Status = []string{"Responder", "AuthnFailed"} }),
		tree("no-assertion", "assertions", func(doc *etree.Document) { doc.Root().RemoveChild(assertionOf(doc)) }),
		{"two-assertions", "assertions", func(p *Provider, a Answer) []byte { // both are signed
			a.Shape = Shapes()[0]
			doc := p.Signed(a)
			a.ID += "-2"
			doc.Root().AddChild(assertionOf(p.Signed(a)).Copy())
			return Bytes(doc)
		}},
		tree("encrypted", "encrypted", func(doc *etree.Document) {
			doc.Root().RemoveChild(assertionOf(doc))
			encrypted(doc.Root())
		}),
		tree("encrypted-and-plain", "encrypted", func(doc *etree.Document) { encrypted(doc.Root()) }),
		tree("encrypted-first", "encrypted", func(doc *etree.Document) {
			encrypted(doc.Root())
			doc.Root().AddChild(assertionOf(doc))
		}),
		written("encrypted-name", "encrypted", func(doc *etree.Document) { doc.FindElement("//Subject").CreateElement("saml:EncryptedID") }),
	}
}

func encrypted(root *etree.Element) {
	data := root.CreateElement("saml:EncryptedAssertion").CreateElement("xenc:EncryptedData")
	data.CreateAttr("xmlns:xenc", "http://www.w3.org/2001/04/xmlenc#")
	data.CreateElement("xenc:CipherData").CreateElement("xenc:CipherValue").SetText("AAAA")
}

// on changes an attribute before it is signed; an empty value takes it away.
func on(name, reason, path, key, value string) Attack {
	return written(name, reason, func(doc *etree.Document) {
		el := doc.FindElement(path)
		el.RemoveAttr(key)
		if value != "" {
			el.CreateAttr(key, value)
		}
	})
}

// timed sets a time before it is signed: so long after the provider's clock.
func timed(name, reason, path, key string, after time.Duration) Attack {
	return Attack{name, reason, func(p *Provider, a Answer) []byte {
		return on(name, reason, path, key, at(p.config.Now().Add(after))).Make(p, a)
	}}
}

func removed(name, reason, path string) Attack {
	return written(name, reason, func(doc *etree.Document) {
		el := doc.FindElement(path)
		el.Parent().RemoveChild(el)
	})
}

func copied(name, reason, path string) Attack {
	return written(name, reason, func(doc *etree.Document) {
		el := doc.FindElement(path)
		el.Parent().InsertChildAt(el.Index(), el.Copy())
	})
}
