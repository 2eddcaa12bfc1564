package session

import (
	"encoding/base64"
	"net/http"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
)

// The names of the cookies. __Host- makes a browser refuse the cookie from another host, from another path, and without TLS; on
// plain http, which is for the machine itself, no browser would keep such a one.
const (
	cookieName   = "avouch"
	deviceCookie = "avouch-device"
	hostPrefix   = "__Host-"
	valueSize    = 43 // base64url of 32 bytes
)

func (r *Room) named(name string) string {
	if r.secure {
		return hostPrefix + name
	}
	return name
}

func (r *Room) cookie(name, value string, life time.Duration) *http.Cookie {
	c := &http.Cookie{Name: r.named(name), Value: value, Path: "/", HttpOnly: true, Secure: r.secure, SameSite: http.SameSiteLaxMode, MaxAge: -1}
	if life >= time.Second {
		c.MaxAge = int(life / time.Second)
	}
	return c
}

// Cookie gives a browser the session that Start or Proved made. A page that this is answered to must not be cached.
func (r *Room) Cookie(w http.ResponseWriter, s Session, value secret.String) {
	http.SetCookie(w, r.cookie(cookieName, value.Expose(), s.ExpiresAt.Sub(r.cfg.Now())))
}

// Clear takes the session's cookie from a browser.
func (r *Room) Clear(w http.ResponseWriter) { http.SetCookie(w, r.cookie(cookieName, "", 0)) }

// cookieOf is the value of a cookie of ours; empty if there is none. Two that differ are nobody's: which one is meant cannot be
// said, and one of them may have been planted.
func (r *Room) cookieOf(req *http.Request, name string) (string, error) {
	found := ""
	for _, c := range req.CookiesNamed(r.named(name)) {
		if found != "" && c.Value != found {
			return "", Refused()
		}
		found = c.Value
	}
	return found, nil
}

// wellFormed reports whether a text can be one of our 256-bit values: nothing else is looked up.
func wellFormed(v string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(v)
	return err == nil && len(v) == valueSize && len(b) == 32
}

// SameOrigin refuses a request that changes something and was sent by another site's page: whoever has a cookie, or may be given
// one, must hold to it. GET, HEAD and OPTIONS pass, which change nothing here.
//
// The rule is net/http's CrossOriginProtection, and one more. Browsers say where a request comes from, in Sec-Fetch-Site (since
// 2020, Safari since 2023) or for these methods in Origin (all since 2020): what says neither is no browser of today, and the
// cookie's SameSite=Lax is for those of before. And without Sec-Fetch-Site an Origin must be ours to the letter, scheme and port,
// where net/http compares its host with the Host header, which a proxy may have written.
func (r *Room) SameOrigin(req *http.Request) error {
	if slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, req.Method) {
		return nil
	}
	sites, origins := req.Header.Values("Sec-Fetch-Site"), req.Header.Values("Origin")
	if len(sites) > 1 || len(origins) > 1 || r.cross.Check(req) != nil || len(sites) == 0 && len(origins) == 1 && origins[0] != r.origin {
		return problem.New(problem.Denied, "The request was sent by a page of another site than %s.", r.origin)
	}
	return nil
}
