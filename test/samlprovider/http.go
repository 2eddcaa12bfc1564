package samlprovider

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"net/http"

	"github.com/beevik/etree"
)

const pages = `{{define "signin"}}<!doctype html><title>Sign in to the provider</title>
<form method="post" action="sso"><label>Name <input name="name" autofocus></label>
<input type="hidden" name="SAMLRequest" value="{{.Request}}"><input type="hidden" name="RelayState" value="{{.RelayState}}">
<button id="sign-in">Sign in</button> <button id="refuse" name="refuse" value="yes">Refuse</button></form>
{{end}}{{define "answer"}}<!doctype html><title>Signed in</title>
<form method="post" action="{{.ACS}}"><input type="hidden" name="SAMLResponse" value="{{.Response}}"><input type="hidden" name="RelayState" value="{{.RelayState}}">
<noscript><button>Continue</button></noscript></form><script>document.forms[0].submit()</script>
{{end}}`

// ServeHTTP answers GET /metadata, GET /sso with a page that asks for a name, and POST /sso with a page that posts the
// response to the assertion consumer service by itself, as browsers meet it. Anybody is who they say they are.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/metadata":
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		w.Header().Set("Content-Type", "application/samlmetadata+xml")
		if _, err := w.Write(p.Metadata(scheme + "://" + r.Host + "/sso")); err != nil {
			return // the reader has gone
		}
	case r.URL.Path == "/sso" && r.Method == http.MethodGet:
		if _, err := ReadRequest(r.URL.Query().Get("SAMLRequest")); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		show(w, "signin", map[string]string{"Request": r.URL.Query().Get("SAMLRequest"), "RelayState": r.URL.Query().Get("RelayState")})
	case r.URL.Path == "/sso" && r.Method == http.MethodPost:
		asked, err := ReadRequest(r.PostFormValue("SAMLRequest"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		a := p.Answer(asked.Issuer, asked.ACS, asked.ID, r.PostFormValue("name"))
		if !asked.Force {
			a.AuthnInstant = a.AuthnInstant.Add(-p.config.SignedIn)
		}
		if r.PostFormValue("refuse") != "" {
			a.Status = []string{"Responder", "AuthnFailed"}
		}
		show(w, "answer", map[string]string{
			"ACS": asked.ACS, "RelayState": r.PostFormValue("RelayState"), "Response": base64.StdEncoding.EncodeToString(p.Response(a)),
		})
	default:
		http.NotFound(w, r)
	}
}

func show(w http.ResponseWriter, name string, data map[string]string) {
	t, err := template.New("").Parse(pages)
	var b bytes.Buffer
	if err == nil {
		err = t.ExecuteTemplate(&b, name, data)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if _, err := w.Write(b.Bytes()); err != nil {
		return // the reader has gone
	}
}

// Asked is what a sign-in request says.
type Asked struct {
	ID, Issuer, ACS, Destination, Format string
	Force                                bool
}

// ReadRequest reads the SAMLRequest parameter of the HTTP-Redirect binding.
func ReadRequest(parameter string) (Asked, error) {
	packed, err := base64.StdEncoding.DecodeString(parameter)
	if err != nil {
		return Asked{}, fmt.Errorf("SAMLRequest: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), 1<<20))
	if err != nil {
		return Asked{}, fmt.Errorf("SAMLRequest: %w", err)
	}
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(text); err != nil {
		return Asked{}, fmt.Errorf("SAMLRequest: %w", err)
	}
	root := doc.Root()
	if root == nil || root.Tag != "AuthnRequest" || root.NamespaceURI() != Protocol || root.SelectElement("Issuer") == nil {
		return Asked{}, fmt.Errorf("SAMLRequest: not an AuthnRequest")
	}
	a := Asked{
		ID: root.SelectAttrValue("ID", ""), Issuer: root.SelectElement("Issuer").Text(), ACS: root.SelectAttrValue("AssertionConsumerServiceURL", ""),
		Destination: root.SelectAttrValue("Destination", ""), Force: root.SelectAttrValue("ForceAuthn", "") == "true",
	}
	if policy := root.SelectElement("NameIDPolicy"); policy != nil {
		a.Format = policy.SelectAttrValue("Format", "")
	}
	return a, nil
}
