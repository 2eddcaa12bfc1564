package pages

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"path"
	"strings"

	"github.com/avouch-dev/avouch/internal/web"
)

//go:embed files
var files embed.FS

// policy lets a page load its scripts and its style from here and ask this server, and nothing else. Browsers that know trusted
// types refuse to make markup of a text at all.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; " +
	"frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// names are the pages, each at its name.
var names = [...]string{"sign-in", "join", "recover", "account"}

// Routes serves the pages, and under /pages/ what they load.
func Routes[C any](api *web.API[C]) {
	for _, name := range names {
		page := render(name)
		api.Mount(web.Op{ID: "page-" + name, Method: http.MethodGet, Path: "/" + name}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Set("Content-Type", "text/html; charset=utf-8")
			h.Set("Content-Security-Policy", policy)
			h.Set("Cross-Origin-Opener-Policy", "same-origin")
			h.Set("Cross-Origin-Resource-Policy", "same-origin")
			h.Set("Permissions-Policy", "publickey-credentials-get=(self), publickey-credentials-create=(self), clipboard-write=(self), camera=(), microphone=(), geolocation=()")
			h.Set("Cache-Control", "no-store") // so that going back after signing out shows nothing
			w.Write(page)
		}))
	}
	api.Mount(web.Op{ID: "page-files", Method: http.MethodGet, Path: "/pages/{file}"}, http.HandlerFunc(asset))
}

// asset serves what a page loads. The templates of the pages are no assets.
func asset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	kind := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}[path.Ext(name)]
	b, err := files.ReadFile("files/" + name)
	if kind == "" || err != nil || strings.Contains(name, "/") {
		http.NotFound(w, r)
		return
	}
	sum := sha256.Sum256(b)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache") // asked for again each time, and sent again when a new version is there
	h.Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Write(b)
}

// render makes a page. It panics if a template does not fit, which every test and every start would show.
func render(name string) []byte {
	t := template.Must(template.ParseFS(files, "files/frame.html", "files/proof.html", "files/password.html", "files/"+name+".html"))
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "frame", name); err != nil {
		panic("pages.render: " + err.Error())
	}
	return b.Bytes()
}
