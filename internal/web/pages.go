package web

import (
	"bytes"
	"embed"
	"encoding/json"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/avouch-dev/avouch/internal/problem"
)

//go:embed pages
var pageFiles embed.FS

// pagePolicy lets a page of ours load its one style sheet, and nothing else: no script, no frame, no other host.
const pagePolicy = "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

func (a *API[C]) mountPages() {
	get := func(id, path string, h http.HandlerFunc) { a.Mount(Op{ID: id, Method: http.MethodGet, Path: path}, h) }
	get("openapi", "/openapi.json", a.serveSpec)
	get("docs", "/docs", func(w http.ResponseWriter, _ *http.Request) { writePage(w, a.docs()) })
	get("docs-style", "/docs/style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		w.Header().Set("Cache-Control", "public, max-age=3600")
		b, _ := pageFiles.ReadFile("pages/style.css") // embedded: it is there, or nothing compiles
		w.Write(b)
	})
	a.mount(&route{op: Op{ID: "problem-kind", Method: http.MethodGet, Path: "/problems/{kind}", Access: Public, Hidden: true},
		series: a.metrics.of("problem-kind", http.MethodGet)},
		func(w *recorder, r *http.Request, _ C) error { return a.serveKind(w, r) })
}

func writePage(w http.ResponseWriter, page []byte) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Cache-Control", "no-cache")
	w.Write(page)
}

// kindPage is what a problem's `type` leads to.
type kindPage struct {
	Type   string   `json:"type"`
	Title  string   `json:"title"`
	Status int      `json:"status"`
	Means  string   `json:"means"`
	Remedy string   `json:"remedy"`
	Kind   string   `json:"-"`
	API    string   `json:"-"`
	Others []string `json:"-"`
}

func (a *API[C]) serveKind(w http.ResponseWriter, r *http.Request) error {
	k := problem.Kind(r.PathValue("kind"))
	if !slices.Contains(problem.Kinds(), k) {
		return problem.New(problem.Missing, "There is no such kind of problem.")
	}
	p := k.Page()
	v := kindPage{Type: a.address("/problems/" + string(k)), Title: p.Title, Status: k.Status(), Means: p.Means, Remedy: p.Remedy, Kind: string(k), API: a.cfg.Title}
	w.Header().Set("Vary", "Accept")
	if !accepts(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Content-Type", "application/json")
		return json.NewEncoder(w).Encode(v)
	}
	for _, other := range problem.Kinds() {
		v.Others = append(v.Others, string(other))
	}
	writePage(w, render("problem.html", v))
	return nil
}

// render fills a page. It panics if the template does not fit its data, which every test of the page would show.
func render(name string, data any) []byte {
	t := template.Must(template.New(name).Funcs(template.FuncMap{"prose": prose}).ParseFS(pageFiles, "pages/"+name, "pages/frame.html"))
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		panic("web.render: " + err.Error())
	}
	return b.Bytes()
}

// prose makes HTML of a text with `code` in back quotes.
func prose(text string) template.HTML {
	var b strings.Builder
	for i, part := range strings.Split(text, "`") {
		part = template.HTMLEscapeString(part)
		if i%2 == 1 {
			part = "<code>" + part + "</code>"
		}
		b.WriteString(part)
	}
	return template.HTML(b.String()) // every part was escaped above
}

func accepts(header, media string) bool {
	return slices.ContainsFunc(strings.Split(header, ","), func(part string) bool {
		kind, _, _ := strings.Cut(part, ";")
		return strings.EqualFold(strings.TrimSpace(kind), media)
	})
}
