package apikey

import (
	"net/http"

	"github.com/avouch-dev/avouch/internal/problem"
)

// Unsent says what is wrong with a request that FromHeader finds no key in. It depends on nothing that a key would tell.
func Unsent(h http.Header) error {
	if len(h.Values("Authorization"))+len(h.Values("X-API-Key")) > 1 {
		return problem.New(problem.Unauthenticated, "Two different credentials were sent, and nobody can say which is meant: send one, in Authorization or in X-API-Key.")
	}
	return problem.New(problem.Unauthenticated, "This needs an API key: send it as `Authorization: Bearer avk_…`, or as `X-API-Key: avk_…`.")
}
