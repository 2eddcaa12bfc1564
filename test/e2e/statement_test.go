package e2e

import (
	"encoding/base64"
	"encoding/json"
	"html"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/keyring"
)

// seedStatement does with the page behind the badge what it says to do, and then what an attacker would: the seed's offline
// check, which looks at nothing but the signature, takes nothing on it for a token, and the page's check takes no token.
func seedStatement(t *testing.T, r ready) {
	if _, err := exec.LookPath("node"); err != nil {
		missing(t, "there is no node")
	}
	want(t, 200, http.MethodPost, r.URL+"/api/v1/verify", r.ServiceKey, map[string]any{"token": r.AgentToken, "target_resource": "your-service", "scopes_requested": []string{"read:data"}}, nil)
	page := string(want(t, 200, http.MethodGet, r.URL+"/verified?service="+r.ServiceTenantID, "", nil, nil).body)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "check.mjs"), []byte(preformatted(t, page, "check")), 0o600))
	check := func(statement string) (said string, err error) {
		must(t, os.WriteFile(filepath.Join(dir, "statement.json"), []byte(statement), 0o600))
		cmd := exec.Command("node", "check.mjs", "statement.json")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	published := preformatted(t, page, "statement")
	var s keyring.Statement
	must(t, json.Unmarshal([]byte(published), &s))
	if said, err := check(published); err != nil || said != s.Text+"\n" || !strings.Contains(s.Text, "\nservice id: "+r.ServiceTenantID+"\n") {
		t.Errorf("the page's own check: %v: %s", err, said)
	}
	i := strings.LastIndexByte(r.AgentToken, '.')
	var header struct{ KID string }
	h, _, _ := strings.Cut(r.AgentToken, ".")
	b, err := base64.RawURLEncoding.DecodeString(h)
	must(t, err)
	must(t, json.Unmarshal(b, &header))
	for why, forged := range map[string]keyring.Statement{
		"not a statement": {Text: r.AgentToken[:i], KID: header.KID, Signature: r.AgentToken[i+1:]},
		"not signed":      {Text: strings.Replace(s.Text, "service name: ", "service name: Not ", 1), KID: s.KID, Signature: s.Signature},
	} {
		b, err := json.Marshal(forged)
		must(t, err)
		if said, err := check(string(b)); err == nil || !strings.Contains(said, why) {
			t.Errorf("%s: %v: %s", why, err, said)
		}
	}
	noTokens(t, r, page, s, h)
}

func preformatted(t *testing.T, page, id string) string {
	t.Helper()
	found := regexp.MustCompile(`(?s)<pre id="` + id + `"[^>]*>(.*?)</pre>`).FindStringSubmatch(page)
	if found == nil {
		t.Fatalf("the page has no %s: %s", id, page)
	}
	return html.UnescapeString(found[1])
}

// noTokens presents what is on the page to jose.jwtVerify, as seed 001 calls it, and to /verify.
func noTokens(t *testing.T, r ready, page string, s keyring.Statement, header string) {
	t.Helper()
	text := encode([]byte(s.Text))
	all := []string{s.Text, s.Text + "." + s.Signature, text + "." + s.Signature, text + ".." + s.Signature, header + "." + text + "." + s.Signature, header + ".." + s.Signature}
	all = append(all, regexp.MustCompile(`[\w-]+\.[\w-]*\.[\w-]+`).FindAllString(page, -1)...)
	type try struct {
		Token string `json:"token"`
	}
	tries := map[string]try{"control": {r.AgentToken}}
	for _, token := range all {
		tries[token] = try{token}
		var v verdict
		if want(t, 200, http.MethodPost, r.URL+"/api/v1/verify", r.ServiceKey, map[string]any{"token": token}, &v); v.Allowed {
			t.Errorf("allowed: %q", token)
		}
	}
	input, err := json.Marshal(map[string]any{"jwks": r.URL + "/.well-known/jwks.json", "tries": tries})
	must(t, err)
	var got map[string]struct{ Code string }
	script(t, "offline.mjs", string(input), &got)
	for token := range tries {
		if accepted := got[token].Code == ""; accepted != (token == "control") {
			t.Errorf("jose.jwtVerify: accepted %v: %q", accepted, token)
		}
	}
}
