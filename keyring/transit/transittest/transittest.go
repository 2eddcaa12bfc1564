// Package transittest is a transit engine, as the documentation of OpenBao says that it answers. Only tests import it.
package transittest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
)

// Engine answers as the documentation of OpenBao's transit engine says.
type Engine struct {
	*httptest.Server

	mu       sync.Mutex
	Mount    string                 // transit
	Kind     string                 // of its key, whose name is avouch
	Keys     [][]byte               // by version, from 1
	Least    int                    // decrypts from this on
	Tokens   map[string]bool        // that it takes; Root is one
	Logins   int                    // how many there were
	Life     int                    // of a token that a login gives, in seconds
	Status   int                    // of every answer, if it is not 0
	Hang     chan struct{}          // what is asked is answered when it is closed, if it is not nil
	Requests []string               // that there were
	Signing  map[string]*SigningKey // by their names
	// Instead answers in its place, if it says so.
	Instead func(http.ResponseWriter, *http.Request) (is bool)
}

// Root is a token that an engine takes from the start. A login wants the secret "right".
const Root = "s.root"

// New starts an engine with one version of a key. Close it in the end.
func New() *Engine {
	e := &Engine{Mount: "transit", Kind: "aes256-gcm96", Least: 1, Tokens: map[string]bool{Root: true}, Life: 3600}
	e.Rotate()
	e.Server = httptest.NewServer(e)
	return e
}

// Set changes the engine while it may be asked.
func (e *Engine) Set(change func(*Engine)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(e)
}

// Asked is how many requests there were.
func (e *Engine) Asked() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.Requests)
}

// Rotate makes a newer version of the key.
func (e *Engine) Rotate() {
	key := make([]byte, 32)
	rand.Read(key)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Keys = append(e.Keys, key)
}

func (e *Engine) aead(version int) cipher.AEAD {
	block, err := aes.NewCipher(e.Keys[version-1])
	if err != nil {
		panic(err) // the keys are of 32 bytes
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return a
}

// ServeHTTP answers.
func (e *Engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	e.mu.Lock()
	if hang := e.Hang; hang != nil {
		e.mu.Unlock()
		<-hang
		e.mu.Lock()
	}
	if instead := e.Instead; instead != nil {
		e.mu.Unlock()
		if instead(w, r) {
			return
		}
		e.mu.Lock()
	}
	defer e.mu.Unlock()
	e.Requests = append(e.Requests, r.Method+" "+r.URL.String()+" "+string(body))
	fail := func(status int, why string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": []string{why}})
	}
	if e.Status != 0 {
		fail(e.Status, "as the test has it")
		return
	}
	in, err := read(body)
	if err != nil {
		fail(http.StatusBadRequest, "no JSON")
		return
	}
	if strings.HasPrefix(r.URL.Path, "/v1/auth/") {
		if in["secret_id"] != "right" && in["jwt"] != "right" {
			fail(http.StatusBadRequest, "invalid role or secret ID")
			return
		}
		e.Logins++
		token := fmt.Sprintf("s.login%d", e.Logins)
		e.Tokens[token] = true
		_ = json.NewEncoder(w).Encode(map[string]any{"data": nil, "auth": map[string]any{"client_token": token, "lease_duration": e.Life, "renewable": true}})
		return
	}
	if !e.Tokens[r.Header.Get("X-Vault-Token")] {
		fail(http.StatusForbidden, "permission denied")
		return
	}
	e.operate(w, r, in, fail)
}

func (e *Engine) operate(w http.ResponseWriter, r *http.Request, in map[string]string, fail func(int, string)) {
	answer := func(data map[string]any) { _ = json.NewEncoder(w).Encode(map[string]any{"data": data, "auth": nil}) }
	if e.signing(w, r, in, answer, fail) {
		return
	}
	associated, _ := base64.StdEncoding.DecodeString(in["associated_data"])
	switch r.Method + " " + strings.Replace(r.URL.Path, "/"+e.Mount+"/", "/transit/", 1) {
	case "GET /v1/transit/keys/avouch":
		versions := map[string]any{}
		for i := range e.Keys {
			versions[fmt.Sprint(i+1)] = 1700000000
		}
		answer(map[string]any{"type": e.Kind, "latest_version": len(e.Keys), "min_decryption_version": e.Least, "keys": versions})
	case "POST /v1/transit/encrypt/avouch":
		plain, err := base64.StdEncoding.DecodeString(in["plaintext"])
		if err != nil {
			fail(http.StatusBadRequest, "plaintext is no base64")
			return
		}
		answer(map[string]any{"ciphertext": fmt.Sprintf("vault:v%d:%s", len(e.Keys), base64.StdEncoding.EncodeToString(e.aead(len(e.Keys)).Seal(nil, nil, plain, associated)))})
	case "POST /v1/transit/decrypt/avouch":
		var version int
		var text string
		if n, _ := fmt.Sscanf(in["ciphertext"], "vault:v%d:%s", &version, &text); n != 2 || version < 1 || version > len(e.Keys) {
			fail(http.StatusBadRequest, "invalid ciphertext")
			return
		}
		if version < e.Least {
			fail(http.StatusBadRequest, "ciphertext or signature version is disallowed by policy (too old)")
			return
		}
		sealed, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			fail(http.StatusBadRequest, "invalid ciphertext: could not decode base64")
			return
		}
		plain, err := e.aead(version).Open(nil, nil, sealed, associated)
		if err != nil {
			fail(http.StatusBadRequest, "cipher: message authentication failed")
			return
		}
		answer(map[string]any{"plaintext": base64.StdEncoding.EncodeToString(plain)})
	default:
		fail(http.StatusNotFound, "no handler for route")
	}
}
