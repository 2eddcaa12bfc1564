package web

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

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
	op     Op
	series *series
	bound  *binding
	run    func(ctx context.Context, caller, in any) (out any, err error) // of typed operations
}

// Handle registers an operation. In holds parameters (tags path, query, header) and Body; Out holds headers and Body, with the
// tags that huma describes and validates by. A list of the query has the tag query:"name,explode". The handler gets input that
// fits its description; what it returns is encoded, and an error is answered as the problem that it is.
func Handle[C, In, Out any](a *API[C], op Op, fn Func[C, In, Out]) {
	// As little as can be, since it is compiled for each In and Out.
	a.handle(op, reflect.TypeFor[In](), reflect.TypeFor[Out](), func(ctx context.Context, c, in any) (any, error) {
		out, err := fn(ctx, c.(C), in.(*In))
		if out == nil || err != nil {
			return nil, err
		}
		return out, nil
	})
}

func (a *API[C]) handle(op Op, in, out reflect.Type, fn func(ctx context.Context, caller, in any) (any, error)) {
	if op.Access == Own || op.Stream || op.Produces != "" {
		panic("web.Handle: " + op.ID + ": Own, Stream and Produces are for raw operations")
	}
	if op.Idempotent && (a.cfg.Idempotency == nil || op.Access != Authenticated) {
		panic("web.Handle: " + op.ID + ": Idempotent needs a store and an authenticated caller")
	}
	rt := a.describe(op, in, out)
	rt.run = fn
	a.mount(rt, func(w *recorder, r *http.Request, c C) error {
		body, err := a.readBody(w, r, rt)
		if err != nil {
			return err
		}
		if err := rt.bound.check(r); err != nil {
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
	a.handleRaw(op, reflect.TypeFor[In](), reflect.TypeFor[Out](), fn)
}

func (a *API[C]) handleRaw(op Op, in, out reflect.Type, fn RawFunc[C]) {
	if op.Idempotent {
		panic("web.HandleRaw: " + op.ID + ": Idempotent is for Handle")
	}
	rt := a.describe(op, in, out)
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

// describe enters the operation in the OpenAPI document, and makes its route.
func (a *API[C]) describe(op Op, in, out reflect.Type) *route {
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
	d := a.operation(op)
	rt := &route{op: op, series: a.metrics.of(op.ID, op.Method), bound: bind(a.openapi.Components.Schemas, d, in, out)}
	if !op.Hidden {
		a.openapi.AddOperation(d)
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
