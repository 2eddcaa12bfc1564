package verify

import (
	"fmt"
	"unicode/utf8"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
)

// The limits of a request. A longer token is not refused: it is a token that proves nothing, and is answered so.
const (
	mostResource = 1024
	mostScopes   = 64
	mostScope    = 64
)

// UnmarshalJSON reads a request as encoding/json would by itself.
func (q *Request) UnmarshalJSON(b []byte) error {
	return web.Members(b, func(name string, value []byte) (err error) {
		switch name {
		case "token":
			q.Token, err = web.Text(value)
		case "target_resource":
			q.TargetResource, err = web.Text(value)
		case "scopes_requested":
			q.ScopesRequested, err = web.Texts(value)
		}
		return err
	})
}

func (q *Request) check() error {
	var wrong []problem.Field
	if q.Token == "" {
		wrong = append(wrong, problem.Field{Location: "body.token", Message: "is required: the token that the agent presented"})
	}
	if len(q.TargetResource) > mostResource || !utf8.ValidString(q.TargetResource) {
		wrong = append(wrong, problem.Field{Location: "body.target_resource", Message: fmt.Sprintf("must be at most %d bytes", mostResource)})
	}
	if len(q.ScopesRequested) > mostScopes {
		wrong = append(wrong, problem.Field{Location: "body.scopes_requested", Message: fmt.Sprintf("must be at most %d scopes", mostScopes)})
	}
	for i, s := range q.ScopesRequested {
		if s == "" || len(s) > mostScope {
			wrong = append(wrong, problem.Field{Location: fmt.Sprintf("body.scopes_requested[%d]", i), Message: fmt.Sprintf("must be 1 to %d bytes", mostScope)})
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	p := problem.New(problem.Invalid, "The request does not fit POST /api/v1/verify.")
	p.Fields = wrong
	return p
}
