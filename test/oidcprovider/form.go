package oidcprovider

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"testing"
)

var (
	formAction = regexp.MustCompile(`<form method=post action="([^"]*)">`)
	formInput  = regexp.MustCompile(`<input type=hidden name="([^"]*)" value="([^"]*)">`)
)

func readForm(t testing.TB, body io.Reader) (action string, form url.Values) {
	t.Helper()
	page, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	m := formAction.FindSubmatch(page)
	if m == nil {
		t.Fatal("the page is no form")
	}
	form = url.Values{}
	for _, in := range formInput.FindAllSubmatch(page, -1) {
		form.Set(string(in[1]), html.UnescapeString(string(in[2])))
	}
	return html.UnescapeString(string(m[1])), form
}

// askPage asks who it is, and comes back with the same question and the answer.
func askPage(w http.ResponseWriter, q url.Values) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, `<!doctype html><title>Sign in to the provider</title><form action="/authorize"><label>Name <input name="name" autofocus></label>`)
	for name := range q {
		fmt.Fprintf(w, `<input type="hidden" name="%s" value="%s">`, html.EscapeString(name), html.EscapeString(q.Get(name)))
	}
	fmt.Fprint(w, `<button id="sign-in">Sign in</button> <button id="refuse" name="refuse" value="yes">Refuse</button></form>`)
}
