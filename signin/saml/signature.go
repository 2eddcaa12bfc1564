package saml

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"strings"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
)

const (
	algEnveloped = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
	algC14N      = "http://www.w3.org/2001/10/xml-exc-c14n#"
)

// signatureAlgorithm reports whether a signature method is on the list. Anything with SHA-1 or a shared key is not.
func signatureAlgorithm(uri string) bool {
	switch uri {
	case dsig.RSASHA256SignatureMethod, dsig.RSASHA384SignatureMethod, dsig.RSASHA512SignatureMethod,
		dsig.ECDSASHA256SignatureMethod, dsig.ECDSASHA384SignatureMethod, dsig.ECDSASHA512SignatureMethod:
		return true
	}
	return false
}

func digestAlgorithm(uri string) bool {
	switch uri {
	case "http://www.w3.org/2001/04/xmlenc#sha256", "http://www.w3.org/2001/04/xmldsig-more#sha384", "http://www.w3.org/2001/04/xmlenc#sha512":
		return true
	}
	return false
}

// signatureOf is the signature of an element, nil if it has none. It stands where the schema wants it, behind the issuer
// or first: so it is found before any that is deeper.
func signatureOf(el *etree.Element) (*etree.Element, error) {
	var found *etree.Element
	for i, c := range el.ChildElements() {
		if !is(c, nsSignature, "Signature") {
			continue
		}
		if i > 1 {
			return nil, refuse(Form)
		}
		found = c
	}
	return found, nil
}

// form holds a signature to the one form that SAML needs: over the element that holds it, and nothing else.
func form(sig *etree.Element, id string) error {
	if !bare(sig) {
		return refuse(Form)
	}
	found, err := parts(sig, Form, part{nsSignature, "SignedInfo", 1, 1}, part{nsSignature, "SignatureValue", 1, 1}, part{nsSignature, "KeyInfo", 0, 1})
	if err != nil {
		return err
	}
	info := found["SignedInfo"][0]
	if count(info, "Reference") != 1 {
		return refuse(Reference)
	}
	said, err := parts(info, Form,
		part{nsSignature, "CanonicalizationMethod", 1, 1}, part{nsSignature, "SignatureMethod", 1, 1}, part{nsSignature, "Reference", 1, 1})
	if err != nil {
		return err
	}
	if !bare(info) || !bare(found["SignatureValue"][0]) {
		return refuse(Form)
	}
	if c := said["CanonicalizationMethod"][0]; attribute(c, "Algorithm") != algC14N || !bare(c, "Algorithm") || len(c.ChildElements()) != 0 {
		return refuse(Transform)
	}
	if m := said["SignatureMethod"][0]; !signatureAlgorithm(attribute(m, "Algorithm")) || !bare(m, "Algorithm") || len(m.ChildElements()) != 0 {
		return refuse(Algorithm)
	}
	return reference(said["Reference"][0], id)
}

func count(el *etree.Element, tag string) int {
	n := 0
	for _, c := range el.ChildElements() {
		if c.Tag == tag {
			n++
		}
	}
	return n
}

func reference(ref *etree.Element, id string) error {
	if attribute(ref, "URI") != "#"+id || !bare(ref, "URI") {
		return refuse(Reference)
	}
	found, err := parts(ref, Form, part{nsSignature, "Transforms", 1, 1}, part{nsSignature, "DigestMethod", 1, 1}, part{nsSignature, "DigestValue", 1, 1})
	if err != nil {
		return err
	}
	steps, err := parts(found["Transforms"][0], Transform, part{nsSignature, "Transform", 2, 2})
	if err != nil {
		return err
	}
	enveloped, c14n := steps["Transform"][0], steps["Transform"][1]
	if attribute(enveloped, "Algorithm") != algEnveloped || attribute(c14n, "Algorithm") != algC14N ||
		!bare(enveloped, "Algorithm") || !bare(c14n, "Algorithm") || len(enveloped.Child) != 0 {
		return refuse(Transform)
	}
	inside, err := parts(c14n, Transform, part{nsC14N, "InclusiveNamespaces", 0, 1})
	if err != nil {
		return err
	}
	for _, i := range inside["InclusiveNamespaces"] {
		if !bare(i, "PrefixList") || len(i.Child) != 0 {
			return refuse(Transform)
		}
	}
	if d := found["DigestMethod"][0]; !digestAlgorithm(attribute(d, "Algorithm")) || !bare(d, "Algorithm") || len(d.ChildElements()) != 0 {
		return refuse(Algorithm)
	}
	return nil
}

// bare reports whether an element has no attributes but these and namespaces.
func bare(el *etree.Element, allowed ...string) bool {
	for _, a := range el.Attr {
		if a.Space == "xmlns" || a.Space == "" && a.Key == "xmlns" {
			continue
		}
		ok := false
		for _, name := range allowed {
			ok = ok || a.Space == "" && a.Key == name
		}
		if !ok {
			return false
		}
	}
	return true
}

// verified is the element as it was signed: read again from the very bytes that the signature covers, by one of the
// connection's certificates. What the response itself says about keys is taken out first, so nothing can follow it.
func verified(el *etree.Element, p Provider, now time.Time) (*etree.Element, error) {
	sig, err := signatureOf(el)
	if err != nil {
		return nil, err
	}
	id := attribute(el, "ID")
	if err := form(sig, id); err != nil {
		return nil, err
	}
	valid := false
	for _, c := range p.Certificates {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			continue
		}
		valid = true
		if signed := verifiedBy(el, c, now); signed != nil && attribute(signed, "ID") == id && is(signed, space(el, el.Space), el.Tag) {
			return signed, sound(signed)
		}
	}
	if !valid {
		return nil, refuse(Certificate)
	}
	return nil, refuse(Signature)
}

// verifiedBy is nil if the certificate's key did not sign the element.
func verifiedBy(el *etree.Element, c *x509.Certificate, now time.Time) *etree.Element {
	alone := detached(el)
	sig, err := signatureOf(alone)
	if err != nil || sig == nil {
		return nil
	}
	method := ""
	for _, part := range sig.ChildElements() {
		switch part.Tag {
		case "KeyInfo":
			sig.RemoveChild(part)
		case "SignedInfo":
			method = attribute(only(part, nsSignature, "SignatureMethod"), "Algorithm")
		case "SignatureValue":
			said, ok := text(part)
			if !ok {
				return nil
			}
			part.SetText(strings.Join(strings.Fields(said), ""))
		}
	}
	if key, ok := c.PublicKey.(*ecdsa.PublicKey); ok && strings.Contains(method, "#ecdsa-") && !standard(only(sig, nsSignature, "SignatureValue"), key) {
		return nil
	}
	ctx := dsig.NewDefaultValidationContext(&dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{c}})
	ctx.Clock = dsig.NewFakeClockAt(now)
	signed, err := ctx.Validate(alone)
	if err != nil {
		return nil
	}
	return signed
}

// detached is a copy of the element that declares the namespaces it had from above. The library has one, which gives up
// at a thousand elements: some people are in more groups.
func detached(el *etree.Element) *etree.Element {
	alone := el.Copy()
	has := map[string]bool{}
	for up := el; up != nil; up = up.Parent() {
		for _, a := range up.Attr {
			if a.Space != "xmlns" && (a.Space != "" || a.Key != "xmlns") || has[a.FullKey()] {
				continue
			}
			has[a.FullKey()] = true
			if up != el {
				alone.Attr = append(alone.Attr, etree.Attr{Space: a.Space, Key: a.Key, Value: a.Value})
			}
		}
	}
	return alone
}

// standard rewrites an ECDSA signature: XML Signature writes r and s side by side, the library expects them in ASN.1.
func standard(value *etree.Element, key *ecdsa.PublicKey) bool {
	said, _ := text(value)
	raw, err := base64.StdEncoding.DecodeString(said)
	size := (key.Curve.Params().BitSize + 7) / 8
	if err != nil || len(raw) != 2*size {
		return false
	}
	der, err := asn1.Marshal([]*big.Int{new(big.Int).SetBytes(raw[:size]), new(big.Int).SetBytes(raw[size:])})
	if err != nil {
		return false
	}
	value.SetText(base64.StdEncoding.EncodeToString(der))
	return true
}
