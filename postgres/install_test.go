package postgres

import (
	"errors"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/devpg"
)

func TestInstallAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		key, _ := d.makeKey("u1", "'mine', 'reader'")
		d.exec("SELECT avouch_keys.configure(most_keys => 7, life => '5 days'), avouch_keys.rotate_pepper(), avouch_keys.admit('anon', 'none')")
		d.exec(`DROP FUNCTION avouch_keys.session_claims(text); SET ROLE avouch_keys_owner;
			CREATE FUNCTION avouch_keys.session_claims(user_id text) RETURNS jsonb LANGUAGE sql STABLE SET search_path = avouch_keys, pg_temp AS $$ SELECT '{"plan": "paid"}'::jsonb $$; RESET ROLE`)
		d.exec(`CREATE OR REPLACE FUNCTION avouch_keys.claimed_permissions() RETURNS text[] LANGUAGE plpgsql STABLE SET search_path = avouch_keys, pg_temp AS $$ BEGIN RETURN '{read_notes}'; END $$;
			DELETE FROM avouch_keys.role_permission WHERE permission = 'manage_roles'`)
		const all = `SELECT (SELECT prosrc FROM pg_proc WHERE proname = 'claimed_permissions'), (SELECT jsonb_agg(r ORDER BY r) FROM avouch_keys.role_permission r), (SELECT to_jsonb(i) FROM avouch_keys.installation i), (SELECT jsonb_agg(k ORDER BY key_id) FROM avouch_keys.api_key k), (SELECT jsonb_agg(v ORDER BY key_id) FROM avouch_keys.verifier v),
			(SELECT jsonb_agg(p ORDER BY version) FROM avouch_keys.pepper p), (SELECT jsonb_agg(a ORDER BY role) FROM avouch_keys.admitted a), (SELECT jsonb_agg(s) FROM avouch_keys.scope_permission s),
			(SELECT jsonb_agg(m) FROM avouch_keys.membership m), (SELECT jsonb_agg(l ORDER BY seq) FROM avouch_keys.log l WHERE action <> 'installation.installed')`
		before := d.ask(all)
		for range 2 {
			if err := Install(t.Context(), d.url("postgres"), Options{KeyHippo: true}); err != nil {
				t.Fatal(err)
			}
		}
		if after := d.ask(all); after != before {
			t.Errorf("before: %s\nafter: %s", before, after)
		}
		d.exec("SELECT avouch_keys.admit('anon', 'visitor')")
		d.gets(withKey(key), "SELECT body, current_setting('request.jwt.claims')::json ->> 'plan' FROM note", "one|paid")
		if r, err := Check(t.Context(), d.url("postgres"), Known{}); err != nil || r.Fault != nil || r.Version != Version {
			t.Errorf("%+v, %v", r, err)
		}
		if got := d.ask("SELECT setting FROM (SELECT unnest(setconfig) AS setting, setdatabase FROM pg_db_role_setting) s JOIN pg_database b ON b.oid = s.setdatabase WHERE datname = current_database()"); got != "pgrst.db_pre_request=avouch_keys.pre_request" {
			t.Errorf("PostgREST is told %q", got)
		}
		d.exec("UPDATE avouch_keys.installation SET version = 99")
		if err := Install(t.Context(), d.url("postgres"), Options{}); err == nil || !strings.Contains(err.Error(), "newer version") {
			t.Errorf("an older file: %v", err)
		}
	})
}

// TestInstallWithoutSuperuser installs as Supabase's role postgres would: one that may create roles and owns the database.
func TestInstallWithoutSuperuser(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s *server) {
		c := s.private(t).cluster
		if err := run(t.Context(), c.URL(devpg.Superuser, "postgres"), "CREATE DATABASE mine OWNER plain"); err != nil {
			t.Fatal(err)
		}
		d := &db{t: t, name: "mine", url: func(role string) string { return c.URL(role, "mine") }}
		d.admin = d.connect("plain")
		if got := d.ask("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"); got != "false" {
			t.Fatal("the test is made as a superuser")
		}
		d.exec(fixture)
		var said []string
		for range 2 {
			if err := Install(t.Context(), d.url("plain"), Options{KeyHippo: true, Notice: func(n string) { said = append(said, n) }}); err != nil {
				t.Fatal(err)
			}
		}
		if len(said) == 0 || !strings.Contains(said[0], "you may not alter the role authenticator") {
			t.Errorf("who may not alter authenticator is told %q", said)
		}
		d.exec(guards)
		key, _ := d.makeKey("u1", "'mine', 'reader'")
		d.gets(withKey(key).reading(), notes, "one")
		d.gets(withKey(key), "SELECT body FROM guarded", "one")
		if r, err := Check(t.Context(), d.url("plain"), Known{}); err != nil || r.Fault != nil {
			t.Errorf("%+v, %v", r, err)
		}
		d.exec("DROP POLICY may ON guarded; DROP POLICY tier ON tiered")
		if err := Uninstall(t.Context(), d.url("plain"), true, nil); err != nil {
			t.Fatal(err)
		}
		if got := d.ask("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'avouch%' AND rolname NOT IN ('avouch_server', 'avouch_owner')"); got != "0" {
			t.Errorf("%s roles are left", got)
		}
	})
}

func TestUninstall(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s *server) {
		c := s.private(t).cluster
		d := &db{t: t, name: "postgres", url: func(role string) string { return c.URL(role, "postgres") }}
		d.admin = d.connect(devpg.Superuser)
		super := d.url(devpg.Superuser)
		const left = `SELECT (SELECT string_agg(nspname, ' ' ORDER BY 1) FROM pg_namespace WHERE nspname !~ '^pg_'), (SELECT string_agg(rolname, ' ' ORDER BY 1) FROM pg_roles), (SELECT count(*) FROM pg_auth_members),
			(SELECT count(*) FROM pg_db_role_setting), (SELECT count(*) FROM pg_default_acl), (SELECT count(*) FROM pg_shdepend), (SELECT count(*) FROM pg_depend), (SELECT count(*) FROM pg_trigger), (SELECT count(*) FROM pg_proc)`
		d.exec(fixture + supabase)
		before := d.ask(left)
		if err := Uninstall(t.Context(), super, true, nil); err == nil || !strings.Contains(err.Error(), "not installed") {
			t.Errorf("nothing to uninstall: %v", err)
		}
		if _, err := Check(t.Context(), super, Known{}); !errors.Is(err, ErrNotInstalled) {
			t.Errorf("nothing to check: %v", err)
		}
		if err := Install(t.Context(), super, Options{KeyHippo: true}); err != nil {
			t.Fatal(err)
		}
		d.exec(guards)
		d.exec("CREATE TABLE public.dated (made_for text DEFAULT avouch_keys.current_user_id()); CREATE VIEW public.mine AS SELECT * FROM keyhippo.api_key_metadata")
		d.exec("CREATE DOMAIN public.perm AS keyhippo.app_permission; CREATE TABLE public.granted (what public.perm); CREATE OPERATOR public.?? (RIGHTARG = text, FUNCTION = avouch_keys.has_permission)")
		if err := Uninstall(t.Context(), super, false, nil); err == nil || !strings.Contains(err.Error(), "and the log goes") {
			t.Errorf("without a word about the log: %v", err)
		}
		for _, built := range []string{"policy may on table public.guarded", "policy tier on table public.tiered", "column made_for of table public.dated", "view public.mine", "type public.perm", "operator public.??(NONE,text)"} {
			if err := Uninstall(t.Context(), super, true, nil); err == nil || !strings.Contains(err.Error(), built) {
				t.Errorf("with %s: %v", built, err)
			}
		}
		d.exec("DROP POLICY may ON guarded; DROP POLICY tier ON tiered; DROP TABLE dated, granted; DROP VIEW mine; DROP DOMAIN perm; DROP OPERATOR public.?? (NONE, text)")
		if err := Uninstall(t.Context(), super, true, nil); err != nil {
			t.Fatal(err)
		}
		if after := d.ask(left); after != before {
			t.Errorf("before: %s\nafter: %s", before, after)
		}
		if err := Install(t.Context(), super, Options{}); err != nil {
			t.Errorf("installing once more: %v", err)
		}
	})
}

// supabase is what Supabase has of users, and what it calls them by.
const supabase = `
CREATE SCHEMA auth;
CREATE TABLE auth.users (id uuid PRIMARY KEY, email text, phone text, raw_app_meta_data jsonb, raw_user_meta_data jsonb, is_anonymous boolean DEFAULT false, banned_until timestamptz, deleted_at timestamptz, encrypted_password text);
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
  SELECT coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid $$;
CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$ SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;
GRANT USAGE ON SCHEMA auth TO anon, authenticated;`

// onSupabase is a database with users, and all installed.
func onSupabase(t *testing.T, test func(t *testing.T, d *db, users []string)) {
	t.Helper()
	onServers(t, func(t *testing.T, s *server) {
		d := s.database(t, "")
		d.exec(fixture + supabase)
		if err := Install(t.Context(), d.url("postgres"), Options{KeyHippo: true}); err != nil {
			t.Fatal(err)
		}
		users := strings.Split(d.ask(`INSERT INTO auth.users SELECT gen_random_uuid(), 'user' || n || '@example.com', NULL, '{"team": 7}', '{"name": "N"}', false, NULL, NULL, 'planted' FROM generate_series(1, 3) n RETURNING id::text`), "\n")
		test(t, d, users)
	})
}

func TestSupabaseUsers(t *testing.T) {
	t.Parallel()
	onSupabase(t, func(t *testing.T, d *db, users []string) {
		d.exec("CREATE TABLE public.doc (owner uuid, body text); INSERT INTO doc SELECT id, email FROM auth.users; ALTER TABLE doc ENABLE ROW LEVEL SECURITY; GRANT SELECT ON doc TO anon, authenticated; " +
			"CREATE POLICY mine ON doc TO authenticated USING (owner = (SELECT auth.uid()) AND (SELECT auth.jwt() ->> 'email') = body)")
		key, _ := d.makeKey(users[0], "'mine'")
		d.gets(withKey(key), "SELECT body, current_setting('request.jwt.claims')::jsonb - 'email' - 'sub' FROM doc", `user1@example.com|{"app_metadata":{"team":7},"aud":"authenticated","is_anonymous":false,"role":"authenticated","user_metadata":{"name":"N"}}`)
		d.exec("UPDATE auth.users SET banned_until = now() + interval '1 hour' WHERE id = '" + users[0] + "'")
		d.refuses(withKey(key), "SELECT body FROM doc", "PT401")
		d.exec("UPDATE auth.users SET banned_until = now() - interval '1 hour' WHERE id = '" + users[0] + "'")
		d.gets(withKey(key), "SELECT body FROM doc", "user1@example.com")
		d.exec("UPDATE auth.users SET deleted_at = now() WHERE id = '" + users[0] + "'")
		d.refuses(withKey(key), "SELECT body FROM doc", "PT401")
		if got := d.ask("SELECT avouch_keys.verify_key($1)", key); got != "NULL" {
			t.Errorf("a deleted user's key verifies as %s", got)
		}
		d.exec("DELETE FROM auth.users WHERE id = '" + users[0] + "'")
		d.refuses(withKey(key), "SELECT body FROM doc", "PT401")
		d.refuses(session(users[1]), "SELECT avouch_keys.session_claims('"+users[2]+"')", "42501")
	})
}
