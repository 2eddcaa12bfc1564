package tenantdb

import (
	"slices"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
)

// PersonID names a person of a tenant. It is the data subject of what the log tells of that person in private.
type PersonID = audit.SubjectID

// Person is what a person's session says beside what its Caller may do.
type Person struct {
	ID      PersonID
	Session string   // its id, which is no secret
	Roles   []string // built in and the organisation's own, by name
	// ProvedAt is when a factor was proved last: what is dangerous wants that to be recent (step-up).
	ProvedAt time.Time
	// Methods are how the person was proved: "password", "totp", "email", "sms", "passkey", "recovery", "oidc", "saml".
	Methods []string
	// Unproved is what the person was given since: the session can do it after the next proof.
	Unproved []string
	// Lent is what break-glass lends for a while.
	Lent []string
}

// FreshProof is how old a proof may be for what is dangerous.
const FreshProof = 5 * time.Minute

// Fresh refuses a person whose last proof is old, or of a time to come: what is dangerous wants to know that it is still them.
func (p Person) Fresh(now time.Time) error {
	if now.Sub(p.ProvedAt).Abs() <= FreshProof {
		return nil
	}
	return problem.New(problem.Denied, "Prove yourself again: this needs a proof of the last five minutes (POST /api/v1/session/prove).")
}

// Capabilities lists what a credential can be allowed to do, beside Everything.
func Capabilities() []string { return slices.Clone(capabilities) }

var capabilities = []string{
	"agents:read", "agents:write", "audit:read", "audit:write", "breakglass:approve", "breakglass:read", "breakglass:write", "keys:read", "keys:write",
	"members:read", "members:write", "organisation:read", "organisation:write", "read:identity", "scim:write", "scopes:write", "sso:read", "sso:write",
	"vault:code", "vault:manage", "vault:read", "vault:use", "vault:write", "verify",
}
