package web

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
)

type whoamiOut struct {
	Body struct {
		Address string `json:"address"`
		Secure  bool   `json:"secure"`
	}
}

func whoami(ctx context.Context, _ caller, _ *None) (*whoamiOut, error) {
	out := &whoamiOut{}
	meta := MetaOf(ctx)
	out.Body.Address, out.Body.Secure = meta.Address.String(), meta.Secure
	return out, nil
}

func answerText(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })
}

// TestRequestIDs: ours is always new; the caller's comes back beside it if it is well formed.
func TestRequestIDs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for theirs, echo := range map[string]string{
		"": "", "abc-1.2:3_X": "abc-1.2:3_X", strings.Repeat("x", 64): strings.Repeat("x", 64),
		strings.Repeat("x", 65): "", "a b": "", "a\tb": "", "ü": "", "a/b": "", `"a"`: "",
	} {
		seen := map[string]bool{}
		for range 2 {
			r := b.ask("GET", "/api/v1/things", "", "X-Request-Id: "+theirs)
			ours := r.Header.Get("X-Request-Id")
			if !anyUUID.MatchString(ours) || ours == theirs || seen[ours] {
				t.Errorf("request id %q", ours)
			}
			seen[ours] = true
			if got := r.Header.Get("X-Caller-Request-Id"); got != echo {
				t.Errorf("%q comes back as %q, want %q", theirs, got, echo)
			}
		}
	}
	if !MetaOf(context.Background()).ID.IsZero() {
		t.Error("outside of a request there is an id")
	}
}

func TestMetaReachesHandlers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var got RequestMeta
	HandleRaw[None, None](b.API, Op{ID: "raw", Method: "GET", Path: "/api/v1/raw", Summary: "See", Access: Own},
		func(w http.ResponseWriter, r *http.Request, c caller, meta RequestMeta) error {
			if got = meta; MetaOf(r.Context()) != meta || c.Name != "nobody" {
				t.Errorf("meta %+v, caller %v", meta, c)
			}
			w.WriteHeader(204)
			return nil
		})
	r := b.ask("GET", "/api/v1/raw", "", "X-Request-Id: mine")
	if got.ID.String() != r.Header.Get("X-Request-Id") || got.Operation != "raw" || got.CallerRequestID != "mine" || got.Address.String() != "192.0.2.1" || got.Start.IsZero() {
		t.Errorf("%+v", got)
	}
}
