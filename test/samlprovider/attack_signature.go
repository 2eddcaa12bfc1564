package samlprovider

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
)

// stranger is a key that no connection knows, with a certificate in the provider's name.
func stranger(now time.Time) (crypto.Signer, *x509.Certificate) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(fmt.Sprintf("samlprovider: %v", err))
	}
	cert, err := Certify(key, now.Add(-time.Hour), now.Add(time.Hour))
	if err != nil {
		panic(fmt.Sprintf("samlprovider: %v", err))
	}
	return key, cert
}

// signatures are attacks on what is signed, and by whom.
func signatures() []Attack {
	signature := func(doc *etree.Document) *etree.Element { return assertionOf(doc).SelectElement("Signature") }
	return []Attack{
		{"unsigned", "unsigned", func(_ *Provider, a Answer) []byte {
			a.Shape, a.Subject = Shapes()[0], Forged
			return Bytes(a.Build())
		}},
		tree("signature-removed", "unsigned", func(doc *etree.Document) {
			assertionOf(doc).RemoveChild(signature(doc))
			forge(doc.Root())
		}),
		tree("subject-changed", "signature", func(doc *etree.Document) { forge(doc.Root()) }),
		tree("attribute-added", "signature", func(doc *etree.Document) {
			doc.FindElement("//Attribute").CreateElement("saml:AttributeValue").SetText(Forged)
		}),
		tree("signature-empty", "signature", func(doc *etree.Document) { signature(doc).SelectElement("SignatureValue").SetText("") }),
		tree("signature-without-info", "signature-form", func(doc *etree.Document) {
			signature(doc).RemoveChild(signature(doc).SelectElement("SignedInfo"))
			forge(doc.Root())
		}),
		tree("signature-two-infos", "signature-form", func(doc *etree.Document) {
			sig := signature(doc)
			sig.InsertChildAt(0, sig.SelectElement("SignedInfo").Copy())
		}),
		tree("signature-twice", "signature-form", func(doc *etree.Document) {
			assertionOf(doc).InsertChildAt(signature(doc).Index(), signature(doc).Copy())
		}),
		tree("signature-elsewhere", "structure", func(doc *etree.Document) {
			doc.FindElement("//Subject").AddChild(signature(doc))
			forge(doc.Root())
		}),
		tree("signature-last", "signature-form", func(doc *etree.Document) { assertionOf(doc).AddChild(signature(doc)) }),
		tree("signature-of-assertion-on-response", "reference", func(doc *etree.Document) {
			root := doc.Root()
			root.InsertChildAt(root.SelectElement("Issuer").Index()+1, signature(doc))
			forge(root)
		}),
		{"signature-of-another-answer", "reference", func(p *Provider, a Answer) []byte {
			a.Shape = Shapes()[0]
			first := p.Signed(a)
			a.ID += "-2"
			a.Subject = Forged
			second := a.Build()
			el := assertionOf(second)
			el.InsertChildAt(el.SelectElement("Issuer").Index()+1, signature(first))
			return Bytes(second)
		}},
		{"response-signature-broken", "signature", func(p *Provider, a Answer) []byte {
			a.Shape = Shapes()[2] // a good signature inside does not excuse a bad one around it
			doc := p.Signed(a)
			doc.Root().CreateAttr("Consent", "urn:oasis:names:tc:SAML:2.0:consent:obtained")
			return Bytes(doc)
		}},
	}
}

// references are attacks on whose key signs, and what the signature says that it is over.
func references() []Attack {
	return []Attack{
		signing("wrong-key", "signature", func(p *Provider, doc *etree.Document) Signing {
			forge(doc.Root())
			key, _ := stranger(p.config.Now())
			return Signing{Key: key} // KeyInfo shows the certificate that the connection knows
		}),
		signing("key-info-swapped", "signature", func(p *Provider, doc *etree.Document) Signing {
			forge(doc.Root())
			key, cert := stranger(p.config.Now())
			return Signing{Key: key, KeyInfo: cert}
		}),
		signing("reference-to-the-response", "reference", func(p *Provider, doc *etree.Document) Signing {
			return Signing{URI: []string{"#" + doc.Root().SelectAttrValue("ID", "")}}
		}),
		signing("reference-to-the-document", "reference", func(*Provider, *etree.Document) Signing { return Signing{URI: []string{""}} }),
		signing("reference-by-xpointer", "reference", func(p *Provider, doc *etree.Document) Signing {
			return Signing{URI: []string{"#xpointer(id('" + assertionOf(doc).SelectAttrValue("ID", "") + "'))"}}
		}),
		signing("two-references", "reference", func(p *Provider, doc *etree.Document) Signing {
			id := "#" + assertionOf(doc).SelectAttrValue("ID", "")
			return Signing{URI: []string{id, id}}
		}),
		signing("no-reference", "reference", func(*Provider, *etree.Document) Signing { return Signing{URI: []string{}} }),
	}
}

// algorithms are attacks on how it is signed. Where a key is needed it is the provider's own: what must refuse is the list.
func algorithms() []Attack {
	method := func(name, reason string, s Signing) Attack {
		return signing(name, reason, func(*Provider, *etree.Document) Signing { return s })
	}
	return []Attack{
		method("sha1-signature", "algorithm", Signing{Method: dsig.RSASHA1SignatureMethod}),
		method("sha1-digest", "algorithm", Signing{Digest: "http://www.w3.org/2000/09/xmldsig#sha1"}),
		method("unknown-signature-method", "algorithm", Signing{Method: "http://www.w3.org/2000/09/xmldsig#dsa-sha256"}),
		signing("hmac-with-certificate", "algorithm", func(p *Provider, doc *etree.Document) Signing {
			forge(doc.Root())
			secret := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
			return Signing{Method: "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256", Secret: secret}
		}),
		signing("hmac-with-public-key", "algorithm", func(p *Provider, doc *etree.Document) Signing {
			forge(doc.Root())
			return Signing{Method: "http://www.w3.org/2000/09/xmldsig#hmac-sha1", Secret: p.Certificate().RawSubjectPublicKeyInfo}
		}),
		method("hmac-output-length", "algorithm", Signing{Edit: func(info *etree.Element) {
			info.SelectElement("SignatureMethod").CreateElement("ds:HMACOutputLength").SetText("0")
		}}),
		method("attribute-on-signed-info", "signature-form", Signing{Edit: func(info *etree.Element) { info.CreateAttr("Type", "x") }}),
		method("attribute-on-signature", "signature-form", Signing{}).then(func(doc *etree.Document) {
			assertionOf(doc).SelectElement("Signature").CreateAttr("Type", "x")
		}),
		method("attribute-on-value", "signature-form", Signing{}).then(func(doc *etree.Document) {
			doc.FindElement("//SignatureValue").CreateAttr("Type", "x")
		}),
		method("transform-xslt", "transform", Signing{Edit: func(info *etree.Element) {
			step := info.FindElement(".//Transforms").CreateElement("ds:Transform")
			step.CreateAttr("Algorithm", "http://www.w3.org/TR/1999/REC-xslt-19991116")
			sheet := step.CreateElement("xsl:stylesheet")
			sheet.CreateAttr("xmlns:xsl", "http://www.w3.org/1999/XSL/Transform")
			sheet.CreateAttr("version", "1.0")
		}}),
		method("transform-xpath", "transform", Signing{Edit: func(info *etree.Element) {
			step := etree.NewElement("ds:Transform")
			step.CreateAttr("Algorithm", "http://www.w3.org/TR/1999/REC-xpath-19991116")
			step.CreateElement("ds:XPath").SetText("not(ancestor-or-self::saml:Subject)")
			info.FindElement(".//Transforms").InsertChildAt(1, step)
		}}),
		method("transform-base64", "transform", Signing{Transforms: []string{Enveloped, "http://www.w3.org/2000/09/xmldsig#base64"}}),
		method("transform-only-enveloped", "transform", Signing{Transforms: []string{Enveloped}}),
		method("transform-only-c14n", "transform", Signing{Transforms: []string{Exclusive}}),
		method("transform-with-comments", "transform", Signing{Transforms: []string{Enveloped, Exclusive + "WithComments"}}),
		method("transform-inclusive", "transform", Signing{Transforms: []string{Enveloped, string(dsig.CanonicalXML10RecAlgorithmId)}}),
		method("c14n-inclusive", "transform", Signing{C14N: string(dsig.CanonicalXML10RecAlgorithmId)}),
		method("c14n-1.1", "transform", Signing{C14N: string(dsig.CanonicalXML11AlgorithmId)}),
		method("object", "structure", Signing{}).then(func(doc *etree.Document) {
			assertionOf(doc).SelectElement("Signature").CreateElement("ds:Object").SetText(base64.StdEncoding.EncodeToString([]byte(Forged)))
		}),
	}
}

// then changes what an attack has made.
func (a Attack) then(change func(doc *etree.Document)) Attack {
	before := a.Make
	a.Make = func(p *Provider, answer Answer) []byte {
		doc := etree.NewDocument()
		if err := doc.ReadFromBytes(before(p, answer)); err != nil {
			panic(fmt.Sprintf("samlprovider: %v", err))
		}
		change(doc)
		return Bytes(doc)
	}
	return a
}

// extras are signatures that are right but for one thing more inside of what they cover.
func extras() []Attack {
	var list []Attack
	for _, where := range []struct{ path, attribute, child string }{
		{"CanonicalizationMethod", "transform", "transform"},
		{"SignatureMethod", "algorithm", "algorithm"},
		{"Reference", "reference", "signature-form"},
		{"DigestMethod", "algorithm", "algorithm"},
		{"Transform[1]", "transform", "transform"},
		{"Transform[2]", "transform", "transform"},
		{"InclusiveNamespaces", "transform", "transform"},
	} {
		with := func(edit func(el *etree.Element)) func(*Provider, *etree.Document) Signing {
			return func(*Provider, *etree.Document) Signing {
				return Signing{Prefixes: "saml", Edit: func(info *etree.Element) { edit(info.FindElement(".//" + where.path)) }}
			}
		}
		list = append(list,
			signing("extra-attribute-"+where.path, where.attribute, with(func(el *etree.Element) { el.CreateAttr("Extra", "x") })),
			signing("extra-child-"+where.path, where.child, with(func(el *etree.Element) { el.CreateElement("ds:Extra") })))
	}
	return list
}
