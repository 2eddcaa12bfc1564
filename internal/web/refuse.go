package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/danielgtaylor/huma/v2"
)

// Problem is the document that every failure is answered with (RFC 9457), as application/problem+json.
type Problem struct {
	Type      string          `json:"type" format:"uri" doc:"The kind of failure, as the address of a page that explains it. Switch on this."`
	Title     string          `json:"title" doc:"The same for every failure of the kind"`
	Status    int             `json:"status" doc:"The HTTP status"`
	Detail    string          `json:"detail" doc:"What went wrong this time, and how to put it right"`
	Instance  string          `json:"instance" format:"uri" doc:"Names this one occurrence: the request id as a URN"`
	RequestID string          `json:"request_id" doc:"Also in the X-Request-Id header; quote it when asking about the failure"`
	Errors    []problem.Field `json:"errors,omitempty" doc:"Each part of the request that is wrong"`
}

const (
	problemType = "application/problem+json"
	jsonType    = "application/json"
)

// Refuse answers the request with the problem document of err, tells the Refused hook, and logs what is our own fault.
// Every failure ends here. Handlers return their error instead of calling it; it is for code that stands outside of an
// operation.
func (a *API[C]) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	if x == nil { // not under ServeHTTP: a wiring mistake, yet the caller is owed an id
		x = a.begin(r)
	}
	p := a.problemOf(r.Context(), err)
	if p.HTTPStatus() >= http.StatusInternalServerError && !p.Busy {
		a.logFailure(r.Context(), x, p)
	}
	a.tellRefused(r.Context(), x, p)
	h := w.Header()
	for _, name := range []string{"Content-Length", "Content-Encoding", "Etag", "Last-Modified", "Content-Disposition", "Location"} {
		h.Del(name)
	}
	h.Set("Content-Type", problemType)
	h.Set("Cache-Control", "no-store")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds()))))
	}
	if p.Kind == problem.Unauthenticated {
		h.Set("Www-Authenticate", `Bearer realm="api"`)
	}
	if x.route != nil && x.route.op.Page && accepts(r.Header.Get("Accept"), "text/html") {
		a.refusePage(w, x.meta.ID, p)
		return
	}
	body := a.document(x.meta.ID, p)
	if x.route != nil && x.route.op.Refusal != nil {
		told := *p
		told.Detail = redact(p.Detail)
		var mediaType string
		mediaType, body = x.route.op.Refusal(&told)
		h.Set("Content-Type", mediaType)
	}
	w.WriteHeader(p.HTTPStatus())
	w.Write(body)
}

// refusedPage is a refusal for people.
type refusedPage struct{ Title, Detail, RequestID, API string }

func (a *API[C]) refusePage(w http.ResponseWriter, rid RequestID, p *problem.Error) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	w.WriteHeader(p.HTTPStatus())
	w.Write(render("refused.html", refusedPage{p.Kind.Title(), redact(p.Detail), rid.String(), a.cfg.Title}))
}

func (a *API[C]) document(rid RequestID, p *problem.Error) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	// A credential in the wrong place, such as the name of a field, comes back in what is said about it.
	fields := slices.Clone(p.Fields)
	for i := range fields {
		fields[i].Location, fields[i].Message = redact(fields[i].Location), redact(fields[i].Message)
	}
	// Encode cannot fail: the type holds only strings and numbers.
	_ = enc.Encode(Problem{
		Type:      a.address("/problems/" + string(p.Kind)),
		Title:     p.Kind.Title(),
		Status:    p.HTTPStatus(),
		Detail:    redact(p.Detail),
		Instance:  "urn:uuid:" + rid.String(),
		RequestID: rid.String(),
		Errors:    fields,
	})
	return b.Bytes()
}

// address is a path under the public URL.
func (a *API[C]) address(path string) string {
	return strings.TrimSuffix(a.cfg.PublicURL.String(), "/") + path
}

func (a *API[C]) problemOf(ctx context.Context, err error) *problem.Error {
	p := problem.Of(err)
	if p.Kind == problem.Internal && errors.Is(err, context.DeadlineExceeded) {
		return late().Because(err)
	}
	return p
}

func late() *problem.Error {
	p := problem.New(problem.Unavailable, "It took too long and was given up. It may have been done or not: look, or send it again with the same Idempotency-Key if it had one.")
	p.RetryAfter, p.Uncertain = 2*time.Second, true
	return p
}

func (a *API[C]) logFailure(ctx context.Context, x *exchange, p *problem.Error) {
	attrs := []slog.Attr{
		slog.String("request_id", x.meta.ID.String()),
		slog.String("operation", x.meta.Operation),
		slog.Int("status", p.HTTPStatus()),
		slog.String("error", redact(p.Error())),
	}
	var crash *crash
	if errors.As(p, &crash) {
		attrs = append(attrs, slog.String("stack", crash.stack))
	}
	a.cfg.Logger.LogAttrs(ctx, slog.LevelError, "request failed", attrs...)
}

// Asks tells who asks, for a raw operation that proves it for itself (Access Own): what is refused after it is refused to
// that caller, and the Refused hook is told so.
func (a *API[C]) Asks(ctx context.Context, c C) {
	if x := exchangeOf(ctx); x != nil {
		x.caller = &c
	}
}

func (a *API[C]) tellRefused(ctx context.Context, x *exchange, p *problem.Error) {
	if a.cfg.Refused == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hookTimeout)
	defer cancel()
	c, _ := x.caller.(*C)
	a.cfg.Refused(ctx, x.meta, c, x.meta.Operation, p)
}

// crash is a recovered panic: where it happened, and of what type its value was. The value's text is kept only for the
// runtime's own errors, and arguments are never kept: either may hold a secret.
type crash struct{ says, stack string }

// Error is for the log.
func (c *crash) Error() string { return "panic: " + c.says }

// crashOf is called by the deferred function that recovered v.
func crashOf(v any) *crash {
	c := &crash{says: fmt.Sprintf("a value of type %T", v)}
	if err, ok := v.(runtime.Error); ok {
		c.says = err.Error()
	}
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	var b strings.Builder
	for {
		f, more := frames.Next()
		fmt.Fprintf(&b, "%s %s:%d\n", f.Function, f.File, f.Line)
		if !more {
			break
		}
	}
	c.stack = b.String()
	return c
}

// invalidOf makes a problem of what does not fit in a request. The values that huma quotes are left out: they may be secrets.
func invalidOf(wrong []error) *problem.Error {
	p := problem.New(problem.Invalid, "The request does not fit its description. See `errors`.")
	for _, err := range wrong {
		if e, ok := errors.AsType[*huma.ErrorDetail](err); ok {
			p.Fields = append(p.Fields, problem.Field{Location: e.Location, Message: bounds(e.Message)})
		}
	}
	return p
}

// bounds says a bound of a number in digits, where huma writes 2.592e+06.
func bounds(says string) string {
	for sign, words := range map[string]string{"expected number <= ": "must be at most ", "expected number >= ": "must be at least "} {
		if text, ok := strings.CutPrefix(says, sign); ok {
			if n, err := strconv.ParseFloat(text, 64); err == nil {
				return words + digits(n)
			}
		}
	}
	return says
}

// digits is a number as people write it, where Go has 1e+06.
func digits(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }
