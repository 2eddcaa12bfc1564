package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

func create(p party, name, key string) ask {
	return ask{Method: "POST", Path: "/api/v1/keys", Key: p.key, Header: map[string]string{"Idempotency-Key": key}, Body: map[string]any{"name": name, "kind": "service"}}
}

// A create shows its secret once. The retry of a caller who lost the answer must bring that secret, and make nothing.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one, two := s.start(t), s.start(t)
	acme, other := one.organisation(t, "Acme"), one.organisation(t, "Other")
	first := one.call(t, create(acme, "mine", "k-1")).want(t, http.StatusCreated)
	again := two.call(t, create(acme, "mine", "k-1")).want(t, http.StatusCreated)
	if again.Raw != first.Raw || again.text("key") == "" || again.Header.Get("ETag") != first.Header.Get("ETag") || again.Header.Get("Location") != first.Header.Get("Location") {
		t.Errorf("the answers differ:\n%s%s", first.Raw, again.Raw)
	}
	if first.Header.Get("Idempotency-Replayed") != "" || again.Header.Get("Idempotency-Replayed") != "true" {
		t.Error("a repeated answer does not say that it is one, or the first does")
	}
	one.get(t, "/api/v1/scopes", again.text("key")).want(t, http.StatusOK)
	for name, q := range map[string]ask{
		"another body": create(acme, "yours", "k-1"),
		"another path": {Method: "POST", Path: "/api/v1/scopes", Key: acme.key, Header: map[string]string{"Idempotency-Key": "k-1"}, Body: map[string]any{"name": "do:this", "risk": "low", "description": "x"}},
	} {
		if a := two.call(t, q).want(t, http.StatusConflict); a.kind() != "conflict" || strings.Contains(a.Raw, first.text("key")) {
			t.Errorf("%s: %s", name, a.Raw)
		}
	}
	if foreign := one.call(t, create(other, "mine", "k-1")).want(t, http.StatusCreated); foreign.text("key_id") == first.text("key_id") {
		t.Error("another organisation was given the answer")
	}
	if n := named(t, one, acme, "mine"); n != 1 {
		t.Errorf("%d keys were made", n)
	}
	if n := len(one.entries(t, acme.id, "key.created")); n != 1 {
		t.Errorf("%d keys.created in the log", n)
	}
	s.nothingReadable(t, first.text("key"), "mine")
}

func named(t *testing.T, n *live, p party, name string) (count int) {
	t.Helper()
	for _, k := range n.get(t, "/api/v1/keys?limit=200", p.key).want(t, http.StatusOK).Body["keys"].([]any) {
		if k.(map[string]any)["name"] == name {
			count++
		}
	}
	return count
}

// nothingReadable looks for parts of an answer in the rows that keep answers.
func (s *site) nothingReadable(t *testing.T, parts ...string) {
	t.Helper()
	rows, err := s.admin.Texts(t.Context(), `SELECT encode(answer, 'escape') || encode(request, 'escape') || row_to_json(i)::text FROM avouch.idempotency i WHERE answer IS NOT NULL`)
	must(t, err)
	if len(rows) == 0 {
		t.Error("no answer is kept: nothing was tested")
	}
	for _, row := range rows {
		for _, part := range append(parts, "avk_", "key_id") {
			if strings.Contains(row, part) || strings.Contains(row, fmt.Sprintf("%x", part)) {
				t.Errorf("a row holds %q", part)
			}
		}
	}
}

func TestIdempotencyAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	servers := []*live{s.start(t), s.start(t)}
	acme := servers[0].organisation(t, "Acme")
	const callers = 16
	answers := make([]answer, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			var err error
			for answers[i].Status == 0 || answers[i].Status == http.StatusConflict { // while another runs: send it again later
				if answers[i], err = servers[i%2].try(context.Background(), create(acme, "mine", "k-1")); err != nil {
					t.Error(err)
					return
				}
				if answers[i].Status == http.StatusConflict && answers[i].Header.Get("Retry-After") == "" {
					t.Errorf("a conflict without Retry-After: %s", answers[i].Raw)
					return
				}
			}
		})
	}
	all.Wait()
	for _, a := range answers {
		if a.want(t, http.StatusCreated); a.Raw != answers[0].Raw {
			t.Errorf("the answers differ:\n%s%s", answers[0].Raw, a.Raw)
		}
	}
	if n := named(t, servers[0], acme, "mine"); n != 1 {
		t.Errorf("%d keys were made", n)
	}
}

// A caller gives up while the create waits for its turn. It happens all the same, and the retry gets its answer.
func TestIdempotencyAfterClientTimeout(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme := n.organisation(t, "Acme")
	agent := n.call(t, ask{Method: "POST", Path: "/api/v1/agents/register", Key: acme.key, Body: map[string]any{"name": "a"}}).want(t, http.StatusCreated)
	issue := ask{
		Method: "POST", Path: "/api/v1/agents/" + agent.text("agent_id") + "/tokens", Key: acme.key,
		Header: map[string]string{"Idempotency-Key": "k-1"}, Body: map[string]any{"resources": []string{"your-service"}},
	}
	release, err := s.admin.Hold(t.Context(), acme.id.String())
	must(t, err)
	ctx, giveUp := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() { _, err := n.try(ctx, issue); gone <- err }()
	eventually(t, "the token waits for the head", func() bool {
		waiting, err := s.admin.Texts(t.Context(), `SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
		return err == nil && len(waiting) == 1
	})
	giveUp()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Fatalf("the caller who gave up: %v", err)
	}
	time.Sleep(300 * time.Millisecond) // until the server has seen that
	release()
	var again answer
	eventually(t, "the retry is answered", func() bool {
		again = n.call(t, issue)
		return again.Status != http.StatusConflict
	})
	if again.want(t, http.StatusCreated); again.Header.Get("Idempotency-Replayed") != "true" {
		t.Error("the retry was done anew")
	}
	if made := len(n.entries(t, acme.id, "token.issued")); made != 1 {
		t.Errorf("%d tokens were issued under one key", made)
	}
}

// A server died after it took the key: nobody can say what it did, so under that key it is not done again.
func TestIdempotencyLease(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme := n.organisation(t, "Acme")
	n.call(t, create(acme, "mine", "k-1")).want(t, http.StatusCreated)
	age := func(interval string) {
		touched, err := s.admin.Exec(t.Context(), `UPDATE avouch.idempotency SET answer = NULL, created_at = now() - $1::interval`, interval)
		if must(t, err); touched != 1 {
			t.Fatalf("%d rows", touched)
		}
	}
	age("1 minute")
	held := n.call(t, create(acme, "mine", "k-1")).want(t, http.StatusConflict)
	if wait := held.Header.Get("Retry-After"); wait == "" || wait == "0" {
		t.Errorf("Retry-After is %q", wait)
	}
	if named(t, n, acme, "mine") != 1 {
		t.Error("it was done beside the attempt that holds the key")
	}
	age("3 minutes")
	lost := n.call(t, create(acme, "mine", "k-1")).want(t, http.StatusConflict)
	if !strings.Contains(lost.text("detail"), "not known") || lost.Header.Get("Retry-After") != "" {
		t.Errorf("after the lease: %s, Retry-After %q", lost.Raw, lost.Header.Get("Retry-After"))
	}
	if named(t, n, acme, "mine") != 1 {
		t.Error("it was done again after the lease")
	}
	age("25 hours") // then the key is forgotten, and may be another request's
	free := n.call(t, create(acme, "yours", "k-1")).want(t, http.StatusCreated)
	if again := n.call(t, create(acme, "yours", "k-1")).want(t, http.StatusCreated); again.Raw != free.Raw {
		t.Error("the answer of the attempt that took over is not kept")
	}
}

// A refusal did nothing, so the caller may correct the request under the same key.
func TestIdempotencyAfterRefusal(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	acme := n.organisation(t, "Acme")
	n.call(t, create(acme, "", "k-1")).want(t, http.StatusBadRequest)
	n.call(t, create(acme, "mine", "k-1")).want(t, http.StatusCreated)
}

// An answer that somebody moved to another row of the table does not open there.
func TestMovedAnswerStaysClosed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme := n.organisation(t, "Acme")
	key := n.call(t, create(acme, "mine", "k-1")).want(t, http.StatusCreated).text("key")
	moved, err := s.admin.Exec(t.Context(), `UPDATE avouch.idempotency SET key = 'k-2'`)
	if must(t, err); moved != 1 {
		t.Fatalf("%d rows", moved)
	}
	if a := n.call(t, create(acme, "mine", "k-2")); a.Status < 500 || strings.Contains(a.Raw, key) {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
}

func TestAnswersAreForgotten(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme := n.organisation(t, "Acme")
	first := n.call(t, create(acme, "mine", "k-1")).want(t, http.StatusCreated)
	n.call(t, create(acme, "mine", "k-2")).want(t, http.StatusCreated)
	_, err := s.admin.Exec(t.Context(), `UPDATE avouch.idempotency SET created_at = now() - interval '25 hours' WHERE key = 'k-1'`)
	must(t, err)
	must(t, n.purge(t.Context()))
	left, err := s.admin.Texts(t.Context(), `SELECT key FROM avouch.idempotency`)
	if must(t, err); fmt.Sprint(left) != "[k-2]" {
		t.Errorf("left are %v", left)
	}
	if a := n.call(t, create(acme, "mine", "k-1")).want(t, http.StatusCreated); a.Raw == first.Raw {
		t.Error("a forgotten answer came back")
	}
}

// The store itself keeps what it was given, and for nobody but who finished it.
func TestIdempotencyStore(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t)
	store := &idempotency{db: n.DB, ring: n.Ring}
	c := tenantdb.System(n.organisation(t, "Acme").id, "test")
	at := web.Attempt{Operation: "op", Key: "k", Digest: [32]byte{1}}
	expect := func(at web.Attempt, want web.ClaimState) web.Claim {
		t.Helper()
		got, err := store.Begin(t.Context(), c, at)
		if must(t, err); got.State != want {
			t.Fatalf("found %v, want %v", got.State, want)
		}
		return got
	}
	expect(at, web.Claimed)
	expect(at, web.Running)
	must(t, store.Release(t.Context(), c, at))
	expect(at, web.Claimed)
	must(t, store.Finish(t.Context(), c, at, []byte("answer")))
	if got := expect(at, web.Answered); !bytes.Equal(got.Response, []byte("answer")) {
		t.Errorf("kept %q", got.Response)
	}
	must(t, store.Release(t.Context(), c, at)) // too late: an answer stays
	expect(at, web.Answered)
	other := at
	other.Digest[0]++
	expect(other, web.Other)
	if err := store.Finish(t.Context(), c, other, []byte("x")); err == nil {
		t.Error("an attempt finished that never held the key")
	}
	other.Digest, other.Operation = at.Digest, "another"
	expect(other, web.Other)
}
