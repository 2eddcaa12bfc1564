package pages

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/avouch-dev/avouch/test/browser"
)

func get(t testing.TB, s *site, path string, header ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, s.URL+path, nil)
	if len(header) == 2 {
		r.Header.Set(header[0], header[1])
	}
	w := httptest.NewRecorder()
	s.Config.Handler.ServeHTTP(w, r)
	return w.Result(), w.Body.String()
}

// TestPolicy reads the headers of every page, and of all that they load.
func TestPolicy(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	for _, name := range names {
		r, body := get(t, s, "/"+name)
		if r.StatusCode != 200 || !strings.Contains(body, "<h1") || strings.Contains(body, "{{") {
			t.Fatalf("%s: %d %s", name, r.StatusCode, body)
		}
		for h, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
			"Cache-Control":           "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Cross-Origin-Opener-Policy": "same-origin", "Content-Type": "text/html; charset=utf-8",
		} {
			if got := r.Header.Get(h); got != want {
				t.Errorf("%s: %s is %q, want %q", name, h, got, want)
			}
		}
		for _, m := range regexp.MustCompile(`(?:src|href)="(/pages/[^"]+)"`).FindAllStringSubmatch(body, -1) {
			r, text := get(t, s, m[1])
			tag := r.Header.Get("ETag")
			if r.StatusCode != 200 || text == "" || tag == "" || r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Cache-Control") != "no-cache" {
				t.Errorf("%s: %d %v", m[1], r.StatusCode, r.Header)
			}
			if r, text := get(t, s, m[1], "If-None-Match", tag); r.StatusCode != http.StatusNotModified || text != "" {
				t.Errorf("%s again: %d %s", m[1], r.StatusCode, text)
			}
		}
	}
	for _, path := range []string{"/pages/frame.html", "/pages/none.js", "/pages/..%2fpages.go", "/pages/%2e%2e%2fdoc.go", "/pages/", "/pages/style.css/x", "/sign-in/x"} {
		if r, _ := get(t, s, path); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
}

// TestNothingInline reads the source of the pages. What would be needed for a password to get into an address is not there: a field
// with a name, in a form that is sent by GET.
func TestNothingInline(t *testing.T) {
	t.Parallel()
	var markup, scripts strings.Builder
	err := fs.WalkDir(files, "files", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := files.ReadFile(path)
		switch {
		case strings.HasSuffix(path, ".html"):
			markup.Write(b)
		case strings.HasSuffix(path, ".js"):
			scripts.Write(b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, pattern := range map[string]string{
		"a script in the page":   `<script(?:\s[^>]*)?>[^<]`,
		"a style in the page":    `<style|\sstyle=`,
		"a handler in the page":  `\son[a-z]+=`,
		"another host":           `(?:src|href|action)="(?:https?:)?//`,
		"a named field":          `<(?:input|select|textarea|button)[^>]*\sname=`,
		"a form sent by GET":     `<form(?:\s+(?:id|class|autocomplete)="[^"]*")*>|method="get"`,
		"an address for a form":  `<form[^>]*\saction=`,
		"a page in the page":     `<(?:iframe|object|embed|base|meta http-equiv)`,
		"an address of a script": `"\s*javascript:`,
	} {
		if found := regexp.MustCompile("(?i)" + pattern).FindString(markup.String()); found != "" {
			t.Errorf("%s: %s", what, found)
		}
	}
	for what, pattern := range map[string]string{
		"markup made of text": `innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|setHTML|srcdoc`,
		"code made of text":   `\beval\(|new Function|setTimeout\(['"` + "`" + `]|import\((?:[^'"]|['"][^.])`,
		"another host":        `(?:from|import|fetch\()\s*['"` + "`" + `](?:https?:)?//`,
		"what stays behind":   `localStorage|indexedDB|document\.cookie|console\.`,
	} {
		if found := regexp.MustCompile(pattern).FindString(scripts.String()); found != "" {
			t.Errorf("%s: %s", what, found)
		}
	}
}

// TestTextStaysText has the API say what a server of ours never would: markup, handlers, addresses that are scripts.
func TestTextStaysText(t *testing.T) {
	t.Parallel()
	b := browser.Open(t)
	const evil = `<img src=x onerror="document.title='hit'"><script>document.title='hit'</script>"'><b>bold</b>`
	s := open(t, answers{
		"POST /api/v1/join":      object{"state": "invited", "organisation": evil, "address": evil, "name": evil},
		"POST /api/v1/sso/start": object{"redirect_url": "javascript:document.title='hit'"},
		"POST /api/v1/sign-in":   refusal{401, evil},
	})
	b.Go(s.URL + "/join#link=abc")
	b.Sees("#name")
	if got := b.Text("#organisation"); got != evil {
		t.Errorf("the organisation is %q", got)
	}
	signIn(b, s, "")
	b.Says("#notice", evil)
	b.Click("#with-provider")
	b.Says("#notice", "Something went wrong")

	mine := account()
	mine["GET /api/v1/me"].(object)["name"] = evil
	mine["GET /api/v1/factors"].(object)["factors"].([]object)[0]["name"] = evil
	mine["GET /api/v1/sessions"].(object)["sessions"].([]object)[1]["device"] = evil
	s = open(t, mine)
	b.Go(s.URL + "/account")
	b.Says("#me", evil)
	b.Says("#my-factors", evil)
	b.Says("#my-sessions", evil)

	bad := enrolling()
	bad["POST /api/v1/sign-in/continue"] = object{"state": "enrol", "kinds": []string{"totp"}, "enrolment": object{"secret": evil, "uri": "javascript:document.title='hit'"}}
	s = open(t, bad)
	signIn(b, s, "")
	b.Click("[data-enrol=totp]")
	b.Click("#enrol-form button")
	b.Sees("#totp-secret")
	if n := browser.Value[int](b, `document.querySelectorAll('#totp-link[href], img[src=x], b, script:not([src])').length`); n > 0 {
		t.Errorf("%d elements were made of text", n)
	}
	if title := browser.Value[string](b, `document.title`); title == "hit" {
		t.Error("a text ran")
	}
	// The policy holds what the scripts do not do: this is what it would be against.
	got := browser.Value[string](b, `(() => { try { document.body.innerHTML = '<b>x</b>'; return 'taken'; } catch (e) { return e.name; } })()`)
	if got != "TypeError" {
		t.Errorf("markup made of text was %s", got)
	}
}

// TestLinkLeavesTheAddress opens mailed links, and looks for their secret wherever it must not be.
func TestLinkLeavesTheAddress(t *testing.T) {
	t.Parallel()
	b := browser.Open(t)
	const secret = "avl_abcdefghijklmnopqrstuvwxyz0123456789"
	api := account()
	api["POST /api/v1/join"] = object{"state": "invited", "organisation": "Acme", "address": "ada@example.com"}
	api["POST /api/v1/recovery/finish"] = object{"state": "signed_in"}
	api["POST /api/v1/address/confirm"] = object{"state": "confirmed"}
	s := open(t, api)
	for path, wait := range map[string]func(){
		"/join": func() { b.Sees("#name") },
		"/recover": func() {
			b.Fill("#new-password", "correct horse battery staple")
			b.Click("#renew-form button.main")
			b.Until(`location.pathname === '/account'`)
		},
		"/account": func() { b.Says("#notice", "The address is yours now") },
	} {
		b.Go("about:blank")
		b.Go(s.URL + path + "#link=" + secret)
		b.Until(`location.hash === ''`)
		wait()
		if here := browser.Value[string](b, `location.href + document.referrer + JSON.stringify(sessionStorage)`); strings.Contains(here, secret) {
			t.Errorf("%s: the secret is still in the page: %s", path, here)
		}
	}
	for _, asked := range b.Asked() {
		if strings.Contains(asked, secret) {
			t.Errorf("the secret is in a request: %s", asked)
		}
	}
	for _, call := range []string{`POST /api/v1/join {"do":"look","link":"` + secret, `POST /api/v1/recovery/finish {"link":"` + secret, `POST /api/v1/address/confirm {"link":"` + secret} {
		if !strings.Contains(s.asked(), call) {
			t.Errorf("%s was never asked, but\n%s", call, s.asked())
		}
	}
	// What is no link is not sent anywhere.
	b.Go("about:blank")
	b.Go(s.URL + "/join#link=../../%3Cscript%3E")
	b.Says("main", "This needs your invitation")
}

// TestNext signs in by links that want to lead elsewhere afterwards.
func TestNext(t *testing.T) {
	t.Parallel()
	b := browser.Open(t)
	api := account()
	api["POST /api/v1/sign-in"] = object{"state": "signed_in"}
	s := open(t, api)
	for next, want := range map[string]string{
		"": "/account", "/recover?a=b": "/recover?a=b", "https://evil.example/": "/account", "//evil.example/": "/account", `/\evil.example`: "/account", "/%09/evil.example": "/account",
		"javascript:document.title=1": "/account", "/\t/evil.example": "/account", "@evil.example": "/account", `\\evil.example`: "/account", "/": "/account",
		"/.//evil.example/": "/account", "/x/..//evil.example/": "/account", "/%2e//evil.example/": "/account",
	} {
		signIn(b, s, "?next="+next)
		b.Until(`location.pathname !== '/sign-in'`)
		if got := browser.Value[string](b, `location.origin + location.pathname + location.search`); got != s.URL+want {
			t.Errorf("%q leads to %s, want %s", next, got, want)
		}
	}
}

// TestLabels: what can be typed into or pressed has a name that is read out, and identifiers are there once.
func TestLabels(t *testing.T) {
	t.Parallel()
	b := browser.Open(t)
	s := open(t, account())
	for _, name := range names {
		b.Go(s.URL + "/" + name)
		b.Until(`document.readyState === 'complete'`)
		for _, fault := range browser.Value[[]string](b, `(() => {
			const out = [];
			for (const e of document.querySelectorAll('input, button, a[href]')) {
				const name = e.ariaLabel || e.labels?.[0]?.textContent || e.textContent || (e.hidden ? 'hidden' : '');
				if (!name.trim()) out.push('no name: ' + e.outerHTML);
				const by = e.getAttribute('aria-describedby');
				if (by && !document.getElementById(by)) out.push('described by nothing: ' + e.outerHTML);
			}
			const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
			out.push(...ids.filter((id, i) => ids.indexOf(id) !== i).map((id) => 'twice: ' + id));
			for (const l of document.querySelectorAll('label[for]')) if (!document.getElementById(l.htmlFor)) out.push('a label of nothing: ' + l.htmlFor);
			for (const step of document.querySelectorAll('[data-step]')) if (step.querySelectorAll('h1[tabindex="-1"]').length !== 1) out.push('no heading: ' + step.dataset.step);
			if (!document.documentElement.lang || !document.title) out.push('no language, or no title');
			if (document.getElementById('notice').getAttribute('role') !== 'alert') out.push('what goes wrong is not announced');
			return out;
		})()`) {
			t.Errorf("%s: %s", name, fault)
		}
	}
}

// TestSteps goes through a sign-in that sets up a factor, by keyboard where the focus is: a wrong code is said and can be
// corrected, the secret and the codes are gone from the page when they are not needed, and the codes must be kept first.
func TestSteps(t *testing.T) {
	t.Parallel()
	b := browser.Open(t)
	api := enrolling()
	for path, answer := range account() {
		api[path] = answer
	}
	s := open(t, api)
	signIn(b, s, "")
	b.Until(`document.activeElement.matches('[data-step=enrol] h1')`)
	totp(b)
	b.Until(`document.activeElement.id === 'totp-code'`)
	if got := b.Text("#totp-secret"); strings.ReplaceAll(got, " ", "") != seed {
		t.Errorf("the key is shown as %q", got)
	}
	b.Fill("#totp-code", "000000")
	b.Click("#totp-form button")
	b.Says("#notice", "not right")
	b.Fill("#totp-code", "123456")
	b.Click("#totp-form button")
	b.Sees("#recovery-codes li")
	if left := browser.Value[string](b, `document.getElementById('totp-secret').textContent + document.getElementById('qr').innerHTML + document.getElementById('password').value`); left != "" {
		t.Errorf("a secret is still in the page: %q", left)
	}
	if shown := browser.Value[int](b, `document.querySelectorAll('#recovery-codes li').length`); shown != len(codes) {
		t.Errorf("%d codes are shown", shown)
	}
	dir := t.TempDir()
	b.Saves(dir)
	b.Click("#codes-save")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(dir, "avouch-recovery-codes.txt"))
		if err == nil && strings.Contains(string(text), strings.Join(codes, "\n")) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the codes were not saved: %q, %v", text, err)
		}
	}
	saved := browser.Value[string](b, `fetch(document.getElementById('codes-save').href).then((r) => r.text(), (e) => 'refused')`)
	if saved != "refused" { // the policy lets scripts ask this server alone; saving is the browser's own
		t.Errorf("a script read the file: %q", saved)
	}
	b.Click("#codes-form button")
	if where := browser.Value[string](b, `location.pathname`); where != "/sign-in" {
		t.Errorf("the codes were not kept, and the page went on to %s", where)
	}
	b.Click("#codes-kept")
	b.Click("#codes-form button")
	b.Until(`location.pathname === '/account'`)
	for _, want := range []string{`"do":"enrol"`, `"kind":"totp"`, `"do":"confirm"`, `"factor":"f9"`, `"attempt":"a1"`} {
		if !strings.Contains(s.asked(), want) {
			t.Errorf("%s was never sent:\n%s", want, s.asked())
		}
	}
	if f := b.Faults(); len(f) > 0 {
		t.Logf("faults: %q", f)
	}
}

// TestProof does what wants a fresh proof: it is asked for, and what was to be done is done then, with what was typed before. Who
// closes the window has done nothing.
func TestProof(t *testing.T) {
	t.Parallel()
	b := browser.Open(t)
	proved := false
	api := account()
	api["POST /api/v1/session/prove"] = func(body string) any {
		switch {
		case strings.Contains(body, `"begin"`):
			return object{"state": "factor", "attempt": "a7", "recovery_codes_left": 0, "factors": []object{{"id": "f2", "kind": "totp", "name": "My phone"}}}
		case strings.Contains(body, `"ask"`):
			return object{"state": "asked"}
		case strings.Contains(body, `"123456"`):
			proved = true
			return object{"state": "signed_in"}
		}
		return refusal{401, "This code is not right."}
	}
	api["POST /api/v1/address"] = func(string) any {
		if !proved {
			return refusal{403, "Prove yourself again: this needs a proof of the last five minutes (POST /api/v1/session/prove)."}
		}
		return object{}
	}
	s := open(t, api)
	b.Go(s.URL + "/account")
	b.Fill("#new-address", "new@example.com")
	b.Click("#address-form button")
	b.Sees("#dialog[open]")
	b.Click(".close button")
	b.Until(`!document.getElementById('dialog').open && document.getElementById('new-address').value === 'new@example.com'`)
	b.Click("#address-form button")
	b.Click("#factors button")
	b.Fill("#code", "999999")
	b.Click("#code-form button")
	b.Says("#dialog-notice", "This code is not right")
	b.Fill("#code", "123 456")
	b.Click("#code-form button")
	b.Says("#notice", "A link is on its way to new@example.com")
	if n := strings.Count(s.asked(), `POST /api/v1/address {"address":"new@example.com"}`); n != 3 {
		t.Errorf("the address was sent %d times:\n%s", n, s.asked())
	}
}

// TestComingBack opens the page as a provider's answer does that was not enough: it goes on with the sign-in that it names.
func TestComingBack(t *testing.T) {
	t.Parallel()
	b := browser.Open(t)
	api := factors()
	ask := api["POST /api/v1/sign-in/continue"].(func(string) any)
	api["POST /api/v1/sign-in/continue"] = func(body string) any {
		if strings.Contains(body, `"look"`) {
			return api["POST /api/v1/sign-in"]
		}
		return ask(body)
	}
	s := open(t, api)
	b.Go(s.URL + "/sign-in#attempt=ava_abc&state=factor") // a link that a stranger made
	b.Says("#notice", "not begun here")
	if strings.Contains(s.asked(), "ava_abc") {
		t.Errorf("it went on with a sign-in of who knows whom:\n%s", s.asked())
	}
	api["POST /api/v1/sso/start"] = object{"redirect_url": s.URL + "/join"}
	b.Fill("#address", "ada@example.com")
	b.Click("#with-provider")
	b.Until(`location.pathname === '/join'`)
	b.Go(s.URL + "/sign-in#attempt=ava_abc&state=factor")
	b.Click("#factors li:nth-child(2) button")
	b.Sees("#code")
	if here := browser.Value[string](b, `location.href`); here != s.URL+"/sign-in" {
		t.Errorf("the address is %s", here)
	}
	if !strings.Contains(s.asked(), `{"attempt":"ava_abc","do":"look"}`) {
		t.Errorf("it asked\n%s", s.asked())
	}
}

// TestNothingToPressBeforeItWorks: whoever is faster than the scripts would press in vain, and wait.
func TestNothingToPressBeforeItWorks(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	for _, name := range names {
		_, body := get(t, s, "/"+name)
		page, err := html.Parse(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		pressed := 0
		for n := range page.Descendants() {
			if n.Type == html.ElementNode && (n.Data == "button" || n.Data == "form" || n.Data == "input") {
				if pressed++; shows(n) {
					t.Errorf("%s: <%s %v> shows before it works", name, n.Data, n.Attr)
				}
			}
		}
		if pressed == 0 {
			t.Errorf("%s has nothing to press", name)
		}
	}
}

// shows reports whether an element is there for people before a script runs.
func shows(n *html.Node) bool {
	for ; n != nil; n = n.Parent {
		if n.Data == "dialog" || slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == "hidden" }) {
			return false
		}
	}
	return true
}
