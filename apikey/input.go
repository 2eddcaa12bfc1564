package apikey

import (
	"encoding/json"
	"net/netip"
	"time"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Wanted is the request for a new key.
type Wanted struct {
	Name         string         `json:"name" minLength:"1" maxLength:"200" doc:"For people" example:"Ada's laptop"`
	Kind         Kind           `json:"kind" enum:"owner,service,data" doc:"owner: the organisation itself. service: one of its services, with a quota of its own. data: somebody to whom you give it, for an API of your own; it does nothing here."`
	Live         *bool          `json:"live,omitempty" doc:"False for a key that is for trying; only its prefix differs"`
	Scopes       []string       `json:"scopes,omitempty" nullable:"true" maxItems:"100" doc:"Capabilities; by default * for an owner key, verify and audit:write for a service key. A data key's are names of your own, such as documents:read or documents:*. They are a set: they come back sorted, each once." example:"[\"documents:read\"]"`
	Resources    []string       `json:"resources,omitempty" nullable:"true" maxItems:"50" doc:"Narrows a service key to asking about these"`
	Owners       []string       `json:"owners,omitempty" nullable:"true" maxItems:"50" doc:"Narrows a service key to these organisations' agents"`
	MonthlyQuota *int64         `json:"monthly_quota,omitempty" minimum:"0" doc:"A service key's verifications a month, at most the installation's default"`
	Owner        string         `json:"owner,omitempty" maxLength:"200" doc:"To whom you give it, in your own words: your user's id, say. Keys of one owner share the limits of the identity of that name."`
	MaxUses      *int64         `json:"max_uses,omitempty" minimum:"1" maximum:"1000000000000000" doc:"How often it can be used at all; its successors go on counting"`
	RateLimits   []RateLimit    `json:"rate_limits,omitempty" nullable:"true" maxItems:"8" doc:"All of which a use must be within"`
	AllowedCIDRs []string       `json:"allowed_cidrs,omitempty" nullable:"true" maxItems:"50" doc:"Networks and addresses, v4 or v6, from where it can be used; none is from anywhere"`
	NotBefore    *time.Time     `json:"not_before,omitempty" doc:"From when on it can be used"`
	ExpiresAt    *string        `json:"expires_at,omitempty" maxLength:"64" doc:"An RFC 3339 time, or never. In 90 days by default, and never later than the key that makes it."`
	Metadata     map[string]any `json:"metadata,omitempty" nullable:"true" doc:"Your own, at most 4 KiB of JSON"`
}

// key is what the request asks for.
func (w *Wanted) key() (NewKey, error) {
	var f faults
	n := NewKey{
		Name: w.Name, Kind: w.Kind, Test: w.Live != nil && !*w.Live, Scopes: w.Scopes, Resources: w.Resources, Owners: parseOwners(&f, w.Owners),
		Metadata: w.Metadata, MonthlyQuota: w.MonthlyQuota, GivenTo: w.Owner, MaxUses: w.MaxUses, RateLimits: w.RateLimits,
		AllowedCIDRs: networksOf(&f, w.AllowedCIDRs),
	}
	checkRates(&f, w.RateLimits)
	if w.NotBefore != nil {
		n.NotBefore = w.NotBefore.UTC().Truncate(time.Microsecond)
	}
	if w.ExpiresAt != nil {
		n.ExpiresAt, n.NeverExpires = parseExpiry(&f, *w.ExpiresAt)
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

func networksOf(f *faults, texts []string) []netip.Prefix {
	prefixes, err := parseCIDRs(texts)
	f.addOf("allowed_cidrs", err)
	return prefixes
}

func checkRates(f *faults, limits []RateLimit) {
	f.addOf("rate_limits", checkRateLimits(limits))
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

// ForeignKey is the request to take over a key.
type ForeignKey struct {
	Hash         string         `json:"hash" minLength:"64" maxLength:"64" doc:"SHA-256 of the key, hexadecimal" example:"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`
	Name         string         `json:"name" minLength:"1" maxLength:"200" doc:"For people"`
	Scopes       []string       `json:"scopes,omitempty" nullable:"true" maxItems:"100"`
	Owner        string         `json:"owner,omitempty" maxLength:"200" doc:"To whom you gave it, in your own words"`
	MaxUses      *int64         `json:"max_uses,omitempty" minimum:"1" maximum:"1000000000000000" doc:"How often it can be used from now on"`
	RateLimits   []RateLimit    `json:"rate_limits,omitempty" nullable:"true" maxItems:"8"`
	AllowedCIDRs []string       `json:"allowed_cidrs,omitempty" nullable:"true" maxItems:"50"`
	ExpiresAt    *string        `json:"expires_at,omitempty" maxLength:"64" doc:"An RFC 3339 time, or never; in 90 days by default"`
	Metadata     map[string]any `json:"metadata,omitempty" nullable:"true"`
}

func (f *ForeignKey) foreign() (Foreign, error) {
	w := Wanted{
		Name: f.Name, Kind: Data, Scopes: f.Scopes, Owner: f.Owner, MaxUses: f.MaxUses, RateLimits: f.RateLimits, AllowedCIDRs: f.AllowedCIDRs,
		ExpiresAt: f.ExpiresAt, Metadata: f.Metadata,
	}
	n, err := w.key()
	if err != nil {
		return Foreign{}, err
	}
	hash, err := ParseHash(f.Hash)
	if err != nil {
		var wrong faults
		wrong.add("hash", "%v", err)
		return Foreign{}, wrong.problem()
	}
	return Foreign{n, hash}, nil
}

// Wish is the request to change a key. What is absent stays; of the limits null is another wish: to have none.
type Wish struct {
	Name         *string         `json:"name,omitempty" minLength:"1" maxLength:"200"`
	Metadata     *map[string]any `json:"metadata,omitempty" doc:"Replaces what is there"`
	MonthlyQuota *int64          `json:"monthly_quota,omitempty" nullable:"true" minimum:"0" doc:"At most the installation's default; null is unlimited, where there is no default"`
	Resources    *[]string       `json:"resources,omitempty" maxItems:"50" doc:"Replaces what is there; empty is anything"`
	Owners       *[]string       `json:"owners,omitempty" maxItems:"50" doc:"Replaces what is there; empty is anybody's"`
	MaxUses      *int64          `json:"max_uses,omitempty" nullable:"true" minimum:"1" maximum:"1000000000000000" doc:"Of all uses since it had such a limit first, but those while it had none; null is unlimited"`
	RateLimits   *[]RateLimit    `json:"rate_limits,omitempty" maxItems:"8" doc:"Replaces what is there"`
	AllowedCIDRs *[]string       `json:"allowed_cidrs,omitempty" maxItems:"50" doc:"Replaces what is there; empty is from anywhere"`

	noQuota, noMaxUses bool // they are null
}

// UnmarshalJSON reads a request, and tells null from what is absent.
func (w *Wish) UnmarshalJSON(b []byte) error {
	type plain Wish
	if err := json.Unmarshal(b, (*plain)(w)); err != nil {
		return err
	}
	return web.Members(b, func(name string, value []byte) error {
		null := string(value) == "null"
		switch name {
		case "monthly_quota":
			w.noQuota = null
		case "max_uses":
			w.noMaxUses = null
		}
		return nil
	})
}

func (w *Wish) change() (Change, error) {
	var f faults
	ch := Change{
		Name: w.Name, Metadata: w.Metadata, MonthlyQuota: w.MonthlyQuota, NoQuota: w.noQuota, Resources: w.Resources,
		MaxUses: w.MaxUses, NoMaxUses: w.noMaxUses, RateLimits: w.RateLimits,
	}
	if w.RateLimits != nil {
		checkRates(&f, *w.RateLimits)
	}
	if w.AllowedCIDRs != nil {
		networks := networksOf(&f, *w.AllowedCIDRs)
		ch.AllowedCIDRs = &networks
	}
	if w.Owners != nil {
		owners := parseOwners(&f, *w.Owners)
		ch.Owners = &owners
	}
	return ch, f.problem()
}
