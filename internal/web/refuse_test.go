package web

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
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

// TestBusyIsNoFailure: that too many ask at once is answered and not logged, so that a crowd drowns no failure. What is really
// away is logged, also if it says when to come back.
func TestBusyIsNoFailure(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for id, busy := range map[string]bool{"crowd": true, "away": false} {
		p := problem.New(problem.Unavailable, "Come back.")
		p.RetryAfter, p.Busy = 1500*time.Millisecond, busy
		HandleRaw[None, None](b.API, Op{ID: id, Method: "POST", Path: "/api/v1/" + id, Summary: "Be refused", Access: Public},
			func(http.ResponseWriter, *http.Request, caller, RequestMeta) error {
				return fmt.Errorf("somewhere: %w", p)
			})
		r := b.ask("POST", "/api/v1/"+id, "")
		if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") != "2" {
			t.Errorf("%s: %d %v", id, r.StatusCode, r.Header)
		}
		if logged := strings.Contains(b.log.String(), `"operation":"`+id); logged == busy {
			t.Errorf("%s is in the log: %v\n%s", id, logged, b.log.String())
		}
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

// TestRefusedPage: who sits at a browser reads a page, in which nothing that was quoted is markup; everybody else gets the
// document.
func TestRefusedPage(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	says := problem.New(problem.Denied, `The provider said <b>no</b> to "ada" with `+goodKey+`.`)
	HandleRaw[None, None](b.API, Op{ID: "come-back", Method: "GET", Path: "/api/v1/back", Summary: "Come back", Access: Public, Page: true},
		func(http.ResponseWriter, *http.Request, caller, RequestMeta) error { return says })
	problemIn(t, b.ask("GET", "/api/v1/back", ""), 403)
	r := b.ask("GET", "/api/v1/back", "", "Accept: text/html,application/xhtml+xml")
	text := bodyOf(t, r)
	if r.StatusCode != 403 || r.Header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(r.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
	for _, want := range []string{"&lt;b&gt;no", r.Header.Get("X-Request-Id"), "[secret]"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %s: %s", want, text)
		}
	}
	if strings.Contains(text, "<b>") || strings.Contains(text, goodKey) {
		t.Errorf("%s", text)
	}
	if len(b.refused) != 2 {
		t.Errorf("%d refusals were told", len(b.refused))
	}
}

// TestRefusalInOwnForm: an operation of a protocol that has a form of its own for refusals answers so, also when it is not the
// operation that refuses; and what is told is told all the same, without credentials.
func TestRefusalInOwnForm(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	op := Op{ID: "own-form", Method: "GET", Path: "/scim/v2/x", Summary: "Own form", Refusal: func(p *problem.Error) (string, []byte) {
		return "application/scim+json", []byte(`{"status":"` + strconv.Itoa(p.HTTPStatus()) + `","detail":"` + p.Detail + `"}`)
	}}
	HandleRaw[None, None](b.API, op, func(http.ResponseWriter, *http.Request, caller, RequestMeta) error {
		return problem.New(problem.Conflict, "It is there: %s", goodKey)
	})
	for status, header := range map[int][]string{401: nil, 409: {asAlice}} {
		r := b.ask("GET", "/scim/v2/x", "", header...)
		text := bodyOf(t, r)
		if r.StatusCode != status || r.Header.Get("Content-Type") != "application/scim+json" || !strings.Contains(text, `"status":"`+strconv.Itoa(status)+`"`) || strings.Contains(text, goodKey) {
			t.Errorf("%d %v %s", r.StatusCode, r.Header, text)
		}
	}
	if len(b.refused) != 2 {
		t.Errorf("%d refusals were told", len(b.refused))
	}
}
