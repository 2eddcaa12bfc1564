package apikey

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"

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
	GivenTo   string // whose it is, in the organisation's own words: an identity, if there is one of that name
	// MonthlyQuota is a service key's own; nil is unlimited. Owner keys spend their organisation's and have none.
	MonthlyQuota *int64
	MaxUses      *int64         // how often it can be used at all; nil is unlimited
	RateLimits   []RateLimit    // all of which a use must be within
	AllowedCIDRs []netip.Prefix // from where it can be used; empty is from anywhere
	CreatedAt    time.Time
	NotBefore    time.Time // zero is at once
	ExpiresAt    time.Time // zero is never
	DisabledAt   time.Time
	RevokedAt    time.Time
	LeakedAt     time.Time         // when it was last seen where no key may be, to the day
	Replaces     string            // the key that it was rotated from
	ReplacedBy   string            // the key that it was rotated to
	Shares       []string          // the families of the keys that made it: it spends their meters and monthly quotas too
	MadeBy       string            // the key that asked for it; none if something else did. A successor keeps its predecessor's
	Person       tenantdb.PersonID // who made it, or the key that it came from, or rotated either; zero if no person did
	Noticed      int               // days before its end of which the owner was told last; 0 is not yet
	Version      int64
	peoples      []netip.Prefix // from where the organisation lets people come, if a person made it; empty is from anywhere
	first        string         // the first generation's id, if that is another
	uncut        *time.Duration // how long it was to live, if the key that rotated it ends sooner; 0 is for ever
}

// Family is the first generation's id. All generations share what meters them.
func (k Key) Family() string {
	if k.first != "" {
		return k.first
	}
	return k.ID
}

// same reports whether an update would change nothing.
func same(a, b Key) bool {
	return a.Name == b.Name && slices.Equal(a.Resources, b.Resources) && slices.Equal(a.Owners, b.Owners) &&
		maps.EqualFunc(a.Metadata, b.Metadata, func(x, y any) bool { return reflect.DeepEqual(x, y) }) &&
		alike64(a.MonthlyQuota, b.MonthlyQuota) && alike64(a.MaxUses, b.MaxUses) && slices.Equal(a.RateLimits, b.RateLimits) &&
		slices.Equal(a.AllowedCIDRs, b.AllowedCIDRs) && a.LeakedAt.Equal(b.LeakedAt) && a.ExpiresAt.Equal(b.ExpiresAt) && a.Noticed == b.Noticed &&
		a.DisabledAt.Equal(b.DisabledAt) && a.RevokedAt.Equal(b.RevokedAt)
}

func alike64(a, b *int64) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }

// Status says whether a key works, and if not, why: the first reason in the order in which they are judged.
type Status string

// The states of a key.
const (
	Active   Status = "active"
	Pending  Status = "pending"
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
	case now.Before(k.NotBefore):
		return Pending
	}
	return Active
}

// importedHint begins the hints of keys that were made elsewhere.
const importedHint = "imported_"

// Prefix is the first eight characters of the key. It is the same for all keys of a kind, and for display only. Of a key that
// was made elsewhere nobody here knows them: it is empty.
func (k Key) Prefix() string {
	if strings.HasPrefix(k.Hint, importedHint) {
		return ""
	}
	return tag(k.Kind, k.Live)[:prefixSize]
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
	GivenTo   string
	// MonthlyQuota is a service key's own; nil is the installation's default.
	MonthlyQuota *int64
	MaxUses      *int64
	RateLimits   []RateLimit
	AllowedCIDRs []netip.Prefix
	NotBefore    time.Time
	ExpiresAt    time.Time // zero is the default, DefaultLife from now
	NeverExpires bool
}

// DefaultLife is how long a key lives unless its maker says otherwise.
const DefaultLife = 90 * 24 * time.Hour

// Change is what may be changed of a key; nil fields stay. What takes a limit away says so: nil does not.
type Change struct {
	Name         *string
	Metadata     *map[string]any
	MonthlyQuota *int64
	NoQuota      bool // unlimited; only the operator gives that where the installation has a default
	MaxUses      *int64
	NoMaxUses    bool // unlimited
	RateLimits   *[]RateLimit
	AllowedCIDRs *[]netip.Prefix
	Resources    *[]string
	Owners       *[]tenantdb.TenantID
}

// The limits of what a key may carry.
const (
	maxName      = 200
	maxResources = 50
	maxResource  = 256
	maxOwners    = 50
	maxMetadata  = 4 << 10
	maxScopes    = 100
	mostUses     = 1e15
)

// faults collects what is wrong with a request.
type faults struct{ fields []problem.Field }

func (f *faults) add(field, format string, args ...any) {
	f.fields = append(f.fields, problem.Field{Location: "body." + field, Message: fmt.Sprintf(format, args...)})
}

// addOf adds what is wrong with a list, at its place if it is one of them.
func (f *faults) addOf(list string, err error) {
	var m *misfit
	switch {
	case errors.As(err, &m):
		f.add(fmt.Sprintf("%s[%d]", list, m.at), "%s", m.says)
	case err != nil:
		f.add(list, "%v", err)
	}
}

func (f *faults) problem() error {
	if len(f.fields) == 0 {
		return nil
	}
	p := problem.New(problem.Invalid, "The key cannot be like that. See `errors`.")
	p.Fields = f.fields
	return p
}

// check says what is wrong with a request, and makes of its scopes, which are those of the kind if there are none, a sorted set.
func (n *NewKey) check(now time.Time) error {
	var f faults
	if n.Scopes == nil {
		n.Scopes = map[Kind][]string{Owner: {tenantdb.Everything}, Service: {"audit:write", "verify"}, Data: {}}[n.Kind]
	}
	if n.Kind != Owner && n.Kind != Service && n.Kind != Data {
		f.add("kind", "is neither owner, service nor data")
	}
	n.checkScopes(&f)
	if !n.ExpiresAt.IsZero() && (!n.ExpiresAt.After(now) || n.ExpiresAt.Year() > 9999) {
		f.add("expires_at", "is not in the future")
	}
	if !n.NotBefore.IsZero() && (n.NotBefore.Year() > 9999 || !n.ExpiresAt.IsZero() && !n.NotBefore.Before(n.ExpiresAt)) {
		f.add("not_before", "is not before the key expires")
	}
	if n.Kind != Service && (len(n.Resources) > 0 || len(n.Owners) > 0 || n.MonthlyQuota != nil) {
		f.add("kind", "only a service key has resources, owners or a quota of its own")
	}
	checkGivenTo(&f, n.GivenTo)
	checkUses(&f, n.MaxUses)
	checkName(&f, n.Name)
	checkMetadata(&f, n.Metadata)
	checkResources(&f, n.Resources)
	checkOwners(&f, n.Owners)
	n.Scopes = slices.Compact(slices.Sorted(slices.Values(n.Scopes)))
	if slices.Contains(n.Scopes, tenantdb.Everything) {
		n.Scopes = []string{tenantdb.Everything}
	}
	n.checkTexts(&f)
	return f.problem()
}

func (n *NewKey) checkScopes(f *faults) {
	if len(n.Scopes) == 0 && n.Kind != Data {
		f.add("scopes", "is empty: such a key could do nothing")
	}
	if len(n.Scopes) > maxScopes {
		f.add("scopes", "has more than %d", maxScopes)
	}
	for i, s := range n.Scopes {
		if err := n.checkScope(s); err != nil {
			f.add(fmt.Sprintf("scopes[%d]", i), "%v", err)
		}
	}
}

func (n *NewKey) checkScope(s string) error {
	switch {
	case n.Kind == Data:
		return ParseScope(s)
	case s == tenantdb.Everything && n.Kind != Owner:
		return errors.New("a service key cannot have *: name what the service needs")
	case s != tenantdb.Everything && !slices.Contains(tenantdb.Capabilities(), s):
		return fmt.Errorf("is no capability; there are %s", strings.Join(tenantdb.Capabilities(), ", "))
	}
	return nil
}

func (ch Change) check(k Key) error {
	var f faults
	if k.Kind != Service && (ch.MonthlyQuota != nil || ch.Resources != nil || ch.Owners != nil) {
		f.add("kind", "only a service key has resources, owners or a quota of its own")
	}
	checkUses(&f, ch.MaxUses)
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
	if len([]rune(s)) > maxName || strings.TrimSpace(s) == "" {
		f.add("name", "must have 1 to %d characters, and not only blanks", maxName)
	}
	if strings.ContainsFunc(s, unshown) {
		f.add("name", "holds a character that nobody sees, or that moves others")
	}
}

// unshown reports whether a character shows nothing, ends a line or turns the direction of text: names stand in mails and on
// terminals, and are not to say there what they are not. The joiners are parts of words and of emoji.
func unshown(r rune) bool {
	const joiner, nonJoiner = '\u200d', '\u200c'
	return r != joiner && r != nonJoiner && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// checkGivenTo takes each owner's name in one form only: keys under the other would not share its limits.
func checkGivenTo(f *faults, s string) {
	if len([]rune(s)) > maxName || strings.ContainsFunc(s, unshown) {
		f.add("owner", "must have at most %d characters, and none that nobody sees or that moves others", maxName)
	}
	if !norm.NFC.IsNormalString(s) {
		f.add("owner", "is not in Unicode's normal form C: normalise it, or one that looks the same would be another owner")
	}
	checkNamed(f, s)
}

func checkUses(f *faults, n *int64) {
	if n != nil && (*n < 1 || *n > mostUses) {
		f.add("max_uses", "is not between 1 and %d", int64(mostUses))
	}
}

func checkMetadata(f *faults, m map[string]any) {
	b, err := json.Marshal(m)
	if err != nil || len(b) > maxMetadata {
		f.add("metadata", "must be an object of at most %d bytes of JSON", maxMetadata)
	}
	if !exact(m) {
		f.add("metadata", "holds a number beyond 2^53, which would come back as another, or the character U+0000: write the number as a text")
	}
}

// exact reports whether what came from JSON comes back as it was sent: beyond 2^53 not every whole number does, and the
// database knows no text with U+0000.
func exact(v any) bool {
	switch v := v.(type) {
	case float64:
		return math.Abs(v) < 1<<53
	case string:
		return !strings.Contains(v, "\x00")
	case map[string]any:
		for name, one := range v {
			if !exact(name) || !exact(one) {
				return false
			}
		}
	case []any:
		return !slices.ContainsFunc(v, func(one any) bool { return !exact(one) })
	}
	return true
}

func checkResources(f *faults, resources []string) {
	if len(resources) > maxResources {
		f.add("resources", "has more than %d", maxResources)
	}
	for _, s := range resources {
		if s == "" || len(s) > maxResource || strings.ContainsFunc(s, unshown) {
			f.add("resources", "each must have 1 to %d bytes, and no character that nobody sees or that moves others", maxResource)
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
	e := audit.Event{Type: typ, Target: audit.Target{Kind: "key", ID: k.ID}, Alters: alters}
	public := func(name, value string) { e.Public = append(e.Public, audit.Field{Name: name, Value: value}) }
	private := func(name, value string) {
		if value != "" {
			e.Private = append(e.Private, audit.Field{Name: name, Value: value})
		}
	}
	public("kind", string(k.Kind))
	if k.Kind == Data { // its scopes are the organisation's own words
		private("scopes", strings.Join(k.Scopes, " "))
	} else {
		public("scopes", strings.Join(k.Scopes, " "))
	}
	public("owners", joined(k.Owners))
	public("expires_at", stamp(k.ExpiresAt))
	public("version", fmt.Sprint(k.Version))
	if k.Kind == Service {
		public("monthly_quota", quota(k.MonthlyQuota))
	}
	if k.MaxUses != nil {
		public("max_uses", fmt.Sprint(*k.MaxUses))
	}
	if k.Replaces != "" {
		public("replaces", k.Replaces)
	}
	private("name", k.Name)
	private("owner", k.GivenTo)
	private("rate_limits", rates(k.RateLimits))
	private("allowed_cidrs", networks(k.AllowedCIDRs))
	if !k.NotBefore.IsZero() {
		private("not_before", stamp(k.NotBefore))
	}
	if len(k.Resources) > 0 {
		b, _ := json.Marshal(k.Resources) // strings always encode
		private("resources", string(b))
	}
	if len(k.Metadata) > 0 {
		b, _ := json.Marshal(k.Metadata) // it came from JSON
		private("metadata", string(b))
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

func rates(limits []RateLimit) string {
	texts := make([]string, len(limits))
	for i, l := range limits {
		texts[i] = fmt.Sprintf("%s=%d/%s", l.Name, l.Limit, l.Window())
	}
	return strings.Join(texts, " ")
}

func networks(prefixes []netip.Prefix) string {
	texts := make([]string, len(prefixes))
	for i, p := range prefixes {
		texts[i] = p.String()
	}
	return strings.Join(texts, " ")
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}
