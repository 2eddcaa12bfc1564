package verify

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// TestKeyRates: a use must be within all of a key's rate limits, takes from all or none, and is told when the one that is
// reached starts anew. A rate is told before uses that are spent too.
func TestKeyRates(t *testing.T) {
	t.Parallel()
	h := open(t)
	key, id := h.data(t, apikey.NewKey{MaxUses: number(4), RateLimits: []apikey.RateLimit{
		per("hour", 5, time.Hour), per("day", 3, 24*time.Hour),
	}})
	rates := func(a doortest.Answer) string { b, _ := json.Marshal(a.Body["rate_limits"]); return string(b) }
	left := func(hour, day int) string {
		return fmt.Sprintf(`[{"limit":5,"name":"hour","of":"key","remaining":%d},{"limit":3,"name":"day","of":"key","remaining":%d}]`, hour, day)
	}
	if a := h.code(t, h.side, KeyRequest{Key: key, Cost: number(2)}, Valid, 2); rates(a) != left(3, 1) || a.Body["retry_at"] != nil {
		t.Error(a.Raw)
	}
	begun := time.Now()
	a := h.code(t, h.side, KeyRequest{Key: key, Cost: number(2)}, RateLimited, 2)
	at, err := time.Parse(time.RFC3339, fmt.Sprint(a.Body["retry_at"]))
	if must(t, err); at.Before(begun.Add(23*time.Hour)) || at.After(begun.Add(24*time.Hour)) || rates(a) != left(3, 1) ||
		a.Body["reason"] != "The rate limit is reached: day, which is 3 in a day" {
		t.Error(a.Raw)
	}
	if a := h.code(t, h.side, KeyRequest{Key: key}, Valid, 1); rates(a) != left(2, 0) {
		t.Error(a.Raw)
	}
	if a := h.code(t, h.side, KeyRequest{Key: key, Cost: number(0)}, Valid, 1); rates(a) != left(2, 0) {
		t.Error(a.Raw)
	}
	if a := h.code(t, h.side, KeyRequest{Key: key, Cost: number(2)}, RateLimited, 1); a.Body["retry_at"] != nil { // of uses there is only one, too
		t.Errorf("it says to come again for what the uses do not suffice for: %s", a.Raw)
	}
	forward := func(subject string, d time.Duration) {
		h.Admin(t, `UPDATE avouch.counter SET period = period - $3 WHERE tenant_id = $1 AND subject = $2`, h.service.Tenant(), subject, d.Milliseconds())
	}
	forward("rate:"+id+":day", 24*time.Hour)
	if a := h.code(t, h.side, KeyRequest{Key: key, Cost: number(2)}, UsageExceeded, 1); rates(a) != left(2, 3) || a.Body["reason"] != "1 use is left, and this takes 2" {
		t.Error(a.Raw)
	}
	if a := h.code(t, h.side, KeyRequest{Key: key}, Valid, 0); rates(a) != left(1, 2) {
		t.Error(a.Raw)
	}
	h.code(t, h.side, KeyRequest{Key: key}, UsageExceeded, 0)
	if a := h.code(t, h.side, KeyRequest{Key: key, Cost: number(6)}, RateLimited, 0); a.Body["retry_at"] != nil || !strings.HasPrefix(fmt.Sprint(a.Body["reason"]), "This takes 6, more than the rate limit ever allows") {
		t.Errorf("it says to come again for what will never fit: %s", a.Raw)
	}
	if n := len(h.keysVerified(t)); n != 9 {
		t.Errorf("%d entries", n)
	}
}

// TestRatesThatRefuseTogether: who comes when he was told to is let in.
func TestRatesThatRefuseTogether(t *testing.T) {
	t.Parallel()
	h := open(t)
	key, _ := h.data(t, apikey.NewKey{RateLimits: []apikey.RateLimit{per("minute", 3, time.Minute), per("hour", 2, time.Hour)}})
	h.code(t, h.side, KeyRequest{Key: key, Cost: number(2)}, Valid, -1)
	begun := time.Now()
	a := h.code(t, h.side, KeyRequest{Key: key, Cost: number(2)}, RateLimited, -1)
	at, err := time.Parse(time.RFC3339, fmt.Sprint(a.Body["retry_at"]))
	if must(t, err); at.Before(begun.Add(59*time.Minute)) || at.After(begun.Add(time.Hour)) {
		t.Errorf("the minute's end is told, not the hour's: %s", a.Raw)
	}
	if a := h.code(t, h.side, KeyRequest{Key: key, Cost: number(3)}, RateLimited, -1); a.Body["retry_at"] != nil {
		t.Errorf("it says to come again for what the hour never allows: %s", a.Raw)
	}
}

// TestOwnersShareRates: the keys of one owner share its identity's limits, those of others do not, and a limit that is changed
// holds at once on another server.
func TestOwnersShareRates(t *testing.T) {
	t.Parallel()
	h := open(t)
	other := h.server(t, h.Another(t))
	put := func(limit int64) {
		_, err := h.keys.PutOwner(t.Context(), h.service, "", apikey.KeyOwner{Owner: "ada", RateLimits: []apikey.RateLimit{per("hour", limit, time.Hour)}})
		must(t, err)
	}
	put(3)
	one, _ := h.data(t, apikey.NewKey{GivenTo: "ada"})
	two, _ := h.data(t, apikey.NewKey{GivenTo: "ada", MaxUses: number(9)})
	bob, _ := h.data(t, apikey.NewKey{GivenTo: "bob"})
	h.code(t, h.side, KeyRequest{Key: one}, Valid, -1)
	h.code(t, other, KeyRequest{Key: two}, Valid, 8)
	if a := h.code(t, h.side, KeyRequest{Key: one}, Valid, -1); a.Body["owner"] != "ada" {
		t.Error(a.Raw)
	}
	if a := h.code(t, other, KeyRequest{Key: two}, RateLimited, 8); a.Body["reason"] != "The rate limit is reached: hour, which is 3 in an hour for all keys of its owner together" ||
		!strings.Contains(string(a.Raw), `"of":"owner"`) {
		t.Error(a.Raw)
	}
	h.code(t, h.side, KeyRequest{Key: one}, RateLimited, -1)
	h.code(t, h.side, KeyRequest{Key: bob}, Valid, -1)
	put(4)
	h.code(t, other, KeyRequest{Key: two}, Valid, 7)
	h.code(t, other, KeyRequest{Key: one}, RateLimited, -1)
	put(1)
	h.code(t, other, KeyRequest{Key: one}, RateLimited, -1)
	_, err := h.keys.DeleteOwner(t.Context(), h.service, "ada")
	must(t, err)
	h.code(t, other, KeyRequest{Key: one}, Valid, -1)
}
