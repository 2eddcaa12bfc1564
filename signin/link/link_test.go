package link_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/signin/link"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

type desk struct {
	*doortest.Door
	links  *link.Links
	now    time.Time
	tenant tenantdb.TenantID
}

func open(t *testing.T) *desk {
	d := &desk{Door: doortest.Open(t), now: time.Now()}
	d.links = link.New(d.DB, d.Ring, func() time.Time { return d.now })
	d.tenant = d.Tenant(t, "Acme")
	return d
}

func (d *desk) change(t *testing.T, tenant tenantdb.TenantID, fn func(tx *tenantdb.Tx) error) error {
	t.Helper()
	return d.DB.Change(t.Context(), tenantdb.System(tenant, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		return audit.Event{Type: "test.link"}, fn(tx)
	})
}

func (d *desk) make(t *testing.T, p link.Purpose, subject [16]byte) secret.String {
	t.Helper()
	var made link.ID
	must(t, d.change(t, d.tenant, func(tx *tenantdb.Tx) (err error) {
		made, err = d.links.Make(t.Context(), tx, p, subject, time.Hour, []byte("data"))
		return err
	}))
	s, err := d.links.Secret(t.Context(), d.tenant, made)
	must(t, err)
	return s
}

func (d *desk) spend(t *testing.T, tenant tenantdb.TenantID, p link.Purpose, s secret.String) (f link.Found, err error) {
	t.Helper()
	err = d.change(t, tenant, func(tx *tenantdb.Tx) (err error) {
		f, err = d.links.Spend(t.Context(), tx, s, p)
		return err
	})
	return f, err
}

// TestRowsAreNoLinks: who can write into the database, and has no key of the organisation's, makes no link by it.
func TestRowsAreNoLinks(t *testing.T) {
	t.Parallel()
	d := open(t)
	own, victim := [16]byte{1}, [16]byte{2}
	made := d.make(t, link.Recover, own)
	forged := secret.Text("avl_" + strings.Repeat("a", 52))
	must(t, d.change(t, d.tenant, func(tx *tenantdb.Tx) error {
		_, err := tx.Exec(t.Context(), `INSERT INTO avouch.link (tenant_id, link_id, digest, purpose, subject, created_at, expires_at)
			SELECT tenant_id, gen_random_uuid(), sha256($2::bytea), purpose, $3, created_at, expires_at FROM avouch.link WHERE tenant_id = $1`, tx.Tenant(), []byte(forged.Expose()), victim)
		return err
	}))
	if found, err := d.links.Tenant(t.Context(), forged, link.Recover); err != nil || found != d.tenant {
		t.Fatalf("the row is not there: %v", err)
	}
	if _, err := d.spend(t, d.tenant, link.Recover, forged); !problem.Is(err, problem.Denied) {
		t.Errorf("spent: %v", err)
	}
	must(t, d.DB.Read(t.Context(), tenantdb.System(d.tenant, "test"), func(tx *tenantdb.ReadTx) error {
		if _, err := d.links.Look(t.Context(), tx, forged, link.Recover); !problem.Is(err, problem.Denied) {
			t.Errorf("looked at: %v", err)
		}
		return nil
	}))
	if f, err := d.spend(t, d.tenant, link.Recover, made); err != nil || f.Subject != own {
		t.Errorf("one's own: %+v, %v", f, err)
	}
}

func TestOnce(t *testing.T) {
	t.Parallel()
	d := open(t)
	s := d.make(t, link.Join, [16]byte{1})
	if got, err := d.links.Tenant(t.Context(), s, link.Join); err != nil || got != d.tenant {
		t.Fatalf("%v, %v", got, err)
	}
	f, err := d.spend(t, d.tenant, link.Join, s)
	if err != nil || f.Subject != [16]byte{1} || string(f.Data) != "data" {
		t.Fatalf("%+v, %v", f, err)
	}
	if _, err := d.spend(t, d.tenant, link.Join, s); !problem.Is(err, problem.Denied) {
		t.Errorf("spent twice: %v", err)
	}
}

func TestPurpose(t *testing.T) {
	t.Parallel()
	d := open(t)
	s := d.make(t, link.Join, [16]byte{1})
	if _, err := d.links.Tenant(t.Context(), s, link.Recover); !problem.Is(err, problem.Denied) {
		t.Errorf("for another purpose: %v", err)
	}
	if _, err := d.spend(t, d.tenant, link.Recover, s); !problem.Is(err, problem.Denied) {
		t.Errorf("for another purpose: %v", err)
	}
	if _, err := d.spend(t, d.Tenant(t, "Other"), link.Join, s); !problem.Is(err, problem.Denied) {
		t.Errorf("of another organisation: %v", err)
	}
	for _, bad := range []string{"", "avl_", s.Expose() + "a", s.Expose()[:len(s.Expose())-1] + "1", "x" + s.Expose()[1:]} {
		if _, err := d.links.Tenant(t.Context(), secret.Text(bad), link.Join); !problem.Is(err, problem.Denied) {
			t.Errorf("damaged: %v", err)
		}
	}
	if _, err := d.spend(t, d.tenant, link.Join, s); err != nil {
		t.Errorf("the refusals spent it: %v", err)
	}
}

func TestEnd(t *testing.T) {
	t.Parallel()
	d := open(t)
	s := d.make(t, link.Recover, [16]byte{1})
	d.now = d.now.Add(time.Hour)
	if _, err := d.spend(t, d.tenant, link.Recover, s); !problem.Is(err, problem.Denied) {
		t.Errorf("after its end: %v", err)
	}
	later := d.make(t, link.Recover, [16]byte{2})
	must(t, d.change(t, d.tenant, func(tx *tenantdb.Tx) error { return d.links.End(t.Context(), tx, link.Recover, [16]byte{2}) }))
	if _, err := d.spend(t, d.tenant, link.Recover, later); !problem.Is(err, problem.Denied) {
		t.Errorf("ended by us: %v", err)
	}
}

func TestLaterEndsEarlier(t *testing.T) {
	t.Parallel()
	d := open(t)
	first, other, same := d.make(t, link.Recover, [16]byte{1}), d.make(t, link.Recover, [16]byte{2}), d.make(t, link.Address, [16]byte{1})
	second := d.make(t, link.Recover, [16]byte{1})
	if _, err := d.spend(t, d.tenant, link.Recover, first); !problem.Is(err, problem.Denied) {
		t.Errorf("the first works beside the second: %v", err)
	}
	for p, s := range map[link.Purpose]secret.String{link.Recover: second, link.Address: same} {
		if _, err := d.spend(t, d.tenant, p, s); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	if _, err := d.spend(t, d.tenant, link.Recover, other); err != nil {
		t.Errorf("another subject's: %v", err)
	}
}

func TestRace(t *testing.T) {
	t.Parallel()
	d := open(t)
	second := d.Another(t)
	links := []*link.Links{d.links, link.New(second.DB, second.Ring, func() time.Time { return d.now })}
	s := d.make(t, link.Join, [16]byte{1})
	var spent atomic.Int64
	var all sync.WaitGroup
	for i, db := range []*tenantdb.DB{d.DB, second.DB, d.DB, second.DB} {
		all.Go(func() {
			err := db.Change(t.Context(), tenantdb.System(d.tenant, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
				_, err := links[i%2].Spend(t.Context(), tx, s, link.Join)
				return audit.Event{Type: "test.link"}, err
			})
			if err == nil {
				spent.Add(1)
			}
		})
	}
	all.Wait()
	if n := spent.Load(); n != 1 {
		t.Errorf("spent %d times", n)
	}
}

func TestSecretIsNowhere(t *testing.T) {
	t.Parallel()
	d := open(t)
	s := d.make(t, link.Join, [16]byte{1})
	kept := d.Text(t, `SELECT string_agg(l::text, ' ') FROM avouch.link l`)
	if kept == "" || strings.Contains(kept, s.Expose()[4:30]) || strings.Contains(kept, s.Expose()[30:]) {
		t.Error("the database holds the secret, or no link")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
