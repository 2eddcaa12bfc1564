package apikey

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestKeyRisks has a line for each side of each border.
func TestKeyRisks(t *testing.T) {
	t.Parallel()
	now := time.Date(2028, 3, 1, 12, 0, 0, 0, time.UTC) // the key was made before a leap day: its year has 366
	const day = 24 * time.Hour
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	// A key without any risk, from which each line differs in one thing.
	fine := riskFacts{
		kind: Service, scopes: []string{"verify"}, created: ago(10 * day), expires: now.Add(30 * day), lastUsed: ago(time.Hour), described: true,
	}
	seen := map[string]bool{}
	has := func(what, want string, change func(*riskFacts)) {
		t.Helper()
		k := fine
		change(&k)
		var got []string
		for _, r := range risks(k, now) {
			seen[r.Code] = true
			got = append(got, r.Code+" "+string(r.Severity))
			if !regexp.MustCompile(`^[A-Z][^.]*\.$`).MatchString(r.Advice) {
				t.Errorf("the advice of %s is not one sentence: %s", r.Code, r.Advice)
			}
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: %v; want %s", what, got, want)
		}
	}
	none := ""
	has("nothing wrong", none, func(*riskFacts) {})

	has("for ever", "never_expires medium", func(k *riskFacts) { k.expires = time.Time{} })
	has("for a year", none, func(k *riskFacts) { k.expires = k.created.AddDate(1, 0, 0) })
	has("for a year and a second", "long_lived low", func(k *riskFacts) { k.expires = k.created.AddDate(1, 0, 0).Add(time.Second) })
	has("a week and a second to go", none, func(k *riskFacts) { k.expires = now.Add(7*day + time.Second) })
	has("a week to go", "expires_soon medium", func(k *riskFacts) { k.expires = now.Add(7 * day) })
	has("a second to go", "expires_soon medium", func(k *riskFacts) { k.expires = now.Add(time.Second) })
	has("a second to go, and replaced", none, func(k *riskFacts) { k.expires, k.replaced = now.Add(time.Second), true })
	has("just expired, and leaked", none, func(k *riskFacts) { k.expires, k.leaked = now, now })
	has("expired", none, func(k *riskFacts) { k.expires = ago(time.Second) })

	has("may do everything", "everything medium", func(k *riskFacts) { k.scopes = []string{"*"} })
	has("may do everything of a kind", none, func(k *riskFacts) { k.scopes = []string{"documents:*"} })
	has("may do nothing", none, func(k *riskFacts) { k.scopes = nil })

	has("used just less than 90 days ago", none, func(k *riskFacts) { k.created, k.lastUsed = ago(100*day), ago(90*day-time.Second) })
	has("used 90 days ago", "unused_90_days medium", func(k *riskFacts) { k.created, k.lastUsed = ago(100*day), ago(90*day) })
	has("used by a server whose clock is ahead", none, func(k *riskFacts) { k.lastUsed = now.Add(time.Minute) })
	has("30 days old and never used", none, func(k *riskFacts) { k.created, k.lastUsed = ago(30*day), time.Time{} })
	has("a second older and never used", "never_used medium", func(k *riskFacts) { k.created, k.lastUsed = ago(30*day+time.Second), time.Time{} })
	has("never used for a year", "never_used medium", func(k *riskFacts) { k.created, k.lastUsed = ago(300*day), time.Time{} })

	has("an owner key from anywhere", "no_address_list low", func(k *riskFacts) { k.kind = Owner })
	has("an owner key from somewhere", none, func(k *riskFacts) { k.kind, k.networks = Owner, 1 })
	has("a data key from anywhere", none, func(k *riskFacts) { k.kind = Data })
	has("nobody's", "no_owner low", func(k *riskFacts) { k.described = false })
	has("an old digest", "outdated_digest medium", func(k *riskFacts) { k.digestOutdated = true })
	has("seen in a URL", "leaked critical", func(k *riskFacts) { k.leaked = ago(80 * day) })

	has("revoked", none, func(k *riskFacts) { k.revoked = true })
	has("revoked after it leaked", none, func(k *riskFacts) { k.revoked, k.leaked = true, ago(day) })
	has("revoked, and used once more", "revoked_in_use high", func(k *riskFacts) { k.revoked, k.refusedSinceRevoked = true, 1 })
	has("revoked, expired, and used once more", "revoked_in_use high", func(k *riskFacts) {
		k.revoked, k.refusedSinceRevoked, k.expires = true, 1, ago(day)
	})
	has("refused, but not revoked", none, func(k *riskFacts) { k.refusedSinceRevoked = 1 })

	has("disabled and idle", none, func(k *riskFacts) {
		k.disabled, k.created, k.lastUsed, k.expires = true, ago(200*day), ago(200*day), now.Add(day)
	})
	has("disabled and never used", none, func(k *riskFacts) { k.disabled, k.created, k.lastUsed = true, ago(200*day), time.Time{} })
	has("disabled and leaked: it can be enabled again", "leaked critical", func(k *riskFacts) { k.disabled, k.leaked = true, ago(day) })

	has("the worst first", "never_used medium, long_lived low", func(k *riskFacts) {
		k.created, k.lastUsed, k.expires = ago(40*day), time.Time{}, now.Add(400*day)
	})
	has("all at once, the worst first", "leaked critical, outdated_digest medium, everything medium, never_expires medium, never_used medium, no_address_list low, no_owner low",
		func(k *riskFacts) {
			*k = riskFacts{kind: Owner, scopes: []string{"*"}, created: ago(200 * day), leaked: now, digestOutdated: true}
		})

	for _, code := range []string{
		"never_expires", "expires_soon", "long_lived", "everything", "unused_90_days", "never_used", "no_address_list", "outdated_digest", "leaked",
		"revoked_in_use", "no_owner",
	} {
		if !seen[code] {
			t.Errorf("no line has %s", code)
		}
		delete(seen, code)
	}
	if len(seen) > 0 {
		t.Errorf("codes that are not public: %v", seen)
	}
	if !slices.IsSortedFunc([]Severity{Low, Medium, High, Critical}, func(a, b Severity) int { return a.rank() - b.rank() }) {
		t.Error("severities are out of order")
	}
}
