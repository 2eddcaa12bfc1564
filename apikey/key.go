package apikey

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Key is what is known of a key. The key itself is not.
type Key struct {
	ID        string
	Kind      Kind
	Live      bool
	Name      string
	Hint      string
	Scopes    []string            // capabilities, sorted
	Resources []string            // what it may ask about; empty is anything
	Owners    []tenantdb.TenantID // whose agents it may verify; empty is anybody's
	Metadata  map[string]any
	// MonthlyQuota is a service key's own; nil is unlimited. Owner keys spend their organisation's and have none.
	MonthlyQuota *int64
	CreatedAt    time.Time
	ExpiresAt    time.Time // zero is never
	DisabledAt   time.Time
	RevokedAt    time.Time
	Version      int64
}

// Status says whether a key works, and if not, why: the first reason in the order in which they are judged.
type Status string

// The states of a key.
const (
	Active   Status = "active"
	Revoked  Status = "revoked"
	Disabled Status = "disabled"
	Expired  Status = "expired"
)

// Status is the key's state at an instant.
func (k Key) Status(now time.Time) Status {
	switch {
	case !k.RevokedAt.IsZero():
		return Revoked
	case !k.DisabledAt.IsZero():
		return Disabled
	case !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt):
		return Expired
	}
	return Active
}

// Prefix is the first eight characters of the key. It is the same for all keys of a kind, and for display only.
func (k Key) Prefix() string { return tag(k.Kind, k.Live)[:prefixSize] }

// Capabilities lists what a key can be allowed to do, beside tenantdb.Everything, which only owner keys have.
func Capabilities() []string {
	return []string{
		"agents:read", "agents:write", "audit:read", "audit:write", "keys:read", "keys:write", "organisation:read", "organisation:write",
		"read:identity", "scopes:write", "verify",
	}
}

// NewKey is a key to be made.
type NewKey struct {
	Name      string
	Kind      Kind
	Test      bool     // a key for trying: only its tag says so
	Scopes    []string // nil is the kind's default
	Resources []string
	Owners    []tenantdb.TenantID
	Metadata  map[string]any
	// MonthlyQuota is a service key's own; nil is the installation's default.
	MonthlyQuota *int64
	ExpiresAt    time.Time // zero is the default, DefaultLife from now
	NeverExpires bool
}

// DefaultLife is how long a key lives unless its maker says otherwise.
const DefaultLife = 90 * 24 * time.Hour

// Change is what may be changed of a key; nil fields stay.
type Change struct {
	Name         *string
	Metadata     *map[string]any
	MonthlyQuota *int64
	Resources    *[]string
	Owners       *[]tenantdb.TenantID
}

// defaults fills in what the kind decides.
func (n *NewKey) defaults() {
	if n.Scopes == nil {
		n.Scopes = map[Kind][]string{Owner: {tenantdb.Everything}, Service: {"audit:write", "verify"}}[n.Kind]
	}
	n.Scopes = slices.Compact(slices.Sorted(slices.Values(n.Scopes)))
	if slices.Contains(n.Scopes, tenantdb.Everything) {
		n.Scopes = []string{tenantdb.Everything}
	}
}

// The limits of what a key may carry.
const (
	maxName      = 200
	maxResources = 50
	maxResource  = 256
	maxOwners    = 50
	maxMetadata  = 4 << 10
)

// faults collects what is wrong with a request.
type faults struct{ fields []problem.Field }

func (f *faults) add(field, format string, args ...any) {
	f.fields = append(f.fields, problem.Field{Location: "body." + field, Message: fmt.Sprintf(format, args...)})
}

func (f *faults) problem() error {
	if len(f.fields) == 0 {
		return nil
	}
	p := problem.New(problem.Invalid, "The key cannot be like that. See `errors`.")
	p.Fields = f.fields
	return p
}

func (n *NewKey) check(now time.Time) error {
	var f faults
	if n.Kind != Owner && n.Kind != Service {
		f.add("kind", "is neither owner nor service")
	}
	if len(n.Scopes) == 0 {
		f.add("scopes", "is empty: such a key could do nothing")
	}
	for _, s := range n.Scopes {
		switch {
		case s == tenantdb.Everything && n.Kind != Owner:
			f.add("scopes", "a service key cannot have *: name what the service needs")
		case s != tenantdb.Everything && !slices.Contains(Capabilities(), s):
			f.add("scopes", "holds what is no capability; there are %s", strings.Join(Capabilities(), ", "))
		}
	}
	if !n.ExpiresAt.IsZero() && (!n.ExpiresAt.After(now) || n.ExpiresAt.Year() > 9999) {
		f.add("expires_at", "is not in the future")
	}
	if n.Kind == Owner && (len(n.Resources) > 0 || len(n.Owners) > 0 || n.MonthlyQuota != nil) {
		f.add("kind", "an owner key has no resources, owners or quota of its own: make a service key")
	}
	checkName(&f, n.Name)
	checkMetadata(&f, n.Metadata)
	checkResources(&f, n.Resources)
	checkOwners(&f, n.Owners)
	return f.problem()
}

func (ch Change) check(k Key) error {
	var f faults
	if k.Kind == Owner && (ch.MonthlyQuota != nil || ch.Resources != nil || ch.Owners != nil) {
		f.add("kind", "an owner key has no resources, owners or quota of its own")
	}
	if ch.Name != nil {
		checkName(&f, *ch.Name)
	}
	if ch.Metadata != nil {
		checkMetadata(&f, *ch.Metadata)
	}
	if ch.Resources != nil {
		checkResources(&f, *ch.Resources)
	}
	if ch.Owners != nil {
		checkOwners(&f, *ch.Owners)
	}
	return f.problem()
}

func checkName(f *faults, s string) {
	if n := len([]rune(s)); n == 0 || n > maxName {
		f.add("name", "must have 1 to %d characters", maxName)
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		f.add("name", "holds a control character")
	}
}

func checkMetadata(f *faults, m map[string]any) {
	b, err := json.Marshal(m)
	if err != nil || len(b) > maxMetadata {
		f.add("metadata", "must be an object of at most %d bytes of JSON", maxMetadata)
	}
}

func checkResources(f *faults, resources []string) {
	if len(resources) > maxResources {
		f.add("resources", "has more than %d", maxResources)
	}
	for _, s := range resources {
		if s == "" || len(s) > maxResource || strings.ContainsFunc(s, unicode.IsControl) {
			f.add("resources", "each must have 1 to %d bytes and no control characters", maxResource)
			return
		}
	}
}

func checkOwners(f *faults, owners []tenantdb.TenantID) {
	if len(owners) > maxOwners {
		f.add("owners", "has more than %d", maxOwners)
	}
	if slices.Contains(owners, tenantdb.TenantID{}) {
		f.add("owners", "holds what names no organisation")
	}
}

// event is what the log says of a key: what comes from closed lists to everybody who reads it, and what people wrote only
// to those who may open private fields.
func (k Key) event(typ string, alters bool) audit.Event {
	e := audit.Event{
		Type: typ, Target: audit.Target{Kind: "key", ID: k.ID}, Alters: alters,
		Public: []audit.Field{
			{Name: "kind", Value: string(k.Kind)}, {Name: "scopes", Value: strings.Join(k.Scopes, " ")},
			{Name: "owners", Value: joined(k.Owners)}, {Name: "expires_at", Value: stamp(k.ExpiresAt)},
			{Name: "version", Value: fmt.Sprint(k.Version)},
		},
		Private: []audit.Field{{Name: "name", Value: k.Name}},
	}
	if k.Kind == Service {
		e.Public = append(e.Public, audit.Field{Name: "monthly_quota", Value: quota(k.MonthlyQuota)})
	}
	if len(k.Resources) > 0 {
		b, _ := json.Marshal(k.Resources) // strings always encode
		e.Private = append(e.Private, audit.Field{Name: "resources", Value: string(b)})
	}
	if len(k.Metadata) > 0 {
		b, _ := json.Marshal(k.Metadata) // it came from JSON
		e.Private = append(e.Private, audit.Field{Name: "metadata", Value: string(b)})
	}
	return e
}

func joined(owners []tenantdb.TenantID) string {
	names := make([]string, len(owners))
	for i, o := range owners {
		names[i] = o.String()
	}
	return strings.Join(names, " ")
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}
