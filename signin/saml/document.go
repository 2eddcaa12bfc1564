package saml

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/beevik/etree"
)

const (
	maxResponse = 256 << 10
	maxDepth    = 32
	maxElements = 10_000
	maxAttrs    = 64 // of one element
	maxPrefixes = 64 // declared in one place: whoever canonicalises copies them for each element
)

// The namespaces that mean something here. An element of any other is nobody's.
const (
	nsProtocol  = "urn:oasis:names:tc:SAML:2.0:protocol"
	nsAssertion = "urn:oasis:names:tc:SAML:2.0:assertion"
	nsMetadata  = "urn:oasis:names:tc:SAML:2.0:metadata"
	nsSignature = "http://www.w3.org/2000/09/xmldsig#"
	nsC14N      = "http://www.w3.org/2001/10/xml-exc-c14n#"
	nsXML       = "http://www.w3.org/XML/1998/namespace"
	nsXMLNS     = "http://www.w3.org/2000/xmlns/"
)

// names are the names and prefixes that we take: ASCII without a colon. XML allows more, and readers of XML disagree there:
// what ":x" and "x:" become when they are written again was CVE-2020-29509, -29510 and -29511.
var names = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,255}$`)

// declarations are the first lines that we take: they change nothing.
var declarations = regexp.MustCompile(`^<\?xml version=["']1\.0["']( encoding=["'](?i:utf-8)["'])?( standalone=["'](yes|no)["'])? ?\?>`)

// read makes a tree of a document that every reader of XML reads alike. What could make readers disagree, or do work for
// the sender, is refused by its bytes before any parser sees it. Comments pass in metadata, where administrators write.
func read(raw []byte, limit int, comments bool) (*etree.Element, error) {
	if len(raw) == 0 || len(raw) > limit {
		return nil, refuse(Size)
	}
	if err := surface(raw, comments); err != nil {
		return nil, err
	}
	doc := etree.NewDocument()
	doc.ReadSettings = etree.ReadSettings{PreserveDuplicateAttrs: true, ValidateInput: true, MaxDepth: maxDepth}
	if err := doc.ReadFromBytes(raw); err != nil {
		return nil, refuse(Malformed)
	}
	if len(doc.ChildElements()) != 1 || !comments && !blank(&doc.Element) {
		return nil, refuse(Malformed)
	}
	root := doc.Root()
	doc.RemoveChild(root) // from here on there is nothing above it
	return root, nil
}

// surface judges the bytes. Well-formed XML has "<!" and "<?" only where it has the things that we refuse: in text and in
// attributes the bracket must be written as an entity.
func surface(raw []byte, comments bool) error {
	rest := raw[len(declarations.Find(raw)):]
	for {
		i := bytes.IndexByte(rest, '<')
		if i < 0 || i+1 == len(rest) {
			return nil
		}
		rest = rest[i:]
		skip := 1
		switch {
		case rest[1] == '?':
			return refuse(Instruction)
		case bytes.HasPrefix(rest, []byte("<!--")):
			end := bytes.Index(rest[4:], []byte("-->"))
			if !comments || end < 0 {
				return refuse(Comment)
			}
			skip = 4 + end + 3
		case bytes.HasPrefix(rest, []byte("<![")):
			return refuse(CDATA)
		case rest[1] == '!':
			return refuse(DTD)
		}
		rest = rest[skip:]
	}
}

// walk visits every element, the outer before the inner.
func walk(el *etree.Element, visit func(*etree.Element) error) error {
	if err := visit(el); err != nil {
		return err
	}
	for _, c := range el.ChildElements() {
		if err := walk(c, visit); err != nil {
			return err
		}
	}
	return nil
}

// sound refuses names, namespaces and attributes that two readers may understand differently, anywhere in the document.
func sound(root *etree.Element) error {
	count := 0
	return walk(root, func(el *etree.Element) error {
		if count++; count > maxElements {
			return refuse(Size)
		}
		if len(el.Attr) > maxAttrs || prefixes(el) > maxPrefixes {
			return refuse(Size)
		}
		if !names.MatchString(el.Tag) {
			return refuse(Malformed)
		}
		if space(el, el.Space) == "" { // so its prefix is a name too, since its declaration is
			return refuse(Namespace)
		}
		return attributes(el)
	})
}

// prefixes counts the declarations that hold at an element.
func prefixes(el *etree.Element) int {
	n := 0
	for ; el != nil; el = el.Parent() {
		for _, a := range el.Attr {
			if a.Space == "xmlns" || a.Space == "" && a.Key == "xmlns" {
				n++
			}
		}
	}
	return n
}

func attributes(el *etree.Element) error {
	seen := make(map[string]bool, len(el.Attr))
	for _, a := range el.Attr {
		if !names.MatchString(a.Key) {
			return refuse(Malformed)
		}
		where := a.Space
		switch {
		case a.Space == "xmlns" || a.Space == "" && a.Key == "xmlns":
			// Taking a namespace away again, or calling one by a reserved prefix, is for attackers only.
			if a.Value == "" || a.Value == nsXML || a.Value == nsXMLNS || a.Space == "xmlns" && strings.HasPrefix(strings.ToLower(a.Key), "xml") {
				return refuse(Namespace)
			}
		case a.Space == "xml":
			where = nsXML
		case a.Space != "":
			if where = space(el, a.Space); where == "" {
				return refuse(Namespace)
			}
		}
		// In lower case: a reader that takes "id" for "ID" must not find two of them.
		name := where + " " + strings.ToLower(a.Key)
		if a.Space == "xmlns" {
			name = where + " " + a.Key
		}
		if seen[name] {
			return refuse(Identifier)
		}
		seen[name] = true
	}
	return nil
}

// space is the namespace that a prefix means at an element; empty if it means none.
func space(el *etree.Element, prefix string) string {
	for ; el != nil; el = el.Parent() {
		for _, a := range el.Attr {
			if prefix == "" && a.Space == "" && a.Key == "xmlns" || prefix != "" && a.Space == "xmlns" && a.Key == prefix {
				return a.Value
			}
		}
	}
	return ""
}

// is reports whether an element is the one of that namespace and name.
func is(el *etree.Element, ns, tag string) bool { return el.Tag == tag && space(el, el.Space) == ns }

// blank reports whether an element holds nothing but elements and the white space between them.
func blank(el *etree.Element) bool {
	for _, c := range el.Child {
		switch c := c.(type) {
		case *etree.Element:
		case *etree.CharData:
			if strings.Trim(c.Data, " \t\r\n") != "" {
				return false
			}
		case *etree.ProcInst: // the declaration, which surface has judged
		default:
			return false
		}
	}
	return true
}

// text is what an element that holds only text says.
func text(el *etree.Element) (string, bool) {
	var b strings.Builder
	for _, c := range el.Child {
		data, ok := c.(*etree.CharData)
		if !ok {
			return "", false
		}
		b.WriteString(data.Data)
	}
	return b.String(), true
}

// attribute is the value of an attribute without a namespace.
func attribute(el *etree.Element, name string) string {
	for _, a := range el.Attr {
		if a.Space == "" && a.Key == name {
			return a.Value
		}
	}
	return ""
}

// part is a kind of element that another may hold.
type part struct {
	ns, tag  string
	min, max int
}

// parts lists the children of an element by name, if they are of the kinds and numbers given and there is no text.
func parts(el *etree.Element, why Reason, kinds ...part) (map[string][]*etree.Element, error) {
	if !blank(el) {
		return nil, refuse(why)
	}
	found := map[string][]*etree.Element{}
	for _, c := range el.ChildElements() {
		known := false
		for _, k := range kinds {
			known = known || is(c, k.ns, k.tag)
		}
		if !known {
			return nil, refuse(why)
		}
		found[c.Tag] = append(found[c.Tag], c)
	}
	for _, k := range kinds {
		if n := len(found[k.tag]); n < k.min || n > k.max {
			return nil, refuse(why)
		}
	}
	return found, nil
}
