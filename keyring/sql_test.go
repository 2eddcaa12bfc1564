package keyring

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/pgtest"
	"github.com/avouch-dev/avouch/tenantdb"
)

// platformOn is a database with the platform's tenant, and two servers on it, which seal with a real ring.
func platformOn(t *testing.T) (a, b *tenantdb.DB, r *Ring) {
	t.Helper()
	pg := pgtest.New(t, pgtest.Template{Name: "avouch", Hash: tenantdb.SchemaHash(), Build: tenantdb.Migrate})
	r = ringOn(t, newStoreDir(t), nil)
	if err := r.CreateTenant(t.Context(), tenantdb.Platform); err != nil {
		t.Fatal(err)
	}
	var dbs [2]*tenantdb.DB
	for i := range dbs {
		db, err := tenantdb.Open(t.Context(), tenantdb.Config{URL: pg.URL, Sealer: r, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(db.Close)
		dbs[i] = db
	}
	err := dbs[0].Create(t.Context(), tenantdb.System(tenantdb.Platform, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), `INSERT INTO avouch.organisation (tenant_id, name, created_at) VALUES ($1, 'platform', now())`, tenantdb.Platform)
		return audit.Event{Type: "organisation.created"}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dbs[0], dbs[1], r
}

// logOf is the types of the platform's entries, and how many of each.
func logOf(t *testing.T, db *tenantdb.DB) map[string]int {
	t.Helper()
	n := map[string]int{}
	err := db.Read(t.Context(), tenantdb.System(tenantdb.Platform, "test"), func(tx *tenantdb.ReadTx) error {
		rows, err := tx.Query(t.Context(), `SELECT body FROM avouch.audit_entry ORDER BY seq`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var body []byte
			if err := rows.Scan(&body); err != nil {
				return err
			}
			e, err := audit.Decode(body)
			if err != nil {
				return err
			}
			n[e.Type]++
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSigningTable(t *testing.T) {
	t.Parallel()
	a, b, _ := platformOn(t)
	ctx, system := t.Context(), tenantdb.System(tenantdb.Platform, "signing")
	w := mustWrapper(t, mustPlatform(t, firstPlatformKey), ForSigning)
	servers := []*Signing{NewSigning(NewSigningTable(a, system), w, time.Now), NewSigning(NewSigningTable(b, system), w, time.Now)}
	var done sync.WaitGroup
	for _, s := range servers {
		done.Go(func() {
			if err := s.Rotate(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	keys, err := servers[0].store.Load(ctx)
	if err != nil || len(keys) != 2 {
		t.Fatalf("two first starts at once made %d keys: %v", len(keys), err)
	}
	if string(servers[0].JWKS()) != string(servers[1].JWKS()) {
		t.Error("the servers publish different keys")
	}
	token, err := servers[0].Sign(t.Context(), TypeJWT, claims(&clock{at: time.Now()}, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	kid, input, signature := parts(t, token)
	if err := servers[1].VerifySignature(ctx, kid, input, signature); err != nil {
		t.Error(err)
	}
	operator := tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: tenantdb.Platform, Actor: audit.Actor{Kind: audit.ActorSystem, ID: "operator"}, How: "shell", RequestID: audit.NewRequestID(),
	})
	if err := servers[0].Revoke(ctx, NewSigningTable(a, operator), kid); err != nil {
		t.Fatal(err)
	}
	if err := servers[1].Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if err := servers[1].VerifySignature(ctx, kid, input, signature); !errors.Is(err, ErrRevokedKey) {
		t.Errorf("on the other server: %v", err)
	}
	want := map[string]int{"organisation.created": 1, "signing_key.created": 3, "signing_key.promoted": 1, "signing_key.revoked": 1, "signing_key.destroyed": 1}
	if got := logOf(t, a); !reflect.DeepEqual(got, want) {
		t.Errorf("the log has %v, want %v", got, want)
	}
}

func TestSigningRecordsReadAsWritten(t *testing.T) {
	t.Parallel()
	a, _, _ := platformOn(t)
	table := NewSigningTable(a, tenantdb.System(tenantdb.Platform, "signing"))
	k, err := newSigningKey(t.Context(), mustWrapper(t, mustPlatform(t, firstPlatformKey), ForSigning), agents)
	if err != nil {
		t.Fatal(err)
	}
	k.CreatedAt, k.SignsFrom = stamp(time.Now()), stamp(time.Now().Add(time.Hour))
	for range 3 {
		err := table.Change(t.Context(), func([]SigningKey) (SigningKey, audit.Event, bool) {
			return k, audit.Event{Type: "signing_key.test"}, true
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := table.Load(context.Background())
		if err != nil || len(got) != 1 {
			t.Fatalf("%d records: %v", len(got), err)
		}
		for _, at := range []*time.Time{&got[0].CreatedAt, &got[0].SignsFrom, &got[0].RetiresAt, &got[0].RevokedAt} {
			*at = at.UTC()
		}
		if !reflect.DeepEqual(got[0], k) {
			t.Fatalf("written %+v, read %+v", k, got[0])
		}
		if k.RetiresAt.IsZero() {
			k.RetiresAt = stamp(time.Now().Add(2 * time.Hour))
		} else {
			k.RevokedAt, k.Private = stamp(time.Now()), nil
		}
	}
	err = table.Change(t.Context(), func(keys []SigningKey) (SigningKey, audit.Event, bool) { return k, audit.Event{Type: "x"}, false })
	if n := logOf(t, a); err != nil || n["signing_key.test"] != 3 || n["x"] != 0 {
		t.Errorf("a change that is none: %v, log %v", err, n)
	}
}

// The private fields of real entries are sealed by the ring, and open again with what the database holds.
func TestSealsEntriesOfTheLog(t *testing.T) {
	t.Parallel()
	a, _, r := platformOn(t)
	subject := newSubject(t)
	system := tenantdb.System(tenantdb.Platform, "test")
	fields := []audit.Field{{Name: "name", Value: "Ada Lovelace"}}
	if _, err := a.Record(t.Context(), system, audit.Event{Type: "test.private", Private: fields, Subject: subject}); err != nil {
		t.Fatal(err)
	}
	var id, sealed []byte
	err := a.Read(t.Context(), system, func(tx *tenantdb.ReadTx) error {
		return tx.QueryRow(t.Context(), `SELECT uuid_send(entry_id), sealed FROM avouch.audit_entry WHERE sealed IS NOT NULL`).Scan(&id, &sealed)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.OpenFields(t.Context(), tenantdb.Platform, subject, sealed, id); err != nil {
		t.Errorf("the entry's fields: %v", err)
	}
	if err := r.DestroySubject(t.Context(), tenantdb.Platform, subject); err != nil {
		t.Fatal(err)
	}
	if _, err := r.OpenFields(t.Context(), tenantdb.Platform, subject, sealed, id); !errors.Is(err, ErrDestroyed) {
		t.Errorf("after the erasure: %v", err)
	}
}
