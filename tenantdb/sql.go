package tenantdb

import "fmt"

// batchSQL appends a batch: the only statement that writes the log. Run alone it is a transaction; DB.Change runs it
// inside one. One row comes back for each tenant of the batch that was locked, and one for each counter.
//
//	$1 nonce: returned in every row; an answer that carries another batch's is not ours
//	$2 tenants, in order  $3 the epoch that each is to have afterwards, or 0 to keep it
//	and for each entry: $4 item  $5 tenant (index into $2, from 1)  $6 epoch decided at  $7 entry id  $8 request id
//	$9 body  $10 leaf  $11 sealed ('' for none)
//	and for each spend: $12 item  $13 counter (index into $14, from 1)
//	and for each counter: $14 tenant (index into $2)  $15 subject  $16 period  $17 limit
//
// The order is the argument. l locks the heads in tenant order, so that two servers cannot wait for each other, and its
// rows are the latest committed (a locking read follows a row's update chain). An entry is good if its tenant's epoch is
// still the one that it was decided at; an item is good if all its entries are, so that the two logs of a verification
// get both entries or none. e numbers the good entries from the locked head's size and chains them from its link.
const batchSQL = `
WITH w AS (
  SELECT * FROM unnest($2::uuid[], $3::int8[]) WITH ORDINALITY AS w(tenant_id, bump, t)
), l AS MATERIALIZED (
  SELECT h.tenant_id, h.epoch, h.size, h.chain FROM avouch.audit_head h WHERE h.tenant_id = ANY($2::uuid[])
  ORDER BY h.tenant_id FOR UPDATE
), x AS MATERIALIZED (
  SELECT * FROM unnest($4::int4[], $5::int4[], $6::int8[], $7::uuid[], $8::uuid[], $9::bytea[], $10::bytea[], $11::bytea[])
    WITH ORDINALITY AS x(item, t, epoch, entry_id, request_id, body, leaf, sealed, ord)
), g AS MATERIALIZED (
  SELECT w.t, w.bump, l.* FROM w JOIN l USING (tenant_id)
), %s bad AS MATERIALIZED (
  SELECT x.item FROM x LEFT JOIN g ON g.t = x.t AND g.epoch = x.epoch WHERE g.t IS NULL %s
), k AS MATERIALIZED (
  SELECT x.*, g.tenant_id, g.chain, g.size + row_number() OVER o - 1 AS seq, avouch.link(g.chain, x.leaf) OVER o AS link
  FROM x JOIN g ON g.t = x.t WHERE x.item NOT IN (SELECT item FROM bad)
  WINDOW o AS (PARTITION BY x.t ORDER BY x.ord)
), e AS (
  INSERT INTO avouch.audit_entry (tenant_id, seq, entry_id, request_id, body, leaf, prev, sealed)
  SELECT tenant_id, seq, entry_id, request_id, body, leaf,
    coalesce(lag(link) OVER (PARTITION BY t ORDER BY ord), chain), nullif(sealed, '') FROM k
), last AS MATERIALIZED (
  SELECT DISTINCT ON (t) t, tenant_id, seq + 1 AS size, link FROM k ORDER BY t, ord DESC
), u AS (
  UPDATE avouch.audit_head h SET size = last.size, chain = last.link, entry_xid = pg_current_xact_id(),
    epoch = CASE g.bump WHEN 0 THEN g.epoch ELSE g.bump END
  FROM last JOIN g USING (t) WHERE h.tenant_id = last.tenant_id
) %s
SELECT $1::int8, 0::int4, g.t::int4, g.epoch, g.size, coalesce(last.size, g.size) - g.size FROM g LEFT JOIN last USING (t) %s`

// appendSQL is the batch without counters, countedSQL with: an item whose counter would pass its limit is not good
// either. Counters are locked after their tenant's head, and by nobody who has not locked it.
var (
	appendSQL  = fmt.Sprintf(batchSQL, "", "", "", "")
	countedSQL = fmt.Sprintf(batchSQL, `s AS MATERIALIZED (
  SELECT * FROM unnest($12::int4[], $13::int4[]) AS s(item, c)
), c AS (
  SELECT * FROM unnest($14::int4[], $15::text[], $16::int4[], $17::int8[]) WITH ORDINALITY AS c(t, subject, period, most, c)
), n AS MATERIALIZED (
  SELECT c.c, c.period, c.most, n.tenant_id, n.subject, CASE n.period WHEN c.period THEN n.used ELSE 0 END AS used
  FROM c JOIN g USING (t) JOIN avouch.counter n ON n.tenant_id = g.tenant_id AND n.subject = c.subject
  ORDER BY n.tenant_id, n.subject FOR UPDATE OF n
), spent AS MATERIALIZED (
  SELECT want.c FROM (SELECT c, count(*) AS n FROM s GROUP BY c) want LEFT JOIN n USING (c)
  WHERE n.c IS NULL OR n.used + want.n > n.most
),`, `UNION ALL SELECT s.item FROM s JOIN spent USING (c)`, `, un AS (
  UPDATE avouch.counter t SET used = n.used + k.n, period = n.period
  FROM (SELECT c, count(*) AS n FROM s WHERE item NOT IN (SELECT item FROM bad) GROUP BY c) k JOIN n USING (c)
  WHERE t.tenant_id = n.tenant_id AND t.subject = n.subject
)`, `UNION ALL SELECT $1::int8, 1::int4, n.c::int4, n.used, n.most, 0 FROM n`)
)

const settleHeadsSQL = `SELECT tenant_id, log_id, epoch, size FROM avouch.audit_head WHERE tenant_id = ANY($1::uuid[]) ORDER BY tenant_id FOR UPDATE`

const settleFenceSQL = `UPDATE avouch.audit_head SET epoch = $2 WHERE tenant_id = ANY($1::uuid[])`

const settleFindSQL = `SELECT tenant_id, seq, entry_id FROM avouch.audit_entry
  WHERE tenant_id = $1 AND seq >= $2 AND entry_id = ANY($3::uuid[])`

const headSQL = `SELECT log_id, epoch FROM avouch.audit_head WHERE tenant_id = $1`

const lockHeadSQL = `SELECT log_id, epoch FROM avouch.audit_head WHERE tenant_id = $1 FOR UPDATE`

const newHeadSQL = `INSERT INTO avouch.audit_head (tenant_id, log_id, epoch) VALUES ($1, $2, $3)`

const bumpAllSQL = `
WITH l AS MATERIALIZED (SELECT tenant_id FROM avouch.audit_head WHERE tenant_id <> $1 ORDER BY tenant_id FOR UPDATE)
UPDATE avouch.audit_head h SET epoch = $2 + (hashtextextended(h.tenant_id::text, $2) >> 2) FROM l WHERE h.tenant_id = l.tenant_id`

const setCallerSQL = `SELECT set_config('avouch.tenant', $1, true), set_config('avouch.request', $2, true)`

const tenantsSQL = `SELECT avouch.lookup_tenants($1, $2)`

const freeHeadsSQL = `SELECT tenant_id FROM avouch.audit_head WHERE tenant_id = ANY($1::uuid[]) ORDER BY tenant_id FOR UPDATE SKIP LOCKED`

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
    AND (o.rolname = 'avouch_lookup' OR EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'avouch' AND c.relowner = o.oid))
  UNION ALL SELECT 'inherits the log writer''s rights: ALTER ROLE %I NOINHERIT', pg_has_role(current_user, 'avouch_log', 'USAGE')
  UNION ALL SELECT 'may create in the schema avouch: REVOKE CREATE ON SCHEMA avouch FROM %I', has_schema_privilege('avouch', 'CREATE')
  UNION ALL SELECT format('may %s the log: REVOKE %s ON %s FROM %%I', p, p, string_agg(log.name, ', ')), true
    FROM log, unnest('{UPDATE,DELETE,TRUNCATE,TRIGGER,REFERENCES}'::text[]) p WHERE has_table_privilege(log.oid, p) GROUP BY p
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
