package org

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
)

func TestWhoNeedsMFA(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		what         string
		rules        Rules
		roles        []string
		capabilities []string
		needs        bool
	}{
		{"an owner, whatever the rules", Rules{}, []string{RoleOwner}, []string{"*"}, true},
		{"an admin, whatever the rules", Rules{}, []string{RoleAdmin}, nil, true},
		{"a member, by default", Rules{}, []string{RoleMember}, []string{"agents:write"}, false},
		{"a member, where it is required", Rules{MFA: MFARequired}, []string{RoleMember}, nil, true},
		{"nobody in particular, where it is required", Rules{MFA: MFARequired}, nil, nil, true},
		{"a role of the rules", Rules{MFARoles: []string{"ops"}}, []string{"ops", RoleViewer}, nil, true},
		{"another role", Rules{MFARoles: []string{"ops"}}, []string{RoleViewer}, nil, false},
		{"a role of another name that changes members", Rules{}, []string{"hr"}, []string{"members:write"}, true},
		{"a role of another name that changes connections", Rules{}, []string{"it"}, []string{"sso:write"}, true},
	} {
		if got := one.rules.NeedsMFA(one.roles, one.capabilities); got != one.needs {
			t.Errorf("%s: %v", one.what, got)
		}
	}
}

func TestAllowedFactors(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		what    string
		factors map[string][]string
		roles   []string
		allowed []string
	}{
		{"no rules", nil, []string{"a"}, nil},
		{"rules of another role", map[string][]string{"b": {"totp"}}, []string{"a"}, nil},
		{"one role", map[string][]string{"a": {"totp"}}, []string{"a"}, []string{"totp"}},
		{"everybody", map[string][]string{"*": {"totp", "passkey"}}, nil, []string{"hardware", "passkey", "totp"}},
		{"hardware only", map[string][]string{"a": {"hardware"}}, []string{"a"}, []string{"hardware"}},
		{"hardware is a passkey", map[string][]string{"a": {"hardware"}, "*": {"passkey"}}, []string{"a"}, []string{"hardware"}},
		{"what both allow", map[string][]string{"a": {"totp", "email"}, "b": {"totp", "sms"}}, []string{"a", "b"}, []string{"totp"}},
		{"the stronger of what excludes each other", map[string][]string{"a": {"email"}, "b": {"totp"}}, []string{"a", "b"}, []string{"totp"}},
	} {
		if got := (Rules{Factors: one.factors}).AllowedFactors(one.roles); !reflect.DeepEqual(got, one.allowed) {
			t.Errorf("%s: %v", one.what, got)
		}
	}
}

func TestWhatLowersMFA(t *testing.T) {
	t.Parallel()
	totp := map[string][]string{"a": {"totp"}}
	for _, one := range []struct {
		what          string
		before, after Rules
		lowers        bool
	}{
		{"nothing", Rules{}, Rules{}, false},
		{"requiring it", Rules{}, Rules{MFA: MFARequired}, false},
		{"requiring it no more", Rules{MFA: MFARequired}, Rules{}, true},
		{"requiring it of roles alone", Rules{MFA: MFARequired}, Rules{MFARoles: []string{"a"}}, true},
		{"one role more", Rules{MFARoles: []string{"a"}}, Rules{MFARoles: []string{"a", "b"}}, false},
		{"another role", Rules{MFARoles: []string{"a"}}, Rules{MFARoles: []string{"b"}}, true},
		{"everybody instead of roles", Rules{MFARoles: []string{"a"}}, Rules{MFA: MFARequired}, false},
		{"a limit of factors", Rules{}, Rules{Factors: totp}, false},
		{"no limit of factors", Rules{Factors: totp}, Rules{}, true},
		{"one kind more", Rules{Factors: totp}, Rules{Factors: map[string][]string{"a": {"totp", "sms"}}}, true},
		{"one kind less", Rules{Factors: map[string][]string{"a": {"totp", "sms"}}}, Rules{Factors: totp}, false},
		{"another kind", Rules{Factors: totp}, Rules{Factors: map[string][]string{"a": {"email"}}}, true},
		{"hardware instead of passkeys", Rules{Factors: map[string][]string{"a": {"passkey"}}}, Rules{Factors: map[string][]string{"a": {"hardware"}}}, false},
		{"passkeys instead of hardware", Rules{Factors: map[string][]string{"a": {"hardware"}}}, Rules{Factors: map[string][]string{"a": {"passkey"}}}, true},
	} {
		if got := one.after.lowersMFA(one.before); got != one.lowers {
			t.Errorf("%s: %v", one.what, got)
		}
	}
}

// TestWhatDoesNotLowerIsNoWeaker: for any rules, somebody's second factor is no weaker after a change that is said not to lower.
func TestWhatDoesNotLowerIsNoWeaker(t *testing.T) {
	t.Parallel()
	roles := []string{"a", "b", "c"}
	draw := rapid.Custom(func(t *rapid.T) Rules {
		return Rules{
			MFA: rapid.SampledFrom([]string{"", MFARequired}).Draw(t, "mfa"), MFARoles: rapid.SliceOfDistinct(rapid.SampledFrom(roles), rapid.ID).Draw(t, "roles"),
			Factors: rapid.MapOf(rapid.SampledFrom(append(roles, Everybody)), rapid.SliceOfNDistinct(rapid.SampledFrom(factorKinds()), 1, -1, rapid.ID)).Draw(t, "factors"),
		}
	})
	strength := func(r Rules, has []string) int { // of the weakest that counts
		allowed := r.AllowedFactors(has)
		if allowed == nil {
			allowed = factorKinds()
		}
		for i, k := range factorKinds() {
			if k == allowed[len(allowed)-1] {
				return -i
			}
		}
		return -len(factorKinds())
	}
	rapid.Check(t, func(t *rapid.T) {
		before := draw.Draw(t, "before")
		after := before
		for range 20 {
			if other := draw.Draw(t, "after"); !other.lowersMFA(before) {
				after = other
				break
			}
		}
		has := rapid.SliceOfDistinct(rapid.SampledFrom(roles), rapid.ID).Draw(t, "has")
		if before.NeedsMFA(has, nil) && !after.NeedsMFA(has, nil) {
			t.Fatalf("%v need none any more", has)
		}
		if strength(after, has) < strength(before, has) {
			t.Fatalf("for %v %v became %v", has, before.AllowedFactors(has), after.AllowedFactors(has))
		}
	})
}

func TestRules(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss := c.as(t, c.person(t, "boss", RoleOwner))
	admin := c.as(t, c.person(t, "adm", RoleAdmin))
	got, err := c.room.GetRules(t.Context(), admin)
	if err != nil || got.Version != 1 || !reflect.DeepEqual(got.Rules, DefaultRules()) || len(got.Pending) != 0 {
		t.Fatalf("at first %+v, %v", got, err)
	}
	want(t, second(c.room.UpdateRules(t.Context(), admin, "", RulesChange{})), problem.Invalid, "without If-Match")
	want(t, second(c.room.UpdateRules(t.Context(), admin, `"9"`, RulesChange{})), problem.Conflict, "another version")
	for what, ch := range map[string]RulesChange{
		"where owners come from": {Addresses: &[]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, "what owners prove": {Factors: &map[string][]string{RoleOwner: {FactorHardware}}},
		"what everybody proves": {Factors: &map[string][]string{Everybody: {FactorHardware}}},
	} {
		want(t, second(c.room.UpdateRules(t.Context(), admin, `"1"`, ch)), problem.Denied, "an admin says "+what)
	}
	got, err = c.room.UpdateRules(t.Context(), boss, `"1"`, RulesChange{
		MFA: new(MFARequired), Factors: &map[string][]string{RoleAdmin: {FactorHardware}}, IdleTimeout: new(time.Hour), SessionLifetime: new(24 * time.Hour), ProgramLifetime: new(30 * 24 * time.Hour),
		Addresses: &[]netip.Prefix{netip.MustParsePrefix("192.0.2.77/24")}, AccessAlgorithm: new("RS256"), RetentionDays: new(400),
	})
	if err != nil || got.Version != 2 || got.MFA != MFARequired || got.IdleTimeout != time.Hour || !got.Allows(netip.MustParseAddr("192.0.2.1")) || got.Allows(netip.MustParseAddr("198.51.100.1")) {
		t.Fatalf("raised: %+v, %v", got, err)
	}
	if s := c.standing(t, c.id, c.person(t, "bob", RoleAdmin)); !s.NeedsMFA || !same(s.Factors, []string{FactorHardware}) || s.Rules.AccessAlgorithm != "RS256" {
		t.Errorf("a person's standing is %+v", s)
	}
	if e := c.Last(t, c.id); c.events(t, "organisation.rules_changed")[0].Private["idle_timeout"] != "3600000000000" || strings.Contains(string(e.Body), "192.0.2") {
		t.Errorf("the log is %+v", e)
	}
	for what, ch := range map[string]RulesChange{
		"shut out oneself": {Addresses: &[]netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}, "an idle timeout of minutes": {IdleTimeout: new(59 * time.Minute)},
		"an idle timeout of days": {IdleTimeout: new(13 * time.Hour)}, "sessions of weeks": {SessionLifetime: new(8 * 24 * time.Hour)}, "sessions of minutes": {SessionLifetime: new(time.Minute)},
		"another algorithm": {AccessAlgorithm: new("none")}, "another word": {MFA: new("maybe")}, "a kind that there is not": {Factors: &map[string][]string{RoleAdmin: {"hope"}}},
		"no kind": {Factors: &map[string][]string{RoleAdmin: {}}}, "a role that there is not": {MFARoles: &[]string{"ghost"}}, "retention below zero": {RetentionDays: new(-1)},
	} {
		c.unchanged(t, func() { want(t, second(c.room.UpdateRules(t.Context(), boss, `"2"`, ch)), problem.Invalid, what) })
	}
	glass := GlassRules{Approval: ApproveByDelay, Delay: time.Hour, MaxLife: time.Hour}
	want(t, second(c.room.UpdateRules(t.Context(), admin, `"2"`, RulesChange{BreakGlass: &glass})), problem.Denied, "an admin changes who approves")
	want(t, second(c.room.UpdateRules(t.Context(), c.owner, `"2"`, RulesChange{BreakGlass: &glass})), problem.Denied, "an owner key changes who approves")
	ok(t, second(c.room.UpdateRules(t.Context(), boss, `"2"`, RulesChange{BreakGlass: &glass})), "an owner does")
	for what, g := range map[string]GlassRules{
		"no delay": {Approval: ApproveByDelay, MaxLife: time.Hour}, "a year": {Approval: ApproveByPerson, Delay: time.Hour, MaxLife: 365 * 24 * time.Hour}, "external without a hook": {Approval: ApproveExternally, Delay: time.Hour, MaxLife: time.Hour},
		"a hook in the clear": {Approval: ApproveExternally, Delay: time.Hour, MaxLife: time.Hour, HookURL: "http://x.example"}, "a capability": {Approval: ApproveByPerson, Delay: time.Hour, MaxLife: time.Hour, Capabilities: []string{"*"}},
	} {
		want(t, second(c.room.UpdateRules(t.Context(), boss, `"3"`, RulesChange{BreakGlass: &g})), problem.Invalid, what)
	}
}

// lowering asks for less, and gives the change that waits.
func (c *company) lowering(t *testing.T, by string, p PersonID) PendingChange {
	t.Helper()
	now, err := c.room.GetRules(t.Context(), c.as(t, p))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.room.UpdateRules(t.Context(), c.as(t, p), web.ETag(now.Version), RulesChange{MFA: new(""), RetentionDays: new(now.RetentionDays + 1)})
	if err != nil || got.MFA != MFARequired || got.RetentionDays != now.RetentionDays+1 || len(got.Pending) != 1 || !got.Pending[0].DueAt.Equal(c.now().Add(24*time.Hour)) {
		t.Fatalf("%s asked: %+v, %v", by, got, err)
	}
	return got.Pending[0]
}

func TestLoweringWaits(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss, other := c.person(t, "boss", RoleOwner), c.person(t, "other", RoleOwner)
	ok(t, second(c.room.UpdateRules(t.Context(), c.as(t, boss), `"1"`, RulesChange{MFA: new(MFARequired)})), "require it")
	for what, err := range map[string]error{
		"an admin":        second(c.room.UpdateRules(t.Context(), c.as(t, c.person(t, "adm", RoleAdmin)), `"2"`, RulesChange{MFA: new("")})),
		"an owner key":    second(c.room.UpdateRules(t.Context(), c.owner, `"2"`, RulesChange{MFA: new("")})),
		"without a proof": second(c.room.UpdateRules(t.Context(), c.stale(t, boss), `"2"`, RulesChange{MFA: new("")})),
	} {
		want(t, err, problem.Denied, what)
	}
	p := c.lowering(t, "the boss", boss)
	if told := c.mailed(t, "rules_lowered"); !same(told, []string{boss.String(), other.String()}) {
		t.Errorf("told: %v", told)
	}
	want(t, second(c.room.UpdateRules(t.Context(), c.as(t, other), `"3"`, RulesChange{MFA: new("")})), problem.Conflict, "another one")
	c.later(24*time.Hour - time.Second)
	if n, err := c.room.ApplyDue(t.Context(), c.system()); n != 0 || err != nil || !c.standing(t, c.id, c.person(t, "bob")).NeedsMFA {
		t.Errorf("too soon: %d, %v", n, err)
	}
	c.later(time.Second)
	want(t, second(c.room.ApplyDue(t.Context(), c.as(t, boss))), problem.Denied, "an owner applies it")
	if n, err := c.room.ApplyDue(t.Context(), c.system()); n != 1 || err != nil {
		t.Errorf("a day later: %d, %v", n, err)
	}
	now, err := c.room.GetRules(t.Context(), c.as(t, boss))
	if err != nil || now.MFA != "" || len(now.Pending) != 0 || now.RetentionDays != 1 {
		t.Errorf("then: %+v, %v", now, err)
	}
	if e := c.Last(t, c.id); e.Type != "organisation.rules_changed" || e.Field("change") != p.ID.String() || e.Field("asked_by") != "person:"+boss.String() {
		t.Errorf("the log ends with %+v", e)
	}
	if n, err := c.room.ApplyDue(t.Context(), c.system()); n != 0 || err != nil {
		t.Errorf("once more: %d, %v", n, err)
	}
}

func TestLoweringIsCancelled(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	boss, other := c.person(t, "boss", RoleOwner), c.person(t, "other", RoleOwner)
	ok(t, second(c.room.UpdateRules(t.Context(), c.as(t, boss), `"1"`, RulesChange{MFA: new(MFARequired)})), "require it")
	for what, then := range map[string]func(PendingChange) error{
		"by another owner": func(p PendingChange) error {
			want(t, second(c.room.CancelChange(t.Context(), c.as(t, c.person(t, "adm", RoleAdmin)), p.ID)), problem.Denied, "an admin cancels")
			return second(c.room.CancelChange(t.Context(), c.as(t, other), p.ID))
		},
		"by a rule that asks for more": func(PendingChange) error {
			return second(c.room.UpdateRules(t.Context(), c.as(t, other), "*", RulesChange{Factors: &map[string][]string{Everybody: {FactorPasskey}}}))
		},
		"by the end of its asker": func(PendingChange) error { return second(c.room.SuspendPerson(t.Context(), c.as(t, other), boss)) },
	} {
		p := c.lowering(t, "the boss", boss)
		ok(t, then(p), what)
		c.later(25 * time.Hour)
		if n, err := c.room.ApplyDue(t.Context(), c.system()); n != 0 || err != nil {
			t.Errorf("%s: applied %d, %v", what, n, err)
		}
		now, err := c.room.GetRules(t.Context(), c.as(t, other))
		if err != nil || now.MFA != MFARequired || len(now.Pending) != 0 {
			t.Errorf("%s: %+v, %v", what, now, err)
		}
		want(t, second(c.room.CancelChange(t.Context(), c.as(t, other), p.ID)), problem.Conflict, what+": cancel it again")
		_, _ = c.room.ResumePerson(t.Context(), c.as(t, other), boss)
	}
}

func FuzzParseRules(f *testing.F) {
	for _, r := range []Rules{{}, DefaultRules(), {MFA: MFARequired, Factors: map[string][]string{"*": {"totp"}}, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}} {
		b, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRules(b)
		if err != nil {
			return
		}
		if r.IdleTimeout == 0 || r.AccessAlgorithm == "" {
			t.Errorf("without defaults: %+v", r)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := parseRules(again); err != nil || !twice.sameMFA(r) || twice.IdleTimeout != r.IdleTimeout {
			t.Errorf("%+v came back as %+v, %v", r, twice, err)
		}
	})
}
