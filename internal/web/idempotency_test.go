package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
)

// memoryStore is the smallest store that keeps the promises of IdempotencyStore on one server.
type memoryStore struct {
	mu     sync.Mutex
	kept   map[string]memory
	broken bool
	lost   bool // nobody knows what became of what it has
}

type memory struct {
	digest   [32]byte
	response []byte
}

func (s *memoryStore) Begin(_ context.Context, c caller, at Attempt) (Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, there := s.kept[c.Name+" "+at.Key]
	switch {
	case s.broken:
		return Claim{}, problem.New(problem.Unavailable, "The store is away.")
	case !there:
		s.kept[c.Name+" "+at.Key] = memory{digest: at.Digest}
		return Claim{State: Claimed}, nil
	case m.digest != at.Digest:
		return Claim{State: Other}, nil
	case s.lost:
		return Claim{State: Lost}, nil
	case m.response == nil:
		return Claim{State: Running, RetryAfter: 1500 * time.Millisecond}, nil
	}
	return Claim{State: Answered, Response: m.response}, nil
}

func (s *memoryStore) Finish(ctx context.Context, c caller, at Attempt, response []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken || ctx.Err() != nil {
		return errors.New("the store is away")
	}
	s.kept[c.Name+" "+at.Key] = memory{at.Digest, response}
	return nil
}

func (s *memoryStore) Release(_ context.Context, c caller, at Attempt) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept, c.Name+" "+at.Key)
	return nil
}

func (b *bench) makeWithKey(key, body string) (status int, text string, replayed bool) {
	b.t.Helper()
	r := b.ask("POST", "/api/v1/things", body, asAlice, asJSON, "Idempotency-Key: "+key)
	return r.StatusCode, bodyOf(b.t, r), r.Header.Get("Idempotency-Replayed") == "true"
}

// TestIdempotencyKey: one key does one thing once, and its repetition gets the first answer, byte for byte.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	status, first, replayed := b.makeWithKey("k1", `{"name":"lamp"}`)
	if status != 201 || replayed {
		t.Fatalf("first: %d %s", status, first)
	}
	status, second, replayed := b.makeWithKey("k1", `{"name":"lamp"}`)
	if status != 201 || !replayed || second != first || b.made != 1 {
		t.Errorf("second: %d replayed=%v made=%d\n%s%s", status, replayed, b.made, first, second)
	}
	r := b.ask("POST", "/api/v1/things", `{"name":"lamp"}`, asAlice, asJSON, "Idempotency-Key: k1")
	if r.Header.Get("Etag") != `"1"` || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("X-Request-Id") == "" {
		t.Errorf("headers of the replay: %v", r.Header)
	}
	if status, text, _ := b.makeWithKey("k1", `{"name":"desk"}`); status != 409 || !strings.Contains(text, "another request") {
		t.Errorf("other body: %d %s", status, text)
	}
	if status, _, replayed := b.makeWithKey("k2", `{"name":"lamp"}`); status != 201 || replayed || b.made != 2 {
		t.Errorf("other key: %d replayed=%v made=%d", status, replayed, b.made)
	}
}

func TestIdempotencyKeySyntax(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, key := range []string{"a b", strings.Repeat("x", 256), "ü", "x\x7f", ""} {
		if status, text, _ := b.makeWithKey(key, `{"name":"x"}`); status != 400 || !strings.Contains(text, "header.Idempotency-Key") {
			t.Errorf("%q: %d %s", key, status, text)
		}
	}
	r := b.ask("POST", "/api/v1/things", `{"name":"x"}`, asAlice, asJSON, "Idempotency-Key: a", "Idempotency-Key: b")
	problemIn(t, r, 400)
	if b.made != 0 {
		t.Errorf("made %d", b.made)
	}
	if status, _, _ := b.makeWithKey(`"`+strings.Repeat("x", 253)+`"`, `{"name":"x"}`); status != 201 {
		t.Errorf("a structured-field string of 255 characters: %d", status)
	}
}

// TestIdempotencyWhileRunning: of many at once with one key, one runs and the others are told to wait.
func TestIdempotencyWhileRunning(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	runs, release := make(chan struct{}, 10), make(chan struct{})
	Handle(b.API, Op{ID: "slow", Method: "POST", Path: "/api/v1/slow", Summary: "Take a while", Idempotent: true},
		func(context.Context, caller, *None) (*None, error) { runs <- struct{}{}; <-release; return nil, nil })
	ask := func() (int, string) {
		r := b.ask("POST", "/api/v1/slow", "", asAlice, "Idempotency-Key: k")
		return r.StatusCode, r.Header.Get("Retry-After")
	}
	first := make(chan int)
	go func() { status, _ := ask(); first <- status }()
	<-runs
	for range 5 {
		if status, after := ask(); status != 409 || after != "2" {
			t.Errorf("while it runs: %d, Retry-After %q", status, after)
		}
	}
	close(release)
	if status := <-first; status != 204 {
		t.Errorf("the first: %d", status)
	}
	if status, _ := ask(); status != 204 || len(runs) != 0 {
		t.Errorf("afterwards: %d, %d more runs", status, len(runs))
	}
}

// TestIdempotencyAfterFailure: a refusal frees the key; a fault of ours and an unknown outcome do not; an answer that came
// too late is kept.
func TestIdempotencyAfterFailure(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if status, _, _ := b.makeWithKey("k", `{"name":"taken"}`); status != 409 || len(b.store.kept) != 0 {
		t.Errorf("after a refusal: %d, kept %v", status, b.store.kept)
	}
	Handle(b.API, Op{ID: "crash-once", Method: "POST", Path: "/api/v1/crash", Summary: "Crash", Idempotent: true},
		func(context.Context, caller, *None) (*None, error) { panic("x") })
	crash := func() int {
		return b.ask("POST", "/api/v1/crash", "", asAlice, "Idempotency-Key: c").StatusCode
	}
	if first, second := crash(), crash(); first != 500 || second != 409 {
		t.Errorf("a crash, then the same again: %d, %d", first, second)
	}
	for key, err := range map[string]error{
		"u": &problem.Error{Kind: problem.Unavailable, Detail: "Perhaps.", Uncertain: true},
		"w": problem.New(problem.Denied, "No.").Because(fmt.Errorf("x: %w", errors.Join(io.EOF, &problem.Error{Kind: problem.Unavailable, Uncertain: true}))),
	} {
		runs := 0
		Handle(b.API, Op{ID: "doubt-" + key, Method: "POST", Path: "/api/v1/doubt-" + key, Summary: "Leave it open", Idempotent: true},
			func(context.Context, caller, *None) (*None, error) { runs++; return nil, err })
		ask := func() int {
			return b.ask("POST", "/api/v1/doubt-"+key, "", asAlice, "Idempotency-Key: "+key).StatusCode
		}
		if first, second := ask(), ask(); first != problem.Of(err).HTTPStatus() || second != 409 || runs != 1 {
			t.Errorf("an unknown outcome, then the same again: %d, %d, run %d times", first, second, runs)
		}
	}
	release, finished := make(chan struct{}), make(chan struct{})
	Handle(b.API, Op{ID: "late-once", Method: "POST", Path: "/api/v1/late", Summary: "Be late", Idempotent: true, Timeout: 20 * time.Millisecond},
		func(context.Context, caller, *None) (*None, error) { <-release; defer close(finished); return nil, nil })
	late := func() int {
		return b.ask("POST", "/api/v1/late", "", asAlice, "Idempotency-Key: l").StatusCode
	}
	if status := late(); status != 503 {
		t.Errorf("too late: %d", status)
	}
	close(release)
	<-finished
	status := 0
	for deadline := time.Now().Add(5 * time.Second); status != 204 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		status = late()
	}
	if status != 204 {
		t.Errorf("the late answer was not kept: %d", status)
	}
}

// TestIdempotencyOutcomeUnknown: what nobody knows the end of is not done again, and the caller is told why.
func TestIdempotencyOutcomeUnknown(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.makeWithKey("k", `{"name":"lamp"}`)
	b.store.lost = true
	if status, text, replayed := b.makeWithKey("k", `{"name":"lamp"}`); status != 409 || replayed || b.made != 1 || !strings.Contains(text, "not known") {
		t.Errorf("%d replayed=%v made=%d: %s", status, replayed, b.made, text)
	}
}

func TestIdempotencyStoreAway(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.store.broken = true
	if status, _, _ := b.makeWithKey("k", `{"name":"x"}`); status != 503 || b.made != 0 {
		t.Errorf("%d, made %d: without the store nothing may be done", status, b.made)
	}
	if r := b.ask("POST", "/api/v1/things", `{"name":"x"}`, asAlice, asJSON); r.StatusCode != 201 {
		t.Errorf("without a key: %d", r.StatusCode)
	}
}
