package org

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Rules are what an organisation asks of its people. What a room reads are never zero values, but the defaults.
type Rules struct {
	MFA      string   `json:"mfa,omitempty"`       // MFARequired of everybody, or empty: of owners, of those who govern, and of MFARoles
	MFARoles []string `json:"mfa_roles,omitempty"` // who need a second factor beside owners and those who govern, always
	// Factors are the kinds that count, by role, or for Everybody; a role that is not there has no limit of its own. Whoever
	// has several roles has what all of them allow.
	Factors         map[string][]string `json:"factors,omitempty"`
	IdleTimeout     time.Duration       `json:"idle_timeout,omitempty"`     // after which a session that is not used ends
	SessionLifetime time.Duration       `json:"session_lifetime,omitempty"` // of a browser
	ProgramLifetime time.Duration       `json:"program_lifetime,omitempty"` // of a program's refresh tokens
	Addresses       []netip.Prefix      `json:"addresses,omitempty"`        // from where its people may come, and keys that they made (apikey.Key.AllowedFrom); empty is from anywhere
	AccessAlgorithm string              `json:"access_algorithm,omitempty"` // of access tokens: ES256 or RS256
	RetentionDays   int                 `json:"retention_days,omitempty"`   // how long the log keeps its entries; 0 is for ever
	BreakGlass      GlassRules          `json:"break_glass,omitzero"`
}

// GlassRules are those of breaking the glass.
type GlassRules struct {
	Approval     string        `json:"approval,omitempty"` // ApproveByPerson, ApproveByDelay or ApproveExternally
	Delay        time.Duration `json:"delay,omitempty"`    // before it opens, where that is the approval
	MaxLife      time.Duration `json:"max_life,omitempty"` // for how long it can be opened
	Capabilities []string      `json:"capabilities,omitempty"`
	HookURL      string        `json:"hook_url,omitempty"` // who approves externally
}

// The words of rules.
const (
	MFARequired       = "required"
	Everybody         = "*"
	ApproveByPerson   = "person"
	ApproveByDelay    = "delay"
	ApproveExternally = "external"
)

// Kinds of second factors, the strongest first. FactorHardware are passkeys that a device holds and no account copies.
const (
	FactorHardware = "hardware"
	FactorPasskey  = "passkey"
	FactorTOTP     = "totp"
	FactorSMS      = "sms"
	FactorEmail    = "email"
)

func factorKinds() []string {
	return []string{FactorHardware, FactorPasskey, FactorTOTP, FactorSMS, FactorEmail}
}

// The limits and defaults of rules.
const (
	minSession     = time.Hour
	maxIdle        = 12 * time.Hour
	maxSession     = 7 * 24 * time.Hour
	defaultProgram = 90 * 24 * time.Hour
	maxProgram     = 365 * 24 * time.Hour
	maxRetention   = 36_500
	maxAddresses   = 200
	maxGlassLife   = 24 * time.Hour
	minGlassDelay  = 5 * time.Minute
	maxGlassDelay  = 7 * 24 * time.Hour
)

// DefaultRules are those of an organisation that set none.
func DefaultRules() Rules { return Rules{}.effective() }

func (r Rules) effective() Rules {
	orDefault(&r.IdleTimeout, maxIdle)
	orDefault(&r.SessionLifetime, maxSession)
	orDefault(&r.ProgramLifetime, defaultProgram)
	orDefault(&r.AccessAlgorithm, "ES256")
	orDefault(&r.BreakGlass.Approval, ApproveByPerson)
	orDefault(&r.BreakGlass.Delay, time.Hour)
	orDefault(&r.BreakGlass.MaxLife, time.Hour)
	return r
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func parseRules(b []byte) (Rules, error) {
	var r Rules
	if err := json.Unmarshal(b, &r); err != nil {
		return Rules{}, fmt.Errorf("org: rules: %w", err)
	}
	return r.effective(), nil
}

// Allows reports whether people may come from an address.
func (r Rules) Allows(a netip.Addr) bool {
	return len(r.Addresses) == 0 || slices.ContainsFunc(r.Addresses, func(p netip.Prefix) bool { return p.Contains(a.Unmap().WithZone("")) })
}

// NeedsMFA reports whether whoever has the roles and capabilities must prove a second factor. Owners must, and everybody who can
// change members, settings or connections, by whatever role: the rules cannot take that away.
func (r Rules) NeedsMFA(roles, capabilities []string) bool {
	governs := func(c string) bool {
		return c == tenantdb.Everything || c == "members:write" || c == "organisation:write" || c == "sso:write"
	}
	return r.MFA == MFARequired || slices.Contains(roles, RoleAdmin) || slices.ContainsFunc(capabilities, governs) ||
		slices.ContainsFunc(roles, func(role string) bool { return slices.Contains(r.MFARoles, role) })
}

// AllowedFactors are the kinds that count for whoever has the roles; nil is all. If no kind is allowed for each of the roles, it
// is the strongest that one of them has: somebody's second role must not shut them out.
func (r Rules) AllowedFactors(roles []string) []string {
	var allowed []string
	strongest := len(factorKinds())
	limited := false
	for _, role := range append([]string{Everybody}, roles...) {
		kinds, there := r.Factors[role]
		if !there {
			continue
		}
		for i, k := range factorKinds() {
			if slices.Contains(kinds, k) {
				strongest = min(strongest, i)
			}
		}
		kinds = widened(kinds)
		if allowed = intersection(allowed, kinds); !limited {
			allowed, limited = kinds, true
		}
	}
	switch {
	case !limited:
		return nil
	case len(allowed) == 0 && strongest < len(factorKinds()):
		return []string{factorKinds()[strongest]}
	}
	return allowed
}

// widened says of each kind also what it contains: a passkey of hardware is a passkey.
func widened(kinds []string) []string {
	var out []string
	for _, k := range factorKinds() {
		if slices.Contains(kinds, k) || k == FactorHardware && slices.Contains(kinds, FactorPasskey) {
			out = append(out, k)
		}
	}
	return out
}

func intersection(a, b []string) (both []string) {
	for _, s := range a {
		if slices.Contains(b, s) {
			both = append(both, s)
		}
	}
	return both
}

// lowersMFA reports whether the rules ask less of anybody than others did.
func (r Rules) lowersMFA(before Rules) bool {
	if before.MFA == MFARequired && r.MFA != MFARequired {
		return true
	}
	if r.MFA != MFARequired && slices.ContainsFunc(before.MFARoles, func(role string) bool { return !slices.Contains(r.MFARoles, role) }) {
		return true
	}
	for role, kinds := range before.Factors {
		now, there := r.Factors[role]
		if !there || len(intersection(widened(now), widened(kinds))) != len(widened(now)) {
			return true
		}
	}
	return false
}

// sameMFA reports whether the rules ask for the same second factors.
func (r Rules) sameMFA(o Rules) bool {
	return r.MFA == o.MFA && slices.Equal(r.MFARoles, o.MFARoles) && maps.EqualFunc(r.Factors, o.Factors, slices.Equal)
}

// check says what is wrong with rules; roles are the names of all roles.
func (r Rules) check(roles []string) error {
	p := problem.New(problem.Invalid, "The rules cannot be like that. See `errors`.")
	bad := func(where, format string, args ...any) {
		p.Fields = append(p.Fields, problem.Field{Location: "body." + where, Message: fmt.Sprintf(format, args...)})
	}
	if r.MFA != "" && r.MFA != MFARequired {
		bad("mfa", "is neither empty nor %s", MFARequired)
	}
	known := func(where string, role string) {
		if !slices.Contains(roles, role) {
			bad(where, "%q is no role", role)
		}
	}
	for _, role := range r.MFARoles {
		known("mfa_roles", role)
	}
	for _, role := range slices.Sorted(maps.Keys(r.Factors)) {
		if role != Everybody {
			known("factors", role)
		}
		if len(r.Factors[role]) == 0 {
			bad("factors", "%q has no kind: nobody of that role could sign in", role)
		}
		for _, k := range r.Factors[role] {
			if !slices.Contains(factorKinds(), k) {
				bad("factors", "%q is no kind of factor", k)
			}
		}
	}
	between := func(where string, d, least, most time.Duration) {
		if d < least || d > most {
			bad(where, "is not between %d and %d", int(least.Seconds()), int(most.Seconds()))
		}
	}
	between("idle_timeout_seconds", r.IdleTimeout, minSession, maxIdle)
	between("session_lifetime_seconds", r.SessionLifetime, minSession, maxSession)
	between("program_lifetime_seconds", r.ProgramLifetime, minSession, maxProgram)
	if r.AccessAlgorithm != "ES256" && r.AccessAlgorithm != "RS256" {
		bad("access_algorithm", "is neither ES256 nor RS256")
	}
	if r.RetentionDays < 0 || r.RetentionDays > maxRetention {
		bad("retention_days", "is not between 0 and %d", maxRetention)
	}
	if len(r.Addresses) > maxAddresses {
		bad("addresses", "has more than %d", maxAddresses)
	}
	r.BreakGlass.check(bad)
	if len(p.Fields) == 0 {
		return nil
	}
	return p
}

func (g GlassRules) check(bad func(where, format string, args ...any)) {
	switch g.Approval {
	case ApproveByPerson, ApproveByDelay:
	case ApproveExternally:
		if g.HookURL == "" {
			bad("break_glass.hook_url", "is needed where the approval is external")
		}
	default:
		bad("break_glass.approval", "is none of person, delay, external")
	}
	if g.Delay < minGlassDelay || g.Delay > maxGlassDelay {
		bad("break_glass.delay_seconds", "is not between %d and %d", int(minGlassDelay.Seconds()), int(maxGlassDelay.Seconds()))
	}
	if g.MaxLife < time.Minute || g.MaxLife > maxGlassLife {
		bad("break_glass.max_life_seconds", "is not between 60 and %d", int(maxGlassLife.Seconds()))
	}
	for _, c := range g.Capabilities {
		if !slices.Contains(tenantdb.Capabilities(), c) {
			bad("break_glass.capabilities", "%q is no capability", c)
		}
	}
	if g.HookURL != "" {
		u, err := url.Parse(g.HookURL)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || len(g.HookURL) > 500 {
			bad("break_glass.hook_url", "is no https address of at most 500 characters")
		}
	}
}
