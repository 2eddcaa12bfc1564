package postgres

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/devpg"
)

// tenant is what a role that owns a table, and may manage keys of its own, does to become an administrator: its code runs in the
// superuser's ANALYZE, and in a function of its own that an administrator calls.
const tenant = `
SELECT avouch_keys.admit('plain', 'user');
CREATE SCHEMA tenant AUTHORIZATION plain;
GRANT USAGE ON SCHEMA tenant TO service_role;
SET ROLE plain;
CREATE TABLE tenant.said (at text, what text);
CREATE FUNCTION tenant.tries() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  what text;
BEGIN
  FOREACH what IN ARRAY ARRAY['define_permission(''evil'')', 'define_group(''evil'')', 'take_role(''u1'', gen_random_uuid())', 'undefine(''scope'', ''reader'')', 'revoke_key(''00000000000'')',
    'revoke_keys_of(''u1'')', 'configure(most_keys => 1)', 'define_permission(''evil'', by => ''admin:postgres.1.'' || repeat(''0'', 64))', 'admin_ticket(''postgres'')'] LOOP
    BEGIN
      EXECUTE 'SELECT avouch_keys.' || what;
      INSERT INTO tenant.said VALUES ('done', what);
    EXCEPTION WHEN OTHERS THEN
      INSERT INTO tenant.said VALUES (SQLSTATE, what);
    END;
  END LOOP;
END $$;
CREATE FUNCTION tenant.index(i integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF session_user <> current_user THEN PERFORM tenant.tries(); END IF; RETURN i; END $$;
CREATE TABLE tenant.t (i integer);
CREATE INDEX ON tenant.t (tenant.index(i));
INSERT INTO tenant.t SELECT 1;
CREATE FUNCTION tenant.service() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM tenant.tries(); END $$;
RESET ROLE;`

// TestWhoAdministers: only who is an administrator when a function is called, whoever's session that is.
func TestWhoAdministers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		d.exec(tenant)
		service := request{role: "service_role", claims: map[string]any{"role": "service_role"}}
		for name, run := range map[string]func(){
			"an index":            func() { d.exec("ANALYZE tenant.t") },
			"a function of his":   func() { d.gets(service, "SELECT tenant.service()", "") },
			"the superuser's own": func() { d.exec("SELECT tenant.service()") },
		} {
			d.exec("TRUNCATE tenant.said")
			run()
			if got := d.ask("SELECT string_agg(DISTINCT at, ' ' ORDER BY at), count(*) > 8 FROM tenant.said"); got != "42501 PT401|true" && got != "42501|true" {
				t.Errorf("%s: %s\n%s", name, got, d.ask("SELECT at, what FROM tenant.said"))
			}
		}
		// A function with an administrator's rights is one, whoever called it, and the log names him.
		d.exec(`CREATE TABLE public.person (id text); INSERT INTO person VALUES ('u1'); GRANT SELECT, DELETE ON person TO authenticated;
			CREATE FUNCTION public.leave() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN PERFORM avouch_keys.revoke_keys_of(OLD.id); RETURN OLD; END $$;
			CREATE TRIGGER leave BEFORE DELETE ON person FOR EACH ROW EXECUTE FUNCTION leave()`)
		key, _ := d.makeKey("u1", "'mine'")
		d.gets(session("u1"), "DELETE FROM person RETURNING id", "u1")
		d.refuses(withKey(key), notes, "PT401")
		if got := d.ask("SELECT actor FROM avouch_keys.log WHERE action = 'keys.revoked'"); got != "role:postgres" {
			t.Errorf("the log says that %s ended them", got)
		}
		// As PostgREST calls it, with names.
		d.gets(service, `SELECT pgrst_call.* FROM (SELECT '{"name": "x", "description": "y"}'::json AS json_data) p, LATERAL json_to_record(p.json_data) AS b(name text, description text),
			LATERAL avouch_keys.define_permission("name" := b.name, "description" := b.description) pgrst_call`, "")
		d.gets(service, "SELECT keyhippo_rbac.create_group('g', '') IS NOT NULL", "true")
		d.refuses(session("u1"), "SELECT keyhippo_rbac.create_group('h', '')", "42501")
		if got := d.ask("SELECT string_agg(DISTINCT actor, ' ') FROM avouch_keys.log WHERE action IN ('permission.defined', 'group.defined') AND target IN ('x', 'g')"); got != "role:service_role" {
			t.Errorf("the log says that %s defined it", got)
		}
		// A ticket is of one transaction, and KeyHippo's names give their owner's rights to nobody.
		ticket := d.ask("SELECT avouch_keys.administering()")
		d.refuses(session("u2"), "SELECT avouch_keys.define_permission('x', by => '"+ticket+"')", "42501")
		d.gets(session("u2"), "SELECT avouch_keys.administering()", "NULL")
		_, theirs := d.makeKey("u1", "'theirs'")
		d.gets(session("u2"), "SELECT keyhippo.revoke_api_key('"+d.ask("SELECT uid::text FROM avouch_keys.api_key WHERE key_id = $1", theirs)+"')", "false")
		beside := service
		beside.headers = map[string]string{"x-api-key": key}
		d.refuses(beside, "SELECT 1", "PT401")
	})
}

// TestOtherRoles: requests as roles that nobody spoke of go on as they did before, and may present keys.
func TestOtherRoles(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s *server) {
		c := s.private(t).cluster
		d := &db{t: t, name: "postgres", url: func(role string) string { return c.URL(role, "postgres") }}
		d.admin = d.connect(devpg.Superuser)
		d.exec(fixture + "CREATE ROLE editor NOLOGIN; CREATE ROLE stranger NOLOGIN; GRANT editor TO authenticator; GRANT SELECT ON note TO editor; CREATE POLICY all_of_them ON note TO editor USING (true)")
		var said []string
		for range 2 {
			if err := Install(t.Context(), d.url(devpg.Superuser), Options{Notice: func(n string) { said = append(said, n) }}); err != nil {
				t.Fatal(err)
			}
		}
		if len(said) != 1 || !strings.Contains(said[0], "may become editor:") {
			t.Errorf("it is said: %q", said)
		}
		if got := d.ask("SELECT string_agg(role || ' ' || level, ', ' ORDER BY role) FROM avouch_keys.admitted"); got != "anon visitor, authenticated user, editor visitor, service_role admin" {
			t.Errorf("admitted: %s", got)
		}
		d.gets(request{role: "editor"}, notes, "one two")
		key, _ := d.makeKey("u1", "'mine'")
		beside := request{role: "editor", headers: map[string]string{"x-api-key": key}}
		d.gets(beside, notes, "one")
		d.refuses(beside, "SELECT avouch_keys.rotate_pepper()", "42501")
	})
}

// become is what whoever may become the owner leaves for a superuser: code that gets from the owner back to him.
const become = `CREATE FUNCTION public.became(i integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF (SELECT rolsuper FROM pg_roles WHERE rolname = session_user) THEN RAISE EXCEPTION 'planted code ran'; END IF;
  RETURN i;
END $$; GRANT EXECUTE ON FUNCTION public.became TO PUBLIC;`

// TestLeftForSuperuser: a superuser runs nothing that a member of the owner put into its tables, and upgrades only where there is none.
func TestLeftForSuperuser(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s *server) {
		c := s.private(t).cluster
		for planted, odd := range map[string]string{
			"ALTER TABLE avouch_keys.head RENAME TO was; CREATE VIEW avouch_keys.head AS SELECT size + public.became(0) AS size, hash FROM avouch_keys.was; ALTER VIEW avouch_keys.head OWNER TO avouch_keys_owner": "head",
			"CREATE INDEX ON avouch_keys.log ((public.became(1)))":                                                                                                                                                              "log",
			"CREATE INDEX ON avouch_keys.log (seq) WHERE public.became(1) = 1":                                                                                                                                                  "log",
			"CREATE STATISTICS avouch_keys.s ON (public.became(1)), seq FROM avouch_keys.log":                                                                                                                                   "log",
			"CREATE DOMAIN avouch_keys.d AS text; ALTER TABLE avouch_keys.log ALTER actor TYPE avouch_keys.d":                                                                                                                   "log",
			"CREATE POLICY p ON avouch_keys.log USING (public.became(1) = 1); ALTER TABLE avouch_keys.log FORCE ROW LEVEL SECURITY":                                                                                             "log",
			"ALTER TABLE avouch_keys.installation ADD CHECK (public.became(1) = 1); ALTER ROLE postgres IN DATABASE mine SET constraint_exclusion = on":                                                                         "",
			"CREATE TABLE avouch_keys.child () INHERITS (avouch_keys.log); CREATE INDEX ON avouch_keys.child ((public.became(1)))":                                                                                              "",
			"CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM public.became(1); RETURN NEW; END'; CREATE TRIGGER t BEFORE INSERT ON avouch_keys.entrance FOR EACH ROW EXECUTE FUNCTION public.f()": "",
		} {
			for _, sql := range []string{"DROP DATABASE IF EXISTS mine WITH (FORCE)", "CREATE DATABASE mine OWNER plain"} {
				if err := run(t.Context(), c.URL(devpg.Superuser, "postgres"), sql); err != nil {
					t.Fatal(err)
				}
			}
			super, plain := c.URL(devpg.Superuser, "mine"), c.URL("plain", "mine")
			if err := Install(t.Context(), plain, Options{KeyHippo: true}); err != nil {
				t.Fatal(err)
			}
			if r, err := Check(t.Context(), super, Known{}); err != nil || r.Fault != nil {
				t.Errorf("before: %+v, %v", r, err)
			}
			for _, o := range []Options{{}, {KeyHippo: true}} {
				if err := Install(t.Context(), super, o); err == nil || !strings.Contains(err.Error(), "a superuser would run what plain may have changed") {
					t.Errorf("a superuser upgrades: %v", err)
				}
			}
			if err := run(t.Context(), super, keyhippoSQL); err == nil || !strings.Contains(err.Error(), "a superuser would run what plain may have changed") {
				t.Errorf("a superuser upgrades KeyHippo's names: %v", err)
			}
			// Statement by statement: an index is planned with as soon as it is there.
			if err := run(t.Context(), plain, become+strings.Split(planted, "ALTER ROLE postgres")[0]); err != nil {
				t.Fatalf("%s: %v", planted, err)
			}
			if _, setting, ok := strings.Cut(planted, "ALTER ROLE postgres"); ok {
				if err := run(t.Context(), super, "ALTER ROLE postgres"+setting); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Check(t.Context(), super, Known{})
			if odd == "" && err != nil || odd != "" && (err == nil || !strings.HasSuffix(err.Error(), "nothing was read: "+odd)) {
				t.Errorf("%s: %v", planted, err)
			}
			if err := Uninstall(t.Context(), super, false, nil); err == nil || !strings.Contains(err.Error(), "and the log goes") {
				t.Errorf("%s: %v", planted, err)
			}
			if err := Uninstall(t.Context(), super, true, nil); err != nil && strings.Contains(err.Error(), "planted code ran") {
				t.Errorf("%s: %v", planted, err)
			}
		}
	})
}

// TestSignUpsWaitForNobody: what users and administrators have open holds up nobody who signs up.
func TestSignUpsWaitForNobody(t *testing.T) {
	t.Parallel()
	onSupabase(t, func(t *testing.T, d *db, users []string) {
		role := d.ask("SELECT r.role_id::text FROM avouch_keys.user_role r WHERE r.name = 'Admin'")
		d.makeKey(users[0], "'first'")
		before := d.ask("SELECT model FROM avouch_keys.installation")
		open, err := session(users[0]).begin(t.Context(), d.pool())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := answer(t.Context(), open, "SELECT avouch_keys.create_key('mine')"); err != nil {
			t.Fatal(err)
		}
		gives := d.connect("postgres")
		given := make(chan error, 1)
		go func() {
			_, err := gives.Exec(t.Context(), "SELECT avouch_keys.give_role('"+users[0]+"', '"+role+"')")
			given <- err
		}()
		for end := time.Now().Add(20 * time.Second); d.ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%give_role%' AND datname = current_database() AND pid <> pg_backend_pid()") == "0"; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("give_role does not wait: the test tests nothing")
			}
		}
		d.exec("SELECT FROM avouch_keys.installation FOR UPDATE NOWAIT") // who waits for others has nothing that they may wait for
		d.exec("SET lock_timeout = '5s'; INSERT INTO auth.users (id) VALUES ('20000000-0000-4000-8000-000000000002')")
		if got := d.ask("SELECT model FROM avouch_keys.installation"); got != before {
			t.Errorf("the model was %s and is %s: what keys may is computed anew for each who signs up", before, got)
		}
		if err := errors.Join(open.Commit(t.Context()), <-given); err != nil {
			t.Error(err)
		}
		d.gets(session("20000000-0000-4000-8000-000000000002"), "SELECT avouch_keys.current_permissions()", `["manage_api_keys"]`)
	})
}

// TestForeignUsers: a table auth.users that is not Supabase's is no list of users.
func TestForeignUsers(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s *server) {
		d := s.database(t, "")
		d.exec(fixture + "CREATE SCHEMA auth; CREATE TABLE auth.users (id bigint)")
		var said []string
		if err := Install(t.Context(), d.url(devpg.Superuser), Options{KeyHippo: true, Notice: func(n string) { said = append(said, n) }}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(said, "\n"), "auth.users is not Supabase's") {
			t.Errorf("it is said: %q", said)
		}
		for _, owner := range []string{"u1", "7", "10000000-0000-4000-8000-000000000001"} {
			key, _ := d.makeKey(owner, "'mine'")
			d.gets(withKey(key), "SELECT avouch_keys.current_user_id()", owner)
		}
		d.exec("INSERT INTO auth.users VALUES (7)")
	})
}

// TestRestored: what a restored database lacks, installing again brings back, and the page's way ends what had ended since.
func TestRestored(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		kept, _ := d.makeKey("u1", "'kept'")
		ended, id := d.makeKey("u1", "'ended'")
		rotated, rotatedID := d.makeKey("u1", "'rotated'")
		theirs, _ := d.makeKey("u2", "'theirs'")
		d.exec("CREATE TABLE public.rows AS SELECT (SELECT jsonb_agg(k) FROM avouch_keys.api_key k) AS keys, (SELECT jsonb_agg(v) FROM avouch_keys.verifier v) AS verifiers")
		d.gets(session("u1"), "SELECT avouch_keys.revoke_key('"+id+"'), (SELECT new_key_id IS NOT NULL FROM avouch_keys.rotate_key('"+rotatedID+"'))", "true|true")
		d.exec("SELECT avouch_keys.revoke_keys_of('u2')")
		// As a dump from before has it, which has no settings of roles.
		d.exec(`CREATE TABLE public.newer_copy AS SELECT * FROM avouch_keys.log; TRUNCATE avouch_keys.verifier, avouch_keys.api_key; ALTER ROLE authenticator IN DATABASE ` + d.name + ` RESET pgrst.db_pre_request;
			INSERT INTO avouch_keys.api_key SELECT k.* FROM rows, jsonb_populate_recordset(NULL::avouch_keys.api_key, keys) k; INSERT INTO avouch_keys.verifier SELECT v.* FROM rows, jsonb_populate_recordset(NULL::avouch_keys.verifier, verifiers) v`)
		for _, key := range []string{kept, ended, rotated, theirs} {
			if got := d.ask("SELECT avouch_keys.verify_key($1) IS NULL", key); got != "false" {
				t.Fatal("the backup has no such key")
			}
		}
		if err := Install(t.Context(), d.url(devpg.Superuser), Options{}); err != nil {
			t.Fatal(err)
		}
		if got, err := answer(t.Context(), d.pool(), "SELECT current_setting('pgrst.db_pre_request', true)"); err != nil || got != "avouch_keys.pre_request" {
			t.Errorf("%q looks at requests, %v", got, err)
		}
		var done int
		for _, b := range blocks(t, "postgres.md") {
			if !strings.Contains(b.text, "newer_log") {
				continue
			}
			done++
			d.exec(strings.Replace(b.text, "CREATE TABLE newer_log (LIKE avouch_keys.log);", "CREATE TABLE newer_log AS SELECT * FROM newer_copy;", 1))
		}
		if done != 1 {
			t.Fatalf("%d blocks of the page are about it", done)
		}
		d.gets(withKey(kept), notes, "one")
		for _, key := range []string{ended, rotated, theirs} {
			d.refuses(withKey(key), notes, "PT401")
		}
	})
}

// TestParallelPlans: a policy that asks who it is ends no parallel plan.
func TestParallelPlans(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		key, _ := d.makeKey("u1", "'mine', 'reader', claims => '{\"tier\": \"gold\"}'")
		const asks = "SELECT count(*) FROM tiered WHERE (SELECT avouch_keys.has_permission('read_notes') AND avouch_keys.current_key_claims() ->> 'tier' = 'gold' AND avouch_keys.current_api_key() IS NOT NULL AND avouch_keys.current_user_id() = 'u1' AND cardinality(avouch_keys.current_permissions()) = 1)"
		parallel := []string{"SET LOCAL parallel_setup_cost = 0", "SET LOCAL parallel_tuple_cost = 0", "SET LOCAL min_parallel_table_scan_size = 0"}
		d.exec("INSERT INTO tiered SELECT repeat('x', 500) FROM generate_series(1, 5000); ANALYZE tiered")
		plan, err := d.send(d.pool(), withKey(key), append(parallel, "EXPLAIN "+asks)...)
		if err != nil || !strings.Contains(plan, "Gather") {
			t.Errorf("%v\n%s", err, plan)
		}
		if got, err := d.send(d.pool(), withKey(key), append(parallel, asks)...); err != nil || got != "5001" {
			t.Errorf("%q, %v", got, err)
		}
	})
}
