package web

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
)

// Attempt is one request that carries an Idempotency-Key.
type Attempt struct {
	Operation string
	Key       string   // the caller's, 1 to 255 visible ASCII characters; two callers may use the same
	Digest    [32]byte // of method, path, query and body: what "the same request" means
	Request   RequestID
}

// ClaimState is what a store found under a key.
type ClaimState int

// What may be found.
const (
	Claimed  ClaimState = iota // nothing: the attempt holds the key now, and runs
	Answered                   // the same request was answered; Claim.Response is that answer
	Running                    // the same request runs, or nobody knows what became of it and its lease is not over
	Lost                       // the same request has ended without an answer, and nobody knows how: its lease is over
	Other                      // the key was used for another request
)

// Claim is the answer of a store to Begin.
type Claim struct {
	State      ClaimState
	Response   []byte        // with Answered: what Finish was given
	RetryAfter time.Duration // with Running
}

// IdempotencyStore remembers answers by caller and key. The store is responsible for sealing what it keeps: an answer
// may show a secret that is shown once. A key that is neither finished nor released is never claimed again for as long
// as answers are kept: it is Running for a lease longer than any operation's time limit, and then Lost, until it is
// finished after all.
type IdempotencyStore[C any] interface {
	// Begin claims the key for the caller, in one step that all servers see.
	Begin(ctx context.Context, c C, at Attempt) (Claim, error)
	// Finish keeps the answer of a claimed attempt.
	Finish(ctx context.Context, c C, at Attempt, response []byte) error
	// Release gives a claimed key back, after a failure that is known to have changed nothing.
	Release(ctx context.Context, c C, at Attempt) error
}

const headerIdempotencyKey = "Idempotency-Key"

// kept is an answer as the store holds it.
type kept struct {
	Status int         `json:"status"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// perform runs the operation, at most once for one Idempotency-Key for as long as the store keeps answers, but for
// attempts that are known to have changed nothing.
func (a *API[C]) perform(ctx context.Context, rt *route, r *http.Request, c C, body []byte) (*answer, error) {
	if !rt.op.Idempotent || len(r.Header.Values(headerIdempotencyKey)) == 0 {
		return a.run(ctx, rt, r, c, body)
	}
	at, err := attemptOf(rt, r, body)
	if err != nil {
		return nil, err
	}
	claim, err := a.cfg.Idempotency.Begin(ctx, c, at)
	if err != nil {
		return nil, fmt.Errorf("web.perform: %w", err)
	}
	switch claim.State {
	case Claimed:
		return a.once(ctx, rt, r, c, body, at)
	case Answered:
		return replay(claim.Response)
	case Lost:
		return nil, problem.New(problem.Conflict, "It is not known whether the request that came first with this Idempotency-Key was done. Look; to do it again, use a new key.")
	case Other:
		return nil, problem.New(problem.Conflict, "This Idempotency-Key was used for another request. Use a new one.")
	}
	p := problem.New(problem.Conflict, "A request with this Idempotency-Key is still running, or its outcome is not known yet. Send it again later to get its answer.")
	p.RetryAfter = or(claim.RetryAfter, time.Second)
	return nil, p
}

// once runs a claimed attempt. An answer is kept before it is sent, so that a crash in between costs nothing. After a
// refusal the key is free again: nothing was done, nor will be. After a fault, a panic or a refusal that is
// problem.Uncertain nobody knows what was done, so the key stays claimed, and a retry learns that.
func (a *API[C]) once(ctx context.Context, rt *route, r *http.Request, c C, body []byte, at Attempt) (*answer, error) {
	reply, err := a.run(ctx, rt, r, c, body)
	// The caller may have gone, or the time limit passed: what was done must be kept all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hookTimeout)
	defer cancel()
	if err != nil {
		if problem.Is(err, problem.Internal) || problem.Uncertain(err) {
			return nil, err
		}
		if e := a.cfg.Idempotency.Release(ctx, c, at); e != nil {
			a.logStore(ctx, "an idempotency key could not be released", at, e)
		}
		return nil, err
	}
	b, err := json.Marshal(kept{Status: reply.status, Header: reply.header, Body: reply.body.Bytes()})
	if err == nil {
		err = a.cfg.Idempotency.Finish(ctx, c, at, b)
	}
	if err != nil { // the thing is done and the caller must learn it; a retry finds the key running
		a.logStore(ctx, "an answer could not be kept for its idempotency key", at, err)
	}
	return reply, nil
}

func (a *API[C]) logStore(ctx context.Context, says string, at Attempt, err error) {
	a.cfg.Logger.LogAttrs(ctx, slog.LevelError, says, slog.String("request_id", at.Request.String()),
		slog.String("operation", at.Operation), slog.String("error", redact(err.Error())))
}

func replay(b []byte) (*answer, error) {
	var k kept
	if err := json.Unmarshal(b, &k); err != nil {
		return nil, fmt.Errorf("web.replay: %w", err)
	}
	reply := &answer{header: k.Header, status: k.Status}
	if reply.header == nil {
		reply.header = http.Header{}
	}
	reply.header.Set("Idempotency-Replayed", "true")
	reply.body.Write(k.Body)
	return reply, nil
}

func attemptOf(rt *route, r *http.Request, body []byte) (Attempt, error) {
	values := r.Header.Values(headerIdempotencyKey)
	if len(values) > 1 || !visible(values[0]) {
		return Attempt{}, fieldProblems([]string{headerIdempotencyKey}, "header.", "must be one value of 1 to 255 visible ASCII characters")
	}
	h := sha256.New()
	for _, part := range []string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	h.Write(body)
	return Attempt{Operation: rt.op.ID, Key: values[0], Digest: [32]byte(h.Sum(nil)), Request: MetaOf(r.Context()).ID}, nil
}

func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return 0 < len(s) && len(s) <= 255
}
