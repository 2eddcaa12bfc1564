package doortest

import (
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Traced is Another of which each statement makes a span.
func (d *Door) Traced(t testing.TB, spans trace.TracerProvider) *Door {
	t.Helper()
	other := &Door{Key: d.Key, pg: d.pg, store: d.store, logged: d.logged}
	other.connect(t, secret.String{})
	var err error
	other.DB, err = tenantdb.Open(t.Context(), tenantdb.Config{URL: d.pg.URL, Sealer: other.Ring, Log: other.Log, Connections: 2, Tracer: spans})
	must(t, err)
	t.Cleanup(other.DB.Close)
	return other
}
