package postgres

import (
	"strings"
	"testing"
)

// hippo is a request as KeyHippo has it: its own pre-request function, which does not change the role.
func hippo(r request) request {
	r.hook = `"keyhippo"."check_request"`
	return r
}

// hippoUser is a session whose token names a role of KeyHippo's.
func hippoUser(user, role string) request {
	r := session(user)
	r.claims["user_role"] = role
	return hippo(r)
}

// TestKeyHippo asks what the tests of KeyHippo 1.2.5 ask (tests/tests.sql), in its order, of our functions of the same names.
// Two answers differ on purpose: an unscoped key has no permissions and not a list of one null, and the last is in
// TestKeyHippoHoles.
func TestKeyHippo(t *testing.T) {
	t.Parallel()
	onSupabase(t, func(t *testing.T, d *db, users []string) {
		admin := hippoUser(users[0], "admin")
		d.exec("SELECT keyhippo.initialize_keyhippo()") // a second time
		d.gets(admin, `SELECT (SELECT count(*) FROM keyhippo_rbac.groups), (SELECT count(*) FROM keyhippo_rbac.roles), (SELECT count(*) FROM keyhippo_rbac.permissions),
			(SELECT count(*) FROM keyhippo_rbac.role_permissions p JOIN keyhippo_rbac.roles r ON r.id = p.role_id WHERE r.name = 'Admin'),
			(SELECT count(*) FROM keyhippo_rbac.role_permissions p JOIN keyhippo_rbac.roles r ON r.id = p.role_id WHERE r.name = 'User')`, "2|2|6|6|1")
		made := func(arguments string) (key, id string) {
			t.Helper()
			got, err := d.send(d.pool(), admin, "SELECT api_key, api_key_id::text FROM keyhippo.create_api_key("+arguments+")")
			if err != nil {
				t.Fatal(err)
			}
			key, id, _ = strings.Cut(got, "|")
			return key, id
		}
		key, id := made("'Test API Key'")
		d.gets(admin, "SELECT count(*) FROM keyhippo.api_key_metadata WHERE description = 'Test API Key' AND user_id = '"+users[0]+"'", "1")
		d.gets(admin, "SELECT user_id::text, scope_id, permissions FROM keyhippo.verify_api_key('"+key+"')", users[0]+"|NULL|[]")
		d.gets(admin, "SELECT keyhippo.revoke_api_key('"+id+"')", "true")
		d.gets(admin, "SELECT is_revoked FROM keyhippo.api_key_metadata WHERE id = '"+id+"'", "true")
		d.gets(admin, "SELECT keyhippo.revoke_api_key('"+id+"'), keyhippo.revoke_api_key(gen_random_uuid())", "false|false")
		_, id = made("'Rotate Test Key', 'default'")
		got, err := d.send(d.pool(), admin, "SELECT new_api_key, new_api_key_id::text FROM keyhippo.rotate_api_key('"+id+"')")
		if err != nil {
			t.Fatal(err)
		}
		next, nextID, _ := strings.Cut(got, "|")
		if nextID == id || len(next) != 70 {
			t.Errorf("rotated to %s, %s", nextID, next)
		}
		d.gets(admin, "SELECT is_revoked FROM keyhippo.api_key_metadata WHERE id = '"+id+"'", "true")
		d.refuses(admin, "SELECT keyhippo.rotate_api_key('"+id+"')", "42501")
		d.gets(admin, "SELECT keyhippo.update_key_claims('"+nextID+"', '{\"tier\": \"gold\"}')", "")
		d.gets(hippo(withKey(next)).reading(), "SELECT keyhippo.key_data() ->> 'id', keyhippo.key_data() -> 'claims', (SELECT user_id::text FROM keyhippo.current_user_context())", nextID+`|{"tier":"gold"}|`+users[0])
		d.gets(admin, "SELECT keyhippo.authorize('manage_api_keys'), keyhippo.authorize('manage_groups')", "true|true")
		d.gets(hippoUser(users[1], "user"), "SELECT keyhippo.authorize('manage_api_keys'), keyhippo.authorize('manage_groups')", "true|false")
		group, err := d.send(d.pool(), admin, "SELECT keyhippo_rbac.create_group('Test Group', 'A test group')::text")
		if err != nil {
			t.Fatal(err)
		}
		role, err := d.send(d.pool(), admin, "SELECT keyhippo_rbac.create_role('Test Role', 'A test role', '"+group+"', 'user')::text")
		if err != nil {
			t.Fatal(err)
		}
		d.gets(admin, "SELECT keyhippo_rbac.assign_role_to_user('"+users[0]+"', '"+group+"', '"+role+"'), keyhippo_rbac.assign_permission_to_role('"+role+"', 'manage_api_keys')", "|")
		d.gets(admin, "SELECT count(*) FROM keyhippo_rbac.user_group_roles WHERE user_id = '"+users[0]+"' AND group_id = '"+group+"' AND role_id = '"+role+"'", "1")
		d.gets(admin, "SELECT count(*) FROM keyhippo_rbac.role_permissions p JOIN keyhippo_rbac.permissions m ON m.id = p.permission_id WHERE p.role_id = '"+role+"' AND m.name = 'manage_api_keys'", "1")
		d.gets(admin, "SELECT keyhippo.is_authorized('public.note', 'manage_api_keys'), keyhippo.is_authorized('public.note', 'manage_groups')", "true|false")
		d.gets(hippo(request{role: "anon"}), "SELECT count(*), current_user FROM keyhippo.current_user_context()", "0|anon")
		d.refuses(hippo(request{role: "anon"}), "SELECT keyhippo.create_api_key('x')", "42501")
		d.refuses(admin, "SELECT keyhippo.create_api_key('x;')", "22023")
		d.refuses(admin, "SELECT keyhippo.create_api_key('x', 'nowhere')", "22023")
		// A policy of KeyHippo's users, as it was, and a new user's role.
		d.exec("CREATE TABLE public.doc (owner uuid, body text); INSERT INTO doc SELECT id, email FROM auth.users; ALTER TABLE doc ENABLE ROW LEVEL SECURITY; GRANT SELECT ON doc TO anon, authenticated; " +
			"CREATE POLICY either ON doc USING (owner = (SELECT user_id FROM keyhippo.current_user_context()))")
		for _, r := range []request{hippo(withKey(next)), hippo(withKey(next)).reading(), withKey(next), admin, session(users[0])} {
			d.gets(r, "SELECT body FROM doc", "user1@example.com")
		}
		d.gets(hippo(request{role: "anon"}), "SELECT body FROM doc", "")
		d.exec("DELETE FROM avouch_keys.membership; SELECT keyhippo.initialize_existing_project()")
		if got := d.ask("SELECT actor, data ->> 'users' FROM avouch_keys.log WHERE action = 'keyhippo.default_role_given'"); got != "role:postgres|3" {
			t.Errorf("the log says of all users' role: %q", got)
		}
		d.gets(hippo(session(users[1])), "SELECT permissions FROM keyhippo.current_user_context()", `["manage_api_keys"]`)
	})
}

// TestKeyHippoHoles has each thing that KeyHippo 1.2.5 lets through fail.
func TestKeyHippoHoles(t *testing.T) {
	t.Parallel()
	onSupabase(t, func(t *testing.T, d *db, users []string) {
		d.exec("SELECT avouch_keys.define_scope('groups', '{manage_groups}')")
		admin, user := hippoUser(users[0], "admin"), hippoUser(users[1], "user")
		create := func(r request, arguments string) (key, id string) {
			t.Helper()
			got, err := d.send(d.pool(), r, "SELECT api_key, api_key_id::text FROM keyhippo.create_api_key("+arguments+")")
			if err != nil {
				t.Fatal(err)
			}
			key, id, _ = strings.Cut(got, "|")
			return key, id
		}
		scoped, scopedID := create(admin, "'mine', 'default'")
		_, otherID := create(admin, "'other', 'default'")
		theirs, theirID := create(user, "'theirs', 'default'")
		wide, _ := create(user, "'wide', 'groups'")
		publicID := scoped[9:20]
		// The public part of a key was enough for key_data.
		d.refuses(hippo(withKey(forge(t, publicID))), "SELECT keyhippo.key_data()", "PT401")
		// A bad key went on as the session beside it, or as anon.
		beside := admin
		beside.headers = map[string]string{"x-api-key": forge(t, publicID)}
		d.refuses(beside, "SELECT 1", "PT401")
		beside.headers = map[string]string{"x-api-key": theirs}
		d.refuses(beside, "SELECT 1", "PT401")
		// Keys of one scope ended, rotated and rewrote each other, whoever owned them; and a session could not its own.
		for _, id := range []string{scopedID, otherID} {
			d.gets(hippo(withKey(theirs)), "SELECT count(*) FROM keyhippo.current_user_context()", "1")
			d.refuses(hippo(withKey(theirs)), "SELECT keyhippo.update_key_claims('"+id+"', '{}')", "42501")
			d.refuses(hippo(withKey(theirs)), "SELECT keyhippo.revoke_api_key('"+id+"')", "42501")
		}
		d.refuses(hippo(withKey(theirs)), "SELECT keyhippo.update_key_claims('"+theirID+"', '{\"admin\": true}')", "42501")
		d.refuses(hippo(withKey(theirs)), "SELECT keyhippo.create_api_key('broader', 'groups')", "42501")
		d.refuses(hippo(withKey(theirs)), "SELECT keyhippo.create_api_key('broader')", "42501")
		d.gets(user, "SELECT keyhippo.revoke_api_key('"+scopedID+"')", "false")
		d.gets(admin, "SELECT keyhippo.revoke_api_key('"+scopedID+"')", "true")
		// A scope gave its user what he had not.
		d.gets(hippo(withKey(wide)), "SELECT permissions, keyhippo.authorize('manage_groups') FROM keyhippo.current_user_context()", "[]|false")
		d.refuses(hippo(withKey(wide)), "SELECT keyhippo_rbac.create_group('x', '')", "42501")
		// Every user with manage_api_keys, which all have, read and changed everybody's keys.
		d.gets(user, "SELECT string_agg(description, ' ' ORDER BY description) FROM keyhippo.api_key_metadata", "theirs wide")
		d.refuses(user, "UPDATE keyhippo.api_key_metadata SET claims = '{\"admin\": true}'", "55000")
		d.refuses(user, "DELETE FROM keyhippo.api_key_metadata", "55000")
		d.refuses(user, "INSERT INTO keyhippo.scopes (name) VALUES ('x')", "42501")
		// The log was everybody's.
		for _, sql := range []string{"SELECT FROM avouch_keys.log", "DELETE FROM avouch_keys.log", "SELECT FROM avouch_keys.verifier", "SELECT FROM avouch_keys.pepper"} {
			d.refuses(user, sql, "42501")
			d.refuses(admin, sql, "42501")
		}
		// A role of the type user, of whatever group, gave its permissions to all whose token says user.
		d.exec("SELECT avouch_keys.define_role(avouch_keys.define_group('Billing'), 'Chief', '{manage_groups}', kind => 'user')")
		d.gets(user, "SELECT keyhippo.authorize('manage_groups')", "false")
		// It called home.
		if got := d.ask("SELECT count(*) FROM pg_proc WHERE pronamespace IN (SELECT oid FROM pg_namespace WHERE nspname LIKE 'keyhippo%' OR nspname = 'avouch_keys') AND prosrc ~ 'http|net\\.'"); got != "0" {
			t.Errorf("%s functions know of HTTP", got)
		}
		// Deleting a log's rows, or a user, left keys as they were or took all trace of them.
		d.exec("DELETE FROM auth.users WHERE id = '" + users[1] + "'")
		d.refuses(hippo(withKey(theirs)), "SELECT 1", "PT401")
	})
}

// TestImpersonation: an administrator is a user until the transaction ends, whatever ends it, and nobody after him.
func TestImpersonation(t *testing.T) {
	t.Parallel()
	onSupabase(t, func(t *testing.T, d *db, users []string) {
		conn := d.connect("postgres")
		const who = "SELECT current_user, coalesce(nullif(avouch_keys.current_user_id(), ''), 'nobody'), (SELECT count(*) FROM keyhippo.current_user_context())"
		login := "CALL keyhippo_impersonation.login_as_user('" + users[0] + "')"
		step := func(sql, want string) {
			t.Helper()
			if got, err := answer(t.Context(), conn, sql); err != nil || got != want {
				t.Errorf("%s: %q, %v; want %q", sql, got, err, want)
			}
		}
		nobody := "postgres|nobody|0"
		for _, end := range []string{"COMMIT", "ROLLBACK"} {
			step("BEGIN", "")
			step(login, "")
			step(who, "authenticated|"+users[0]+"|1")
			step(end, "")
			step(who, nobody)
		}
		step(login, "") // alone: it ends with its statement
		step(who, nobody)
		step("BEGIN", "")
		step(login, "")
		step("CALL keyhippo_impersonation.logout()", "")
		step(who, nobody)
		step("CALL keyhippo_impersonation.login_as_anon()", "")
		step("SELECT current_user, avouch_keys.current_user_id(), current_setting('request.jwt.claims')", `anon|NULL|{"role": "anon"}`)
		step("COMMIT", "")
		step(who, nobody)
		if _, err := answer(t.Context(), conn, "CALL keyhippo_impersonation.login_as_user(gen_random_uuid())"); err == nil || !strings.Contains(err.Error(), "does not exist") {
			t.Errorf("a user that there is not: %v", err)
		}
		// A key of an administrator's own is no administrator, and is not left to whom he becomes.
		key, _ := d.makeKey(users[1], "'mine'")
		step("BEGIN", "")
		step("SELECT count(set_config('avouch_keys.proof', proof, true)) FROM avouch_keys.open_key('"+key+"')", "1")
		if _, err := answer(t.Context(), conn, login); code(err) != "42501" {
			t.Errorf("with a key's proof: %v", err)
		}
		step("ROLLBACK", "")
		// Nobody else is him meanwhile, and a user who says that he is an impersonator goes nowhere.
		step("BEGIN", "")
		step(login, "")
		d.gets(hippo(request{role: "anon"}), "SELECT count(*) FROM keyhippo.current_user_context()", "0")
		step("COMMIT", "")
		for _, back := range []string{"postgres", "avouch_keys_owner"} {
			_, err := d.send(d.pool(), session(users[1]), "SELECT set_config('session.impersonator', '"+back+"', true)", "CALL keyhippo_impersonation.logout()")
			if code(err) != "42501" {
				t.Errorf("logging out as %s: %v", back, err)
			}
		}
	})
}
