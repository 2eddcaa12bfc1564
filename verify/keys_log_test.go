package verify

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// TestKeyEntries: an answer's evidence is where its entry stands, which says what was decided in the open, and what the caller
// wrote only to those who may open private fields.
func TestKeyEntries(t *testing.T) {
	t.Parallel()
	h := open(t)
	key, id := h.data(t, apikey.NewKey{Scopes: []string{"docs:read"}, GivenTo: "ada@example.com"})
	for _, q := range []KeyRequest{
		{Key: key, Scopes: []string{"docs:read", "secret:plans OR docs:read"}, Cost: number(7), Address: "192.0.2.9"}, {Key: key, Scopes: []string{"secret:plans"}}, {Key: "none"},
	} {
		a := doortest.Call(t, h.api, doortest.Request{Method: "POST", Path: "/api/v1/keys/verify", Key: h.key, Body: q, Header: map[string]string{"X-Request-Id": "mine-1"}})
		e := h.Last(t, h.service.Tenant())
		leaf := audit.Leaf(e.Body)
		evidence := a.Body["audit"].(map[string]any)
		if evidence["seq"] != float64(e.Seq) || evidence["leaf"] != hex.EncodeToString(leaf[:]) || evidence["log"] != e.Log.String() || len(evidence) != 3 ||
			a.Body["request_id"] != e.Request.String() {
			t.Errorf("the evidence of %s is %v, and the entry %d", a.Raw, evidence, e.Seq)
		}
		if e.Type != "key.verified" || e.Decision != a.Body["code"] || (e.Outcome == audit.Denied) == (e.Decision == "VALID") || e.Policy != policy.Version ||
			e.Actor != (audit.Actor{Kind: audit.ActorKey, ID: idOf(h.key)}) || e.Private["reason"] != a.Body["reason"] || e.Private["caller_request_id"] != "mine-1" ||
			e.Private["scopes_requested"] != strings.Join(q.Scopes, "; ") || e.Private["address"] != q.Address {
			t.Errorf("%+v", e)
		}
		if q.Key == key && (e.Target.ID != id || e.Field("cost") != fmt.Sprint(max(1, ptr(q.Cost)))) {
			t.Errorf("%+v", e)
		}
		for _, words := range []string{"docs", "secret", "192.0.2.9", "ada@", key[21:], "mine-1"} {
			if strings.Contains(string(e.Body), words) {
				t.Errorf("the entry holds %s in the open", words)
			}
		}
	}
}

func ptr(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// TestGoldenKeyAnswers holds the answers as programs of others read them.
func TestGoldenKeyAnswers(t *testing.T) {
	t.Parallel()
	h := open(t)
	full, fullID := h.data(t, apikey.NewKey{
		Scopes: []string{"docs:*"}, GivenTo: "ada", MaxUses: number(3), Metadata: map[string]any{"plan": "pro", "seats": 5}, ExpiresAt: h.clock.now().Add(24 * time.Hour),
		RateLimits: []apikey.RateLimit{per("minute", 2, time.Minute), per("day", 9, 24*time.Hour)},
	})
	plain, plainID := h.data(t, apikey.NewKey{NeverExpires: true})
	var got strings.Builder
	show := func(what string, q KeyRequest) {
		r := h.askKey(t, h.key, q)
		var pretty bytes.Buffer
		must(t, json.Indent(&pretty, []byte(r.Raw), "", "  "))
		evidence := r.Body["audit"].(map[string]any)
		names := []string{fullID, "FULL", plainID, "PLAIN", r.Body["request_id"].(string), "REQUEST", evidence["log"].(string), "LOG", evidence["leaf"].(string), "LEAF"}
		for _, at := range []string{"expires_at", "retry_at"} {
			if s, ok := r.Body[at].(string); ok {
				names = append(names, s, "WHEN")
				names = append(names, s[:19]+"Z", "WHEN") // in the reason, to the second
			}
		}
		text := regexp.MustCompile(`"seq": \d+`).ReplaceAllString(strings.NewReplacer(names...).Replace(pretty.String()), `"seq": 0`)
		fmt.Fprintf(&got, "== %s\n%s\n", what, strings.TrimSpace(text))
	}
	show("valid", KeyRequest{Key: full, Scopes: []string{"docs:read"}})
	show("valid, of no limits", KeyRequest{Key: plain})
	show("asked without counting", KeyRequest{Key: full, Cost: number(0)})
	show("too dear", KeyRequest{Key: full, Cost: number(2)})
	show("valid again", KeyRequest{Key: full})
	show("rate limited", KeyRequest{Key: full})
	h.Admin(t, `UPDATE avouch.counter SET period = period - 60000 WHERE subject LIKE 'rate:%:minute'`)
	show("too dear for the uses", KeyRequest{Key: full, Cost: number(2)})
	show("insufficient scope", KeyRequest{Key: plain, Scopes: []string{"docs:read"}})
	show("not found", KeyRequest{Key: "none"})
	_, err := h.keys.Disable(t.Context(), h.service, plainID)
	must(t, err)
	show("disabled", KeyRequest{Key: plain})
	_, err = h.keys.Revoke(t.Context(), h.service, plainID)
	must(t, err)
	show("revoked", KeyRequest{Key: plain})
	h.clock.forward(24 * time.Hour)
	show("expired", KeyRequest{Key: full})
	const golden = "testdata/keyanswers.golden"
	if *update {
		must(t, os.WriteFile(golden, []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if got.String() != string(want) {
		t.Errorf("the answers are not what they were:\n%s", got.String())
	}
}
