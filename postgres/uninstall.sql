-- Takes avouch_keys away: its schemas, KeyHippo's names on it, its role, and what it set for PostgREST. All keys and the log
-- go with it, so it stops unless it was told. It reads no table, which whoever may become their owner can have changed:
--
--   psql -v ON_ERROR_STOP=1 -c "SET avouch_keys.drop_log = 'yes'" -f uninstall.sql        or        avouch pg uninstall --drop-log
--
-- It stops too if something of yours is built on it, a policy for instance: dropping that along could open a table to all, or
-- take a column with its data. What PostgreSQL does not know of, such as a function of yours that calls one of these in PL/pgSQL, it cannot see either.
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;

DO $$
DECLARE
  built text;
  hook  record;
  here  oid := (SELECT oid FROM pg_database WHERE datname = current_database());
BEGIN
  IF to_regnamespace('avouch_keys') IS NULL THEN RAISE EXCEPTION 'avouch_keys is not installed here'; END IF;
  PERFORM pg_advisory_xact_lock(hashtext('avouch_keys'));
  IF coalesce(current_setting('avouch_keys.drop_log', true), '') <> 'yes' THEN
    RAISE EXCEPTION 'all keys end, and the log goes: keep a copy of avouch_keys.log, then SET avouch_keys.drop_log = ''yes'' and run this again';
  END IF;
  WITH ours AS (
    SELECT oid FROM pg_namespace WHERE nspname IN ('avouch_keys', 'keyhippo', 'keyhippo_rbac', 'keyhippo_impersonation')
  ), things AS (
    SELECT 'pg_proc'::regclass AS class, p.oid FROM pg_proc p WHERE p.pronamespace IN (SELECT oid FROM ours)
    UNION ALL SELECT 'pg_class', c.oid FROM pg_class c WHERE c.relnamespace IN (SELECT oid FROM ours)
    UNION ALL SELECT 'pg_type', t.oid FROM pg_type t WHERE t.typnamespace IN (SELECT oid FROM ours)
  ), users AS (
    SELECT d.classid, d.objid, d.objsubid, coalesce(
      (SELECT c.relnamespace FROM pg_policy x JOIN pg_class c ON c.oid = x.polrelid WHERE d.classid = 'pg_policy'::regclass AND x.oid = d.objid),
      (SELECT c.relnamespace FROM pg_rewrite x JOIN pg_class c ON c.oid = x.ev_class WHERE d.classid = 'pg_rewrite'::regclass AND x.oid = d.objid),
      (SELECT c.relnamespace FROM pg_attrdef x JOIN pg_class c ON c.oid = x.adrelid WHERE d.classid = 'pg_attrdef'::regclass AND x.oid = d.objid),
      (SELECT CASE x.tgname WHEN 'keyhippo_assign_default_role_trigger' THEN p.pronamespace ELSE c.relnamespace END FROM pg_trigger x JOIN pg_class c ON c.oid = x.tgrelid
        JOIN pg_proc p ON p.oid = x.tgfoid WHERE d.classid = 'pg_trigger'::regclass AND x.oid = d.objid),
      (SELECT x.connamespace FROM pg_constraint x WHERE d.classid = 'pg_constraint'::regclass AND x.oid = d.objid),
      (SELECT x.pronamespace FROM pg_proc x WHERE d.classid = 'pg_proc'::regclass AND x.oid = d.objid),
      (SELECT x.typnamespace FROM pg_type x WHERE d.classid = 'pg_type'::regclass AND x.oid = d.objid),
      (SELECT x.relnamespace FROM pg_class x WHERE d.classid = 'pg_class'::regclass AND x.oid = d.objid)) AS place
    FROM pg_depend d JOIN things t ON d.refclassid = t.class AND d.refobjid = t.oid WHERE d.deptype = 'n'
  )
  SELECT string_agg(DISTINCT pg_describe_object(u.classid, u.objid, u.objsubid), '; ') INTO built FROM users u
  WHERE u.place IS NULL OR u.place NOT IN (SELECT oid FROM ours); -- of another kind than ours are: somebody else's
  IF built IS NOT NULL THEN
    RAISE EXCEPTION 'something is built on avouch_keys: %', built USING HINT = 'Change or drop that first.';
  END IF;
  IF EXISTS (SELECT FROM pg_trigger WHERE tgname = 'keyhippo_assign_default_role_trigger') THEN
    DROP TRIGGER keyhippo_assign_default_role_trigger ON auth.users;
  END IF;
  -- A function that is gone must look at no request: all would fail. One that is set for all databases may be another's too.
  FOR hook IN SELECT d.setdatabase = here AS here FROM pg_db_role_setting d JOIN pg_roles a ON a.oid = d.setrole, unnest(d.setconfig) AS c
    WHERE a.rolname = 'authenticator' AND d.setdatabase IN (0, here) AND c ~ '^pgrst[.]db_pre_request="?(avouch_keys|keyhippo)"?[.]' LOOP
    IF NOT hook.here AND EXISTS (SELECT FROM pg_shdepend s WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = 'avouch_keys_owner'::regrole AND s.dbid NOT IN (0, here)) THEN
      RAISE WARNING 'authenticator has a pgrst.db_pre_request for all databases, and another one has avouch_keys: give each its own, with ALTER ROLE authenticator IN DATABASE';
      CONTINUE;
    END IF;
    BEGIN
      EXECUTE 'ALTER ROLE authenticator ' || CASE WHEN hook.here THEN format('IN DATABASE %I ', current_database()) ELSE '' END || 'RESET pgrst.db_pre_request';
      NOTIFY pgrst, 'reload config';
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE WARNING 'you may not alter the role authenticator: have its pgrst.db_pre_request reset, or each request fails';
    END;
  END LOOP;
END $$;

DROP OWNED BY avouch_keys_owner CASCADE;

DO $$
BEGIN
  DROP ROLE avouch_keys_owner;
EXCEPTION WHEN dependent_objects_still_exist THEN
  RAISE NOTICE 'the role avouch_keys_owner stays: another database of this server needs it';
END $$;

COMMIT;
