package web

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/queryparam"
)

// read makes the input of a request, a pointer, out of its parameters and its body, which is strict JSON already. All that does not
// fit is said at once.
func (b *binding) read(r *http.Request, body []byte) (any, error) {
	in, wrong, path := reflect.New(b.in), &huma.ValidateResult{}, huma.NewPathBuffer(make([]byte, 0, 64), 0)
	query := r.URL.Query()
	for _, p := range b.params {
		path.Reset()
		path.Push(p.in)
		path.Push(p.name)
		b.readParam(p, p.text(r, query), query, in.Elem().FieldByIndex(p.field), path, wrong)
	}
	switch {
	case b.body == nil:
	case len(body) > 0:
		b.readJSON(body, in.Elem().FieldByIndex(b.body), path, wrong)
	case b.must && len(wrong.Errors) == 0:
		return nil, problem.New(problem.Invalid, "The request does not fit its description: request body is required.")
	}
	if len(wrong.Errors) > 0 {
		return nil, invalidOf(wrong.Errors)
	}
	return in.Interface(), nil
}

// text is the parameter as the request has it, or its default.
func (p *param) text(r *http.Request, query url.Values) string {
	var s string
	switch p.in {
	case "path":
		s = r.PathValue(p.name)
	case "query":
		if s = query.Get(p.name); s == "" && !p.many {
			s = queryparam.Get(r.URL.RawQuery, p.name) // ?flag alone says true
		}
	default:
		s = r.Header.Get(p.name)
	}
	return or(s, p.otherwise)
}

func (b *binding) readParam(
	p *param, text string, query url.Values, into reflect.Value, path *huma.PathBuffer, wrong *huma.ValidateResult,
) {
	if text == "" {
		if p.must {
			wrong.Add(path, "", "required "+p.in+" parameter is missing")
		}
		return
	}
	v, err := p.set(into, text, query[p.name])
	if err != nil {
		wrong.Add(path, text, err.Error())
		return
	}
	huma.Validate(b.schemas, p.schema, path, huma.ModeWriteToServer, v, wrong)
}

// set gives a field the value that a text means, and returns it as it is to be validated.
func (p *param) set(f reflect.Value, text string, all []string) (any, error) {
	switch f.Kind() {
	case reflect.String:
		f.SetString(text)
		return text, nil
	case reflect.Bool:
		v, err := strconv.ParseBool(text)
		if err != nil {
			return nil, errors.New("invalid boolean")
		}
		f.SetBool(v)
		return v, nil
	case reflect.Int, reflect.Int64:
		v, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, errors.New("invalid integer")
		}
		f.SetInt(v)
		return v, nil
	case reflect.Slice:
		f.Set(reflect.MakeSlice(f.Type(), len(all), len(all)))
		for i, s := range all {
			f.Index(i).SetString(s)
		}
		return all, nil
	}
	if t, ok := f.Addr().Interface().(*time.Time); ok {
		v, err := time.Parse(p.layout, text)
		if err != nil {
			return nil, errors.New("invalid date/time for format " + p.layout)
		}
		*t = v
		return text, nil
	}
	if err := f.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
		return nil, errors.New("invalid value: " + err.Error())
	}
	return text, nil
}

// readJSON decodes a body twice: into any, to be held to its description, and into the input.
func (b *binding) readJSON(body []byte, into reflect.Value, path *huma.PathBuffer, wrong *huma.ValidateResult) {
	path.Reset()
	path.Push("body")
	before := len(wrong.Errors)
	var plain any
	if err := decodeInto(body, &plain); err != nil {
		wrong.Add(path, nil, err.Error())
		return
	}
	huma.Validate(b.schemas, b.schema, path, huma.ModeWriteToServer, plain, wrong)
	if err := decodeInto(body, into.Addr().Interface()); err != nil && len(wrong.Errors) == before {
		wrong.Add(path, nil, err.Error())
	}
	for _, d := range b.defaults {
		d.fill(into, d.field)
	}
}

// fill gives every field at a place beneath v its default if it has no value.
func (d fallback) fill(v reflect.Value, at []int) {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	switch {
	case v.Kind() == reflect.Pointer:
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			d.fill(v.Index(i), at)
		}
	case len(at) > 0:
		d.fill(v.Field(at[0]), at[1:])
	case v.IsZero():
		v.Set(d.value)
	}
}

// answer encodes an output; nil is one without headers and body.
func (b *binding) answer(out any) (*answer, error) {
	reply := &answer{header: http.Header{}}
	if out == nil {
		reply.WriteHeader(b.status)
		return reply, nil
	}
	v := reflect.ValueOf(out).Elem()
	for _, h := range b.headers {
		if s := v.FieldByIndex(h.field).String(); s != "" {
			reply.header.Set(h.name, s)
		}
	}
	if b.answers != nil {
		reply.header.Set("Content-Type", jsonType)
	}
	reply.WriteHeader(b.status)
	if b.answers == nil || b.status == http.StatusNoContent {
		return reply, nil
	}
	enc := json.NewEncoder(&reply.body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v.FieldByIndex(b.answers).Interface()); err != nil {
		return nil, fmt.Errorf("web.answer: %w", err)
	}
	return reply, nil
}

// check refuses a parameter that is there twice, since which one counts would be anyone's guess, and one that is not known.
func (b *binding) check(r *http.Request) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	var twice, unknown []string
	for name, v := range r.URL.Query() {
		many, known := b.query[name]
		if len(v) > 1 && !many {
			twice = append(twice, name)
		}
		if !known {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(twice)
	slices.Sort(unknown)
	if err := fieldProblems(twice, "query.", "is there twice"); err != nil {
		return err
	}
	return fieldProblems(unknown, "query.", "unknown query parameter")
}
