package apikey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// signer is somebody who signs as GitHub does.
type signer struct {
	name string
	key  *ecdsa.PrivateKey
}

func newSigner(t testing.TB, name string, curve elliptic.Curve) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{name, key}
}

func (s signer) sign(t testing.TB, body string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(body))
	der, err := ecdsa.SignASN1(rand.Reader, s.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func pemOf(t testing.TB, public any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// listed is a list of keys as GitHub gives it, the last of them current.
func listed(t testing.TB, keys ...[2]string) []byte {
	t.Helper()
	list := []map[string]any{}
	for i, k := range keys {
		list = append(list, map[string]any{"key_identifier": k[0], "key": k[1], "is_current": i == len(keys)-1})
	}
	b, err := json.Marshal(map[string]any{"public_keys": list})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s signer) public(t testing.TB) [2]string { return [2]string{s.name, pemOf(t, &s.key.PublicKey)} }

func gitHubKeys(t testing.TB, list []byte) GitHubKeys {
	t.Helper()
	keys, err := ParseGitHubKeys(list)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

const alertBody = `[{"token":"some_token","type":"some_type","url":"some_url","source":"some_source"}]`

// The example of GitHub's documentation of the protocol, signed with a key of theirs for testing.
const (
	exampleName      = "f9525bf080f75b3506ca1ead061add62b8633a346606dc5fe544e29231c6ee0d"
	exampleSignature = "MEUCIFLZzeK++IhS+y276SRk2Pe5LfDrfvTXu6iwKKcFGCrvAiEAhHN2kDOhy2I6eGkOFmxNkOJ+L2y8oQ9A2T9GGJo6WJY="
	exampleKey       = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEsz9ugWDj5jK5ELBK42ynytbo38gP
HzZFI03Exwz8Lh/tCfL3YxwMdLjB+bMznsanlhK0RwcGP3IDb34kQDIo3Q==
-----END PUBLIC KEY-----
`
)

func TestGitHubSignature(t *testing.T) {
	t.Parallel()
	old, now, stranger := newSigner(t, "old", elliptic.P256()), newSigner(t, "now", elliptic.P256()), newSigner(t, "now", elliptic.P256())
	keys := gitHubKeys(t, listed(t, [2]string{exampleName, exampleKey}, old.public(t), now.public(t)))
	good := now.sign(t, alertBody)
	der, _ := base64.StdEncoding.DecodeString(good)
	for what, tt := range map[string]struct {
		name, signature, body string
		want                  error
	}{
		"GitHub's own example":        {exampleName, exampleSignature, alertBody, nil},
		"the current key":             {"now", good, alertBody, nil},
		"a listed key, not current":   {"old", old.sign(t, alertBody), alertBody, nil},
		"an empty body":               {"now", now.sign(t, ""), "", nil},
		"a key not listed":            {"new", good, alertBody, ErrGitHubKey},
		"no name":                     {"", good, alertBody, ErrGitHubKey},
		"another's name":              {"old", good, alertBody, ErrGitHubSignature},
		"a stranger, under that name": {"now", stranger.sign(t, alertBody), alertBody, ErrGitHubSignature},
		"one byte changed":            {"now", good, strings.Replace(alertBody, "some_t", "some_T", 1), ErrGitHubSignature},
		"white space behind":          {"now", good, alertBody + "\n", ErrGitHubSignature},
		"no signature":                {"now", "", alertBody, ErrGitHubSignature},
		"another body's signature":    {"now", now.sign(t, "[]"), alertBody, ErrGitHubSignature},
		"no base64":                   {"now", "!" + good[1:], alertBody, ErrGitHubSignature},
		"hexadecimal":                 {"now", hex.EncodeToString(der), alertBody, ErrGitHubSignature},
		"a byte behind the ASN.1":     {"now", base64.StdEncoding.EncodeToString(append(der, 0)), alertBody, ErrGitHubSignature},
		"a long one":                  {"now", strings.Repeat("A", 1<<20), alertBody, ErrGitHubSignature},
	} {
		if err := keys.Verify(tt.name, tt.signature, []byte(tt.body)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v; want %v", what, err, tt.want)
		}
	}
	if err := (GitHubKeys{}).Verify("now", good, []byte(alertBody)); !errors.Is(err, ErrNoGitHubKeys) {
		t.Errorf("without any keys: %v", err)
	}
}

func TestGitHubKeyList(t *testing.T) {
	t.Parallel()
	good := newSigner(t, "good", elliptic.P256())
	wide := newSigner(t, "wide", elliptic.P384())
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	others := [][2]string{wide.public(t), {"edwards", pemOf(t, edwards)}, {"none", ""}, {"broken", strings.Replace(pemOf(t, &good.key.PublicKey), "MFkw", "MFkx", 1)}}
	keys := gitHubKeys(t, listed(t, append(others, good.public(t))...))
	if len(keys.byName) != 1 || keys.Verify("good", good.sign(t, "x"), []byte("x")) != nil {
		t.Errorf("keys of other kinds keep P-256 ones from counting: %v", keys)
	}
	if err := keys.Verify("wide", wide.sign(t, "x"), []byte("x")); !errors.Is(err, ErrGitHubKey) {
		t.Errorf("a key on P-384: %v", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(good.key)
	if err != nil {
		t.Fatal(err)
	}
	for what, list := range map[string][]byte{
		"nothing":             {},
		"no JSON":             []byte("<html>"),
		"no list":             []byte(`{"message":"rate limited"}`),
		"an empty list":       []byte(`{"public_keys":[]}`),
		"no P-256 key":        listed(t, others...),
		"a name twice":        listed(t, good.public(t), [2]string{"good", exampleKey}),
		"a name twice, other": listed(t, good.public(t), [2]string{"good", ""}),
		"no name":             listed(t, good.public(t), [2]string{"", exampleKey}),
		"a private key":       listed(t, [2]string{"good", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))}),
		"too long":            append(listed(t, good.public(t)), bytes.Repeat([]byte(" "), 64<<10)...),
	} {
		if keys, err := ParseGitHubKeys(list); err == nil || keys.byName != nil {
			t.Errorf("%s gives %v, %v", what, keys, err)
		}
	}
}

func TestAlerts(t *testing.T) {
	t.Parallel()
	many := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(`{"token":"t","type":"x"},`, n), ",") + "]"
	}
	alerts, err := parseAlerts([]byte(`[{"source":"commit","token":"first","type":"avouch","url":"https://example.com/a/b.txt#L1","new":1},{"token":"second","type":"avouch","url":""}]`))
	if err != nil || len(alerts) != 2 || alerts[0].Token.Expose() != "first" || alerts[0].Type != "avouch" || alerts[0].Source != "commit" ||
		alerts[0].URL != "https://example.com/a/b.txt#L1" || alerts[1].Token.Expose() != "second" || alerts[1].URL+alerts[1].Source != "" {
		t.Errorf("%+v, %v", alerts, err)
	}
	if said := fmt.Sprintf("%v %+v %#v", alerts, alerts, alerts); strings.Contains(said, "first") || strings.Contains(said, "second") {
		t.Errorf("printed, alerts tell %s", said)
	}
	if alerts, err := parseAlerts([]byte(many(1000))); err != nil || len(alerts) != 1000 {
		t.Errorf("1,000 are %d, %v", len(alerts), err)
	}
	for what, body := range map[string]string{
		"nothing": "", "no JSON": "token", "an object": `{"token":"planted","type":"x"}`, "null": "null", "an empty list": "[]", "a list of null": "[null]",
		"no token": `[{"type":"x"}]`, "an empty token": `[{"token":"","type":"x"}]`, "no type": `[{"token":"planted"}]`, "a long type": `[{"token":"planted","type":"` + strings.Repeat("x", 129) + `"}]`,
		"a token that is no text": `[{"token":7,"type":"x"}]`, "a text": `["planted"]`, "two lists": many(1) + many(1), "1,001": many(1001),
		"one good, one bad": `[{"token":"planted","type":"x"},{"token":"planted"}]`, "too long": many(1) + strings.Repeat(" ", 4<<20),
	} {
		if alerts, err := parseAlerts([]byte(body)); err == nil || alerts != nil || strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: %v, %v", what, alerts, err)
		}
	}
	if alerts, err := parseAlerts([]byte(`[{"token":"t","type":"x","source":"` + strings.Repeat("s", 65) + `"}]`)); err != nil || alerts[0].Source != "" {
		t.Errorf("a long source: %+v, %v", alerts, err)
	}
	for at, want := range map[string]string{
		"HTTPS://example.com": "https://example.com", "https://example.com/a b/ä#ü": "https://example.com/a%20b/%C3%A4#%C3%BC", "https://exаmple.com": "https://ex%D0%B0mple.com",
	} {
		if got := showable(at); got != want {
			t.Errorf("%s is shown as %q", at, got)
		}
	}
	// What others have a say in costs no alert.
	for _, at := range []string{
		"javascript:alert(1)", "http://example.com", "https:///x", "https://user:pass@example.com", "https://example.com/?a b", `https://example.com/?\u202e`, `https://x\u0000`,
		`https://example.com/?\ud800`, "https://exаmple.com?ä", "https://example.com/" + strings.Repeat("x", 2048), "//example.com", "some_url", "%zz",
	} {
		body := fmt.Sprintf(`[{"token":"t","type":"x","url":"%s","source":"%s"}]`, at, at+`\n`)
		if alerts, err := parseAlerts([]byte(body)); err != nil || len(alerts) != 1 || alerts[0].URL != "" || alerts[0].Source != "" {
			t.Errorf("%s: %+v, %v", at, alerts, err)
		}
	}
}

// TestFeedback: the answer is what the documentation of the protocol says, and repeats no token.
func TestFeedback(t *testing.T) {
	t.Parallel()
	alerts, err := parseAlerts([]byte(`[{"token":"abc","type":"avouch_key"}]`))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal([]Feedback{alerts[0].feedback(true), alerts[0].feedback(false)})
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // FIPS 180-4's example
	want := `[{"token_hash":"` + abc + `","token_type":"avouch_key","label":"true_positive"},{"token_hash":"` + abc + `","token_type":"avouch_key","label":"false_positive"}]`
	if err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
}

func FuzzGitHub(f *testing.F) {
	s := newSigner(f, "s", elliptic.P256())
	f.Add(listed(f, s.public(f)), "s", s.sign(f, alertBody), []byte(alertBody))
	f.Add(listed(f, [2]string{exampleName, exampleKey}), exampleName, exampleSignature, []byte(alertBody))
	f.Add([]byte(`{"public_keys":[{"key_identifier":"a","key":"-----BEGIN"}]}`), "a", "MEUC", []byte(`[{"token":"a","type":"b","url":"https://a.b/c"}]`))
	f.Fuzz(func(t *testing.T, list []byte, name, signature string, body []byte) {
		if keys, err := ParseGitHubKeys(list); err == nil {
			if keys.Verify(name, signature, body) == nil && keys.Verify(name, signature, append(body, ' ')) == nil {
				t.Fatal("a signature fits two bodies")
			}
		}
		alerts, err := parseAlerts(body)
		if err != nil && alerts != nil || err == nil && (len(alerts) == 0 || len(alerts) > 1000) {
			t.Fatalf("%d alerts, %v", len(alerts), err)
		}
		for _, a := range alerts {
			if a.Token.IsZero() || a.Type == "" || len(a.Type) > 128 || len(a.URL) > 2048 || len(a.Source) > 64 || strings.ContainsFunc(a.URL+a.Source, unseen) ||
				a.URL != "" && !strings.HasPrefix(strings.ToLower(a.URL), "https://") || len(a.feedback(true).TokenHash) != 64 {
				t.Fatalf("%+v", a)
			}
		}
	})
}
