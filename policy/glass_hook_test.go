package policy

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// approvals is an external approval system, on a real listener: it keeps what it was asked.
type approvals struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	heads  []http.Header
	bodies [][]byte
}

func newApprovals(t *testing.T) *approvals {
	a := &approvals{status: http.StatusOK}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		a.mu.Lock()
		defer a.mu.Unlock()
		if err == nil {
			a.heads, a.bodies = append(a.heads, r.Header), append(a.bodies, b)
		}
		w.WriteHeader(a.status)
	}))
	t.Cleanup(a.Close)
	return a
}

// outside is a house whose approvals come from outside, with the secret of both.
func outside(t *testing.T) (*house, *approvals, secret.Bytes) {
	t.Helper()
	h := newHouse(t)
	system := newApprovals(t)
	h.glass = h.another(h.Door, system.Client())
	h.rules.set(func(r *GlassRules) { r.Approval, r.HookURL = ByExternal, system.URL+"/ask" })
	s, err := h.glass.SetHook(t.Context(), h.person(t, "*").caller())
	done(t, "setting the hook", err)
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.Expose(), "whsec_"))
	done(t, "reading the secret", err)
	return h, system, secret.Own(key)
}

func (h *house) work(t *testing.T, u Use) error {
	t.Helper()
	w := &HookWorker{Glass: h.glass}
	return w.Work(t.Context(), &river.Job[HookJob]{Args: HookJob{h.acme.String(), u.ID.String()}})
}

// message is an answer as it goes over the wire.
type message struct {
	id, stamp, signature, body string
}

func (h *house) message(key secret.Bytes, id string, at time.Time, body any) message {
	b, _ := json.Marshal(body)
	return message{id, strconv.FormatInt(at.Unix(), 10), hookSignature(key, id, at.Unix(), b), string(b)}
}

func (h *house) callback(t *testing.T, use string, m message) doortest.Answer {
	t.Helper()
	api := h.API(func(*http.Request, web.RequestMeta) (tenantdb.Caller, error) {
		t.Error("the callback authenticated")
		return tenantdb.Caller{}, nil
	})
	h.glass.Routes(api)
	return doortest.Call(t, api, doortest.Request{
		Method: "POST", Path: "/api/v1/break-glass/" + use + "/answer", Body: m.body,
		Header: map[string]string{"webhook-id": m.id, "webhook-timestamp": m.stamp, "webhook-signature": m.signature},
	})
}

func TestGlassExternal(t *testing.T) {
	t.Parallel()
	h, system, key := outside(t)
	ada := h.person(t, "breakglass:write")
	u := h.asks(t, ada)
	if n := h.Text(t, `SELECT count(*)::text || ' ' || bool_or(args::text LIKE '%pager%') FROM avouch_jobs.river_job WHERE kind = 'break_glass.ask'`); n != "1 false" {
		t.Errorf("jobs: %s", n)
	}
	system.status = http.StatusBadGateway
	if err := h.work(t, u); err == nil || strings.Contains(err.Error(), system.URL) {
		t.Errorf("a hook that fails: %v", err)
	}
	system.status = http.StatusAccepted
	done(t, "asking the hook", h.work(t, u))
	if len(system.bodies) != 2 || system.heads[0].Get("Webhook-Id") != system.heads[1].Get("Webhook-Id") {
		t.Fatalf("asked %d times", len(system.bodies))
	}
	if !checkHook(key, system.heads[1], system.bodies[1], h.clock.at()) {
		t.Error("the question's signature does not hold")
	}
	var q question
	done(t, "reading the question", json.Unmarshal(system.bodies[1], &q))
	if q.Use != u.ID || q.Person != ada.id || q.Minutes != 60 || q.Reason != u.Reason || len(q.Capabilities) != 1 || q.Token == "" ||
		q.Callback != "https://avouch.test/api/v1/break-glass/"+u.ID.String()+"/answer" {
		t.Errorf("the question is %+v", q)
	}
	yes := map[string]string{"decision": "approve", "by": "on-call lead", "token": q.Token}
	h.lends(t, ada)
	h.refuseForgeries(t, u, key, yes)
	h.lends(t, ada)
	good := h.message(key, "m1", h.clock.at(), yes)
	if a := h.callback(t, u.ID.String(), good); a.Status != http.StatusOK || a.Body["state"] != "open" {
		t.Fatalf("the answer: %+v", a)
	}
	h.lends(t, ada, "keys:write")
	e := h.Last(t, h.acme)
	if e.Type != "break_glass.opened" || e.How != "webhook-signature" || e.Private["by"] != "on-call lead" || e.Request.IsZero() || strings.Contains(string(e.Body), "lead") {
		t.Errorf("the log says %+v", e)
	}
	if a := h.callback(t, u.ID.String(), good); a.Status != http.StatusConflict {
		t.Errorf("the same message again: %+v", a)
	}
	done(t, "ending", second(h.glass.Finish(t.Context(), ada.caller(), u.ID)))
	// A good message is of one use: also another use's, with an id of its own.
	h.clock.pass(time.Second)
	again := h.asks(t, ada)
	if a := h.callback(t, again.ID.String(), h.message(key, "m2", h.clock.at(), yes)); a.Status != http.StatusUnauthorized {
		t.Errorf("another use's token: %+v", a)
	}
	if a := h.callback(t, again.ID.String(), good); a.Status != http.StatusUnauthorized {
		t.Errorf("another use's message: %+v", a)
	}
	token, err := h.glass.token(t.Context(), h.acme, again.ID)
	done(t, "the token", err)
	no := map[string]string{"decision": "refuse", "by": "x", "token": token}
	if a := h.callback(t, again.ID.String(), h.message(key, "m1", h.clock.at(), no)); a.Status != http.StatusConflict {
		t.Errorf("an id that was spent: %+v", a)
	}
	if a := h.callback(t, again.ID.String(), h.message(key, "m3", h.clock.at(), no)); a.Status != http.StatusOK || h.state(t, again.ID) != Refused {
		t.Errorf("refusing: %+v, %s", a, h.state(t, again.ID))
	}
	if err := h.work(t, again); err == nil || !strings.Contains(err.Error(), "does not wait") {
		t.Errorf("asking for what was decided: %v", err)
	}
}

// refuseForgeries sends what must not open a use, and looks that everything is told the same.
func (h *house) refuseForgeries(t *testing.T, u Use, key secret.Bytes, yes map[string]string) {
	t.Helper()
	now, other := h.clock.at(), secret.Own(make([]byte, hookSecretSize))
	good := h.message(key, "f", now, yes)
	forged := map[string]message{
		"no signature":     {good.id, good.stamp, "", good.body},
		"another key":      h.message(other, "f", now, yes),
		"another body":     {good.id, good.stamp, good.signature, strings.Replace(good.body, "lead", "thief", 1)},
		"another id":       {"g", good.stamp, good.signature, good.body},
		"another time":     {good.id, strconv.FormatInt(now.Unix()+1, 10), good.signature, good.body},
		"the time shifted": {"f." + good.stamp[:1], good.stamp[1:], good.signature, good.body},
		"late":             h.message(key, "f", now.Add(-hookSkew-time.Second), yes),
		"early":            h.message(key, "f", now.Add(hookSkew+time.Second), yes),
		"no id":            h.message(key, "", now, yes),
		"another version":  {good.id, good.stamp, "v2" + good.signature[2:], good.body},
		"hidden far back":  {good.id, good.stamp, strings.Repeat("v1,x ", maxSignatures) + good.signature, good.body},
		"another token":    h.message(key, "f", now, map[string]string{"decision": "approve", "by": "x", "token": strings.Repeat("a", 26)}),
		"a sign before it": {good.id, "+" + good.stamp, good.signature, good.body},
	}
	for what, m := range forged {
		a := h.callback(t, u.ID.String(), m)
		if a.Status != http.StatusUnauthorized || a.Body["detail"] != problem.Of(unsigned()).Detail {
			t.Errorf("%s: %d %s", what, a.Status, a.Raw)
		}
	}
	for _, use := range []string{"019abcde-0000-7000-8000-000000000001", "x"} {
		if a := h.callback(t, use, good); a.Status != http.StatusUnauthorized || a.Body["detail"] != problem.Of(unsigned()).Detail {
			t.Errorf("no use %s: %d %s", use, a.Status, a.Raw)
		}
	}
	for _, body := range []map[string]string{
		{"decision": "perhaps", "by": "x", "token": yes["token"]}, {"decision": "approve", "by": "", "token": yes["token"]},
		{"decision": "approve", "by": "x", "token": yes["token"], "more": "y"}, {"Decision": "approve", "by": "x", "token": yes["token"]},
	} {
		if a := h.callback(t, u.ID.String(), h.message(key, "b", now, body)); a.Status != http.StatusBadRequest {
			t.Errorf("%v: %d %s", body, a.Status, a.Raw)
		}
	}
}

func TestGlassExternalWhoSetsAndLapses(t *testing.T) {
	t.Parallel()
	h, _, key := outside(t)
	for _, p := range []*someone{h.person(t, "organisation:write", "breakglass:approve"), {h: h, id: h.person(t).id, caps: []string{"organisation:write"}, lent: []string{"*"}},
		{h: h, id: h.person(t).id, caps: []string{"*"}, proved: 6 * time.Minute}} {
		_, err := h.glass.SetHook(t.Context(), p.caller())
		refused(t, "setting the hook", err, problem.Denied)
	}
	_, err := h.glass.SetHook(t.Context(), h.Caller(h.acme, "*"))
	refused(t, "setting the hook with a key", err, problem.Denied)
	ada, bob := h.person(t, "breakglass:write"), h.person(t, "breakglass:approve")
	u := h.asks(t, ada)
	_, err = h.glass.Approve(t.Context(), bob.caller(), u.ID)
	refused(t, "a person approving what a system must", err, problem.Conflict)
	token, err := h.glass.token(t.Context(), h.acme, u.ID)
	done(t, "the token", err)
	yes := map[string]string{"decision": "approve", "by": "x", "token": token}
	// An owner who makes a new secret ends the old one.
	done(t, "a new secret", second(h.glass.SetHook(t.Context(), h.person(t, "*").caller())))
	if a := h.callback(t, u.ID.String(), h.message(key, "m", h.clock.at(), yes)); a.Status != http.StatusUnauthorized {
		t.Errorf("with the old secret: %+v", a)
	}
	h.clock.pass(24 * time.Hour)
	h.settle(t)
	if s := h.state(t, u.ID); s != Lapsed {
		t.Errorf("after a day it is %s", s)
	}
	if err := h.work(t, u); err == nil {
		t.Error("it was asked for after it lapsed")
	}
	// Only what is for it to decide, and only while the rules are as they were.
	for _, approval := range []string{ByPerson, ByDelay} {
		h.rules.set(func(r *GlassRules) { r.Approval = approval })
		p := h.person(t, "breakglass:write")
		u := h.asks(t, p)
		s, err := h.glass.SetHook(t.Context(), h.person(t, "*").caller())
		done(t, "a new secret", err)
		b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.Expose(), "whsec_"))
		done(t, "reading it", err)
		key = secret.Own(b)
		token, err := h.glass.token(t.Context(), h.acme, u.ID)
		done(t, "the token", err)
		for _, decision := range []string{"approve", "refuse"} {
			a := h.callback(t, u.ID.String(), h.message(key, approval+decision, h.clock.at(), map[string]string{"decision": decision, "by": "x", "token": token}))
			if a.Status != http.StatusConflict || h.state(t, u.ID) != Waiting {
				t.Errorf("%s what is approved by %s: %+v, %s", decision, approval, a, h.state(t, u.ID))
			}
		}
	}
	h.rules.set(func(r *GlassRules) { r.Approval = ByExternal })
	p := h.person(t, "breakglass:write")
	tight := h.asks(t, p)
	token, err = h.glass.token(t.Context(), h.acme, tight.ID)
	done(t, "the token", err)
	kept := h.rules.rules
	h.rules.set(func(r *GlassRules) { r.Capabilities = []string{"agents:write"} })
	if a := h.callback(t, tight.ID.String(), h.message(key, "tight", h.clock.at(), map[string]string{"decision": "approve", "by": "x", "token": token})); a.Status != http.StatusConflict {
		t.Errorf("under tighter rules: %+v", a)
	}
	h.rules.set(func(r *GlassRules) { *r = kept })
	h.rules.set(func(r *GlassRules) { r.HookURL = "" })
	_, err = h.glass.Ask(t.Context(), ada.caller(), Asked{"The pager went off at night", []string{"keys:write"}, time.Hour})
	refused(t, "asking with no hook", err, problem.Conflict)
	if strings.Contains(h.Logged(), "whsec_") {
		t.Error("the secret is in the log")
	}
}

// TestGlassAnswersAtOnce has one answer come twice at the same time, and another with it.
func TestGlassAnswersAtOnce(t *testing.T) {
	t.Parallel()
	h, _, key := outside(t)
	u := h.asks(t, h.person(t, "breakglass:write"))
	token, err := h.glass.token(t.Context(), h.acme, u.ID)
	done(t, "the token", err)
	var wg sync.WaitGroup
	status := make([]int, 9)
	for i := range status {
		wg.Go(func() {
			decision := map[bool]string{true: "approve", false: "refuse"}[i%3 > 0]
			status[i] = h.callback(t, u.ID.String(), h.message(key, "m"+decision, h.clock.at(), map[string]string{"decision": decision, "by": "x", "token": token})).Status
		})
	}
	wg.Wait()
	good := 0
	for _, s := range status {
		if s == http.StatusOK {
			good++
		} else if s != http.StatusConflict {
			t.Errorf("status %d", s)
		}
	}
	if n := len(h.OfType(t, h.acme, "break_glass.opened")) + len(h.OfType(t, h.acme, "break_glass.refused")); good != 1 || n != 1 {
		t.Errorf("%d were heeded, %d entries", good, n)
	}
}

// TestHookSignature holds the format to a vector of Standard Webhooks.
func TestHookSignature(t *testing.T) {
	t.Parallel()
	key, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	done(t, "key", err)
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	if got := hookSignature(secret.Own(key), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, []byte(`{"test": 2432232314}`)); got != want {
		t.Errorf("the signature is %s", got)
	}
}

func FuzzHookHeaders(f *testing.F) {
	key := secret.Own(make([]byte, hookSecretSize))
	now := time.Unix(1614265330, 0)
	f.Add("m", "1614265330", "v1,AAAA", []byte("{}"))
	f.Add("m.1", "614265330", "v1,", []byte(""))
	f.Add("m", "1614265330", hookSignature(key, "m", now.Unix(), []byte("{}")), []byte("{}"))
	f.Fuzz(func(t *testing.T, id, stamp, signature string, body []byte) {
		h := http.Header{}
		h.Set("webhook-id", id)
		h.Set("webhook-timestamp", stamp)
		h.Set("webhook-signature", signature)
		if !checkHook(key, h, body, now) {
			return
		}
		at, err := strconv.ParseInt(stamp, 10, 64)
		if err != nil || now.Sub(time.Unix(at, 0)).Abs() > hookSkew || !strings.Contains(signature, hookSignature(key, id, at, body)) {
			t.Errorf("accepted %q %q %q", id, stamp, signature)
		}
	})
}

func second[T any](_ T, err error) error { return err }
