package web

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/avouch-dev/avouch/internal/id"
)

type requestKind struct{}

// RequestID names one request. It is made here, for every request; it is on the response, in the problem document and
// in the span, and whoever records the request converts it: audit.RequestID(meta.ID).
type RequestID = id.ID[requestKind]

// RequestMeta is what is known of a request before anybody asks who sent it. It holds no header, path or query.
type RequestMeta struct {
	ID RequestID
	// CallerRequestID is the caller's own X-Request-Id if it is well formed ([A-Za-z0-9_.:-]{1,64}), else empty. It is
	// for correlation only, and is echoed as X-Caller-Request-Id.
	CallerRequestID string
	// Address is the client's: the peer's own, or the one that a trusted proxy vouches for. Zero on a Unix socket.
	Address netip.Addr
	// Secure says that the client's side of the connection is TLS, as seen here or told by a trusted proxy.
	Secure    bool
	Operation string // the operation's id; empty until a route matched
	Start     time.Time
}

// The headers that carry request ids.
const (
	headerRequestID       = "X-Request-Id"
	headerCallerRequestID = "X-Caller-Request-Id"
)

// exchange is the state of one request; it lives in the request's context.
type exchange struct {
	meta   RequestMeta
	route  *route
	caller any // *C once it is known who asks
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// MetaOf is the request that ctx belongs to; zero outside of a request.
func MetaOf(ctx context.Context) RequestMeta {
	if x := exchangeOf(ctx); x != nil {
		return x.meta
	}
	return RequestMeta{}
}

func (a *API[C]) begin(r *http.Request) *exchange {
	address, secure := clientOf(r, a.cfg.TrustedProxies, a.cfg.Forwarded)
	return &exchange{meta: RequestMeta{
		ID:              id.New[requestKind](),
		CallerRequestID: callerRequestID(r.Header.Get(headerRequestID)),
		Address:         address,
		Secure:          secure,
		Start:           time.Now(),
	}}
}

func callerRequestID(s string) string {
	if len(s) == 0 || len(s) > 64 {
		return ""
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '.', c == ':', c == '-':
		default:
			return ""
		}
	}
	return s
}
