package postgres

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestRevokeWhileVerifying: once a revocation was acknowledged, no request that begins then is let in.
func TestRevokeWhileVerifying(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		for range 3 {
			key, id := d.makeKey("u1", "'mine'")
			var revoked atomic.Bool
			var wg sync.WaitGroup
			for i := range 4 {
				conn := d.pool()
				wg.Go(func() {
					r := withKey(key)
					r.get = i%2 == 0
					for {
						late := revoked.Load()
						_, err := d.send(conn, r, notes)
						if late {
							if code(err) != "PT401" {
								t.Errorf("after the revocation: %v", err)
							}
							return
						}
					}
				})
			}
			time.Sleep(30 * time.Millisecond)
			d.gets(session("u1"), "SELECT avouch_keys.revoke_key('"+id+"')", "true")
			revoked.Store(true)
			wg.Wait()
		}
	})
}

// TestRevokeWaitsForNobody: a thief keeps a request open that has written when the key was used; its owner revokes it
// nevertheless, and what the request does then is refused.
func TestRevokeWaitsForNobody(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		key, id := d.makeKey("u1", "'mine', 'reader'")
		d.exec("SELECT avouch_keys.rotate_pepper()")
		tx, err := withKey(key).begin(t.Context(), d.pool())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		owner := d.pool()
		second, err := withKey(key).begin(ctx, d.pool()) // nor does another request of the key wait
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		mine, err := session("u1").begin(ctx, owner)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := answer(ctx, mine, "SELECT avouch_keys.revoke_key('"+id+"')"); err != nil || got != "true" {
			t.Fatalf("the owner waits for the thief: %q, %v", got, err)
		}
		if err := mine.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		if got, err := answer(ctx, tx, "SELECT avouch_keys.create_key('x', 'reader')"); code(err) != "PT401" {
			t.Errorf("the open request makes a key after the revocation: %q, %v", got, err)
		}
		if err := tx.Rollback(ctx); err != nil {
			t.Error(err)
		}
		d.refuses(withKey(key), notes, "PT401")
		d.exec("SELECT avouch_keys.expiring_keys()")
		if got := d.ask("SELECT count(*) FROM avouch_keys.verifier WHERE key_id = $1", id); got != "0" {
			t.Errorf("%s verifiers of a revoked key are left", got)
		}
	})
}

func TestMostKeys(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		d.exec("SELECT avouch_keys.configure(most_keys => 5)")
		made := d.atOnce(16, "SELECT avouch_keys.create_key('x')", "PT409")
		if got := d.ask("SELECT count(*) FROM avouch_keys.api_key"); made != 5 || got != "5" {
			t.Errorf("%d keys were made, and there are %s", made, got)
		}
		// One more only for one that ends; a rotation is none more.
		id := d.ask("SELECT key_id FROM avouch_keys.api_key LIMIT 1")
		d.gets(session("u1"), "SELECT count(*) FROM avouch_keys.rotate_key('"+id+"', '1 day')", "1")
		d.refuses(session("u1"), "SELECT avouch_keys.create_key('x')", "PT409")
		d.gets(session("u1"), "SELECT avouch_keys.revoke_key((SELECT key_id FROM avouch_keys.list_my_keys() WHERE status = 'active' AND replaces IS NULL AND key_id <> '"+id+"' LIMIT 1))", "true")
		if made := d.atOnce(8, "SELECT avouch_keys.create_key('x')", "PT409"); made != 1 {
			t.Errorf("%d keys were made in the place of one", made)
		}
		// Who ends the new key of a rotation has the old one again, and that counts.
		d.gets(session("u1"), "SELECT avouch_keys.revoke_key((SELECT key_id FROM avouch_keys.list_my_keys() WHERE replaces = '"+id+"'))", "true")
		d.refuses(session("u1"), "SELECT avouch_keys.create_key('x')", "PT409")
		d.gets(session("u2"), "SELECT count(*) FROM avouch_keys.create_key('x')", "1")
		if got := d.ask("SELECT count(*) FROM avouch_keys.check_log()"); got != "0" {
			t.Error("the log does not hold after changes made at once")
		}
	})
}

// atOnce sends u1's request on many connections at the same time, and counts those that did it; the others fail as told.
func (d *db) atOnce(n int, sql, sqlstate string) int64 {
	d.t.Helper()
	conns := make([]*pgx.Conn, n)
	for i := range conns {
		conns[i] = d.pool()
	}
	var done atomic.Int64
	var wg sync.WaitGroup
	for _, conn := range conns {
		wg.Go(func() {
			_, err := d.send(conn, session("u1"), sql)
			switch {
			case err == nil:
				done.Add(1)
			case code(err) != sqlstate:
				d.t.Errorf("%s: %v", sql, err)
			}
		})
	}
	wg.Wait()
	return done.Load()
}

func TestMistyped(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		key, _ := d.makeKey("u1", "'mine'")
		conn := d.connect("postgres")
		reads := func() string {
			got, err := answer(t.Context(), conn, "SELECT sum(pg_stat_get_xact_tuples_returned(c.oid) + pg_stat_get_xact_tuples_fetched(c.oid) + pg_stat_get_xact_numscans(c.oid)) FROM pg_class c WHERE relnamespace = 'avouch_keys'::regnamespace")
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		look := func(presented string) (changed bool) {
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(t.Context()) }() // it only read
			before := reads()
			if _, err := answer(t.Context(), tx, "SELECT avouch_keys.verify_key($1)", presented); err != nil {
				t.Fatal(err)
			}
			return reads() != before
		}
		if !look(key) {
			t.Fatal("no look-up is seen for a key: the test tests nothing")
		}
		for i := range key {
			for _, c := range "0aZ" {
				if bad := key[:i] + string(c) + key[i+1:]; bad != key && look(bad) {
					t.Fatalf("character %d as %q costs a look-up", i, c)
				}
			}
		}
	})
}

func TestExpiryNotices(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		d.makeKey("u1", "'ninety'")
		d.makeKey("u1", "'ten', NULL, now() + interval '10 days'")
		d.makeKey("u1", "'ever', never_expires => true")
		_, rotated := d.makeKey("u1", "'rotated', NULL, now() + interval '40 days'")
		d.gets(session("u1"), "SELECT count(*) FROM avouch_keys.rotate_key('"+rotated+"', '20 days')", "1")
		listener := d.connect("postgres")
		if _, err := listener.Exec(t.Context(), "LISTEN avouch_keys"); err != nil {
			t.Fatal(err)
		}
		at := func(days int) string {
			return d.ask("SELECT string_agg(name || ':' || days, ' ' ORDER BY name) FROM avouch_keys.expiring_keys(now() + make_interval(days => $1, mins => 1))", days)
		}
		for _, step := range []struct {
			day  int
			want string
		}{{0, "NULL"}, {2, "NULL"}, {3, "ten:7"}, {3, "NULL"}, {9, "ten:1"}, {9, "NULL"}, {10, "rotated:30"}, {12, "NULL"}, {61, "ninety:30"}, {84, "ninety:7"}, {89, "ninety:1"}, {89, "NULL"}, {91, "NULL"}} {
			if got := at(step.day); got != step.want {
				t.Errorf("day %d: %s, want %s", step.day, got, step.want)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		n, err := listener.WaitForNotification(ctx)
		if err != nil || n.Channel != "avouch_keys" || n.Payload != "" { // any role may listen
			t.Errorf("the first notification is %+v, %v", n, err)
		}
	})
}

func TestPepperRotation(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		used, usedID := d.makeKey("u1", "'used'")
		idle, idleID := d.makeKey("u1", "'idle'")
		if got := d.ask("SELECT avouch_keys.rotate_pepper()"); got != "2" {
			t.Fatalf("pepper %s", got)
		}
		d.gets(withKey(used).reading(), notes, "one")
		// Whoever has the old pepper makes no proof with it, but in transactions from before.
		for _, retired := range []struct{ before, sqlstate string }{{"0", ""}, {"2 minutes", "42501"}} {
			d.exec("UPDATE avouch_keys.pepper SET retired_at = retired_at - interval '" + retired.before + "' WHERE version = 1")
			tx, err := session("u1").begin(t.Context(), d.pool())
			if err != nil {
				t.Fatal(err)
			}
			at, err := answer(t.Context(), tx, "SELECT pg_backend_pid() || ' ' || (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint")
			if err != nil {
				t.Fatal(err)
			}
			proof := d.ask("SELECT $1 || '.1.' || encode(substr(sha512(substr(blocks, 385, 128) || sha512(substr(blocks, 257, 128) || convert_to('avouch_keys/proof/v1 ' || $1 || ' ' || $2, 'UTF8'))), 1, 32), 'hex') FROM avouch_keys.pepper WHERE version = 1", idleID, at)
			if _, err := answer(t.Context(), tx, "SELECT set_config('avouch_keys.proof', '"+proof+"', true)"); err != nil {
				t.Fatal(err)
			}
			if got, err := answer(t.Context(), tx, "SELECT avouch_keys.current_api_key() ->> 'key_id'"); code(err) != retired.sqlstate {
				t.Errorf("a proof with a pepper that was retired %s before: %s, %v", retired.before, got, err)
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if got := d.ask("SELECT count(*) FROM avouch_keys.keys_with_old_pepper()"); got != "2" {
			t.Errorf("%s keys have the old pepper before any was used to write", got)
		}
		d.gets(withKey(used), notes, "one")
		d.gets(withKey(used), notes, "one")
		if got := d.ask("SELECT key_id FROM avouch_keys.keys_with_old_pepper()"); got != idleID {
			t.Errorf("the old pepper is that of %s, want %s and not %s", got, idleID, usedID)
		}
		d.gets(withKey(idle).reading(), notes, "one")
		if _, err := answer(t.Context(), d.admin, "SELECT avouch_keys.drop_pepper(2)"); code(err) != "PT409" {
			t.Errorf("the pepper in use is dropped: %v", err)
		}
		if got := d.ask("SELECT avouch_keys.drop_pepper(1)"); got != "1" {
			t.Errorf("%s keys were dropped", got)
		}
		d.refuses(withKey(idle), notes, "PT401")
		d.gets(withKey(used), notes, "one")
	})
}

// TestPepperElsewhere keeps peppers in a file of the server's, and in what stands for Supabase's vault here.
func TestPepperElsewhere(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		key, _ := d.makeKey("u1", "'mine', 'reader'")
		d.exec(`CREATE SCHEMA vault; CREATE TABLE vault.decrypted_secrets (name text, decrypted_secret text);
			GRANT USAGE ON SCHEMA vault TO avouch_keys_owner; GRANT SELECT ON vault.decrypted_secrets TO avouch_keys_owner;`)
		if _, err := answer(t.Context(), d.admin, "SELECT avouch_keys.rotate_pepper('vault')"); code(err) != "F0000" {
			t.Errorf("a pepper that is not there: %v", err)
		}
		d.exec("INSERT INTO vault.decrypted_secrets SELECT 'avouch_keys_pepper_2', encode(avouch_keys.new_pepper(), 'hex')")
		if got := d.ask("SELECT avouch_keys.rotate_pepper('vault')") + d.ask("SELECT blocks IS NULL FROM avouch_keys.pepper WHERE version = 2"); got != "2true" {
			t.Fatal(got)
		}
		d.gets(withKey(key), notes, "one")
		if got := d.ask("SELECT avouch_keys.drop_pepper(1)"); got != "0" {
			t.Errorf("%s keys still had the first pepper", got)
		}
		d.gets(withKey(key).reading(), "SELECT avouch_keys.has_permission('read_notes')", "true")
		d.exec("GRANT EXECUTE ON FUNCTION pg_read_file(text) TO avouch_keys_owner")
		file := d.ask("SELECT format('%s/avouch_keys_pepper_%s_3', current_setting('data_directory'), id) FROM avouch_keys.installation") // another database may have a third one too
		d.exec("COPY (SELECT encode(avouch_keys.new_pepper(), 'hex')) TO '" + file + "'")
		if got := d.ask("SELECT avouch_keys.rotate_pepper('file')"); got != "3" {
			t.Fatal(got)
		}
		d.exec("UPDATE avouch_keys.verifier SET last_used_at = last_used_at - interval '2 minutes'")
		d.gets(withKey(key), notes, "one")
		d.exec("DELETE FROM vault.decrypted_secrets; SELECT avouch_keys.drop_pepper(2)")
		d.gets(withKey(key).reading(), notes, "one")
		d.exec("COPY (SELECT '') TO '" + file + "'")
		d.refuses(withKey(key), notes, "F0000")
	})
}
