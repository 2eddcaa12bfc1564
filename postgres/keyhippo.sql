-- KeyHippo 1.2's names on avouch_keys, for those who move: functions, types and tables keep their names and arguments, and
-- policies need no change. Install avouch.sql first; docs/moving-from-keyhippo.md says what is different, and why.
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;

DO $$
DECLARE
  members CONSTANT text := (SELECT string_agg(quote_ident(m.rolname), ', ') FROM pg_roles m, pg_roles o
    WHERE o.rolname = 'avouch_keys_owner' AND NOT m.rolsuper AND m.oid <> o.oid AND pg_has_role(m.oid, o.oid, 'MEMBER'));
BEGIN
  IF to_regclass('keyhippo.api_key_secrets') IS NOT NULL THEN
    RAISE EXCEPTION 'KeyHippo itself is installed: docs/moving-from-keyhippo.md says how to take its data along and remove it';
  END IF;
  IF to_regclass('avouch_keys.installation') IS NULL THEN RAISE EXCEPTION 'avouch.sql is not installed: it comes first'; END IF;
  -- As in avouch.sql, but for what that has just made.
  IF members IS NOT NULL AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AND
    (SELECT xmin <> pg_current_xact_id()::xid FROM pg_namespace WHERE nspname = 'avouch_keys') THEN
    RAISE EXCEPTION 'a superuser would run what % may have changed here', members USING HINT = 'Have one of them install, or take avouch_keys_owner from them first.';
  END IF;
  IF EXISTS (SELECT FROM pg_namespace WHERE nspname IN ('keyhippo', 'keyhippo_rbac', 'keyhippo_impersonation') AND nspowner <> 'avouch_keys_owner'::regrole) THEN
    RAISE EXCEPTION 'a schema keyhippo, keyhippo_rbac or keyhippo_impersonation is somebody else''s, who could change what is in it';
  END IF;
END $$;
CREATE SCHEMA IF NOT EXISTS keyhippo AUTHORIZATION avouch_keys_owner;
CREATE SCHEMA IF NOT EXISTS keyhippo_rbac AUTHORIZATION avouch_keys_owner;
CREATE SCHEMA IF NOT EXISTS keyhippo_impersonation AUTHORIZATION avouch_keys_owner;

SET LOCAL ROLE avouch_keys_owner;
SET LOCAL search_path = avouch_keys, pg_temp;

-- Names, not closed lists.
DO $$
BEGIN
  IF to_regtype('keyhippo.app_permission') IS NULL THEN CREATE DOMAIN keyhippo.app_permission AS text; END IF;
  IF to_regtype('keyhippo.app_role') IS NULL THEN CREATE DOMAIN keyhippo.app_role AS text; END IF;
END $$;

CREATE OR REPLACE FUNCTION keyhippo.as_uuid(s text) RETURNS uuid LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  RETURN CASE WHEN s ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' THEN s::uuid END;
END $$;

CREATE OR REPLACE FUNCTION keyhippo.header_key() RETURNS text LANGUAGE plpgsql STABLE SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  RETURN nullif(current_setting('request.headers', true), '')::json ->> 'x-api-key';
END $$;

-- request_key is the key of this request, whether pre_request has seen it or not: only if its secret is right, its owner is
-- still there, and no other user's session is beside it. Where one was sent that is not, there is no request.
CREATE OR REPLACE FUNCTION keyhippo.request_key() RETURNS api_key LANGUAGE plpgsql STABLE SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  k  api_key := presented_key();
  id text;
BEGIN
  IF k.key_id IS NULL AND keyhippo.header_key() IS NOT NULL THEN
    id := verify_key(keyhippo.header_key()) ->> 'key_id';
    SELECT * INTO k FROM api_key x WHERE x.key_id = id;
    IF k.key_id IS NULL OR current_user_id() <> k.owner THEN
      RAISE SQLSTATE 'PT401' USING MESSAGE = 'No registered API key found in x-api-key header.';
    END IF;
  END IF;
  RETURN k;
END $$;

CREATE OR REPLACE FUNCTION keyhippo.verify_api_key(api_key text) RETURNS TABLE (user_id uuid, scope_id uuid, permissions text[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  k jsonb;
BEGIN
  IF length(api_key) < 60 THEN RAISE EXCEPTION 'Invalid API key format'; END IF;
  k := verify_key(verify_api_key.api_key);
  IF k IS NULL THEN RETURN; END IF;
  RETURN QUERY SELECT keyhippo.as_uuid(k ->> 'owner'), (SELECT s.scope_id FROM scope s WHERE s.name = k ->> 'scope'),
    ARRAY(SELECT jsonb_array_elements_text(k -> 'permissions'));
END $$;

CREATE OR REPLACE FUNCTION keyhippo.current_user_context() RETURNS TABLE (user_id uuid, scope_id uuid, permissions text[])
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  k api_key := keyhippo.request_key();
BEGIN
  IF k.key_id IS NOT NULL THEN
    RETURN QUERY SELECT keyhippo.as_uuid(k.owner), (SELECT s.scope_id FROM scope s WHERE s.name = k.scope), permissions_of_key(k.owner, k.scope);
  ELSIF current_user_id() IS NOT NULL THEN
    RETURN QUERY SELECT keyhippo.as_uuid(current_user_id()), NULL::uuid, permissions_of_user(current_user_id());
  END IF;
END $$;

-- as_asked has the functions of avouch_keys, which judge by the proof, see a key that only stands in the header. They are
-- called for the user whom that makes, and never as an administrating role.
CREATE OR REPLACE FUNCTION keyhippo.as_asked() RETURNS void LANGUAGE plpgsql SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  k api_key := keyhippo.request_key();
BEGIN
  IF k.key_id IS NOT NULL THEN
    PERFORM set_config('avouch_keys.proof', proof_of(k.key_id, (SELECT p.version FROM pepper p WHERE p.newest)), true);
  ELSIF current_user_id() IS NULL THEN
    RAISE EXCEPTION 'Unauthorized: User not authenticated' USING ERRCODE = 'insufficient_privilege';
  END IF;
END $$;

CREATE OR REPLACE FUNCTION keyhippo.key_id_of(uid uuid) RETURNS text LANGUAGE plpgsql STABLE SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  RETURN (SELECT k.key_id FROM api_key k WHERE k.uid = key_id_of.uid);
END $$;

CREATE OR REPLACE FUNCTION keyhippo.create_api_key(key_description text, scope_name text DEFAULT NULL) RETURNS TABLE (api_key text, api_key_id uuid)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  made record;
BEGIN
  PERFORM keyhippo.as_asked();
  IF length(key_description) > 255 OR key_description !~ '^[a-zA-Z0-9_ \-]*$' THEN RAISE EXCEPTION '[KeyHippo] Invalid key description' USING ERRCODE = 'invalid_parameter_value'; END IF;
  IF scope_name IS NOT NULL AND NOT EXISTS (SELECT FROM scope s WHERE s.name = scope_name) THEN RAISE EXCEPTION '[KeyHippo] Invalid scope' USING ERRCODE = 'invalid_parameter_value'; END IF;
  made := create_key(key_description, scope_name);
  RETURN QUERY SELECT made.key, k.uid FROM avouch_keys.api_key k WHERE k.key_id = made.key_id;
END $$;

CREATE OR REPLACE FUNCTION keyhippo.revoke_api_key(api_key_id uuid) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  PERFORM keyhippo.as_asked();
  RETURN coalesce(revoke_key(keyhippo.key_id_of(api_key_id), by => NULL), false);
EXCEPTION WHEN SQLSTATE 'PT404' THEN
  RETURN false;
END $$;

CREATE OR REPLACE FUNCTION keyhippo.rotate_api_key(old_api_key_id uuid) RETURNS TABLE (new_api_key text, new_api_key_id uuid)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  made record;
BEGIN
  PERFORM keyhippo.as_asked();
  made := rotate_key(keyhippo.key_id_of(old_api_key_id));
  RETURN QUERY SELECT made.key, k.uid FROM api_key k WHERE k.key_id = made.new_key_id;
EXCEPTION WHEN SQLSTATE 'PT404' OR SQLSTATE 'PT409' THEN
  RAISE EXCEPTION 'Unauthorized: Invalid or inactive API key' USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE OR REPLACE FUNCTION keyhippo.update_key_claims(key_id uuid, new_claims jsonb) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  PERFORM keyhippo.as_asked();
  PERFORM update_key(keyhippo.key_id_of(update_key_claims.key_id), claims => new_claims, by => NULL);
END $$;

CREATE OR REPLACE FUNCTION keyhippo.key_data() RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  k api_key := keyhippo.request_key();
BEGIN
  IF k.key_id IS NULL THEN RETURN NULL; END IF;
  RETURN jsonb_build_object('id', k.uid, 'description', k.name, 'claims', k.claims);
END $$;

-- check_request lets a request with a bad key in no further. One without a key goes on as it came, as with KeyHippo.
CREATE OR REPLACE FUNCTION keyhippo.check_request() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  IF current_setting('avouch_keys.proof', true) <> '' THEN
    BEGIN
      PERFORM presented_key();
    EXCEPTION WHEN insufficient_privilege THEN PERFORM set_config('avouch_keys.proof', '', true); -- what the connection was left with
    END;
  END IF;
  PERFORM keyhippo.request_key();
END $$;

-- What a token says with user_role: the permissions of the roles of that type that KeyHippo makes itself. Of other roles only
-- members have them.
DO $$
BEGIN
  IF (SELECT prosrc FROM pg_proc WHERE oid = to_regprocedure('avouch_keys.claimed_permissions()')) <> $f$ BEGIN RETURN '{}'; END $f$ THEN RETURN; END IF;
  CREATE OR REPLACE FUNCTION claimed_permissions() RETURNS text[] LANGUAGE plpgsql STABLE SET search_path = avouch_keys, pg_temp AS $f$
  BEGIN
    RETURN ARRAY(SELECT DISTINCT p.permission FROM role_permission p JOIN user_role r USING (role_id) JOIN user_group g USING (group_id)
      WHERE g.name IN ('Admin Group', 'User Group') AND r.kind = nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'user_role');
  END $f$;
END $$;

CREATE OR REPLACE FUNCTION keyhippo.authorize(requested_permission keyhippo.app_permission) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  k api_key := keyhippo.request_key();
BEGIN
  IF k.key_id IS NOT NULL THEN RETURN requested_permission = ANY (permissions_of_key(k.owner, k.scope)); END IF;
  RETURN coalesce(requested_permission = ANY (current_permissions()), false);
END $$;

CREATE OR REPLACE FUNCTION keyhippo.is_authorized(target_resource regclass, required_permission text) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  RETURN EXISTS (SELECT FROM keyhippo.current_user_context() c WHERE required_permission = ANY (c.permissions));
END $$;

-- KeyHippo's tables as views of ours: each user sees his own keys, and what administrators define is theirs to see.
CREATE OR REPLACE VIEW keyhippo.api_key_metadata WITH (security_barrier) AS
SELECT k.uid AS id, keyhippo.as_uuid(k.owner) AS user_id, s.scope_id, k.name AS description, k.hint AS prefix, k.created_at, v.last_used_at,
  coalesce(k.expires_at, 'infinity') AS expires_at, k.revoked_at IS NOT NULL AS is_revoked, k.claims
FROM avouch_keys.api_key k LEFT JOIN avouch_keys.verifier v USING (key_id) LEFT JOIN avouch_keys.scope s ON s.name = k.scope
WHERE k.owner = avouch_keys.current_user_id() AND avouch_keys.current_api_key() IS NULL;
CREATE OR REPLACE VIEW keyhippo.scopes WITH (security_barrier) AS
SELECT scope_id AS id, name, description FROM avouch_keys.scope WHERE keyhippo.authorize('manage_scopes');
CREATE OR REPLACE VIEW keyhippo.scope_permissions WITH (security_barrier) AS
SELECT s.scope_id, p.permission_id FROM avouch_keys.scope_permission sp JOIN avouch_keys.scope s ON s.name = sp.scope JOIN avouch_keys.permission p ON p.name = sp.permission
WHERE keyhippo.authorize('manage_scopes');
CREATE OR REPLACE VIEW keyhippo_rbac.groups WITH (security_barrier) AS
SELECT group_id AS id, name, description FROM avouch_keys.user_group WHERE keyhippo.authorize('manage_groups');
CREATE OR REPLACE VIEW keyhippo_rbac.roles WITH (security_barrier) AS
SELECT role_id AS id, name, description, group_id, kind::keyhippo.app_role AS role_type FROM avouch_keys.user_role WHERE keyhippo.authorize('manage_roles');
CREATE OR REPLACE VIEW keyhippo_rbac.permissions WITH (security_barrier) AS
SELECT permission_id AS id, name::keyhippo.app_permission AS name, description FROM avouch_keys.permission WHERE keyhippo.authorize('manage_permissions');
CREATE OR REPLACE VIEW keyhippo_rbac.role_permissions WITH (security_barrier) AS
SELECT r.role_id, p.permission_id FROM avouch_keys.role_permission r JOIN avouch_keys.permission p ON p.name = r.permission WHERE keyhippo.authorize('manage_roles');
CREATE OR REPLACE VIEW keyhippo_rbac.user_group_roles WITH (security_barrier) AS
SELECT keyhippo.as_uuid(m.user_id) AS user_id, r.group_id, m.role_id FROM avouch_keys.membership m JOIN avouch_keys.user_role r USING (role_id)
WHERE keyhippo.authorize('manage_roles');

CREATE OR REPLACE FUNCTION keyhippo_rbac.create_group(p_name text, p_description text, by text DEFAULT avouch_keys.administering()) RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  PERFORM administrating('manage_groups', by);
  IF EXISTS (SELECT FROM user_group g WHERE g.name = p_name) THEN RAISE EXCEPTION 'There is a group %.', p_name USING ERRCODE = 'unique_violation'; END IF;
  RETURN define_group(p_name, coalesce(p_description, ''), by);
END $$;

CREATE OR REPLACE FUNCTION keyhippo_rbac.create_role(p_name text, p_description text, p_group_id uuid, p_role_type keyhippo.app_role, by text DEFAULT avouch_keys.administering()) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  PERFORM administrating('manage_roles', by);
  IF EXISTS (SELECT FROM user_role r WHERE r.group_id = p_group_id AND r.name = p_name) THEN RAISE EXCEPTION 'The group has a role %.', p_name USING ERRCODE = 'unique_violation'; END IF;
  RETURN define_role(p_group_id, p_name, '{}', coalesce(p_description, ''), p_role_type, by);
END $$;

CREATE OR REPLACE FUNCTION keyhippo_rbac.assign_role_to_user(p_user_id uuid, p_group_id uuid, p_role_id uuid, by text DEFAULT avouch_keys.administering()) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  PERFORM administrating('manage_roles', by);
  IF NOT EXISTS (SELECT FROM user_role r WHERE r.role_id = p_role_id AND r.group_id = p_group_id) THEN
    RAISE EXCEPTION 'The group has no such role.' USING ERRCODE = 'foreign_key_violation';
  END IF;
  PERFORM give_role(p_user_id::text, p_role_id, by);
END $$;

CREATE OR REPLACE FUNCTION keyhippo_rbac.assign_permission_to_role(p_role_id uuid, p_permission_name keyhippo.app_permission, by text DEFAULT avouch_keys.administering()) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  r user_role;
BEGIN
  PERFORM administrating('manage_roles', by);
  IF NOT EXISTS (SELECT FROM permission p WHERE p.name = p_permission_name) THEN RAISE EXCEPTION 'Permission % not found', p_permission_name; END IF;
  SELECT * INTO STRICT r FROM user_role WHERE role_id = p_role_id;
  PERFORM define_role(r.group_id, r.name, ARRAY(SELECT p.permission FROM role_permission p WHERE p.role_id = r.role_id) || p_permission_name::text, r.description, r.kind, by);
END $$;

-- Impersonation, for roles that were admitted as admin, and not by a key. All of it is local to the transaction, so nothing of
-- it can outlive that, and who logs out goes back to what his session may be anyway. In no log of ours, which an administrator
-- would hold up for all by it; the server's log has a line.
CREATE OR REPLACE FUNCTION keyhippo_impersonation.claims_for(user_id text, role text, by text DEFAULT avouch_keys.administering()) RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  said jsonb;
BEGIN
  IF administrating_role(by) IS NULL OR (presented_key()).key_id IS NOT NULL THEN RAISE EXCEPTION 'Unauthorized' USING ERRCODE = 'insufficient_privilege'; END IF;
  RAISE LOG 'avouch_keys: % acts as user %', administrating_role(by), CASE role WHEN 'anon' THEN role ELSE user_id END;
  IF role = 'anon' THEN RETURN jsonb_build_object('role', role); END IF; -- nobody is signed in
  said := session_claims(user_id);
  IF said IS NULL THEN RAISE EXCEPTION 'User with ID % does not exist', user_id; END IF;
  RETURN said || jsonb_build_object('sub', user_id, 'role', role);
END $$;

CREATE OR REPLACE PROCEDURE keyhippo_impersonation.login_as(user_id text, wanted text) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  said jsonb := keyhippo_impersonation.claims_for(user_id, wanted);
  here text  := current_user;
BEGIN
  PERFORM set_config('request.jwt.claims', said::text, true), set_config('request.jwt.claim.sub', coalesce(said ->> 'sub', ''), true), set_config('request.jwt.claim.role', wanted, true),
    set_config('request.jwt.claim.email', coalesce(said ->> 'email', ''), true), set_config('request.headers', '', true),
    set_config('session.impersonation_expires', (now() + interval '1 hour')::text, true), set_config('session.impersonator', here, true),
    set_config('avouch_keys.proof', '', true);
  PERFORM set_config('role', wanted, true);
  RAISE NOTICE 'You are % until this transaction ends: BEGIN one before, or this was it.', coalesce(said ->> 'sub', wanted);
END $$;

CREATE OR REPLACE PROCEDURE keyhippo_impersonation.login_as_user(user_id uuid) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  CALL keyhippo_impersonation.login_as(user_id::text, 'authenticated');
END $$;

CREATE OR REPLACE PROCEDURE keyhippo_impersonation.login_as_anon() LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  CALL keyhippo_impersonation.login_as('', 'anon');
END $$;

CREATE OR REPLACE PROCEDURE keyhippo_impersonation.logout() LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  back text := nullif(current_setting('session.impersonator', true), '');
BEGIN
  IF back IS NULL THEN RAISE EXCEPTION 'Not in an impersonation session'; END IF;
  PERFORM set_config('request.jwt.claims', '', true), set_config('request.jwt.claim.sub', '', true), set_config('request.jwt.claim.role', '', true),
    set_config('request.jwt.claim.email', '', true), set_config('session.impersonation_expires', '', true), set_config('session.impersonator', '', true);
  PERFORM set_config('role', back, true); -- PostgreSQL lets nobody be what his session may not
END $$;

CREATE OR REPLACE FUNCTION keyhippo.fill(who text) RETURNS void LANGUAGE plpgsql SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  INSERT INTO permission VALUES ('manage_groups', 'Manage groups'), ('manage_roles', 'Manage roles'), ('manage_permissions', 'Manage permissions'),
    ('manage_scopes', 'Manage scopes'), ('manage_api_keys', 'Manage API keys'), ('manage_user_attributes', 'Manage user attributes') ON CONFLICT DO NOTHING;
  INSERT INTO user_group (name, description) VALUES ('Admin Group', 'Group for administrators'), ('User Group', 'Group for regular users') ON CONFLICT DO NOTHING;
  INSERT INTO user_role (group_id, name, description, kind) SELECT g.group_id, 'Admin', 'Administrator role', 'admin' FROM user_group g WHERE g.name = 'Admin Group' ON CONFLICT DO NOTHING;
  INSERT INTO user_role (group_id, name, description, kind) SELECT g.group_id, 'User', 'Regular user role', 'user' FROM user_group g WHERE g.name = 'User Group' ON CONFLICT DO NOTHING;
  INSERT INTO role_permission SELECT r.role_id, p.name FROM user_role r JOIN user_group g USING (group_id), permission p
    WHERE (g.name, r.name) = ('Admin Group', 'Admin') AND p.name IN ('manage_groups', 'manage_roles', 'manage_permissions', 'manage_scopes', 'manage_api_keys', 'manage_user_attributes')
    OR (g.name, r.name, p.name) = ('User Group', 'User', 'manage_api_keys') ON CONFLICT DO NOTHING;
  INSERT INTO scope (name, description) VALUES ('default', 'Default scope for API keys') ON CONFLICT DO NOTHING;
  PERFORM log_that(who, 'keyhippo.initialized', '', '{}');
END $$;

CREATE OR REPLACE FUNCTION keyhippo.initialize_keyhippo(by text DEFAULT avouch_keys.administering()) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  PERFORM keyhippo.fill(administrating('manage_roles', by));
END $$;

-- Each new user has KeyHippo's default role, where Supabase's users are.
CREATE OR REPLACE FUNCTION keyhippo.assign_default_role() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  INSERT INTO membership SELECT NEW.id::text, r.role_id FROM user_role r JOIN user_group g USING (group_id) WHERE (g.name, r.name) = ('User Group', 'User') ON CONFLICT DO NOTHING;
  RETURN NEW;
END $$;

INSERT INTO entrance SELECT 'keyhippo.' || f, 'visitor' FROM unnest(ARRAY['as_uuid', 'current_user_context', 'key_data', 'check_request', 'authorize', 'is_authorized',
  'verify_api_key', 'create_api_key', 'revoke_api_key', 'rotate_api_key', 'update_key_claims']) AS f ON CONFLICT (thing) DO UPDATE SET level = excluded.level;
INSERT INTO entrance SELECT 'keyhippo_rbac.' || f, 'user' FROM unnest(ARRAY['create_group', 'create_role', 'assign_role_to_user', 'assign_permission_to_role',
  'groups', 'roles', 'permissions', 'role_permissions', 'user_group_roles']) AS f ON CONFLICT (thing) DO UPDATE SET level = excluded.level;
INSERT INTO entrance VALUES ('keyhippo.api_key_metadata', 'user'), ('keyhippo.scopes', 'user'), ('keyhippo.scope_permissions', 'user'), ('keyhippo.initialize_keyhippo', 'admin'),
  ('keyhippo_impersonation.claims_for', 'admin'), ('keyhippo_impersonation.login_as', 'admin'), ('keyhippo_impersonation.login_as_user', 'admin'),
  ('keyhippo_impersonation.login_as_anon', 'admin'), ('keyhippo_impersonation.logout', 'visitor') ON CONFLICT (thing) DO UPDATE SET level = excluded.level;
REVOKE ALL ON ALL TABLES IN SCHEMA keyhippo, keyhippo_rbac FROM PUBLIC;
DO $$
BEGIN
  PERFORM grant_entrances(a.role, a.level) FROM admitted a JOIN pg_roles ON rolname = a.role;
  IF NOT EXISTS (SELECT FROM user_group g WHERE g.name = 'Admin Group') THEN PERFORM keyhippo.fill('role:' || session_user); END IF; -- once: what it made may have been changed
END $$;
RESET ROLE;

-- initialize_existing_project gives the default role to the users that there are; whoever installs this must be able to read
-- them. Only where auth.users is Supabase's, as in avouch.sql.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'auth' AND c.relname = 'users' AND c.relkind = 'r'
    AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'id' AND a.atttypid = 'uuid'::regtype)
    AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'raw_app_meta_data')
    AND NOT EXISTS (SELECT FROM pg_roles o WHERE o.oid IN (c.relowner, n.nspowner) AND NOT o.rolsuper AND o.rolname NOT IN ('supabase_auth_admin', 'supabase_admin', current_user))) THEN
    RETURN;
  END IF;
  CREATE OR REPLACE FUNCTION keyhippo.initialize_existing_project() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
  DECLARE
    given bigint;
  BEGIN
    PERFORM keyhippo.initialize_keyhippo();
    INSERT INTO avouch_keys.membership SELECT u.id::text, r.role_id FROM auth.users u, avouch_keys.user_role r JOIN avouch_keys.user_group g USING (group_id)
      WHERE (g.name, r.name) = ('User Group', 'User') ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS given = ROW_COUNT;
    PERFORM avouch_keys.log_that('role:' || current_user, 'keyhippo.default_role_given', '', jsonb_build_object('users', given));
  END $f$;
  REVOKE ALL ON FUNCTION keyhippo.initialize_existing_project() FROM PUBLIC;
  BEGIN
    GRANT EXECUTE ON FUNCTION keyhippo.assign_default_role() TO CURRENT_USER;
    CREATE OR REPLACE TRIGGER keyhippo_assign_default_role_trigger AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION keyhippo.assign_default_role();
  EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'you may not make a trigger on auth.users: new users do not get the role User by themselves';
  END;
END $$;

COMMIT;
