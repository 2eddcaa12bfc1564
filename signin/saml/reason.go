package saml

import (
	"errors"
	"fmt"

	"github.com/avouch-dev/avouch/internal/problem"
)

// Reason is why a response is refused: a word of a closed list, for the audit log and for tests.
type Reason string

// The reasons, in the order in which they are looked for. Those up to Failed are found in what anybody may have written;
// those from Issuer on only in what the provider has signed.
const (
	Unusable     Reason = "settings"       // our side: the connection, or our own names, cannot be used
	Size         Reason = "size"           // empty, or larger than 256 KiB
	Malformed    Reason = "malformed"      // no well-formed XML in UTF-8, or a name that is none
	Instruction  Reason = "instruction"    // a processing instruction, or a declaration that says more than XML 1.0 in UTF-8
	DTD          Reason = "dtd"            // a document type, an entity, a notation
	Comment      Reason = "comment"        // a comment: readers disagree about the text around it
	CDATA        Reason = "cdata"          // a CDATA section, for the same reason
	Namespace    Reason = "namespace"      // a prefix without a namespace, or one that is taken away
	Identifier   Reason = "identifier"     // an identifier twice, in another spelling, or where none belongs
	Structure    Reason = "structure"      // an element where none of its kind may be
	Encrypted    Reason = "encrypted"      // an encrypted assertion, name or attribute
	Assertions   Reason = "assertions"     // none, or more than one
	Version      Reason = "version"        // not SAML 2.0
	Destination  Reason = "destination"    // sent to somebody else
	Unsolicited  Reason = "request"        // no answer to this request of ours: unsolicited, or of another sign-in
	Failed       Reason = "failed"         // the provider says that it did not sign the person in; Refusal.Status says why
	Unsigned     Reason = "unsigned"       // neither the response nor the assertion carries a signature
	Form         Reason = "signature-form" // a signature with other parts than it needs
	Reference    Reason = "reference"      // a signature over something other than the one element that holds it
	Transform    Reason = "transform"      // a transform or canonicalization other than the two that are needed
	Algorithm    Reason = "algorithm"      // SHA-1, HMAC, or anything else that is not on the list
	Certificate  Reason = "certificate"    // none of the connection's certificates is valid at present
	Signature    Reason = "signature"      // it does not verify with any certificate of the connection
	Issuer       Reason = "issuer"         // by another provider
	Subject      Reason = "subject"        // no name of a person, or one with characters that do not belong
	Confirmation Reason = "confirmation"   // not exactly one confirmation by bearer, or one with conditions of its own
	Recipient    Reason = "recipient"      // confirmed for somebody else's address
	Audience     Reason = "audience"       // meant for somebody else
	Condition    Reason = "condition"      // a condition that we do not know, so cannot keep
	Early        Reason = "early"          // not valid yet
	Expired      Reason = "expired"        // not valid any more
	Statement    Reason = "statement"      // it does not say, once, when and how the person signed in
	Attribute    Reason = "attribute"      // an attribute without a name
)

// Refusal is why a response was not accepted. Nothing in it was written by whoever sent the response.
type Refusal struct {
	Reason Reason
	// Status is the provider's own word when Reason is Failed: one of "no-authn-context", "no-passive", "authn-failed",
	// "request-denied", "unknown-principal", "requester", "responder", "version-mismatch", "other".
	Status string
}

// Error names the reason.
func (r *Refusal) Error() string {
	if r.Status != "" {
		return fmt.Sprintf("SAML response refused: %s: %s", r.Reason, r.Status)
	}
	return "SAML response refused: " + string(r.Reason)
}

// Unwrap is what the person is told: the same for everything that may be an attack, since its sender learns nothing, and
// more only where the person or an administrator can put it right.
func (r *Refusal) Unwrap() error {
	switch r.Reason {
	case Failed:
		return problem.New(problem.Unauthenticated, "Your organisation's identity provider did not sign you in (%s). Try again, or ask your administrator.", r.Status)
	case Certificate:
		return problem.New(problem.Unauthenticated, "The certificates of your organisation's identity provider are not valid at present. An administrator must renew them in the connection's settings.")
	case Early, Expired:
		return problem.New(problem.Unauthenticated, "The answer of your organisation's identity provider is not valid at this time. Try again; if it lasts, its clock or ours is wrong.")
	case Unsolicited:
		return problem.New(problem.Unauthenticated, "This sign-in was not begun here, or it has ended. Start again at Avouch's sign-in page.")
	}
	return problem.New(problem.Unauthenticated, "The answer of your organisation's identity provider cannot be accepted (%s). Ask your administrator, and quote the request id.", r.Reason)
}

// Why is the reason in err's chain, and whether there is one.
func Why(err error) (Reason, bool) {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Reason, true
	}
	return "", false
}

func refuse(r Reason) error { return &Refusal{Reason: r} }
