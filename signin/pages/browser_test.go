package pages

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/test/browser"
)

// answers is what the API says, by method and path; a test says how, so that it can be what no server of ours would say. What
// real servers say is the matter of test/e2e.
type answers map[string]any

// refusal is an answer that is a problem document.
type refusal struct {
	status int
	detail string
}

// site serves the pages beside an API.
type site struct {
	*httptest.Server
	mu   sync.Mutex
	told []string // method, path and body of each request of the API
}

func open(t testing.TB, api answers) *site {
	t.Helper()
	s := &site{}
	mux := http.NewServeMux()
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	s.URL = strings.Replace(s.URL, "127.0.0.1", "localhost", 1) // an address has no passkeys
	public, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	pages := web.New(web.Config[struct{}]{Title: "Avouch", PublicURL: public, Logger: slog.New(slog.DiscardHandler), Authenticate: func(*http.Request, web.RequestMeta) (struct{}, error) { return struct{}{}, nil }})
	Routes(pages)
	mux.Handle("/", pages)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		var body json.RawMessage
		_ = json.NewDecoder(r.Body).Decode(&body)
		s.mu.Lock()
		s.told = append(s.told, r.Method+" "+r.URL.Path+" "+string(body))
		s.mu.Unlock()
		answer := api[r.Method+" "+r.URL.Path]
		if f, ok := answer.(func(string) any); ok {
			answer = f(string(body))
		}
		w.Header().Set("Content-Type", "application/json")
		if no, ok := answer.(refusal); ok {
			w.WriteHeader(no.status)
			answer = map[string]any{"title": "No", "status": no.status, "detail": no.detail, "request_id": "01936f2e-8a4c-7b1d-9c3e-5f6a7b8c9d0e"}
		}
		if answer == nil {
			w.WriteHeader(http.StatusNotFound)
			answer = map[string]any{"title": "There is no such thing", "detail": "No " + r.URL.Path}
		}
		_ = json.NewEncoder(w).Encode(answer)
	})
	return s
}

func (s *site) asked() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.told, "\n")
}

type object = map[string]any

// account is an API with somebody signed in.
func account() answers {
	return answers{
		"GET /api/v1/session": object{
			"tenant_id": "0192f0c1-2222-7aaa-8bbb-123456789abc", "person_id": "0192f0c1-2222-7aaa-8bbb-000000000001", "roles": []string{"owner"},
			"proved_at": "2020-01-01T00:00:00Z", "expires_at": "2099-01-01T00:00:00Z",
		},
		"GET /api/v1/me": object{"name": "Ada Lovelace", "address": "ada@example.com"},
		"GET /api/v1/factors": object{"factors": []object{
			{"factor_id": "f1", "kind": "passkey", "name": "The blue key", "hardware": true, "created_at": "2026-11-20T10:00:00Z", "used_at": "2026-11-22T10:00:00Z", "version": 3},
			{"factor_id": "f2", "kind": "sms", "name": "", "hint": "+49 ••• 67", "created_at": "2026-11-20T10:00:00Z", "used_at": nil, "version": 1},
		}, "recovery_codes": 7, "allowed": []string{"totp", "passkey", "email", "sms"}, "passkeys": true, "texts": true},
		"GET /api/v1/sessions": object{"sessions": []object{
			{"session_id": "s1", "kind": "browser", "program": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36", "address": "192.0.2.7", "seen_at": "2026-11-23T09:00:00Z", "created_at": "2026-11-23T08:00:00Z", "current": true},
			{"session_id": "s2", "kind": "program", "device": "build server", "program": "avouch-cli/1.0", "address": "2001:db8::7", "seen_at": "2026-11-22T09:00:00Z", "created_at": "2026-10-23T08:00:00Z"},
		}},
		"POST /api/v1/session/prove": func(body string) any {
			if strings.Contains(body, `"begin"`) {
				return object{"state": "factor", "attempt": "again", "factors": []object{}, "password": true}
			}
			return object{"state": "signed_in"}
		},
	}
}

const seed = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"

var codes = []string{"7h2k-9qmx-4tzp", "c8wd-2rnj-6vba", "m3xe-5ygk-8hqs", "t9pf-4zcu-1lov", "b6jn-7dwr-3kia", "v2qs-8ehx-5mgt", "z4yc-1oup-9fbd", "k7ar-6lvn-2jwe", "x5gm-3tsq-7chy", "d1zp-8bko-4ufi"}

// enrolling is an API where somebody must set up a factor.
func enrolling() answers {
	uri := "otpauth://totp/Avouch:ada%40example.com?secret=" + seed + "&issuer=Avouch&algorithm=SHA1&digits=6&period=30"
	return answers{
		"POST /api/v1/sign-in": object{"state": "enrol", "attempt": "a1"},
		"POST /api/v1/sign-in/continue": func(body string) any {
			switch {
			case strings.Contains(body, `"look"`):
				return object{"state": "enrol", "kinds": []string{"passkey", "totp", "email"}}
			case strings.Contains(body, `"enrol"`):
				return object{"state": "enrol", "enrolment": object{"id": "f9", "kind": "totp", "secret": seed, "uri": uri}}
			case strings.Contains(body, `"000000"`):
				return refusal{403, "This code is not right, or it was used before."}
			}
			return object{"state": "signed_in", "recovery_codes": codes}
		},
	}
}

func factors() answers {
	return answers{
		"POST /api/v1/sign-in": object{"state": "factor", "attempt": "a1", "recovery_codes_left": 7, "factors": []object{
			{"id": "f1", "kind": "passkey", "name": "The blue key"}, {"id": "f2", "kind": "totp"}, {"id": "f3", "kind": "sms", "hint": "+49 ••• 67"}, {"id": "f4", "kind": "email", "hint": "a•••@example.com"},
		}},
		"POST /api/v1/sign-in/continue": func(body string) any {
			if strings.Contains(body, `"ask"`) {
				return object{"state": "asked", "sent_to": "+49 ••• 67"}
			}
			return refusal{403, "This code is not right, or it was used before."}
		},
	}
}

func signIn(b *browser.Tab, s *site, query string) {
	b.Go(s.URL + "/sign-in" + query)
	b.Fill("#address", "ada@example.com")
	b.Fill("#password", "correct horse battery staple")
	b.Click("#start-form button.main")
}

// looks are the pages in the states that somebody should look at. AVOUCH_PICTURES names a directory for their pictures.
func looks() map[string]struct {
	api  answers
	show func(*browser.Tab, *site)
} {
	type look = struct {
		api  answers
		show func(*browser.Tab, *site)
	}
	wrong := answers{"POST /api/v1/sign-in": refusal{401, "The address and the password do not belong together. If you are in several organisations, name the one."}}
	return map[string]look{
		"sign-in": {nil, func(b *browser.Tab, s *site) { b.Go(s.URL + "/sign-in"); b.Sees("#address") }},
		"wrong":   {wrong, func(b *browser.Tab, s *site) { signIn(b, s, ""); b.Says("#notice", "do not belong") }},
		"factors": {factors(), func(b *browser.Tab, s *site) { signIn(b, s, ""); b.Sees("#factors button") }},
		"code": {factors(), func(b *browser.Tab, s *site) {
			signIn(b, s, "")
			b.Click("#factors li:nth-child(3) button")
			b.Sees("#code")
		}},
		"recovery": {factors(), func(b *browser.Tab, s *site) {
			signIn(b, s, "")
			b.Click("#use-recovery button")
			b.Sees("#recovery-code")
		}},
		"enrol": {enrolling(), func(b *browser.Tab, s *site) { signIn(b, s, ""); b.Sees("[data-enrol=totp]") }},
		"totp":  {enrolling(), func(b *browser.Tab, s *site) { signIn(b, s, ""); totp(b) }},
		"codes": {enrolling(), func(b *browser.Tab, s *site) {
			signIn(b, s, "")
			totp(b)
			b.Fill("#totp-code", "123456")
			b.Click("#totp-form button")
			b.Sees("#recovery-codes li")
		}},
		"no-invite": {nil, func(b *browser.Tab, s *site) { b.Go(s.URL + "/join"); b.Sees("h1") }},
		"join": {answers{"POST /api/v1/join": object{"state": "invited", "organisation": "Analytical Engines", "address": "ada@example.com", "name": "Ada"}},
			func(b *browser.Tab, s *site) { b.Go(s.URL + "/join#link=avl_abc"); b.Sees("#name") }},
		"recover": {nil, func(b *browser.Tab, s *site) { b.Go(s.URL + "/recover"); b.Sees("#address") }},
		"renew":   {nil, func(b *browser.Tab, s *site) { b.Go(s.URL + "/recover#link=avl_abc"); b.Sees("#new-password") }},
		"account": {account(), func(b *browser.Tab, s *site) { b.Go(s.URL + "/account"); b.Sees("#my-sessions li") }},
		"proof":   {account(), func(b *browser.Tab, s *site) { b.Go(s.URL + "/account"); b.Click("#add-factor"); b.Sees("#again") }},
		"sure": {account(), func(b *browser.Tab, s *site) {
			b.Go(s.URL + "/account")
			b.Click("#my-factors li:nth-child(2) button[aria-label^=Remove]")
			b.Sees("#sure-yes")
		}},
	}
}

func totp(b *browser.Tab) {
	b.Click("[data-enrol=totp]")
	b.Fill("#enrol-name", "My phone")
	b.Click("#enrol-form button")
	b.Sees("#qr svg")
}

// TestFits shows each page in each state on a desk and on a telephone, light and dark: nothing is wider than the window, nothing
// that can be pressed is too small for a finger, text stands out from what is behind it, and the browser has nothing to complain of.
func TestFits(t *testing.T) {
	t.Parallel()
	b := browser.Open(t)
	for name, look := range looks() {
		s := open(t, look.api)
		for i, size := range []struct {
			width, height int64
			scheme        string
		}{{1280, 900, "light"}, {360, 740, "dark"}, {360, 740, "light"}, {1280, 900, "dark"}} {
			b.Size(size.width, size.height, size.scheme)
			if i == 0 {
				look.show(b, s)
			}
			if dir := os.Getenv("AVOUCH_PICTURES"); dir != "" && i < 2 {
				file := filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", name, size.width, size.scheme))
				if err := os.WriteFile(file, b.Shot(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if wide := browser.Value[int](b, `document.documentElement.scrollWidth - innerWidth`); wide > 0 {
				t.Errorf("%s: %d pixels do not fit into %d", name, wide, size.width)
			}
			for _, fault := range browser.Value[[]string](b, lookFaults) {
				t.Errorf("%s, %d wide, %s: %s", name, size.width, size.scheme, fault)
			}
		}
	}
	if f := b.Faults(); len(f) > 0 {
		t.Errorf("the browser complains: %q", f)
	}
}

// lookFaults lists what cannot be pressed with a finger, and text that stands out too little (WCAG 2.2: 4.5 to 1, 24 pixels).
const lookFaults = `(() => {
  const out = [];
  const rgb = (c) => { const m = c.match(/[\d.]+/g).map(Number); return { r: m[0], g: m[1], b: m[2], a: m[3] ?? 1 }; };
  const light = ({ r, g, b }) => { const f = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.a > 0.99) return c; } return { r: 255, g: 255, b: 255 }; };
  for (const e of document.querySelectorAll('body *')) {
    if (!e.checkVisibility() || e.closest('svg') || e.disabled) continue;
    const box = e.getBoundingClientRect();
    if (box.width === 0 || box.height <= 1) continue;
    if (e.matches('button, input:not([type=checkbox]), a.button') && box.height < 24) out.push('too small: ' + e.outerHTML.slice(0, 80));
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    const a = light(rgb(getComputedStyle(e).color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) out.push('stands out ' + ratio.toFixed(2) + ' to 1: ' + e.outerHTML.slice(0, 80));
  }
  return out;
})()`
