package verify

import (
	"slices"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/tenantdb"
)

// given is a verification in which nothing is wrong, and then what is said of it.
func given(changes ...func(*facts)) *facts {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	jti, err := agent.ParseTokenID("01936f2e-8a4c-7000-8000-000000000001")
	if err != nil {
		panic(err)
	}
	f := &facts{
		now: now,
		claims: agent.Claims{
			Issuer: testIssuer, Audience: []string{testIssuer}, JTI: jti, Generation: 3,
			IssuedAt: now.Add(-time.Hour), NotBefore: now.Add(-time.Hour), Expires: now.Add(time.Hour),
		},
		request: Request{Token: "t", TargetResource: "https://harbour.example"},
		service: tenant("harbour", "pilot:ships"), owner: tenant("acme", "weld:hulls"),
		key:   &apikey.Use{Key: apikey.Key{Scopes: []string{"verify"}, Kind: apikey.Service}},
		agent: &agentState{name: "Robin", scopes: []string{"read:email", "weld:hulls"}, visibility: "all", generation: 3},
	}
	for _, change := range changes {
		change(f)
	}
	return f
}

// tenant is an organisation with a custom scope. The same name is the same organisation.
func tenant(name, scope string) *tenantState {
	s := &tenantState{name: name, scopes: []string{scope}, builtIn: policy.BuiltIn}
	copy(s.head.Tenant[:], name)
	return s
}

func forged(f *facts)              { f.forged, f.claims = agent.ErrForged, agent.Claims{} }
func bySignerRevoked(f *facts)     { f.kidGone, f.claims = true, agent.Claims{} }
func ofNoTenant(f *facts)          { f.owner, f.agent = nil, nil }
func ofNoAgent(f *facts)           { f.agent = nil }
func hidden(f *facts)              { f.agent.visibility = "none" }
func revokedAgent(f *facts)        { f.agent.revoked = true }
func oldGeneration(f *facts)       { f.claims.Generation-- }
func revokedToken(f *facts)        { f.agent.revokedTokens = append(f.agent.revokedTokens, f.claims.JTI) }
func expired(f *facts)             { f.claims.Expires = f.now }
func early(f *facts)               { f.claims.NotBefore = f.now.Add(time.Hour) }
func suspendedAgent(f *facts)      { f.agent.suspended = true }
func suspendedOwner(f *facts)      { f.owner.suspended = true }
func spent(f *facts)               { f.usesSpent, f.claims.Uses = true, 5 }
func boundElsewhere(f *facts)      { f.claims.Audience = []string{"https://other.example"} }
func keyOfOtherResources(f *facts) { f.key.Resources = []string{"https://other.example"} }
func keyOfOtherOwners(f *facts)    { f.key.Owners = []tenantdb.TenantID{tenant("other", "").head.Tenant} }
func keyForIdentity(f *facts)      { f.key.Scopes = []string{"read:identity"} }
func keyForEverything(f *facts)    { f.key.Scopes = []string{tenantdb.Everything} }
func listedForService(f *facts) {
	f.agent.visibility, f.agent.visibleTo = "listed", []tenantdb.TenantID{f.service.head.Tenant}
}
func listedForOthers(f *facts) {
	f.agent.visibility, f.agent.visibleTo = "listed", []tenantdb.TenantID{tenant("other", "").head.Tenant}
}
func byItself(f *facts) { f.service = f.owner }
func asks(scopes ...string) func(*facts) {
	return func(f *facts) { f.request.ScopesRequested = scopes }
}

func bound(resources ...string) func(*facts) {
	return func(f *facts) { f.claims.Audience = resources }
}
func at(resource string) func(*facts) {
	return func(f *facts) { f.request.TargetResource = resource }
}

// faults are all that can be wrong, in the order in which it is told.
func faults() []fault {
	return []fault{
		{"forged", forged, Denied, "The token is not one that this issuer has signed", false},
		{"signed by a revoked key", bySignerRevoked, Revoked, "The key that signed the token has been revoked", false},
		{"of no tenant", ofNoTenant, Denied, "The token names no agent of this issuer", false},
		{"hidden", hidden, Denied, "The agent's owner does not let your organisation verify this agent", false},
		{"revoked agent", revokedAgent, Revoked, "The agent has been revoked", true},
		{"old generation", oldGeneration, Revoked, "All tokens that the agent had have been revoked", true},
		{"revoked token", revokedToken, Revoked, "The token has been revoked", true},
		{"expired", expired, Expired, "The token expired at 2026-11-22T12:00:00Z", true},
		{"early", early, Denied, "The token is not valid yet", true},
		{"suspended agent", suspendedAgent, Denied, "The agent is suspended", true},
		{"suspended owner", suspendedOwner, Denied, "The agent's owner is suspended", true},
		{"spent", spent, Denied, "The token's 5 uses are spent", true},
		{"bound elsewhere", boundElsewhere, Denied, "The token is bound to other resources", true},
		{"key of other resources", keyOfOtherResources, Denied, "Your key may not ask about this resource", true},
		{"key of other owners", keyOfOtherOwners, Denied, "Your key may not ask about this owner's agents", true},
		{"unknown scope", asks("fly:moon"), Denied, "Unknown scopes: fly:moon", true},
	}
}

type fault struct {
	what     string
	apply    func(*facts)
	decision Decision
	reason   string
	known    bool
}

// TestPrecedence puts every two faults together, whichever comes first: the one that stands earlier is told. So a service
// that may not know the agent learns nothing of it, and REVOKED comes before EXPIRED and both before DENIED.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	all := faults()
	for i, first := range all {
		for j, second := range all[i:] {
			if i == 0 && j > 0 || first.what == "of no tenant" && j > 0 {
				continue // there is no agent, so nothing can be wrong with it
			}
			apply := []func(*facts){second.apply, first.apply}
			if first.what == "signed by a revoked key" {
				apply = apply[1:]
			}
			v := decide(given(apply...))
			if v.decision != first.decision || v.reason != first.reason || v.known != first.known {
				t.Errorf("%s and %s: %s, %s (known: %t)", first.what, second.what, v.decision, v.reason, v.known)
			}
		}
	}
	order := []Decision{Revoked, Expired, Denied}
	last := 0
	for _, f := range all {
		if f.known {
			n := slices.Index(order, f.decision)
			if n < last {
				t.Errorf("%s is told after what it should come before", f.what)
			}
			last = n
		}
	}
}

// TestSkewIsForgivenOneWay: a clock that is behind does not refuse a new token; no token lives a second longer.
func TestSkewIsForgivenOneWay(t *testing.T) {
	t.Parallel()
	allow(t, "a token of a clock that is a little ahead", func(f *facts) { f.claims.IssuedAt, f.claims.NotBefore = f.now.Add(agent.Skew), f.now.Add(agent.Skew) })
	deny(t, "a token of a clock that is far ahead", "The token is not valid yet", func(f *facts) { f.claims.IssuedAt = f.now.Add(agent.Skew + time.Second) })
	allow(t, "the last instant", func(f *facts) { f.claims.Expires = f.now.Add(1) })
}

func allow(t *testing.T, what string, changes ...func(*facts)) verdict {
	t.Helper()
	v := decide(given(changes...))
	if v.decision != Allowed || !v.known {
		t.Errorf("%s: %s, %s", what, v.decision, v.reason)
	}
	return v
}

func deny(t *testing.T, what, reason string, changes ...func(*facts)) verdict {
	t.Helper()
	v := decide(given(changes...))
	if v.decision != Denied || v.reason != reason {
		t.Errorf("%s: %s, %s; want DENIED, %s", what, v.decision, v.reason, reason)
	}
	return v
}

// TestDecide is the rules, as sentences.
func TestDecide(t *testing.T) {
	t.Parallel()
	const elsewhere, unknownOwner = "The token is bound to other resources", "Your key may not ask about this owner's agents"
	const hiddenFrom = "The agent's owner does not let your organisation verify this agent"
	allow(t, "who it is")
	allow(t, "a scope that it has", asks("read:email"))
	allow(t, "its owner's own scope", asks("weld:hulls"))
	deny(t, "a scope that it lacks", "Agent lacks required scopes: write:email", asks("read:email", "write:email"))
	deny(t, "the service's own scope", "Agent lacks required scopes: pilot:ships", asks("pilot:ships"))
	deny(t, "a scope of nobody", "Unknown scopes: fly:moon", asks("fly:moon", "write:email", "read:email"))
	deny(t, "a scope in another case", "Unknown scopes: Read:Email", asks("Read:Email"))
	deny(t, "everything", "Unknown scopes: *", asks("*"))

	allow(t, "bound here", bound("https://harbour.example"))
	allow(t, "bound here and elsewhere", bound("https://other.example", "https://harbour.example"))
	deny(t, "bound elsewhere", elsewhere, boundElsewhere)
	deny(t, "bound, and the service names nothing", elsewhere, bound("https://harbour.example"), at(""))
	deny(t, "bound to a prefix", elsewhere, bound("https://harbour.example"), at("https://harbour.example/x"))
	deny(t, "bound to a name in another case", elsewhere, bound("https://harbour.example"), at("HTTPS://harbour.example"))
	deny(t, "bound, and the issuer is one of the resources", elsewhere, bound(testIssuer, "https://other.example"))

	allow(t, "a listed service", listedForService)
	deny(t, "a service that is not listed", hiddenFrom, listedForOthers)
	deny(t, "hidden", hiddenFrom, hidden)
	deny(t, "a visibility that nobody knows", hiddenFrom, func(f *facts) { f.agent.visibility = "" })
	allow(t, "hidden, from itself", hidden, byItself)
	allow(t, "not listed, from itself", listedForOthers, byItself)

	deny(t, "a suspended owner asks about its agent", "The agent's owner is suspended", byItself, suspendedOwner)
	deny(t, "no such agent", "The token names no agent of this issuer", ofNoAgent)
	allow(t, "a key for everything", keyForEverything, asks("read:email"))
	allow(t, "a key for identity asks who", keyForIdentity)
	deny(t, "a key for identity asks for scopes", "Your key may ask who an agent is, and not for scopes", keyForIdentity, asks("read:email"))
	deny(t, "a key for another resource", "Your key may not ask about this resource", keyOfOtherResources)
	deny(t, "a key for a resource, and none is named", "Your key may not ask about this resource", keyOfOtherResources, at(""))
	deny(t, "a key for other owners", unknownOwner, keyOfOtherOwners)
	deny(t, "a key for other owners asks about its own", unknownOwner, keyOfOtherOwners, byItself)
	allow(t, "a key for this owner", func(f *facts) { f.key.Owners = []tenantdb.TenantID{f.owner.head.Tenant} })
}

// TestActiveScopes: what was asked for and is there, once; all there is if nothing was asked for; nothing if the decision
// did not come to the scopes.
func TestActiveScopes(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		f    *facts
		want []string
	}{
		"nothing asked":   {given(), []string{"read:email", "weld:hulls"}},
		"one":             {given(asks("weld:hulls")), []string{"weld:hulls"}},
		"one twice":       {given(asks("weld:hulls", "weld:hulls")), []string{"weld:hulls"}},
		"one of two":      {given(asks("write:email", "read:email")), []string{"read:email"}},
		"one and unknown": {given(asks("fly:moon", "read:email")), []string{"read:email"}},
		"revoked":         {given(revokedAgent, asks("read:email")), []string{}},
		"suspended":       {given(suspendedAgent), []string{}},
	} {
		if v := decide(c.f); !slices.Equal(v.active, c.want) || v.active == nil {
			t.Errorf("%s: %q, want %q", what, v.active, c.want)
		}
	}
}

// TestKeyProblem: which keys may not ask at all.
func TestKeyProblem(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		change func(*facts)
		ok     bool
	}{
		"a good key":               {func(*facts) {}, true},
		"for identity":             {keyForIdentity, true},
		"for everything":           {keyForEverything, true},
		"for something else":       {func(f *facts) { f.key.Scopes = []string{"audit:write"} }, false},
		"for nothing":              {func(f *facts) { f.key.Scopes = nil }, false},
		"revoked":                  {func(f *facts) { f.key.RevokedAt = f.now }, false},
		"disabled":                 {func(f *facts) { f.key.DisabledAt = f.now }, false},
		"gone":                     {func(f *facts) { f.key = nil }, false},
		"of nobody":                {func(f *facts) { f.service, f.key = nil, nil }, false},
		"of a suspended service":   {func(f *facts) { f.service.suspended = true }, false},
		"expired now":              {func(f *facts) { f.key.ExpiresAt = f.now }, false},
		"that expires in a moment": {func(f *facts) { f.key.ExpiresAt = f.now.Add(1) }, true},
	} {
		if err := keyProblem(given(c.change)); (err == nil) != c.ok {
			t.Errorf("a key %s: %v", what, err)
		}
	}
}

// TestEventOfWhatProvesNothing: an entry names a token that proves nothing by what the keyring calls it, and never by what it says
// of itself.
func TestEventOfWhatProvesNothing(t *testing.T) {
	t.Parallel()
	for _, what := range []func(*facts){forged, bySignerRevoked} {
		f := given(what, ofNoTenant)
		e := event(f, decide(f), "pseudonym")
		if e.Target != (audit.Target{Kind: "token", ID: "pseudonym"}) || len(e.Public) != 0 || e.Outcome != audit.Denied {
			t.Errorf("%+v", e)
		}
	}
}
