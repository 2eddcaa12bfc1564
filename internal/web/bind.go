package web

import (
	"encoding"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// binding is what an operation takes and gives, as the types of its input and output say: read off them once, when it is
// registered. It goes by reflection, since code that is made anew for each pair of types cost 25 kB of the program for every
// operation (docs/decisions/0027).
type binding struct {
	schemas  huma.Registry
	in       reflect.Type
	params   []*param
	query    map[string]bool // the query parameters that are known, and whether one may be there more than once
	body     []int           // where Body is in the input; nil if there is none
	must     bool            // the body must be there
	schema   *huma.Schema    // of the body
	defaults []fallback
	headers  []header
	answers  []int // where Body is in the output; nil if there is none
	status   int
}

// param is a parameter: where it stands in a request, and in the input.
type param struct {
	field     []int
	in, name  string
	must      bool
	many      bool   // of the query only: it may be there more than once
	otherwise string // its text if it is not there
	layout    string // of a time
	schema    *huma.Schema
}

// fallback is a field of the body that has a value when the request says none.
type fallback struct {
	field []int // beneath Body; through lists to all of their members
	value reflect.Value
}

// header is a header of the answer.
type header struct {
	field []int
	name  string
}

var (
	timeType = reflect.TypeFor[time.Time]()
	textType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// bind reads the types off, and writes into d what OpenAPI says of them. A type that cannot be bound is a mistake of the program.
func bind(schemas huma.Registry, d *huma.Operation, in, out reflect.Type) *binding {
	if in.Kind() != reflect.Struct || out.Kind() != reflect.Struct {
		panic("web: " + d.OperationID + ": input and output must be structs")
	}
	b := &binding{schemas: schemas, in: in, query: map[string]bool{}}
	b.takes(d)
	b.gives(d, out)
	return b
}

func (b *binding) takes(d *huma.Operation) {
	for _, f := range fieldsOf(b.in, nil) {
		if f.Name == "Body" {
			b.takesBody(d, f)
			continue
		}
		p := b.param(d.OperationID, f)
		if b.params = append(b.params, p); p.in == "query" {
			b.query[p.name] = p.many
		}
		if f.Tag.Get("hidden") != "true" {
			d.Parameters = append(d.Parameters, p.described())
		}
	}
}

// fieldsOf are those of a struct and of what is embedded in it, with their index from the outermost. One that has the name of its
// embedded type is among them, which reflect.VisibleFields leaves out.
func fieldsOf(t reflect.Type, at []int) []reflect.StructField {
	var all []reflect.StructField
	for i := range t.NumField() {
		f := t.Field(i)
		f.Index = append(at[:len(at):len(at)], i)
		if f.Anonymous && f.Type.Kind() == reflect.Struct {
			all = append(all, fieldsOf(f.Type, f.Index)...)
		} else if f.IsExported() {
			all = append(all, f)
		}
	}
	return all
}

func (b *binding) takesBody(d *huma.Operation, f reflect.StructField) {
	b.body, b.must = f.Index, f.Type.Kind() != reflect.Pointer
	b.schema = huma.SchemaFromField(b.schemas, f, hint(b.in, d.OperationID+"Request"))
	b.schema.PrecomputeMessages()
	b.defaults = b.fallbacks(f.Type, nil, nil)
	d.RequestBody = &huma.RequestBody{Required: b.must, Content: map[string]*huma.MediaType{jsonType: {Schema: b.schema}}}
}

// hint is a name for the type of a Body that has none.
func hint(parent reflect.Type, otherwise string) string {
	if parent.Name() != "" {
		return parent.Name() + "Body"
	}
	return otherwise
}

func (b *binding) param(operation string, f reflect.StructField) *param {
	p := &param{field: f.Index, otherwise: f.Tag.Get("default"), schema: huma.SchemaFromField(b.schemas, f, "")}
	for _, in := range []string{"path", "query", "header"} {
		if tag := f.Tag.Get(in); tag != "" && p.in == "" {
			p.in = in
			p.name, p.many = strings.CutSuffix(tag, ",explode")
		}
	}
	p.must = p.in == "path"
	if f.Type == timeType {
		if p.layout = time.RFC3339Nano; p.in == "header" {
			p.layout = http.TimeFormat
		}
	}
	list := f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.String
	if p.in == "" || p.many != list || p.many && p.in != "query" || !list && !bindable(f.Type) {
		panic("web: " + operation + ": " + f.Name + " cannot be bound: it needs a place (path, query, header) and a type that one text can be")
	}
	return p
}

// bindable are the types of parameters, but for lists of texts.
func bindable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64:
		return true
	}
	return reflect.PointerTo(t).Implements(textType) // time.Time too
}

func (p *param) described() *huma.Param {
	d := &huma.Param{Name: p.name, In: p.in, Description: p.schema.Description, Required: p.must, Schema: p.schema}
	if p.in == "query" {
		d.Explode = &p.many
	}
	return d
}

// fallbacks finds the fields with a default in the type of a body, as deep as its values are reached without a key.
func (b *binding) fallbacks(t reflect.Type, at []int, above []reflect.Type) []fallback {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	for _, a := range above {
		if a == t {
			return nil
		}
	}
	if t.Kind() != reflect.Struct || t == timeType {
		return nil
	}
	var all []fallback
	for i := range t.NumField() {
		f, here := t.Field(i), append(at[:len(at):len(at)], i)
		if !f.IsExported() {
			continue
		}
		if f.Tag.Get("default") == "" {
			all = append(all, b.fallbacks(f.Type, here, append(above[:len(above):len(above)], t))...)
			continue
		}
		v := reflect.ValueOf(huma.SchemaFromField(b.schemas, f, "").Default)
		if !v.IsValid() || v.Type() != f.Type || !bindable(f.Type) {
			panic("web: " + t.String() + "." + f.Name + ": a default is for texts, numbers and truths")
		}
		all = append(all, fallback{here, v})
	}
	return all
}

func (b *binding) gives(d *huma.Operation, out reflect.Type) {
	body, has := out.FieldByName("Body")
	b.status = or(d.DefaultStatus, http.StatusNoContent)
	if has {
		b.answers, b.status = body.Index, or(d.DefaultStatus, http.StatusOK)
	}
	reply := d.Responses[strconv.Itoa(b.status)]
	if reply == nil {
		reply = &huma.Response{Description: http.StatusText(b.status)}
		d.Responses[strconv.Itoa(b.status)] = reply
	}
	if has {
		s := huma.SchemaFromField(b.schemas, body, hint(out, d.OperationID+"Response"))
		if reply.Content == nil {
			reply.Content = map[string]*huma.MediaType{jsonType: {Schema: s}}
		}
	}
	for _, f := range fieldsOf(out, nil) {
		if f.Name == "Body" {
			continue
		}
		name := f.Tag.Get("header")
		if name == "" || f.Type.Kind() != reflect.String {
			panic("web: " + d.OperationID + ": " + f.Name + " of the output must be a text with the name of a header")
		}
		b.headers = append(b.headers, header{f.Index, name})
		if f.Tag.Get("hidden") == "true" {
			continue
		}
		if reply.Headers == nil {
			reply.Headers = map[string]*huma.Param{}
		}
		reply.Headers[name] = &huma.Param{Schema: huma.SchemaFromField(b.schemas, f, "")}
	}
}
