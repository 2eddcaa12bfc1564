// Package outbound makes HTTP clients for addresses that customers choose: identity providers, webhooks, gateways. A server
// that fetches what a stranger names can be made to ask its own network (SSRF); these clients cannot.
//
// What it promises:
//
//  1. No connection to an address that is not of the public internet: private, shared, loopback, link-local, multicast,
//     reserved, a cloud's own, or one of those inside an IPv6 address (mapped, NAT64, 6to4, Teredo). Networks that the operator names are
//     the exception: TestOnlyPublicAddressesAreDialled, TestAllowedNetworks, FuzzEmbedded.
//  2. What was judged is what is dialled: a name is looked up once, and a second look is taken at the socket, so an answer of
//     DNS that changes in between gains nothing: TestTheAnswerIsDialled, TestTheSocketIsJudgedAgain.
//  3. In clear (http) only to networks that the operator names: TestClearOnlyWithin.
//  4. No redirect is followed, no proxy of the environment is used, no answer is longer than the limit, none takes longer:
//     TestNoRedirect, TestBodiesEnd, TestTimesEnd.
//  5. The private authority of an operator counts beside the public ones: TestOwnAuthority.
//
// What is told to a customer must not tell ErrRefused from what did not answer, or it maps the network.
package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Config is what a client may reach, and how long it may take.
type Config struct {
	Networks []netip.Prefix // beside the public internet
	CAFile   string         // authorities beside the system's, PEM
	Timeout  time.Duration  // of a request with its answer; 0 is 10 s
	MaxBody  int64          // bytes of an answer; 0 is 1 MiB
	// Lookup and Dial are the system's if nil. Tests record here what would have been dialled.
	Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

// ErrRefused means that an address is not one that may be reached.
var ErrRefused = errors.New("outbound: the address is not one that may be reached")

// ErrTooLong means that an answer is longer than the limit.
var ErrTooLong = errors.New("outbound: the answer is too long")

// Client makes a client.
func Client(c Config) (*http.Client, error) {
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.MaxBody == 0 {
		c.MaxBody = 1 << 20
	}
	if c.Lookup == nil {
		c.Lookup = net.DefaultResolver.LookupNetIP
	}
	if c.Dial == nil {
		c.Dial = c.dialer().DialContext
	}
	roots, err := c.roots()
	if err != nil {
		return nil, fmt.Errorf("outbound.Client: %w", err)
	}
	return &http.Client{
		Transport: &bounded{most: c.MaxBody, next: &http.Transport{
			DialContext: c.dial, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: c.Timeout, ResponseHeaderTimeout: c.Timeout, MaxResponseHeaderBytes: 64 << 10, IdleConnTimeout: 30 * time.Second,
			MaxIdleConnsPerHost: 2,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       c.Timeout,
	}, nil
}

func (c *Config) roots() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("the file holds no certificate")
	}
	return roots, nil
}

// dial looks a name up once and dials what it found, as far as that may be reached.
func (c *Config) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	found, err := c.Lookup(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	clear := ctx.Value(inClear{}) != nil
	failed := ErrRefused
	for _, a := range found {
		if !c.allows(a) || clear && !c.named(a) {
			continue
		}
		conn, err := c.Dial(ctx, network, net.JoinHostPort(a.Unmap().String(), port))
		if err == nil {
			return conn, nil
		}
		failed = err
	}
	return nil, failed
}

// dialer opens sockets, each judged.
func (c *Config) dialer() *net.Dialer {
	return &net.Dialer{Timeout: c.Timeout, Control: c.control}
}

// control judges the address of a socket before it is connected.
func (c *Config) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || !c.allows(ap.Addr()) {
		return ErrRefused
	}
	return nil
}

func (c *Config) allows(a netip.Addr) bool { return Public(a) || c.named(a) }

// named reports whether the operator named a network of the address.
func (c *Config) named(a netip.Addr) bool {
	a = a.Unmap()
	for _, p := range c.Networks {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// inClear marks the context of a request by plain http.
type inClear struct{}

// bounded is a transport whose answers end.
type bounded struct {
	most int64
	next http.RoundTripper
}

// RoundTrip sends a request.
func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	switch r.URL.Scheme {
	case "https":
	case "http":
		r = r.WithContext(context.WithValue(r.Context(), inClear{}, true))
	default:
		return nil, ErrRefused
	}
	if r.URL.User != nil { // would be a credential in an address
		return nil, ErrRefused
	}
	answer, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if answer.ContentLength > b.most {
		answer.Body.Close()
		return nil, ErrTooLong
	}
	answer.Body = &body{ReadCloser: answer.Body, left: b.most}
	return answer, nil
}

// body fails beyond its limit, where a LimitReader would pretend that all was read.
type body struct {
	io.ReadCloser
	left int64
}

// Read reads what the limit leaves.
func (b *body) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, ErrTooLong
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n - 1, ErrTooLong
	}
	return n, err
}
