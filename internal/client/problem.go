package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"syscall"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
)

// Setting is a setting of the client that cannot be used: the address, the key.
type Setting struct{ Says string }

// Error says what is wrong.
func (s *Setting) Error() string { return s.Says }

// Unreachable means that there was no answer, or half of one.
type Unreachable struct {
	Host  string
	Cause error
}

// Error is a sentence for people.
func (u *Unreachable) Error() string {
	var dns *net.DNSError
	switch {
	case errors.Is(u.Cause, context.DeadlineExceeded):
		return u.Host + " took too long to answer"
	case errors.Is(u.Cause, syscall.ECONNREFUSED):
		return "nothing answers at " + u.Host + ": the connection was refused"
	case errors.As(u.Cause, &dns):
		return fmt.Sprintf("the host of %s cannot be found", u.Host)
	case errors.Is(u.Cause, io.EOF), errors.Is(u.Cause, io.ErrUnexpectedEOF), errors.Is(u.Cause, syscall.ECONNRESET):
		return "the connection to " + u.Host + " broke before the answer was complete"
	}
	return fmt.Sprintf("there is no good answer from %s: %v", u.Host, u.Cause)
}

// Unwrap is the cause.
func (u *Unreachable) Unwrap() error { return u.Cause }

// unreachable wraps an error of the transport, without the address that net/http puts into it.
func (c *Client) unreachable(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.Canceled) {
		return err // whoever cancelled knows
	}
	return &Unreachable{c.base.Host, err}
}

// Problem is a refusal or failure that the server answered with (RFC 9457).
type Problem struct {
	Kind       problem.Kind    `json:"kind"` // from the document's type
	Status     int             `json:"status"`
	Title      string          `json:"title"`
	Detail     string          `json:"detail"`
	RequestID  string          `json:"request_id,omitempty"`
	Fields     []problem.Field `json:"errors,omitempty"`
	RetryAfter time.Duration   `json:"-"`
	// Whose credential was sent, as Config says.
	Whose string `json:"-"`
	// Known says that the document came from an Avouch server, as far as its form tells.
	Known bool `json:"-"`
}

// Error is the title and the detail.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Title + ": " + p.Detail
}

// Passing reports whether the same request may succeed later.
func (p *Problem) Passing() bool {
	return p.Kind == problem.TooMany || p.Kind == problem.Unavailable || p.Status >= http.StatusInternalServerError
}

// problem reads the problem document of an answer. One that is none is described by its status alone: what a stranger
// wrote is not shown.
func (c *Client) problem(resp *http.Response) error {
	p := &Problem{Status: resp.StatusCode, Whose: c.cfg.Whose, RequestID: resp.Header.Get("X-Request-Id")}
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n >= 0 && n < 1<<20 {
		p.RetryAfter = time.Duration(n) * time.Second
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if media == "application/problem+json" && err == nil {
		var doc struct {
			Type      string
			Title     string
			Detail    string
			RequestID string `json:"request_id"`
			Errors    []problem.Field
		}
		if json.Unmarshal(body, &doc) == nil {
			kind := kindOf(doc.Type, resp.StatusCode)
			p.Kind, p.Title, p.Detail, p.Fields, p.Known = kind, doc.Title, doc.Detail, doc.Errors, true
			if doc.RequestID != "" {
				p.RequestID = doc.RequestID
			}
		}
	}
	if p.Title == "" {
		p.Kind, p.Title = kindOf("", resp.StatusCode), fmt.Sprintf("%s answered %d %s", c.base.Host, resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	if to, err := url.Parse(resp.Header.Get("Location")); err == nil && resp.StatusCode/100 == 3 && to.Host != "" {
		p.Detail = fmt.Sprintf("It points to %s://%s. Redirects are not followed, so that the credential goes nowhere else.", to.Scheme, to.Host)
	}
	return p
}

// kindOf is the kind that a document's type names, or else the one that goes with the status.
func kindOf(typ string, status int) problem.Kind {
	if u, err := url.Parse(typ); err == nil {
		for _, k := range problem.Kinds() {
			if path.Base(u.Path) == string(k) {
				return k
			}
		}
	}
	for _, k := range problem.Kinds() {
		if k.Status() == status {
			return k
		}
	}
	if status < http.StatusInternalServerError {
		return problem.Invalid
	}
	return problem.Internal
}
