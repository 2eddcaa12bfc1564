package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/go-cmp/cmp"

	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
)

type (
	shade string
	leaf  struct {
		Shade shade  `json:"shade,omitempty" enum:"light,dark" default:"dark"`
		Size  int    `json:"size,omitempty" minimum:"1" maximum:"9" default:"3"`
		Under []leaf `json:"under,omitempty" maxItems:"2"`
		Note  *note  `json:"note,omitempty"`
	}
	note struct {
		Text string    `json:"text" maxLength:"5" pattern:"^[a-z]*$"`
		Loud bool      `json:"loud,omitempty" default:"true"`
		At   time.Time `json:"at,omitzero"`
	}
	Every struct {
		Name  string           `path:"name" minLength:"2" maxLength:"8" doc:"Of the tree"`
		ID    id.ID[thingKind] `query:"id" format:"uuid"`
		Count int64            `query:"count" minimum:"1" maximum:"9000000000" default:"3"`
		Flag  bool             `query:"flag"`
		Since time.Time        `query:"since"`
		Shade shade            `query:"shade" enum:"light,dark" default:"dark" doc:"Which"`
		Tags  []shade          `query:"tag,explode" maxItems:"2" enum:"light,dark"`
		Seen  time.Time        `header:"If-Modified-Since"`
		Quiet string           `header:"X-Quiet" hidden:"true" maxLength:"3"`
		IfMatch
		Page
	}
	treeIn struct {
		Every
		Body struct {
			Roots  []leaf         `json:"roots" minItems:"1"`
			Main   leaf           `json:"main,omitzero"`
			Free   map[string]any `json:"free,omitempty"`
			Floor  float64        `json:"floor,omitempty" exclusiveMinimum:"0"`
			Member *int           `json:"member,omitempty"`
		}
	}
	mayIn    struct{ Body *leaf }
	bareIn   struct{ Page }
	replyOut struct {
		ETag     string `header:"ETag" doc:"Which version"`
		Location string `header:"Location" hidden:"true"`
		Body     struct {
			Main leaf   `json:"main"`
			Also []note `json:"also"`
			Next
		}
	}
)

// twin is an operation bound here, and registered with huma itself.
type twin struct {
	ours, theirs *huma.Operation
	schemas      [2]map[string]*huma.Schema
	bound        *binding
	mux          *http.ServeMux // theirs
	got          any            // what their handler got
}

func newTwin[In, Out any](path string, status int, out *Out) *twin {
	operation := func() *huma.Operation {
		return &huma.Operation{
			OperationID: "twin", Method: "POST", Path: path, DefaultStatus: status, MaxBodyBytes: -1, BodyReadTimeout: -1,
			Responses: map[string]*huma.Response{"default": {Description: "no"}}, RejectUnknownQueryParameters: true,
		}
	}
	w := &twin{mux: http.NewServeMux()}
	names := func() huma.Registry {
		return huma.NewMapRegistry("#/", func(t reflect.Type, hint string) string { return schemaName(t, hint, "twin") })
	}
	format := huma.Format{
		Marshal: func(w io.Writer, v any) error {
			enc := json.NewEncoder(w)
			enc.SetEscapeHTML(false)
			return enc.Encode(v)
		},
		Unmarshal: decodeInto,
	}
	api := humago.New(w.mux, huma.Config{
		OpenAPI: &huma.OpenAPI{Info: &huma.Info{}, Components: &huma.Components{Schemas: names()}},
		Formats: map[string]huma.Format{"application/json": format, "json": format}, DefaultFormat: "application/json",
	})
	huma.Register(api, *operation(), func(_ context.Context, in *In) (*Out, error) {
		w.got = in
		return out, nil
	})
	w.theirs, w.schemas[0] = api.OpenAPI().Paths[path].Post, api.OpenAPI().Components.Schemas.Map()
	delete(w.schemas[0], "V2ErrorModel")
	delete(w.schemas[0], "V2ErrorDetail")
	ours := names()
	w.ours = operation()
	w.bound = bind(ours, w.ours, reflect.TypeFor[In](), reflect.TypeFor[Out]())
	w.schemas[1] = ours.Map()
	return w
}

// outcome is what came of a request: what the handler got, or what was wrong with it.
type outcome struct {
	In    any
	Wrong []problem.Field
}

func (w *twin) ask(r *http.Request) (ours, theirs outcome, answered *httptest.ResponseRecorder) {
	body, _ := io.ReadAll(r.Body)
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+w.ours.Path, func(_ http.ResponseWriter, r *http.Request) {
		err := w.bound.check(r)
		if err == nil {
			ours.In, err = w.bound.read(r, body)
		}
		if p, ok := errors.AsType[*problem.Error](err); ok {
			ours.Wrong = append(p.Fields, problem.Field{Location: "refused"})
		}
	})
	mux.ServeHTTP(httptest.NewRecorder(), r)

	w.got = nil
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	answered = httptest.NewRecorder()
	w.mux.ServeHTTP(answered, r)
	theirs.In = w.got
	var m huma.ErrorModel
	if answered.Code >= 400 && json.Unmarshal(answered.Body.Bytes(), &m) == nil {
		for _, e := range m.Errors {
			theirs.Wrong = append(theirs.Wrong, problem.Field{Location: e.Location, Message: bounds(e.Message)})
		}
		theirs.Wrong = append(theirs.Wrong, problem.Field{Location: "refused"})
	}
	return ours, theirs, answered
}

// request makes one that reaches the operation, nil if these parts cannot be one that passes what stands before the binding.
func (w *twin) request(name, query, seen, match, body string) *http.Request {
	if name == "" || strings.ContainsAny(name, "/") || name == "." || name == ".." || !storable(name) {
		return nil
	}
	for _, v := range []string{seen, match} {
		if strings.TrimSpace(v) != v || strings.ContainsAny(v, "\r\n\x00") {
			return nil
		}
	}
	values, err := url.ParseQuery(query)
	if plain, err2 := url.QueryUnescape(query); err != nil || err2 != nil || !storable(plain) {
		return nil
	}
	for key, v := range values {
		if _, known := w.bound.query[key]; len(v) > 1 && !w.bound.query[key] || !known && len(values) > 1 {
			return nil // huma takes the first, and says those that it does not know in any order
		}
	}
	if body != "" && (w.bound.body == nil || checkJSON([]byte(body), w.bound.schemas, w.bound.schema) != nil) {
		return nil
	}
	r := httptest.NewRequest("POST", "/", strings.NewReader(body))
	r.URL = &url.URL{Path: strings.Replace(w.ours.Path, "{name}", name, 1), RawQuery: query}
	r.Header = http.Header{"If-Modified-Since": {seen}, "If-Match": {match}, "X-Quiet": {match}, "Content-Type": {"application/json"}}
	return r
}

func twins() []*twin {
	out := &replyOut{ETag: `"3"`}
	out.Body.Main.Shade = "<light>"
	return []*twin{
		newTwin[treeIn]("/trees/{name}", 201, out),
		newTwin[mayIn]("/may", 0, out),
		newTwin[bareIn]("/bare", 0, &None{}),
		newTwin[None]("/none", 202, &None{}),
	}
}

// TestBoundAsHumaBinds: what OpenAPI says of an operation, what its handler gets, what is refused and how, and what is answered are
// what huma makes of the same types.
func TestBoundAsHumaBinds(t *testing.T) {
	t.Parallel()
	for _, w := range twins() {
		for _, pair := range [][2]any{{w.theirs, w.ours}, {w.schemas[0], w.schemas[1]}} {
			theirs, err := json.MarshalIndent(pair[0], "", " ")
			ours, err2 := json.MarshalIndent(pair[1], "", " ")
			if diff := cmp.Diff(string(theirs), string(ours)); diff != "" || err != nil || err2 != nil {
				t.Errorf("%s is described otherwise (-huma +ours): %s%v%v", w.ours.Path, diff, err, err2)
			}
		}
	}
	w, one := twins()[0], `{"roots":[{}]}`
	asked, refused := 0, 0
	for _, q := range []string{"", "count=1&limit=7", "count=0", "count=9000000001", "count=x", "count=9223372036854775808", "flag=true", "flag=maybe", "flag", "count", "shade", "flag&count=2",
		"since=2026-01-02T03:04:05.6Z", "since=yesterday", "shade=light", "shade=grey", "shade=", "tag=light&tag=dark", "tag=light&tag=dark&tag=dark",
		"tag=light,dark", "tag=", "id=" + thingID, "id=7", "nothing=1", "limit=0&count=-1&flag=2", "cursor=" + strings.Repeat("x", 2049)} {
		for _, body := range []string{"", one, `null`, `[]`, `{}`, `{"roots":[]}`, `{"roots":[{"shade":"dim","size":10}]}`, `{"roots":[{},{"under":[{"size":2},{"note":{"text":"x"}}]}]}`,
			`{"roots":[{"note":{"text":"TOO LONG"}}],"floor":0}`, `{"roots":[{"note":{"text":"a","at":"2026-01-02T03:04:05Z"}}],"member":0}`, `{"roots":[{}],"member":1e99}`,
			`{"roots":[{}],"member":1.5}`, `{"roots":[{}],"free":{"a":[1,"b",null]},"main":{"size":null}}`, `{"roots":[{}],"main":null}`} {
			for _, name := range []string{"oak", "o", "a longer one"} {
				no := w.alike(t, name, q, "", "", body) + w.alike(t, name, q, "Thu, 01 Jan 2026 00:00:00 GMT", `"3"`, body) + w.alike(t, name, q, "2026", strings.Repeat("x", 300), body)
				asked, refused = asked+3, refused+no
			}
		}
	}
	if refused < asked/2 || refused > asked-10 {
		t.Errorf("%d of %d refused: that tests little", refused, asked)
	}
	may := twins()[1]
	for _, body := range []string{"", `null`, `{}`, `{"size":4}`, `{"size":"4"}`} {
		may.alike(t, "x", "", "", "", body)
	}
	for _, q := range []string{"", "limit=3", "limit=201", "other=1"} {
		twins()[2].alike(t, "x", q, "", "", "")
	}
}

// alike asks both, and is 1 if they refuse.
func (w *twin) alike(t *testing.T, name, query, seen, match, body string) int {
	t.Helper()
	r := w.request(name, query, seen, match, body)
	if r == nil {
		return 0
	}
	ours, theirs, answered := w.ask(r)
	if diff := cmp.Diff(theirs, ours, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
		t.Errorf("%s ?%s %q %q %s (-huma +ours): %s", name, query, seen, match, body, diff)
	}
	if len(ours.Wrong) > 0 {
		return 1
	}
	out := &replyOut{ETag: `"3"`}
	out.Body.Main.Shade = "<light>"
	if w.bound.answers == nil {
		return 0
	}
	reply, err := w.bound.answer(out)
	if err != nil || reply.status != answered.Code || reply.body.String() != answered.Body.String() || !slices.Equal(reply.header["Etag"], answered.Header()["Etag"]) ||
		reply.header.Get("Content-Type") != answered.Header().Get("Content-Type") || len(reply.header) != len(answered.Header()) {
		t.Errorf("answered %+v %v, by huma %d %v %s", reply, err, answered.Code, answered.Header(), answered.Body)
	}
	return 0
}

// FuzzBound: for whatever request, the handler gets what it would get from huma, or the same is refused.
func FuzzBound(f *testing.F) {
	f.Add("oak", "count=4&tag=light", "", `"3"`, `{"roots":[{"under":[{}]}]}`)
	f.Add("o", "since=2026-01-02T03:04:05Z&id="+thingID, "Thu, 01 Jan 2026 00:00:00 GMT", "", `{"roots":[{"note":{"text":"abc"}}],"main":{"size":2}}`)
	f.Add("oak", "flag=T&shade=&limit=+7", "x", "", `{"roots":[],"floor":-1,"free":{"a":1.0}}`)
	w := twins()[0]
	f.Fuzz(func(t *testing.T, name, query, seen, match, body string) {
		if len(name)+len(query)+len(body) < maxTarget {
			w.alike(t, name, query, seen, match, body)
		}
	})
}

// TestTypesThatCannotBeBound panic when they are registered, and not when they are used.
func TestTypesThatCannotBeBound(t *testing.T) {
	t.Parallel()
	none := reflect.TypeFor[None]()
	for name, pair := range map[string][2]reflect.Type{
		"no struct":        {reflect.TypeFor[int](), none},
		"output no struct": {none, reflect.TypeFor[*None]()},
		"no place":         {reflect.TypeFor[struct{ Name string }](), none},
		"a pointer": {reflect.TypeFor[struct {
			Name *string `query:"name"`
		}](), none},
		"a map": {reflect.TypeFor[struct {
			Name map[string]string `query:"name"`
		}](), none},
		"a list without mark": {reflect.TypeFor[struct {
			Names []string `query:"name"`
		}](), none},
		"a list in a header": {reflect.TypeFor[struct {
			Names []string `header:"name,explode"`
		}](), none},
		"a text that explodes": {reflect.TypeFor[struct {
			Name string `query:"name,explode"`
		}](), none},
		"an output's status": {none, reflect.TypeFor[struct{ Status int }]()},
		"an output's number": {none, reflect.TypeFor[struct {
			Age int `header:"Age"`
		}]()},
		"a list by default": {reflect.TypeFor[struct {
			Body struct {
				Names []string `json:"names" default:"a,b"`
			}
		}](), none},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Error("it was bound")
				}
			}()
			d := &huma.Operation{OperationID: "x", Responses: map[string]*huma.Response{}}
			bind(huma.NewMapRegistry("#/", huma.DefaultSchemaNamer), d, pair[0], pair[1])
		})
	}
}
