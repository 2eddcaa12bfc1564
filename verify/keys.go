package verify

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Code says what a key is good for at this moment. Only Valid lets anybody in.
type Code string

// The codes, in the order in which they are judged.
const (
	NotFound          Code = "NOT_FOUND" // no key of the asking organisation, whatever else it is
	KeyRevoked        Code = "REVOKED"
	KeyDisabled       Code = "DISABLED" // or not valid yet
	KeyExpired        Code = "EXPIRED"
	ForbiddenAddress  Code = "FORBIDDEN_ADDRESS"
	InsufficientScope Code = "INSUFFICIENT_SCOPE"
	RateLimited       Code = "RATE_LIMITED"
	UsageExceeded     Code = "USAGE_EXCEEDED"
	Valid             Code = "VALID"
)

// keyFacts are what the decision about a key is made from.
type keyFacts struct {
	now     time.Time
	request KeyRequest
	asked   []apikey.Query
	address netip.Addr
	cost    int64
	asker   *facts      // the service that asks, and its key
	key     *apikey.Use // nil if there is none
	unknown string      // what the log calls the text then
	spent   *tenantdb.SpentError
}

// keyVerdict is a code, with its reason as a sentence for a person.
type keyVerdict struct {
	code   Code
	reason string
}

// decideKey applies the rules in their fixed order. What a key has spent is known only once it was asked for in the
// database: until then it is decided as if it were enough.
func decideKey(f *keyFacts) keyVerdict {
	if f.key == nil {
		return keyVerdict{NotFound, "This is no key of your organisation"}
	}
	switch f.key.Status(f.now) {
	case apikey.Active:
	case apikey.Revoked:
		return keyVerdict{KeyRevoked, "The key has been revoked"}
	case apikey.Disabled:
		return keyVerdict{KeyDisabled, "The key is disabled"}
	case apikey.Expired:
		return keyVerdict{KeyExpired, "The key expired at " + f.key.ExpiresAt.UTC().Format(time.RFC3339)}
	case apikey.Pending:
		return keyVerdict{KeyDisabled, "The key is not valid before " + f.key.NotBefore.UTC().Format(time.RFC3339)}
	default:
		return keyVerdict{KeyDisabled, "The key is in no state that is known here"}
	}
	if !f.key.AllowedFrom(f.address) {
		return keyVerdict{ForbiddenAddress, "The key may not be used from this address"}
	}
	for _, q := range f.asked {
		if !q.Holds(f.key.Scopes) {
			return keyVerdict{InsufficientScope, "The key lacks required scopes: " + strings.Join(q.Missing(f.key.Scopes), ", ")}
		}
	}
	if f.spent == nil || f.cost == 0 {
		return keyVerdict{Valid, "The key is good"}
	}
	switch m, _ := f.key.Meter(f.spent.Subject); {
	case m.Window > 0 && f.tooDear():
		return keyVerdict{RateLimited, fmt.Sprintf("This takes %d, more than the rate limit ever allows: %s", f.cost, m)}
	case m.Window > 0:
		return keyVerdict{RateLimited, fmt.Sprintf("The rate limit is reached: %s", m)}
	}
	left := fmt.Sprintf("%d uses are", f.spent.Left)
	if f.spent.Left == 1 {
		left = "1 use is"
	}
	return keyVerdict{UsageExceeded, fmt.Sprintf("%s left, and this takes %d", left, f.cost)}
}

// tooDear reports whether what is asked for takes more than a meter allows in a whole window: waiting does not help.
func (f *keyFacts) tooDear() bool {
	m, _ := f.key.Meter(f.spent.Subject)
	return f.cost > m.Limit
}

// VerifyKey decides about a key that an organisation gave to somebody, counts the use and records it. Errors are problems:
// unauthenticated or denied for the asking key, unavailable if the decision could not be recorded.
func (r *Room) VerifyKey(ctx context.Context, who Asker, req KeyRequest) (*KeyAnswer, error) {
	f := &keyFacts{request: req, cost: 1, asker: &facts{address: who.Address, aboutKeys: true}}
	if err := f.read(); err != nil {
		return nil, err
	}
	var v keyVerdict
	done, err := r.conclude(ctx, decision{
		tenants: func() []tenantdb.TenantID { return []tenantdb.TenantID{who.Tenant} },
		make: func(ctx context.Context) ([]tenantdb.Draft, []tenantdb.Spend, error) {
			if err := r.gatherKey(ctx, f, who); err != nil {
				return nil, nil, err
			}
			v = decideKey(f)
			c := &conclusion{spends: f.spends(who.Tenant, v)}
			err := r.add(ctx, c, who.caller(), f.asker.service.head, f.event(v))
			return c.drafts, c.spends, err
		},
		spent: func(e *tenantdb.SpentError) error {
			if v.code == Valid && f.spent == nil {
				if _, ok := f.key.Meter(e.Subject); ok {
					f.spent = e
					return nil
				}
			}
			return f.asker.spent(e)
		},
	})
	if err != nil {
		return nil, err
	}
	if v.code == KeyRevoked {
		r.cfg.Keys.Tried(apikey.Identity{Tenant: who.Tenant, KeyID: f.key.ID})
	}
	if v.code == Valid {
		r.cfg.Keys.Used(apikey.Identity{Tenant: who.Tenant, KeyID: f.key.ID}, apikey.LastUse{At: f.now, Address: f.address}, true)
	}
	return f.answer(v, who, done), nil
}

// spends are the counters that the answer moves, or tells of: the key's, in the order of its meters; and those of the key that
// asks.
func (f *keyFacts) spends(t tenantdb.TenantID, v keyVerdict) []tenantdb.Spend {
	asker := f.asker.key.Spends(t, 1)
	if f.key == nil {
		return asker
	}
	out := f.key.Spends(t, max(f.cost, 1))
	for i := range out {
		out[i].Look = f.cost == 0 || v.code != Valid || f.spent != nil // what is denied spends nothing
	}
	for _, s := range asker {
		i := slices.IndexFunc(out, func(o tenantdb.Spend) bool { return o.Subject == s.Subject })
		switch { // keys of one family or identity have counters in common, and each counter is asked for once
		case i < 0:
			out = append(out, s)
		case out[i].Look:
			out[i] = s
		default:
			out[i].Amount, out[i].Limit = out[i].Amount+s.Amount, min(out[i].Limit, s.Limit)
		}
	}
	return out
}

// read reads what may be malformed in a request.
func (f *keyFacts) read() error {
	var wrong []problem.Field
	add := func(field, format string, args ...any) {
		wrong = append(wrong, problem.Field{Location: "body." + field, Message: fmt.Sprintf(format, args...)})
	}
	if f.request.Key == "" {
		add("key", "is required: the key that was presented to you")
	}
	if len(f.request.Scopes) > mostScopes {
		add("scopes", "must be at most %d", mostScopes)
	}
	if n := len(strings.Join(f.request.Scopes, "")); n > maxAsked {
		add("scopes", "must have at most %d bytes together, and have %d", maxAsked, n)
	}
	for i, s := range f.request.Scopes {
		q, err := apikey.ParseQuery(s)
		if err != nil {
			add(fmt.Sprintf("scopes[%d]", i), "%v", err)
			continue
		}
		if strings.TrimSpace(s) == "" { // every key would do, and whoever meant a scope and lost it must not find that out late
			add(fmt.Sprintf("scopes[%d]", i), "is empty: name a scope, or leave scopes out to ask for none")
		}
		f.asked = append(f.asked, q)
	}
	if c := f.request.Cost; c != nil {
		if f.cost = *c; f.cost < 0 || f.cost > mostCost {
			add("cost", "is not between 0 and %d", mostCost)
		}
	}
	if s := f.request.Address; s != "" {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" { // a zone means something on one machine only, and could be of any length
			add("address", "is no IP address")
		}
		f.address = a
	}
	if len(wrong) == 0 {
		return nil
	}
	p := problem.New(problem.Invalid, "The request does not fit POST /api/v1/keys/verify.")
	p.Fields = wrong
	return p
}

// The bounds of a question. All that is asked for is in its entry.
const (
	mostCost = 1_000_000
	maxAsked = 8 << 10 // bytes
)

// gatherKey collects what is known of who asks and of the key, both at one epoch, and refuses an asker that may not ask.
func (r *Room) gatherKey(ctx context.Context, f *keyFacts, who Asker) error {
	f.now = r.cfg.Now()
	f.asker.now = f.now
	if err := r.gatherAsker(ctx, f.asker, who); err != nil {
		return err
	}
	id, found, err := r.cfg.Keys.Find(ctx, who.Tenant, f.request.Key)
	if err != nil {
		return err
	}
	if f.key = nil; !found {
		return r.name(ctx, f, who)
	}
	for range 16 {
		var at *tenantState
		if at, f.key, err = r.registry.key(ctx, who.Tenant, id); err != nil {
			return unreadable(err)
		}
		if at == nil || f.key == nil { // the row is gone, as after a restore
			return r.name(ctx, f, who)
		}
		if at.head.Epoch == f.asker.service.head.Epoch {
			f.forgive()
			return nil
		}
		r.registry.drop(tenantdb.Head{Tenant: who.Tenant})
		if err := r.gatherAsker(ctx, f.asker, who); err != nil {
			return err
		}
	}
	return unreadable(errMoving)
}

// forgive forgets that a meter was spent which the key no longer has like that: somebody gave it more meanwhile.
func (f *keyFacts) forgive() {
	if f.spent == nil {
		return
	}
	if m, ok := f.key.Meter(f.spent.Subject); !ok || m.Limit != f.spent.Limit || m.Window != f.spent.Window {
		f.spent = nil
	}
}

// name is what the log calls a text that is no key of the organisation. It may be anybody's secret, and the SHA-256 of a
// key that is imported tomorrow, so what it is made with is not in the database.
func (r *Room) name(ctx context.Context, f *keyFacts, who Asker) (err error) {
	if f.unknown == "" {
		if f.unknown, err = r.cfg.Keys.NameOf(ctx, who.Tenant, f.request.Key); err != nil {
			return unreadable(err)
		}
	}
	return nil
}

// event says what was decided.
func (f *keyFacts) event(v keyVerdict) audit.Event {
	e := audit.Event{
		Type: "key.verified", Decision: string(v.code), Policy: policy.Version, Target: audit.Target{Kind: "key"},
		Private: []audit.Field{{Name: "reason", Value: v.reason}},
	}
	if v.code != Valid {
		e.Outcome = audit.Denied
	}
	if f.key != nil {
		e.Target.ID = f.key.ID
		e.Public = append(e.Public, audit.Field{Name: "cost", Value: fmt.Sprint(f.cost)})
	} else {
		e.Target.ID = f.unknown
	}
	if len(f.request.Scopes) > 0 {
		e.Private = append(e.Private, audit.Field{Name: "scopes_requested", Value: strings.Join(f.request.Scopes, "; ")})
	}
	if f.address.IsValid() {
		e.Private = append(e.Private, audit.Field{Name: "address", Value: f.address.String()})
	}
	return e
}
