package tenantdb

// appendSQL appends a batch: the only statement that writes the log (migrations/005_vault.sql). Run alone it is a
// transaction; DB.Change runs it inside one.
//
//	$1 nonce: returned in every row; an answer that carries another batch's is not ours
//	$2 tenants, in order  $3 whether each gets a new epoch
//	and for each entry: $4 item, from 0  $5 tenant (index into $2, from 1)  $6 epoch decided at  $7 entry id  $8 request id
//	$9 body  $10 sealed ('' for none)  $11 the item and $12 the person that it is looked up by (zeros for none)
//	and for each spend: $13 item  $14 counter (index into $16, from 1)  $15 amount
//	and for each counter: $16 tenant (index into $2)  $17 subject  $18 period  $19 window  $20 limit
const appendSQL = `
SELECT echo, kind, place, a, b, n FROM avouch.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)`

const lockHeadsSQL = `SELECT tenant_id, log_id, epoch, size FROM avouch.lock_heads($1, $2)`

const findEntriesSQL = `SELECT entry_id, seq FROM avouch.find_entries($1, $2, $3)`

const headSQL = `SELECT log_id, epoch FROM avouch.audit_head WHERE tenant_id = $1`

const newHeadSQL = `INSERT INTO avouch.audit_head (tenant_id, log_id, epoch) VALUES ($1, $2, $3)`

const moveEpochsSQL = `SELECT avouch.move_epochs($1)`

const setCallerSQL = `SELECT set_config('avouch.tenant', $1, true), set_config('avouch.request', $2, true)`

const tenantsSQL = `SELECT avouch.lookup_tenants($1, $2)`

const freeHeadsSQL = `SELECT avouch.free_heads($1)`

// rightsSQL lists what the present role may do that a server must not.
const rightsSQL = `
WITH me AS (SELECT * FROM pg_roles WHERE rolname = current_user),
log AS (SELECT c.oid, c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = 'avouch' AND c.relkind IN ('r', 'p') AND c.relname ~ '^audit_entry')
SELECT format(what, current_user) FROM (
  SELECT 'may bypass row-level security: ALTER ROLE %I NOBYPASSRLS' AS what, rolbypassrls AS has FROM me
  UNION ALL SELECT 'may create roles: ALTER ROLE %I NOCREATEROLE', rolcreaterole FROM me
  UNION ALL SELECT 'may replicate: ALTER ROLE %I NOREPLICATION', rolreplication FROM me
  UNION ALL SELECT 'owns tables of the schema avouch: connect as avouch_server, which owns nothing, instead of %I', EXISTS (
    SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN me ON c.relowner = me.oid WHERE n.nspname IN ('avouch', 'avouch_jobs'))
  UNION ALL SELECT format('is a member of %I: REVOKE %I FROM %%I', o.rolname, o.rolname), true
    FROM pg_roles o WHERE NOT o.rolsuper AND o.rolname <> current_user AND pg_has_role(current_user, o.oid, 'MEMBER')
    AND (o.rolname IN ('avouch_lookup', 'avouch_log') OR EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'avouch' AND c.relowner = o.oid))
  UNION ALL SELECT 'may create in the schema avouch: REVOKE CREATE ON SCHEMA avouch FROM %I', has_schema_privilege('avouch', 'CREATE')
  UNION ALL SELECT format('may %s the log: REVOKE %s ON %s FROM %%I', p, p, string_agg(log.name, ', ')), true
    FROM log, unnest('{INSERT,UPDATE,DELETE,TRUNCATE,TRIGGER,REFERENCES}'::text[]) p WHERE has_table_privilege(log.oid, p) GROUP BY p
  UNION ALL SELECT format('may move the heads of logs: REVOKE UPDATE (%s) ON avouch.audit_head FROM %%I', string_agg(a.attname, ', ')), count(*) > 0
    FROM pg_attribute a WHERE a.attrelid = 'avouch.audit_head'::regclass AND a.attnum > 0 AND has_column_privilege(a.attrelid, a.attnum, 'UPDATE')
) t WHERE has AND NOT (SELECT rolsuper FROM me)
UNION ALL SELECT format('is a superuser: connect as avouch_server instead of %I, or ALTER ROLE %I NOSUPERUSER', rolname, rolname) FROM me WHERE rolsuper`

// replicaRightSQL asks whether the role may set session_replication_role: PostgreSQL 15 and later can grant that.
const replicaRightSQL = `SELECT has_parameter_privilege('session_replication_role', 'SET')`

// catalogueSQL lists every table and partition with a tenant that lacks one of the nets: "table: what".
const catalogueSQL = `
WITH t AS (
  SELECT c.oid, c.relname, c.relkind, c.relrowsecurity, c.relforcerowsecurity, c.relispartition,
    (SELECT attnum FROM pg_attribute WHERE attrelid = c.oid AND attname = 'tenant_id' AND NOT attisdropped) AS tenant
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND c.relkind IN ('r', 'p', 'v', 'm')
), has AS (SELECT * FROM t WHERE tenant IS NOT NULL)
SELECT relname || ': ' || what FROM (
  SELECT relname, 'row-level security is not enabled' AS what FROM has WHERE relkind IN ('r', 'p') AND NOT relrowsecurity
  UNION ALL SELECT relname, 'row-level security is not forced' FROM has WHERE relkind IN ('r', 'p') AND NOT relforcerowsecurity
  UNION ALL SELECT relname, 'has no policy on the tenant' FROM has WHERE relkind IN ('r', 'p') AND NOT EXISTS (
    SELECT FROM pg_policy p WHERE p.polrelid = has.oid AND p.polroles = '{0}' AND p.polpermissive
      AND pg_get_expr(p.polqual, p.polrelid) = '(tenant_id = avouch.tenant())' AND pg_get_expr(p.polwithcheck, p.polrelid) = '(tenant_id = avouch.tenant())')
  UNION ALL SELECT has.relname, 'policy ' || p.polname || ' lets others than the tenant in' FROM has JOIN pg_policy p ON p.polrelid = has.oid
    WHERE NOT (p.polroles = '{0}' AND pg_get_expr(p.polqual, p.polrelid) = '(tenant_id = avouch.tenant())'
      AND pg_get_expr(p.polwithcheck, p.polrelid) = '(tenant_id = avouch.tenant())')
  UNION ALL SELECT relname, 'changes need no entry' FROM has WHERE relkind IN ('r', 'p') AND NOT EXISTS (
    SELECT FROM pg_trigger g JOIN pg_proc f ON f.oid = g.tgfoid WHERE g.tgrelid = has.oid AND g.tgenabled = 'A'
      AND (f.proname = 'require_entry' AND g.tgdeferrable AND g.tginitdeferred OR f.proname = 'log_is_insert_only' AND g.tgtype & 24 = 24))
  UNION ALL SELECT relname, 'can be truncated' FROM has WHERE relkind IN ('r', 'p') AND NOT EXISTS (
    SELECT FROM pg_trigger g WHERE g.tgrelid = has.oid AND g.tgenabled = 'A' AND g.tgtype & 32 = 32)
  UNION ALL SELECT has.relname, 'foreign key ' || k.conname || ' does not carry the tenant' FROM has JOIN pg_constraint k ON k.conrelid = has.oid AND k.contype = 'f'
    WHERE NOT EXISTS (SELECT FROM generate_subscripts(k.conkey, 1) i JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = k.confkey[i]
      WHERE k.conkey[i] = has.tenant AND a.attname = 'tenant_id')
  UNION ALL SELECT has.relname, 'unique index ' || i.indexrelid::regclass || ' does not carry the tenant' FROM has JOIN pg_index i ON i.indrelid = has.oid AND i.indisunique
    WHERE NOT has.tenant = ANY(i.indkey::int2[])
  UNION ALL SELECT has.relname, 'the view does not run as its caller' FROM has JOIN pg_class c ON c.oid = has.oid
    WHERE has.relkind IN ('v', 'm') AND NOT coalesce(c.reloptions @> '{security_invoker=true}', false)
  UNION ALL SELECT has.relname, 'foreign key points at a table without a tenant' FROM has JOIN pg_constraint k ON k.conrelid = has.oid AND k.contype = 'f'
    WHERE NOT EXISTS (SELECT FROM has h WHERE h.oid = k.confrelid)
) found ORDER BY 1`

const healthSQL = `
SELECT (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'avouch' AND c.relname ~ '^audit_entry_\d{4}_\d{2}$' AND c.relname > 'audit_entry_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM'))::int,
  (SELECT c.relpages > 0 FROM pg_class c WHERE c.oid = 'avouch.audit_entry_default'::regclass),
  coalesce((SELECT max(extract(epoch FROM now() - xact_start)) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL), 0)::float8,
  current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on' AND current_setting('synchronous_commit') <> 'off',
  current_setting('server_version')`
