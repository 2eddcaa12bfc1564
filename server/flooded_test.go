package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// passkey is an authenticator in software, with the browser before it.
type passkey struct {
	origin, rp string
	id, handle []byte
	key        *ecdsa.PrivateKey
}

// question is the part of a browser's options that an authenticator looks at.
type question struct {
	PublicKey struct {
		Challenge string
		User      struct{ ID string }
	}
}

func (k *passkey) clientData(kind, challenge string) []byte {
	b, _ := json.Marshal(object{"type": kind, "challenge": challenge, "origin": k.origin, "crossOrigin": false}) // only strings: it cannot fail
	return b
}

// data is the authenticator's: its holder is there and was verified.
func (k *passkey) data(flags byte, attested []byte) []byte {
	rp := sha256.Sum256([]byte(k.rp))
	return append(binary.BigEndian.AppendUint32(append(rp[:], flags|0x05), 0), attested...)
}

func (k *passkey) credential(response object) object {
	id := base64.RawURLEncoding.EncodeToString(k.id)
	return object{"id": id, "rawId": id, "type": "public-key", "response": response, "clientExtensionResults": object{"credProps": object{"rk": true}}}
}

// create answers navigator.credentials.create, attested by nobody.
func (k *passkey) create(t testing.TB, q question) object {
	t.Helper()
	b64 := base64.RawURLEncoding
	var err error
	k.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	k.id = make([]byte, 32)
	rand.Read(k.id)
	k.handle, err = b64.DecodeString(q.PublicKey.User.ID)
	must(t, err)
	public, err := k.key.PublicKey.Bytes()
	must(t, err)
	cose, err := cbor.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: public[1:33], -3: public[33:]})
	must(t, err)
	attested := append(append(make([]byte, 16), 0, byte(len(k.id))), k.id...)
	made, err := cbor.Marshal(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": k.data(0x40, append(attested, cose...))})
	must(t, err)
	return k.credential(object{"clientDataJSON": b64.EncodeToString(k.clientData("webauthn.create", q.PublicKey.Challenge)), "attestationObject": b64.EncodeToString(made)})
}

// get answers navigator.credentials.get.
func (k *passkey) get(t testing.TB, q question) object {
	t.Helper()
	b64 := base64.RawURLEncoding
	data, client := k.data(0, nil), k.clientData("webauthn.get", q.PublicKey.Challenge)
	sum := sha256.Sum256(client)
	signed := sha256.Sum256(append(data[:len(data):len(data)], sum[:]...))
	sig, err := ecdsa.SignASN1(rand.Reader, k.key, signed[:])
	must(t, err)
	return k.credential(object{
		"clientDataJSON": b64.EncodeToString(client), "authenticatorData": b64.EncodeToString(data), "signature": b64.EncodeToString(sig), "userHandle": b64.EncodeToString(k.handle),
	})
}

func asQuestion(t testing.TB, options any) (q question) {
	t.Helper()
	b, err := json.Marshal(options)
	must(t, err)
	must(t, json.Unmarshal(b, &q))
	return q
}

// passkey adds one to somebody's factors.
func (p *somebody) passkey(t testing.TB) *passkey {
	t.Helper()
	k := &passkey{origin: p.n.URL(), rp: "localhost"}
	begun := p.ask(t, "POST", "/api/v1/factors", object{"kind": "passkey", "name": "key"}).want(t, 201)
	p.ask(t, "POST", "/api/v1/factors/"+begun["factor_id"].(string)+"/confirm", object{"credential": k.create(t, asQuestion(t, begun["options"]))}).want(t, 200)
	return k
}

// byPasskey signs in with nothing but a passkey.
func (p *somebody) byPasskey(t testing.TB, k *passkey) reply {
	t.Helper()
	step := p.ask(t, "POST", "/api/v1/sign-in", object{"passkey": true}).want(t, 200)
	return p.ask(t, "POST", "/api/v1/sign-in/continue", object{"attempt": step["attempt"], "do": "prove", "assertion": k.get(t, asQuestion(t, step["question"]))})
}

// TestFloodKeepsNobodyOut: while strangers guess at somebody's password and ask for mails to recover the account, a password from a new
// device waits; one from a device of the person's own, a passkey and a mailed link get in.
func TestFloodKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *Config) { c.PublicURL, c.TrustedProxies = "http://localhost:8080", []string{"127.0.0.1"} })
	acme, ada := h.owner(t, "Acme")
	key, sent := ada.passkey(t), 0
	fromAnywhere := func(path string, body object) int {
		sent++
		a := h.call(t, ask{Method: "POST", Path: path, Body: body, Header: map[string]string{"X-Forwarded-For": fmt.Sprintf("198.51.100.%d", sent%250)}})
		return a.Status
	}
	guess := func() int {
		return fromAnywhere("/api/v1/sign-in", object{"address": ada.address, "password": "wrong, but long enough"})
	}
	anybody := func() int {
		return fromAnywhere("/api/v1/sign-in", object{"address": fmt.Sprintf("n%d@acme.example", sent), "password": "wrong, but long enough"})
	}
	mail := func() int { return fromAnywhere("/api/v1/recovery", object{"address": ada.address}) }
	flood := func() {
		for what, one := range map[string]func() int{"guesses": guess, "guesses at others": anybody, "mails": mail} {
			before := sent
			for one() != http.StatusTooManyRequests {
				if sent > before+200 {
					t.Fatalf("%s go on without a bound", what)
				}
			}
		}
	}
	flood()
	if r := h.stranger(t, ada).password(t, goodPassword); r.status != http.StatusTooManyRequests {
		t.Errorf("from a new device: %d %s", r.status, r.text)
	}
	ada.password(t, goodPassword).want(t, 200)
	byKey := h.stranger(t, ada)
	flood()
	if step := byKey.byPasskey(t, key).want(t, 200); step["state"] != "signed_in" {
		t.Errorf("by a passkey: %v", step)
	}
	byKey.ask(t, "GET", "/api/v1/session", nil).want(t, 200)

	byLink := h.stranger(t, ada)
	flood()
	step := byLink.ask(t, "POST", "/api/v1/recovery/finish", object{"link": h.linkOf(t, acme.id, byKey.personID(t)), "password": "another long password, 9"}).want(t, 200)
	step = byLink.ask(t, "POST", "/api/v1/sign-in/continue", object{
		"attempt": step["attempt"], "do": "prove", "assertion": key.get(t, byLink.asked(t, step)),
		"factor": factorOf(step, "passkey"),
	}).want(t, 200)
	if step["state"] != "signed_in" {
		t.Errorf("by a mailed link: %v", step)
	}
	byLink.ask(t, "GET", "/api/v1/session", nil).want(t, 200)
	if guess() != http.StatusTooManyRequests || mail() != http.StatusTooManyRequests {
		t.Error("the flood was over before this was")
	}
}

// factorOf is one of the factors that a step of a sign-in offers.
func factorOf(step object, kind string) any {
	for _, f := range step["factors"].([]any) {
		if f.(object)["kind"] == kind {
			return f.(object)["id"]
		}
	}
	return nil
}

// asked is what a passkey is to sign at a step of a sign-in.
func (p *somebody) asked(t testing.TB, step object) question {
	t.Helper()
	asked := p.ask(t, "POST", "/api/v1/sign-in/continue", object{"attempt": step["attempt"], "do": "ask", "factor": factorOf(step, "passkey")}).want(t, 200)
	return asQuestion(t, asked["question"])
}
