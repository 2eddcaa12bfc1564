package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/internal/devpg"
)

// planted are functions and an operator that fit some calls better than PostgreSQL's own, where whoever may make them waits
// for a superuser (CVE-2018-1058).
const planted = `
CREATE FUNCTION public.ran() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'planted code ran'; END $$;
CREATE FUNCTION public.pg_has_role(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT public.ran()';
CREATE FUNCTION public.to_regnamespace(varchar) RETURNS regnamespace LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'planted code ran'; END $$;
CREATE FUNCTION public.times(numeric, integer) RETURNS numeric LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'planted code ran'; END $$;
CREATE OPERATOR public.* (LEFTARG = numeric, RIGHTARG = integer, FUNCTION = public.times);
CREATE FUNCTION public.same(oid, regclass) RETURNS boolean LANGUAGE sql AS 'SELECT public.ran()';
CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = public.same);
CREATE SCHEMA auth;
CREATE TABLE auth.real (id uuid, raw_app_meta_data jsonb);
CREATE VIEW auth.users AS SELECT id, raw_app_meta_data FROM auth.real WHERE public.ran();`

// TestPlanted: who installs, checks or uninstalls runs nothing that somebody else put into the database.
func TestPlanted(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s *server) {
		d := s.database(t, "OWNER plain")
		if err := d.connect("plain").PgConn().Exec(t.Context(), planted).Close(); err != nil {
			t.Fatal(err)
		}
		super := d.url(devpg.Superuser)
		for range 2 {
			if err := Install(t.Context(), super, Options{KeyHippo: true}); err != nil {
				t.Fatal(err)
			}
		}
		key, _ := d.makeKey("10000000-0000-4000-8000-000000000001", "'mine'")
		d.gets(withKey(key), "SELECT avouch_keys.current_api_key() ->> 'name'", "mine")
		if r, err := Check(t.Context(), super, Known{}); err != nil || r.Fault != nil {
			t.Errorf("%+v, %v", r, err)
		}
		if err := Uninstall(t.Context(), super, true, nil); err != nil {
			t.Error(err)
		}
	})
}

// TestAdopted: what somebody else has made beforehand under our names is not built upon.
func TestAdopted(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s *server) {
		for _, schema := range []string{"avouch_keys", "keyhippo", "keyhippo_rbac", "keyhippo_impersonation"} {
			d := s.database(t, "")
			d.exec("CREATE SCHEMA " + schema + " AUTHORIZATION plain")
			if err := Install(t.Context(), d.url(devpg.Superuser), Options{KeyHippo: true}); err == nil || !strings.Contains(err.Error(), "is somebody else's") {
				t.Errorf("a foreign schema %s: %v", schema, err)
			}
			if got := d.ask("SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('avouch_keys')"); got != "0" {
				t.Errorf("a foreign schema %s: half of it is installed", schema)
			}
		}
		c := s.private(t).cluster
		for _, may := range []string{"LOGIN", "CREATEROLE", "BYPASSRLS"} {
			if err := run(t.Context(), c.URL(devpg.Superuser, "postgres"), "DROP ROLE IF EXISTS avouch_keys_owner; CREATE ROLE avouch_keys_owner "+may); err != nil {
				t.Fatal(err)
			}
			if err := Install(t.Context(), c.URL(devpg.Superuser, "postgres"), Options{}); err == nil || !strings.Contains(err.Error(), "may do more than own") {
				t.Errorf("an owner with %s: %v", may, err)
			}
		}
	})
}

const opened = `
GRANT USAGE, CREATE ON SCHEMA avouch_keys, keyhippo TO PUBLIC; GRANT EXECUTE ON ALL ROUTINES IN SCHEMA avouch_keys, keyhippo, keyhippo_impersonation TO PUBLIC;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA avouch_keys TO anon; GRANT ALL ON ALL TABLES IN SCHEMA avouch_keys TO authenticated WITH GRANT OPTION;
SET ROLE authenticated; GRANT SELECT ON avouch_keys.pepper TO anon; RESET ROLE;`

// TestOpened: after a dump was restored without privileges, or all was granted to all, nobody is an administrator by that, and
// installing again takes everything back.
func TestOpened(t *testing.T) {
	t.Parallel()
	onSupabase(t, func(t *testing.T, d *db, users []string) {
		d.exec(opened)
		for _, sql := range []string{"avouch_keys.configure(most_keys => 9999)", "avouch_keys.admit('anon', 'admin')", "avouch_keys.revoke_keys_of('u1')", "keyhippo_impersonation.claims_for('u1', 'authenticated')"} {
			d.refuses(request{role: "anon"}, "SELECT "+sql, "42501")
		}
		if err := Install(t.Context(), d.url(devpg.Superuser), Options{KeyHippo: true}); err != nil {
			t.Fatal(err)
		}
		d.nothingForgotten()
		for _, sql := range []string{"avouch_keys.session_claims('" + users[0] + "')", "avouch_keys.pepper_of(1)", "(SELECT blocks FROM avouch_keys.pepper)"} {
			d.refuses(request{role: "anon"}, "SELECT "+sql, "42501")
			d.refuses(session(users[1]), "SELECT "+sql, "42501")
		}
		key, _ := d.makeKey(users[0], "'mine'")
		d.gets(withKey(key), "SELECT avouch_keys.current_user_id()", users[0])
	})
}

// TestDefaultPrivileges: those of whoever installs open nothing.
func TestDefaultPrivileges(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s *server) {
		d := s.database(t, "")
		d.exec(fixture + supabase + "ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO anon, authenticated; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO authenticated; ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO authenticated")
		if err := Install(t.Context(), d.url(devpg.Superuser), Options{KeyHippo: true}); err != nil {
			t.Fatal(err)
		}
		user := d.ask("INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), 'secret@example.com') RETURNING id::text")
		d.refuses(session("u2"), "SELECT avouch_keys.session_claims('"+user+"')", "42501")
		d.refuses(session("u2"), "CREATE FUNCTION avouch_keys.mine() RETURNS text LANGUAGE sql AS 'SELECT 1'", "42501")
		d.nothingForgotten()
	})
}

// TestEndedInTransaction: a proof of a key that has ended since is worth nothing, also where PostgreSQL gives several transactions
// one time, and the user's session does not take the key's place.
func TestEndedInTransaction(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		key, id := d.makeKey("u1", "'mine', 'reader', claims => '{\"tier\": \"gold\"}'")
		d.exec("CREATE TABLE public.step (done text); GRANT ALL ON step TO PUBLIC")
		said := make(chan error, 1)
		conn := d.pool()
		go func() {
			said <- conn.PgConn().Exec(t.Context(), `BEGIN; SET LOCAL ROLE anon; SELECT set_config('my.proof', o.proof, false) FROM avouch_keys.open_key('`+key+`') o; INSERT INTO step VALUES ('opened'); COMMIT;
				DO $$ BEGIN FOR i IN 1..2000 LOOP EXIT WHEN EXISTS (SELECT FROM step WHERE done = 'revoked'); PERFORM pg_sleep(0.01); END LOOP; END $$;
				BEGIN; SELECT set_config('avouch_keys.proof', current_setting('my.proof'), true), set_config('request.jwt.claims', '{"sub": "u1"}', true), set_config('role', 'authenticated', true);
				SELECT body FROM tiered; COMMIT;`).Close()
		}()
		for end := time.Now().Add(20 * time.Second); d.ask("SELECT count(*) FROM step") == "0"; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the key was not opened")
			}
		}
		d.gets(session("u1"), "SELECT avouch_keys.revoke_key('"+id+"')", "true")
		d.exec("INSERT INTO step VALUES ('revoked')")
		if err := <-said; code(err) != "PT401" {
			t.Errorf("a key that was revoked before this transaction: %v", err)
		}
	})
}

// TestRepeatableRead: a key is good in any kind of transaction, also if another one has written down its use since.
func TestRepeatableRead(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		key, _ := d.makeKey("u1", "'mine', 'reader'")
		for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
			d.exec("UPDATE avouch_keys.verifier SET last_used_at = NULL")
			tx, err := d.pool().BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := answer(t.Context(), tx, "SELECT set_config('role', 'anon', true), count(*) FROM pg_class"); err != nil { // its snapshot
				t.Fatal(err)
			}
			d.gets(withKey(key), notes, "one")
			if _, err := answer(t.Context(), tx, "SELECT avouch_keys.authenticate('"+key+"')"); err != nil {
				t.Errorf("%s: %v", level, err)
			}
			if got, err := answer(t.Context(), tx, notes); err != nil || got != "one" {
				t.Errorf("%s: %q, %v", level, got, err)
			}
			if err := tx.Commit(t.Context()); err != nil {
				t.Errorf("%s: %v", level, err)
			}
		}
	})
}

// TestModelChanges: what a key may is told as it is at the time, though it is written down beforehand.
func TestModelChanges(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		key, id := d.makeKey("u1", "'mine', 'writer'")
		conn := d.pool()
		told := func(r request) string {
			got, err := d.send(conn, r, "SELECT avouch_keys.verify_key('"+key+"') - 'uid' - 'expires_at', avouch_keys.current_permissions()")
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		for _, step := range []struct{ sql, permissions, name, scope string }{
			{"SELECT 1", `["read_notes","write_notes"]`, "mine", "writer"},
			{"SELECT avouch_keys.define_role((SELECT group_id FROM avouch_keys.user_group WHERE name = 'staff'), 'writer', '{read_notes}')", `["read_notes"]`, "mine", "writer"},
			{"SELECT avouch_keys.define_scope('writer', '{write_notes}')", `[]`, "mine", "writer"},
			{"SELECT avouch_keys.give_role('*', avouch_keys.define_role(avouch_keys.define_group('all'), 'all', '{write_notes}'))", `["write_notes"]`, "mine", "writer"},
			{"SELECT avouch_keys.define_role((SELECT group_id FROM avouch_keys.user_group WHERE name = 'all'), 'all', '{}')", `[]`, "mine", "writer"},
			{"SELECT avouch_keys.define_role((SELECT group_id FROM avouch_keys.user_group WHERE name = 'all'), 'own', '{write_notes}')", `[]`, "mine", "writer"},
			{"SELECT avouch_keys.give_role('u1', (SELECT role_id FROM avouch_keys.user_role WHERE name = 'own'))", `["write_notes"]`, "mine", "writer"},
			{"SELECT avouch_keys.take_role('u1', (SELECT role_id FROM avouch_keys.user_role WHERE name = 'own'))", `[]`, "mine", "writer"},
			{"SELECT avouch_keys.give_role('*', (SELECT role_id FROM avouch_keys.user_role WHERE name = 'own'))", `["write_notes"]`, "mine", "writer"},
			{"UPDATE avouch_keys.permission SET name = 'edit_notes' WHERE name = 'write_notes'", `["edit_notes"]`, "mine", "writer"},
			{"UPDATE avouch_keys.scope SET name = 'editor' WHERE name = 'writer'", `["edit_notes"]`, "mine", "editor"},
			{"SELECT avouch_keys.undefine('group', 'all')", `[]`, "mine", "editor"},
			{"UPDATE avouch_keys.api_key SET name = 'renamed' WHERE key_id = '" + id + "'", `[]`, "renamed", "editor"},
			{"TRUNCATE avouch_keys.scope_permission; INSERT INTO avouch_keys.scope_permission VALUES ('editor', 'read_notes')", `["read_notes"]`, "renamed", "editor"},
		} {
			d.exec(step.sql)
			want := `{"claims":{},"key_id":"` + id + `","live":true,"name":"` + step.name + `","owner":"u1","permissions":` + step.permissions + `,"scope":"` + step.scope + `"}|` + step.permissions
			for _, r := range []request{withKey(key).reading(), withKey(key), withKey(key), withKey(key).reading()} {
				if got := told(r); got != want {
					t.Errorf("after %s\ngot  %s\nwant %s", step.sql, got, want)
				}
			}
		}
	})
}

// TestLeftProof: what a connection was left with harms nobody, and helps nobody.
func TestLeftProof(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		conn := d.pool()
		if _, err := conn.Exec(t.Context(), "SET avouch_keys.proof = 'x'"); err != nil {
			t.Fatal(err)
		}
		if got, err := d.send(conn, session("u1"), "SELECT avouch_keys.has_permission('read_notes')"); err != nil || got != "true" {
			t.Errorf("%q, %v", got, err)
		}
		if got, err := d.send(conn, hippo(session("u1")), "SELECT keyhippo.authorize('read_notes')"); err != nil || got != "true" {
			t.Errorf("KeyHippo's check: %q, %v", got, err)
		}
		if _, err := answer(t.Context(), d.admin, "SELECT avouch_keys.admit('public', 'user')"); code(err) != "42704" {
			t.Errorf("admitting PUBLIC: %v", err)
		}
	})
}

// TestCallersSettings: how a caller has texts read changes no digest.
func TestCallersSettings(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		conn := d.pool()
		if _, err := conn.Exec(t.Context(), "SET standard_conforming_strings = off; SET backslash_quote = on; SET bytea_output = escape"); err != nil {
			t.Fatal(err)
		}
		got, err := d.send(conn, session("u1"), "SELECT key FROM avouch_keys.create_key('mine')")
		if err != nil {
			t.Fatal(err)
		}
		d.exec("UPDATE avouch_keys.verifier SET inner1 = NULL, outer1 = NULL, inner2 = NULL, outer2 = NULL")
		d.gets(withKey(got), notes, "one")
		if answered, err := d.send(conn, withKey(got), notes); err != nil || answered != "one" {
			t.Errorf("%q, %v", answered, err)
		}
	})
}
