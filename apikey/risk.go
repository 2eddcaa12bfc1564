package apikey

import (
	"slices"
	"time"

	"github.com/avouch-dev/avouch/tenantdb"
)

// Severity is how much a risk matters.
type Severity string

// The severities.
const (
	Low      Severity = "low"
	Medium   Severity = "medium"
	High     Severity = "high"
	Critical Severity = "critical"
)

// rank orders severities, the worst last; none is below all.
func (s Severity) rank() int { return slices.Index([]Severity{Low, Medium, High, Critical}, s) }

// Risk is something about a key that its owner should look at. Codes are public and stay what they are.
type Risk struct {
	Code     string   `json:"code"`
	Severity Severity `json:"severity" enum:"low,medium,high,critical"`
	Advice   string   `json:"advice" doc:"What to do about it, for people"`
}

// riskFacts is what the risks of a key are judged from.
type riskFacts struct {
	kind                Kind
	scopes              []string
	created, lastUsed   time.Time // lastUsed is zero if it never was
	expires             time.Time // zero is never
	disabled, revoked   bool
	replaced            bool // by a successor: its end is meant
	networks            int  // how many are on its list
	described           bool // it has an owner or metadata
	digestOutdated      bool // its digest was made with a secret that has been replaced since
	leaked              time.Time
	refusedSinceRevoked int64
}

// When a key is risky by age.
const (
	soon       = 7 * 24 * time.Hour
	longUnused = 90 * 24 * time.Hour
	neverUsed  = 30 * 24 * time.Hour
)

// risks lists the risks of a key, the worst first. Of a key that has ended only those count that its end did not end.
func risks(k riskFacts, now time.Time) []Risk {
	var found []Risk
	add := func(is bool, code string, how Severity, advice string) {
		if is {
			found = append(found, Risk{code, how, advice})
		}
	}
	if k.revoked || !k.expires.IsZero() && !now.Before(k.expires) {
		add(k.revoked && k.refusedSinceRevoked > 0, "revoked_in_use", High,
			"Somebody still uses this key, which is revoked: find out from where in the log, and whether it is a program of yours that was forgotten.")
		return found
	}
	add(!k.leaked.IsZero(), "leaked", Critical,
		"The key was seen where others could read it: rotate it at once, without overlap, and look in the log for uses that are not yours.")
	add(k.digestOutdated, "outdated_digest", Medium,
		"What is stored of the key was made with a secret that has been replaced: use it once, or revoke it, and the old secret can be destroyed.")
	add(slices.Contains(k.scopes, tenantdb.Everything), "everything", Medium,
		"The key may do everything: replace it by one with the scopes that are needed.")
	add(k.expires.IsZero(), "never_expires", Medium, "The key works for ever: replace it by one that expires, and rotate it.")
	add(!k.expires.IsZero() && k.created.AddDate(1, 0, 0).Before(k.expires), "long_lived", Low,
		"The key was made to last for more than a year: replace it by one that expires sooner, and rotate it.")
	k.usage(now, add)
	add(k.kind == Owner && k.networks == 0, "no_address_list", Low, "The key works from anywhere: list the addresses that it is used from.")
	add(!k.described, "no_owner", Low, "Nothing says whose the key is: give it an owner or metadata, so that somebody can be asked.")
	slices.SortStableFunc(found, func(a, b Risk) int { return b.Severity.rank() - a.Severity.rank() })
	return found
}

// usage adds what follows from when a key is used. A disabled key is meant to be idle.
func (k riskFacts) usage(now time.Time, add func(is bool, code string, how Severity, advice string)) {
	if k.disabled {
		return
	}
	add(!k.replaced && !k.expires.IsZero() && k.expires.Sub(now) <= soon, "expires_soon", Medium,
		"The key expires within a week: rotate it if it is still needed.")
	add(k.lastUsed.IsZero() && now.Sub(k.created) > neverUsed, "never_used", Medium,
		"The key has never been used: revoke it if nobody waits for it.")
	add(!k.lastUsed.IsZero() && now.Sub(k.lastUsed) >= longUnused, "unused_90_days", Medium,
		"The key has not been used for 90 days: revoke it if nobody needs it.")
}
