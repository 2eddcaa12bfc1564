package mfa

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

func TestRoutes(t *testing.T) {
	t.Parallel()
	f := open(t)
	caller := f.as(f.ada, "password")
	api := f.API(func(*http.Request, web.RequestMeta) (tenantdb.Caller, error) { return caller, nil })
	f.room.Routes(api)
	call := func(method, path string, body any, header ...string) doortest.Answer {
		t.Helper()
		q := doortest.Request{Method: method, Path: "/api/v1" + path, Body: body, Header: map[string]string{}}
		if len(header) == 2 {
			q.Header[header[0]] = header[1]
		}
		return doortest.Call(t, api, q)
	}
	type object = map[string]any
	begun := call("POST", "/factors", object{"kind": "totp", "name": "phone"})
	if begun.Status != http.StatusCreated || begun.Header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(begun.Body["uri"].(string), "otpauth://totp/Avouch:ada@example.com?secret=") {
		t.Fatalf("begun %+v", begun)
	}
	id := begun.Body["factor_id"].(string)
	seed := strings.ReplaceAll(begun.Body["secret"].(string), " ", "")
	for says, body := range map[string]any{"nothing": object{}, "both": object{"code": "123456", "credential": object{}}, "a wrong code": object{"code": "abc"}} {
		if a := call("POST", "/factors/"+id+"/confirm", body); a.Status != http.StatusBadRequest || strings.Contains(a.Raw, seed) {
			t.Errorf("confirmed with %s: %+v", says, a)
		}
	}
	made := call("POST", "/factors/"+id+"/confirm", object{"code": f.totp(decode(t, seed), 0)})
	if made.Status != http.StatusOK || made.Body["kind"] != "totp" || made.Body["name"] != "phone" || made.Header.Get("ETag") != `"1"` || strings.Contains(made.Raw, seed) {
		t.Fatalf("made %+v", made)
	}
	caller = f.as(f.ada, "totp")
	if a := call("PATCH", "/factors/"+id, object{"name": "new"}, "If-Match", `"1"`); a.Status != http.StatusOK || a.Body["version"] != 2.0 {
		t.Errorf("renamed %+v", a)
	}
	if a := call("POST", "/recovery-codes", nil); a.Status != http.StatusCreated || len(a.Body["recovery_codes"].([]any)) != recoveryCodes {
		t.Errorf("recovery codes %+v", a)
	}
	begun = call("POST", "/factors", object{"kind": "passkey"})
	credential := newAuthenticator().create(t, raw(t, begun.Body["options"]))
	made = call("POST", "/factors/"+begun.Body["factor_id"].(string)+"/confirm", object{"credential": credential})
	if made.Status != http.StatusOK || made.Body["kind"] != "passkey" {
		t.Errorf("a passkey %+v", made)
	}
	caller = f.as(f.ada, "passkey")
	begun = call("POST", "/factors", object{"kind": "sms", "to": "+49 30 12345642"})
	if begun.Body["sent_to"] != "+49 ••• 42" || begun.Body["secret"] != nil {
		t.Errorf("a number %+v", begun)
	}
	f.clock.pass(time.Minute)
	if a := call("POST", "/factors/"+begun.Body["factor_id"].(string)+"/send", nil); a.Status != http.StatusNoContent {
		t.Errorf("sent again %+v", a)
	}
	list := call("GET", "/factors", nil)
	if all := list.Body["factors"].([]any); len(all) != 2 || list.Body["recovery_codes"] != 10.0 || list.Body["required"] != false || len(list.Body["allowed"].([]any)) != 4 {
		t.Errorf("listed %+v", list)
	}
	if a := call("DELETE", "/factors/"+id, nil); a.Status != http.StatusNoContent {
		t.Errorf("removed %+v", a)
	}
	if a := call("DELETE", "/factors/"+id, nil); a.Status != http.StatusNotFound {
		t.Errorf("removed again %+v", a)
	}
	if a := call("POST", "/members/"+f.ada.String()+"/factors/reset", nil); a.Status != http.StatusForbidden {
		t.Errorf("a reset without the capability %+v", a)
	}
	admin := f.person(t, f.tenant, "admin@example.com")
	caller = f.caller(tenantdb.Person{ID: admin, ProvedAt: f.clock.now(), Methods: []string{"totp"}}, "members:write")
	if a := call("POST", "/members/"+f.ada.String()+"/factors/reset", nil); a.Status != http.StatusOK || a.Body["factors_removed"] != 1.0 {
		t.Errorf("a reset %+v", a)
	}
	caller = f.Caller(f.tenant, "*")
	for _, q := range [][2]string{{"GET", "/factors"}, {"POST", "/recovery-codes"}, {"DELETE", "/factors/" + id}, {"POST", "/members/" + f.ada.String() + "/factors/reset"}} {
		if a := call(q[0], q[1], nil); a.Status != http.StatusForbidden {
			t.Errorf("an owner key at %v: %+v", q, a)
		}
	}
}

func raw(t testing.TB, v any) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	return b
}
