package verify

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Decision is what a service is told to do.
type Decision string

// The decisions. Only Allowed allows.
const (
	Allowed Decision = "ALLOWED"
	Denied  Decision = "DENIED"
	Revoked Decision = "REVOKED"
	Expired Decision = "EXPIRED"
)

// Request is what a service asks.
type Request struct {
	Token           string   `json:"token" doc:"The agent's token, as it was presented."`
	TargetResource  string   `json:"target_resource,omitempty" maxLength:"1024" doc:"What the agent wants to use: the name by which tokens are bound to your service."`
	ScopesRequested []string `json:"scopes_requested,omitempty" maxItems:"64" doc:"What the agent wants to do. Empty asks only who the agent is."`
}

// facts are what a decision is made from. decide is a pure function of them.
type facts struct {
	now       time.Time
	claims    agent.Claims
	forged    error // why the token proves nothing; claims are then empty
	kidGone   bool  // the signing key has been revoked
	request   Request
	service   *tenantState
	key       *apikey.Use
	address   netip.Addr   // from where it was asked
	owner     *tenantState // nil if the token names no tenant of ours
	agent     *agentState  // nil if the owner has no such agent
	usesSpent bool
	aboutKeys bool // a key is asked about, and no agent
}

// verdict is a decision, with its reason as a sentence for a person.
type verdict struct {
	decision Decision
	reason   string
	active   []string
	known    bool // the service may be told who the agent is
}

func no(d Decision, known bool, format string, args ...any) verdict {
	return verdict{decision: d, reason: fmt.Sprintf(format, args...), known: known, active: []string{}}
}

// decide applies the rules in their fixed order: signature, revoked, expired, denied.
func decide(f *facts) verdict {
	switch {
	case f.forged != nil:
		return no(Denied, false, "The token is not one that this issuer has signed")
	case f.kidGone:
		return no(Revoked, false, "The key that signed the token has been revoked")
	case f.owner == nil || f.agent == nil:
		return no(Denied, false, "The token names no agent of this issuer")
	case !f.visible():
		return no(Denied, false, "The agent's owner does not let your organisation verify this agent")
	}
	if v, ok := revoked(f); ok {
		return v
	}
	if v, ok := timely(f); ok {
		return v
	}
	if v, ok := suspended(f); ok {
		return v
	}
	if v, ok := addressed(f); ok {
		return v
	}
	return scoped(f)
}

// visible reports whether the owner lets the service's organisation verify the agent.
func (f *facts) visible() bool {
	if f.owner.head.Tenant == f.service.head.Tenant {
		return true
	}
	switch f.agent.visibility {
	case "all":
		return true
	case "listed":
		return slices.Contains(f.agent.visibleTo, f.service.head.Tenant)
	}
	return false
}

func revoked(f *facts) (verdict, bool) {
	switch {
	case f.agent.revoked:
		return no(Revoked, true, "The agent has been revoked"), true
	case f.claims.Generation != f.agent.generation:
		return no(Revoked, true, "All tokens that the agent had have been revoked"), true
	case slices.Contains(f.agent.revokedTokens, f.claims.JTI):
		return no(Revoked, true, "The token has been revoked"), true
	}
	return verdict{}, false
}

func timely(f *facts) (verdict, bool) {
	switch f.claims.ValidAt(f.now, agent.Skew) {
	case nil:
		return verdict{}, false
	case agent.ErrExpired:
		return no(Expired, true, "The token expired at %s", f.claims.Expires.UTC().Format(time.RFC3339)), true
	}
	return no(Denied, true, "The token is not valid yet"), true
}

func suspended(f *facts) (verdict, bool) {
	switch {
	case f.agent.suspended:
		return no(Denied, true, "The agent is suspended"), true
	case f.owner.suspended:
		return no(Denied, true, "The agent's owner is suspended"), true
	case f.usesSpent:
		return no(Denied, true, "The token's %d uses are spent", f.claims.Uses), true
	}
	return verdict{}, false
}

// addressed holds what the token and the key are bound to.
func addressed(f *facts) (verdict, bool) {
	switch {
	case f.claims.Bound() && !slices.Contains(f.claims.Audience, f.request.TargetResource):
		return no(Denied, true, "The token is bound to other resources"), true
	case len(f.key.Resources) > 0 && !slices.Contains(f.key.Resources, f.request.TargetResource):
		return no(Denied, true, "Your key may not ask about this resource"), true
	case len(f.key.Owners) > 0 && !slices.Contains(f.key.Owners, f.owner.head.Tenant):
		return no(Denied, true, "Your key may not ask about this owner's agents"), true
	case !f.key.May("verify") && len(f.request.ScopesRequested) > 0:
		return no(Denied, true, "Your key may ask who an agent is, and not for scopes"), true
	}
	return verdict{}, false
}

func scoped(f *facts) verdict {
	if len(f.request.ScopesRequested) == 0 {
		return verdict{decision: Allowed, reason: "The agent is who it says it is", active: f.agent.scopes, known: true}
	}
	var unknown, missing []string
	active := []string{}
	for _, s := range f.request.ScopesRequested {
		switch {
		case slices.Contains(f.agent.scopes, s):
			if !slices.Contains(active, s) {
				active = append(active, s)
			}
		case f.owner.knows(s) || f.service.knows(s):
			missing = append(missing, s)
		default:
			unknown = append(unknown, s)
		}
	}
	v := verdict{decision: Denied, active: active, known: true}
	switch {
	case len(unknown) > 0:
		v.reason = "Unknown scopes: " + strings.Join(unknown, ", ")
	case len(missing) > 0:
		v.reason = "Agent lacks required scopes: " + strings.Join(missing, ", ")
	default:
		v.decision, v.reason = Allowed, "The agent has the scopes: "+strings.Join(active, ", ")
	}
	return v
}

// tenantState is what decisions need to know of a tenant, as it was at one epoch.
type tenantState struct {
	head         tenantdb.Head
	name         string
	suspended    bool
	monthlyQuota *int64
	scopes       []string // those that the tenant added to the catalogue
	builtIn      func(string) bool
}

func (t *tenantState) knows(scope string) bool {
	return t.builtIn(scope) || slices.Contains(t.scopes, scope)
}

// agentState is an agent at the epoch of its tenant's state.
type agentState struct {
	name          string
	scopes        []string
	visibility    string
	visibleTo     []tenantdb.TenantID
	suspended     bool
	revoked       bool
	generation    int64
	revokedTokens []agent.TokenID // of the present generation, unexpired
}
