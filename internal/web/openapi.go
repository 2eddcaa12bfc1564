package web

import (
	"encoding/json"
	"net/http"
	"path"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// openAPI begins the document that the operations are entered in.
func (a *API[C]) openAPI() *huma.OpenAPI {
	schemas := huma.NewMapRegistry("#/components/schemas/", func(t reflect.Type, hint string) string { return schemaName(t, hint, a.describing) })
	tags := make([]*huma.Tag, len(a.cfg.Tags))
	for i, t := range a.cfg.Tags {
		tags[i] = &huma.Tag{Name: t.Name, Description: t.Description}
	}
	return &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info:    &huma.Info{Title: a.cfg.Title, Version: a.cfg.Version, Description: a.cfg.Description},
		Servers: []*huma.Server{{URL: strings.TrimSuffix(a.cfg.PublicURL.String(), "/")}},
		Tags:    tags,
		Components: &huma.Components{
			Schemas: schemas,
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"bearer":  {Type: "http", Scheme: "bearer", Description: "An API key or a token in the Authorization header."},
				"api_key": {Type: "apiKey", In: "header", Name: "X-API-Key", Description: "An API key in a header of its own."},
			},
		},
	}
}

// schemaName is Type, or PackageType where the package's name says something: two rooms may each have a View.
func schemaName(t reflect.Type, hint, operation string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	room := path.Base(t.PkgPath())
	if t.Name() == "" && operation != "" {
		// A body without a name of its own: rooms have types of the same name, operations do not.
		if of := title(operation); !strings.HasPrefix(name, of) {
			name = of + name
		}
		return name
	}
	if t.Name() == "" || t.PkgPath() == "" || room == "web" || strings.HasPrefix(strings.ToLower(name), room) {
		return name
	}
	return strings.ToUpper(room[:1]) + room[1:] + name
}

// title makes a name of a type from an operation's id: list-keys becomes ListKeys.
func title(operation string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(operation, "-") {
		if part != "" {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}

// operation is what OpenAPI is told of an operation, but for what its types say.
func (a *API[C]) operation(op Op) *huma.Operation {
	failure := &huma.MediaType{Schema: a.openapi.Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "")}
	d := &huma.Operation{
		OperationID: op.ID, Method: op.Method, Path: op.Path,
		Summary: op.Summary, Description: op.Description, Tags: op.Tags,
		DefaultStatus: op.Status, Hidden: op.Hidden, Deprecated: op.Deprecated,
		Responses: map[string]*huma.Response{"default": {
			Description: "What failed, as a problem document (RFC 9457)",
			Headers: map[string]*huma.Param{headerRequestID: {
				Description: "Names the request; quote it when asking about it",
				Schema:      &huma.Schema{Type: huma.TypeString, Format: "uuid"},
			}},
			Content: map[string]*huma.MediaType{problemType: failure},
		}},
	}
	for status, when := range op.Fails {
		d.Responses[strconv.Itoa(status)] = &huma.Response{Description: when, Content: map[string]*huma.MediaType{problemType: failure}}
	}
	if op.Access != Public {
		d.Security = []map[string][]string{{"bearer": scopes(op)}, {"api_key": scopes(op)}}
	}
	if op.Idempotent {
		d.Parameters = append(d.Parameters, &huma.Param{
			Name: headerIdempotencyKey, In: "header",
			Description: "A value of your own, new for each thing that you want done. The same request sent again with it gets the first one's answer, and nothing is done twice.",
			Schema:      &huma.Schema{Type: huma.TypeString, MaxLength: new(255)},
		})
	}
	if op.Produces != "" {
		status := or(op.Status, http.StatusOK)
		d.DefaultStatus = status
		d.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status),
			Content:     map[string]*huma.MediaType{op.Produces: {}},
		}
	}
	return d
}

func scopes(op Op) []string {
	if op.Scope == "" {
		return []string{}
	}
	return []string{op.Scope}
}

// renderSpec writes the document once, when it is first asked for: by then every operation is registered.
func (a *API[C]) renderSpec() []byte {
	b, err := json.MarshalIndent(a.openapi, "", " ")
	if err != nil {
		panic("web: the OpenAPI document cannot be encoded: " + err.Error())
	}
	return append(b, '\n')
}

func (a *API[C]) serveSpec(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "public, max-age=60")
	h.Set("Access-Control-Allow-Origin", "*") // it holds nothing that is not public, and tools read it from browsers
	w.Write(a.spec())
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
