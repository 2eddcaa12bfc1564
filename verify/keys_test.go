package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"math/big"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// askKey asks about a key as a service does, through the route.
func (s *side) askKey(t testing.TB, asker string, q any) doortest.Answer {
	t.Helper()
	return doortest.Call(t, s.api, doortest.Request{Method: "POST", Path: "/api/v1/keys/verify", Key: asker, Body: q})
}

// data makes a key that the service's organisation gives to somebody.
func (h *house) data(t testing.TB, n apikey.NewKey) (secret, id string) {
	t.Helper()
	n.Kind = apikey.Data
	return h.newKey(t, h.service, n)
}

// code asks with the house's key, and holds the answer to a code and what is left; -1 is null.
func (h *house) code(t testing.TB, s *side, q KeyRequest, c Code, left int64) doortest.Answer {
	t.Helper()
	a := s.askKey(t, h.key, q)
	remaining := int64(-1)
	if n, ok := a.Body["remaining"].(float64); ok {
		remaining = int64(n)
	}
	if a.Status != http.StatusOK || a.Body["code"] != string(c) || a.Body["valid"] != (c == Valid) || remaining != left {
		t.Errorf("%d %s\nwant %s with %d left", a.Status, a.Raw, c, left)
	}
	return a
}

// keysVerified is the entries of such answers in the service's log.
func (h *house) keysVerified(t testing.TB) []doortest.Entry {
	t.Helper()
	return h.OfType(t, h.service.Tenant(), "key.verified")
}

// used is what a counter of the service's organisation has counted.
func (h *house) used(t testing.TB, subject string) string {
	t.Helper()
	return h.Text(t, `SELECT used::text FROM avouch.counter WHERE tenant_id = $1 AND subject = $2`, h.service.Tenant(), subject)
}

func number(n int64) *int64 { return &n }

func per(name string, limit int64, window time.Duration) apikey.RateLimit {
	return apikey.RateLimit{Name: name, Limit: limit, Seconds: int64(window / time.Second)}
}

// another is a key like a real one, with parts of its own: nobody made it, and its checksum is right.
func another(like, id, secret string) string {
	body := like[:9] + id + "_" + secret
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum, rest := big.NewInt(int64(crc32.ChecksumIEEE([]byte(body)))), new(big.Int)
	var out [6]byte
	for i := range out {
		sum.DivMod(sum, big.NewInt(62), rest)
		out[5-i] = digits[rest.Int64()]
	}
	return body + string(out[:])
}

func idOf(key string) string     { return key[9:20] }
func secretOf(key string) string { return key[21:64] }

// unknownID has an id that nobody has, and wrongSecret the id of a key there is. Each n is another one.
func unknownID(like string, n int) string {
	return another(like, fmt.Sprintf("0%010d", n), secretOf(like))
}

func wrongSecret(like string, n int) string {
	return another(like, idOf(like), fmt.Sprintf("0%042d", n))
}

var ids = regexp.MustCompile(`"request_id":"[^"]*","audit":\{[^}]*\}`)

// TestNoKeyLooksLikeAnother: whatever is no key of the organisation gets one answer, whether it is another's, has the wrong
// secret, or is no key at all; and the log names it by what helps nobody to find it, or to test a guess.
func TestNoKeyLooksLikeAnother(t *testing.T) {
	t.Parallel()
	h := open(t)
	mine, _ := h.data(t, apikey.NewKey{})
	theirs, _ := h.newKey(t, h.owner, apikey.NewKey{Kind: apikey.Data})
	imported := "sk_live_of_another_service_0001"
	_, err := h.keys.Import(t.Context(), h.owner, []apikey.Foreign{{NewKey: apikey.NewKey{Name: "old"}, Hash: sha256.Sum256([]byte(imported))}})
	must(t, err)
	texts := map[string]string{
		"an unknown id": unknownID(mine, 1), "a wrong secret": wrongSecret(mine, 1), "another's": theirs, "another's owner key": h.ownerKey(t), "another's import": imported,
		"a wrong secret of another's": wrongSecret(theirs, 1), "mistyped": mine[:30] + strings.Map(func(c rune) rune { return c ^ 1 }, mine[30:31]) + mine[31:], "cut off": mine[:40], "one letter": "k", "no key": "correct horse battery staple",
		"a quote": `'; DROP TABLE avouch.api_key; --"\` + "\u2028<script>", "huge": strings.Repeat("k", 60<<10), "huge, ours": mine + strings.Repeat("k", 50<<10), "spaces": " " + mine,
	}
	theirsBefore := len(h.Entries(t, h.owner.Tenant()))
	const want = `{"valid":false,"code":"NOT_FOUND","reason":"This is no key of your organisation","key_id":null,"name":null,"kind":null,"owner":null,"scopes":[],"metadata":null,` +
		`"remaining":null,"rate_limits":[],"retry_at":null,"expires_at":null,IDS}`
	names, distinct := map[string]string{}, map[string]bool{}
	for what, text := range texts {
		for range 2 {
			a := h.askKey(t, h.key, KeyRequest{Key: text, Scopes: []string{"a"}, Cost: number(5), Address: "192.0.2.1"})
			if got := strings.TrimSpace(ids.ReplaceAllString(a.Raw, "IDS")); a.Status != http.StatusOK || got != want {
				t.Errorf("%s: %d %s", what, a.Status, got)
			}
			e := h.Last(t, h.service.Tenant())
			if e.Type != "key.verified" || e.Decision != "NOT_FOUND" || e.Outcome != audit.Denied || e.Target.Kind != "key" || len(e.Target.ID) != 26 || len(e.Public) != 0 {
				t.Errorf("%s: the log has %+v", what, e)
			}
			if before := names[text]; before != "" && before != e.Target.ID {
				t.Errorf("%s has two names", what)
			}
			names[text], distinct[e.Target.ID] = e.Target.ID, true
			sum := sha256.Sum256([]byte(text))
			for _, part := range []string{text[:min(len(text), 60)], hex.EncodeToString(sum[:]), string(sum[:])} {
				if len(part) > 1 && bytes.Contains(e.Body, []byte(part)) {
					t.Errorf("%s: the log holds it, or its hash", what)
				}
			}
		}
	}
	if len(distinct) != len(texts) || len(h.Entries(t, h.owner.Tenant())) != theirsBefore {
		t.Errorf("%d names of %d texts; the other's log grew by %d", len(distinct), len(texts), len(h.Entries(t, h.owner.Tenant()))-theirsBefore)
	}
	for what, q := range map[string]any{"empty": KeyRequest{}, "null": `{"key":null}`, "missing": `{}`} {
		if a := h.askKey(t, h.key, q); a.Status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", what, a.Status, a.Raw)
		}
	}
	if a := h.askKey(t, h.key, KeyRequest{Key: strings.Repeat("k", 70<<10)}); a.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %d", a.Status)
	}
	h.code(t, h.side, KeyRequest{Key: mine}, Valid, -1)
}

// ownerKey is the first key of a new organisation.
func (h *house) ownerKey(t testing.TB) string {
	t.Helper()
	made, err := h.orgs.Create(t.Context(), org.NewOrganisation{Name: "Third"})
	must(t, err)
	return made.OwnerKey.Expose()
}

// TestDeniedKeySpendsNothing: of every reason, through the route; and none of them is VALID in the log.
func TestDeniedKeySpendsNothing(t *testing.T) {
	t.Parallel()
	h := open(t)
	metered := func(n apikey.NewKey) apikey.NewKey {
		n.MaxUses, n.RateLimits = number(5), []apikey.RateLimit{per("hour", 9, time.Hour)}
		return n
	}
	made := func(n apikey.NewKey) string { key, _ := h.data(t, metered(n)); return key }
	after := func(do func(context.Context, tenantdb.Caller, string) (apikey.Key, error)) string {
		key, id := h.data(t, metered(apikey.NewKey{}))
		_, err := do(t.Context(), h.service, id)
		must(t, err)
		return key
	}
	cidr := []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}
	soon := h.clock.now().Add(time.Minute)
	keys := map[string]struct {
		key  string
		q    KeyRequest
		code Code
	}{
		"revoked":      {after(h.keys.Revoke), KeyRequest{}, KeyRevoked},
		"disabled":     {after(h.keys.Disable), KeyRequest{}, KeyDisabled},
		"expired":      {made(apikey.NewKey{ExpiresAt: soon}), KeyRequest{}, KeyExpired},
		"pending":      {made(apikey.NewKey{NotBefore: soon.Add(time.Hour)}), KeyRequest{}, KeyDisabled},
		"from nowhere": {made(apikey.NewKey{AllowedCIDRs: cidr}), KeyRequest{}, ForbiddenAddress},
		"elsewhere":    {made(apikey.NewKey{AllowedCIDRs: cidr}), KeyRequest{Address: "2001:db9::1"}, ForbiddenAddress},
		"without":      {made(apikey.NewKey{Scopes: []string{"docs:*"}}), KeyRequest{Scopes: []string{"docs:read", "mail:read OR mail:write"}}, InsufficientScope},
	}
	h.clock.forward(time.Minute)
	for what, c := range keys {
		c.q.Key = c.key
		a := h.code(t, h.side, c.q, c.code, 5)
		e := h.Last(t, h.service.Tenant())
		if id := idOf(c.key); e.Decision != string(c.code) || e.Outcome != audit.Denied || e.Target != (audit.Target{Kind: "key", ID: id}) || a.Body["key_id"] != id ||
			h.used(t, "uses:"+id) != "0" || h.used(t, "rate:"+id+":hour") != "0" {
			t.Errorf("%s: %+v; %s uses and %s of the rate are taken", what, e, h.used(t, "uses:"+id), h.used(t, "rate:"+id+":hour"))
		}
	}
	h.code(t, h.side, KeyRequest{Key: made(apikey.NewKey{AllowedCIDRs: cidr}), Address: "2001:db8:7::1"}, Valid, 4)
}

// TestKeyCosts: a use takes what it costs or nothing; who asks for 0 is told what is left.
func TestKeyCosts(t *testing.T) {
	t.Parallel()
	h := open(t)
	key, id := h.data(t, apikey.NewKey{MaxUses: number(5)})
	ask := func(cost int64, c Code, left int64) doortest.Answer {
		t.Helper()
		return h.code(t, h.side, KeyRequest{Key: key, Cost: &cost}, c, left)
	}
	ask(0, Valid, 5)
	ask(3, Valid, 2)
	if a := ask(3, UsageExceeded, 2); a.Body["reason"] != "2 uses are left, and this takes 3" {
		t.Error(a.Raw)
	}
	ask(mostCost, UsageExceeded, 2)
	ask(0, Valid, 2)
	h.code(t, h.side, KeyRequest{Key: key}, Valid, 1)
	ask(1, Valid, 0)
	ask(0, Valid, 0)
	ask(1, UsageExceeded, 0)
	if h.used(t, "uses:"+id) != "5" {
		t.Errorf("%s uses are taken", h.used(t, "uses:"+id))
	}
	k, err := h.keys.Get(t.Context(), h.service, id)
	must(t, err)
	change := func(uses int64) {
		k.Key, err = h.keys.Update(t.Context(), h.service, id, web.ETag(k.Version), apikey.Change{MaxUses: &uses})
		must(t, err)
	}
	change(7)
	ask(2, Valid, 0)
	change(4) // less than what is used
	ask(0, Valid, 0)
	ask(1, UsageExceeded, 0)
	for body, status := range map[string]int{`-1`: 400, `1000001`: 400, `1.5`: 400, `"1"`: 400, `1e2`: 400, `9223372036854775808`: 400, `null`: 200} {
		if a := h.askKey(t, h.key, `{"key":"`+key+`","cost":`+body+`}`); a.Status != status {
			t.Errorf("cost %s: %d %s", body, a.Status, a.Raw)
		}
	}
}

// TestKeyUsesExactly: 64 callers on two servers; as many succeed as there are uses, each is told another rest, and the log
// says so too.
func TestKeyUsesExactly(t *testing.T) {
	t.Parallel()
	h := open(t)
	other := h.server(t, h.Another(t))
	const callers, times, uses, rate = 64, 3, 50, 60
	key, _ := h.data(t, apikey.NewKey{MaxUses: number(uses), RateLimits: []apikey.RateLimit{per("hour", rate, time.Hour)}})
	var mu sync.Mutex
	var left []int
	exceeded := 0
	var all sync.WaitGroup
	for i := range callers {
		s := []*side{h.side, other}[i%2]
		all.Go(func() {
			for range times {
				a := s.askKey(t, h.key, KeyRequest{Key: key})
				mu.Lock()
				switch n, _ := a.Body["remaining"].(float64); a.Body["code"] {
				case "VALID":
					left = append(left, int(n))
					if r := a.Body["rate_limits"].([]any)[0].(map[string]any)["remaining"]; r != n+rate-uses {
						t.Errorf("of another moment: %s", a.Raw)
					}
				case "USAGE_EXCEEDED":
					exceeded++
				default:
					t.Errorf("%d %s", a.Status, a.Raw)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(left)
	for i, n := range left {
		if n != i {
			t.Fatalf("the rests are %v", left)
		}
	}
	entries := h.keysVerified(t)
	allowed := slices.DeleteFunc(slices.Clone(entries), func(e doortest.Entry) bool { return e.Decision != "VALID" })
	if len(left) != uses || exceeded != callers*times-uses || len(entries) != callers*times || len(allowed) != uses {
		t.Errorf("%d valid, %d exceeded; the log has %d, of which %d valid", len(left), exceeded, len(entries), len(allowed))
	}
}

// TestWhoMayAskAboutKeys: a key in force with the capability verify, which is not a data key; a metered one pays for each
// answer, and for nothing that is no answer.
func TestWhoMayAskAboutKeys(t *testing.T) {
	t.Parallel()
	h := open(t)
	key, _ := h.data(t, apikey.NewKey{})
	ask := func(what, asker string, status int) {
		t.Helper()
		if a := h.askKey(t, asker, KeyRequest{Key: key}); a.Status != status || status != http.StatusOK && a.Body["valid"] != nil {
			t.Errorf("%s: %d %s", what, a.Status, a.Raw)
		}
	}
	service := func(n apikey.NewKey) string { k, _ := h.newKey(t, h.service, n); return k }
	everything, _ := h.newKey(t, h.service, apikey.NewKey{Kind: apikey.Owner})
	ask("an owner key", everything, http.StatusOK)
	for scope, status := range map[string]int{"verify": 200, "read:identity": 403, "audit:write": 403, "keys:read": 403} {
		ask("a key for "+scope, service(apikey.NewKey{Scopes: []string{scope}}), status)
	}
	ask("nobody", "", noKey)
	ask("a data key", key, noKey)
	all, _ := h.data(t, apikey.NewKey{Scopes: []string{"*", "verify"}})
	ask("a data key with a scope of that name", all, noKey)
	ask("a wrong secret", wrongSecret(h.key, 1), noKey)
	ask("a key of elsewhere", service(apikey.NewKey{AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}), noKey)
	ask("a key from here", service(apikey.NewKey{AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}), http.StatusOK)
	gone, id := h.newKey(t, h.service, apikey.NewKey{})
	_, err := h.keys.Revoke(t.Context(), h.service, id)
	must(t, err)
	ask("a revoked key", gone, noKey)

	metered := service(apikey.NewKey{MaxUses: number(3)})
	ask("one of three", metered, http.StatusOK)
	if a := h.askKey(t, metered, KeyRequest{Key: key, Cost: number(-1)}); a.Status != http.StatusBadRequest {
		t.Error(a.Raw)
	}
	if a := h.askKey(t, metered, KeyRequest{Key: "none"}); a.Body["code"] != "NOT_FOUND" || a.Body["remaining"] != nil {
		t.Error(a.Raw)
	}
	ask("three of three", metered, http.StatusOK)
	before := len(h.keysVerified(t))
	ask("four of three", metered, http.StatusTooManyRequests)
	rated := service(apikey.NewKey{RateLimits: []apikey.RateLimit{per("hour", 1, time.Hour)}})
	ask("one an hour", rated, http.StatusOK)
	a := h.askKey(t, rated, KeyRequest{Key: key})
	if n := a.Header.Get("Retry-After"); a.Status != http.StatusTooManyRequests || len(n) != 4 {
		t.Errorf("two an hour: %d, Retry-After %q", a.Status, n)
	}
	if n := len(h.keysVerified(t)) - before; n != 1 {
		t.Errorf("%d entries of one answer", n)
	}
	must(t, h.orgs.Suspend(t.Context(), tenantdb.System(h.service.Tenant(), "operator"), "unpaid"))
	ask("a suspended organisation", h.key, noKey)
}

// TestKeyAsksAboutItself: it pays twice, and is told what it has after both; what it cannot pay is not given.
func TestKeyAsksAboutItself(t *testing.T) {
	t.Parallel()
	h := open(t)
	key, id := h.newKey(t, h.service, apikey.NewKey{MaxUses: number(4)})
	if a := h.askKey(t, key, KeyRequest{Key: key}); a.Body["code"] != "VALID" || a.Body["remaining"] != 2.0 {
		t.Error(a.Raw)
	}
	if a := h.askKey(t, key, KeyRequest{Key: key, Cost: number(2)}); a.Body["code"] != "USAGE_EXCEEDED" || h.used(t, "uses:"+id) != "3" {
		t.Errorf("%s; %s are taken", a.Raw, h.used(t, "uses:"+id))
	}
	if a := h.askKey(t, key, KeyRequest{Key: key, Cost: number(0)}); a.Body["code"] != "VALID" || a.Body["remaining"] != 0.0 {
		t.Error(a.Raw)
	}
	if a := h.askKey(t, key, KeyRequest{Key: key, Cost: number(0)}); a.Status != http.StatusTooManyRequests {
		t.Error(a.Raw)
	}
}

// TestQueriesAboutKeys: what a key must be good for is asked as one text or several, with AND, OR and parentheses.
func TestQueriesAboutKeys(t *testing.T) {
	t.Parallel()
	h := open(t)
	key, _ := h.data(t, apikey.NewKey{Scopes: []string{"docs:*", "mail:read"}})
	for scopes, want := range map[string]string{
		`"docs:eu:read"`: "VALID", `"docs:*"`: "VALID", `["docs:a","mail:read"]`: "VALID", `"mail:write OR (docs:a AND mail:read)"`: "VALID", `[]`: "VALID", `null`: "VALID",
		`"mail:*"`: "INSUFFICIENT_SCOPE", `"*"`: "INSUFFICIENT_SCOPE", `["docs:a","mail:write"]`: "INSUFFICIENT_SCOPE", `"docs:a AND mail:write"`: "INSUFFICIENT_SCOPE",
		`""`: "", `[""]`: "", `["docs:a"," "]`: "", `"docs:a AND"`: "", `["docs:a","("]`: "", `"docs a"`: "", `5`: "",
	} {
		a := h.askKey(t, h.key, `{"key":"`+key+`","scopes":`+scopes+`}`)
		if want == "" && a.Status != http.StatusBadRequest || want != "" && a.Body["code"] != want {
			t.Errorf("%s: %d %s", scopes, a.Status, a.Raw)
		}
		if reason := a.Body["reason"]; want == "INSUFFICIENT_SCOPE" && !strings.HasPrefix(fmt.Sprint(reason), "The key lacks required scopes: ") {
			t.Errorf("%s: %v", scopes, reason)
		}
	}
}

// TestTriedKeysAreAtRisk: a key that was given to somebody and revoked, and is still presented, is in the report of risks.
func TestTriedKeysAreAtRisk(t *testing.T) {
	t.Parallel()
	h := open(t)
	tried, id := h.data(t, apikey.NewKey{})
	idle, idleID := h.data(t, apikey.NewKey{})
	for key, id := range map[string]string{tried: id, idle: idleID} {
		h.code(t, h.side, KeyRequest{Key: key}, Valid, -1)
		_, err := h.keys.Revoke(t.Context(), h.service, id)
		must(t, err)
	}
	for range 2 {
		h.code(t, h.side, KeyRequest{Key: tried}, KeyRevoked, -1)
	}
	must(t, h.keys.Flush(t.Context()))
	found, _, err := h.keys.Risks(t.Context(), h.service, nil, 100)
	must(t, err)
	var atRisk []string
	for _, k := range found {
		for _, r := range k.Risks {
			if r.Code == "revoked_in_use" {
				atRisk = append(atRisk, k.ID)
			}
		}
	}
	if !slices.Equal(atRisk, []string{id}) {
		t.Errorf("revoked and in use are %v, want %s", atRisk, id)
	}
}
