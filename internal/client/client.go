package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
)

// Config says whom to ask, and as whom.
type Config struct {
	URL     string        // of the server: https, or http on this machine
	Key     secret.String // an API key, or a token; empty for what everyone may ask
	Whose   string        // it is, as the caller calls them: each Problem says so
	Agent   string        // User-Agent
	Timeout time.Duration // for one answer; 30 s if zero
	Silence time.Duration // how long a stream or a download may be silent; 60 s if zero
	// Transport carries the requests; nil is one of its own.
	Transport http.RoundTripper
}

// Client asks one server. It is safe for use by many goroutines.
type Client struct {
	cfg  Config
	base *url.URL
	http *http.Client
}

// maxBody is the largest answer that is read into memory. A page of the log with 200 large entries is a tenth of it.
const maxBody = 64 << 20

// New checks the settings and connects to nothing yet. Its errors are *Setting.
func New(cfg Config) (*Client, error) {
	base, err := parseBase(cfg.URL)
	if err != nil {
		return nil, err
	}
	if strings.ContainsFunc(cfg.Key.Expose(), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, &Setting{"the key holds white space or other characters that no key has: was it copied whole, and alone?"}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Silence == 0 {
		cfg.Silence = 60 * time.Second
	}
	if cfg.Transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.DialContext = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
		t.MaxResponseHeaderBytes = 64 << 10
		cfg.Transport = t
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{cfg: cfg, base: base, http: &http.Client{Transport: cfg.Transport, CheckRedirect: stay}}, nil
}

// parseBase reads the server's address. What is wrong is said without quoting it: it may hold a password.
func parseBase(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return nil, &Setting{"no server is named"}
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, &Setting{"the server's address is not of the form https://host or http://127.0.0.1:port"}
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, &Setting{"the server's address holds more than scheme, host, port and path: leave out user, password, query and fragment"}
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, &Setting{"plain http is for this machine only: to " + u.Hostname() + " the credential would travel in the clear. Use https"}
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimRight(u.Path, "/")}, nil
}

func loopback(host string) bool {
	if h := strings.ToLower(host); h == "localhost" || strings.HasSuffix(h, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// Host is the server's host and port.
func (c *Client) Host() string { return c.base.Host }

// Call is one request.
type Call struct {
	Method string   // GET if empty
	Path   []string // the segments of the path: each is escaped
	Query  url.Values
	Header http.Header
	Body   any // sent as JSON; nil sends none
}

// Answer is what came back, of a request that succeeded.
type Answer struct {
	Status int
	Header http.Header
	Body   json.RawMessage
}

// Into decodes an answer's body. Names that T lacks are ignored: the server may be newer.
func (a Answer) Into(v any) error {
	if err := json.Unmarshal(a.Body, v); err != nil {
		return fmt.Errorf("client.Into: the server's answer is not what was expected; its version may not fit: %w", err)
	}
	return nil
}

// Do sends a call and reads the whole answer.
func (c *Client) Do(ctx context.Context, call Call) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	resp, err := c.send(ctx, call, "application/json")
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return Answer{}, c.unreachable(err)
	}
	if len(body) > maxBody {
		return Answer{}, c.unreachable(fmt.Errorf("the answer is larger than %d MiB", maxBody>>20))
	}
	return Answer{resp.StatusCode, resp.Header, body}, nil
}

// Download sends a call and hands over the body as it comes, to be closed by the caller. It is cut off when it has been
// silent for too long; how long it takes altogether is not limited.
func (c *Client) Download(ctx context.Context, call Call, accept string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	// The server may put the whole together before it sends the first byte, so there is more patience before that.
	timer := time.AfterFunc(10*c.cfg.Silence, cancel)
	resp, err := c.send(ctx, call, accept)
	if err != nil {
		timer.Stop()
		cancel()
		return nil, err
	}
	return &quiet{body: resp.Body, timer: timer, most: c.cfg.Silence, cancel: cancel}, nil
}

// quiet is a body that ends when nothing came for too long.
type quiet struct {
	body   io.ReadCloser
	timer  *time.Timer
	most   time.Duration
	cancel context.CancelFunc
}

// Read is for io.Reader.
func (q *quiet) Read(b []byte) (int, error) {
	q.timer.Reset(q.most)
	n, err := q.body.Read(b)
	if err != nil && err != io.EOF && !q.timer.Stop() {
		err = errors.New("the server has been silent for too long")
	}
	return n, err
}

// Close is for io.Closer.
func (q *quiet) Close() error {
	q.timer.Stop()
	q.cancel()
	return q.body.Close()
}

// send sends a call; a status that is no success is an error.
func (c *Client) send(ctx context.Context, call Call, accept string) (*http.Response, error) {
	req, err := c.request(ctx, call, accept)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.problem(resp)
}

func (c *Client) request(ctx context.Context, call Call, accept string) (*http.Request, error) {
	if slices.Contains(call.Path, "") {
		return nil, &Setting{"an identifier is empty"} // it would lead to another operation
	}
	u := c.base.JoinPath(escaped(call.Path)...)
	u.RawQuery = call.Query.Encode()
	var body io.Reader
	if call.Body != nil {
		b, err := json.Marshal(call.Body)
		if err != nil {
			return nil, fmt.Errorf("client.Do: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, call.Method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("client.Do: %w", err)
	}
	for name, values := range call.Header {
		req.Header[name] = values
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", c.cfg.Agent)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key := c.cfg.Key.Expose(); key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	return req, nil
}

// escaped escapes segments so that none is read as two, or as a step upwards.
func escaped(segments []string) []string {
	out := make([]string, len(segments))
	for i, s := range segments {
		out[i] = url.PathEscape(s)
		if strings.Trim(s, ".") == "" {
			out[i] = strings.ReplaceAll(s, ".", "%2E")
		}
	}
	return out
}
