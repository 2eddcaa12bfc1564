package tenantdb

import (
	"net/netip"
	"slices"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
)

type tenantKind struct{}

// TenantID names a tenant: an organisation, or the platform.
type TenantID = id.ID[tenantKind]

// NewTenantID makes the name of a new tenant.
func NewTenantID() TenantID { return id.New[tenantKind]() }

// ParseTenantID reads a tenant's canonical name.
func ParseTenantID(s string) (TenantID, error) { return id.Parse[tenantKind](s) }

// Platform is the tenant of the installation itself. It is the first of all in tenant order.
var Platform = TenantID{6: 0x70, 8: 0x80, 15: 0x01}

// Caller is who asks, for which tenant, and under which request. Every operation takes one, as a parameter and never
// hidden in a context. Only the rooms that authenticate make one (layout_test.go holds the list).
type Caller struct{ spec CallerSpec }

// CallerSpec is what a Caller is made of.
type CallerSpec struct {
	Tenant    TenantID
	Actor     audit.Actor
	How       string   // how the actor was authenticated: "api-key", "agent-token", "session:password+totp", "system"
	Scopes    []string // what the credential allows; nil is nothing, not everything
	Source    string   // the service that a request came through, opaque; empty if direct
	RequestID audit.RequestID
	// CallerRequestID is the caller's own, kept beside ours for correlation and never used to tell duplicates.
	CallerRequestID string
	Address         netip.Addr
	Metered         bool // the credential's uses are counted, and limited
	// Token is the id of the token by which an agent was authenticated (its claim jti); empty for all other actors.
	Token string
	// Person is what a person's session says beside; nil for all other actors.
	Person *Person

	keyless bool
}

// NewCaller makes a Caller of someone who has been authenticated.
func NewCaller(s CallerSpec) Caller { return Caller{s} }

// System is Avouch itself acting for a tenant: background work, start-up, the operator. Capabilities limit credentials, so
// it has them all.
func System(tenant TenantID, part string) Caller {
	return Caller{CallerSpec{
		Tenant: tenant, Actor: audit.Actor{Kind: audit.ActorSystem, ID: part}, How: "system", Scopes: []string{Everything},
		RequestID: audit.NewRequestID(),
	}}
}

// Keyless is the caller for what must be done although the tenant's own key management keeps everything closed, and takes no key:
// how it is reached, and destroying what it keeps. Config.Gate does not stop it; what is sealed stays so.
func (c Caller) Keyless() Caller {
	c.spec.keyless = true
	return c
}

// Tenant is whose data the caller sees.
func (c Caller) Tenant() TenantID { return c.spec.Tenant }

// Actor is who acts.
func (c Caller) Actor() audit.Actor { return c.spec.Actor }

// RequestID is the request that the call belongs to.
func (c Caller) RequestID() audit.RequestID { return c.spec.RequestID }

// Address is where the request came from; invalid for the system.
func (c Caller) Address() netip.Addr { return c.spec.Address }

// Metered reports whether uses of the caller's credential are counted.
func (c Caller) Metered() bool { return c.spec.Metered }

// Token is the id of the token that an agent presented.
func (c Caller) Token() string { return c.spec.Token }

// Scopes are what the caller's credential allows.
func (c Caller) Scopes() []string { return slices.Clone(c.spec.Scopes) }

// How says how the caller was authenticated, and whether the glass was broken for it: it is in each entry.
func (c Caller) How() string {
	if c.spec.Person == nil || len(c.spec.Person.Lent) == 0 {
		return c.spec.How
	}
	return c.spec.How + breakGlass
}

// breakGlass marks entries of callers with lent capabilities, whether they needed them or not.
const breakGlass = " break-glass"

// May reports whether the caller may do something now: by its credential, or because the glass was broken.
func (c Caller) May(capability string) bool {
	return c.Holds(capability) || c.spec.Person != nil && holds(c.spec.Person.Lent, capability)
}

// Holds reports whether the caller's credential carries the capability of itself. Who gives something away that lasts (a key,
// a role, an invitation, a connection) must hold it: what break-glass lends cannot be handed on.
func (c Caller) Holds(capability string) bool { return holds(c.spec.Scopes, capability) }

func holds(capabilities []string, capability string) bool {
	return slices.Contains(capabilities, capability) || slices.Contains(capabilities, Everything)
}

// Person is the person that acts; false for every other actor.
func (c Caller) Person() (Person, bool) {
	if c.spec.Person == nil {
		return Person{}, false
	}
	return *c.spec.Person, true
}

// Everything is the capability of owner keys: whatever their organisation may do.
const Everything = "*"
