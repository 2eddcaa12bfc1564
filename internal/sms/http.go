package sms

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/secret"
)

// Error is a failure to send.
type Error struct {
	Permanent bool // trying again is of no use
	Status    int  // the provider's answer; 0 if it gave none
	Code      int  // the provider's own code of the error; 0 if it gave none
	says      string
}

// Error says what failed, and nothing of the message.
func (e *Error) Error() string {
	s := "sms: " + e.says
	if e.Status != 0 {
		s += fmt.Sprintf(" (%d)", e.Status)
	}
	if e.Code != 0 {
		s += fmt.Sprintf(" (error %d)", e.Code)
	}
	return s
}

// maxAnswer is the most that is read of an answer.
const maxAnswer = 16 << 10

// post sends a request and returns the status and the beginning of the body. Errors of net/http quote the URL, which may hold
// a credential or a number: they are not passed on.
func post(client *http.Client, r *http.Request) (status int, body []byte, err error) {
	answer, err := client.Do(r)
	if err != nil {
		return 0, nil, &Error{says: "the provider cannot be reached, or is not to be trusted"}
	}
	defer answer.Body.Close()
	// Once there is a status, what becomes of the body is of no matter.
	body, _ = io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	return answer.StatusCode, body, nil
}

// refused is what a status means that is none of success.
func refused(status int) *Error {
	e := &Error{Status: status, says: "the provider did not take the message"}
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
	default:
		e.Permanent = status < 500
	}
	return e
}

// gateway is a provider whose interface the configuration describes.
type gateway struct {
	secret.Hidden // the headers
	client        *http.Client
	method        string
	url           *url.URL
	header        http.Header
	json          map[string]any // or
	form          url.Values
	statuses      map[int]bool // empty is all of success
}

// fill puts the message in the place of {to} and {text}, at once: a text that holds {to} stays as it is.
func fill(s string, m Message) string {
	return strings.NewReplacer("{to}", m.To, "{text}", m.Text).Replace(s)
}

// fillAll fills every string of a JSON value, and leaves names and numbers alone.
func fillAll(v any, m Message) any {
	switch v := v.(type) {
	case string:
		return fill(v, m)
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, x := range v {
			out[name] = fillAll(x, m)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = fillAll(x, m)
		}
		return out
	}
	return v
}

func (g *gateway) body(m Message) ([]byte, error) {
	if g.json != nil {
		return json.Marshal(fillAll(g.json, m))
	}
	form := url.Values{}
	for name, values := range g.form {
		for _, v := range values {
			form.Add(name, fill(v, m))
		}
	}
	return []byte(form.Encode()), nil
}

// Send hands the message to the provider.
func (g *gateway) Send(ctx context.Context, m Message) error {
	if err := m.check(); err != nil {
		return &Error{Permanent: true, says: "the message is none"}
	}
	body, err := g.body(m)
	if err != nil {
		return &Error{Permanent: true, says: "the request cannot be made"}
	}
	to := *g.url
	kind := "application/json"
	if g.json == nil {
		kind = "application/x-www-form-urlencoded"
	}
	if g.method == http.MethodGet {
		if to.RawQuery != "" {
			to.RawQuery += "&"
		}
		to.RawQuery += string(body)
		body, kind = nil, ""
	}
	r, err := http.NewRequestWithContext(ctx, g.method, to.String(), bytes.NewReader(body))
	if err != nil {
		return &Error{Permanent: true, says: "the request cannot be made"}
	}
	r.Header = g.header.Clone()
	if kind != "" && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", kind)
	}
	status, _, err := post(g.client, r)
	if err != nil {
		return err
	}
	if status >= 200 && status <= 299 && (len(g.statuses) == 0 || g.statuses[status]) {
		return nil
	}
	return refused(status)
}

// Caught makes mails of text messages, for the inbox of `avouch dev`.
func Caught(inbox mail.Sender) Sender { return caught{inbox} }

type caught struct{ inbox mail.Sender }

// Send puts the message into the inbox.
func (c caught) Send(ctx context.Context, m Message) error {
	if err := m.check(); err != nil {
		return &Error{Permanent: true, says: "the message is none"}
	}
	return c.inbox.Send(ctx, mail.Message{To: m.To + "@sms.invalid", Subject: "A text message", Text: m.Text})
}
