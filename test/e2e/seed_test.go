package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// theirs is where the seed's code and badge point.
const theirs = "https://identity.kairosaistudio.com"

// TestSeed001 takes the page for service developers at its word, with an agent and a service of different organisations.
func TestSeed001(t *testing.T) {
	t.Parallel()
	page := contents(t, "testdata/seed001.txt")
	_, r := dev(t, scratch(t), launch{})
	if r.TenantID == r.ServiceTenantID {
		t.Fatal("agent and service belong to the same organisation")
	}
	t.Run("code", func(t *testing.T) { t.Parallel(); seedCode(t, page, r) })
	t.Run("offline", func(t *testing.T) { t.Parallel(); seedOffline(t, page, r) })
	t.Run("scopes", func(t *testing.T) { t.Parallel(); seedScopes(t, page, r) })
	t.Run("badge", func(t *testing.T) { t.Parallel(); seedBadge(t, page, r) })
	t.Run("statement", func(t *testing.T) { t.Parallel(); seedStatement(t, r) })
}

// script runs a program of test/js and reads the JSON that it prints.
func script(t testing.TB, name, stdin string, into any, env ...string) {
	t.Helper()
	if _, err := os.Stat("../js/node_modules/jose"); err != nil {
		missing(t, "what the JavaScript tests need is not installed: scripts/setup-node.sh")
	}
	cmd := exec.Command("node", name)
	cmd.Dir = "../js"
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	cmd.Stdin = strings.NewReader(stdin)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, said.String())
	}
	must(t, json.Unmarshal(out, into))
}

// missing skips a test on a person's machine, and fails it where nothing may be missing.
func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skipf("skipped: %s", why)
}

// needs is for programs that scripts/setup-tools.sh sees to. A right that is missing is not one of them: what takes root is
// skipped where the tests do not run as root.
func needs(t testing.TB, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			missing(t, fmt.Sprintf("%v: scripts/setup-tools.sh", err))
		}
	}
}

// seedCode runs the page's JavaScript. The only changes are the two that the page asks for: where, and whose key.
func seedCode(t *testing.T, page string, r ready) {
	first, last := "// Agent sends its token from env vars on every request\n", "console.log(agent.active_scopes) // ['read:data']\n"
	_, rest, begins := strings.Cut(page, first)
	code, _, ends := strings.Cut(rest, last)
	if !begins || !ends {
		t.Fatal("the page has changed")
	}
	code = substitute(t, substitute(t, first+code+last, theirs, r.URL), "${YOUR_API_KEY}", r.ServiceKey)
	type result struct {
		Status  int
		Body    map[string]any
		Printed []any
	}
	var got result
	script(t, "seed001.mjs", code, &got, "AGENT_TOKEN="+r.AgentToken)
	if got.Status != 200 || got.Body["served"] != true || fmt.Sprint(got.Printed) != fmt.Sprint([]any{r.AgentDID, []any{"read:data"}}) {
		t.Errorf("an agent that may: %+v", got)
	}
	for name, token := range map[string]string{"tampered": tampered(r.AgentToken), "none": "x"} {
		got = result{}
		script(t, "seed001.mjs", code, &got, "AGENT_TOKEN="+token)
		if got.Status != 403 || got.Body["error"] != "Agent not authorized" || len(got.Printed) > 0 {
			t.Errorf("a token that is %s: %+v", name, got)
		}
	}
	want(t, 200, http.MethodPut, r.URL+"/api/v1/agents/"+r.AgentID+"/scopes", r.OwnerKey, map[string]any{"scopes": []string{"read:email"}}, nil, "If-Match", tagOf(t, r))
	got = result{}
	script(t, "seed001.mjs", code, &got, "AGENT_TOKEN="+r.AgentToken)
	if got.Status != 403 {
		t.Errorf("an agent that has lost the scope: %+v", got)
	}
}

func substitute(t testing.TB, s, old, new string) string {
	t.Helper()
	if strings.Count(s, old) != 1 {
		t.Fatalf("%q is there %d times", old, strings.Count(s, old))
	}
	return strings.Replace(s, old, new, 1)
}

// tampered is a token with one bit of its signature changed.
func tampered(token string) string {
	head, signature := token[:strings.LastIndex(token, ".")+1], token[strings.LastIndex(token, ".")+1:]
	b, _ := base64.RawURLEncoding.DecodeString(signature)
	b[len(b)/2] ^= 1
	return head + base64.RawURLEncoding.EncodeToString(b)
}

func tagOf(t testing.TB, r ready) string {
	t.Helper()
	return want(t, 200, http.MethodGet, r.URL+"/api/v1/agents/"+r.AgentID, r.OwnerKey, nil, nil).header.Get("ETag")
}

// seedOffline verifies with jose and the published keys, at the path that the page names.
func seedOffline(t *testing.T, page string, r ready) {
	const path = "/api/v1/.well-known/jwks.json"
	if !strings.Contains(page, "GET "+path) || !strings.Contains(page, "jose.jwtVerify(token, JWKS)") {
		t.Fatal("the page has changed")
	}
	part := strings.Split(r.AgentToken, ".")
	claims, err := base64.RawURLEncoding.DecodeString(part[1])
	must(t, err)
	forged := part[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(substitute(t, string(claims), r.AgentID+`","aud"`, r.TenantID+`","aud"`))) + "." + part[2]
	type try struct {
		Token   string         `json:"token"`
		Options map[string]any `json:"options,omitempty"`
	}
	tries := map[string]try{
		"as on the page":     {r.AgentToken, nil},
		"checked":            {r.AgentToken, map[string]any{"issuer": r.URL, "audience": r.URL, "subject": r.AgentDID, "algorithms": []string{"ES256"}}},
		"other issuer":       {r.AgentToken, map[string]any{"issuer": "https://other.example"}},
		"other audience":     {r.AgentToken, map[string]any{"audience": "other"}},
		"tampered signature": {tampered(r.AgentToken), nil},
		"tampered claims":    {forged, nil},
	}
	input, err := json.Marshal(map[string]any{"jwks": r.URL + path, "tries": tries})
	must(t, err)
	var got map[string]struct {
		Payload, Header map[string]any
		Code            string
	}
	script(t, "offline.mjs", string(input), &got)
	for name, code := range map[string]string{
		"as on the page": "", "checked": "", "other issuer": "ERR_JWT_CLAIM_VALIDATION_FAILED", "other audience": "ERR_JWT_CLAIM_VALIDATION_FAILED",
		"tampered signature": "ERR_JWS_SIGNATURE_VERIFICATION_FAILED", "tampered claims": "ERR_JWS_SIGNATURE_VERIFICATION_FAILED",
	} {
		if got[name].Code != code || code == "" && (got[name].Payload["sub"] != r.AgentDID || got[name].Header["alg"] != "ES256") {
			t.Errorf("%s: %+v", name, got[name])
		}
	}
}

// seedScopes holds the catalogue against the page's table.
func seedScopes(t *testing.T, page string, r ready) {
	_, table, _ := strings.Cut(page, "ScopeRiskDescription\n")
	listed := map[string]string{}
	for line := range strings.Lines(table) {
		if strings.TrimSpace(line) == "" {
			break
		}
		for _, risk := range []string{"low", "medium", "high"} {
			if scope, rest, ok := strings.Cut(line, risk); ok && strings.Contains(scope, ":") && rest != "" && rest[0] >= 'A' && rest[0] <= 'Z' {
				listed[scope] = risk
			}
		}
	}
	if len(listed) != 12 {
		t.Fatalf("the page's table has %d scopes", len(listed))
	}
	var catalogue struct{ Scopes []struct{ Name, Risk string } }
	want(t, 200, http.MethodGet, r.URL+"/api/v1/scopes", r.ServiceKey, nil, &catalogue)
	known := map[string]string{}
	for _, s := range catalogue.Scopes {
		known[s.Name] = s.Risk
	}
	// What the vault asks of agents came with it.
	maps.Copy(listed, map[string]string{"read:codes": known["read:codes"], "use:secrets": known["use:secrets"]})
	if !maps.Equal(listed, known) {
		t.Errorf("a service of its own scopes aside, the catalogue is %v", slices.Sorted(maps.Keys(known)))
	}
}

// seedBadge fetches what the page's HTML points to.
func seedBadge(t *testing.T, page string, r ready) {
	for path, kind := range map[string]string{"/verified": "text/html; charset=utf-8", "/api/badge/verified.svg": "image/svg+xml"} {
		if !strings.Contains(page, `"`+theirs+path+`"`) {
			t.Fatal("the page has changed")
		}
		if got := want(t, 200, http.MethodGet, r.URL+path, "", nil, nil); got.header.Get("Content-Type") != kind || len(got.body) == 0 {
			t.Errorf("%s: %s, %d bytes", path, got.header.Get("Content-Type"), len(got.body))
		}
	}
}
