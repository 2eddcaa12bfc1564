package samlprovider

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // an attack signs with it
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
)

// The algorithms of a right signature.
const (
	Enveloped = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
	Exclusive = "http://www.w3.org/2001/10/xml-exc-c14n#"
	SHA256    = "http://www.w3.org/2001/04/xmlenc#sha256"
)

// Signing is how an element is signed. The zero value is right; attacks change a field.
type Signing struct {
	Method, Digest, C14N string
	URI                  []string // references; none is one to the element
	Transforms           []string
	Prefixes, Dsig       string
	KeyInfo              *x509.Certificate // shown in the signature
	Key                  crypto.Signer
	Secret               []byte // for HMAC
	Edit                 func(signedInfo *etree.Element)
	// Digested is the element whose digest the references hold; nil is the one that is signed.
	Digested *etree.Element
}

// Sign puts a signature into an element, behind its issuer.
func (p *Provider) Sign(el *etree.Element, s Signing) *etree.Element {
	p.mu.Lock()
	key, cert := p.key, p.cert
	p.mu.Unlock()
	if s.Key == nil {
		s.Key = key
	}
	if s.KeyInfo == nil {
		s.KeyInfo = cert
	}
	s.defaults(el)
	sig := etree.NewElement(prefixed(s.Dsig, "Signature"))
	declare(sig, s.Dsig, Signature)
	info := child(sig, s.Dsig, "SignedInfo")
	set(child(info, s.Dsig, "CanonicalizationMethod"), "Algorithm", s.C14N)
	set(child(info, s.Dsig, "SignatureMethod"), "Algorithm", s.Method)
	for _, uri := range s.URI {
		s.reference(info, uri, el)
	}
	if s.Edit != nil {
		s.Edit(info)
	}
	if s.Dsig == "" { // canonicalised alone, it must declare what it has from above
		info.CreateAttr("xmlns", Signature)
	} else {
		info.CreateAttr("xmlns:"+s.Dsig, Signature)
	}
	value := s.sign(canonical(info, s.C14N, ""))
	info.RemoveAttr("xmlns")
	if s.Dsig != "" {
		info.RemoveAttr("xmlns:" + s.Dsig)
	}
	child(sig, s.Dsig, "SignatureValue").SetText(base64.StdEncoding.EncodeToString(value))
	data := child(child(sig, s.Dsig, "KeyInfo"), s.Dsig, "X509Data")
	child(data, s.Dsig, "X509Certificate").SetText(base64.StdEncoding.EncodeToString(s.KeyInfo.Raw))
	el.InsertChildAt(el.SelectElement("Issuer").Index()+1, sig)
	return sig
}

func (s *Signing) defaults(el *etree.Element) {
	if s.Digest == "" {
		s.Digest = SHA256
	}
	if s.C14N == "" {
		s.C14N = Exclusive
	}
	if s.Transforms == nil {
		s.Transforms = []string{Enveloped, Exclusive}
	}
	if s.URI == nil {
		s.URI = []string{"#" + el.SelectAttrValue("ID", "")}
	}
	if s.Digested == nil {
		s.Digested = el
	}
	if s.Method != "" {
		return
	}
	s.Method = dsig.RSASHA256SignatureMethod
	if key, ok := s.Key.(*ecdsa.PrivateKey); ok {
		s.Method = map[int]string{256: dsig.ECDSASHA256SignatureMethod, 384: dsig.ECDSASHA384SignatureMethod, 521: dsig.ECDSASHA512SignatureMethod}[key.Params().BitSize]
	}
}

func prefixed(prefix, tag string) string {
	if prefix == "" {
		return tag
	}
	return prefix + ":" + tag
}

func (s *Signing) reference(info *etree.Element, uri string, el *etree.Element) {
	ref := child(info, s.Dsig, "Reference")
	ref.CreateAttr("URI", uri)
	transforms := child(ref, s.Dsig, "Transforms")
	for _, t := range s.Transforms {
		step := set(child(transforms, s.Dsig, "Transform"), "Algorithm", t)
		if t == Exclusive && s.Prefixes != "" {
			inclusive := step.CreateElement("ec:InclusiveNamespaces")
			inclusive.CreateAttr("xmlns:ec", Exclusive)
			inclusive.CreateAttr("PrefixList", s.Prefixes)
		}
	}
	set(child(ref, s.Dsig, "DigestMethod"), "Algorithm", s.Digest)
	c14n := ""
	for _, t := range s.Transforms {
		if strings.Contains(t, "c14n") {
			c14n = t
		}
	}
	h := hashOf(s.Digest).New()
	h.Write(canonical(detach(s.Digested), c14n, s.Prefixes))
	child(ref, s.Dsig, "DigestValue").SetText(base64.StdEncoding.EncodeToString(h.Sum(nil)))
}

func hashOf(uri string) crypto.Hash {
	switch {
	case strings.HasSuffix(uri, "sha1"):
		return crypto.SHA1
	case strings.HasSuffix(uri, "sha384"):
		return crypto.SHA384
	case strings.HasSuffix(uri, "sha512"):
		return crypto.SHA512
	}
	return crypto.SHA256
}

func canonical(el *etree.Element, c14n, prefixes string) []byte {
	var c dsig.Canonicalizer
	switch c14n {
	case Exclusive + "WithComments":
		c = dsig.MakeC14N10ExclusiveWithCommentsCanonicalizerWithPrefixList(prefixes)
	case string(dsig.CanonicalXML10RecAlgorithmId):
		c = dsig.MakeC14N10RecCanonicalizer()
	case string(dsig.CanonicalXML11AlgorithmId):
		c = dsig.MakeC14N11Canonicalizer()
	default:
		c = dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList(prefixes)
	}
	out, err := c.Canonicalize(el.Copy())
	if err != nil {
		panic(fmt.Sprintf("samlprovider: %v", err)) // our own document
	}
	return out
}

// detach is a copy of an element with the namespaces that it has from above.
func detach(el *etree.Element) *etree.Element {
	alone := el.Copy()
	for up := el.Parent(); up != nil; up = up.Parent() {
		for _, a := range up.Attr {
			if (a.Space == "xmlns" || a.Space == "" && a.Key == "xmlns") && alone.SelectAttr(a.FullKey()) == nil {
				alone.CreateAttr(a.FullKey(), a.Value)
			}
		}
	}
	return alone
}

func (s *Signing) sign(text []byte) []byte {
	if s.Secret != nil {
		mac := hmac.New(sha256.New, s.Secret)
		if strings.HasSuffix(s.Method, "sha1") {
			mac = hmac.New(sha1.New, s.Secret)
		}
		mac.Write(text)
		return mac.Sum(nil)
	}
	hash := hashOf(s.Method)
	h := hash.New()
	h.Write(text)
	switch key := s.Key.(type) {
	case *rsa.PrivateKey:
		out, err := rsa.SignPKCS1v15(rand.Reader, key, hash, h.Sum(nil))
		if err != nil {
			panic(fmt.Sprintf("samlprovider: %v", err))
		}
		return out
	case *ecdsa.PrivateKey:
		a, b, err := ecdsa.Sign(rand.Reader, key, h.Sum(nil))
		if err != nil {
			panic(fmt.Sprintf("samlprovider: %v", err))
		}
		size := (key.Params().BitSize + 7) / 8
		return append(padded(a, size), padded(b, size)...)
	}
	panic("samlprovider: a key of no kind that signs")
}

func padded(n *big.Int, size int) []byte { return n.FillBytes(make([]byte, size)) }
