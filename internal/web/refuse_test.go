package web

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
)

var anyUUID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)

// TestProblemDocuments holds the documents, byte for byte but for the request id.
func TestProblemDocuments(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	fields := problem.New(problem.Invalid, "The request does not fit its description. See `errors`.")
	fields.Fields = []problem.Field{{Location: "body.name", Message: "expected length >= 1"}, {Location: "query.limit", Message: "expected number <= 200"}}
	busy := problem.New(problem.TooMany, "The quota of 1,000 verifications an hour is spent.")
	busy.RetryAfter = 1200 * time.Millisecond
	for name, err := range map[string]error{
		"invalid":         fields,
		"unauthenticated": problem.New(problem.Unauthenticated, "Send a live key."),
		"denied":          problem.New(problem.Denied, `The key lacks the scope "agents:write" & more.`),
		"missing":         fmt.Errorf("agent.Get: %w", problem.New(problem.Missing, "There is no such agent.")),
		"conflict":        problem.New(problem.Conflict, "It exists."),
		"too-many":        busy,
		"internal":        fmt.Errorf("agent.Get: %w", io.ErrUnexpectedEOF),
		"unavailable":     problem.New(problem.Unavailable, "It cannot be recorded now.").Because(errors.New("disk full")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			b.API.Refuse(w, httptest.NewRequest("GET", "/", nil), err)
			text := fmt.Sprintf("%d %s\n", w.Code, http.StatusText(w.Code))
			for _, h := range []string{"Content-Type", "Cache-Control", "Retry-After", "Www-Authenticate"} {
				if v := w.Header().Get(h); v != "" {
					text += h + ": " + v + "\n"
				}
			}
			text += "\n" + anyUUID.ReplaceAllString(w.Body.String(), "01234567-89ab-7cde-8f01-23456789abcd")
			golden(t, "problem-"+name, text)
		})
	}
}

// TestOurOwnFaults: panics, unknown errors and time limits become documents that tell nothing, and log lines that hold
// no secret.
func TestOurOwnFaults(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	t.Cleanup(func() { close(b.hold) })
	for target, status := range map[string]int{"boom": 500, "nilmap": 500, "broken": 500, "obedient": 503, "stubborn": 503} {
		p := problemIn(t, b.ask("POST", "/api/v1/"+target, ""), status)
		if regexp.MustCompile(`hunter2|avk_|panic|goroutine|dial|context`).MatchString(p.Detail) {
			t.Errorf("%s tells: %s", target, p.Detail)
		}
		if line := logLine(b.log.String(), p.RequestID); !strings.Contains(line, `"operation":"`+target+`"`) {
			t.Errorf("%s: log line %q", target, line)
		}
	}
	log := b.log.String()
	if strings.Contains(log, goodKey) || strings.Contains(log, "avk_live") {
		t.Errorf("a key is in the log:\n%s", log)
	}
	if !strings.Contains(log, "web_test.go:") || !strings.Contains(log, "nil pointer dereference") || !strings.Contains(log, "a value of type string") {
		t.Errorf("the log does not say where it panicked:\n%s", log)
	}
}

func logLine(log, rid string) string {
	for line := range strings.SplitSeq(log, "\n") {
		if strings.Contains(line, rid) {
			return line
		}
	}
	return ""
}

// TestNothingOfTheRequestIsLogged: not its path, query, headers or body, even when it fails.
func TestNothingOfTheRequestIsLogged(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	HandleRaw[None, None](b.API, Op{ID: "raw-boom", Method: "POST", Path: "/api/v1/raw-boom/{x}", Summary: "Crash", Access: Public},
		func(_ http.ResponseWriter, r *http.Request, _ caller, _ RequestMeta) error {
			body, err := io.ReadAll(r.Body)
			panic(fmt.Sprint(string(body), err, r.URL, r.Header))
		})
	b.ask("POST", "/api/v1/raw-boom/planted?planted-query=1", "planted-body", "X-Planted: planted-header", "Authorization: Bearer planted-token", "Cookie: planted-cookie")
	b.ask("GET", "/planted-path", "")
	if log := b.log.String(); strings.Contains(log, "planted") || !strings.Contains(log, "request failed") {
		t.Errorf("log:\n%s", log)
	}
}

// TestRawFailures: before anything is written a raw operation's error is a document, after it the connection is cut.
func TestRawFailures(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for id, f := range map[string]RawFunc[caller]{
		"raw-error": func(w http.ResponseWriter, _ *http.Request, _ caller, _ RequestMeta) error {
			w.Header().Set("Etag", `"1"`)
			return problem.New(problem.Denied, "No.")
		},
		"raw-panic": func(http.ResponseWriter, *http.Request, caller, RequestMeta) error { panic("x") },
		"raw-half": func(w http.ResponseWriter, _ *http.Request, _ caller, _ RequestMeta) error {
			io.WriteString(w, "half")
			return errors.New("lost")
		},
		"raw-half-panic": func(w http.ResponseWriter, _ *http.Request, _ caller, _ RequestMeta) error {
			io.WriteString(w, "half")
			panic("x")
		},
	} {
		HandleRaw[None, None](b.API, Op{ID: id, Method: "GET", Path: "/api/v1/" + id, Summary: "Fail", Access: Public}, f)
	}
	if r := b.ask("GET", "/api/v1/raw-error", ""); r.Header.Get("Etag") != "" {
		t.Errorf("the tag of what was not sent is there")
	} else {
		problemIn(t, r, 403)
	}
	problemIn(t, b.ask("GET", "/api/v1/raw-panic", ""), 500)
	srv := httptest.NewServer(b.API)
	defer srv.Close()
	for _, half := range []string{"raw-half", "raw-half-panic"} {
		r, err := http.Get(srv.URL + "/api/v1/" + half)
		if err == nil {
			_, err = io.ReadAll(r.Body)
			r.Body.Close()
		}
		if err == nil {
			t.Errorf("%s: half an answer came as a whole one", half)
		}
	}
	if !strings.Contains(b.log.String(), `"operation":"raw-half"`) {
		t.Error("the lost answer is not in the log")
	}
}

// A key or token that was sent as the name of a field must not come back in the answer about it.
func TestRefusalsRepeatNoCredential(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, body := range []string{`{"` + goodKey + `":1}`, `{"name":"` + goodKey + `","name":1}`, `{"` + goodKey + `":1,"` + goodKey + `":2}`} {
		r := b.ask("POST", "/api/v1/things", body, asAlice, "Content-Type: application/json")
		if answer := problemIn(t, r, 400); strings.Contains(fmt.Sprint(answer), goodKey) {
			t.Errorf("%v repeats the key", answer)
		}
	}
}
