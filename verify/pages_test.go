package verify

import (
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

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
	shows := func(c tenantdb.Caller, yes bool) {
		h.set(t, c, `UPDATE avouch.organisation SET badge = $2 WHERE tenant_id = $1`, c.Tenant(), yes)
	}
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
	shows(h.service, true)
	if page := what("/verified?service=" + service); !strings.Contains(page, "Harbour Data verifies the AI agents") || !strings.Contains(page, "none lately") || strings.Contains(page, "Signed statement") {
		t.Errorf("before the first verification: %s", page)
	}
	_, token := h.agent(t)
	h.expect(t, Request{Token: token}, Allowed, itIs)
	entry := h.Last(t, h.service.Tenant())
	h.statement(t, what("/verified?service="+service), entry.Time, int64(entry.Seq), audit.Leaf(entry.Body))
	shows(h.owner, true)
	if page := what("/verified?service=" + h.owner.Tenant().String()); !strings.Contains(page, "none lately") {
		t.Error("an owner whose agent was verified by others counts as one that verifies")
	}
	shows(h.service, false)
	if what("/verified?service="+service) != unknown {
		t.Error("what is shown no more is still told from what does not exist")
	}
	shows(h.service, true)
	must(t, h.orgs.Suspend(t.Context(), tenantdb.System(h.service.Tenant(), "operator"), "unpaid"))
	if what("/verified?service="+service) != unknown {
		t.Error("a suspended service is shown")
	}
}

// statement checks what the page says and what it signs.
func (h *house) statement(t *testing.T, page string, at time.Time, seq int64, leaf [32]byte) {
	t.Helper()
	found := regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.[\w-]+`).FindString(page)
	if found == "" {
		t.Fatalf("no statement: %s", page)
	}
	for _, part := range []string{at.UTC().Format("2 January 2006, 15:04 UTC"), "entry " + itoa(seq) + " of log", hexadecimal(leaf), "good until "} {
		if !strings.Contains(page, part) {
			t.Errorf("the page does not say %q: %s", part, page)
		}
	}
	parts := strings.Split(found, ".")
	var header struct{ KID, Typ string }
	var claims map[string]any
	for i, into := range []any{&header, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		must(t, err)
		must(t, json.Unmarshal(b, into))
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	must(t, err)
	must(t, h.signing.VerifySignature(t.Context(), header.KID, parts[0]+"."+parts[1], signature))
	if header.Typ != "verified+jwt" || claims["iss"] != testIssuer || claims["service"] != "Harbour Data" || claims["seq"] != float64(seq) ||
		claims["leaf"] != hexadecimal(leaf) || claims["last_verification"] != at.UTC().Format(time.RFC3339) {
		t.Errorf("the statement says %v in %+v", claims, header)
	}
	h.expect(t, Request{Token: found}, Denied, "The token is not one that this issuer has signed.")
}
