package org

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// TestSignUpIsLimited: at once, through the route. What is refused makes nothing.
func TestSignUpIsLimited(t *testing.T) {
	t.Parallel()
	f := open(t)
	api := f.API(doortest.As(tenantdb.Caller{}))
	New(Config{DB: f.DB, Ring: f.Ring, FirstKey: f.keys, SignUp: true, SignUpsPerHour: 3}).Routes(api)
	var all sync.WaitGroup
	var mu sync.Mutex
	made, refused := 0, 0
	for range 12 {
		all.Go(func() {
			r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/organisations", strings.NewReader(`{"name":"Acme"}`))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Idempotency-Key", "the same") // means nothing here, as the description says
			w := httptest.NewRecorder()
			api.ServeHTTP(w, r)
			mu.Lock()
			defer mu.Unlock()
			switch seconds, err := strconv.Atoi(w.Header().Get("Retry-After")); {
			case w.Code == http.StatusCreated:
				made++
			case w.Code == http.StatusTooManyRequests && err == nil && seconds > 1000 && seconds <= 1200:
				refused++
			default:
				t.Errorf("%d, Retry-After %q: %s", w.Code, w.Header().Get("Retry-After"), w.Body)
			}
		})
	}
	all.Wait()
	if n := f.Text(t, `SELECT count(*)::text FROM avouch.organisation`); made != 3 || refused != 9 || n != "3" {
		t.Errorf("%d made, %d refused, %s there", made, refused, n)
	}
	spec := httptest.NewRecorder()
	api.ServeHTTP(spec, httptest.NewRequest("GET", "/openapi.json", nil))
	if !strings.Contains(spec.Body.String(), "It takes no `Idempotency-Key`") {
		t.Errorf("the description does not say that a repeated sign-up is another: %.200s", spec.Body)
	}
}
