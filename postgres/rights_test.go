package postgres

import (
	"strings"
	"testing"
)

func TestForgery(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		key, id := d.makeKey("u1", "'mine', 'reader', claims => '{\"tier\": \"gold\"}'")
		d.gets(withKey(key), "SELECT body FROM tiered", "gold")
		d.gets(session("u1"), "SELECT body FROM tiered", "")
		// The public id with a secret of one's own, and the settings that a request with the key has.
		d.refuses(withKey(forge(t, id)), "SELECT body FROM tiered", "PT401")
		proof, err := d.send(d.pool(), withKey(key), "SELECT current_setting('avouch_keys.proof')")
		if err != nil {
			t.Fatal(err)
		}
		for _, forged := range []string{proof, id, id + ".1." + strings.Repeat("0", 64), id + ".9." + strings.Repeat("0", 64), "x"} {
			got, err := d.send(d.pool(), session("u1"), "SELECT set_config('avouch_keys.proof', '"+forged+"', true)", "SELECT body FROM tiered")
			if code(err) != "42501" {
				t.Errorf("a forged proof %.20s: %q, %v", forged, got, err)
			}
		}
		// Who chooses sub is that user, and may do with his keys what he may; the key itself he has not.
		d.gets(session("u1"), "SELECT name, claims FROM avouch_keys.list_my_keys()", `mine|{"tier":"gold"}`)
		got, err := d.send(d.pool(), session("u1"), "SELECT key FROM avouch_keys.rotate_key('"+id+"', '30 days')")
		if err != nil {
			t.Fatal(err)
		}
		d.gets(withKey(got), "SELECT body FROM tiered", "gold")
		d.gets(withKey(key), "SELECT body FROM tiered", "gold")
		d.refuses(session("u1"), "SELECT digest FROM avouch_keys.verifier", "42501")
		d.refuses(session("u1"), "SELECT avouch_keys.define_permission('x')", "42501")
		claims := session("u1")
		claims.claims["avouch_key"] = map[string]any{"key_id": id, "claims": map[string]any{"tier": "gold"}}
		d.gets(claims, "SELECT body FROM tiered", "")
		d.gets(claims, "SELECT avouch_keys.current_api_key()", "NULL")
		// Nothing is left for who has the connection next.
		conn := d.pool()
		if got, err := d.send(conn, withKey(key), "SELECT body FROM tiered"); err != nil || got != "gold" {
			t.Fatal(got, err)
		}
		if got, err := d.send(conn, session("u2"), "SELECT avouch_keys.current_api_key()"); err != nil || got != "NULL" {
			t.Errorf("the next request has the key %s, %v", got, err)
		}
		if got, err := answer(t.Context(), conn, "SELECT current_user, current_setting('request.jwt.claims', true)"); err != nil || got != "authenticator|" {
			t.Errorf("the connection is left as %q, %v", got, err)
		}
	})
}

func TestNarrowKeys(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		_, other := d.makeKey("u1", "'other'")
		writer, _ := d.makeKey("u1", "'w', 'writer'")
		key, id := d.makeKey("u1", "'mine', 'reader', now() + interval '10 days', claims => '{\"tier\": \"iron\"}'")
		unscoped, _ := d.makeKey("u1", "'bare'")
		for _, sql := range []string{
			"SELECT avouch_keys.create_key('x', 'writer')", "SELECT avouch_keys.create_key('x')",
			"SELECT avouch_keys.create_key('x', 'reader', claims => '{\"tier\": \"gold\"}')",
			"SELECT avouch_keys.update_key('" + id + "', claims => '{\"tier\": \"gold\"}')", "SELECT avouch_keys.update_key('" + id + "', name => 'x')",
			"SELECT avouch_keys.update_key('" + other + "', name => 'x')",
			"SELECT avouch_keys.revoke_key('" + other + "')", "SELECT avouch_keys.rotate_key('" + other + "')",
			"SELECT avouch_keys.define_scope('reader', '{read_notes,write_notes}')", "SELECT avouch_keys.define_permission('x')",
			"SELECT avouch_keys.give_role('u1', gen_random_uuid())", "SELECT avouch_keys.undefine('scope', 'reader')",
			"SELECT * FROM avouch_keys.log", "DELETE FROM avouch_keys.log", "SELECT avouch_keys.check_log()", "SELECT * FROM avouch_keys.api_key",
			"SELECT avouch_keys.rotate_pepper()", "SELECT avouch_keys.configure(most_keys => 1000)", "SELECT avouch_keys.admit('authenticated', 'admin')",
		} {
			d.refuses(withKey(key), sql, "42501")
		}
		d.refuses(withKey(unscoped), "SELECT avouch_keys.create_key('x', 'reader')", "42501")
		d.gets(withKey(unscoped), "SELECT avouch_keys.current_permissions(), avouch_keys.current_api_key() -> 'permissions', avouch_keys.has_permission('read_notes')", "[]|[]|false")
		if got := d.ask("SELECT avouch_keys.verify_key($1) -> 'permissions'", unscoped); got != "[]" {
			t.Errorf("an unscoped key has the permissions %s", got)
		}
		// What it may: less, and not for longer.
		d.gets(withKey(writer), "SELECT key_id IS NOT NULL FROM avouch_keys.create_key('child', 'reader', never_expires => true)", "true")
		d.gets(withKey(key), "SELECT key_id IS NOT NULL FROM avouch_keys.create_key('child', 'reader', never_expires => true)", "true")
		if got := d.ask("SELECT c.expires_at = p.expires_at, c.claims = p.claims, c.life = p.life FROM avouch_keys.api_key c JOIN avouch_keys.api_key p ON p.key_id = c.made_by WHERE p.key_id = $1", id); got != "true|true|true" {
			t.Errorf("the child ends, claims and lives as its parent: %s", got)
		}
		d.gets(withKey(key), "SELECT name FROM avouch_keys.list_my_keys()", "mine")
		// Rotating itself gains it no time.
		d.gets(withKey(key), "SELECT new_key_id IS NOT NULL FROM avouch_keys.rotate_key('"+id+"')", "true")
		if got := d.ask("SELECT max(expires_at) < now() + interval '11 days' FROM avouch_keys.api_key WHERE replaces = $1", id); got != "true" {
			t.Errorf("a key that rotated itself lives on: %s", got)
		}
		d.refuses(withKey(key), notes, "PT401")
		// Live keys are no children of test keys, and what a scope without permissions means is not compared.
		test, _ := d.makeKey("u1", "'t', test => true")
		d.gets(withKey(test), "SELECT left(key, 9) FROM avouch_keys.create_key('child', test => false)", "avd_test_")
		d.exec("SELECT avouch_keys.define_scope('nothing', '{}'), avouch_keys.define_scope('export', '{}')")
		nothing, _ := d.makeKey("u1", "'n', 'nothing'")
		d.gets(withKey(nothing), "SELECT count(*) FROM avouch_keys.create_key('child', 'nothing')", "1")
		d.refuses(withKey(nothing), "SELECT avouch_keys.create_key('x', 'export')", "42501")
		d.refuses(withKey(writer), "SELECT avouch_keys.create_key('x', 'export')", "42501")
		// A scope names more than its owner has: he does not have it by that.
		d.exec("SELECT avouch_keys.give_role('u3', avouch_keys.define_role(avouch_keys.define_group('staff'), 'r', '{read_notes}'))")
		wide, _ := d.makeKey("u3", "'w', 'writer'")
		d.gets(withKey(wide), "SELECT avouch_keys.current_permissions()", `["read_notes"]`)
	})
}

func TestOwner(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		key, id := d.makeKey("u1", "'mine', 'reader'")
		for _, sql := range []string{"revoke_key('" + id + "')", "rotate_key('" + id + "')", "update_key('" + id + "', name => 'x')"} {
			d.refuses(session("u2"), "SELECT avouch_keys."+sql, "PT404")
		}
		d.gets(session("u1"), "SELECT avouch_keys.update_key('"+id+"', 'renamed', '{\"a\": 1}')", "")
		d.gets(withKey(key), "SELECT avouch_keys.current_api_key() ->> 'name', avouch_keys.current_key_claims()", `renamed|{"a":1}`)
		got, err := d.send(d.pool(), session("u1"), "SELECT * FROM avouch_keys.rotate_key('"+id+"', '1 day')")
		if err != nil {
			t.Fatal(err)
		}
		next, nextID, _ := strings.Cut(got, "|")
		for _, k := range []string{key, next} {
			d.gets(withKey(k), "SELECT avouch_keys.current_permissions(), avouch_keys.current_key_claims()", `["read_notes"]|{"a":1}`)
		}
		d.refuses(session("u1"), "SELECT avouch_keys.rotate_key('"+id+"')", "PT409")
		d.refuses(session("u1"), "SELECT avouch_keys.rotate_key('"+nextID+"', '31 days')", "22023")
		// Rotated again, there are two generations, not three.
		d.gets(session("u1"), "SELECT count(*) FROM avouch_keys.rotate_key('"+nextID+"', '30 days')", "1")
		d.refuses(withKey(key), notes, "PT401")
		d.gets(withKey(next), notes, "one")
		d.gets(session("u1"), "SELECT avouch_keys.revoke_key('"+nextID+"')", "true")
		d.gets(session("u1"), "SELECT avouch_keys.revoke_key('"+nextID+"')", "false")
		d.refuses(withKey(next), notes, "PT401")
		d.gets(session("u1"), "SELECT string_agg(status, ' ' ORDER BY created_at) FROM avouch_keys.list_my_keys()", "revoked revoked active")
		for arguments, sqlstate := range map[string]string{
			"NULL": "22023", "'x', 'nowhere'": "22023", "'x', NULL, now() - interval '1 second'": "22023", "'x', NULL, now() + interval '1 day', true": "22023",
			"'x', NULL, 'infinity'": "22023", "'x', claims => '[]'": "23514", "repeat('x', 256)": "22023",
		} {
			d.refuses(session("u1"), "SELECT avouch_keys.create_key("+arguments+")", sqlstate)
		}
		d.refuses(request{role: "authenticated"}, "SELECT avouch_keys.create_key('x')", "PT401")
		d.exec("SELECT avouch_keys.configure(claims_by => 'admin')")
		d.refuses(session("u1"), "SELECT avouch_keys.create_key('x', claims => '{\"tier\": \"gold\"}')", "42501")
		d.refuses(session("u1"), "SELECT avouch_keys.update_key((SELECT key_id FROM avouch_keys.list_my_keys() LIMIT 1), claims => '{}')", "42501")
	})
}

func TestDescendants(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		key, id := d.makeKey("u1", "'mine', 'writer'")
		got, err := d.send(d.pool(), withKey(key), "SELECT * FROM avouch_keys.create_key('child', 'reader')")
		if err != nil {
			t.Fatal(err)
		}
		child, _, _ := strings.Cut(got, "|")
		if got, err = d.send(d.pool(), withKey(child), "SELECT * FROM avouch_keys.create_key('grandchild', 'reader')"); err != nil {
			t.Fatal(err)
		}
		grandchild, grandID, _ := strings.Cut(got, "|")
		d.gets(session("u1"), "SELECT avouch_keys.revoke_key('"+id+"', only_this => true)", "true")
		d.refuses(withKey(key), notes, "PT401")
		d.gets(withKey(grandchild), notes, "one")
		d.gets(session("u1"), "SELECT avouch_keys.revoke_key('"+id+"', only_this => NULL)", "true")
		d.refuses(withKey(child), notes, "PT401")
		d.refuses(withKey(grandchild), notes, "PT401")
		d.gets(session("u1"), "SELECT avouch_keys.revoke_key('"+grandID+"')", "false")
		// An administrator ends others' keys, and cannot have them anew.
		_, mine := d.makeKey("u2", "'x'")
		if got := d.ask("SELECT avouch_keys.revoke_keys_of('u2'), avouch_keys.revoke_keys_of('u2')"); got != "1|0" {
			t.Errorf("revoke_keys_of: %s", got)
		}
		if _, err := answer(t.Context(), d.admin, "SELECT avouch_keys.rotate_key($1)", mine); code(err) != "PT401" {
			t.Errorf("an administrator rotates another's key: %v", err)
		}
	})
}

// TestRights: what anon, a user without a key and the role of the pool itself cannot do.
func TestRights(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		_, id := d.makeKey("u1", "'mine', 'reader'")
		user, nobody := session("u2"), request{role: "anon"}
		tables := strings.Split(d.ask("SELECT relname FROM pg_class WHERE relnamespace = 'avouch_keys'::regnamespace AND relkind = 'r'"), "\n")
		if len(tables) < 14 {
			t.Fatalf("only the tables %v", tables)
		}
		for _, table := range tables {
			for _, sql := range []string{"SELECT FROM ", "DELETE FROM ", "TRUNCATE "} {
				d.refuses(user, sql+"avouch_keys."+table, "42501")
				d.refuses(nobody, sql+"avouch_keys."+table, "42501")
			}
		}
		for _, call := range []string{
			"avouch_keys.prepared(NULL, 1)", "avouch_keys.stored(NULL, '')", "avouch_keys.used('" + id + "', '')", "avouch_keys.mint(NULL)", "avouch_keys.proof_of('" + id + "', 1)", "avouch_keys.pepper_of(1)", "avouch_keys.log_that('', '', '', '{}')",
			"avouch_keys.session_claims('u1')", "avouch_keys.check_log()", "avouch_keys.expiring_keys()", "avouch_keys.admit('anon', 'admin')", "avouch_keys.revoke_keys_of('u1')",
			"avouch_keys.drop_pepper(1)", "avouch_keys.keys_with_old_pepper()", "avouch_keys.new_pepper()", "avouch_keys.grant_entrances('anon', 'admin')", "avouch_keys.end_keys('{}')",
			"avouch_keys.define_permission('x')", "avouch_keys.define_group('x')", "avouch_keys.take_role('u1', gen_random_uuid())",
			"keyhippo_impersonation.claims_for('u1', 'authenticated')", "keyhippo.initialize_keyhippo()", "keyhippo_rbac.create_group('x', '')",
		} {
			d.refuses(user, "SELECT "+call, "42501")
			d.refuses(nobody, "SELECT "+call, "42501")
		}
		d.refuses(nobody, "SELECT avouch_keys.create_key('x')", "42501")
		d.refuses(user, "CALL keyhippo_impersonation.login_as_user(gen_random_uuid())", "42501")
		d.refuses(user, "CALL keyhippo_impersonation.login_as_anon()", "42501")
		d.refuses(user, "SET LOCAL ROLE avouch_keys_owner", "42501")
		d.gets(user, "SELECT count(*) FROM avouch_keys.list_my_keys()", "0")
		d.gets(nobody, "SELECT avouch_keys.current_user_id(), avouch_keys.current_api_key(), avouch_keys.current_permissions(), avouch_keys.has_permission('read_notes')", "NULL|NULL|[]|false")
		// A user whose role has the permission administers that, and no more.
		d.exec("SELECT avouch_keys.define_permission('manage_scopes'), avouch_keys.give_role('u2', avouch_keys.define_role(avouch_keys.define_group('x'), 'x', '{manage_scopes}'))")
		d.exec("SELECT avouch_keys.define_permission('manage_scopes'); SELECT avouch_keys.give_role('u2', avouch_keys.define_role(avouch_keys.define_group('x'), 'x', '{manage_scopes}'))")
		d.gets(user, "SELECT avouch_keys.define_scope('mine', '{read_notes}') IS NOT NULL", "true")
		d.refuses(user, "SELECT avouch_keys.define_permission('x')", "42501")
		d.gets(request{role: "service_role"}, "SELECT avouch_keys.define_permission('x')", "")
		d.gets(user, "SELECT avouch_keys.undefine('scope', 'mine'), avouch_keys.undefine('scope', 'mine')", "true|false")
		// Who may read and write all tables of the database reads and writes nothing of these.
		for _, table := range []string{"pepper", "verifier", "api_key", "log"} {
			_, err := d.admin.Exec(t.Context(), "BEGIN; CREATE ROLE reads_all; GRANT pg_read_all_data, pg_write_all_data TO reads_all; SET LOCAL ROLE reads_all")
			if got := d.ask("SELECT count(*) FROM avouch_keys." + table); err != nil || got != "0" {
				t.Errorf("%s rows of %s, %v", got, table, err)
			}
			d.exec("ROLLBACK")
		}
		// Everybody's role, and a role that is let in and sent away.
		d.exec("SELECT avouch_keys.give_role('*', avouch_keys.define_role(avouch_keys.define_group('all'), 'all', '{read_notes}'))")
		d.gets(session("u9"), "SELECT avouch_keys.current_permissions()", `["read_notes"]`)
		d.exec("SELECT avouch_keys.admit('authenticated', 'none')")
		d.refuses(user, "SELECT avouch_keys.list_my_keys()", "42501")
		d.exec("SELECT avouch_keys.admit('authenticated', 'visitor')")
		d.refuses(user, "SELECT avouch_keys.list_my_keys()", "42501")
		d.gets(user, "SELECT avouch_keys.current_user_id()", "u2")
	})
}

// TestCatalogue asks the catalogue for what was forgotten.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	each(t, func(_ *testing.T, d *db) { d.nothingForgotten() })
}

func (d *db) nothingForgotten() {
	d.t.Helper()
	const ours = `FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('avouch_keys', 'keyhippo', 'keyhippo_rbac', 'keyhippo_impersonation')`
	if got := d.ask("SELECT count(*) > 70 " + ours); got != "true" {
		d.t.Fatal("the catalogue was not found")
	}
	for what, sql := range map[string]string{
		"open to PUBLIC":            "SELECT p.oid::regprocedure::text " + ours + " AND (p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0))",
		"a definer without a path":  "SELECT p.oid::regprocedure::text " + ours + " AND p.prosecdef AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%')",
		"callable without a path":   "SELECT p.oid::regprocedure::text " + ours + " AND EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee <> p.proowner) AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%')",
		"with a foreign path":       "SELECT p.oid::regprocedure::text " + ours + " AND EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%' AND c NOT IN ('search_path=avouch_keys, pg_temp', 'search_path=pg_catalog, pg_temp'))",
		"of another owner":          "SELECT p.oid::regprocedure::text " + ours + " AND p.proowner <> 'avouch_keys_owner'::regrole AND p.proname NOT IN ('session_claims', 'initialize_existing_project')",
		"a table of another owner":  "SELECT relname FROM pg_class WHERE relnamespace = 'avouch_keys'::regnamespace AND relowner <> 'avouch_keys_owner'::regrole",
		"a table that others have":  "SELECT relname FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'avouch_keys'::regnamespace AND a.grantee <> c.relowner",
		"a view without a barrier":  "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname LIKE 'keyhippo%' AND c.relkind = 'v' AND NOT coalesce(reloptions @> '{security_barrier=true}', false)",
		"an entrance to nothing":    "SELECT thing FROM avouch_keys.entrance e WHERE NOT EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname || '.' || p.proname = e.thing) AND to_regclass(e.thing) IS NULL",
		"an owner that can log in":  "SELECT rolname FROM pg_roles WHERE rolname = 'avouch_keys_owner' AND (rolcanlogin OR rolsuper OR rolbypassrls OR rolcreaterole)",
		"a schema open to everyone": "SELECT nspname FROM pg_namespace n, aclexplode(n.nspacl) a WHERE (nspname LIKE 'keyhippo%' OR nspname = 'avouch_keys') AND a.grantee = 0",
	} {
		if got := d.ask(sql); got != "" {
			d.t.Errorf("%s: %s", what, got)
		}
	}
}
