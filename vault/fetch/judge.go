package fetch

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
)

// Request is what an agent asks for.
type Request struct {
	Method string            `json:"method,omitempty" doc:"One that the item's policy allows; GET by default" example:"GET"`
	URL    string            `json:"url" doc:"At a host and below a path that the item's policy allows" example:"https://api.example.com/repos/acme"`
	Header map[string]string `json:"header,omitempty" doc:"Beside the one with the secret, and none that would change whom it is asked of: 32, and 16 KiB"`
	Body   []byte            `json:"body,omitempty" doc:"In base64, up to 1 MiB; none with GET and HEAD"`
	Reduce Reduce            `json:"reduce,omitzero" doc:"How much of the answer is wanted; absent is all of it, which the item's policy must allow"`
}

// The bounds of a request.
const (
	mostBody     = 1 << 20
	mostAddress  = 8 << 10
	mostHeaders  = 32
	mostHeader   = 16 << 10 // bytes of all of them
	mostPointers = 20
	mostPointer  = 256 // bytes of each
)

// Denied is that a policy does not allow a request, or that no policy could: then Field is what is wrong with it, as Request names it in
// JSON. Nothing was sent.
type Denied struct{ Why, Field string }

// Error says why, in words for the agent: they hold nothing that it did not say itself, but for what of an answer it may ask for.
func (d *Denied) Error() string { return d.Why }

func denied(format string, args ...any) error { return &Denied{Why: fmt.Sprintf(format, args...)} }

// unfit is of a request that no policy allows.
func unfit(field, format string, args ...any) error {
	return &Denied{Why: fmt.Sprintf(format, args...), Field: field}
}

// Judge says whether a policy allows a request; if not, its error is a Denied. It is pure. What only the network knows, whether the
// host's addresses may be reached, is judged when they are dialled.
func Judge(p Policy, r Request) error {
	_, err := Target(p, r)
	return err
}

// Target is the host that an allowed request goes to, as a log should name it: https://api.example.com, with the port if it is not the
// usual one. Its errors are Judge's.
func Target(p Policy, r Request) (string, error) {
	c, err := p.compile()
	if err != nil {
		return "", err
	}
	to, err := c.judge(r)
	if err != nil {
		return "", err
	}
	return to.Scheme + "://" + to.Host, nil
}

// judge is where an allowed request goes.
func (c *compiled) judge(r Request) (*url.URL, error) {
	to, err := c.address(r.URL)
	if err != nil {
		return nil, err
	}
	method := r.method()
	if !slices.Contains(c.methods, method) {
		return nil, denied("the method %.20q is not one that the item allows", method)
	}
	if len(r.Body) > mostBody {
		return nil, unfit("body", "it has %d bytes; at most %d are sent", len(r.Body), mostBody)
	}
	if len(r.Body) > 0 && (method == http.MethodGet || method == http.MethodHead) {
		return nil, unfit("body", "a request by %s has none", method)
	}
	if strings.Contains(string(r.Body), placeholder) {
		return nil, unfit("body", "the secret is put into the header %s only: the body cannot hold {secret}", c.header)
	}
	if err := c.headers(r.Header); err != nil {
		return nil, err
	}
	asked, err := r.Reduce.compile()
	if err != nil {
		return nil, unfit("reduce", "%v", err)
	}
	if err := c.reduce.covers(asked); err != nil {
		return nil, err
	}
	return to, nil
}

func (r Request) method() string {
	if r.Method == "" {
		return http.MethodGet
	}
	return r.Method
}

// address judges a URL, and writes it anew with the host that was judged, so that no other reading of it is sent.
func (c *compiled) address(text string) (*url.URL, error) {
	if text == "" {
		return nil, unfit("url", "it is required: where the request is sent, such as https://host/path")
	}
	if len(text) > mostAddress {
		return nil, unfit("url", "it has over %d bytes", mostAddress)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) {
		return nil, unfit("url", "it holds a blank, a backslash or a control character")
	}
	u, err := url.Parse(text)
	scheme, rest, ok := strings.Cut(text, "://")
	if err != nil || !ok || !strings.EqualFold(u.Scheme, scheme) || u.Scheme != "https" && u.Scheme != "http" {
		return nil, unfit("url", "it is not written like https://host/path")
	}
	authority, path := rest, ""
	if at := strings.IndexAny(rest, "/?#"); at >= 0 {
		authority, path = rest[:at], rest[at:]
	}
	if strings.Contains(authority, "@") {
		return nil, unfit("url", "it holds a user name: the item's secret is what proves who asks")
	}
	if strings.Contains(text, "#") {
		return nil, unfit("url", "it holds a fragment, which is never sent")
	}
	o, err := parseOrigin(u.Scheme, authority)
	if err != nil {
		return nil, unfit("url", "its host %.100q cannot be read: %v", authority, err)
	}
	if !slices.ContainsFunc(c.origins, func(a origin) bool { return a.covers(o) }) {
		return nil, denied("the host %s://%s is not one that the item allows", o.scheme, o.authority())
	}
	if plain, err := url.QueryUnescape(text); strings.Contains(text, placeholder) || err == nil && strings.Contains(plain, placeholder) {
		return nil, unfit("url", "the secret is put into the header %s only: the URL cannot hold {secret}", c.header)
	}
	if strings.ContainsFunc(path, func(r rune) bool { return r > '~' }) || u.RawPath != "" && u.EscapedPath() != u.RawPath {
		return nil, unfit("url", "its path or its query holds letters that must be percent-encoded")
	}
	if err := c.path(u.EscapedPath()); err != nil {
		return nil, err
	}
	to := &url.URL{Scheme: u.Scheme, Host: o.authority(), Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}
	if to.Path == "" {
		to.Path = "/"
	}
	return to, nil
}

// path judges a path as it is sent. Which of its readings a host takes is not known: also decoded again and again it must stay where
// it is. Where we could not decode it any more, a host that is less strict could.
func (c *compiled) path(escaped string) error {
	for text := escaped; ; {
		if dotted(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return unfit("url", "its path holds a . or .. segment, or a control character")
		}
		next, err := url.PathUnescape(text)
		if err != nil || !utf8.ValidString(next) {
			return unfit("url", "its path, decoded, holds a %% that begins no escape, or is no UTF-8")
		}
		if next == text {
			break
		}
		text = next
	}
	if len(c.paths) == 0 {
		return nil
	}
	segments := strings.Split(strings.TrimPrefix(escaped, "/"), "/")
	for i := range segments {
		segments[i], _ = url.PathUnescape(segments[i]) // escaped is what url wrote
	}
	for _, p := range c.paths {
		if p[0] == "" || len(segments) >= len(p) && slices.Equal(segments[:len(p)], p) {
			return nil
		}
	}
	return denied("the path is not below one that the item allows")
}

// dotted reports a segment that means another: also with parameters or blanks, which some servers leave out before they look.
func dotted(path string) bool {
	for s := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
		s, _, _ = strings.Cut(s, ";")
		if s = strings.TrimSpace(s); s == "." || s == ".." {
			return true
		}
	}
	return false
}

func (c *compiled) headers(given map[string]string) error {
	if len(given) > mostHeaders {
		return unfit("header", "a request has at most %d", mostHeaders)
	}
	size, seen := 0, map[string]bool{}
	for name, value := range given {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return unfit("header", "%.40q is malformed", name)
		}
		if size += len(name) + len(value); size > mostHeader {
			return unfit("header", "they have over %d bytes", mostHeader)
		}
		if seen[folded(name)] {
			return unfit("header", "%.40q is there twice", name)
		}
		seen[folded(name)] = true
		if folded(name) == folded(c.header) {
			return unfit("header", "%.40q is where the secret goes, which the server puts there", name)
		}
		switch why := reserved(name); {
		case why == "", c.cookies && folded(name) == "cookie":
		case folded(name) == "cookie":
			return denied("%s", why)
		default:
			return unfit("header", "%.40q cannot be set: %s", name, why)
		}
		if strings.Contains(value, placeholder) {
			return unfit("header", "the secret is put into %s only: %.40q cannot hold {secret}", c.header, name)
		}
	}
	return nil
}

// folded is a header's name as servers compare it: many take _ for -.
func folded(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

// reserved says why an agent cannot set a header; "" if it can.
func reserved(name string) string {
	name = folded(name)
	switch {
	case strings.HasPrefix(name, "proxy-") || name == "x-forwarded" || strings.HasPrefix(name, "x-forwarded-"):
		return "it is for proxies"
	case strings.HasPrefix(name, "x-original-"):
		return "it would make another request of this one"
	}
	switch name {
	case "host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length", "expect", "http2-settings":
		return "it belongs to the connection"
	case "forwarded", "via", "x-host", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip":
		return "it is for proxies"
	case "x-http-method-override", "x-http-method", "x-method-override", "x-http-path-override", "x-override-url", "x-rewrite-url":
		return "it would make another request of this one"
	case "range", "if-range", "request-range":
		return "a part of an answer could hold a part of the secret"
	case "accept-encoding":
		return "what is compressed cannot be searched for the secret"
	case "cookie", "cookie2":
		return "the item does not allow cookies"
	}
	return ""
}
