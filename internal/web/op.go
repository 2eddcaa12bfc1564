package web

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/avouch-dev/avouch/internal/problem"
)

// Access says who may call an operation.
type Access int

// Who may call. The zero value is the strict one, so that an operation that forgets it is closed.
const (
	Authenticated Access = iota // only whom Config.Authenticate knows, with the operation's scope if it names one
	Public                      // everyone; the caller is Config.Anonymous
	Own                         // raw operations only: the handler itself proves who asks
)

// Op describes an operation: for the router, for OpenAPI, and for the rules that are held around it.
type Op struct {
	ID          string // stable for ever: SDKs name their methods after it
	Method      string
	Path        string // as http.ServeMux has it: /api/v1/agents/{id}
	Summary     string // one line, no full stop
	Description string // paragraphs apart by an empty line; `code` in back quotes
	Tags        []string
	Access      Access
	Scope       string        // what the caller must have been granted; Config.Allow judges
	Status      int           // of success; 200 with a body, 204 without
	MaxBody     int64         // bytes; Config.MaxBody if zero
	Timeout     time.Duration // Config.Timeout if zero
	Idempotent  bool          // takes an Idempotency-Key
	Stream      bool          // raw operations only: no time limit, no deadline for writing
	Produces    string        // raw operations only: the media type of the answer if it is not JSON
	CrossSite   bool          // public operations only: pages of other sites may send it, which Config.SameOrigin is not asked about
	PlainHTTP   bool          // served over plain HTTP even if the public URL is https: probes of a load balancer
	Page        bool          // for people in browsers: what is refused is told them as a page, if they take one
	// Refusal writes what is refused where a protocol has a form of its own for that; nil is the problem document.
	Refusal    func(p *problem.Error) (mediaType string, body []byte)
	Hidden     bool // not in OpenAPI
	Deprecated bool
	Fails      map[int]string // for OpenAPI: when it answers with these statuses, where a client should know; others are in default
}

// Func is an operation with its input decoded and its output to be encoded.
type Func[C, In, Out any] func(ctx context.Context, c C, in *In) (*Out, error)

// RawFunc is an operation that reads and writes for itself. An error that it returns before it wrote anything is
// answered with its problem document.
type RawFunc[C any] func(w http.ResponseWriter, r *http.Request, c C, meta RequestMeta) error

// None is the In or Out of an operation that takes or gives nothing.
type None struct{}

// route is an operation as it is served.
type route struct {
	op        Op
	series    *series
	body      *huma.Schema    // of the JSON body; nil if there is none
	repeated  map[string]bool // query parameters that may be there more than once
	described *huma.Operation
	run       func(huma.Context)
}

// Handle registers an operation. In holds parameters (tags path, query, header) and Body; Out holds headers and Body, as
// huma reads them. The handler gets input that fits its description; what it returns is encoded, and an error is
// answered as the problem that it is.
func Handle[C, In, Out any](a *API[C], op Op, fn Func[C, In, Out]) {
	if op.Access == Own || op.Stream || op.Produces != "" {
		panic("web.Handle: " + op.ID + ": Own, Stream and Produces are for raw operations")
	}
	if op.Idempotent && (a.cfg.Idempotency == nil || op.Access != Authenticated) {
		panic("web.Handle: " + op.ID + ": Idempotent needs a store and an authenticated caller")
	}
	rt := a.describe(op, func(d huma.Operation) {
		huma.Register(a.huma, d, func(ctx context.Context, in *In) (*Out, error) {
			call := ctx.Value(callKey{}).(*call[C])
			out, err := fn(ctx, call.caller, in)
			if err != nil {
				call.err = err
				return nil, nil // huma answers with an empty body, which is thrown away
			}
			return out, nil
		})
	})
	a.mount(rt, func(w *recorder, r *http.Request, c C) error {
		body, err := a.readBody(w, r, rt)
		if err != nil {
			return err
		}
		if err := checkQuery(r, rt); err != nil {
			return err
		}
		reply, err := a.within(r, rt, func(ctx context.Context) (*answer, error) { return a.perform(ctx, rt, r, c, body) })
		if err != nil {
			return err
		}
		reply.send(w)
		return nil
	})
}

// HandleRaw registers an operation that OpenAPI describes by In and Out but that does its own reading and writing: the
// hot path, streams, forms. Decode reads a JSON body as strictly as Handle does.
func HandleRaw[In, Out, C any](a *API[C], op Op, fn RawFunc[C]) {
	if op.Idempotent {
		panic("web.HandleRaw: " + op.ID + ": Idempotent is for Handle")
	}
	rt := a.describe(op, func(d huma.Operation) {
		huma.Register(a.huma, d, func(context.Context, *In) (*Out, error) { return nil, nil })
	})
	limit := or(op.Timeout, a.cfg.Timeout)
	a.mount(rt, func(w *recorder, r *http.Request, c C) error {
		meta := exchangeOf(r.Context()).meta
		r.Body = http.MaxBytesReader(w, r.Body, a.maxBody(rt))
		if op.Stream {
			// A connection without deadlines, as in tests, has none to lift.
			_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
			return fn(w, r, c, meta)
		}
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		return fn(w, r.WithContext(ctx), c, meta)
	})
}

// Mount serves pages and files that are no part of the API: op needs an ID and a Path, and may have a Method. Nobody is
// authenticated.
func (a *API[C]) Mount(op Op, h http.Handler) {
	op.Access, op.Hidden = Public, true
	rt := &route{op: op, series: a.metrics.of(op.ID, or(op.Method, "any"))}
	a.mount(rt, func(w *recorder, r *http.Request, _ C) error {
		h.ServeHTTP(w, r)
		return nil
	})
}

// Operations lists what is served, as it was registered: for what is to hold of every route.
func (a *API[C]) Operations() []Op { return slices.Clone(a.ops) }

// describe registers the operation with huma and makes its route.
func (a *API[C]) describe(op Op, register func(huma.Operation)) *route {
	if op.ID == "" || op.Method == "" || op.Path == "" || op.Summary == "" && !op.Hidden {
		panic("web: an operation needs ID, Method, Path and Summary: " + op.ID + " " + op.Path)
	}
	if op.CrossSite && op.Access != Public {
		panic("web: " + op.ID + ": CrossSite is for public operations")
	}
	if op.Scope != "" && a.cfg.Allow == nil {
		panic("web: " + op.ID + " names a scope, but Config.Allow is nil")
	}
	a.describing = op.ID
	register(a.operation(op))
	d := a.caught.operation
	rt := &route{op: op, repeated: map[string]bool{}, series: a.metrics.of(op.ID, op.Method), described: d, run: a.caught.handler}
	if d.RequestBody != nil && d.RequestBody.Content["application/json"] != nil {
		rt.body = d.RequestBody.Content["application/json"].Schema
	}
	for _, p := range d.Parameters {
		if p.In == "query" && p.Schema != nil && p.Schema.Type == huma.TypeArray {
			rt.repeated[p.Name] = true
		}
	}
	return rt
}

// mount puts a route into both routers, inside its span, behind its identity check.
func (a *API[C]) mount(rt *route, next func(*recorder, *http.Request, C) error) {
	var h http.HandlerFunc = func(w http.ResponseWriter, r *http.Request) {
		rec := w.(*recorder)
		defer a.recovered(rec, r)
		c, err := a.identify(r, rt)
		if err == nil {
			err = next(rec, r, c)
		}
		if err != nil {
			a.fail(rec, r, err)
		}
	}
	if a.tracer != nil {
		h = a.span(rt, h)
	}
	pattern := strings.TrimSpace(rt.op.Method + " " + rt.op.Path)
	a.ops = append(a.ops, rt.op)
	a.routes.Handle(pattern, h)
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		x := exchangeOf(r.Context())
		x.route, x.meta.Operation = rt, rt.op.ID
		h(w, r)
	})
	if rt.op.PlainHTTP {
		a.plain[rt.op.Path] = true
	}
}

func (a *API[C]) identify(r *http.Request, rt *route) (C, error) {
	x := exchangeOf(r.Context())
	if rt.op.Access != Authenticated {
		return a.anybody(r, rt, x)
	}
	c, err := a.cfg.Authenticate(r, x.meta)
	if err != nil {
		return c, fmt.Errorf("web.identify: %w", err)
	}
	x.caller = &c
	if rt.op.Scope != "" {
		if err := a.cfg.Allow(r.Context(), c, rt.op.Scope); err != nil {
			return c, fmt.Errorf("web.identify: %w", err)
		}
	}
	if a.cfg.Admit != nil {
		if err := a.cfg.Admit(r.Context(), c, rt.op.ID); err != nil {
			return c, fmt.Errorf("web.identify: %w", err)
		}
	}
	return c, nil
}

// anybody is who calls an operation that wants nobody in particular.
func (a *API[C]) anybody(r *http.Request, rt *route, x *exchange) (c C, err error) {
	if rt.op.Access == Public && !rt.op.CrossSite && a.cfg.SameOrigin != nil {
		if err := a.cfg.SameOrigin(r); err != nil {
			return c, fmt.Errorf("web.identify: %w", err)
		}
	}
	if a.cfg.Anonymous != nil {
		c = a.cfg.Anonymous(x.meta)
	}
	return c, nil
}

// catcher is the adapter that huma registers with: it keeps the handler, and routes nothing.
type catcher struct {
	operation *huma.Operation
	handler   func(huma.Context)
}

// Handle keeps what huma made of an operation.
func (c *catcher) Handle(op *huma.Operation, handler func(huma.Context)) {
	c.operation, c.handler = op, handler
}

// ServeHTTP is never reached: requests come through API.ServeHTTP.
func (c *catcher) ServeHTTP(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }

// checkQuery refuses a parameter that is there twice: which one counts would be anyone's guess.
func checkQuery(r *http.Request, rt *route) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	values := r.URL.Query()
	names := make([]string, 0, len(values))
	for name, v := range values {
		if len(v) > 1 && !rt.repeated[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return fieldProblems(names, "query.", "is there twice")
}
