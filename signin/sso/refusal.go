package sso

import (
	"fmt"

	"github.com/avouch-dev/avouch/internal/problem"
)

// Reason is why an arrival was refused: a word of a closed list, for the log and for tests.
type Reason string

// The reasons.
const (
	ReasonState      Reason = "state"      // not begun in this browser, or too long ago
	ReasonReplay     Reason = "replay"     // brought back before
	ReasonOff        Reason = "off"        // the connection is switched off, or was changed meanwhile
	ReasonProvider   Reason = "provider"   // it does not answer as it should
	ReasonDeclined   Reason = "declined"   // it says that it did not sign the person in
	ReasonIssuer     Reason = "issuer"     // the answer is another provider's
	ReasonCode       Reason = "code"       // it gives nothing for the code
	ReasonToken      Reason = "token"      // what it gives does not verify
	ReasonNonce      Reason = "nonce"      // it is of another sign-in
	ReasonAudience   Reason = "audience"   // it is for another client too
	ReasonEarly      Reason = "early"      // it is not valid yet
	ReasonStale      Reason = "stale"      // the person was to be proved anew, and was not
	ReasonResponse   Reason = "response"   // the SAML response does not verify; the saml package says why
	ReasonTransient  Reason = "transient"  // the provider calls the person something new at each sign-in
	ReasonUnverified Reason = "unverified" // the provider does not vouch for the address
	ReasonDomain     Reason = "domain"     // the address is of no domain that the organisation proved for the connection
	ReasonStranger   Reason = "stranger"   // nobody here, and the connection admits nobody by itself
	ReasonRemoved    Reason = "removed"    // they were removed here: only an invitation or a directory brings them back
	ReasonElse       Reason = "else"       // the account belongs to another person of the provider's, or must be linked by hand
	ReasonCeiling    Reason = "ceiling"    // the account may do more than whoever configured the connection
	ReasonInactive   Reason = "inactive"   // the person was suspended
	ReasonEnded      Reason = "ended"      // the session is over in which the account was to be linked
	ReasonOther      Reason = "other"      // another person came back than was to be proved
)

// Refusal is an arrival that was refused.
type Refusal struct {
	Reason Reason
	cause  error // for the server's log
}

// Error names the reason.
func (r *Refusal) Error() string {
	if r.cause != nil {
		return fmt.Sprintf("sso: refused: %s: %v", r.Reason, r.cause)
	}
	return "sso: refused: " + string(r.Reason)
}

// Unwrap is what the person is told. What may be an attack is all one.
func (r *Refusal) Unwrap() error {
	kind, says := problem.Unauthenticated, "The answer of your organisation's identity provider cannot be accepted. Begin again; if it lasts, ask your administrator and quote the request id."
	switch r.Reason {
	case ReasonState, ReasonReplay:
		says = "This sign-in was not begun in this browser, took too long, or was brought back before. Begin again at the sign-in page."
	case ReasonOff:
		says = "The connection to your organisation's identity provider is switched off, or was changed just now. Begin again, or ask your administrator."
	case ReasonDeclined:
		says = "Your organisation's identity provider did not sign you in. Try again, or ask your administrator."
	case ReasonStale:
		says = "Your organisation's identity provider did not ask you anew who you are, and this needs it."
	case ReasonTransient:
		says = "Your organisation's identity provider calls you something new at each sign-in. An administrator must have it send a persistent name."
	case ReasonUnverified, ReasonDomain, ReasonStranger, ReasonRemoved:
		kind, says = problem.Denied, "Your organisation's identity provider knows you, but nobody has given you access here. Ask an administrator of your organisation."
	case ReasonCeiling:
		kind, says = problem.Denied, "Whoever set up the connection to your identity provider may do less than you, so it is not believed about you. Sign in as you did before, or have an owner set the provider up anew."
	case ReasonElse:
		kind, says = problem.Denied, "This account is not yet linked to your identity provider. Sign in as you did before, and link it in your account's settings."
	case ReasonInactive:
		kind, says = problem.Denied, "This account cannot sign in. Ask an administrator of your organisation."
	case ReasonEnded:
		kind, says = problem.Denied, "You have been signed out meanwhile. Sign in, and begin again."
	case ReasonOther:
		kind, says = problem.Denied, "Somebody else came back from the identity provider. Sign out there, and try again."
	case ReasonProvider:
		kind, says = problem.Unavailable, "Your organisation's identity provider does not answer as it should. Try again shortly."
	}
	p := problem.New(kind, "%s", says)
	if r.cause != nil {
		p = p.Because(r.cause)
	}
	return p
}

func refuse(r Reason) error { return &Refusal{Reason: r} }

func refuseBecause(r Reason, cause error) error { return &Refusal{r, cause} }
