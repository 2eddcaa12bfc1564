package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/keyring"
)

// forger has what everybody has: a token of a real agent, the published keys, and a key of its own.
type forger struct {
	t      testing.TB
	n      *node
	header map[string]any
	claims map[string]any
	token  string
	jwk    map[string]any   // the published key that signed the token
	public *ecdsa.PublicKey // the same
	own    *ecdsa.PrivateKey
}

func newForger(t testing.TB, n *node, token string) *forger {
	t.Helper()
	f := &forger{t: t, n: n, token: token}
	parts := strings.Split(token, ".")
	for i, into := range []any{&f.header, &f.claims} {
		must(t, json.Unmarshal(f.decode(parts[i]), into))
	}
	for _, k := range n.call(t, "GET", "/.well-known/jwks.json", "", nil).want(t, http.StatusOK).Body["keys"].([]any) {
		if k := k.(map[string]any); k["kid"] == f.header["kid"] {
			f.jwk = k
		}
	}
	var err error
	point := append(append([]byte{4}, f.decode(f.jwk["x"].(string))...), f.decode(f.jwk["y"].(string))...)
	f.public, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	must(t, err)
	f.own, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return f
}

func (f *forger) decode(s string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(s)
	must(f.t, err)
	return b
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (f *forger) json(m map[string]any) string {
	b, err := json.Marshal(m)
	must(f.t, err)
	return encode(b)
}

// with is a copy that says some things otherwise; nil takes a thing away.
func with(m map[string]any, changes map[string]any) map[string]any {
	m = maps.Clone(m)
	for name, v := range changes {
		if m[name] = v; v == nil {
			delete(m, name)
		}
	}
	return m
}

// unsigned is the first two parts.
func (f *forger) unsigned(header, claims map[string]any) string {
	return f.json(with(f.header, header)) + "." + f.json(with(f.claims, claims))
}

// signed is a token that the forger's own key signed.
func (f *forger) signed(header, claims map[string]any) string {
	return f.sign(f.unsigned(header, claims))
}

func (f *forger) sign(input string) string {
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, f.own, sum[:])
	must(f.t, err)
	return input + "." + encode(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// hmac is a token whose secret is something that everybody knows.
func (f *forger) hmac(alg string, key []byte) string {
	input := f.unsigned(map[string]any{"alg": alg}, nil)
	h := hmac.New(sha256.New, key)
	h.Write([]byte(input))
	return input + "." + encode(h.Sum(nil))
}

// algorithms are forgeries that tell the verifier how to verify.
func (f *forger) algorithms() map[string]string {
	jwk, err := json.Marshal(f.jwk)
	must(f.t, err)
	der, err := x509.MarshalPKIXPublicKey(f.public)
	must(f.t, err)
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	point, err := f.public.Bytes()
	must(f.t, err)
	all := map[string]string{
		"HS256 with the PEM": f.hmac("HS256", block), "HS256 with the PEM without its last line end": f.hmac("HS256", block[:len(block)-1]), "HS256 with the JWK": f.hmac("HS256", jwk),
		"HS256 with the DER": f.hmac("HS256", der), "HS256 with the point": f.hmac("HS256", point), "HS256 with x": f.hmac("HS256", []byte(f.jwk["x"].(string))), "HS256 with nothing": f.hmac("HS256", nil),
		"HS256 with the kid": f.hmac("HS256", []byte(f.header["kid"].(string))), "hs256": f.hmac("hs256", block),
	}
	for _, alg := range []any{"none", "None", "NONE", "nOnE", "", nil, 0, true, []string{"ES256"}} {
		all[fmt.Sprintf("alg %#v, unsigned", alg)] = f.unsigned(map[string]any{"alg": alg}, nil) + "."
		all[fmt.Sprintf("alg %#v, with the signature", alg)] = f.unsigned(map[string]any{"alg": alg}, nil) + "." + strings.Split(f.token, ".")[2]
		all[fmt.Sprintf("alg %#v, signed by the forger", alg)] = f.signed(map[string]any{"alg": alg}, nil)
	}
	for _, alg := range []string{"ES384", "ES512", "ES256K", "RS256", "PS256", "EdDSA", "es256", "ES256 ", "HS512"} {
		all[alg] = f.signed(map[string]any{"alg": alg}, nil)
	}
	return all
}

// keys are forgeries that bring their key, or say where it is. elsewhere is an address that must never be asked.
func (f *forger) keys(elsewhere string) map[string]string {
	point, err := f.own.PublicKey.Bytes()
	must(f.t, err)
	jwk := map[string]any{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "x": encode(point[1:33]), "y": encode(point[33:]), "kid": f.header["kid"]}
	der, err := x509.MarshalPKIXPublicKey(&f.own.PublicKey)
	must(f.t, err)
	all := map[string]string{"the forger's own": f.signed(nil, nil)}
	for name, v := range map[string]any{
		"jwk": jwk, "jku": elsewhere + "/jwks.json", "x5u": elsewhere + "/chain.pem", "x5c": []string{base64.StdEncoding.EncodeToString(der)}, "crit": []string{"jwk"}, "b64": false, "zip": "DEF",
	} {
		all[name] = f.signed(map[string]any{name: v}, nil)
		all[name+" without a kid"] = f.signed(map[string]any{name: v, "kid": nil}, nil)
		all[name+" and everything"] = f.signed(map[string]any{name: v, "jwk": jwk, "jku": elsewhere, "x5u": elsewhere, "kid": elsewhere}, nil)
	}
	for _, kid := range []any{
		"", "unknown", "../../../../etc/passwd", "/dev/null", "..%2f..%2fplatform.key", "' OR '1'='1", "'; DROP TABLE avouch.signing_key; --", "\u0000", "$(id)", strings.Repeat("A", 43), strings.Repeat("k", 6000),
		elsewhere + "/jwks.json", nil, 0, []string{f.header["kid"].(string)}, map[string]any{}, strings.ToUpper(f.header["kid"].(string)), f.header["kid"].(string) + " ",
	} {
		all[fmt.Sprintf("kid %.40v", kid)] = f.signed(map[string]any{"kid": kid}, nil)
	}
	return all
}

// signatures are forgeries of the third part.
func (f *forger) signatures() map[string]string {
	i := strings.LastIndexByte(f.token, '.')
	input, good := f.token[:i], f.decode(f.token[i+1:])
	order := elliptic.P256().Params().N.FillBytes(make([]byte, 32))
	zero, one := make([]byte, 32), append(make([]byte, 31), 1)
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(good[:32]), new(big.Int).SetBytes(good[32:])})
	must(f.t, err)
	all := map[string]string{}
	for what, s := range map[string][]byte{
		"r = s = 0": append(zero, zero...), "r = 0": append(zero, good[32:]...), "s = 0": append(good[:32:32], zero...), "r = s = 1": append(one, one...),
		"r = n": append(order, good[32:]...), "s = n": append(good[:32:32], order...), "DER": der, "empty": nil, "half": good[:32], "one byte less": good[:63], "one byte more": append(good[:64:64], 0),
		"swapped": append(good[32:64:64], good[:32]...), "twice": append(good[:64:64], good...), "another bit": append([]byte{good[0] ^ 1}, good[1:]...),
	} {
		all[what] = input + "." + encode(s)
	}
	all["base64 with padding"] = input + "." + base64.URLEncoding.EncodeToString(good)
	all["standard base64"] = input + "." + base64.RawStdEncoding.EncodeToString(append([]byte{0xfb, 0xff}, good[2:]...))
	all["truncated"] = f.token[:len(f.token)-20]
	all["of another token"] = f.unsigned(nil, map[string]any{"jti": "01936f2e-8a4c-7000-8000-000000000001"}) + f.token[i:]
	return all
}

// shapes are forgeries of the form.
func (f *forger) shapes() map[string]string {
	parts := strings.Split(f.token, ".")
	claims := string(f.decode(parts[1]))
	deep := strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000)
	wide := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	raw := func(header, claims string) string {
		return f.sign(encode([]byte(header)) + "." + encode([]byte(claims)))
	}
	header := string(f.decode(parts[0]))
	return map[string]string{
		"a megabyte": strings.Repeat("A", 1<<20), "a megabyte of dots": strings.Repeat(".", 1<<20), "a megabyte of claims": f.signed(nil, map[string]any{"x": strings.Repeat("x", 1<<20)}),
		"a claim twice": raw(header, strings.Replace(claims, `"gen":1`, `"gen":1,"gen":2`, 1)), "a header twice": raw(strings.Replace(header, `{`, `{"alg":"none",`, 1), claims),
		"objects 10,000 deep": raw(header, deep), "arrays 10,000 deep": raw(header, wide), "a claim 10,000 deep": raw(header, `{"x":`+wide+`,`+claims[1:]), "a header 10,000 deep": raw(deep, claims),
		"no JSON": raw(header, "x"), "an array": raw(header, "[]"), "null": raw("null", "null"), "text behind": raw(header, claims+"x"), "a mark before": raw(header, "\ufeff"+claims),
		"numbers as text": f.signed(nil, map[string]any{"exp": "9999999999"}), "a huge number": raw(header, strings.Replace(claims, `"gen":1`, `"gen":1e400`, 1)), "a negative one": f.signed(nil, map[string]any{"exp": -1}),
		"five parts": f.token + ".a.b", "two parts": parts[0] + "." + parts[1], "JSON serialization": `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"no claims": f.signed(nil, map[string]any{"sub": nil, "client_id": nil, "tid": nil}), "another agent": f.signed(nil, map[string]any{"sub": "did:web:example.com", "client_id": "01936f2e-8a4c-7000-8000-000000000001"}),
	}
}

// TestForgery presents every forgery to /verify: 200, denied, nothing told, logged once; and nobody is asked for a key.
func TestForgery(t *testing.T) {
	t.Parallel()
	n := install(t).start(t)
	owner, service := n.organisation(t, "Owner"), n.organisation(t, "Service")
	key, _ := n.serviceKey(t, service, nil)
	agent := n.agent(t, owner, "read:email")
	var asked atomic.Int64
	elsewhere := "http://" + serveBeside(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	f := newForger(t, n, agent.token)
	if a := n.ask(t, key, f.sign(strings.Join(strings.Split(f.token, ".")[:2], "."))); a.text("decision") != "DENIED" {
		t.Fatalf("the forger's key signs for us: %s", a.Raw)
	}
	want := 1
	for _, group := range []map[string]string{f.algorithms(), f.keys(elsewhere), f.signatures(), f.shapes()} {
		for what, token := range group {
			a := n.ask(t, key, token)
			if a.Status != http.StatusOK || a.Body["allowed"] != false || a.text("decision") != "DENIED" || a.Body["agent"] != nil || a.text("reason") != "The token is not one that this issuer has signed" {
				t.Errorf("%s: %d %.300s", what, a.Status, a.Raw)
			}
			want++
			if seq := a.Body["audit"].(map[string]any)["seq"].(float64); int(seq) != want+1 {
				t.Errorf("%s is entry %v, and not %d", what, seq, want+1)
			}
		}
	}
	if n.ask(t, key, agent.token).Body["allowed"] != true {
		t.Error("the real token is not allowed after that")
	}
	if asked.Load() != 0 {
		t.Errorf("the address in a token was asked %d times", asked.Load())
	}
	denied := 0
	for _, e := range n.entries(t, service) {
		if e["type"] == "agent.verified" && e["decision"] == "DENIED" {
			denied++
		}
	}
	if denied != want {
		t.Errorf("%d forgeries are in the log, of %d", denied, want)
	}
	for _, e := range n.entries(t, owner) {
		if e["type"] == "agent.verified" && e["decision"] != "ALLOWED" {
			t.Errorf("a forgery is in the log of an owner whom it names: %v", e)
		}
	}
}

// TestSignedAndStillNoGood: tokens with our own signature, made with the server's own key, that say what no token of ours
// says.
func TestSignedAndStillNoGood(t *testing.T) {
	t.Parallel()
	n := install(t).start(t)
	owner, service := n.organisation(t, "Owner"), n.organisation(t, "Service")
	key, _ := n.serviceKey(t, service, nil)
	agent := n.agent(t, owner, "read:email")
	f := newForger(t, n, agent.token)
	now := time.Now()
	sign := func(typ string, changes map[string]any) string {
		b, err := json.Marshal(with(f.claims, changes))
		must(t, err)
		token, err := n.Signing.Sign(t.Context(), typ, b)
		must(t, err)
		return token
	}
	plain, err := json.Marshal(f.claims)
	must(t, err)
	also := func(member string) string {
		token, err := n.Signing.Sign(t.Context(), keyring.TypeJWT, []byte("{"+member+","+string(plain[1:])))
		must(t, err)
		return token
	}
	statement, err := n.Signing.State(t.Context(), keyring.StatementVerified, nil, now.Add(time.Minute))
	must(t, err)
	const forged = "The token is not one that this issuer has signed"
	for what, c := range map[string]struct{ token, decision, reason string }{
		"unchanged":               {sign(keyring.TypeJWT, nil), "ALLOWED", "The agent has the scopes: read:email"},
		"not valid yet":           {sign(keyring.TypeJWT, map[string]any{"nbf": now.Add(time.Hour).Unix()}), "DENIED", "The token is not valid yet"},
		"of tomorrow":             {sign(keyring.TypeJWT, map[string]any{"iat": now.Add(time.Hour).Unix()}), "DENIED", "The token is not valid yet"},
		"of another audience":     {sign(keyring.TypeJWT, map[string]any{"aud": "https://other.example"}), "DENIED", "The token is bound to other resources"},
		"of another issuer":       {sign(keyring.TypeJWT, map[string]any{"iss": "https://other.example"}), "DENIED", forged},
		"of another's DID":        {sign(keyring.TypeJWT, map[string]any{"sub": "did:web:other.example:agents:1"}), "DENIED", forged},
		"of the next generation":  {sign(keyring.TypeJWT, map[string]any{"gen": 2}), "REVOKED", "All tokens that the agent had have been revoked"},
		"of no generation":        {sign(keyring.TypeJWT, map[string]any{"gen": 0}), "DENIED", forged},
		"of another organisation": {sign(keyring.TypeJWT, map[string]any{"tid": service.id.String()}), "DENIED", "The token names no agent of this issuer"},
		"of nobody":               {sign(keyring.TypeJWT, map[string]any{"tid": id.New[any]().String()}), "DENIED", "The token names no agent of this issuer"},
		"of another type":         {sign(keyring.TypeAccessToken, nil), "DENIED", forged},
		"a statement":             {statement.Text + "." + statement.Signature, "DENIED", forged},
		"a statement in parts":    {encode([]byte(statement.Text)) + ".." + statement.Signature, "DENIED", forged},
		"without a jti":           {sign(keyring.TypeJWT, map[string]any{"jti": nil}), "DENIED", forged},
		"more, and ignored":       {also(`"x":1`), "ALLOWED", "The agent has the scopes: read:email"},
		"a claim twice":           {also(`"gen":1`), "DENIED", forged}, // there is one claim too many, too
		"limited uses, twice":     {also(`"uses":1,"uses":9`), "DENIED", forged},
		"a claim twice, escaped":  {also(`"\u0067en":1`), "DENIED", forged},
		"twice, and ignored":      {also(`"x":1,"x":1`), "DENIED", forged},
	} {
		a := n.ask(t, key, c.token, "read:email")
		if a.Status != http.StatusOK || a.text("decision") != c.decision || a.text("reason") != c.reason || a.Body["allowed"] != (c.decision == "ALLOWED") {
			t.Errorf("%s: %d %s", what, a.Status, a.Raw)
		}
	}
}
