package saml

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/beevik/etree"
)

const (
	skew        = 60 * time.Second
	maxAge      = time.Hour // an assertion is for now, whatever it says itself
	maxSubject  = 512       // SAML allows 256; a DN can be longer
	bearer      = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
	methodsName = "http://schemas.microsoft.com/claims/authnmethodsreferences" // where Entra says what the context leaves out
)

// Transient is the format of names that a provider makes up anew each time: whoever keeps accounts by Subject must refuse
// it, or keep them by an attribute.
const Transient = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"

// Assertion is what a provider has signed about a person, checked. It counts once: the caller spends ID for the
// connection until Ends, on all servers, in the transaction that uses it.
type Assertion struct {
	ID   string
	Ends time.Time // from then on Verify refuses it by itself

	Subject      string // the provider's name for the person; unique only together with NameIDFormat and the connection
	NameIDFormat string
	Attributes   map[string][]string // by Name; friendly names are for people

	AuthnInstant time.Time // when the person was proved; never after now
	SessionEnds  time.Time // when the provider ends the session; zero if it does not say
	ContextClass string
	Strong       bool // the context, or a method of Entra's list, is among the connection's StrongContexts
}

// reader collects an assertion from the element that was signed.
type reader struct {
	self      Self
	provider  Provider
	requestID string
	now       time.Time
	out       Assertion
}

// read takes the assertion apart. Every element that it may hold is named here; what is not named is refused, because it
// may say "only if" (a condition) or "not this one" (another subject).
func (r *reader) read(el *etree.Element) error {
	found, err := parts(el, Structure,
		part{nsAssertion, "Issuer", 1, 1}, part{nsSignature, "Signature", 0, 1}, part{nsAssertion, "Subject", 1, 1}, part{nsAssertion, "Conditions", 1, 1},
		part{nsAssertion, "AuthnStatement", 0, 8}, part{nsAssertion, "AttributeStatement", 0, 8})
	if err != nil {
		return err
	}
	if attribute(el, "Version") != "2.0" {
		return refuse(Version)
	}
	if issuer, ok := text(found["Issuer"][0]); !ok || issuer != r.provider.EntityID {
		return refuse(Issuer)
	}
	r.out.ID = attribute(el, "ID")
	issued, err := instant(attribute(el, "IssueInstant"))
	if err != nil {
		return refuse(Malformed)
	}
	if issued.After(r.now.Add(skew)) {
		return refuse(Early)
	}
	r.out.Ends = issued.Add(maxAge + skew)
	if err := r.subject(found["Subject"][0]); err != nil {
		return err
	}
	if err := r.conditions(found["Conditions"][0]); err != nil {
		return err
	}
	if !r.now.Before(r.out.Ends) {
		return refuse(Expired)
	}
	r.out.Attributes = map[string][]string{}
	for _, s := range found["AttributeStatement"] {
		if err := r.attributes(s); err != nil {
			return err
		}
	}
	if len(found["AuthnStatement"]) != 1 {
		return refuse(Statement)
	}
	return r.statement(found["AuthnStatement"][0])
}

func (r *reader) subject(el *etree.Element) error {
	found, err := parts(el, Confirmation, part{nsAssertion, "NameID", 0, 2}, part{nsAssertion, "SubjectConfirmation", 1, 1})
	if err != nil {
		return err
	}
	if len(found["NameID"]) != 1 {
		return refuse(Subject)
	}
	name := found["NameID"][0]
	value, ok := text(name)
	if !ok || value == "" || len(value) > maxSubject || strings.TrimSpace(value) != value || strings.ContainsFunc(value, unprintable) {
		return refuse(Subject)
	}
	r.out.Subject, r.out.NameIDFormat = value, attribute(name, "Format")
	return r.confirmation(found["SubjectConfirmation"][0])
}

// unprintable characters make two names look alike, or one be read as another.
func unprintable(c rune) bool {
	return c == utf8.RuneError || unicode.IsControl(c) || unicode.Is(unicode.Cf, c) || unicode.Is(unicode.Zl, c) || unicode.Is(unicode.Zp, c)
}

func (r *reader) confirmation(el *etree.Element) error {
	found, err := parts(el, Confirmation, part{nsAssertion, "SubjectConfirmationData", 1, 1})
	if err != nil {
		return err
	}
	data := found["SubjectConfirmationData"][0]
	if attribute(el, "Method") != bearer || len(data.ChildElements()) != 0 || !blank(data) {
		return refuse(Confirmation)
	}
	if attribute(data, "Recipient") != r.self.ACS {
		return refuse(Recipient)
	}
	if r.requestID == "" || attribute(data, "InResponseTo") != r.requestID {
		return refuse(Unsolicited)
	}
	if attribute(data, "NotOnOrAfter") == "" {
		return refuse(Confirmation)
	}
	return r.window(data)
}

// window checks NotBefore and NotOnOrAfter of an element, and lets the assertion end no later than it.
func (r *reader) window(el *etree.Element) error {
	if from := attribute(el, "NotBefore"); from != "" {
		t, err := instant(from)
		if err != nil {
			return refuse(Malformed)
		}
		if t.After(r.now.Add(skew)) {
			return refuse(Early)
		}
	}
	if until := attribute(el, "NotOnOrAfter"); until != "" {
		t, err := instant(until)
		if err != nil {
			return refuse(Malformed)
		}
		if t = t.Add(skew); t.Before(r.out.Ends) {
			r.out.Ends = t
		}
	}
	return nil
}

func (r *reader) conditions(el *etree.Element) error {
	found, err := parts(el, Condition,
		part{nsAssertion, "AudienceRestriction", 0, 8},
		part{nsAssertion, "OneTimeUse", 0, 1},       // kept: every assertion counts once
		part{nsAssertion, "ProxyRestriction", 0, 1}) // kept: we assert nothing to others
	if err != nil {
		return err
	}
	if err := r.window(el); err != nil {
		return err
	}
	if len(found["AudienceRestriction"]) == 0 {
		return refuse(Audience)
	}
	for _, restriction := range found["AudienceRestriction"] { // each must name us
		inside, err := parts(restriction, Audience, part{nsAssertion, "Audience", 1, 64})
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(inside["Audience"], func(a *etree.Element) bool {
			name, ok := text(a)
			return ok && name == r.self.EntityID
		}) {
			return refuse(Audience)
		}
	}
	return nil
}

func (r *reader) statement(el *etree.Element) error {
	found, err := parts(el, Statement, part{nsAssertion, "SubjectLocality", 0, 1}, part{nsAssertion, "AuthnContext", 1, 1})
	if err != nil {
		return err
	}
	at, err := instant(attribute(el, "AuthnInstant"))
	if err != nil {
		return refuse(Statement)
	}
	if at.After(r.now.Add(skew)) {
		return refuse(Early)
	}
	if at.After(r.now) {
		at = r.now
	}
	r.out.AuthnInstant = at
	if end := attribute(el, "SessionNotOnOrAfter"); end != "" {
		if r.out.SessionEnds, err = instant(end); err != nil {
			return refuse(Statement)
		}
		if !r.now.Before(r.out.SessionEnds) {
			return refuse(Expired)
		}
	}
	context, err := parts(found["AuthnContext"][0], Statement,
		part{nsAssertion, "AuthnContextClassRef", 1, 1}, part{nsAssertion, "AuthnContextDecl", 0, 1}, part{nsAssertion, "AuthnContextDeclRef", 0, 1},
		part{nsAssertion, "AuthenticatingAuthority", 0, 8})
	if err != nil {
		return err
	}
	class, ok := text(context["AuthnContextClassRef"][0])
	if !ok || class == "" {
		return refuse(Statement)
	}
	r.out.ContextClass = class
	r.out.Strong = slices.Contains(r.provider.StrongContexts, class) ||
		slices.ContainsFunc(r.out.Attributes[methodsName], func(m string) bool { return slices.Contains(r.provider.StrongContexts, m) })
	return nil
}

// attributes collects what the provider says of the person. The same name twice adds to the first, as Keycloak writes
// roles; a value that is an element, as eduPersonTargetedID is, is left out.
func (r *reader) attributes(el *etree.Element) error {
	found, err := parts(el, Attribute, part{nsAssertion, "Attribute", 0, maxElements})
	if err != nil {
		return err
	}
	for _, a := range found["Attribute"] {
		name := attribute(a, "Name")
		if name == "" {
			return refuse(Attribute)
		}
		values, err := parts(a, Attribute, part{nsAssertion, "AttributeValue", 0, maxElements})
		if err != nil {
			return err
		}
		for _, v := range values["AttributeValue"] {
			if value, ok := text(v); ok {
				r.out.Attributes[name] = append(r.out.Attributes[name], value)
			}
		}
	}
	return nil
}

// instant reads a time as SAML writes it: with a zone, which is UTC at providers that keep the standard.
func instant(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	return t.UTC(), err
}
