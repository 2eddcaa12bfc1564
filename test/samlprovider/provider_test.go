package samlprovider_test

import (
	"crypto/x509"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/signin/saml"
	"github.com/avouch-dev/avouch/test/samlprovider"
)

var input = regexp.MustCompile(`name="(SAMLRequest|SAMLResponse|RelayState)" value="([^"]*)"`)

// browse does what a browser would: it follows the form that a page holds, as the person called name.
func browse(t *testing.T, client *http.Client, to string, more url.Values) url.Values {
	t.Helper()
	var res *http.Response
	var err error
	if more == nil {
		res, err = client.Get(to)
	} else {
		res, err = client.PostForm(to, more)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%d %v %s", res.StatusCode, err, body)
	}
	fields := url.Values{"page": {string(body)}}
	for _, m := range input.FindAllStringSubmatch(string(body), -1) {
		fields.Set(m[1], html.UnescapeString(m[2]))
	}
	return fields
}

// TestSignIn goes from the metadata to a verified assertion over HTTP, then with an attack switched on, a changed key, and
// a person who refuses.
func TestSignIn(t *testing.T) {
	t.Parallel()
	const entityID, acs = "https://avouch.example/sso/saml/c1", "https://avouch.example/sso/saml/c1/acs"
	p, err := samlprovider.New(samlprovider.Config{EntityID: "https://idp.example/realm", Key: "p256"})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(p)
	defer server.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, Timeout: time.Minute}
	found, err := saml.ParseMetadata([]byte(browse(t, client, server.URL+"/metadata", nil).Get("page")), "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	provider, err := found.Settings.Provider()
	if err != nil {
		t.Fatal(err)
	}
	self := saml.Self{EntityID: entityID, ACS: acs}
	signIn := func(more url.Values) (saml.Assertion, error) {
		to, id, err := saml.Request(self, provider, false, "state-1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		page := browse(t, client, to, nil)
		page.Del("page")
		page.Set("name", samlprovider.Person)
		for k := range more {
			page.Set(k, more.Get(k))
		}
		answer := browse(t, client, server.URL+"/sso", page)
		if answer.Get("RelayState") != "state-1" {
			t.Errorf("the relay state came back as %q", answer.Get("RelayState"))
		}
		raw, err := saml.Decode(answer.Get("SAMLResponse"))
		if err != nil {
			t.Fatal(err)
		}
		return saml.Verify(self, provider, id, raw, time.Now())
	}
	for _, shape := range samlprovider.Shapes() {
		if err := p.Write(shape.Name); err != nil {
			t.Fatal(err)
		}
		if a, err := signIn(nil); err != nil || a.Subject != samlprovider.Person || a.Attributes["email"][0] != samlprovider.Person {
			t.Fatalf("%s: %+v, %v", shape.Name, a, err)
		}
	}
	want := func(err error, reason saml.Reason) {
		t.Helper()
		if why, _ := saml.Why(err); why != reason {
			t.Errorf("%v, want %s", err, reason)
		}
	}
	_, err = signIn(url.Values{"refuse": {"yes"}})
	want(err, saml.Failed)
	if err := p.Break("xsw3"); err != nil {
		t.Fatal(err)
	}
	_, err = signIn(nil)
	want(err, saml.Assertions)
	if err := p.Break(""); err != nil {
		t.Fatal(err)
	}
	if err := p.Rotate(); err != nil {
		t.Fatal(err)
	}
	_, err = signIn(nil)
	want(err, saml.Signature)
	provider.Certificates = append(provider.Certificates, p.Certificate())
	if _, err = signIn(nil); err != nil {
		t.Error(err)
	}
	provider.Certificates = []*x509.Certificate{p.Certificate()}
	if p.Break("no such attack") == nil || p.Write("no such product") == nil {
		t.Error("what does not exist can be switched on")
	}
	res, err := client.Get(server.URL + "/sso?SAMLRequest=AAAA")
	if err != nil || res.StatusCode != http.StatusBadRequest {
		t.Errorf("%v %v", res, err)
	}
	res.Body.Close()
}
