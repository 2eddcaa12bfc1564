package vault

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/vault/fetch"
)

// wednesday is in the hours of most policies below.
var wednesday = time.Date(2026, 11, 18, 9, 0, 0, 0, time.UTC)

var ada, robin, ops = Actor{APerson, "ada"}, Actor{AnAgent, "robin"}, Actor{AGroup, "ops"}

func someFacts(p Policy) *facts {
	return &facts{now: wednesday, asker: ada, groups: []string{"ops"}, address: netip.MustParseAddr("10.0.0.7"), item: &Item{Kind: TOTP, Policy: p}}
}

func (f *facts) granted(to Actor, l Level, change ...func(*Grant)) *facts {
	g := Grant{To: to, Level: l}
	for _, c := range change {
		c(&g)
	}
	f.grants = append(f.grants, g)
	return f
}

func (f *facts) lentTo(by Actor, l Level, change ...func(*Request)) *facts {
	until := wednesday.Add(time.Minute)
	q := Request{By: by, Level: l, Outcome: "approved", Until: &until}
	for _, c := range change {
		c(&q)
	}
	f.requests = append(f.requests, q)
	return f
}

func expires(at time.Time) func(*Grant) { return func(g *Grant) { g.ExpiresAt = &at } }
func until(at time.Time) func(*Request) { return func(q *Request) { q.Until = &at } }
func onlyWhileGranted(q *Request)       { q.Granted = true }

// TestJudge reads as sentences: what is granted, under which policy, is what for codes and what for the seed.
func TestJudge(t *testing.T) {
	t.Parallel()
	const yes, nothing, codesOnly, second, hours, place = "", "has not been granted to you", "and not have its seed", "second person must approve", "may be used from", "not be used from this address"
	approval := Policy{Approval: true}
	night := Policy{Hours: &Hours{From: "22:00", To: "06:00", Zone: "UTC"}}
	elsewhere := Policy{CIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	here := Policy{CIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("10.0.0.0/8")}}
	all := Policy{Approval: true, Hours: night.Hours, CIDRs: elsewhere.CIDRs}
	for _, c := range []struct {
		says       string
		f          *facts
		code, seed string
	}{
		{"nobody was granted anything", someFacts(Policy{}), nothing, nothing},
		{"somebody else was", someFacts(Policy{}).granted(robin, ForSeed), nothing, nothing},
		{"somebody else of the same id and another kind was", someFacts(Policy{}).granted(Actor{AKey, "ada"}, ForSeed), nothing, nothing},
		{"codes were granted", someFacts(Policy{}).granted(ada, ForCode), yes, codesOnly},
		{"the seed was granted", someFacts(Policy{}).granted(ada, ForSeed), yes, yes},
		{"a group of theirs was granted codes", someFacts(Policy{}).granted(ops, ForCode), yes, codesOnly},
		{"another group was granted codes", someFacts(Policy{}).granted(Actor{AGroup, "devs"}, ForCode), nothing, nothing},
		{"a person of a group's name was", someFacts(Policy{}).granted(Actor{APerson, "ops"}, ForCode), nothing, nothing},
		{"the group has the seed and they have codes", someFacts(Policy{}).granted(ada, ForCode).granted(ops, ForSeed), yes, yes},
		{"the grant ends a moment later", someFacts(Policy{}).granted(ada, ForSeed, expires(wednesday.Add(1))), yes, yes},
		{"the grant ends now", someFacts(Policy{}).granted(ada, ForSeed, expires(wednesday)), nothing, nothing},
		{"the grant was ended", someFacts(Policy{}).granted(ada, ForSeed, func(g *Grant) { g.EndedAt = &wednesday }), nothing, nothing},
		{"the seed's grant ended, that of codes did not", someFacts(Policy{}).granted(ada, ForSeed, expires(wednesday)).granted(ada, ForCode), yes, codesOnly},
		{"it was lent for codes", someFacts(Policy{}).lentTo(ada, ForCode), yes, codesOnly},
		{"it was lent with the seed", someFacts(Policy{}).lentTo(ada, ForSeed), yes, yes},
		{"it was lent to another", someFacts(Policy{}).lentTo(robin, ForSeed), nothing, nothing},
		{"it was lent to a group, which cannot ask", someFacts(Policy{}).lentTo(ops, ForSeed), nothing, nothing},
		{"what was lent ends now", someFacts(Policy{}).lentTo(ada, ForCode, until(wednesday)), nothing, nothing},
		{"what was lent was ended", someFacts(Policy{}).lentTo(ada, ForCode, func(q *Request) { q.EndedAt = &wednesday }), nothing, nothing},
		{"it was asked for", someFacts(Policy{}).lentTo(ada, ForCode, func(q *Request) { q.Outcome, q.Until = "", nil }), nothing, nothing},
		{"it was refused", someFacts(Policy{}).lentTo(ada, ForCode, func(q *Request) { q.Outcome, q.Until = "refused", nil }), nothing, nothing},
		{"approval is needed, and it was granted", someFacts(approval).granted(ada, ForSeed), second, second},
		{"approval is needed and there for codes", someFacts(approval).granted(ada, ForSeed).lentTo(ada, ForCode), yes, second},
		{"approval is needed and there for the seed", someFacts(approval).granted(ada, ForSeed).lentTo(ada, ForSeed, onlyWhileGranted), yes, yes},
		{"approval is there, and the grant was taken away since", someFacts(approval).lentTo(ada, ForCode, onlyWhileGranted), nothing, nothing},
		{"approval for the seed is there, and only codes are granted by now", someFacts(approval).granted(ada, ForCode).lentTo(ada, ForSeed, onlyWhileGranted), second, codesOnly},
		{"it was lent to one without a grant, who needs approval", someFacts(approval).lentTo(ada, ForCode), yes, codesOnly},
		{"it is day, and for the night", someFacts(night).granted(ada, ForSeed), hours, hours},
		{"it is day, for the night, and lent", someFacts(night).lentTo(ada, ForSeed), hours, hours},
		{"it is the wrong place", someFacts(elsewhere).granted(ada, ForSeed), place, place},
		{"it is one of the places", someFacts(here).granted(ada, ForSeed), yes, yes},
		{"everything is wrong", someFacts(all), nothing, nothing},
		{"everything but the grant is wrong", someFacts(all).granted(ada, ForSeed), second, second},
		{"time and place are wrong", someFacts(all).lentTo(ada, ForSeed), hours, hours},
	} {
		for l, want := range map[Level]string{ForCode: c.code, ForSeed: c.seed} {
			err := judge(c.f, l)
			if want == yes && err != nil || want != yes && (!problem.Is(err, problem.Denied) || !strings.Contains(err.Error(), want)) {
				t.Errorf("where %s, %s: %v, want %q", c.says, l, err, want)
			}
		}
	}
	for says, f := range map[string]*facts{"nothing": someFacts(Policy{}), "codes": someFacts(Policy{}).granted(ada, ForCode), "without approval": someFacts(approval).granted(ada, ForSeed)} {
		// Who asked as for codes would be refused again, and sent to ask once more.
		if err := judge(f, ForSeed); !strings.Contains(err.Error(), "/requests and the level seed.") {
			t.Errorf("%s: %v", says, err)
		}
	}
	if err := judge(&facts{now: wednesday, asker: ada}, ForCode); !problem.Is(err, problem.Missing) {
		t.Errorf("of no item: %v", err)
	}
	for _, a := range []string{"::ffff:10.0.0.7", "10.0.0.7"} {
		if p := here; !p.from(netip.MustParseAddr(a)) {
			t.Errorf("%s is another address", a)
		}
	}
	if here.from(netip.Addr{}) {
		t.Error("an unknown address is one of the places")
	}
}

func TestHours(t *testing.T) {
	t.Parallel()
	day := Hours{From: "08:00", To: "18:00", Zone: "Europe/Berlin", Days: []int{1, 2, 3, 4, 5}}
	night := Hours{From: "22:00", To: "06:00", Zone: "Europe/Berlin", Days: []int{5}} // of Friday, into Saturday
	early := Hours{From: "01:30", To: "03:30", Zone: "America/New_York"}
	for _, c := range []struct {
		h    Hours
		at   string
		want bool
	}{
		{day, "2026-11-18T06:59:59Z", false}, {day, "2026-11-18T07:00:00Z", true}, {day, "2026-11-18T16:59:59Z", true}, {day, "2026-11-18T17:00:00Z", false},
		{day, "2026-07-15T06:00:00Z", true}, {day, "2026-07-15T05:59:59Z", false}, {day, "2026-07-15T16:00:00Z", false}, // summer
		{day, "2026-11-21T10:00:00Z", false}, {day, "2026-11-22T10:00:00Z", false}, {day, "2026-11-23T10:00:00Z", true},
		{night, "2026-11-20T20:59:00Z", false}, {night, "2026-11-20T21:00:00Z", true}, {night, "2026-11-21T04:59:59Z", true},
		{night, "2026-11-21T05:00:00Z", false}, {night, "2026-11-21T21:00:00Z", false}, {night, "2026-11-20T04:00:00Z", false},
		{early, "2026-03-08T06:29:00Z", false}, {early, "2026-03-08T06:30:00Z", true}, // 01:30, and 02:00 is 03:00
		{early, "2026-03-08T07:29:00Z", true}, {early, "2026-03-08T07:30:00Z", false},
		{early, "2026-11-01T05:30:00Z", true}, {early, "2026-11-01T06:30:00Z", true}, {early, "2026-11-01T08:29:00Z", true}, {early, "2026-11-01T08:30:00Z", false},
		{Hours{From: "00:00", To: "23:59", Zone: "Nowhere/Else"}, "2026-11-18T07:00:00Z", false},
		{Hours{From: "23:00", To: "00:00", Zone: "UTC", Days: []int{7}}, "2026-11-22T23:30:00Z", true},
		{Hours{From: "23:00", To: "00:00", Zone: "UTC", Days: []int{7}}, "2026-11-23T00:00:00Z", false},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		must(t, err)
		if got := c.h.holds(at); got != c.want {
			t.Errorf("%+v at %s: %v", c.h, c.at, got)
		}
	}
}

func TestPolicyCheck(t *testing.T) {
	t.Parallel()
	bearer := &fetch.Policy{Hosts: []string{"api.example.com"}, Header: "Authorization", Value: "Bearer {secret}"}
	office := &Hours{From: "08:00", To: "18:00", Zone: "Europe/Berlin", Days: []int{1, 7}}
	for _, c := range []struct {
		k     Kind
		p     Policy
		wrong string // fields
	}{
		{TOTP, Policy{}, ""},
		{TOTP, Policy{Approval: true, Hours: office, Uses: Once, CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::/0")}}, ""},
		{Steam, Policy{Uses: OnceEach}, ""}, {Secret, Policy{Fetch: bearer}, ""},
		{HOTP, Policy{Uses: Once}, "policy.uses"}, {Codes, Policy{Uses: OnceEach}, "policy.uses"}, {Secret, Policy{Uses: Once}, "policy.uses"}, {TOTP, Policy{Uses: "twice"}, "policy.uses"},
		{TOTP, Policy{Fetch: bearer}, "policy.fetch"}, {Secret, Policy{Fetch: &fetch.Policy{}}, "policy.fetch"},
		{TOTP, Policy{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}}, "policy.allowed_cidrs[0]"}, {TOTP, Policy{CIDRs: []netip.Prefix{{}}}, "policy.allowed_cidrs[0]"},
		{TOTP, Policy{CIDRs: slices.Repeat([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, 51)}, "policy.allowed_cidrs"},
		{TOTP, Policy{Hours: &Hours{From: "08:00", To: "08:00", Zone: "UTC"}}, "policy.hours.to"}, {TOTP, Policy{Hours: &Hours{From: "8", To: "18:00", Zone: "UTC"}}, "policy.hours.from"},
		{TOTP, Policy{Hours: &Hours{From: "08:00", To: "25:00", Zone: "UTC"}}, "policy.hours.to"}, {TOTP, Policy{Hours: &Hours{From: "08:00", To: "18:00"}}, "policy.hours.zone"},
		{TOTP, Policy{Hours: &Hours{From: "08:00", To: "18:00", Zone: "Local"}}, "policy.hours.zone"}, {TOTP, Policy{Hours: &Hours{From: "08:00", To: "18:00", Zone: "UTC", Days: []int{0}}}, "policy.hours.days"},
	} {
		w := &wrong{}
		c.p.check(c.k, w)
		var fields []string
		for _, f := range w.fields {
			fields = append(fields, strings.TrimPrefix(f.Location, "body."))
		}
		if got := strings.Join(fields, " "); got != c.wrong {
			t.Errorf("%s %+v: %q, want %q", c.k, c.p, got, c.wrong)
		}
	}
}

// TestJudgeAgrees lets grants and requests come, be approved and end in any order, and holds judge to a model that asks one question:
// is there an hour left of something that was given to this one, of this level.
func TestJudgeAgrees(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := someFacts(Policy{Approval: rapid.Bool().Draw(t, "approval")})
		type line struct {
			level      Level
			ends       time.Time
			lent, bond bool
		}
		lines := map[int]line{} // by place; what was ended is gone
		what := func(lent bool) (most Level) {
			for _, l := range lines {
				if l.lent == lent && l.ends.After(f.now) && most != ForSeed {
					most = l.level
				}
			}
			return most
		}
		levels := rapid.SampledFrom([]Level{ForCode, ForSeed})
		t.Repeat(map[string]func(*rapid.T){
			"grant": func(t *rapid.T) {
				to, l, at := rapid.SampledFrom([]Actor{ada, ops, robin}).Draw(t, "to"), levels.Draw(t, "level"), f.now.Add(time.Duration(rapid.IntRange(1, 5).Draw(t, "hours"))*time.Hour)
				f.granted(to, l, expires(at))
				if to != robin {
					lines[len(f.grants)] = line{l, at, false, false}
				}
			},
			"lend": func(t *rapid.T) {
				l, at := levels.Draw(t, "level"), f.now.Add(time.Duration(rapid.IntRange(1, 5).Draw(t, "hours"))*time.Hour)
				bond := what(false).covers(l)
				f.lentTo(ada, l, until(at), func(q *Request) { q.Granted = bond })
				lines[-len(f.requests)] = line{l, at, true, bond}
			},
			"end": func(t *rapid.T) {
				for k := range f.grants {
					if rapid.Bool().Draw(t, "end grant") {
						f.grants[k].EndedAt = &wednesday
						delete(lines, k+1)
					}
				}
				for k := range f.requests {
					if rapid.Bool().Draw(t, "end request") {
						f.requests[k].EndedAt = &wednesday
						delete(lines, -k-1)
					}
				}
			},
			"wait": func(*rapid.T) { f.now = f.now.Add(time.Hour) },
			"": func(t *rapid.T) {
				granted := what(false)
				for _, want := range []Level{ForCode, ForSeed} {
					lent := false
					for _, l := range lines {
						lent = lent || l.lent && l.ends.After(f.now) && l.level.covers(want) && (!l.bond || granted.covers(l.level))
					}
					if may := lent || !f.item.Policy.Approval && granted.covers(want); may != (judge(f, want) == nil) {
						t.Fatalf("%s: %v, and the model says %v\n%+v\n%+v", want, judge(f, want), may, f.grants, f.requests)
					}
				}
			},
		})
	})
}

// TestRequestStates: a request is in one state, and is decided once, in time.
func TestRequestStates(t *testing.T) {
	t.Parallel()
	later := wednesday.Add(time.Hour)
	for want, q := range map[string]Request{
		"waiting": {DueAt: later}, "lapsed": {DueAt: wednesday}, "approved": {Outcome: "approved", Until: &later}, "expired": {Outcome: "approved", Until: &wednesday},
		"refused": {Outcome: "refused"}, "withdrawn": {Outcome: "withdrawn"}, "ended": {Outcome: "approved", Until: &later, EndedAt: &wednesday},
	} {
		if got := q.State(wednesday); got != want {
			t.Errorf("%+v is %s, not %s", q, got, want)
		}
	}
	q := Request{ID: id.At[requestKind](wednesday), DueAt: later, EndedAt: &wednesday}
	if q.waits(wednesday) {
		t.Error("what its asker's leaving ended can be decided")
	}
}
