package agent

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/id"
)

func TestIssuer(t *testing.T) {
	t.Parallel()
	a, err := ParseID(goldenAgent)
	must(t, err)
	for issuer, want := range map[string]string{
		"https://id.example.com":           "did:web:id.example.com",
		"https://id.example.com:8443":      "did:web:id.example.com%3A8443",
		"http://127.0.0.1:8080":            "did:web:127.0.0.1%3A8080",
		"http://localhost:8080":            "did:web:localhost%3A8080",
		"https://[::1]:8080":               "did:web:%5B%3A%3A1%5D%3A8080",
		"https://example.com/avouch":       "did:web:example.com:avouch",
		"https://example.com/t/a%3Ab":      "did:web:example.com:t:a%3Ab",
		"https://xn--bcher-kva.example":    "did:web:xn--bcher-kva.example",
		"https://a-b.example.com:443/id/x": "did:web:a-b.example.com%3A443:id:x",
	} {
		i, err := ParseIssuer(issuer)
		if err != nil || i.String() != issuer || i.DID(a) != want+":agents:"+goldenAgent {
			t.Errorf("%s: %v, %s", issuer, err, i.DID(a))
		}
	}
	for _, bad := range []string{
		"", "id.example.com", "ftp://id.example.com", "https://", "https:///x", "https://id.example.com/", "https://id.example.com/x/",
		"https://user:hunter2@id.example.com", "https://id.example.com?x", "https://id.example.com?", "https://id.example.com#x", "https://id.example.com#",
		"https://ID.example.com", "HTTPS://id.example.com", "https://id.example.com:x", "https://id example.com", "://",
	} {
		if i, err := ParseIssuer(bad); err == nil {
			t.Errorf("%q is an issuer: %s", bad, i)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

func FuzzIssuer(f *testing.F) {
	for _, s := range []string{"https://id.example.com", "http://127.0.0.1:8080", "https://[::1]/a/b", "https://a/%2f%3a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		i, err := ParseIssuer(s)
		if err != nil {
			return
		}
		did := i.DID(id.New[agentKind]())
		if strings.ContainsAny(did, " /?#[]@\\\"") || strings.Count(did, "%") > 0 && !strings.Contains(did, "%3A") && i.String() == "" {
			t.Fatalf("%q became %q", s, did)
		}
		for part := range strings.SplitSeq(did, ":") {
			if part == "" {
				t.Fatalf("%q became %q, with an empty part", s, did)
			}
		}
	})
}

// TestDocumentHasNoMoreMembers decodes into exactly the members that may be there.
func TestDocumentHasNoMoreMembers(t *testing.T) {
	t.Parallel()
	a, err := ParseID(goldenAgent)
	must(t, err)
	i := mustIssuer(t, testIssuer)
	keys := []PublicKey{goodKey(t, "P-256"), goodKey(t, "Ed25519"), goodKey(t, "RSA")}
	keys[1].Use, keys[2].Use = UseWebBotAuth, UseAuthentication
	b, err := i.didDocument(a, keys, false)
	must(t, err)
	var got struct {
		Context []string `json:"@context"`
		ID      string   `json:"id"`
		Methods []struct {
			ID, Type, Controller string
			Key                  map[string]string `json:"publicKeyJwk"`
		} `json:"verificationMethod"`
		Authentication  []string
		AssertionMethod []string
		Service         []struct{ ID, Type, ServiceEndpoint string }
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	must(t, d.Decode(&got))
	did := i.DID(a)
	if got.ID != did || len(got.Methods) != 3 || len(got.Authentication) != 3 || len(got.AssertionMethod) != 1 || got.Context[0] != "https://www.w3.org/ns/did/v1" {
		t.Errorf("%+v", got)
	}
	if got.AssertionMethod[0] != did+"#"+keys[0].KID {
		t.Errorf("stating is for the signing key: %v", got.AssertionMethod)
	}
	for n, m := range got.Methods {
		again, err := ParseJWK(jsonObject(t, m.Key))
		if err != nil || m.Controller != did || m.Type != "JsonWebKey2020" || m.ID != did+"#"+again.KID || again.KID != keys[n].KID {
			t.Errorf("method %+v: %v", m, err)
		}
	}
	for _, s := range got.Service {
		if !strings.HasPrefix(s.ServiceEndpoint, testIssuer+"/") || !strings.HasPrefix(s.ID, did+"#") {
			t.Errorf("service %+v", s)
		}
	}
	gone, err := i.didDocument(a, keys, true)
	must(t, err)
	if text := string(gone); !strings.Contains(text, `"deactivated":true`) || strings.Contains(text, "publicKeyJwk") || strings.Contains(text, keys[0].KID) {
		t.Errorf("a revoked agent's: %s", text)
	}
}

func jsonObject(t testing.TB, m map[string]string) map[string]any {
	t.Helper()
	out := map[string]any{}
	for name, v := range m {
		out[name] = v
	}
	return out
}
