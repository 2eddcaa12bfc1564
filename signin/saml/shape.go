package saml

import (
	"strings"

	"github.com/beevik/etree"
)

// response is a document whose form alone allows only one reading: which elements are signed is clear before any signature
// is looked at. Nothing in it is believed yet.
type response struct {
	root      *etree.Element
	assertion *etree.Element // nil if the provider says that it failed
}

// shape holds the document to one form. Signature wrapping needs a second assertion, response or signature, or a place to
// hide the signed one: there is none.
func shape(root *etree.Element) (response, error) {
	if !is(root, nsProtocol, "Response") {
		return response{}, refuse(Structure)
	}
	r := response{root: root}
	ids := map[string]bool{}
	err := walk(root, func(el *etree.Element) error {
		if err := place(root, el); err != nil {
			return err
		}
		if is(el, nsAssertion, "Assertion") {
			if r.assertion != nil {
				return refuse(Assertions)
			}
			r.assertion = el
		}
		return identifiers(el, el == root || el == r.assertion, ids)
	})
	if err != nil {
		return response{}, err
	}
	for _, el := range []*etree.Element{r.root, r.assertion} {
		if el != nil && attribute(el, "ID") == "" {
			return response{}, refuse(Identifier)
		}
	}
	return r, nil
}

// place refuses an element where none of its name belongs, whatever its namespace and the case of its letters.
func place(root, el *etree.Element) error {
	parent := el.Parent()
	switch strings.ToLower(el.Tag) {
	case "response":
		if el != root {
			return refuse(Structure)
		}
	case "assertion":
		if !is(el, nsAssertion, "Assertion") || parent != root {
			return refuse(Structure)
		}
	case "signature":
		if !is(el, nsSignature, "Signature") || parent != root && (parent.Parent() != root || !is(parent, nsAssertion, "Assertion")) {
			return refuse(Structure)
		}
	case "encryptedassertion", "encryptedid", "encryptedattribute", "encrypteddata", "newencryptedid":
		return refuse(Encrypted)
	case "extensions", "object", "advice":
		return refuse(Structure)
	}
	return nil
}

// identifiers lets only the two elements that can be signed have one, in one spelling, and none twice.
func identifiers(el *etree.Element, may bool, seen map[string]bool) error {
	for _, a := range el.Attr {
		if !strings.EqualFold(a.Key, "ID") && !strings.EqualFold(a.Key, "AssertionID") && !strings.EqualFold(a.Key, "ResponseID") {
			continue
		}
		if !may || a.Space != "" || a.Key != "ID" || !names.MatchString(a.Value) || seen[a.Value] {
			return refuse(Identifier)
		}
		seen[a.Value] = true
	}
	return nil
}

// envelope checks what the response says about itself. It may be unsigned: an attacker can make us refuse by it, and
// nothing else, because what is believed is checked again in the signed assertion.
func (r response) envelope(self Self, p Provider, requestID string) error {
	found, err := parts(r.root, Structure,
		part{nsAssertion, "Issuer", 0, 1}, part{nsSignature, "Signature", 0, 1}, part{nsProtocol, "Status", 1, 1}, part{nsAssertion, "Assertion", 0, 1})
	if err != nil {
		return err
	}
	switch {
	case attribute(r.root, "Version") != "2.0":
		return refuse(Version)
	case attribute(r.root, "Destination") != self.ACS:
		return refuse(Destination)
	case requestID == "" || attribute(r.root, "InResponseTo") != requestID:
		return refuse(Unsolicited)
	}
	for _, i := range found["Issuer"] {
		if name, ok := text(i); !ok || name != p.EntityID {
			return refuse(Issuer)
		}
	}
	if err := status(found["Status"][0]); err != nil {
		return err
	}
	if r.assertion == nil {
		return refuse(Assertions)
	}
	return nil
}

const statusPrefix = "urn:oasis:names:tc:SAML:2.0:status:"

// status is nil for success. The provider's free text is not looked at: it would be shown to a person as if we said it.
func status(el *etree.Element) error {
	codes := make([]string, 0, 2)
	for c := only(el, nsProtocol, "StatusCode"); c != nil && len(codes) < 2; c = only(c, nsProtocol, "StatusCode") {
		codes = append(codes, attribute(c, "Value"))
	}
	if len(codes) > 0 && codes[0] == statusPrefix+"Success" {
		return nil
	}
	word := "other"
	for _, code := range codes { // the inner one says more
		if w := statusWord(strings.TrimPrefix(code, statusPrefix)); w != "" {
			word = w
		}
	}
	return &Refusal{Reason: Failed, Status: word}
}

func statusWord(code string) string {
	switch code {
	case "NoAuthnContext":
		return "no-authn-context"
	case "NoPassive":
		return "no-passive"
	case "AuthnFailed":
		return "authn-failed"
	case "RequestDenied":
		return "request-denied"
	case "UnknownPrincipal":
		return "unknown-principal"
	case "Requester":
		return "requester"
	case "Responder":
		return "responder"
	case "VersionMismatch":
		return "version-mismatch"
	}
	return ""
}

// only is the one child of that name; nil if there is none, or more than one.
func only(el *etree.Element, ns, tag string) *etree.Element {
	var found *etree.Element
	for _, c := range el.ChildElements() {
		if is(c, ns, tag) {
			if found != nil {
				return nil
			}
			found = c
		}
	}
	return found
}
