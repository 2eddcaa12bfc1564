package apikey

import (
	"time"

	"github.com/avouch-dev/avouch/tenantdb"
)

// Wanted is the request for a new key.
type Wanted struct {
	Name         string         `json:"name" minLength:"1" maxLength:"200" doc:"For people"`
	Kind         Kind           `json:"kind" enum:"owner,service" doc:"owner: the organisation itself. service: one of its services, with a quota of its own."`
	Live         *bool          `json:"live,omitempty" doc:"False for a key that is for trying; only its prefix differs"`
	Scopes       []string       `json:"scopes,omitempty" nullable:"true" maxItems:"32" doc:"Capabilities; by default * for an owner key, verify and audit:write for a service key"`
	Resources    []string       `json:"resources,omitempty" nullable:"true" maxItems:"50" doc:"Narrows a service key to asking about these"`
	Owners       []string       `json:"owners,omitempty" nullable:"true" maxItems:"50" doc:"Narrows a service key to these organisations' agents"`
	MonthlyQuota *int64         `json:"monthly_quota,omitempty" minimum:"0" doc:"A service key's verifications a month, at most the installation's default"`
	ExpiresAt    *string        `json:"expires_at,omitempty" maxLength:"64" doc:"An RFC 3339 time, or never. In 90 days by default, and never later than the key that makes it."`
	Metadata     map[string]any `json:"metadata,omitempty" nullable:"true" doc:"Your own, at most 4 KiB of JSON"`

	// They come with the full semantics of keys. A limit that is silently ignored would be a hole.
	MaxUses      any `json:"max_uses,omitempty" hidden:"true"`
	AllowedCIDRs any `json:"allowed_cidrs,omitempty" hidden:"true"`
	RateLimits   any `json:"rate_limits,omitempty" hidden:"true"`
}

// key is what the request asks for.
func (w *Wanted) key() (NewKey, error) {
	var f faults
	n := NewKey{
		Name: w.Name, Kind: w.Kind, Test: w.Live != nil && !*w.Live, Scopes: w.Scopes, Resources: w.Resources, Owners: parseOwners(&f, w.Owners),
		Metadata: w.Metadata, MonthlyQuota: w.MonthlyQuota,
	}
	if w.ExpiresAt != nil {
		n.ExpiresAt, n.NeverExpires = parseExpiry(&f, *w.ExpiresAt)
	}
	for name, v := range map[string]any{"max_uses": w.MaxUses, "allowed_cidrs": w.AllowedCIDRs, "rate_limits": w.RateLimits} {
		if v != nil {
			f.add(name, "is not available in this release. No key was made: it would not have the limit that you want.")
		}
	}
	return n, f.problem()
}

func parseExpiry(f *faults, s string) (at time.Time, never bool) {
	if s == "never" {
		return time.Time{}, true
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil || at.IsZero() {
		f.add("expires_at", "is neither an RFC 3339 time, such as 2027-01-31T00:00:00Z, nor never")
	}
	return at, false
}

func parseOwners(f *faults, names []string) []tenantdb.TenantID {
	var owners []tenantdb.TenantID
	for _, name := range names {
		o, err := tenantdb.ParseTenantID(name)
		if err != nil {
			f.add("owners", "holds what is not the id of an organisation")
			return nil
		}
		owners = append(owners, o)
	}
	return owners
}

// Wish is the request to change a key.
type Wish struct {
	Name         *string         `json:"name,omitempty" minLength:"1" maxLength:"200"`
	Metadata     *map[string]any `json:"metadata,omitempty" doc:"Replaces what is there"`
	MonthlyQuota *int64          `json:"monthly_quota,omitempty" minimum:"0" doc:"At most the installation's default"`
	Resources    *[]string       `json:"resources,omitempty" maxItems:"50" doc:"Replaces what is there; empty is anything"`
	Owners       *[]string       `json:"owners,omitempty" maxItems:"50" doc:"Replaces what is there; empty is anybody's"`
}

func (w *Wish) change() (Change, error) {
	var f faults
	ch := Change{Name: w.Name, Metadata: w.Metadata, MonthlyQuota: w.MonthlyQuota, Resources: w.Resources}
	if w.Owners != nil {
		owners := parseOwners(&f, *w.Owners)
		ch.Owners = &owners
	}
	return ch, f.problem()
}
