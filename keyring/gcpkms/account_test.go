package gcpkms

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// through counts what goes by a client.
type through struct {
	n    atomic.Int64
	next http.RoundTripper
}

func (c *through) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.next.RoundTrip(r)
}

// TestServiceAccount: credentials that somebody else gives are those of a service account, and all that is fetched with them goes by the
// client that was given, the tokens too.
func TestServiceAccount(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b, _ := io.ReadAll(r.Body); !strings.Contains(string(b), "assertion=ey") {
			t.Errorf("%s", b)
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token":"ya29.right","token_type":"Bearer","expires_in":3600}`)
	}))
	t.Cleanup(tokens.Close)
	account := map[string]string{
		"type": "service_account", "client_email": "avouch@p-1.iam.gserviceaccount.com", "private_key_id": "1", "token_uri": tokens.URL,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})),
	}
	text := func() secret.String {
		b, err := json.Marshal(account)
		if err != nil {
			t.Fatal(err)
		}
		return secret.Text(string(b))
	}
	counted := &through{next: http.DefaultTransport}
	client := &http.Client{Transport: counted}
	source, err := ServiceAccount(text(), client)
	if err != nil {
		t.Fatal(err)
	}
	w, err := New(t.Context(), Config{Key: name, Endpoint: newService(t).URL, Tokens: source, HTTP: client})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.TestKMS(t.Context(), tenantdb.NewTenantID(), w); err != nil {
		t.Fatal(err)
	}
	if n := counted.n.Load(); n != 6 { // a token, two looks at the key, a wrap, and an unwrap with each binding
		t.Errorf("%d requests went by the client", n)
	}
	account["type"] = "external_account"
	account["credential_source"] = "/etc/passwd"
	if _, err := ServiceAccount(text(), client); err == nil {
		t.Error("credentials of another kind were taken")
	}
	if _, err := ServiceAccount(secret.Text("planted"), client); err == nil || strings.Contains(err.Error(), "planted") {
		t.Errorf("%v", err)
	}
}
