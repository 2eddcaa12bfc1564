package samlprovider

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf16"

	"github.com/beevik/etree"
)

// before makes an attack of a text in front of the signed document.
func before(name, reason, prologue string) Attack {
	return bytewise(name, reason, "<samlp:Response ", prologue+"<samlp:Response ")
}

// documents are attacks on whoever parses.
func documents() []Attack {
	root := "<samlp:Response "
	bomb := `<!DOCTYPE lolz [<!ENTITY a "lol">` + strings.Repeat(`<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">`, 1) + `<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>`
	return []Attack{
		before("dtd", "dtd", `<!DOCTYPE samlp:Response>`),
		before("dtd-external", "dtd", `<!DOCTYPE samlp:Response SYSTEM "http://127.0.0.1:1/evil.dtd">`),
		before("xxe", "dtd", `<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>`).and("@", "&x;@"),
		before("xxe-parameter", "dtd", `<!DOCTYPE r [<!ENTITY % x SYSTEM "http://127.0.0.1:1/x">%x;]>`),
		before("entity-expansion", "dtd", bomb).and("@", "&c;@"),
		before("entity-internal", "dtd", `<!DOCTYPE r [<!ENTITY x "`+Forged+`">]>`),
		bytewise("entity-unknown", "malformed", "@", "&x;@"),
		before("instruction", "instruction", `<?xml-stylesheet href="http://127.0.0.1:1/x.xsl"?>`),
		before("encoding-other", "instruction", `<?xml version="1.0" encoding="UTF-7"?>`),
		before("version-1.1", "instruction", `<?xml version="1.1"?>`),
		before("byte-order-mark", "malformed", "\ufeff"),
		before("text-before", "malformed", Forged),
		{"utf-16", "malformed", func(p *Provider, a Answer) []byte {
			var out bytes.Buffer
			out.Write([]byte{0xff, 0xfe})
			for _, u := range utf16.Encode([]rune(string(Bytes(p.Signed(a))))) {
				out.Write([]byte{byte(u), byte(u >> 8)})
			}
			return out.Bytes()
		}},
		bytewise("invalid-utf-8", "malformed", "<samlp:Status>", "<samlp:Status>\xff"),
		bytewise("cut-off", "malformed", "</samlp:Response>", "<"),
		{"blank", "malformed", func(*Provider, Answer) []byte { return []byte(" \n") }},
		{"empty", "size", func(*Provider, Answer) []byte { return nil }},
		{"not-xml", "malformed", func(*Provider, Answer) []byte { return []byte("SAMLResponse") }},
		bytewise("too-large", "size", root, strings.Repeat(" ", 256<<10)+root),
		bytewise("too-deep", "malformed", "<samlp:Status>", "<samlp:Status>"+strings.Repeat("<a>", 100)+strings.Repeat("</a>", 100)),
		bytewise("too-many", "size", "<samlp:Status>", "<samlp:Status>"+strings.Repeat("<samlp:a/>", 10_001)),
		bytewise("too-many-attributes", "size", "<samlp:Status>", "<samlp:Status"+numbered(` x%d=""`, 65)+">"),
		bytewise("too-many-prefixes", "size", "<samlp:Status>", "<samlp:Status"+numbered(` xmlns:x%d="urn:x"`, 32)+"><samlp:x"+numbered(` xmlns:y%d="urn:x"`, 31)+"/>"),
		{"two-roots", "malformed", func(p *Provider, a Answer) []byte {
			one := Bytes(p.Signed(a))
			return append(bytes.ReplaceAll(bytes.Clone(one), []byte(a.Subject), []byte(Forged)), one...)
		}},
		bytewise("wrong-end", "malformed", "</samlp:Status>", "</samlp:status>"),
		bytewise("leading-colon-attribute", "malformed", root, root+`:ID="_x" `),
		bytewise("leading-colon-element", "malformed", "<samlp:Status>", `<samlp:Status><:x/>`),
		bytewise("trailing-colon", "malformed", root, root+`x:="_x" `),
		bytewise("double-colon", "malformed", "<samlp:Status>", `<samlp:Status><x::Root/>`),
		before("directive", "dtd", `<!x<!-->"--> -->`),
		before("directive-comment", "dtd", `<!DOCTYPE x[<!-- <x> -->]>`),
	}
}

// and replaces more text of an attack.
func (a Attack) and(old, with string) Attack {
	first := a.Make
	a.Make = func(p *Provider, answer Answer) []byte {
		return bytes.ReplaceAll(first(p, answer), []byte(old), []byte(with))
	}
	return a
}

// names are attacks on what a name reads as, with something inside of it.
func names() []Attack {
	mail := ">" + Person + "<"
	return []Attack{
		bytewise("comment-in-name", "comment", mail, ">"+Forged+"<!-- -->.evil.example<"),
		written("comment-in-signed-name", "comment", func(doc *etree.Document) {
			n := doc.FindElement("//NameID")
			n.SetText(Forged)
			n.CreateComment("")
			n.CreateText(".evil.example")
		}),
		written("comment-in-signed-attribute", "comment", func(doc *etree.Document) {
			doc.FindElement("//AttributeValue").CreateComment("x")
		}),
		bytewise("comment-anywhere", "comment", "<samlp:Status>", "<!-- --><samlp:Status>"),
		bytewise("cdata-in-name", "cdata", mail, "><![CDATA["+Person+"]]><"),
		bytewise("instruction-in-name", "instruction", mail, ">"+Forged+"<?x?>.evil.example<"),
		written("element-in-name", "subject", func(doc *etree.Document) {
			n := doc.FindElement("//NameID")
			n.SetText(Forged)
			n.CreateElement("saml:x").SetText(".evil.example")
		}),
	}
}

// spellings are attacks on identifiers, attributes, prefixes and namespaces.
func spellings() []Attack {
	root := "<samlp:Response "
	return []Attack{
		tree("identifier-twice", "identifier", func(doc *etree.Document) {
			doc.Root().CreateAttr("ID", assertionOf(doc).SelectAttrValue("ID", ""))
		}),
		tree("identifier-on-subject", "identifier", func(doc *etree.Document) {
			doc.FindElement("//Subject").CreateAttr("ID", assertionOf(doc).SelectAttrValue("ID", ""))
		}),
		tree("identifier-elsewhere", "identifier", func(doc *etree.Document) { doc.FindElement("//Subject").CreateAttr("ID", "_forged") }),
		tree("identifier-with-prefix", "identifier", func(doc *etree.Document) {
			doc.Root().CreateAttr("xmlns:wsu", "urn:example:wsu")
			assertionOf(doc).CreateAttr("wsu:ID", "_forged")
		}),
		written("identifier-with-space", "identifier", func(doc *etree.Document) { assertionOf(doc).CreateAttr("ID", "a b") }),
		tree("identifier-in-other-case", "identifier", func(doc *etree.Document) { assertionOf(doc).CreateAttr("Id", "_forged") }),
		tree("identifier-lower-case", "identifier", func(doc *etree.Document) { doc.FindElement("//Subject").CreateAttr("id", "_forged") }),
		tree("identifier-xml", "identifier", func(doc *etree.Document) { doc.FindElement("//Subject").CreateAttr("xml:id", "_forged") }),
		tree("identifier-wsu", "identifier", func(doc *etree.Document) {
			doc.Root().CreateAttr("xmlns:wsu", "urn:example:wsu")
			assertionOf(doc).CreateAttr("wsu:Id", "_forged")
		}),
		tree("identifier-missing", "identifier", func(doc *etree.Document) { doc.Root().RemoveAttr("ID") }),
		tree("identifier-empty", "identifier", func(doc *etree.Document) { assertionOf(doc).CreateAttr("ID", "") }),
		bytewise("attribute-twice", "identifier", root, root+`Version="2.0" `),
		bytewise("attribute-in-other-case", "identifier", root, root+`destination="x" `),
		bytewise("prefix-undeclared", "namespace", "<samlp:Status>", "<samlp:Status><evil:x/>"),
		bytewise("prefix-of-attribute-undeclared", "namespace", root, root+`evil:x="1" `),
		bytewise("prefix-reserved", "namespace", root, root+`xmlns:xmlfoo="urn:x" `),
		bytewise("prefix-for-xml", "namespace", root, root+`xmlns:x="http://www.w3.org/XML/1998/namespace" `),
		bytewise("prefix-for-xmlns", "namespace", root, root+`xmlns:x="http://www.w3.org/2000/xmlns/" `),
		bytewise("prefix-xml", "namespace", "<samlp:Status>", "<samlp:Status><xml:x/>"),
		bytewise("prefix-not-ascii", "malformed", root, root+`xmlns:é="urn:x" `),
		bytewise("prefix-taken-away", "namespace", "<samlp:Status>", `<samlp:Status xmlns:samlp="">`),
		bytewise("default-taken-away", "namespace", "<samlp:Status>", `<samlp:Status xmlns="">`),
		bytewise("text-between", "structure", "<samlp:Status>", Forged+"<samlp:Status>"),
		tree("root-of-other-name", "structure", func(doc *etree.Document) { doc.Root().Tag = "LogoutResponse" }),
		tree("assertion-in-other-namespace", "structure", func(doc *etree.Document) {
			evil := assertionOf(doc).Copy()
			forge(evil)
			evil.CreateAttr("xmlns:saml", "urn:oasis:names:tc:SAML:1.0:assertion")
			evil.CreateAttr("ID", "_forged")
			doc.Root().InsertChildAt(assertionOf(doc).Index(), evil)
		}),
		tree("assertion-in-other-case", "structure", func(doc *etree.Document) {
			evil := without(assertionOf(doc))
			evil.Tag = "assertion"
			forge(evil)
			evil.CreateAttr("ID", "_forged")
			doc.Root().InsertChildAt(assertionOf(doc).Index(), evil)
		}),
		bytewise("response-in-other-namespace", "structure", `xmlns:samlp="`+Protocol+`"`, `xmlns:samlp="urn:oasis:names:tc:SAML:1.0:protocol"`),
		bytewise("namespace-with-space", "structure", `xmlns:samlp="`+Protocol+`"`, `xmlns:samlp=" `+Protocol+`"`),
	}
}

func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}
