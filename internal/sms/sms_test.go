package sms

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/secret"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// provider is one on loopback that remembers what it was told.
type provider struct {
	*httptest.Server
	mu       sync.Mutex
	requests []request
}

type request struct {
	method, path, query, body string
	header                    http.Header
}

// listen starts a provider; answer may be nil, for 200.
func listen(t testing.TB, secure bool, answer http.HandlerFunc) *provider {
	t.Helper()
	p := &provider{}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		p.requests = append(p.requests, request{r.Method, r.URL.Path, r.URL.RawQuery, string(body), r.Header.Clone()})
		p.mu.Unlock()
		if answer != nil {
			answer(w, r)
		}
	})
	if secure {
		p.Server = httptest.NewTLSServer(h)
	} else {
		p.Server = httptest.NewServer(h)
	}
	t.Cleanup(p.Close)
	return p
}

func (p *provider) all() []request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]request(nil), p.requests...)
}

func file(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

var message = Message{To: "+493012345642", Text: `123456 is "your" code & it=text {to} äö` + "\n\n@avouch.example #123456"}

const formBody, jsonBody = "to={to}&message={text}&from=Avouch", `{"messages":[{"destinations":[{"to":"{to}"}],"content":{"text":"{text}"},"ttl":600}]}`

func TestHTTP(t *testing.T) {
	t.Parallel()
	p := listen(t, false, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	headers := file(t, "# the provider's\nAuthorization: App s3cret\n\nX-Twice: a\nX-Twice: b\n")
	for _, c := range []Config{
		{URL: p.URL + "/send?v=2", HeadersFile: headers, Body: formBody}, {URL: p.URL + "/send?v=2", HeadersFile: headers, Body: jsonBody, Method: "PUT", Statuses: "200, 202"},
		{URL: p.URL + "/send?v=2", HeadersFile: headers, Body: formBody, Method: "GET"},
	} {
		c.Provider = "http"
		s, err := New(c)
		must(t, err)
		must(t, s.Send(t.Context(), message))
	}
	all := p.all()
	for i, r := range all {
		if r.path != "/send" || r.header.Get("Authorization") != "App s3cret" || len(r.header["X-Twice"]) != 2 || !strings.HasPrefix(r.query, "v=2") {
			t.Errorf("request %d: %+v", i, r)
		}
	}
	for i, raw := range map[int]string{0: all[0].body, 2: strings.TrimPrefix(all[2].query, "v=2&")} {
		form, err := url.ParseQuery(raw)
		if err != nil || len(form) != 3 || form.Get("to") != message.To || form.Get("message") != message.Text || form.Get("from") != "Avouch" {
			t.Errorf("request %d: %q, %v", i, raw, err)
		}
	}
	var body struct {
		Messages []struct {
			Destinations []struct{ To string }
			Content      struct{ Text string }
			TTL          json.Number
		}
	}
	must(t, json.Unmarshal([]byte(all[1].body), &body))
	m := body.Messages[0]
	if all[0].method != "POST" || all[1].method != "PUT" || all[2].method != "GET" || m.Destinations[0].To != message.To || m.Content.Text != message.Text || m.TTL != "600" {
		t.Errorf("%+v", all)
	}
	if all[0].header.Get("Content-Type") != "application/x-www-form-urlencoded" || all[1].header.Get("Content-Type") != "application/json" {
		t.Errorf("types %v, %v", all[0].header, all[1].header)
	}
	strict, err := New(Config{Provider: "http", URL: p.URL, Body: formBody, Statuses: "200"})
	must(t, err)
	if err := strict.Send(t.Context(), message); err == nil {
		t.Error("a status that is none of the list counts as success")
	}
}

const account, apiKey, service = "AC0123456789abcdef0123456789abcdef", "SK0123456789abcdef0123456789abcdef", "MG0123456789abcdef0123456789abcdef"

func TestTwilio(t *testing.T) {
	t.Parallel()
	p := listen(t, false, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if (user != account && user != apiKey) || password != "t0ken" {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"code":20003,"message":"Authenticate","more_info":"https://example.com/20003","status":401}`)
			return
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"sid":"SM1","status":"queued","error_code":null}`)
	})
	token := file(t, "t0ken\n")
	for _, c := range []Config{{Account: account, From: "+15005550006"}, {Account: account + "/" + apiKey, From: service}} {
		c.Provider, c.URL, c.TokenFile = "twilio", p.URL, token
		s, err := New(c)
		must(t, err)
		must(t, s.Send(t.Context(), message))
	}
	for i, r := range p.all() {
		form, err := url.ParseQuery(r.body)
		must(t, err)
		from := map[int][2]string{0: {"From", "+15005550006"}, 1: {"MessagingServiceSid", service}}[i]
		if r.method != "POST" || r.path != "/2010-04-01/Accounts/"+account+"/Messages.json" || len(form) != 3 || form.Get("To") != message.To ||
			form.Get("Body") != message.Text || form.Get(from[0]) != from[1] || r.header.Get("Content-Type") != "application/x-www-form-urlencoded" {
			t.Errorf("%+v", r)
		}
	}
	s, err := New(Config{Provider: "twilio", URL: p.URL, Account: account, From: service, Token: secret.Text("wrong")})
	must(t, err)
	var e *Error
	if err := s.Send(t.Context(), message); !errors.As(err, &e) || e.Code != 20003 || e.Status != 401 || !e.Permanent {
		t.Errorf("with a wrong token: %v", err)
	}
	if d, err := (&Config{Account: account, From: service, Token: secret.Text("x")}).twilio(nil); err != nil || !strings.HasPrefix(d.url, "https://api.twilio.com/2010-04-01/") {
		t.Errorf("%v", err)
	}
}

func TestConfigs(t *testing.T) {
	t.Parallel()
	if s, err := New(Config{}); s != nil || err != nil {
		t.Errorf("without a provider: %v, %v", s, err)
	}
	token := secret.Text("t0ken")
	for says, c := range map[string]Config{
		"another provider":  {Provider: "pigeon"},
		"no URL":            {Provider: "http", Body: formBody},
		"a user in it":      {Provider: "http", URL: "https://me:s3cret@example.com", Body: formBody},
		"no body":           {Provider: "http", URL: "https://example.com"},
		"no number":         {Provider: "http", URL: "https://example.com", Body: "text={text}"},
		"no text":           {Provider: "http", URL: "https://example.com", Body: `{"to":"{to}"}`},
		"half JSON":         {Provider: "http", URL: "https://example.com", Body: `{"to":"{to}","text":"{text}"`},
		"two JSONs":         {Provider: "http", URL: "https://example.com", Body: `{"to":"{to}","text":"{text}"}{}`},
		"JSON in a GET":     {Provider: "http", URL: "https://example.com", Body: jsonBody, Method: "GET"},
		"another method":    {Provider: "http", URL: "https://example.com", Body: formBody, Method: "DELETE"},
		"no status":         {Provider: "http", URL: "https://example.com", Body: formBody, Statuses: "ok"},
		"a redirect":        {Provider: "http", URL: "https://example.com", Body: formBody, Statuses: "302"},
		"no such file":      {Provider: "http", URL: "https://example.com", Body: formBody, HeadersFile: "/nowhere"},
		"a broken header":   {Provider: "http", URL: "https://example.com", Body: formBody, HeadersFile: file(t, "Authorization s3cret")},
		"a header in two":   {Provider: "http", URL: "https://example.com", Body: formBody, HeadersFile: file(t, "A: s3cret\rB: c")},
		"no certificates":   {Provider: "http", URL: "https://example.com", Body: formBody, CAFile: file(t, "s3cret")},
		"no account":        {Provider: "twilio", From: service, Token: token},
		"half an account":   {Provider: "twilio", Account: "AC12", From: service, Token: token},
		"a path in it":      {Provider: "twilio", Account: account + "/../x", From: service, Token: token},
		"no token":          {Provider: "twilio", Account: account, From: service},
		"no sender":         {Provider: "twilio", Account: account, Token: token},
		"a sender too long": {Provider: "twilio", Account: account, From: strings.Repeat("x", 17), Token: token},
	} {
		if s, err := New(c); err == nil || s != nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "t0ken") {
			t.Errorf("%s: %v", says, err)
		}
	}
	s, err := New(Config{Provider: "http", URL: "https://example.com?key=s3cret", Body: formBody, HeadersFile: file(t, "Authorization: s3cret")})
	must(t, err)
	if out := fmt.Sprintf("%v %+v %#v %s", s, s, s, s); strings.Contains(out, "s3cret") {
		t.Error(out)
	}
}

func TestTLSIsRequired(t *testing.T) {
	t.Parallel()
	for to, ok := range map[string]bool{
		"https://sms.example.com/send": true, "http://127.0.0.1:8080": true, "http://localhost": true, "http://[::1]:1": true,
		"http://sms.example.com": false, "http://10.0.0.1": false, "http://localhost.example.com": false, "ftp://localhost": false, "//example.com": false, "https://": false,
	} {
		if _, err := New(Config{Provider: "http", URL: to, Body: formBody}); ok != (err == nil) {
			t.Errorf("%s: %v", to, err)
		}
		if _, err := New(Config{Provider: "twilio", URL: to, Account: account, From: service, Token: secret.Text("x")}); ok != (err == nil) {
			t.Errorf("twilio at %s: %v", to, err)
		}
	}
}

func TestCertificatesCount(t *testing.T) {
	t.Parallel()
	p := listen(t, true, nil)
	ca := file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})))
	for trusted, c := range map[bool]Config{true: {CAFile: ca}, false: {}} {
		c.Provider, c.URL, c.Body = "http", p.URL, formBody
		s, err := New(c)
		must(t, err)
		if err := s.Send(t.Context(), message); trusted != (err == nil) {
			t.Errorf("trusted is %v: %v", trusted, err)
		}
	}
	if n := len(p.all()); n != 1 {
		t.Errorf("%d requests arrived", n)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := listen(t, false, nil)
	for _, status := range []int{301, 302, 303, 307, 308} {
		p := listen(t, false, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, status) })
		s, err := New(Config{Provider: "http", URL: p.URL, Body: formBody, HeadersFile: file(t, "Authorization: s3cret")})
		must(t, err)
		var e *Error
		if err := s.Send(t.Context(), message); !errors.As(err, &e) || !e.Permanent || e.Status != status {
			t.Errorf("%d: %v", status, err)
		}
	}
	if n := len(elsewhere.all()); n != 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}

func TestErrorsHoldNothing(t *testing.T) {
	t.Parallel()
	p := listen(t, false, func(w http.ResponseWriter, r *http.Request) {
		var status int
		fmt.Sscanf(r.URL.Path, "/%d", &status)
		if status == 0 {
			fmt.Sscanf(r.URL.Path, "/base/%d", &status)
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"code":21211,"message":"The 'To' number %s is not valid"}`, message.To)
	})
	for status, permanent := range map[int]bool{400: true, 401: true, 404: true, 408: false, 422: true, 425: false, 429: false, 500: false, 503: false} {
		s, err := New(Config{Provider: "http", URL: fmt.Sprintf("%s/%d?key=s3cret", p.URL, status), Body: formBody})
		must(t, err)
		err = s.Send(t.Context(), message)
		var e *Error
		if !errors.As(err, &e) || e.Permanent != permanent || e.Status != status || strings.ContainsAny(err.Error(), "+?") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%d: %v", status, err)
		}
		s, err = New(Config{Provider: "twilio", URL: fmt.Sprintf("%s/base/%d", p.URL, status), Account: account, From: service, Token: secret.Text("s3cret")})
		must(t, err)
		err = s.Send(t.Context(), message)
		if !errors.As(err, &e) || e.Permanent != permanent || e.Code != 21211 || strings.Contains(err.Error(), "30") && status == 400 {
			t.Errorf("twilio, %d: %v", status, err)
		}
	}
	p.Close()
	s, err := New(Config{Provider: "http", URL: p.URL + "?key=s3cret", Body: formBody, Method: "GET"})
	must(t, err)
	var e *Error
	if err := s.Send(t.Context(), message); !errors.As(err, &e) || e.Permanent || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "1234") {
		t.Errorf("nobody there: %v", err)
	}
	for _, m := range []Message{{}, {To: "+4930", Text: "x"}, {To: message.To}, {To: message.To, Text: "\xff"}, {To: message.To, Text: strings.Repeat("x", maxText+1)}, {To: "+49 30 1234567", Text: "x"}} {
		if err := s.Send(t.Context(), m); !errors.As(err, &e) || !e.Permanent {
			t.Errorf("%q: %v", m.To, err)
		}
	}
}

func TestSilentProvider(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	p := listen(t, false, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	defer close(hang)
	s, err := New(Config{Provider: "http", URL: p.URL, Body: formBody, Timeout: 50 * time.Millisecond})
	must(t, err)
	var e *Error
	if err := s.Send(t.Context(), message); !errors.As(err, &e) || e.Permanent {
		t.Errorf("%v", err)
	}
}

func TestEndlessAnswer(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	written := 0
	p := listen(t, false, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		chunk := make([]byte, 64<<10)
		for r.Context().Err() == nil {
			n, err := w.Write(chunk)
			mu.Lock()
			written += n
			mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	s, err := New(Config{Provider: "http", URL: p.URL, Body: formBody})
	must(t, err)
	must(t, s.Send(t.Context(), message))
	p.CloseClientConnections()
	mu.Lock()
	defer mu.Unlock()
	if written > 64<<20 {
		t.Errorf("%d bytes were read", written)
	}
}

func TestNothingIsInjected(t *testing.T) {
	t.Parallel()
	evil := Message{To: message.To, Text: `"},"to":"+491","x":{"y":"{to}&to=+491` + "\r\nX: y"}
	g, err := (&Config{URL: "https://example.com", Body: jsonBody}).http(nil)
	must(t, err)
	b, err := g.body(evil)
	must(t, err)
	var back any
	must(t, json.Unmarshal(b, &back))
	if text := back.(map[string]any)["messages"].([]any)[0].(map[string]any)["content"].(map[string]any)["text"]; text != evil.Text {
		t.Errorf("%s", b)
	}
	g, err = (&Config{URL: "https://example.com", Body: formBody}).http(nil)
	must(t, err)
	b, err = g.body(evil)
	must(t, err)
	if form, err := url.ParseQuery(string(b)); err != nil || len(form) != 3 || len(form["to"]) != 1 || form.Get("message") != evil.Text {
		t.Errorf("%s", b)
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"+493012345642": "+493012345642", "+49 (30) 123-456.42": "+493012345642", "+1 212 555 0100": "+12125550100", "+1234567": "+1234567",
		"030 1234567": "", "0049301234567": "", "+0301234567": "", "+123456": "", "+1234567890123456": "", "+49 30 abc": "", "": "", "+": "",
		"+49301234567\r\nX": "", "+49３０12345": "", "++49301234567": "", "+49 30" + strings.Repeat(" ", 100) + "1234567": "",
	} {
		if got, err := Number(s); got != want || (want == "") != (err != nil) {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	if Mask("+493012345642") != "+49 ••• 42" || Mask("+1") != "•••" {
		t.Error(Mask("+493012345642"), Mask("+1"))
	}
}

func FuzzNumber(f *testing.F) {
	f.Add("+49 (30) 123-456.42")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := Number(s)
		if err != nil {
			if n != "" || strings.Contains(err.Error(), s) && len(s) > 12 {
				t.Errorf("%q: %q, %v", s, n, err)
			}
			return
		}
		if again, err := Number(n); again != n || err != nil || len(n) < 8 || len(n) > 16 || strings.Trim(n[1:], "0123456789") != "" {
			t.Errorf("%q: %q, %q", s, n, again)
		}
		if strings.Contains(Mask(n), n[3:len(n)-2]) {
			t.Errorf("%q is shown as %q", n, Mask(n))
		}
	})
}

func TestCaught(t *testing.T) {
	t.Parallel()
	s := Caught(box{t})
	must(t, s.Send(t.Context(), message))
	if err := s.Send(t.Context(), Message{}); err == nil {
		t.Error("an empty message was caught")
	}
}

type box struct{ t *testing.T }

func (b box) Send(_ context.Context, m mail.Message) error {
	if m.To != message.To+"@sms.invalid" || m.Text != message.Text || m.Subject == "" {
		b.t.Errorf("%+v", m)
	}
	return nil
}
