package saml

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/beevik/etree"
)

// Decode is the XML of a form's SAMLResponse field. What is too large is refused before it is decoded.
func Decode(field string) ([]byte, error) {
	if len(field) > maxResponse*3/2 {
		return nil, fmt.Errorf("saml.Decode: %w", refuse(Size))
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(field), ""))
	if err != nil {
		return nil, fmt.Errorf("saml.Decode: %w", refuse(Malformed))
	}
	return raw, nil
}

// Verify checks a response (the XML, not its base64) to the request requestID, and says what the provider signed. now is
// the server's clock. Whatever is wrong, the error holds a Refusal; see Why.
//
// The order is the argument. First the document is held to one form, by rules that need no key. Then every signature in it
// must verify. Then the assertion is read, from the bytes that were signed and from nothing else.
func Verify(self Self, p Provider, requestID string, raw []byte, now time.Time) (Assertion, error) {
	a, err := verify(self, p, requestID, raw, now)
	if err != nil {
		return Assertion{}, fmt.Errorf("saml.Verify: %w", err)
	}
	return a, nil
}

func verify(self Self, p Provider, requestID string, raw []byte, now time.Time) (Assertion, error) {
	if err := self.check(); err != nil {
		return Assertion{}, err
	}
	if err := p.check(); err != nil {
		return Assertion{}, err
	}
	root, err := read(raw, maxResponse, false)
	if err != nil {
		return Assertion{}, err
	}
	if err := sound(root); err != nil {
		return Assertion{}, err
	}
	doc, err := shape(root)
	if err != nil {
		return Assertion{}, err
	}
	if err := doc.envelope(self, p, requestID); err != nil {
		return Assertion{}, err
	}
	signed, err := doc.signed(p, now)
	if err != nil {
		return Assertion{}, err
	}
	r := reader{self: self, provider: p, requestID: requestID, now: now}
	if err := r.read(signed); err != nil {
		return Assertion{}, err
	}
	return r.out, nil
}

// signed is the assertion as the provider signed it. A provider may sign the response, the assertion, or both; every
// signature that is there must verify, and one must be.
func (r response) signed(p Provider, now time.Time) (*etree.Element, error) {
	var signed *etree.Element
	outer, err := signatureOf(r.root)
	if err != nil {
		return nil, err
	}
	inner, err := signatureOf(r.assertion)
	if err != nil {
		return nil, err
	}
	if outer != nil {
		root, err := verified(r.root, p, now)
		if err != nil {
			return nil, err
		}
		if signed = only(root, nsAssertion, "Assertion"); signed == nil {
			return nil, refuse(Assertions)
		}
	}
	if inner != nil {
		if signed, err = verified(r.assertion, p, now); err != nil {
			return nil, err
		}
	}
	if signed == nil {
		return nil, refuse(Unsigned)
	}
	return signed, nil
}
