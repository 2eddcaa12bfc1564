package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/danielgtaylor/huma/v2"
)

// docsPage is what /docs shows: the OpenAPI document, told to people.
type docsPage struct {
	Title, Version, Base string
	Intro                []string
	Chapters             []chapter
	Kinds                []docKind
}

type docKind struct {
	Kind, Title string
	Status      int
}

type chapter struct {
	Name, Anchor, Description string
	Operations                []docOperation
}

type docOperation struct {
	ID, Method, Path, Summary string
	Paragraphs                []string
	Open, Deprecated          bool
	Scope                     string
	Parameters, Body          []row
	Answers                   []docAnswer
	Example                   string
}

type docAnswer struct {
	Status, Text, Media, Example string
	Rows                         []row
}

// row is a parameter or a field. Depth indents the fields of a field.
type row struct {
	Name, In, Type, Doc, Rules string
	Depth                      int
	Required                   bool
}

// describer reads one OpenAPI document.
type describer struct {
	spec *huma.OpenAPI
	base string
}

func (a *API[C]) renderDocs() []byte {
	a.spec() // takes out of the document what is not ours
	d := describer{a.openapi, strings.TrimSuffix(a.cfg.PublicURL.String(), "/")}
	page := docsPage{Title: a.cfg.Title, Version: a.cfg.Version, Base: d.base, Intro: paragraphs(a.cfg.Description), Chapters: d.chapters()}
	for _, k := range problem.Kinds() {
		page.Kinds = append(page.Kinds, docKind{string(k), k.Title(), k.Status()})
	}
	return render("docs.html", page)
}

func paragraphs(text string) []string {
	var out []string
	for p := range strings.SplitSeq(text, "\n\n") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

// chapters groups the operations by their first tag, in the order that the configuration gives, the others after them.
func (d describer) chapters() []chapter {
	var out []chapter
	for _, t := range d.spec.Tags {
		out = append(out, chapter{Name: t.Name, Description: t.Description})
	}
	for _, path := range slices.Sorted(maps.Keys(d.spec.Paths)) {
		for _, op := range operationsOf(d.spec.Paths[path]) {
			name := "Other"
			if len(op.Tags) > 0 {
				name = op.Tags[0]
			}
			i := slices.IndexFunc(out, func(c chapter) bool { return c.Name == name })
			if i < 0 {
				i, out = len(out), append(out, chapter{Name: name})
			}
			out[i].Operations = append(out[i].Operations, d.operation(op))
		}
	}
	for i := range out {
		out[i].Anchor = "chapter-" + strings.ToLower(strings.ReplaceAll(out[i].Name, " ", "-"))
	}
	return slices.DeleteFunc(out, func(c chapter) bool { return len(c.Operations) == 0 })
}

func operationsOf(item *huma.PathItem) []*huma.Operation {
	all := []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete, item.Head, item.Options}
	return slices.DeleteFunc(all, func(op *huma.Operation) bool { return op == nil })
}

func (d describer) operation(op *huma.Operation) docOperation {
	out := docOperation{
		ID: op.OperationID, Method: op.Method, Path: op.Path, Summary: op.Summary,
		Paragraphs: paragraphs(op.Description), Open: len(op.Security) == 0, Deprecated: op.Deprecated,
	}
	for _, s := range op.Security {
		for _, scopes := range s {
			out.Scope = strings.Join(scopes, ", ")
		}
	}
	for _, p := range op.Parameters {
		r := d.row(p.Name, p.Schema, p.Required, 0)
		r.In, r.Doc = p.In, or(p.Description, r.Doc)
		out.Parameters = append(out.Parameters, r)
	}
	var sent *huma.MediaType
	if op.RequestBody != nil {
		for _, name := range slices.Sorted(maps.Keys(op.RequestBody.Content)) {
			sent = op.RequestBody.Content[name]
			out.Body = d.rows(sent.Schema, 0, nil)
		}
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		if status != "default" {
			out.Answers = append(out.Answers, d.answer(status, op.Responses[status]))
		}
	}
	out.Example = d.curl(op, sent)
	return out
}

func (d describer) answer(status string, r *huma.Response) docAnswer {
	code, _ := strconv.Atoi(status)
	out := docAnswer{Status: status, Text: http.StatusText(code)}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		h := d.row(name, r.Headers[name].Schema, false, 0)
		h.In = "header"
		out.Rows = append(out.Rows, h)
	}
	for _, media := range slices.Sorted(maps.Keys(r.Content)) {
		out.Media = media
		if s := r.Content[media].Schema; s != nil {
			out.Rows = append(out.Rows, d.rows(s, 0, nil)...)
			out.Example = pretty(d.sample(s, 0))
		}
	}
	return out
}

// resolve follows a reference, and takes what may be null for what it is otherwise.
func (d describer) resolve(s *huma.Schema) *huma.Schema {
	switch {
	case s == nil:
		return nil
	case s.Ref != "":
		return d.spec.Components.Schemas.SchemaFromRef(s.Ref)
	case isNullable(s):
		return d.resolve(s.AnyOf[0])
	}
	return s
}

// isNullable reports whether s is what Nullable describes.
func isNullable(s *huma.Schema) bool { return len(s.AnyOf) == 2 && s.AnyOf[1].Type == "null" }

// maxRows is how deep fields of fields are shown.
const maxRows = 4

// rows lists the fields of an object, or of the objects in an array, each followed by its own fields. within holds the
// schemas around it, so that one that contains itself ends.
func (d describer) rows(s *huma.Schema, depth int, within []*huma.Schema) []row {
	s = d.resolve(s)
	for s != nil && s.Type == huma.TypeArray {
		s = d.resolve(s.Items)
	}
	if s == nil || depth > maxRows || slices.Contains(within, s) {
		return nil
	}
	within = append(slices.Clone(within), s)
	names := slices.SortedFunc(maps.Keys(s.Properties), func(a, b string) int {
		if x, y := slices.Contains(s.Required, a), slices.Contains(s.Required, b); x != y {
			return map[bool]int{true: -1, false: 1}[x]
		}
		return cmp.Compare(a, b)
	})
	var out []row
	for _, name := range names {
		p := s.Properties[name]
		out = append(out, d.row(name, p, slices.Contains(s.Required, name), depth))
		out = append(out, d.rows(p, depth+1, within)...)
	}
	return out
}

func (d describer) row(name string, s *huma.Schema, required bool, depth int) row {
	r := row{Name: name, Type: d.typeOf(s), Required: required, Depth: depth}
	if s != nil {
		r.Doc, r.Rules = s.Description, strings.Join(rules(d.resolve(s)), " · ")
	}
	return r
}

func (d describer) typeOf(s *huma.Schema) string {
	// huma says of every array that it may be null; ours are empty then.
	if s != nil && (s.Nullable && s.Type != huma.TypeArray || isNullable(s)) {
		return d.bareType(s) + " or null"
	}
	return d.bareType(s)
}

func (d describer) bareType(s *huma.Schema) string {
	s = d.resolve(s)
	switch {
	case s == nil || s.Type == "":
		return "any"
	case s.Type == huma.TypeArray:
		return d.bareType(s.Items) + "[]"
	case s.Format != "":
		return s.Type + " (" + s.Format + ")"
	}
	return s.Type
}

// rules are the limits of a value, in words.
func rules(s *huma.Schema) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if len(s.Enum) > 0 {
		words := make([]string, len(s.Enum))
		for i, e := range s.Enum {
			words[i] = fmt.Sprint(e)
		}
		add("one of %s", strings.Join(words, ", "))
	}
	if s.Minimum != nil {
		add("at least %s", digits(*s.Minimum))
	}
	if s.Maximum != nil {
		add("at most %s", digits(*s.Maximum))
	}
	if s.MinLength != nil {
		add("length %d or more", *s.MinLength)
	}
	if s.MaxLength != nil {
		add("length %d at most", *s.MaxLength)
	}
	if s.MinItems != nil {
		add("%d items or more", *s.MinItems)
	}
	if s.MaxItems != nil {
		add("%d items at most", *s.MaxItems)
	}
	if s.Pattern != "" {
		add("matches %s", s.Pattern)
	}
	if s.Default != nil {
		add("default %v", s.Default)
	}
	return out
}

// curl is a command that works when a key is in $AVOUCH_API_KEY and the words in braces are replaced.
func (d describer) curl(op *huma.Operation, body *huma.MediaType) string {
	lines := []string{"curl " + d.base + op.Path}
	if op.Method != http.MethodGet {
		lines[0] = "curl -X " + op.Method + " " + d.base + op.Path
	}
	if len(op.Security) > 0 {
		lines = append(lines, `-H "Authorization: Bearer $AVOUCH_API_KEY"`)
	}
	if body != nil && body.Schema != nil {
		lines = append(lines, `-H "Content-Type: application/json"`, "-d '"+strings.ReplaceAll(pretty(d.sample(body.Schema, 0)), "'", `'\''`)+"'")
	}
	return strings.Join(lines, " \\\n  ")
}

func pretty(v any) string {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return ""
	}
	return string(b)
}

// sample is a value that fits the schema, for people to read.
func (d describer) sample(s *huma.Schema, depth int) any {
	s = d.resolve(s)
	if s == nil || depth > maxRows {
		return nil
	}
	switch {
	case len(s.Examples) > 0:
		return s.Examples[0]
	case s.Default != nil:
		return s.Default
	case len(s.Enum) > 0:
		return s.Enum[0]
	}
	switch s.Type {
	case huma.TypeObject:
		out := map[string]any{}
		for name, p := range s.Properties {
			out[name] = d.sample(p, depth+1)
		}
		return out
	case huma.TypeArray:
		return []any{d.sample(s.Items, depth+1)}
	case huma.TypeInteger, huma.TypeNumber:
		if s.Minimum != nil {
			return *s.Minimum
		}
		return 1
	case huma.TypeBoolean:
		return true
	case huma.TypeString:
		return sampleText(s.Format)
	}
	return nil
}

func sampleText(format string) string {
	switch format {
	case "date-time":
		return "2026-11-22T09:30:00Z"
	case "uuid":
		return "01936f2e-8a4c-7b1d-9c3e-5f6a7b8c9d0e"
	case "uri":
		return "https://example.com/"
	}
	return "..."
}
