package apikey

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Use is what decides about the use of a key, as it was at one instant.
type Use struct {
	Key
	Meters []Meter
	Quotas []Quota // its own, if it has one, and those of the keys that made it
}

// Quota is how many verifications a service key, its other generations and all that came from it have together in a month.
type Quota struct {
	Subject string // the counter
	Limit   int64
}

// Meter is a limit that uses of a key count against: its own, which all its generations share; those of the metered keys
// that made it, also if they were given to these later; those of the identity that it was given to.
type Meter struct {
	Name    string // of the rate limit; empty for the number of uses
	Of      MeterOf
	Subject string        // the counter
	Limit   int64         // uses, or uses in a window
	Window  time.Duration // 0 is for good
}

// MeterOf says whose limit a meter is.
type MeterOf string

// Whose limits a key's uses count against.
const (
	OfKey   MeterOf = "key"   // its own
	OfOwner MeterOf = "owner" // what keys of its owner share
	OfMaker MeterOf = "maker" // that of a key that made it
)

// May reports whether the key has a capability.
func (u *Use) May(capability string) bool {
	return slices.Contains(u.Scopes, capability) || slices.Contains(u.Scopes, tenantdb.Everything)
}

// AllowedFrom reports whether the key can be used from an address. What a person made is the organisation's only where the person
// may be, or it would be a way around the rules; but for a data key, which is its customer's.
func (k Key) AllowedFrom(a netip.Addr) bool {
	return allows(k.AllowedCIDRs, a) && (k.Kind == Data || allows(k.peoples, a))
}

// Spent is the problem of who uses a key of which a meter is spent. anew is when it can be used again, zero if waiting does not
// help.
func Spent(m Meter, anew, now time.Time) error {
	if m.Window == 0 {
		return problem.New(problem.TooMany, "The key's uses are spent: it had %s. It works no longer; make a new key.", m)
	}
	p := problem.New(problem.TooMany, "The key's rate limit is reached: %s.", m)
	if !anew.IsZero() {
		p.RetryAfter = max(anew.Sub(now), time.Second)
	}
	return p
}

// Spends is what a use of some cost takes from the meters: rates first, so that they are what refuses if both would.
func (u *Use) Spends(t tenantdb.TenantID, cost int64) []tenantdb.Spend {
	out := make([]tenantdb.Spend, 0, len(u.Meters))
	if cost == 0 {
		return out
	}
	for _, m := range u.Meters {
		out = append(out, tenantdb.Spend{Tenant: t, Subject: m.Subject, Amount: cost, Limit: m.Limit, Window: m.Window})
	}
	return out
}

// Meter finds the meter whose counter that is.
func (u *Use) Meter(subject string) (Meter, bool) {
	i := slices.IndexFunc(u.Meters, func(m Meter) bool { return m.Subject == subject })
	if i < 0 {
		return Meter{}, false
	}
	return u.Meters[i], true
}

// metered is what makes meters: a family of keys, or an identity.
type metered struct {
	family string
	uses   *int64
	rates  []RateLimit
	quota  *int64
}

// subjects are the counters of what makes meters.
func subjects(m metered) (out []string) {
	for _, one := range m.meters() {
		out = append(out, one.Subject)
	}
	return out
}

func (m metered) meters() (out []Meter) {
	for _, r := range m.rates {
		out = append(out, Meter{Name: r.Name, Subject: "rate:" + m.family + ":" + r.Name, Limit: r.Limit, Window: r.Window()})
	}
	if m.uses != nil {
		out = append(out, Meter{Subject: "uses:" + m.family, Limit: *m.uses})
	}
	return out
}

func (k Key) metered() metered { return metered{k.Family(), k.MaxUses, k.RateLimits, k.MonthlyQuota} }

// quotas are those of the families that a service key's verifications count against. Others spend their organisation's.
func (k Key) quotas(families []metered) (out []Quota) {
	for _, m := range families {
		if k.Kind == Service && m.quota != nil {
			out = append(out, Quota{"key:" + m.family, *m.quota})
		}
	}
	return out
}

// identityFamily stands for an identity where families of keys stand: its name may be long, and is somebody's.
func identityFamily(owner string) string {
	sum := sha256.Sum256([]byte(owner))
	return "@" + hex.EncodeToString(sum[:8])
}

// metersOf are a key's meters: rates before numbers of uses, and each counter once.
func (k Key) metersOf(all []metered) []Meter {
	var out []Meter
	for _, m := range all {
		of := OfMaker
		switch m.family {
		case k.Family():
			of = OfKey
		case identityFamily(k.GivenTo):
			of = OfOwner
		}
		for _, n := range m.meters() {
			n.Of = of
			if !slices.ContainsFunc(out, func(o Meter) bool { return o.Subject == n.Subject }) {
				out = append(out, n)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Meter) int {
		switch {
		case a.Window > 0 && b.Window == 0:
			return -1
		case a.Window == 0 && b.Window > 0:
			return 1
		}
		return 0
	})
	return out
}
