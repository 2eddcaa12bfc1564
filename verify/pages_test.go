package verify

import (
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"html"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

func (h *house) shows(t testing.TB, c tenantdb.Caller, yes bool) {
	t.Helper()
	h.set(t, c, `UPDATE avouch.organisation SET badge = $2 WHERE tenant_id = $1`, c.Tenant(), yes)
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func (s *side) page(t testing.TB, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
	return w
}

// TestBadge: the picture and the style may stand on other sites, and fetch nothing.
func TestBadge(t *testing.T) {
	t.Parallel()
	h := open(t)
	for path, kind := range map[string]string{"/api/badge/verified.svg": "image/svg+xml", "/verified.css": "text/css; charset=utf-8"} {
		w := h.page(t, path)
		if w.Code != 200 || w.Header().Get("Content-Type") != kind || w.Header().Get("Cross-Origin-Resource-Policy") != "cross-origin" {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
		body := w.Body.String()
		if strings.Contains(body, "url(") || strings.Contains(body, "<script") || strings.Contains(body, "@import") {
			t.Errorf("%s fetches or runs something", path)
		}
	}
	if err := xml.Unmarshal(h.page(t, "/api/badge/verified.svg").Body.Bytes(), new(struct{})); err != nil {
		t.Errorf("the badge is not XML: %v", err)
	}
}

// TestVerifiedPage: a service that shows its verifications is shown with the newest and a signed statement of it; any
// other is unknown, whatever the reason.
func TestVerifiedPage(t *testing.T) {
	t.Parallel()
	h := open(t)
	service := h.service.Tenant().String()
	what := func(path string) string {
		w := h.page(t, path)
		if csp := w.Header().Get("Content-Security-Policy"); w.Code != 200 || !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: %d, policy %q", path, w.Code, csp)
		}
		return w.Body.String()
	}
	unknown := what("/verified?service=" + tenantdb.NewTenantID().String())
	for name, path := range map[string]string{
		"one that does not show it": "/verified?service=" + service, "no id": "/verified?service=%3Cscript%3E", "an empty one": "/verified?service=",
		"the platform": "/verified?service=" + tenantdb.Platform.String(), "another's words": "/verified?service=" + service + "%00",
	} {
		if name != "another's words" && what(path) != unknown {
			t.Errorf("%s is told from one that does not exist", name)
		}
	}
	if !strings.Contains(what("/verified"), "What the badge means") {
		t.Error("the page without a service explains nothing")
	}
	h.shows(t, h.service, true)
	if page := what("/verified?service=" + service); !strings.Contains(page, "Harbour Data verifies the AI agents") || !strings.Contains(page, "none lately") || strings.Contains(page, "Signed statement") {
		t.Errorf("before the first verification: %s", page)
	}
	_, token := h.agent(t)
	h.expect(t, Request{Token: token}, Allowed, itIs)
	h.clock.forward(viewFor)
	entry := h.Last(t, h.service.Tenant())
	h.statement(t, what("/verified?service="+service), entry.Time, int64(entry.Seq), audit.Leaf(entry.Body))
	h.shows(t, h.owner, true)
	if page := what("/verified?service=" + h.owner.Tenant().String()); !strings.Contains(page, "none lately") {
		t.Error("an owner whose agent was verified by others counts as one that verifies")
	}
	h.shows(t, h.service, false)
	if what("/verified?service="+service) != unknown {
		t.Error("what is shown no more is still told from what does not exist")
	}
	h.shows(t, h.service, true)
	must(t, h.orgs.Suspend(t.Context(), tenantdb.System(h.service.Tenant(), "operator"), "unpaid"))
	if what("/verified?service="+service) != unknown {
		t.Error("a suspended service is shown")
	}
}

var statementPart = regexp.MustCompile(`(?s)<pre id="statement"[^>]*>(.*?)</pre>`)

// stated is the statement of a page, as a program reads it; nil if there is none.
func stated(t testing.TB, page string) *keyring.Statement {
	t.Helper()
	found := statementPart.FindStringSubmatch(page)
	if found == nil {
		return nil
	}
	var s keyring.Statement
	must(t, json.Unmarshal([]byte(html.UnescapeString(found[1])), &s))
	return &s
}

// statement checks what the page says and what it signs.
func (h *house) statement(t *testing.T, page string, at time.Time, seq int64, leaf [32]byte) {
	t.Helper()
	s := stated(t, page)
	if s == nil {
		t.Fatalf("no statement: %s", page)
	}
	for _, part := range []string{at.UTC().Format("2 January 2006, 15:04 UTC"), "entry " + itoa(seq) + " of log", hexadecimal(leaf), "good until ", html.EscapeString(s.Text)} {
		if !strings.Contains(page, part) {
			t.Errorf("the page does not say %q: %s", part, page)
		}
	}
	signature, err := base64.RawURLEncoding.DecodeString(s.Signature)
	must(t, err)
	must(t, h.signing.VerifySignature(t.Context(), s.KID, s.Text, signature))
	want := regexp.MustCompile("^avouch/verified/v1\nissuer: " + testIssuer + "\nservice id: " + h.service.Tenant().String() + "\nservice name: Harbour Data\nlog: [0-9a-f-]{36}\nseq: " +
		itoa(seq) + "\nleaf: " + hexadecimal(leaf) + "\nverified at: " + at.UTC().Format(time.RFC3339) + "\nstated at: (.*Z)\nvalid until: (.*Z)\n$").FindStringSubmatch(s.Text)
	if want == nil {
		t.Fatalf("the statement says %q", s.Text)
	}
	from, err := time.Parse(time.RFC3339, want[1])
	must(t, err)
	until, err := time.Parse(time.RFC3339, want[2])
	must(t, err)
	if until.Sub(from) != 10*time.Minute {
		t.Errorf("it is good from %v until %v", from, until)
	}
}

// TestStatementIsNoToken: nothing on the page is taken for a token, however it is put, and no token for a statement.
func TestStatementIsNoToken(t *testing.T) {
	t.Parallel()
	h := open(t)
	_, token := h.agent(t)
	h.expect(t, Request{Token: token}, Allowed, itIs)
	h.shows(t, h.service, true)
	page := h.page(t, "/verified?service="+h.service.Tenant().String()).Body.String()
	s := stated(t, page)
	if s == nil {
		t.Fatalf("no statement: %s", page)
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(s.Text))
	header, _, _ := strings.Cut(token, ".")
	tries := []string{s.Text, s.Text + "." + s.Signature, text + "." + s.Signature, text + ".." + s.Signature, header + "." + text + "." + s.Signature, header + ".." + s.Signature}
	tries = append(tries, regexp.MustCompile(`[\w-]+\.[\w-]+\.[\w-]+`).FindAllString(page, -1)...)
	for _, try := range tries {
		h.expect(t, Request{Token: try}, Denied, "The token is not one that this issuer has signed")
	}
	if strings.Contains(page, "eyJ") {
		t.Error("something on the page looks like a JWT")
	}
	if i := strings.LastIndexByte(token, '.'); strings.ContainsAny(token[:i], "\n/ :") || !strings.HasPrefix(s.Text, "avouch/verified/v1\n") {
		t.Error("what is signed of a token could be a statement")
	}
}

// TestStatedInOneLine: no name states a line of its own, though the database may have one that no room would take.
func TestStatedInOneLine(t *testing.T) {
	t.Parallel()
	h := open(t)
	_, token := h.agent(t)
	h.expect(t, Request{Token: token}, Allowed, itIs)
	h.shows(t, h.service, true)
	h.set(t, h.service, `UPDATE avouch.organisation SET name = $2 WHERE tenant_id = $1`, h.service.Tenant(), "A\nB\u2028valid until: 2099-01-01T00:00:00Z\u0085<i>")
	s := stated(t, h.page(t, "/verified?service="+h.service.Tenant().String()).Body.String())
	if s == nil || strings.Count(s.Text, "\n") != 10 || !strings.Contains(s.Text, "\nservice name: A\uFFFDB\uFFFDvalid until: 2099-01-01T00:00:00Z\uFFFD<i>\n") {
		t.Errorf("stated: %+v", s)
	}
}
