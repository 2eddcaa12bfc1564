package agent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"math/big"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/tenantdb"
)

var update = flag.Bool("update", false, "write the golden files")

const (
	goldenFile   = "testdata/tokens.json"
	testIssuer   = "https://id.example.com:8443"
	goldenAgent  = "01936f2e-8a4c-7b1d-9c3e-5f6a7b8c9d0e"
	goldenJTI    = "01936f2e-8a4c-7000-8000-000000000001"
	goldenTenant = "01936f2e-0000-7000-8000-0000000000aa"
)

func mustIssuer(t testing.TB, s string) Issuer {
	t.Helper()
	i, err := ParseIssuer(s)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sampleClaims are claims of a fixed token; change alters them.
func sampleClaims(t testing.TB, change func(*Claims)) Claims {
	t.Helper()
	agent, err := ParseID(goldenAgent)
	must(t, err)
	jti, err := ParseTokenID(goldenJTI)
	must(t, err)
	tenant, err := tenantdb.ParseTenantID(goldenTenant)
	must(t, err)
	at := time.Unix(1_795_000_000, 0).UTC()
	issuer := mustIssuer(t, testIssuer)
	c := Claims{
		Issuer: testIssuer, Subject: issuer.DID(agent), Audience: []string{testIssuer}, Agent: agent, Tenant: tenant, JTI: jti,
		Generation: 1, IssuedAt: at, NotBefore: at, Expires: at.Add(time.Hour),
	}
	if change != nil {
		change(&c)
	}
	return c
}

// vector is a token, its payload and what it says, for every implementation.
type vector struct {
	Name    string `json:"name"`
	Payload string `json:"payload"`
	Token   string `json:"token"`
	Bound   bool   `json:"bound"`
	Uses    int64  `json:"uses"`
}

type vectors struct {
	PublicKey string   `json:"public_key"`
	Vectors   []vector `json:"vectors"`
}

func goldenCases(t testing.TB) map[string]Claims {
	return map[string]Claims{
		"unbound":       sampleClaims(t, nil),
		"one resource":  sampleClaims(t, func(c *Claims) { c.Audience = []string{"your-service"} }),
		"two resources": sampleClaims(t, func(c *Claims) { c.Audience = []string{"https://a.example/?x=<1>&y", "dé-jà"} }),
		"limited uses":  sampleClaims(t, func(c *Claims) { c.Uses, c.Generation = 3, 7 }),
	}
}

func writeGolden(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	must(t, err)
	out := vectors{PublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range goldenCases(t) {
			yield(name)
		}
	}) {
		c := goldenCases(t)[name]
		payload, err := c.encode()
		must(t, err)
		header := `{"alg":"ES256","typ":"JWT","kid":"golden"}`
		out.Vectors = append(out.Vectors, vector{name, string(payload), signWith(t, key, header, string(payload)), c.Bound(), c.Uses})
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	must(t, enc.Encode(out))
	must(t, os.WriteFile(goldenFile, b.Bytes(), 0o644))
}

// signWith makes a token of any header and payload.
func signWith(t testing.TB, key *ecdsa.PrivateKey, header, payload string) string {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	input := encode([]byte(header)) + "." + encode([]byte(payload))
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	must(t, err)
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return input + "." + encode(signature[:])
}

func TestGoldenTokens(t *testing.T) {
	t.Parallel()
	if *update {
		writeGolden(t)
	}
	b, err := os.ReadFile(goldenFile)
	must(t, err)
	var golden vectors
	must(t, json.Unmarshal(b, &golden))
	block, _ := pem.Decode([]byte(golden.PublicKey))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	must(t, err)
	cases := goldenCases(t)
	if len(golden.Vectors) != len(cases) {
		t.Fatalf("%d vectors, %d cases", len(golden.Vectors), len(cases))
	}
	for _, v := range golden.Vectors {
		want := cases[v.Name]
		payload, err := want.encode()
		must(t, err)
		if string(payload) != v.Payload {
			t.Errorf("%s: encoded as\n%s\nwant\n%s", v.Name, payload, v.Payload)
		}
		got, err := Parse(v.Token)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if !reflect.DeepEqual(got.Claims, want) || got.Claims.Bound() != v.Bound || got.Claims.Uses != v.Uses {
			t.Errorf("%s: read as %+v, want %+v", v.Name, got.Claims, want)
		}
		if got.Header != (Header{"ES256", "golden", "JWT"}) {
			t.Errorf("%s: header %+v", v.Name, got.Header)
		}
		sum := sha256.Sum256([]byte(got.signingInput))
		r, s := new(big.Int).SetBytes(got.signature[:32]), new(big.Int).SetBytes(got.signature[32:])
		if !ecdsa.Verify(public.(*ecdsa.PublicKey), sum[:], r, s) {
			t.Errorf("%s: the signature is not over what was parsed", v.Name)
		}
	}
}

const goodHeader = `{"alg":"ES256","typ":"JWT","kid":"golden"}`

// parts is a token of three texts, with a signature of the right size.
func parts(header, payload string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(header)) + "." + encode([]byte(payload)) + "." + encode(make([]byte, 64))
}

// edited replaces a part of the good payload; the old text must be there.
func edited(t testing.TB, old, replacement string) string {
	t.Helper()
	c := sampleClaims(t, nil)
	b, err := c.encode()
	must(t, err)
	if !strings.Contains(string(b), old) {
		t.Fatalf("the payload has no %s", old)
	}
	return strings.Replace(string(b), old, replacement, 1)
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	good := parts(goodHeader, edited(t, `"iss"`, `"iss"`))
	if _, err := Parse(good); err != nil {
		t.Fatalf("the token that all others are made of: %v", err)
	}
	payload := func(old, replacement string) string { return parts(goodHeader, edited(t, old, replacement)) }
	header := func(h string) string { return parts(h, edited(t, `"iss"`, `"iss"`)) }
	encode := base64.RawURLEncoding.EncodeToString
	for name, raw := range map[string]string{
		"empty": "", "one part": "abc", "two parts": "abc.def", "only dots": "..", "four parts": good + ".AAAA",
		"empty signature": good[:strings.LastIndexByte(good, '.')+1],
		"padded":          good + "==", "line end": good + "\n", "line end inside": good[:5] + "\n" + good[5:], "space": " " + good,
		"standard alphabet": strings.Replace(good, "A", "+", 1),
		"stray bits":        good[:len(good)-1] + "B",
		"truncated":         good[:len(good)-2], "short signature": good[:len(good)-4],
		"one megabyte":          good + strings.Repeat("A", 1<<20),
		"longer than allowed":   parts(goodHeader, edited(t, `"iss"`, `"x":"`+strings.Repeat("x", MaxToken)+`","iss"`)),
		"header no object":      header(`["alg"]`),
		"header twice alg":      header(`{"alg":"ES256","alg":"ES256","typ":"JWT","kid":"golden"}`),
		"header twice escaped":  header(`{"alg":"ES256","\u0061lg":"none","typ":"JWT","kid":"golden"}`),
		"header crit":           header(`{"alg":"ES256","typ":"JWT","kid":"golden","crit":["exp"]}`),
		"header empty crit":     header(`{"alg":"ES256","typ":"JWT","kid":"golden","crit":[]}`),
		"header b64":            header(`{"alg":"ES256","typ":"JWT","kid":"golden","b64":false}`),
		"header without alg":    header(`{"typ":"JWT","kid":"golden"}`),
		"header without kid":    header(`{"alg":"ES256","typ":"JWT"}`),
		"header of OAuth":       header(`{"alg":"ES256","typ":"at+jwt","kid":"golden"}`),
		"header typed wrongly":  header(`{"alg":256,"typ":"JWT","kid":"golden"}`),
		"header kid null":       header(`{"alg":"ES256","typ":"JWT","kid":null}`),
		"header trailing":       header(goodHeader + "{}"),
		"header trailing comma": header(`{"alg":"ES256","typ":"JWT","kid":"golden",}`),
		"header with comment":   header(`{/**/"alg":"ES256","typ":"JWT","kid":"golden"}`),
		"header not UTF-8":      header("{\"alg\":\"ES256\",\"typ\":\"JWT\",\"kid\":\"golden\",\"x\":\"\xff\"}"),
		"payload trailing":      payload(`"gen":1}`, `"gen":1} x`),
		"payload not UTF-8":     payload(`"iss"`, "\"x\":\"\xc3\x28\",\"iss\""),
		"payload overlong":      payload(`"iss"`, "\"x\":\"\xc0\x80\",\"iss\""),
		"payload control":       payload(`"iss"`, "\"x\":\"\x01\",\"iss\""),
		"half surrogate":        payload(`"iss"`, `"x":"\ud800","iss"`),
		"low surrogate":         payload(`"iss"`, `"x":"\udc00","iss"`),
		"twice iss":             payload(`"iss"`, `"iss":"a","iss"`),
		"twice exp":             payload(`"gen":1`, `"gen":1,"exp":9999999999`),
		"twice, ignored":        payload(`"iss"`, `"x":{"a":1,"a":2},"iss"`),
		"BOM":                   parts(goodHeader, "\ufeff"+edited(t, `"iss"`, `"iss"`)),
		"exp text":              payload(`"exp":1795003600`, `"exp":"1795003600"`),
		"exp fraction":          payload(`"exp":1795003600`, `"exp":1795003600.5`),
		"exp exponent":          payload(`"exp":1795003600`, `"exp":1.795e9`),
		"exp huge":              payload(`"exp":1795003600`, `"exp":99999999999999999999`),
		"exp after the end":     payload(`"exp":1795003600`, `"exp":253402300800`),
		"exp negative":          payload(`"exp":1795003600`, `"exp":-1`),
		"exp with zero":         payload(`"exp":1795003600`, `"exp":01795003600`),
		"exp missing":           payload(`"exp":1795003600,`, ``),
		"iss missing":           payload(`"iss":"https://id.example.com:8443",`, ``),
		"iss empty":             payload(`"iss":"https://id.example.com:8443"`, `"iss":""`),
		"aud empty":             payload(`"aud":"https://id.example.com:8443"`, `"aud":[]`),
		"aud of nothing":        payload(`"aud":"https://id.example.com:8443"`, `"aud":[""]`),
		"aud number":            payload(`"aud":"https://id.example.com:8443"`, `"aud":[1]`),
		"aud too many":          payload(`"aud":"https://id.example.com:8443"`, `"aud":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"]`),
		"client_id no id":       payload(goldenAgent+`","jti"`, `x","jti"`),
		"jti upper case":        payload(`"jti":"`+goldenJTI, `"jti":"`+strings.ToUpper(goldenJTI[:8])+"-8A4C-7000-8000-000000000001"),
		"gen zero":              payload(`"gen":1`, `"gen":0`),
		"gen true":              payload(`"gen":1`, `"gen":true`),
		"uses zero":             payload(`"gen":1`, `"gen":1,"uses":0`),
		"uses null":             payload(`"gen":1`, `"gen":1,"uses":null`),
		"deep":                  payload(`"iss"`, `"x":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+`,"iss"`),
		"many members":          payload(`"iss"`, manyMembers(100)+`"iss"`),
		"null":                  parts(goodHeader, "null"),
		"empty object":          parts(goodHeader, "{}"),
		"nothing":               encode([]byte(goodHeader)) + ".." + encode(make([]byte, 64)),
		"number alone":          payload(`"iss"`, `"x":-,"iss"`),
		"number dot":            payload(`"iss"`, `"x":1.,"iss"`),
		"number plus":           payload(`"iss"`, `"x":+1,"iss"`),
		"word":                  payload(`"iss"`, `"x":nul,"iss"`),
		"single quotes":         payload(`"iss"`, `'x':1,"iss"`),
	} {
		got, err := Parse(raw)
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: error %v", name, err)
		}
		if !reflect.DeepEqual(got, Token{}) {
			t.Errorf("%s: a part of the token came through", name)
		}
	}
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`"m` + string(rune('a'+i/26)) + string(rune('a'+i%26)) + `":1,`)
	}
	return b.String()
}

func TestWhatIsIgnored(t *testing.T) {
	t.Parallel()
	c := sampleClaims(t, nil)
	for _, extra := range []string{
		`"scope":"read:email write:email"`, `"cnf":{"jkt":"x","n":[1,-2.5e+3,true,false,null,{}]}`, `"\u00e9\ud83d\ude00":"\n\/"`, `"x" : [ ]`,
	} {
		got, err := Parse(parts(`{"jwk":{"kty":"EC"},"jku":"https://evil.example","x5u":"","x5c":["x"],"alg":"ES256","typ":"JWT","kid":"golden"}`,
			edited(t, `"iss"`, extra+`,"iss"`)))
		if err != nil || !reflect.DeepEqual(got.Claims, c) {
			t.Errorf("%s: %v, %+v", extra, err, got.Claims)
		}
	}
	if got, err := Parse(parts(goodHeader, edited(t, `"iss":"https`, `"\u0069ss":"\u0068ttps`))); err != nil || !reflect.DeepEqual(got.Claims, c) {
		t.Errorf("escaped: %v, %+v", err, got.Claims)
	}
}

func TestValidAt(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_795_000_000, 0).UTC()
	for name, c := range map[string]struct {
		change func(*Claims)
		now    time.Duration
		want   error
	}{
		"at once":                 {nil, 0, nil},
		"within":                  {nil, 30 * time.Minute, nil},
		"last second":             {nil, time.Hour - time.Nanosecond, nil},
		"at expiry":               {nil, time.Hour, ErrExpired},
		"after":                   {nil, time.Hour + time.Second, ErrExpired},
		"just before, in skew":    {nil, -5 * time.Second, nil},
		"before":                  {nil, -6 * time.Second, ErrNotYet},
		"nbf later":               {func(c *Claims) { c.NotBefore = at.Add(10 * time.Minute) }, time.Minute, ErrNotYet},
		"nbf later, come":         {func(c *Claims) { c.NotBefore = at.Add(10 * time.Minute) }, 10 * time.Minute, nil},
		"iat ahead, nbf not":      {func(c *Claims) { c.IssuedAt = at.Add(10 * time.Minute) }, 0, ErrNotYet},
		"expired when it began":   {func(c *Claims) { c.Expires = at }, -time.Second, ErrExpired},
		"expired before it began": {func(c *Claims) { c.Expires = at.Add(-time.Hour) }, -2 * time.Hour, ErrExpired},
	} {
		claims := sampleClaims(t, c.change)
		if got := claims.ValidAt(at.Add(c.now), 5*time.Second); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// FuzzParse takes each text as a token, as a header and as claims: no panic, nothing half parsed, and claims that are
// accepted mean the same to an ordinary JSON reader and can be written again.
func FuzzParse(f *testing.F) {
	b, err := sampleOf(f).encode()
	must(f, err)
	f.Add(string(b))
	f.Add(goodHeader)
	f.Add(parts(goodHeader, "{}"))
	f.Add(`{"\u0069ss":"\ud83d\ude00","a":[1.5e-3,{}]}`)
	claims := string(b)
	f.Fuzz(func(t *testing.T, text string) {
		for _, raw := range []string{text, parts(text, claims)} {
			if _, err := Parse(raw); err != nil && !errors.Is(err, ErrMalformed) {
				t.Fatalf("an error of another kind: %v", err)
			}
		}
		got, err := Parse(parts(goodHeader, text))
		if err != nil {
			return
		}
		var loose struct {
			Issuer  string `json:"iss"`
			Subject string `json:"sub"`
			Expires int64  `json:"exp"`
			Agent   ID     `json:"client_id"`
		}
		must(t, json.Unmarshal([]byte(lastMatchOnly(text)), &loose))
		c := got.Claims
		if loose.Issuer != c.Issuer || loose.Subject != c.Subject || loose.Expires != c.Expires.Unix() || loose.Agent != c.Agent {
			t.Fatalf("read as %+v by us and %+v by others", c, loose)
		}
		again, err := c.encode()
		must(t, err)
		second, err := Parse(parts(goodHeader, string(again)))
		if len(again) < MaxToken/2 && (err != nil || !reflect.DeepEqual(second.Claims, c)) {
			t.Fatalf("written and read again: %v, %+v, want %+v", err, second.Claims, c)
		}
	})
}

func sampleOf(t testing.TB) *Claims {
	c := sampleClaims(t, nil)
	return &c
}

// lastMatchOnly drops members whose names encoding/json would take for ours though they differ in case.
func lastMatchOnly(payload string) string {
	var all map[string]json.RawMessage
	if json.Unmarshal([]byte(payload), &all) != nil {
		return payload
	}
	for name := range all {
		if name != strings.ToLower(name) || strings.ContainsAny(name, "\u017f\u212a") {
			delete(all, name)
		}
	}
	b, err := json.Marshal(all)
	if err != nil {
		return payload
	}
	return string(b)
}
