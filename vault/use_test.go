package vault

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/vault/fetch"
)

const apiToken = "sk_live_7f3a9c52e1d8b604"

// host is a site that a secret is used at, which remembers what it was sent.
type host struct {
	*httptest.Server
	mu   sync.Mutex
	sent []string
}

func (x *host) seen() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.sent)
}

func newHost(t *testing.T, before func()) *host {
	t.Helper()
	x := &host{}
	x.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before != nil {
			before()
		}
		x.mu.Lock()
		x.sent = append(x.sent, r.Header.Get("Authorization"))
		x.mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/die":
			panic(http.ErrAbortHandler)
		case "/long":
			_, _ = w.Write(make([]byte, 2<<20))
		case "/squeezed":
			z := gzip.NewWriter(w)
			fmt.Fprint(z, r.Header.Get("Authorization"))
			_ = z.Close()
		default:
			fmt.Fprintf(w, `{"you": %q, "sent": %q, "name": "Ada"}`, r.Header.Get("Authorization"), body)
		}
	}))
	t.Cleanup(x.Close)
	return x
}

func (h *house) secretFor(t *testing.T, hosts ...string) ID {
	t.Helper()
	n := seedOf(Secret)
	n.Policy.Fetch = &fetch.Policy{Hosts: hosts, Methods: []string{"GET", "POST"}, Paths: []string{"/"}, Header: "Authorization", Value: "Bearer {secret}"}
	return h.put(t, n).ID
}

// TestUse: an agent uses a secret at a host of its policy: the host gets it, the agent does not, whatever the host echoes; that it is sent
// is in the log before it is, and what became of it before the answer leaves.
func TestUse(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	before := 0
	x := newHost(t, func() { before = h.given(t, "vault.secret_used") })
	i := h.secretFor(t, x.URL)
	b := h.robot(t, "use:secrets")
	h.grant(t, i, b.actor(), ForCode)
	got, err := h.use(t.Context(), h.acme, b.at(h.side), i, fetch.Request{URL: x.URL + "/me?page=1", Method: "POST", Body: []byte("hello")})
	must(t, err)
	if x.seen() != 1 || x.sent[0] != "Bearer "+apiToken || before != 1 {
		t.Errorf("the host was sent %v; %d entries before", x.sent, before)
	}
	if got.Status != 200 || got.Masked != 1 || strings.Contains(fmt.Sprintf("%+v", got), apiToken) || !strings.Contains(got.Body, "hello") {
		t.Errorf("the agent got %+v", got)
	}
	sent, answered := h.OfType(t, h.acme, "vault.secret_used"), h.OfType(t, h.acme, "vault.secret_answered")
	if len(sent) != 1 || len(answered) != 1 || sent[0].Private["to"] == "" || strings.Contains(string(sent[0].Body), "127.0.0.1") || answered[0].Field("status") != "200" || answered[0].Field("masked") != "1" {
		t.Errorf("the log says %+v, %+v", sent, answered)
	}
	got, err = h.use(t.Context(), h.acme, b.at(h.side), i, fetch.Request{URL: x.URL + "/me", Reduce: fetch.Reduce{Pointers: []string{"/name", "/you"}}})
	must(t, err)
	if string(got.Values["/name"]) != `"Ada"` || got.Body != "" || strings.Contains(fmt.Sprintf("%s", got.Values), apiToken) {
		t.Errorf("reduced: %+v", got)
	}
	for _, e := range h.Entries(t, h.acme) {
		if strings.Contains(string(e.Body)+fmt.Sprint(e.Private), apiToken) {
			t.Errorf("an entry holds the secret: %s", e.Type)
		}
	}
}

// TestUseRefused: what the policy, the grant or the scope does not allow is refused before anything is recorded as used, or sent.
func TestUseRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	x := newHost(t, nil)
	i := h.secretFor(t, x.URL)
	b, mute, codes := h.robot(t, "use:secrets"), h.robot(t, "use:secrets"), h.robot(t, "read:codes")
	h.grant(t, i, b.actor(), ForCode)
	h.grant(t, i, codes.actor(), ForCode)
	narrow := seedOf(Secret)
	narrow.Policy.Fetch = &fetch.Policy{Hosts: []string{x.URL}, Header: "Authorization", Value: "Bearer {secret}", Reduce: fetch.Reduce{Pointers: []string{"/name"}}}
	named := h.put(t, narrow).ID
	h.grant(t, named, b.actor(), ForCode)
	unruled, timed := h.put(t, seedOf(Secret)).ID, h.put(t, seedOf(TOTP)).ID
	for _, other := range []ID{unruled, timed} {
		h.grant(t, other, b.actor(), ForCode)
	}
	ok := fetch.Request{URL: x.URL + "/"}
	for says, c := range map[string]struct {
		by   robot
		item ID
		req  fetch.Request
		kind problem.Kind
		text string
	}{
		"another host": {b, i, fetch.Request{URL: "https://example.com/"}, problem.Denied, "does not allow this request"}, "another port": {b, i, fetch.Request{URL: "http://127.0.0.1:1/"}, problem.Denied, "does not allow"},
		"another method": {b, i, fetch.Request{URL: x.URL + "/", Method: "DELETE"}, problem.Denied, "does not allow"}, "its own Authorization": {b, i, fetch.Request{URL: x.URL, Header: map[string]string{"Authorization": "x"}}, problem.Invalid, "none that can be sent"},
		"all of the answer": {b, named, ok, problem.Denied, `["/name"]`}, "no address": {b, i, fetch.Request{Method: "GET"}, problem.Invalid, "none that can be sent"}, "another part of it": {b, named, fetch.Request{URL: x.URL + "/", Reduce: fetch.Reduce{Pointers: []string{"/you"}}}, problem.Denied, "does not allow"},
		"no grant": {mute, i, ok, problem.Denied, "has not been granted"}, "the scope of codes": {codes, i, ok, problem.Denied, "The agent lacks the scope use:secrets."},
		"no policy": {b, unruled, ok, problem.Conflict, "nothing says to which hosts"}, "what gives codes": {b, timed, ok, problem.Conflict, "gives codes"},
	} {
		got, err := h.use(t.Context(), h.acme, c.by.at(h.side), c.item, c.req)
		if refused(t, says, err, c.kind, c.text); got.Status != 0 {
			t.Errorf("%s: %+v", says, got)
		}
	}
	_, err := h.code(t.Context(), h.acme, codes.at(h.side), i, "")
	refused(t, "a code of a secret", err, problem.Conflict, "a secret that nobody sees")
	if x.seen() != 0 || h.given(t, "vault.secret_used") != 0 {
		t.Errorf("%d sent, %d in the log", x.seen(), h.given(t, "vault.secret_used"))
	}
	if got, err := h.use(t.Context(), h.acme, b.at(h.side), named, fetch.Request{URL: x.URL + "/", Reduce: fetch.Reduce{Pointers: []string{"/name"}}}); err != nil || string(got.Values["/name"]) != `"Ada"` || got.Header != nil {
		t.Errorf("what the policy leaves: %+v, %v", got, err)
	}
	for range mostFetches - 1 {
		if _, err := h.use(t.Context(), h.acme, b.at(h.side), i, ok); err != nil {
			t.Fatal(err)
		}
	}
	_, err = h.use(t.Context(), h.acme, b.at(h.side), i, ok)
	refused(t, "the 61st", err, problem.TooMany, "60")
	if x.seen() != mostFetches {
		t.Errorf("%d were sent", x.seen())
	}
}

// TestUseFails: a host that is not there, breaks off, or says too much is a failure that is in the log with its reason, and that the agent
// learns without one.
func TestUseFails(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	x, gone := newHost(t, nil), newHost(t, nil)
	gone.Close()
	i := h.secretFor(t, x.URL, gone.URL, "http://127.0.0.1:1", "https://10.255.255.1")
	for says, req := range map[string]fetch.Request{
		"a host that breaks off": {URL: x.URL + "/die"}, "a host that is gone": {URL: gone.URL}, "an address that may not be reached": {URL: "https://10.255.255.1/"},
		"compressed, and not saying so": {URL: x.URL + "/squeezed"},
		"too long for pointers":         {URL: x.URL + "/long", Reduce: fetch.Reduce{Pointers: []string{"/a"}}},
	} {
		got, err := h.Use(t.Context(), h.boss, i, req)
		p := problem.Of(err)
		if p == nil || p.Status != http.StatusBadGateway || got.Status != 0 || strings.Contains(fmt.Sprint(p.Detail), "10.255") || strings.Contains(fmt.Sprint(err), apiToken) {
			t.Errorf("%s: %+v, %v", says, got, err)
		}
		if e := h.Last(t, h.acme); e.Type != "vault.secret_answered" || e.Outcome != audit.Failed || e.Field("failed") == "" {
			t.Errorf("%s: the log says %s", says, e.Body)
		}
	}
	if got, err := h.Use(t.Context(), h.boss, i, fetch.Request{URL: x.URL + "/long"}); err != nil || !got.Truncated || len(got.Body)+len(got.BodyBase64) > 3<<20 {
		t.Errorf("a long answer: %d, %v", len(got.Body), err)
	}
}

// TestHungUpIsAnswered: who hangs up after the secret was sent leaves the entry of what became of it all the same.
func TestHungUpIsAnswered(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx, hangUp := context.WithCancel(t.Context())
	x := newHost(t, hangUp)
	i := h.secretFor(t, x.URL)
	if got, err := h.Use(ctx, h.boss, i, fetch.Request{URL: x.URL + "/"}); err == nil || got.Status != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if e := h.Last(t, h.acme); x.seen() != 1 || e.Type != "vault.secret_answered" || e.Outcome != audit.Failed || e.Field("failed") != "cancelled" {
		t.Errorf("%d sent, the log says %s", x.seen(), e.Body)
	}
}

// TestStalledLogUsesNothing: while the log cannot be written, nothing is sent; and an answer that cannot be recorded is not given.
func TestStalledLogUsesNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var let func()
	hold := false
	x := newHost(t, func() {
		if hold {
			let = h.hold(t)
			time.AfterFunc(8*time.Second, let)
		}
	})
	i := h.secretFor(t, x.URL)
	ok := fetch.Request{URL: x.URL + "/"}
	if _, err := h.Use(t.Context(), h.boss, i, ok); err != nil {
		t.Fatal(err)
	}
	free := h.hold(t)
	ctx, cancel := bounded(t)
	got, err := h.Use(ctx, h.boss, i, ok)
	cancel()
	free()
	if err == nil || got.Status != 0 || x.seen() != 1 {
		t.Errorf("%+v, %v, %d sent", got, err, x.seen())
	}
	hold = true
	got, err = h.Use(t.Context(), h.boss, i, ok)
	if x.seen() != 2 || err == nil || got.Status != 0 || got.Body != "" {
		t.Errorf("an answer that is not in the log: %+v, %v", got, err)
	}
}
