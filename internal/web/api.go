package web

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// Config is what the plumbing is told. C is the caller type: whoever Authenticate says is asking.
type Config[C any] struct {
	Title       string
	Version     string
	Description string // the first paragraphs of /docs
	Tags        []Tag  // the chapters of /docs, in order; an operation's first tag is its chapter

	// PublicURL is where the service is reached from outside. If it is https, plain HTTP is not served.
	PublicURL *url.URL
	// TrustedProxies may tell of their clients, in the header that Forwarded names (X-Forwarded-For if empty).
	TrustedProxies []netip.Prefix
	Forwarded      ForwardedBy

	// Authenticate says who sends the request. It must not read the body. Its error is answered as it is.
	Authenticate func(r *http.Request, meta RequestMeta) (C, error)
	// SameOrigin refuses what a page of another site sent. It is asked about public operations, which may set a cookie though
	// they need none; Authenticate judges the others by their credential. Nil lets all through.
	SameOrigin func(r *http.Request) error
	// Anonymous makes the caller of public operations; the zero C without it.
	Anonymous func(meta RequestMeta) C
	// Allow says whether the caller has a scope; needed if any operation names one.
	Allow func(ctx context.Context, c C, scope string) error
	// Admit is asked last, when it is known that the caller may: whether one more request of the credential is let in.
	Admit func(ctx context.Context, c C, operation string) error
	// Refused is told of every problem document before it is sent, whatever its kind: the server records the denials.
	// c is nil if nobody was authenticated, operation is empty if no route matched.
	Refused func(ctx context.Context, meta RequestMeta, c *C, operation string, p *problem.Error)
	// Leaked is told of a credential that came in an address or over plain HTTP. MetaOf(ctx) is the request.
	Leaked func(ctx context.Context, credential string)
	// Idempotency keeps the answers of operations that take an Idempotency-Key.
	Idempotency IdempotencyStore[C]

	MaxBody int64         // bytes; 1 MiB if zero
	Timeout time.Duration // for one operation; 15 s if zero
	HSTS    time.Duration // how long browsers must insist on TLS; one year if zero

	Logger  *slog.Logger
	Metrics prometheus.Registerer
	Tracer  trace.TracerProvider // no spans if nil
}

// Tag is a chapter of the API.
type Tag struct{ Name, Description string }

// API is the routes and all that stands around them. It is an http.Handler; registering ends before it serves.
type API[C any] struct {
	cfg        Config[C]
	openapi    *huma.OpenAPI
	describing string         // the operation that is being registered: it names the types of its bodies
	mux        *http.ServeMux // every route, and a last one that answers for the rest
	routes     *http.ServeMux // every route, asked only by that last one: what would have matched but for the method
	ops        []Op
	plain      map[string]bool // paths that are served over plain HTTP too
	metrics    *metrics
	tracer     trace.Tracer
	spec       func() []byte
	docs       func() []byte
}

// New makes an API with no operations but /openapi.json, /docs and /problems/{kind}. It panics if the configuration
// lacks what it cannot do without, as http.ServeMux does for a bad pattern: both are mistakes of the program.
func New[C any](cfg Config[C]) *API[C] {
	if cfg.PublicURL == nil || cfg.PublicURL.Host == "" || cfg.Authenticate == nil || cfg.Logger == nil {
		panic("web.New: PublicURL, Authenticate and Logger are needed")
	}
	cfg.MaxBody = or(cfg.MaxBody, 1<<20)
	cfg.Timeout = or(cfg.Timeout, 15*time.Second)
	cfg.HSTS = or(cfg.HSTS, 365*24*time.Hour)
	cfg.Forwarded = or(cfg.Forwarded, XForwarded)
	a := &API[C]{
		cfg:     cfg,
		mux:     http.NewServeMux(),
		routes:  http.NewServeMux(),
		plain:   map[string]bool{},
		metrics: newMetrics(cfg.Metrics),
	}
	if cfg.Tracer != nil {
		a.tracer = cfg.Tracer.Tracer("github.com/avouch-dev/avouch/internal/web")
	}
	a.openapi = a.openAPI()
	a.spec = sync.OnceValue(a.renderSpec)
	a.docs = sync.OnceValue(a.renderDocs)
	a.mux.HandleFunc("/", a.missed)
	a.mountPages()
	return a
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// ServeHTTP answers one request: identify it, hold the rules that concern every request, route it, count it.
func (a *API[C]) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := a.begin(r)
	rec := &recorder{ResponseWriter: w}
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
	a.setHeaders(rec.Header(), r, x)
	defer a.count(rec, r.Method, x)
	defer a.recovered(rec, r)
	if a.addressed(rec, r) {
		return
	}
	if p := misshapen(r); p != nil {
		a.Refuse(rec, r, p)
		return
	}
	if !a.guard(rec, r, x) {
		a.mux.ServeHTTP(rec, r)
	}
}

// Headers that are the same on every answer share their values: whoever sets another replaces the slice.
var (
	alike = http.Header{
		"X-Content-Type-Options":  {"nosniff"},
		"Referrer-Policy":         {"no-referrer"},
		"Content-Security-Policy": {"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"},
	}
	noStore = []string{"no-store"}
)

func (a *API[C]) setHeaders(h http.Header, r *http.Request, x *exchange) {
	h.Set(headerRequestID, x.meta.ID.String())
	if x.meta.CallerRequestID != "" {
		h.Set(headerCallerRequestID, x.meta.CallerRequestID)
	}
	if len(r.TransferEncoding) > 0 {
		// net/http hides a Content-Length that came with it. A proxy in front may have gone by that one, so nothing more
		// is read from this connection (RFC 9112, section 6.1).
		h.Set("Connection", "close")
	}
	maps.Copy(h, alike)
	if strings.HasPrefix(r.URL.Path, "/api/") {
		h["Cache-Control"] = noStore
	}
	if x.meta.Secure {
		h.Set("Strict-Transport-Security", "max-age="+seconds(a.cfg.HSTS))
	}
}

func (a *API[C]) count(rec *recorder, method string, x *exchange) {
	took := time.Since(x.meta.Start)
	if x.route != nil {
		x.route.series.observe(rec.status, took)
		return
	}
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
	default:
		method = "other"
	}
	a.metrics.of(unmatched, method).observe(rec.status, took)
}

// recovered is deferred around whatever may panic.
func (a *API[C]) recovered(rec *recorder, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	a.fail(rec, r, crashOf(v))
}

// fail answers with the problem document of err; if an answer is under way already, it cuts the connection, so that the
// caller does not take half an answer for a whole one.
func (a *API[C]) fail(rec *recorder, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client is gone: there is nobody to answer and nothing to report
	}
	if rec.status == 0 {
		a.Refuse(rec, r, err)
		return
	}
	a.logFailure(r.Context(), exchangeOf(r.Context()), problem.Of(err))
	panic(http.ErrAbortHandler)
}

// What is accepted before anything else is looked at. net/http itself cuts off beyond Server's MaxHeaderBytes, without
// a document; between the two the caller gets one.
const (
	maxTarget = 8 << 10
	maxHeader = 16 << 10
)

// misshapen finds what no operation should have to think of: sizes, paths that a proxy and we could read differently,
// text that is not UTF-8, and U+0000, for which PostgreSQL has no place.
func misshapen(r *http.Request) *problem.Error {
	if len(r.RequestURI) > maxTarget {
		return exactly(http.StatusRequestURITooLong, "The address is longer than %d bytes.", maxTarget)
	}
	size := 0
	for name, values := range r.Header {
		for _, v := range values {
			size += len(name) + len(v) + 4
		}
	}
	if size > maxHeader {
		return exactly(http.StatusRequestHeaderFieldsTooLarge, "The header is larger than %d bytes.", maxHeader)
	}
	if !strings.HasPrefix(r.URL.Path, "/") {
		return problem.New(problem.Invalid, "The address has no path.")
	}
	if !canonical(r.URL.EscapedPath()) || dotted(r.URL.Path) {
		return problem.New(problem.Missing, "Paths with empty or dotted segments lead nowhere here.")
	}
	if !storable(r.URL.Path) {
		return problem.New(problem.Invalid, "The path is not UTF-8 text, or holds U+0000.")
	}
	if r.URL.RawQuery == "" {
		return nil
	}
	if q, err := url.QueryUnescape(r.URL.RawQuery); err != nil || !storable(q) {
		return problem.New(problem.Invalid, "The query string is not well-formed UTF-8 text, or holds U+0000.")
	}
	return nil
}

func canonical(p string) bool {
	c := path.Clean(p)
	return c == p || c != "/" && p == c+"/"
}

// dotted reports whether a path, decoded, has a segment that some reader would take for a step up. Escaped slashes may well make
// an empty segment: names have such, as addresses do, and wherever they are merged the request still leads to the same operation.
func dotted(p string) bool {
	for segment := range strings.SplitSeq(p, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// PathTakes reports whether a text can be a segment of a path here, escaped: one that is a step up, or holds a credential, names
// nothing, and a slash alone is the end of a path to the router.
func PathTakes(s string) bool {
	return s != "" && s != "/" && !dotted(s) && len(credentials(url.PathEscape(s))) == 0
}

func storable(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// exactly is an Invalid problem with a status of its own.
func exactly(status int, format string, args ...any) *problem.Error {
	p := problem.New(problem.Invalid, format, args...)
	p.Status = status
	return p
}

// missed answers what no route takes: 405 with Allow if only the method is wrong, else 404.
func (a *API[C]) missed(w http.ResponseWriter, r *http.Request) {
	handler, pattern := a.routes.Handler(r)
	if pattern == "" {
		probe := &answer{header: http.Header{}}
		handler.ServeHTTP(probe, r)
		if probe.status == http.StatusMethodNotAllowed {
			allow := probe.header.Get("Allow")
			w.Header().Set("Allow", allow)
			a.Refuse(w, r, exactly(http.StatusMethodNotAllowed, "This address takes %s.%s", allow, a.beneath(r, allow)))
			return
		}
	}
	a.Refuse(w, r, problem.New(problem.Missing, "There is nothing at this address. %s lists what there is.", a.address("/docs")))
}

// beneath says what else there is to do with what an address names, such as POST …/revoke where somebody tried DELETE.
func (a *API[C]) beneath(r *http.Request, allow string) string {
	there := r.Clone(r.Context())
	there.Method, _, _ = strings.Cut(allow, ",")
	_, pattern := a.routes.Handler(there)
	_, of, _ := strings.Cut(pattern, " ")
	var acts []string
	for _, op := range a.ops {
		if act, under := strings.CutPrefix(op.Path, of+"/"); under && !op.Hidden && strings.HasSuffix(of, "}") && !strings.Contains(act, "/") {
			acts = append(acts, op.Method+" …/"+act)
		}
	}
	if len(acts) == 0 {
		return ""
	}
	slices.Sort(acts)
	return " What it names also takes " + strings.Join(acts, ", ") + "."
}

// answer is a response that is kept until it is whole.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header is the header to be sent.
func (w *answer) Header() http.Header { return w.header }

// WriteHeader keeps the status.
func (w *answer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write keeps a part of the body.
func (w *answer) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

// send copies the answer out.
func (w *answer) send(to http.ResponseWriter) {
	for name, values := range w.header {
		to.Header()[name] = values
	}
	to.WriteHeader(or(w.status, http.StatusOK))
	to.Write(w.body.Bytes())
}
