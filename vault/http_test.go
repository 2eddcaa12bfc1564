package vault

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// wire is the room's routes, with callers by their keys, and all that was answered.
type wire struct {
	*house
	api      http.Handler
	callers  map[string]func() tenantdb.Caller
	answered strings.Builder
}

func newWire(t *testing.T) *wire {
	t.Helper()
	w := &wire{house: newHouse(t), callers: map[string]func() tenantdb.Caller{}}
	w.callers["boss"] = w.fresh
	proves := func(r *http.Request, _ web.RequestMeta) (tenantdb.Caller, error) {
		c := w.callers[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
		if c == nil {
			return tenantdb.Caller{}, problem.New(problem.Unauthenticated, "Nobody.")
		}
		return c(), nil
	}
	w.cfg.Authenticate = func(r *http.Request, meta web.RequestMeta, _ string) (tenantdb.Caller, error) { return proves(r, meta) }
	api := w.API(proves)
	w.Routes(api)
	w.api = api
	return w
}

func (w *wire) call(t *testing.T, key, method, path string, body any, header ...string) doortest.Answer {
	t.Helper()
	q := doortest.Request{Method: method, Path: "/api/v1/vault/" + path, Key: key, Body: body, Header: map[string]string{}}
	for k := 0; k+1 < len(header); k += 2 {
		q.Header[header[k]] = header[k+1]
	}
	a := doortest.Call(t, w.api, q)
	fmt.Fprintf(&w.answered, "%s %s %v %s\n", method, path, a.Header, a.Raw)
	return a
}

func (w *wire) want(t *testing.T, status int, key, method, path string, body any, header ...string) doortest.Answer {
	t.Helper()
	a := w.call(t, key, method, path, body, header...)
	if a.Status != status {
		t.Fatalf("%s %s: %d %s", method, path, a.Status, a.Raw)
	}
	return a
}

// forms are the ways in which a seed could be written.
func forms(seed []byte) []string {
	all := []string{string(seed), hex.EncodeToString(seed), strings.ToUpper(hex.EncodeToString(seed))}
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		all = append(all, e.EncodeToString(seed))
	}
	b := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(seed)
	return append(all, b, strings.ToLower(b))
}

// TestWire goes through all routes; no answer of any of them holds the seed, in any form, but that of the export.
func TestWire(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	b32 := base32.StdEncoding.EncodeToString(rfcKey)
	made := w.want(t, 201, "boss", "POST", "items", map[string]any{"name": "AWS root", "type": "totp", "secret": strings.ToLower(b32[:4]) + " " + b32[4:], "digits": 8, "listed": true})
	item := "items/" + made.Body["item_id"].(string)
	if made.Header.Get("Location") != "/api/v1/vault/"+item || made.Body["granted"] != "code" || made.Body["created_by"] != actorOf(w.boss.Actor()).String() {
		t.Errorf("made: %s, %s", made.Header, made.Raw)
	}
	got := w.want(t, 200, "boss", "GET", item+"/code", nil)
	if got.Header.Get("Cache-Control") != "no-store" || len(got.Body["code"].(string)) != 8 || got.Body["counter"] != nil || got.Body["next_at"] == nil {
		t.Errorf("a code: %s", got.Raw)
	}
	p := w.member(t)
	w.callers["member"] = p.caller
	w.want(t, 200, "member", "GET", item, nil)
	w.want(t, 403, "member", "GET", item+"/code", nil)
	w.want(t, 403, "member", "POST", item+"/code", nil)
	w.want(t, 401, "nobody", "POST", item+"/code", nil)
	w.want(t, 404, "boss", "POST", "items/none/code", nil)
	w.want(t, 400, "boss", "POST", item+"/code", nil, "Idempotency-Key", strings.Repeat("k", 256))
	asked := w.want(t, 201, "member", "POST", item+"/requests", map[string]any{"reason": "The pager"})
	request := "requests/" + asked.Body["request_id"].(string)
	w.want(t, 403, "member", "POST", request+"/approve", nil)
	w.want(t, 200, "boss", "POST", request+"/approve", nil)
	if list := w.want(t, 200, "boss", "GET", "requests?state=approved", nil); len(list.Body["requests"].([]any)) != 1 || !strings.Contains(list.Raw, "The pager") {
		t.Errorf("requests: %s", list.Raw)
	}
	w.want(t, 200, "member", "POST", item+"/code", nil)
	w.want(t, 200, "member", "POST", request+"/withdraw", nil)
	w.want(t, 403, "member", "POST", item+"/code", nil)
	grant := w.want(t, 201, "boss", "POST", item+"/grants", map[string]any{"person_id": p.id.String(), "level": "seed"})
	w.want(t, 400, "boss", "POST", item+"/grants", map[string]any{"person_id": p.id.String(), "group_id": "x"})
	named := func(more string, value any) map[string]any {
		return map[string]any{"items": []any{made.Body["item_id"]}, "reason": "r", more: value}
	}
	for _, c := range []struct {
		path, says string
		body       map[string]any
	}{
		{item + "/grants", "This cannot be granted. body.person_id: one of person_id, group_id, agent_id and key_id must be there, and no other", map[string]any{}},
		{"export", "This cannot be exported. body.recipients: recipient 1 is no public key of age (age1...)", named("recipients", []string{"age1bad"})},
		{"export", "This cannot be exported. body.passphrase: a passphrase has at least 12 characters", named("passphrase", "short")},
		{"export", "This cannot be exported. body.clear: choose one of recipients, a passphrase, and no encryption", named("clear", false)},
		{"import", "It cannot be imported. body.data: is not base64", map[string]any{"data": "!", "encoding": "base64"}},
		{"items", "The item is not one that can be kept. body.policy.fetch: is of secrets alone: totp gives codes", map[string]any{"name": "x", "type": "totp", "secret": b32, "policy": fetchAt("api.example.com")}},
	} {
		if got := saysOf(w.want(t, 400, "boss", "POST", c.path, c.body)); got != c.says {
			t.Errorf("%s: %s, want %s", c.path, got, c.says)
		}
	}
	w.want(t, 200, "boss", "GET", item+"/grants", nil)
	w.want(t, 403, "member", "GET", item+"/grants", nil) // it is listed
	changed := w.want(t, 200, "boss", "PATCH", item, map[string]any{"folder": "cloud", "policy": map[string]any{"uses": "once_each"}}, "If-Match", made.Header.Get("ETag"))
	if changed.Body["name"] != "AWS root" || changed.Body["folder"] != "cloud" || changed.Header.Get("ETag") == made.Header.Get("ETag") {
		t.Errorf("changed: %s", changed.Raw)
	}
	if stale := w.call(t, "boss", "PATCH", item, map[string]any{"folder": "x"}, "If-Match", made.Header.Get("ETag")); stale.Status != http.StatusPreconditionFailed {
		t.Errorf("a change of an older version: %d %s", stale.Status, stale.Raw)
	}
	w.want(t, 200, "boss", "GET", "items?folder=cloud&limit=1", nil)
	w.want(t, 409, "boss", "POST", item+"/resync", map[string]any{"counter": 1})
	uses := w.want(t, 200, "boss", "GET", item+"/uses?limit=1", nil)
	if uses.Body["next_before"] == nil || len(uses.Body["uses"].([]any)) != 1 {
		t.Errorf("uses: %s", uses.Raw)
	}
	w.want(t, 200, "boss", "GET", "people/"+p.id.String()+"/report", nil)
	w.want(t, 403, "member", "GET", "people/"+p.id.String()+"/report", nil)
	data := "otpauth://totp/AWS:root?secret=" + b32 + "&digits=8"
	if in := w.want(t, 200, "boss", "POST", "import", map[string]any{"data": data, "dry_run": true}); in.Body["new"] != 0.0 || !strings.Contains(in.Raw, `"duplicate":true`) {
		t.Errorf("import: %s", in.Raw)
	}
	w.want(t, 400, "boss", "POST", "import", map[string]any{"data": data + "!", "format": "qr"})
	w.want(t, 400, "boss", "POST", "import", map[string]any{"data": data + "!", "format": "uri"})
	if a := w.want(t, 400, "boss", "POST", "import", map[string]any{"data": data, "more": []any{map[string]any{"data": data}, map[string]any{"data": "!", "encoding": "base64"}}}); !strings.Contains(a.Raw, "more[1].data") {
		t.Errorf("import: %s", a.Raw)
	}
	if in := w.want(t, 200, "boss", "POST", "import", map[string]any{"data": data, "dry_run": true, "more": []any{map[string]any{"data": base64.StdEncoding.EncodeToString([]byte(data)), "encoding": "base64"}}}); strings.Count(in.Raw, `"duplicate":true`) != 2 {
		t.Errorf("import of two: %s", in.Raw)
	}
	for _, body := range []map[string]any{
		{"name": "x", "type": "totp", "secret": b32 + "1"}, {"name": "x", "secret": b32}, {"name": "x", "uri": data, "secret": b32}, {"name": "x", "uri": data, "type": "hotp"},
		{"name": "", "type": "secret", "secret": string(rfcKey)}, {"name": "x", "type": "codes", "codes": []string{string(rfcKey), ""}}, {"name": "x", "uri": strings.Replace(data, "totp", "motp", 1)},
	} {
		w.want(t, 400, "boss", "POST", "items", body)
	}
	w.want(t, 200, "boss", "PUT", item+"/secret", map[string]any{"secret": b32, "digits": 6})
	w.want(t, 200, "boss", "POST", item+"/grants/"+grant.Body["grant_id"].(string)+"/revoke", nil)
	w.want(t, 403, "member", "POST", "export", map[string]any{"items": []any{made.Body["item_id"]}, "reason": "r", "clear": true})
	w.want(t, 403, "boss", "POST", "export", map[string]any{"items": []any{made.Body["item_id"]}, "reason": "r", "clear": true})
	for _, form := range forms(rfcKey) {
		if strings.Contains(w.answered.String(), form) || strings.Contains(w.Logged(), form) {
			t.Errorf("an answer, or the server's log, holds the seed as %s", form)
		}
	}
	w.want(t, 201, "boss", "POST", item+"/grants", map[string]any{"person_id": p.id.String(), "level": "seed"})
	out := w.want(t, 200, "member", "POST", "export", map[string]any{"items": []any{made.Body["item_id"]}, "format": "uri", "reason": "r", "clear": true})
	if !strings.Contains(out.Body["data"].(string), forms(rfcKey)[7]) || out.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("the export holds no seed: %s", out.Raw)
	}
	w.want(t, 204, "boss", "DELETE", item, nil)
	w.want(t, 404, "member", "GET", item, nil)
}

// fetchAt is a policy of requests as JSON has it.
func fetchAt(host string) map[string]any {
	return map[string]any{"fetch": map[string]any{"hosts": []string{host}, "header": "Authorization", "value": "Bearer {secret}"}}
}

// saysOf is all that a problem document says.
func saysOf(a doortest.Answer) string {
	says := fmt.Sprint(a.Body["detail"])
	all, _ := a.Body["errors"].([]any)
	for _, f := range all {
		says += fmt.Sprintf(" %v: %v", f.(map[string]any)["location"], f.(map[string]any)["message"])
	}
	return says
}

// TestUnfitUse: a request that could not be sent by any policy is 400 and names what is wrong with it, as it is asked for; what the policy
// does not allow is 403, and says what may be asked for.
func TestUnfitUse(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	policy := fetchAt("api.example.com")
	policy["fetch"].(map[string]any)["reduce"] = map[string]any{"pointers": []string{"/login"}}
	made := w.want(t, 201, "boss", "POST", "items", map[string]any{"name": "API", "type": "secret", "secret": apiToken, "policy": policy})
	path := "items/" + made.Body["item_id"].(string) + "/fetch"
	const at = "https://api.example.com/"
	for says, body := range map[string]map[string]any{
		"body.url: it is required":                    {"method": "GET"},
		"body.url: it is not written like https://":   {"url": "api.example.com/repos/acme"},
		"body.reduce: the pointer \"nope\" does not":  {"url": at, "reduce": map[string]any{"pointers": []string{"nope"}}},
		"body.header: \"authorization\" is where the": {"url": at, "header": map[string]string{"authorization": "x"}},
		"body.body: a request by GET has none":        {"url": at, "body": []byte("x")},
	} {
		if got := saysOf(w.want(t, 400, "boss", "POST", path, body)); !strings.HasPrefix(got, "The request is none that can be sent. "+says) {
			t.Errorf("%v: %s, want %s", body, got, says)
		}
	}
	for says, body := range map[string]map[string]any{
		`what is at ["/login"], or below that`: {"url": at}, "the host https://example.com": {"url": "https://example.com/"}, "the method": {"url": at, "method": "POST"},
	} {
		if got := saysOf(w.want(t, 403, "boss", "POST", path, body)); !strings.HasPrefix(got, "The item's policy does not allow this request: ") || !strings.Contains(got, says) {
			t.Errorf("%v: %s, want %s", body, got, says)
		}
	}
}

// TestNoOtherSiteMovesAnItem: who follows a link of another site or of a mail, signed in by a cookie, gets no code by that, and burns none, also
// of a window that gives one, whatever their browser says of where it comes from. Programs, which have no cookie, go on.
func TestNoOtherSiteMovesAnItem(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	for _, k := range []Kind{HOTP, Codes, TOTP, Steam} {
		n := seedOf(k)
		if k == TOTP {
			n.Policy.Uses = Once
		}
		code := "items/" + w.put(t, n).ID.String() + "/code"
		for _, site := range []string{"cross-site", "same-site", "anything"} {
			w.want(t, 403, "boss", "GET", code, nil, "Sec-Fetch-Site", site)
		}
		for _, browser := range [][]string{
			{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, {"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate"},
			{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"}, {"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"},
			{}, {"Origin", "https://evil.example"}, {"Referer", "https://evil.example/"}, {"Sec-Fetch-Mode", "navigate"},
		} {
			w.want(t, 403, "boss", "GET", code, nil, append(browser, "Cookie", "avouch=x")...)
		}
		first := w.want(t, 200, "boss", "GET", code, nil)
		if k == TOTP { // the window's was not given by any of those
			w.want(t, 403, "boss", "GET", code, nil)
			continue
		}
		if k == Steam {
			continue
		}
		if second := w.want(t, 200, "boss", "GET", code, nil, "Sec-Fetch-Site", "same-origin", "Cookie", "avouch=x"); first.Body["code"] == second.Body["code"] || first.Body["counter"] != nil && first.Body["counter"] != 0.0 {
			t.Errorf("%s: %s, then %s", k, first.Raw, second.Raw)
		}
	}
}
