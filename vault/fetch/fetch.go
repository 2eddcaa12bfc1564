package fetch

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"time"

	"github.com/avouch-dev/avouch/internal/outbound"
	"github.com/avouch-dev/avouch/internal/secret"
)

// Config is what a Fetcher may use.
type Config struct {
	// Outbound says what may be reached. Its Timeout is that of a whole fetch, redirects included (0 is 30 s), and its MaxBody what an
	// answer may have before it is cut off (0 is 1 MiB).
	Outbound outbound.Config
}

// Fetcher makes requests with secrets in them.
type Fetcher struct {
	transport  http.RoundTripper
	timeout    time.Duration
	mostAnswer int64
	reducing   chan struct{} // answers in which pointers are followed now
}

// ErrFailed is that a host did not answer: whatever the reason, which would tell an agent what there is in our networks. Reason has it.
var ErrFailed = errors.New("the host did not answer")

// ErrTooLong is that an answer is too long for pointers to be followed in it, or what they find is.
var ErrTooLong = errors.New("the answer is too long to be reduced")

// ErrCompressed is that an answer is compressed, and does not say so: it cannot be searched for the secret.
var ErrCompressed = errors.New("the answer is compressed, and does not say so")

// New makes a Fetcher.
func New(c Config) (*Fetcher, error) {
	if c.Outbound.Timeout == 0 {
		c.Outbound.Timeout = 30 * time.Second
	}
	if c.Outbound.MaxBody == 0 {
		c.Outbound.MaxBody = 1 << 20
	}
	f := &Fetcher{timeout: c.Outbound.Timeout, mostAnswer: c.Outbound.MaxBody, reducing: make(chan struct{}, runtime.GOMAXPROCS(0))}
	c.Outbound.MaxBody = 1 << 60 // it refuses what is longer; here it is cut off, by what reads it
	client, err := outbound.Client(c.Outbound)
	if err != nil {
		return nil, fmt.Errorf("fetch.New: %w", err)
	}
	f.transport = client.Transport // a client would read redirects, and fail where it cannot
	return f, nil
}

// mostRedirects is how many are followed.
const mostRedirects = 3

// Do makes a request with a secret in its header, as far as the policy allows it. Its errors are a Denied (nothing was sent), ErrFailed,
// ErrTooLong and ErrCompressed; none holds the secret.
func (f *Fetcher) Do(ctx context.Context, p Policy, s secret.Bytes, r Request) (Response, error) {
	c, err := p.compile()
	if err != nil {
		return Response{}, fmt.Errorf("fetch.Do: %w", err)
	}
	if err := Usable(s); err != nil {
		return Response{}, fmt.Errorf("fetch.Do: %w", err)
	}
	to, err := c.judge(r)
	if err != nil {
		return Response{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	return masking(s, func(m *mask) (Response, error) {
		for hop := 0; ; hop++ {
			answer, err := f.send(ctx, &c, s, r, to)
			if err != nil {
				return Response{}, failed(err)
			}
			next, target := c.follow(r, to, answer)
			if target == nil || hop == mostRedirects {
				defer answer.Body.Close()
				out, err := f.read(ctx, m, r, answer)
				out.Redirects = hop
				return out, err
			}
			answer.Body.Close()
			r, to = next, target
		}
	})
}

// masking does what needs a mask of a secret, and clears that afterwards.
func masking(s secret.Bytes, do func(*mask) (Response, error)) (Response, error) {
	m := newMask(s.Expose())
	defer m.clear()
	return do(m)
}

func (f *Fetcher) send(ctx context.Context, c *compiled, s secret.Bytes, r Request, to *url.URL) (*http.Response, error) {
	q, err := http.NewRequestWithContext(ctx, r.method(), "", bytes.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	q.URL = to // what was judged, and not what a parser makes of its text
	for name, value := range r.Header {
		q.Header.Set(name, value)
	}
	if q.Header.Get("User-Agent") == "" {
		q.Header.Set("User-Agent", "Avouch")
	}
	q.Header.Set("Accept-Encoding", "identity")
	q.Header.Set(c.header, c.value(s))
	// Each request has a connection of its own: its addresses are judged anew, and no answer can be one to another's request.
	q.Close = true
	return f.transport.RoundTrip(q)
}

// follow is the request that an answer leads to, if it is one that may be followed: to the same scheme, host and port, and allowed as
// if the agent had asked for it.
func (c *compiled) follow(r Request, from *url.URL, answer *http.Response) (Request, *url.URL) {
	method := r.method()
	switch answer.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound:
		if method != http.MethodGet && method != http.MethodHead {
			return r, nil // what becomes of another method is read in two ways
		}
	case http.StatusSeeOther:
		if method != http.MethodHead {
			r.Method = http.MethodGet
		}
		r.Body, r.Header = nil, withoutContent(r.Header)
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return r, nil
	}
	locations := answer.Header.Values("Location")
	if len(locations) != 1 || locations[0] == "" {
		return r, nil
	}
	target, err := from.Parse(locations[0])
	if err != nil {
		return r, nil
	}
	target.Fragment, target.RawFragment = "", ""
	r.URL = target.String()
	to, err := c.judge(r)
	if err != nil || to.Scheme != from.Scheme || to.Host != from.Host {
		return r, nil
	}
	return r, to
}

// withoutContent leaves out what is said of a body.
func withoutContent(header map[string]string) map[string]string {
	out := map[string]string{}
	for name, value := range header {
		if len(name) < len("content-") || folded(name[:len("content-")]) != "content-" {
			out[name] = value
		}
	}
	return out
}

// failure is an ErrFailed with its reason, which its text does not say.
type failure struct{ reason string }

// Error is the same for all reasons.
func (f *failure) Error() string { return ErrFailed.Error() }

// Is makes it an ErrFailed.
func (f *failure) Is(target error) bool { return target == ErrFailed }

// Reason is why there is no answer to give, in a word for the log, of a closed list: refused (an address that may not be reached), lookup,
// unreachable, tls, timeout, cancelled, encoding (one that was not asked for), broken, too_long, compressed. Of other errors it is "".
func Reason(err error) string {
	var f *failure
	if errors.As(err, &f) {
		return f.reason
	}
	switch {
	case errors.Is(err, ErrTooLong):
		return "too_long"
	case errors.Is(err, ErrCompressed):
		return "compressed"
	}
	return ""
}

func failed(err error) error {
	var lookup *net.DNSError
	var dial *net.OpError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var timeout net.Error
	switch {
	case errors.Is(err, outbound.ErrRefused):
		return &failure{"refused"}
	case errors.Is(err, errEncoding):
		return &failure{"encoding"}
	case errors.Is(err, context.Canceled):
		return &failure{"cancelled"}
	case errors.Is(err, context.DeadlineExceeded):
		return &failure{"timeout"}
	case errors.As(err, &lookup):
		return &failure{"lookup"}
	case errors.As(err, &timeout) && timeout.Timeout():
		return &failure{"timeout"}
	case errors.As(err, &record), errors.As(err, &alert), errors.As(err, &certificate), errors.As(err, &authority), errors.Is(err, http.ErrSchemeMismatch):
		return &failure{"tls"}
	case errors.As(err, &dial) && dial.Op == "dial":
		return &failure{"unreachable"}
	}
	return &failure{"broken"}
}
