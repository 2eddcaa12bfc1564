package doortest

import (
	"net/url"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/pgfault"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Behind is Another whose replies from the database pass a proxy that loses them, or brings them late, when a test says so.
func (d *Door) Behind(t testing.TB) (*Door, *pgfault.Proxy) {
	t.Helper()
	u, err := url.Parse(d.pg.URL)
	must(t, err)
	q := u.Query()
	proxy, err := pgfault.Listen(q.Get("host"))
	must(t, err)
	t.Cleanup(func() { _ = proxy.Close() })
	q.Set("host", proxy.Dir())
	u.RawQuery = q.Encode()
	other := &Door{Key: d.Key, pg: d.pg, store: d.store, logged: d.logged}
	other.connect(t, secret.String{})
	other.DB, err = tenantdb.Open(t.Context(), tenantdb.Config{URL: u.String(), Sealer: other.Ring, Log: other.Log, Patience: 400 * time.Millisecond})
	must(t, err)
	t.Cleanup(other.DB.Close)
	return other, proxy
}
