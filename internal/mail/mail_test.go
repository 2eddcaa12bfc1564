package mail

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	netmail "net/mail"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/mail/mailtest"
	"github.com/avouch-dev/avouch/internal/secret"
)

var leaked = KeyLeakedData{
	Organisation: "Acme & Söhne", KeyID: "abcdefghijk", Left: "at least 1000", KeyName: "deploy", Hint: "avk_live_…f3a9", Where: "in the address of a request",
	When: "2026-11-22 09:30 UTC", RequestID: "01936f2e-8a4c-7b1d-9c3e-5f6a7b8c9d0e", URL: "https://avouch.example/console",
}

var expiring = KeyExpiringData{
	Organisation: "Acme & Söhne", Days: "7 days", URL: "https://avouch.example/docs#rotate-key",
	Keys: []ExpiringKey{{Name: "deploy", Hint: "avk_live_…f3a9", Owner: "user_17", When: "Mon, 30 Nov 2026 09:30:00 UTC", LastUsed: "Sun, 22 Nov 2026 09:30:00 UTC"}},
}

// config is for a server.
func config(s *mailtest.Server) Config {
	return Config{Server: s.Address, From: "Avouch <avouch@example.com>", TLS: "starttls", CAFile: s.CAFile, Timeout: 20 * time.Second}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// parts reads a message as a reader's program would: its header, and its parts by media type.
func parts(t testing.TB, data string) (netmail.Header, map[string]string) {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(data))
	must(t, err)
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	must(t, err)
	out := map[string]string{}
	if !strings.HasPrefix(kind, "multipart/") {
		out[kind] = body(t, m.Body, m.Header.Get("Content-Transfer-Encoding"))
		return m.Header, out
	}
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return m.Header, out
		}
		must(t, err)
		kind, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		must(t, err)
		out[kind] = body(t, p, p.Header.Get("Content-Transfer-Encoding"))
	}
}

func body(t testing.TB, r io.Reader, encoding string) string {
	t.Helper()
	if encoding == "quoted-printable" {
		r = quotedprintable.NewReader(r)
	}
	b, err := io.ReadAll(r)
	must(t, err)
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

func TestSend(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*mailtest.Server, *Config){
		"starttls": func(*mailtest.Server, *Config) {},
		"tls":      func(s *mailtest.Server, c *Config) { s.Implicit, c.TLS = true, "tls" },
		"plain":    func(s *mailtest.Server, c *Config) { s.StartTLS, c.TLS = false, "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &mailtest.Server{StartTLS: true}
			c := Config{}
			change(s, &c)
			s.Start(t)
			cfg := config(s)
			if c.TLS != "" || name == "plain" {
				cfg.TLS = c.TLS
			}
			sender, err := NewSMTP(cfg)
			must(t, err)
			m, err := Render(KeyLeaked, "Ada Lovelace <ada@example.com>", leaked)
			must(t, err)
			must(t, sender.Send(t.Context(), m))
			all := s.Received()
			if len(all) != 1 || all[0].Encrypted != (name != "plain") || !strings.Contains(all[0].From, "<avouch@example.com>") || !strings.Contains(all[0].To, "<ada@example.com>") {
				t.Fatalf("received %+v", all)
			}
			header, got := parts(t, all[0].Data)
			subject, err := new(mime.WordDecoder).DecodeHeader(header.Get("Subject"))
			if err != nil || subject != "A key of Acme & Söhne has leaked: replace it" {
				t.Errorf("subject %q, %v", subject, err)
			}
			if header.Get("Auto-Submitted") != "auto-generated" || !strings.HasSuffix(header.Get("Message-ID"), "@example.com>") || header.Get("Date") == "" {
				t.Errorf("header %v", header)
			}
			if got["text/plain"] != m.Text || got["text/html"] != m.HTML {
				t.Errorf("parts %q, want %q", got, m)
			}
		})
	}
}

func TestAccount(t *testing.T) {
	t.Parallel()
	s := (&mailtest.Server{StartTLS: true, Auth: true}).Start(t)
	cfg := config(s)
	cfg.User, cfg.PasswordFile = "mailer", filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(cfg.PasswordFile, []byte("hunter2\n"), 0o600))
	sender, err := NewSMTP(cfg)
	must(t, err)
	must(t, sender.Send(t.Context(), Message{To: "ada@example.com", Subject: "x", Text: "y"}))
	must(t, os.Chmod(cfg.PasswordFile, 0o640))
	if _, err := NewSMTP(cfg); err == nil || !strings.Contains(err.Error(), "0640") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a password that others can read: %v", err)
	}
	all := s.Received()
	if want := "PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00mailer\x00hunter2")); len(all) != 1 || all[0].User != want || !all[0].Encrypted {
		t.Errorf("received %+v", all)
	}
	if shown := fmt.Sprintf("%v %+v", cfg, Config{Password: secret.Text("hunter2")}); strings.Contains(shown, "hunter2") {
		t.Errorf("the password shows: %s", shown)
	}
}

// TestTLSIsRequired meets servers that offer no TLS, or a certificate that nobody vouches for: nothing is said to them.
func TestTLSIsRequired(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*mailtest.Server, *Config){
		"no STARTTLS":         func(s *mailtest.Server, _ *Config) { s.StartTLS = false },
		"unknown certificate": func(_ *mailtest.Server, c *Config) { c.CAFile = "" },
		"another name":        func(_ *mailtest.Server, c *Config) { c.Server = strings.Replace(c.Server, "127.0.0.1", "127.0.0.2", 1) },
		"tls, not certified":  func(s *mailtest.Server, c *Config) { s.Implicit, c.TLS, c.CAFile = true, "tls", "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &mailtest.Server{StartTLS: true, Auth: true}
			change(s, &Config{})
			s.Start(t)
			if name == "another name" {
				_, port, err := net.SplitHostPort(s.Address)
				must(t, err)
				s.Listen(t, net.JoinHostPort("127.0.0.2", port)) // another address of loopback, which its certificate does not name
			}
			cfg := config(s)
			cfg.User, cfg.Password = "mailer", secret.Text("hunter2")
			change(&mailtest.Server{}, &cfg)
			sender, err := NewSMTP(cfg)
			must(t, err)
			err = sender.Send(t.Context(), Message{To: "ada@example.com", Subject: "x", Text: "y"})
			if err == nil || strings.Contains(err.Error(), "ada@") {
				t.Errorf("error: %v", err)
			}
			if heard := s.Heard(); strings.Contains(heard, "AUTH") || strings.Contains(heard, "MAIL") || len(s.Received()) != 0 {
				t.Errorf("the server heard %q", heard)
			}
		})
	}
}

// TestPlainOnLoopbackOnly reads configurations.
func TestPlainOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	ok := func(c Config) bool {
		c.From = "avouch@example.com"
		_, err := NewSMTP(c)
		return err == nil
	}
	account := secret.Text("p")
	for _, c := range []Config{
		{Server: "mail.example.com:587"}, {Server: "mail.example.com:465", TLS: "tls"}, {Server: "127.0.0.1:25"}, {Server: "localhost:25", TLS: "none"},
		{Server: "[::1]:25", TLS: "none"}, {Server: "localhost:587", TLS: "starttls", User: "u", Password: account}, {Server: "mail.example.com:587", User: "u", Password: account},
	} {
		if !ok(c) {
			t.Errorf("refused: %+v", c)
		}
	}
	for _, c := range []Config{
		{Server: "mail.example.com:25", TLS: "none"}, {Server: "192.168.1.1:25", TLS: "none"}, {Server: "localhost.example.com:25", TLS: "none"},
		{Server: "127.0.0.1:25", User: "u", Password: account}, {Server: "mail.example.com:587", TLS: "opportunistic"}, {Server: "mail.example.com"}, {Server: ":25"},
		{Server: "mail.example.com:0"}, {Server: "mail.example.com:99999"}, {Server: ""}, {Server: "mail.example.com:587", CAFile: "doc.go"},
		{Server: "mail.example.com:587", CAFile: "nowhere"}, {Server: "mail.example.com:587", User: "u", PasswordFile: "nowhere"},
	} {
		if ok(c) {
			t.Errorf("taken: %+v", c)
		}
	}
	if _, err := NewSMTP(Config{Server: "mail.example.com:587", From: "avouch@example.com\r\nBcc: eve@example.com"}); err == nil {
		t.Error("a sender with a line end was taken")
	}
}

func TestSilentServer(t *testing.T) {
	t.Parallel()
	s := (&mailtest.Server{Silent: true}).Start(t)
	cfg := config(s)
	cfg.Timeout = 300 * time.Millisecond
	sender, err := NewSMTP(cfg)
	must(t, err)
	start := time.Now()
	err = sender.Send(t.Context(), Message{To: "ada@example.com", Subject: "x", Text: "y"})
	var e *Error
	if took := time.Since(start); !errors.As(err, &e) || e.Permanent || took > 10*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}

// TestRefusals tells apart what may succeed later and what will not, and keeps the server's words to itself.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]Error{
		"550 no mailbox for ada@example.com": {Permanent: true, Code: 550},
		"451 ada@example.com: later":         {Code: 451},
	} {
		s := (&mailtest.Server{StartTLS: true, Refuse: answer}).Start(t)
		sender, err := NewSMTP(config(s))
		must(t, err)
		err = sender.Send(t.Context(), Message{To: "ada@example.com", Subject: "x", Text: "y"})
		var e *Error
		if !errors.As(err, &e) || e.Permanent != want.Permanent || e.Code != want.Code || strings.Contains(err.Error(), "ada") {
			t.Errorf("%s: %v", answer, err)
		}
	}
}

// TestNothingIsInjected puts what an attacker could choose into each place, and reads what a server receives.
func TestNothingIsInjected(t *testing.T) {
	t.Parallel()
	s := (&mailtest.Server{StartTLS: true}).Start(t)
	sender, err := NewSMTP(config(s))
	must(t, err)
	evil := "x\r\nBcc: eve@example.com\r\n\r\n<script>alert(1)</script>\r\n.\r\nRCPT TO:<eve@example.com>\r\n\u202e\x00"
	m, err := Render(Incident, "ada@example.com", IncidentData{Organisation: evil, Kind: evil, Detail: evil, When: evil, ID: evil, URL: "javascript:alert(1)"})
	must(t, err)
	must(t, sender.Send(t.Context(), m))
	all := s.Received()
	if len(all) != 1 || strings.Contains(s.Heard(), "eve@") {
		t.Fatalf("the server heard %q", s.Heard())
	}
	header, got := parts(t, all[0].Data)
	if header.Get("Bcc") != "" || len(header["To"]) != 1 || strings.Contains(header.Get("Subject"), "\n") {
		t.Errorf("header %v", header)
	}
	if html := got["text/html"]; strings.Contains(html, "<script>") || strings.Contains(html, "javascript:") || !strings.Contains(html, "&lt;script&gt;") {
		t.Errorf("html %q", html)
	}
	if !strings.Contains(got["text/plain"], "RCPT TO:<eve@example.com>") {
		t.Errorf("the text ends early: %q", got["text/plain"])
	}
	for _, m := range []Message{
		{To: "ada@example.com\r\nBcc: eve@example.com", Subject: "x", Text: "y"}, {To: "ada@example.com, eve@example.com", Subject: "x", Text: "y"},
		{To: "ada@example.com>\nRCPT TO:<eve@example.com", Subject: "x", Text: "y"}, {To: "", Subject: "x", Text: "y"}, {To: "\u202eada@example.com", Subject: "x", Text: "y"},
		{To: strings.Repeat("a", 400) + "@example.com", Subject: "x", Text: "y"}, {To: "ada@example.com", Subject: "x\r\nBcc: eve@example.com", Text: "y"},
		{To: "ada@example.com", Subject: "x\u2028y", Text: "y"}, {To: "ada@example.com", Subject: "", Text: "y"}, {To: "ada@example.com", Subject: "x", Text: ""},
		{To: "ada@example.com", Subject: "x", Text: "\xff"}, {To: "ada@example.com", Subject: "x", Text: strings.Repeat("y", maxBody+1)},
	} {
		var e *Error
		if err := sender.Send(t.Context(), m); !errors.As(err, &e) || !e.Permanent || strings.Contains(err.Error(), "example.com") {
			t.Errorf("%q: %v", m.To, err)
		}
	}
	if n := len(s.Received()); n != 1 {
		t.Errorf("%d messages were sent", n)
	}
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	for name, data := range samples() {
		m, err := Render(name, "ada@example.com", data)
		must(t, err)
		if _, err := m.check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for part, s := range map[string]string{"subject": m.Subject, "text": m.Text, "html": m.HTML} {
			if s == "" || strings.Contains(s, "{{") || strings.Contains(s, "<no value>") || part == "text" && strings.Contains(s, "&amp;") {
				t.Errorf("%s, %s: %q", name, part, s)
			}
		}
		for _, field := range reflect.VisibleFields(reflect.TypeOf(data)) {
			v := reflect.ValueOf(data).FieldByIndex(field.Index)
			if v.Kind() != reflect.String || field.Name == "Kind" && name == FactorChanged {
				continue
			}
			if text := v.String(); text != "" && !strings.Contains(m.Text, text) {
				t.Errorf("%s: %s is not in the text", name, field.Name)
			}
		}
		if _, err := Render(name, "x", struct{}{}); err == nil {
			t.Errorf("%s was filled with nothing", name)
		}
	}
	several := expiring
	several.Keys, several.More = append(several.Keys, ExpiringKey{Name: "other", Hint: "avk_live_…0000", When: "later"}), 35
	for d, words := range map[*KeyExpiringData][]string{
		&expiring: {"A key of Acme", "expires in 7 days", "deploy (avk_live_…f3a9)", "user_17", "Mon, 30 Nov 2026", "Sun, 22 Nov 2026"},
		&several:  {"37 keys of Acme", "expire soon, the first in 7 days", "deploy", "other (avk_live_…0000)", "never", "And 35 more"},
	} {
		m, err := Render(KeyExpiring, "x", *d)
		must(t, err)
		for _, w := range words {
			if !strings.Contains(m.Subject+m.Text, w) || strings.Contains(m.Text, "\n\n\n") {
				t.Errorf("%q is not in %s\n%s", w, m.Subject, m.Text)
			}
		}
	}
	ended := leaked
	ended.Revoked = true
	m, err := Render(KeyLeaked, "x", ended)
	must(t, err)
	for _, s := range []string{m.Text, m.HTML} {
		if strings.Contains(s, "still works") || !strings.Contains(s, "was revoked") {
			t.Errorf("of a key that was revoked: %s", s)
		}
		for _, w := range []string{"still in force: at least 1000.", "avouch keys list --made-by abcdefghijk", "avouch keys revoke abcdefghijk --children"} {
			if !strings.Contains(s, w) {
				t.Errorf("of a key that has made others: no %q in %s", w, s)
			}
		}
	}
	ended.Left = ""
	m, err = Render(KeyLeaked, "x", ended)
	must(t, err)
	if strings.Contains(m.Text+m.HTML, "in force") || strings.Contains(m.Text+m.HTML, "--children") || strings.HasSuffix(m.Text, "\n\n") {
		t.Errorf("of a key that has made none: %s\n%s", m.Text, m.HTML)
	}
	if _, err := Render("../doc", "x", nil); err == nil {
		t.Error("a template that is not there was rendered")
	}
	long, err := Render(Incident, "x", IncidentData{Organisation: strings.Repeat("ü", 500)})
	must(t, err)
	if len(long.Subject) > maxSubject || strings.Contains(long.Subject, "\ufffd") {
		t.Errorf("the subject is %d bytes long", len(long.Subject))
	}
}

// TestVariables holds doc.go to the fields of Config.
func TestVariables(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("doc.go")
	must(t, err)
	documented := map[string]bool{}
	for _, name := range regexp.MustCompile(`AVOUCH_MAIL_\w+`).FindAllString(string(doc), -1) {
		documented[name] = true
	}
	typ := reflect.TypeFor[Config]()
	for i := range typ.NumField() {
		if name := typ.Field(i).Tag.Get("env"); name != "" {
			if !documented[name] || typ.Field(i).Tag.Get("help") == "" {
				t.Errorf("%s is not documented", name)
			}
			delete(documented, name)
		}
	}
	if len(documented) > 0 {
		t.Errorf("documented, and not there: %v", documented)
	}
}

func TestInbox(t *testing.T) {
	t.Parallel()
	box := NewInbox("/dev/inbox", time.Now)
	get := func(path string) (int, string, http.Header) {
		w := httptest.NewRecorder()
		box.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String(), w.Header()
	}
	if code, page, _ := get("/dev/inbox"); code != 200 || !strings.Contains(page, "Nothing yet") {
		t.Errorf("%d %s", code, page)
	}
	for i := range inboxSize + 5 {
		must(t, box.Send(t.Context(), Message{To: "ada@example.com", Subject: fmt.Sprintf("Mail %d <b>", i+1), Text: "</pre><script>alert(1)</script>", HTML: "<h1>Hello</h1>"}))
	}
	all := box.Messages()
	if len(all) != inboxSize || all[0].N != inboxSize+5 || all[inboxSize-1].N != 6 {
		t.Errorf("%d messages, from %d to %d", len(all), all[len(all)-1].N, all[0].N)
	}
	code, page, header := get("/dev/inbox/")
	if code != 200 || !strings.Contains(page, `href="/dev/inbox/105">Mail 105 &lt;b&gt;</a>`) || strings.Contains(page, "Mail 5 ") {
		t.Errorf("%d %s", code, page)
	}
	if !strings.HasPrefix(header.Get("Content-Security-Policy"), "default-src 'none'") || header.Get("Cache-Control") != "no-store" {
		t.Errorf("header %v", header)
	}
	_, style, _ := strings.Cut(page, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	if want := "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; style == "" || !strings.Contains(header.Get("Content-Security-Policy"), "style-src "+want+";") {
		t.Errorf("the policy %q does not let the page's style in: %s", header.Get("Content-Security-Policy"), want)
	}
	if code, page, _ := get("/dev/inbox/50"); code != 200 || !strings.Contains(page, "Mail 50") || strings.Contains(page, "<script>") || !strings.Contains(page, "&lt;h1&gt;Hello") {
		t.Errorf("%d %s", code, page)
	}
	must(t, box.Send(t.Context(), Message{To: "ada@example.com", Subject: "Links", Text: "Open http://localhost:7070/join#link=avl_2. Or <https://a.example/?a=1&b='x>, javascript:alert(1)"}))
	if code, page, _ := get(fmt.Sprint("/dev/inbox/", inboxSize+6)); code != 200 || strings.Count(page, "<a ") != 3 || strings.Contains(page, `href="javascript`) ||
		!strings.Contains(page, `Open <a href="http://localhost:7070/join#link=avl_2" rel="noreferrer">http://localhost:7070/join#link=avl_2</a>. Or &lt;<a href="https://a.example/?a=1&amp;b=" `) {
		t.Errorf("links: %d %s", code, page)
	}
	for _, path := range []string{"/dev/inbox/1", "/dev/inbox/x", "/dev/inbox/50/50", "/dev/50", "/dev/inbox/-1"} {
		if code, _, _ := get(path); code != 404 {
			t.Errorf("%s: %d", path, code)
		}
	}
	w := httptest.NewRecorder()
	box.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/dev/inbox", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
	if err := box.Send(t.Context(), Message{To: "ada@example.com\nx", Subject: "x", Text: "y"}); err == nil || len(box.Messages()) != inboxSize {
		t.Errorf("a message that could not be sent was caught: %v", err)
	}
}

// FuzzMessage renders and composes whatever comes: it is sent as one message to one reader, or refused.
func FuzzMessage(f *testing.F) {
	for _, seed := range [][2]string{{"ada@example.com", "x"}, {"Ada <ada@example.com>", "x\r\nBcc: y@z"}, {"a@b, c@d", "<b>"}, {"\"a\r\n\"@b", "\u2028"}, {"a@[127.0.0.1]", "{{.}}"}, {"=?utf-8?q?=0d=0aBcc:?= <a@b.c>", "x"}} {
		f.Add(seed[0], seed[1])
	}
	s, err := NewSMTP(Config{Server: "mail.example.com:587", From: "Avouch <avouch@example.com>"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, to, text string) {
		m, err := Render(Incident, to, IncidentData{Organisation: text, Kind: text, Detail: text, URL: text})
		must(t, err)
		a, err := m.check()
		if err != nil {
			return
		}
		var wire strings.Builder
		if _, err := s.compose(m, a).WriteTo(&wire); err != nil {
			t.Fatal(err)
		}
		header, got := parts(t, wire.String())
		for name, values := range header {
			switch name {
			case "From", "To", "Subject", "Date", "Message-Id", "Auto-Submitted", "Mime-Version", "Content-Type", "Content-Transfer-Encoding":
			default:
				t.Errorf("a header %q came in", name)
			}
			if len(values) != 1 {
				t.Errorf("%s is there %d times", name, len(values))
			}
		}
		if list, err := header.AddressList("To"); err != nil || len(list) != 1 || list[0].Address != a.Address {
			t.Errorf("to %v, %v; want %s", list, err, a.Address)
		}
		if len(got) != 2 {
			t.Errorf("%d parts", len(got))
		}
	})
}
