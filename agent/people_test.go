package agent

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/keyring"
)

// TestPeoplesTokensAreNoAgents has the keys of people's tokens sign the very claims of an agent.
func TestPeoplesTokensAreNoAgents(t *testing.T) {
	t.Parallel()
	m := newMill(t)
	c := m.claims(t)
	b, err := c.encode()
	must(t, err)
	encode := base64.RawURLEncoding.EncodeToString
	for _, alg := range []string{keyring.ES256, keyring.RS256} {
		must(t, m.signing.Ensure(t.Context(), alg))
		token, err := m.signing.SignSession(t.Context(), alg, b)
		must(t, err)
		if _, err := m.check(token); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", alg, err)
		}
		parts := strings.Split(token, ".")
		header, err := base64.RawURLEncoding.DecodeString(parts[0])
		must(t, err)
		var h struct{ KID string }
		must(t, json.Unmarshal(header, &h))
		for _, as := range []string{"ES256", "RS256", "HS256", "none"} {
			relabelled := encode(fmt.Appendf(nil, `{"alg":%q,"typ":"JWT","kid":%q}`, as, h.KID)) + "." + parts[1] + "."
			for _, signature := range []string{parts[2], encode(make([]byte, 64)), ""} {
				if _, err := m.check(relabelled + signature); !errors.Is(err, ErrForged) && !errors.Is(err, ErrMalformed) {
					t.Errorf("%s as %s: %v", alg, as, err)
				}
			}
		}
	}
}
