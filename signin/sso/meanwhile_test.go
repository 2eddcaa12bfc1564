package sso

import (
	"net/http"
	"testing"

	"github.com/avouch-dev/avouch/test/oidcprovider"
)

// meanwhile does something of an administrator's while the provider answers.
type meanwhile struct {
	http.RoundTripper
	do func()
}

// RoundTrip acts before the answer to the code comes.
func (m meanwhile) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodPost {
		m.do()
	}
	return m.RoundTripper.RoundTrip(req)
}

// TestChangedMeanwhile: a connection that was switched off, changed or taken away while its provider answered admits and links nobody
// by what it was before.
func TestChangedMeanwhile(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*testing.T, *scene){
		"switched off": func(t *testing.T, s *scene) {
			_, err := s.rooms[0].Switch(t.Context(), s.owner, s.conn.ID, false)
			must(t, err)
		},
		"admits nobody any more": func(t *testing.T, s *scene) { s.reconfigure(t, s.owner, Reconfigure{Admission: &Admission{}}) },
		"removed": func(t *testing.T, s *scene) {
			must(t, s.rooms[0].RemoveDomain(t.Context(), s.owner, "acme.example"))
			must(t, s.rooms[0].Disconnect(t.Context(), s.owner, s.conn.ID))
		},
	} {
		s := open(t)
		s.member(t, s.acme, "grace@acme.example")
		inner := s.rooms[1].cfg.Client
		for _, to := range []struct {
			who, path string
			link      bool
			user      oidcprovider.User
		}{
			{"a stranger", "/api/v1/sso/start", false, user("new-1", "new@acme.example")},
			{"a member for the first time", "/api/v1/sso/start", false, user("grace-1", "grace@acme.example")},
			{"an owner who links", "/api/v1/sso/prove", true, user("ada-1", "")},
		} {
			b := s.browser()
			s.provider.SignIn(to.user)
			body := map[string]any{"connection_id": s.conn.ID.String()}
			if to.link {
				body["link"] = true
			}
			back, _ := oidcprovider.Visit(t, b.begin(t, to.path, body))
			client := *inner
			done := false
			client.Transport = meanwhile{inner.Transport, func() {
				if !done {
					done = true
					change(t, s)
				}
			}}
			s.rooms[1].cfg.Client = &client
			w := b.back(t, 1, back)
			if _, why := s.arrival(t, w); !done || why != ReasonOff {
				t.Errorf("%s, %s: refused: %q (%d %s)", name, to.who, why, w.Code, w.Body)
			}
			if n := s.Text(t, `SELECT count(*)::text FROM avouch.identity`); n != "0" {
				t.Errorf("%s, %s: %s names of the provider's are known", name, to.who, n)
			}
			if name == "removed" {
				break
			}
			if name == "switched off" {
				_, err := s.rooms[0].Switch(t.Context(), s.owner, s.conn.ID, true)
				must(t, err)
			} else {
				s.reconfigure(t, s.owner, Reconfigure{Admission: &Admission{JIT: true}})
			}
		}
	}
}
