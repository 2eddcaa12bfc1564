package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/mail/mailtest"
	"github.com/avouch-dev/avouch/internal/sms"
	"github.com/avouch-dev/avouch/server"
)

// provider takes text messages as a provider's HTTP interface does.
type provider struct {
	*httptest.Server
	mu  sync.Mutex
	got []string // the credential, the number and the text of each
}

func textProvider(t testing.TB) *provider {
	p := &provider{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m struct{ To, Text string }
		b, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil {
			t.Error(err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.got = append(p.got, r.Header.Get("Authorization")+" "+m.To+" "+m.Text)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) told() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

// code waits for the nth text message, and is the code in it.
func (p *provider) code(t testing.TB, n int) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if got := p.told(); len(got) >= n {
			return strings.Fields(got[n-1])[2]
		}
	}
	t.Fatalf("%d text messages came, not %d", len(p.told()), n)
	return ""
}

// atlas is an installation of two regions, of one without a provider of text messages, and of one that sends nothing.
type atlas struct {
	*node
	mails map[string]*mailtest.Server
	texts map[string]*provider
}

func newAtlas(t testing.TB) *atlas {
	t.Helper()
	a := &atlas{mails: map[string]*mailtest.Server{}, texts: map[string]*provider{}}
	dir, regions := t.TempDir(), map[string]map[string]any{"silent": {}}
	var own sms.Config
	for _, name := range []string{"eu", "us", "wordless", ""} {
		a.mails[name] = (&mailtest.Server{StartTLS: true}).Start(t)
		if name != "" {
			regions[name] = map[string]any{"mail": map[string]string{
				"server": a.mails[name].Address, "from": "avouch@" + name + ".example", "tls": "starttls", "ca_file": a.mails[name].CAFile,
			}}
		}
		if name == "wordless" {
			continue
		}
		a.texts[name] = textProvider(t)
		headers := filepath.Join(dir, name+"-headers")
		must(t, os.WriteFile(headers, []byte("Authorization: of-"+name+"\n"), 0o600))
		own = sms.Config{Provider: "http", URL: a.texts[name].URL, HeadersFile: headers, Body: `{"To": "{to}", "Text": "{text}"}`}
		if name != "" {
			regions[name]["sms"] = map[string]string{"provider": own.Provider, "url": own.URL, "headers_file": headers, "body": own.Body}
		}
	}
	file := filepath.Join(dir, "regions.json")
	b, err := json.Marshal(regions)
	must(t, err)
	must(t, os.WriteFile(file, b, 0o600))
	a.node = install(t).start(t, func(c *server.Config) {
		c.SignUp, c.RegionsFile, c.SMS = true, file, own
		c.Mail = mail.Config{Server: a.mails[""].Address, From: "avouch@any.example", TLS: "starttls", CAFile: a.mails[""].CAFile}
	})
	return a
}

func (a *atlas) posts(t testing.TB, path string, body map[string]any) answer {
	t.Helper()
	return a.call(t, http.MethodPost, path, "", body)
}

func ownerIn(region string) string { return "owner-" + region + "@example.com" }

// joins signs up in a region, and goes by the mail of that region's server to where a factor must be set up.
func (a *atlas) joins(t testing.TB, region string) (attempt string) {
	t.Helper()
	a.posts(t, "/api/v1/organisations", map[string]any{"name": "Acme", "owner_address": ownerIn(region), "region": region}).want(t, http.StatusCreated)
	link := ""
	for deadline := time.Now().Add(time.Minute); link == "" && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, m := range a.mails[region].Received() {
			if _, text := m.Text(); strings.Contains(m.To, "<"+ownerIn(region)+">") && m.Encrypted {
				_, link, _ = strings.Cut(text, "/join#link=")
				link, _, _ = strings.Cut(link, "\n")
			}
		}
	}
	step := a.posts(t, "/api/v1/join", map[string]any{"do": "join", "link": strings.TrimSpace(link), "name": "Owner", "password": firstPassword, "kind": "program"}).want(t, http.StatusOK)
	if step.text("state") != "enrol" {
		t.Fatalf("%q: %s", region, step.Raw)
	}
	return step.text("attempt")
}

func (a *atlas) goesOn(t testing.TB, attempt string, body map[string]any) answer {
	t.Helper()
	body["attempt"] = attempt
	return a.posts(t, "/api/v1/sign-in/continue", body)
}

// TestRegions signs up organisations of two regions and of none, and has the first owner of each set up a code by text message and
// sign in by one: each mail and each message arrives at the server and the provider of the organisation's region, with its own
// credential, and nowhere else. What a region has no sender for is refused.
func TestRegions(t *testing.T) {
	t.Parallel()
	a := newAtlas(t)
	numbers := map[string]string{"eu": "+49301234567", "us": "+12025550123", "": "+41445550199"}
	for region, number := range numbers {
		attempt := a.joins(t, region)
		begun := a.goesOn(t, attempt, map[string]any{"do": "enrol", "kind": "sms", "to": number}).want(t, http.StatusOK)
		enrolment, _ := begun.Body["enrolment"].(map[string]any)
		done := a.goesOn(t, attempt, map[string]any{"do": "confirm", "factor": enrolment["id"], "code": a.texts[region].code(t, 1)}).want(t, http.StatusOK)
		if done.text("state") != "signed_in" {
			t.Errorf("%q enrolled: %s", region, done.Raw)
		}
		step := a.posts(t, "/api/v1/sign-in", map[string]any{"address": ownerIn(region), "password": firstPassword, "kind": "program"}).want(t, http.StatusOK)
		a.goesOn(t, step.text("attempt"), map[string]any{"do": "ask", "factor": enrolment["id"]}).want(t, http.StatusOK)
		done = a.goesOn(t, step.text("attempt"), map[string]any{"do": "prove", "factor": enrolment["id"], "code": a.texts[region].code(t, 2)}).want(t, http.StatusOK)
		if done.text("access_token") == "" {
			t.Errorf("%q proved: %s", region, done.Raw)
		}
	}
	a.refuses(t)
	for region, p := range a.texts {
		got := p.told()
		if len(got) != 2 || slices.ContainsFunc(got, func(m string) bool { return !strings.HasPrefix(m, "of-"+region+" "+numbers[region]+" ") }) {
			t.Errorf("the provider of %q was told %q", region, got)
		}
	}
	for region, s := range a.mails {
		for _, m := range s.Received() {
			if !strings.Contains(m.To, "<"+ownerIn(region)+">") || !m.Encrypted {
				t.Errorf("the server of %q received %+v", region, m)
			}
		}
	}
}

// refuses asks for what regions have no sender for: nothing is made of it.
func (a *atlas) refuses(t testing.TB) {
	t.Helper()
	for _, body := range []map[string]any{{"name": "Acme", "region": "moon"}, {"name": "Acme", "region": "silent", "owner_address": ownerIn("silent")}} {
		if no := a.posts(t, "/api/v1/organisations", body).want(t, http.StatusBadRequest); no.text("tenant_id") != "" {
			t.Errorf("made: %s", no.Raw)
		}
	}
	made := a.posts(t, "/api/v1/organisations", map[string]any{"name": "Acme", "region": "silent"}).want(t, http.StatusCreated)
	no := a.call(t, http.MethodPost, "/api/v1/invitations", made.text("owner_key"), map[string]any{"address": ownerIn("silent"), "roles": []string{"member"}}).want(t, http.StatusBadRequest)
	if !strings.Contains(no.text("detail"), "No mail is sent") {
		t.Errorf("invited: %s", no.Raw)
	}
	attempt := a.joins(t, "wordless")
	look := a.goesOn(t, attempt, map[string]any{"do": "look"}).want(t, http.StatusOK)
	if kinds := texts(look.Body["kinds"]); slices.Contains(kinds, "sms") || !slices.Contains(kinds, "email") {
		t.Errorf("offered %q", kinds)
	}
	no = a.goesOn(t, attempt, map[string]any{"do": "enrol", "kind": "sms", "to": "+49301234567"}).want(t, http.StatusBadRequest)
	if !strings.Contains(no.text("detail"), "cannot be sent text messages") {
		t.Errorf("enrolled: %s", no.Raw)
	}
	a.goesOn(t, attempt, map[string]any{"do": "enrol", "kind": "email"}).want(t, http.StatusOK)
}
