package tenantdb

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/pgtest"
)

// template is the migrated schema that every test's database begins as.
var template = pgtest.Template{Name: "avouch", Hash: SchemaHash(), Build: Migrate}

// plainSealer leaves fields as they are: what seals them for real is the keyring, which stands on this package.
type plainSealer struct{}

func (plainSealer) SealFields(_ context.Context, _ TenantID, _ audit.SubjectID, plain, _ []byte) ([]byte, error) {
	return plain, nil
}

func (plainSealer) OpenFields(_ context.Context, _ TenantID, _ audit.SubjectID, sealed, _ []byte) ([]byte, error) {
	return sealed, nil
}

func open(t testing.TB, url string) *DB {
	t.Helper()
	db, err := Open(t.Context(), Config{URL: url, Sealer: plainSealer{}, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

func fresh(t testing.TB) (*DB, *pgtest.DB) {
	t.Helper()
	pg := pgtest.New(t, template)
	return open(t, pg.URL), pg
}

func renamed(name string) audit.Event {
	return audit.Event{Type: "organisation.renamed", Private: []audit.Field{{Name: "name", Value: name}}, Alters: true}
}

// newTenant makes an organisation, whose creation is the first entry of its log.
func newTenant(t testing.TB, db *DB, name string) Caller {
	t.Helper()
	tenant := NewTenantID()
	c := System(tenant, "test")
	err := db.Create(t.Context(), c, func(tx *Tx) (audit.Event, error) {
		if _, err := tx.Exec(t.Context(), `INSERT INTO avouch.organisation (tenant_id, name, created_at) VALUES ($1, $2, now())`, tenant, name); err != nil {
			return audit.Event{}, err
		}
		_, err := tx.Exec(t.Context(), `INSERT INTO avouch.counter (tenant_id, subject) VALUES ($1, 'verify')`, tenant)
		return audit.Event{Type: "organisation.created", Target: audit.Target{Kind: "organisation", ID: tenant.String()}}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func rename(ctx context.Context, db *DB, c Caller, name string) error {
	return db.Change(ctx, c, func(tx *Tx) (audit.Event, error) {
		_, err := tx.Exec(ctx, `UPDATE avouch.organisation SET name = $1`, name)
		return renamed(name), err
	})
}

func head(t testing.TB, db *DB, c Caller) Head {
	t.Helper()
	h := Head{Tenant: c.Tenant()}
	err := db.Read(t.Context(), c, func(tx *ReadTx) error {
		return tx.QueryRow(t.Context(), headSQL, c.Tenant()).Scan(&h.Log, &h.Epoch)
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func draft(t testing.TB, db *DB, h Head, name string) Draft {
	t.Helper()
	d, err := db.Draft(t.Context(), System(h.Tenant, "test"), h, audit.Event{Type: "test." + name})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// logged is a tenant's log, verified from its first entry to its last, with the head that must fit it.
func logged(t testing.TB, db *DB, c Caller) []audit.Entry {
	t.Helper()
	var entries []audit.Entry
	err := db.Read(t.Context(), c, func(tx *ReadTx) error {
		var size int64
		var chain []byte
		if err := tx.QueryRow(t.Context(), `SELECT size, chain FROM avouch.audit_head`).Scan(&size, &chain); err != nil {
			return err
		}
		rows, err := tx.Query(t.Context(), `SELECT seq, body, leaf, prev FROM avouch.audit_entry ORDER BY seq`)
		if err != nil {
			return err
		}
		defer rows.Close()
		link := audit.Genesis
		for rows.Next() {
			var seq int64
			var body, leaf, prev []byte
			if err := rows.Scan(&seq, &body, &leaf, &prev); err != nil {
				return err
			}
			want := audit.Leaf(body)
			if seq != int64(len(entries)) || string(leaf) != string(want[:]) || string(prev) != string(link[:]) {
				t.Errorf("log of %s: entry %d (at place %d) does not follow", c.Tenant(), seq, len(entries))
			}
			e, err := audit.Decode(body)
			if err != nil {
				t.Errorf("log of %s: entry %d: %v", c.Tenant(), seq, err)
			}
			entries = append(entries, e)
			link = audit.Link(link, want)
		}
		if size != int64(len(entries)) || string(chain) != string(link[:]) {
			t.Errorf("log of %s: head says %d entries, there are %d; or the chain ends elsewhere", c.Tenant(), size, len(entries))
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func count(entries []audit.Entry, kind string) (n int) {
	for _, e := range entries {
		if e.Type == kind {
			n++
		}
	}
	return n
}

func parallel(n int, fn func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { fn(i) })
	}
	wg.Wait()
}
