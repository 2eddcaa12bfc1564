package verify

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/tenantdb"
)

// keyGiven is a key that is good for what is asked, and then what is said of it.
func keyGiven(changes ...func(*keyFacts)) *keyFacts {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f := &keyFacts{
		now: now, cost: 1, address: netip.MustParseAddr("192.0.2.7"),
		key: &apikey.Use{
			Key: apikey.Key{
				Kind: apikey.Data, Scopes: []string{"docs:*", "mail:read"}, AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
				NotBefore: now, ExpiresAt: now.Add(1),
			},
			Meters: []apikey.Meter{{Name: "burst", Subject: "rate:k:burst", Limit: 5, Window: time.Minute}, {Subject: "uses:k", Limit: 9}},
		},
	}
	for _, change := range changes {
		change(f)
	}
	return f
}

func noKeyOfTheirs(f *keyFacts)  { f.key = nil }
func keyIsRevoked(f *keyFacts)   { f.withKey(func(k *apikey.Use) { k.RevokedAt = f.now }) }
func keyIsDisabled(f *keyFacts)  { f.withKey(func(k *apikey.Use) { k.DisabledAt = f.now }) }
func keyIsExpired(f *keyFacts)   { f.withKey(func(k *apikey.Use) { k.ExpiresAt = f.now }) }
func keyIsPending(f *keyFacts)   { f.withKey(func(k *apikey.Use) { k.NotBefore = f.now.Add(1) }) }
func keyIsElsewhere(f *keyFacts) { f.address = netip.MustParseAddr("192.0.3.7") }
func keyIsFromNowhere(f *keyFacts) {
	f.address = netip.Addr{}
}
func keyLacks(f *keyFacts) { f.asked = queries("mail:read AND mail:write") }
func keyIsRateLimited(f *keyFacts) {
	f.spent = &tenantdb.SpentError{Spend: tenantdb.Spend{Subject: "rate:k:burst"}, Left: 0}
}
func keyIsUsedUp(f *keyFacts) {
	f.spent = &tenantdb.SpentError{Spend: tenantdb.Spend{Subject: "uses:k"}, Left: 0}
}

func (f *keyFacts) withKey(change func(*apikey.Use)) {
	if f.key != nil {
		change(f.key)
	}
}

func queries(texts ...string) (all []apikey.Query) {
	for _, text := range texts {
		q, err := apikey.ParseQuery(text)
		if err != nil {
			panic(err)
		}
		all = append(all, q)
	}
	return all
}

// keyFaults are all that can be wrong, in the order in which it is told.
func keyFaults() []keyFault {
	return []keyFault{
		{"no key", noKeyOfTheirs, NotFound, "This is no key of your organisation"},
		{"revoked", keyIsRevoked, KeyRevoked, "The key has been revoked"},
		{"disabled", keyIsDisabled, KeyDisabled, "The key is disabled"},
		{"expired", keyIsExpired, KeyExpired, "The key expired at 2026-11-22T12:00:00Z"},
		{"not valid yet", keyIsPending, KeyDisabled, "The key is not valid before 2026-11-22T12:00:00Z"},
		{"elsewhere", keyIsElsewhere, ForbiddenAddress, "The key may not be used from this address"},
		{"lacking", keyLacks, InsufficientScope, "The key lacks required scopes: mail:write"},
		{"rate limited", keyIsRateLimited, RateLimited, "The rate limit is reached: burst, which is 5 in a minute"},
	}
}

type keyFault struct {
	what   string
	apply  func(*keyFacts)
	code   Code
	reason string
}

// TestKeyPrecedence puts every two faults together, whichever comes first: the one that stands earlier is told.
func TestKeyPrecedence(t *testing.T) {
	t.Parallel()
	all := keyFaults()
	for i, first := range all {
		for _, second := range all[i:] {
			for _, apply := range [][]func(*keyFacts){{first.apply, second.apply}, {second.apply, first.apply}} {
				if v := decideKey(keyGiven(apply...)); v.code != first.code || v.reason != first.reason {
					t.Errorf("%s and %s: %s, %s", first.what, second.what, v.code, v.reason)
				}
			}
		}
		if first.what == "rate limited" {
			break // one meter refuses, and which is the database's to say
		}
		if v := decideKey(keyGiven(first.apply, keyIsUsedUp)); v.code != first.code {
			t.Errorf("%s and used up: %s, %s", first.what, v.code, v.reason)
		}
	}
	if v := decideKey(keyGiven(keyIsUsedUp)); v.code != UsageExceeded || v.reason != "0 uses are left, and this takes 1" {
		t.Errorf("used up: %s, %s", v.code, v.reason)
	}
}

func good(t *testing.T, what string, changes ...func(*keyFacts)) {
	t.Helper()
	if v := decideKey(keyGiven(changes...)); v.code != Valid {
		t.Errorf("%s: %s, %s", what, v.code, v.reason)
	}
}

func bad(t *testing.T, what string, code Code, reason string, changes ...func(*keyFacts)) {
	t.Helper()
	if v := decideKey(keyGiven(changes...)); v.code != code || v.reason != reason {
		t.Errorf("%s: %s, %s; want %s, %s", what, v.code, v.reason, code, reason)
	}
}

func wants(texts ...string) func(*keyFacts) {
	return func(f *keyFacts) { f.asked = queries(texts...) }
}

func from(address string) func(*keyFacts) {
	return func(f *keyFacts) { f.address = netip.MustParseAddr(address) }
}

// TestDecideKey is the rules, as sentences.
func TestDecideKey(t *testing.T) {
	t.Parallel()
	const elsewhere, lacks = "The key may not be used from this address", "The key lacks required scopes: "
	good(t, "nothing is asked for")
	good(t, "a scope that it has", wants("mail:read"))
	good(t, "a scope beneath one that it has", wants("docs:eu:read"))
	good(t, "all beneath", wants("docs:*"))
	good(t, "one of two", wants("mail:write OR mail:read"))
	good(t, "both of two, as two queries", wants("mail:read", "docs:x"))
	good(t, "both of two or something else", wants("(mail:read AND docs:x) OR fly:moon"))
	good(t, "an empty query", wants(""))
	good(t, "the last instant", func(f *keyFacts) { f.key.ExpiresAt = f.now.Add(1) })
	good(t, "for ever", func(f *keyFacts) { f.key.ExpiresAt = time.Time{} })
	good(t, "the other end of its network", from("192.0.2.255"))
	good(t, "an address in the form of IPv6", from("::ffff:192.0.2.7"))
	good(t, "from nowhere, and it may be used everywhere", keyIsFromNowhere, func(f *keyFacts) { f.key.AllowedCIDRs = nil })
	good(t, "used up, and nothing is taken", keyIsUsedUp, func(f *keyFacts) { f.cost = 0 })

	bad(t, "one of two", InsufficientScope, lacks+"mail:write", wants("mail:read", "mail:write"))
	bad(t, "none of two", InsufficientScope, lacks+"fly:moon", wants("fly:moon OR (mail:write AND swim:sea)"))
	bad(t, "all there is", InsufficientScope, lacks+"*", wants("*"))
	bad(t, "what its own is beneath", InsufficientScope, lacks+"mail:*", wants("mail:*"))
	bad(t, "the name without what is beneath", InsufficientScope, lacks+"docs", wants("docs"))
	bad(t, "in another case", InsufficientScope, lacks+"Mail:read", wants("Mail:read"))
	bad(t, "a key without scopes", InsufficientScope, lacks+"mail:read", wants("mail:read"), func(f *keyFacts) { f.key.Scopes = nil })
	bad(t, "from nowhere", ForbiddenAddress, elsewhere, keyIsFromNowhere)
	bad(t, "from next door", ForbiddenAddress, elsewhere, from("192.0.3.0"))
	bad(t, "from IPv6", ForbiddenAddress, elsewhere, from("2001:db8::1"))
	bad(t, "too dear for a whole window", RateLimited, "This takes 6, more than the rate limit ever allows: burst, which is 5 in a minute", keyIsRateLimited, func(f *keyFacts) {
		f.cost = 6
	})
	bad(t, "too dear", UsageExceeded, "3 uses are left, and this takes 4", func(f *keyFacts) {
		f.cost, f.spent = 4, &tenantdb.SpentError{Spend: tenantdb.Spend{Subject: "uses:k"}, Left: 3}
	})
}

// TestKeySpends: a good key takes from all its meters, one that is not from none; who asks pays in every case; and what the
// two have in common is asked for once.
func TestKeySpends(t *testing.T) {
	t.Parallel()
	asker := &apikey.Use{Meters: []apikey.Meter{{Subject: "uses:asker", Limit: 3}, {Subject: "uses:k", Limit: 7}}}
	spends := func(cost int64, change func(*keyFacts)) (out []string) {
		f := keyGiven(change)
		f.cost, f.asker = cost, &facts{key: asker}
		for _, s := range f.spends(tenantdb.TenantID{1}, decideKey(f)) {
			amount := s.Amount
			if s.Look {
				amount = 0
			}
			out = append(out, s.Subject+" "+itoa(amount)+" of "+itoa(s.Limit))
		}
		return out
	}
	for what, c := range map[string]struct{ got, want []string }{
		"good":           {spends(4, func(*keyFacts) {}), []string{"rate:k:burst 4 of 5", "uses:k 5 of 7", "uses:asker 1 of 3"}},
		"only looked at": {spends(0, func(*keyFacts) {}), []string{"rate:k:burst 0 of 5", "uses:k 1 of 7", "uses:asker 1 of 3"}},
		"denied":         {spends(4, keyIsElsewhere), []string{"rate:k:burst 0 of 5", "uses:k 1 of 7", "uses:asker 1 of 3"}},
		"unknown":        {spends(4, noKeyOfTheirs), []string{"uses:asker 1 of 3", "uses:k 1 of 7"}},
		"used up":        {spends(4, keyIsUsedUp), []string{"rate:k:burst 0 of 5", "uses:k 1 of 7", "uses:asker 1 of 3"}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: %q, want %q", what, c.got, c.want)
		}
	}
}

// TestMoreIsGivenMeanwhile: what a key had spent is forgotten once its meter is another.
func TestMoreIsGivenMeanwhile(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		change func(*keyFacts)
		stays  bool
	}{
		"nothing changes":   {func(*keyFacts) {}, true},
		"more uses":         {func(f *keyFacts) { f.key.Meters[1].Limit = 10 }, false},
		"no meter any more": {func(f *keyFacts) { f.key.Meters = f.key.Meters[:1] }, false},
	} {
		f := keyGiven(keyIsUsedUp)
		f.spent.Limit = 9
		c.change(f)
		if f.forgive(); (f.spent != nil) != c.stays {
			t.Errorf("%s: %+v", what, f.spent)
		}
	}
}

// TestKeyRequestLimits: what is malformed is said, all of it at once, and nothing of it is repeated.
func TestKeyRequestLimits(t *testing.T) {
	t.Parallel()
	number := func(n int64) *int64 { return &n }
	for what, c := range map[string]struct {
		q    KeyRequest
		want string
	}{
		"good":             {KeyRequest{Key: "k", Scopes: []string{"a", "b OR c"}, Cost: number(mostCost), Address: "2001:db8::1"}, ""},
		"no key":           {KeyRequest{}, "body.key"},
		"a negative cost":  {KeyRequest{Key: "k", Cost: number(-1)}, "body.cost"},
		"a great cost":     {KeyRequest{Key: "k", Cost: number(mostCost + 1)}, "body.cost"},
		"an empty scope":   {KeyRequest{Key: "k", Scopes: []string{""}}, "body.scopes[0]"},
		"a blank one":      {KeyRequest{Key: "k", Scopes: []string{"a", " \n"}}, "body.scopes[1]"},
		"half a query":     {KeyRequest{Key: "k", Scopes: []string{"a", "b AND"}}, "body.scopes[1]"},
		"a host":           {KeyRequest{Key: "k", Address: "secret.example"}, "body.address"},
		"a network":        {KeyRequest{Key: "k", Address: "192.0.2.0/24"}, "body.address"},
		"a zone":           {KeyRequest{Key: "k", Address: "fe80::1%" + strings.Repeat("z", 60)}, "body.address"},
		"too long scopes":  {KeyRequest{Key: "k", Scopes: slices.Repeat([]string{strings.Repeat("a", 256)}, 33)}, "body.scopes"},
		"too many scopes":  {KeyRequest{Key: "k", Scopes: strings.Split(strings.Repeat("a", mostScopes+1), "")}, "body.scopes"},
		"nothing of it is": {KeyRequest{Scopes: []string{"("}, Cost: number(-1), Address: "x"}, "body.key body.scopes[0] body.cost body.address"},
	} {
		f := &keyFacts{request: c.q, cost: 1}
		err := f.read()
		if got := locations(err); got != c.want || err != nil && strings.Contains(err.Error(), "secret.example") {
			t.Errorf("%s: %q, want %q: %v", what, got, c.want, err)
		}
	}
}
