package verify

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

var update = flag.Bool("update", false, "write the golden files")

func hexadecimal(b [32]byte) string { return hex.EncodeToString(b[:]) }

// kidOf is the key that a token says it is signed with.
func kidOf(t testing.TB, token string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(token[:strings.IndexByte(token, '.')])
	must(t, err)
	var header struct{ KID string }
	must(t, json.Unmarshal(b, &header))
	return header.KID
}

// TestForgeries presents what is no token of ours. e2e.TestForgery makes forgeries from the public keys.
func TestForgeries(t *testing.T) {
	t.Parallel()
	h := open(t)
	_, token := h.agent(t)
	parts := strings.Split(token, ".")
	for what, forged := range map[string]string{
		"a word": "x", "dots": "..", "many dots": strings.Repeat(".", 4000), "a space": token + " ", "a line end": token + "\n", "no signature": parts[0] + "." + parts[1] + ".",
		"two parts": parts[0] + "." + parts[1], "four parts": token + "." + parts[2], "no header": "." + parts[1] + "." + parts[2], "swapped": parts[1] + "." + parts[0] + "." + parts[2],
		"a key": h.key, "Bearer": "Bearer " + token, "a megabyte": strings.Repeat("A", 1<<20), "a token and a megabyte": token + strings.Repeat("A", 1<<20),
		"quotes": `"` + token + `"`, "SQL": `'; DROP TABLE avouch.audit_entry; --`, "a null in text": "\\u0000", "not a letter": "\U0001F600", "padding": token + "=",
	} {
		before := len(h.verified(t, h.service.Tenant()))
		a := h.expect(t, Request{Token: forged}, Denied, "The token is not one that this issuer has signed")
		if a.Body["agent"] != nil {
			t.Errorf("%s: tells %v", what, a.Body["agent"])
		}
		found := h.verified(t, h.service.Tenant())
		if len(found) != before+1 {
			t.Fatalf("%s: %d entries", what, len(found)-before)
		}
		if e := found[before]; e.Decision != "DENIED" || e.Target.Kind != "token" || len(e.Target.ID) != 26 {
			t.Errorf("%s: the log says %+v", what, e)
		}
	}
	if n := len(h.verified(t, h.owner.Tenant())); n != 0 {
		t.Errorf("forgeries made %d entries in the log of an owner that they name", n)
	}
}

// TestForgeriesAreNamedByNoHash: whatever is sent as a token may be somebody's secret that can be guessed. What the log calls it is
// the same for the same text, and nothing that can be made from a guess and what is in the database.
func TestForgeriesAreNamedByNoHash(t *testing.T) {
	t.Parallel()
	h := open(t)
	names := map[string]bool{}
	for _, weak := range []string{"acme-2024-january", "eyes-only-2024", h.key} {
		sum, sum512 := sha256.Sum256([]byte(weak)), sha512.Sum512([]byte(weak))
		for range 2 {
			h.expect(t, Request{Token: weak}, Denied, "The token is not one that this issuer has signed")
			e := h.Last(t, h.service.Tenant())
			if names[e.Target.ID] = true; len(e.Target.ID) != 26 {
				t.Errorf("it is named %s", e.Target.ID)
			}
			for what, part := range map[string]string{"it": weak, "its SHA-256": hex.EncodeToString(sum[:8]), "its SHA-512": hex.EncodeToString(sum512[:8]), "its SHA-256 in bytes": string(sum[:8])} {
				if bytes.Contains(e.Body, []byte(part)) {
					t.Errorf("the log holds %s, of %s", what, weak)
				}
			}
		}
	}
	if len(names) != 3 {
		t.Errorf("three texts have %d names", len(names))
	}
}

// FuzzVerify sends anything as a request: there is an answer, no 5xx, and an allow only for the one good token.
func FuzzVerify(f *testing.F) {
	h := open(f)
	_, token := h.agent(f, "read:email")
	good, err := json.Marshal(Request{Token: token, ScopesRequested: []string{"read:email"}})
	must(f, err)
	for _, seed := range []string{
		string(good), `{"token":"` + token + `"}`, `{"token":"x"}`, `{}`, `[]`, `{"token":"a.b.c","scopes_requested":["*"],"target_resource":"\u00e9"}`, `{"token":"` + token + `x"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a := doortest.Call(t, h.api, doortest.Request{Method: "POST", Path: "/api/v1/verify", Key: h.key, Body: string(body)})
		switch {
		case a.Status >= 500 || a.Status != http.StatusOK && a.Status >= 200 && a.Status < 400:
			t.Errorf("status %d", a.Status)
		case a.Body["allowed"] == true && !bytes.Contains(unescaped(body), []byte(token)):
			t.Error("allowed without the token")
		case a.Status == http.StatusOK && a.Body["allowed"] != (a.Body["decision"] == "ALLOWED"):
			t.Errorf("decided %v", a.Body["decision"])
		}
	})
}

// unescaped is the token of a body, however its letters are written.
func unescaped(body []byte) []byte {
	var q Request
	if json.Unmarshal(body, &q) != nil {
		return nil
	}
	return []byte(q.Token)
}

// TestGoldenAnswers holds the answers as programs of others read them.
func TestGoldenAnswers(t *testing.T) {
	t.Parallel()
	h := open(t)
	a, token := h.agent(t, "read:email", "browse:web")
	b, revoked := h.agent(t)
	_, err := h.agents.Revoke(t.Context(), h.owner, b.ID)
	must(t, err)
	short := h.token(t, a, agent.Wish{Lifetime: agent.MinLifetime})
	bound := h.token(t, a, agent.Wish{Resources: []string{"ships"}})
	key, _ := h.newKey(t, h.service, apikey.NewKey{Scopes: []string{"read:identity"}})
	var got strings.Builder
	show := func(what, key string, q Request) {
		r := h.ask(t, key, q)
		var pretty bytes.Buffer
		must(t, json.Indent(&pretty, []byte(r.Raw), "", "  "))
		text := strings.NewReplacer(a.ID.String(), "AGENT", b.ID.String(), "REVOKED-AGENT", r.Body["request_id"].(string), "REQUEST").Replace(pretty.String())
		evidence := r.Body["audit"].(map[string]any)
		text = strings.NewReplacer(evidence["log"].(string), "LOG", evidence["leaf"].(string), "LEAF").Replace(text)
		fmt.Fprintf(&got, "== %s\n%s\n", what, strings.TrimSpace(text))
	}
	show("identity", h.key, Request{Token: token})
	show("a scope", h.key, Request{Token: token, TargetResource: "ships", ScopesRequested: []string{"read:email"}})
	show("a scope that it lacks", h.key, Request{Token: token, ScopesRequested: []string{"read:email", "write:email"}})
	show("bound elsewhere", h.key, Request{Token: bound.Token.Expose(), TargetResource: "planes"})
	show("a key for identity", key, Request{Token: token, ScopesRequested: []string{"read:email"}})
	show("revoked", h.key, Request{Token: revoked})
	show("forged", h.key, Request{Token: "forged"})
	h.clock.forward(agent.MinLifetime)
	text := got.Len()
	show("expired", h.key, Request{Token: short.Token.Expose()})
	all := got.String()[:text] + strings.Replace(got.String()[text:], short.Expires.UTC().Format(time.RFC3339), "WHEN", 1)
	const golden = "testdata/answers.golden"
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(golden, []byte(all), 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if all != string(want) {
		t.Errorf("the answers are not what they were:\n%s", all)
	}
}
