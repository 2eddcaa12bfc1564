package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"

	"github.com/avouch-dev/avouch/internal/problem"
)

func (a *API[C]) maxBody(rt *route) int64 { return or(rt.op.MaxBody, a.cfg.MaxBody) }

// readBody reads the whole body, which must be what the operation takes: strict JSON, or nothing.
func (a *API[C]) readBody(w http.ResponseWriter, r *http.Request, rt *route) ([]byte, error) {
	limit := a.maxBody(rt)
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close")
		return nil, tooLarge(limit)
	}
	var buf bytes.Buffer
	buf.Grow(int(min(max(r.ContentLength, 0)+bytes.MinRead, 64<<10)))
	if _, err := buf.ReadFrom(http.MaxBytesReader(w, r.Body, limit)); err != nil {
		return nil, unreadable(err, limit)
	}
	body := buf.Bytes()
	if rt.bound.body == nil {
		if b := bytes.TrimSpace(body); len(b) > 0 && string(b) != "{}" {
			return nil, problem.New(problem.Invalid, "This operation takes no body.")
		}
		return nil, nil
	}
	if len(body) == 0 {
		return nil, nil // read knows whether it may be left out
	}
	if err := mustBeJSON(r.Header); err != nil {
		return nil, err
	}
	if f := checkJSON(body, rt.bound.schemas, rt.bound.schema); f != nil {
		return nil, bodyProblem(f)
	}
	return body, nil
}

func tooLarge(limit int64) error {
	return exactly(http.StatusRequestEntityTooLarge, "The body is larger than %d bytes.", limit)
}

func unreadable(err error, limit int64) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(limit)
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return exactly(http.StatusRequestTimeout, "The body did not arrive in time.").Because(err)
	}
	return problem.New(problem.Invalid, "The body could not be read to its end.").Because(err)
}

func mustBeJSON(h http.Header) error {
	if h.Get("Content-Type") == "application/json" && h.Get("Content-Encoding") == "" { // as nearly all have it
		return nil
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if charset := params["charset"]; err != nil || kind != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return exactly(http.StatusUnsupportedMediaType, "The body must be JSON: send Content-Type: application/json.")
	}
	if h.Get("Content-Encoding") != "" {
		return exactly(http.StatusUnsupportedMediaType, "The body must not be compressed.")
	}
	return nil
}

func bodyProblem(f *fault) error {
	p := problem.New(problem.Invalid, "The body is not what this operation takes. See `errors`.")
	p.Fields = []problem.Field{{Location: (&fault{at: f.at}).under("body").at, Message: f.says}}
	p.Fields[0].Location = strings.TrimSuffix(p.Fields[0].Location, ".")
	return p
}

// fieldProblems is a problem with one complaint about each name, nil if there are none.
func fieldProblems(names []string, prefix, says string) error {
	if len(names) == 0 {
		return nil
	}
	p := problem.New(problem.Invalid, "The request does not fit its description. See `errors`.")
	for _, name := range names {
		p.Fields = append(p.Fields, problem.Field{Location: prefix + name, Message: says})
	}
	return p
}

// Decode reads the JSON body of a raw operation into a value of its Body's type, as strictly as Handle does: media type,
// size, UTF-8, no name twice, none unknown. What the description says beyond names (lengths, patterns) is not checked.
func (a *API[C]) Decode(w http.ResponseWriter, r *http.Request, into any) error {
	body, err := a.readBody(w, r, exchangeOf(r.Context()).route)
	if err != nil {
		return err
	}
	if len(body) == 0 {
		return problem.New(problem.Invalid, "A body is needed.")
	}
	// readBody knows that it is JSON and all its names are known; a type that reads itself need not hear it again.
	read := func() error { return json.Unmarshal(body, into) }
	if own, ok := into.(json.Unmarshaler); ok {
		read = func() error { return own.UnmarshalJSON(body) }
	}
	if err := misfit(read()); err != nil {
		return problem.New(problem.Invalid, "The body is not what this operation takes: %s.", err)
	}
	return nil
}

// Read is Decode for a body that is no JSON, such as a form: all of it, up to the operation's limit.
func (a *API[C]) Read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	limit := a.maxBody(exchangeOf(r.Context()).route)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		return nil, unreadable(err, limit)
	}
	return body, nil
}

// decodeInto decodes text that checkJSON has passed, and refuses names that the value has no field for.
func decodeInto(b []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	return misfit(dec.Decode(into))
}

// misfit says what does not fit, without its value.
func misfit(err error) error {
	if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s is a %s, which does not fit", or(te.Field, "it"), strings.Fields(te.Value)[0])
	}
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}
