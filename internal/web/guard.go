package web

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
)

// credential finds what we hand out: API keys of every kind, what people's programs, sign-ins and mailed links are known by
// (avr_, ava_, avl_), and JWTs. It is loose at the end on purpose, since a damaged key has leaked as well.
var credential = regexp.MustCompile(`av[ksd]_(?:live|test)_[0-9A-Za-z_]{8,}|av[ral]_[0-9A-Za-z_-]{16,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`)

// hookTimeout bounds what is done beside an answer, such as warning the owner of a leaked key.
const hookTimeout = 5 * time.Second

// addressed holds the rule that no address has a credential in it: in no path, and in no query string of the API. It comes
// before what is said of the address's shape, which would hide a leak. It reports true if it answered the request.
func (a *API[C]) addressed(w http.ResponseWriter, r *http.Request) bool {
	where := r.URL.EscapedPath()
	if strings.HasPrefix(r.URL.Path, "/api/") {
		where += "?" + r.URL.RawQuery
	}
	found := credentials(where)
	if len(found) == 0 {
		return false
	}
	a.leaked(r.Context(), found)
	a.Refuse(w, r, problem.New(problem.Invalid, "The address holds a credential. Addresses are kept in logs and histories, so it counts as leaked: replace it, and send the new one in the Authorization header. An address names a key by its key_id."))
	return true
}

// guard holds the rule that no credential travels in the clear when the service is known by an https address. It reports true
// if it answered the request.
func (a *API[C]) guard(w http.ResponseWriter, r *http.Request, x *exchange) bool {
	if a.cfg.PublicURL.Scheme != "https" || x.meta.Secure || a.plain[r.URL.Path] {
		return false
	}
	if found := append(inHeaders(r.Header), credentials(r.URL.RawQuery)...); len(found) > 0 {
		a.leaked(r.Context(), found)
		a.Refuse(w, r, problem.New(problem.Invalid, "The request came over plain HTTP with a credential, which everyone on the way could read. It counts as leaked: replace it, and use %s.", a.cfg.PublicURL))
		return true
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		a.Refuse(w, r, problem.New(problem.Invalid, "Plain HTTP is not served here: use %s.", a.cfg.PublicURL))
		return true
	}
	to := url.URL{Scheme: "https", Host: a.cfg.PublicURL.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	w.Header().Set("Location", to.String())
	w.WriteHeader(http.StatusPermanentRedirect)
	return true
}

func (a *API[C]) leaked(ctx context.Context, credentials []string) {
	if a.cfg.Leaked == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hookTimeout)
	defer cancel()
	for _, c := range credentials {
		a.cfg.Leaked(ctx, c)
	}
}

// credentials finds those in an address, also if it is percent-encoded once or twice. Malformed escapes are left as they
// are, so that one of them does not hide what stands beside it. At most four are told.
func credentials(address string) []string {
	once := percentDecode(address)
	var found []string
	for _, s := range slices.Compact([]string{address, once, percentDecode(once)}) {
		for _, c := range credential.FindAllString(s, 4) {
			if len(found) < 4 && !slices.Contains(found, c) {
				found = append(found, c)
			}
		}
	}
	return found
}

func percentDecode(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if b, ok := hexByte(s[i+1], s[i+2]); ok {
				out, i = append(out, b), i+2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

// inHeaders is every credential that headers carry. A cookie with a __Host- or __Secure- name is one: browsers never
// send it in the clear.
func inHeaders(h http.Header) []string {
	var found []string
	for _, v := range h.Values("Authorization") {
		if _, token, ok := strings.Cut(v, " "); ok {
			v = token
		}
		found = append(found, strings.TrimSpace(v))
	}
	found = append(found, h.Values("X-Api-Key")...)
	found = append(found, h.Values("X-Agent-Token")...)
	for _, line := range h.Values("Cookie") {
		for pair := range strings.SplitSeq(line, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			if strings.HasPrefix(name, "__Host-") || strings.HasPrefix(name, "__Secure-") {
				found = append(found, value)
			}
		}
	}
	return found
}

// redact takes out of a text for the log what must never be there, should an error ever quote it.
func redact(s string) string { return credential.ReplaceAllString(s, "[secret]") }
