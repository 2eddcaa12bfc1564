-- The whole schema, as the migrations make it: to read, and to see in a diff what a migration does. Nothing runs it.
-- Written by make schema, held by tenantdb.TestSchemaFile. The roles are in tenantdb/migrate.go; the log's months are left
-- out, and avouch.ensure_partitions makes them.

CREATE SCHEMA avouch;
CREATE SCHEMA avouch_jobs;

CREATE TABLE avouch.schema_version (
  version integer NOT NULL
);

CREATE OR REPLACE FUNCTION avouch.tenant()
 RETURNS uuid
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN (NULLIF(current_setting('avouch.tenant'::text, true), ''::text))::uuid;

CREATE TABLE avouch.audit_head (
  tenant_id uuid NOT NULL,
  log_id uuid NOT NULL,
  size bigint DEFAULT 0 NOT NULL,
  chain bytea DEFAULT decode(repeat('00'::text, 32), 'hex'::text) NOT NULL,
  epoch bigint NOT NULL
) WITH (fillfactor=20, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=1000);

CREATE TABLE avouch.audit_entry (
  tenant_id uuid NOT NULL,
  seq bigint NOT NULL,
  written_at timestamp with time zone DEFAULT now() NOT NULL,
  entry_id uuid NOT NULL,
  request_id uuid NOT NULL,
  body bytea NOT NULL,
  leaf bytea NOT NULL,
  prev bytea NOT NULL,
  sealed bytea
) PARTITION BY RANGE (written_at);

CREATE OR REPLACE FUNCTION avouch.log_is_insert_only()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
  RAISE EXCEPTION 'the audit log is insert-only: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $function$;

CREATE OR REPLACE FUNCTION avouch.require_entry()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
  t uuid := CASE TG_OP WHEN 'DELETE' THEN OLD.tenant_id ELSE NEW.tenant_id END;
BEGIN
  IF TG_OP = 'UPDATE' AND OLD.tenant_id <> NEW.tenant_id THEN -- the entry would be missing in the log that loses the row
    RAISE EXCEPTION 'a row of table % cannot change tenants', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  -- The whole of a primary key, so that there is one plan for it however large the log grows.
  IF NOT EXISTS (SELECT FROM avouch.audit_entry e
    WHERE e.tenant_id = t AND e.seq = (SELECT h.size - 1 FROM avouch.audit_head h WHERE h.tenant_id = t) AND e.written_at = now() AND e.xmin = pg_current_xact_id()::xid) THEN
    RAISE EXCEPTION 'table % of a tenant changed without an audit entry', TG_TABLE_NAME
      USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NULL;
END $function$;

CREATE OR REPLACE FUNCTION avouch.refuse_truncate()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
  RAISE EXCEPTION 'table % cannot be truncated', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $function$;

CREATE OR REPLACE PROCEDURE avouch.protect(IN tbl regclass, IN audited boolean DEFAULT true)
 LANGUAGE plpgsql
AS $procedure$
BEGIN
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', tbl);
  EXECUTE format('CREATE POLICY tenant ON %s USING (tenant_id = avouch.tenant()) WITH CHECK (tenant_id = avouch.tenant())', tbl);
  EXECUTE format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate()', tbl);
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER refuse_truncate', tbl);
  IF audited THEN
    EXECUTE format('CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR UPDATE OR DELETE ON %s
      DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry()', tbl);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER require_entry', tbl);
  END IF;
END $procedure$;

CREATE OR REPLACE FUNCTION avouch.protect_log(tbl regclass)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
BEGIN
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', tbl);
  EXECUTE format('CREATE POLICY tenant ON %s USING (tenant_id = avouch.tenant()) WITH CHECK (tenant_id = avouch.tenant())', tbl);
  EXECUTE format('CREATE POLICY append ON %s TO avouch_log USING (current_user = ''avouch_log'') WITH CHECK (current_user = ''avouch_log'')', tbl);
  IF tbl <> 'avouch.audit_head'::regclass THEN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = tbl AND tgname = 'insert_only') THEN
      EXECUTE format('CREATE TRIGGER insert_only BEFORE UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION avouch.log_is_insert_only()', tbl);
    END IF;
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER insert_only', tbl);
    EXECUTE format('CREATE TRIGGER insert_only_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION avouch.log_is_insert_only()', tbl);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER insert_only_truncate', tbl);
  ELSE
    EXECUTE format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate()', tbl);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER refuse_truncate', tbl);
  END IF;
END $function$;
CREATE TABLE avouch.audit_entry_default PARTITION OF avouch.audit_entry DEFAULT;

CREATE OR REPLACE FUNCTION avouch.ensure_partitions()
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
  first date := date_trunc('month', now() AT TIME ZONE 'UTC')::date;
  made integer := 0;
  m date;
  part text;
BEGIN
  -- Two servers starting at once would both find the month missing.
  PERFORM pg_advisory_xact_lock(hashtext('avouch.ensure_partitions'));
  FOR i IN 0..3 LOOP
    m := first + make_interval(months => i);
    part := 'audit_entry_' || to_char(m, 'YYYY_MM');
    CONTINUE WHEN to_regclass('avouch.' || part) IS NOT NULL;
    EXECUTE format('CREATE TABLE avouch.%I PARTITION OF avouch.audit_entry FOR VALUES FROM (%L) TO (%L)', part,
      m::timestamp AT TIME ZONE 'UTC', (m + interval '1 month')::timestamp AT TIME ZONE 'UTC');
    PERFORM avouch.protect_log(format('avouch.%I', part)::regclass);
    made := made + 1;
  END LOOP;
  RETURN made;
END $function$;

CREATE TABLE avouch.organisation (
  tenant_id uuid NOT NULL,
  name text NOT NULL,
  contact bytea,
  created_at timestamp with time zone NOT NULL,
  suspended_at timestamp with time zone,
  token_lifetime interval DEFAULT '24:00:00'::interval NOT NULL,
  live_tokens integer DEFAULT 1000 NOT NULL,
  monthly_quota bigint,
  badge boolean DEFAULT false NOT NULL,
  version bigint DEFAULT 1 NOT NULL
);

CREATE TABLE avouch.counter (
  tenant_id uuid NOT NULL,
  subject text NOT NULL,
  period bigint DEFAULT 0 NOT NULL,
  used bigint DEFAULT 0 NOT NULL
) WITH (fillfactor=50);

CREATE TABLE avouch.idempotency (
  tenant_id uuid NOT NULL,
  actor text NOT NULL,
  key text NOT NULL,
  request bytea NOT NULL,
  answer bytea,
  status integer,
  created_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE avouch.installation (
  tenant_id uuid NOT NULL,
  issuer text NOT NULL
);

CREATE TABLE avouch.incident (
  tenant_id uuid NOT NULL,
  incident_id uuid NOT NULL,
  kind text NOT NULL,
  subject text DEFAULT ''::text NOT NULL,
  detail text NOT NULL,
  opened_at timestamp with time zone NOT NULL,
  resolved_at timestamp with time zone
);

CREATE OR REPLACE FUNCTION avouch.lookup_tenants(after uuid, most integer)
 RETURNS SETOF uuid
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$SELECT o.tenant_id FROM avouch.organisation o WHERE o.tenant_id > after ORDER BY o.tenant_id LIMIT most$function$;

CREATE OR REPLACE FUNCTION avouch.new_epoch()
 RETURNS bigint
 LANGUAGE sql
RETURN hashtextextended((gen_random_uuid())::text, (0)::bigint);

CREATE OR REPLACE FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[], items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], spend_items integer[], spend_counters integer[], counter_places integer[], counter_subjects text[], counter_periods integer[], counter_limits bigint[], OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint)
 RETURNS SETOF record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
  epoch_of bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(tenants)]);
  size_of  bigint[] := epoch_of;
  first_of bigint[];
  chain_of bytea[] := array_fill(NULL::bytea, ARRAY[cardinality(tenants)]);
  bad      boolean[];
  seqs     bigint[];
  logs     uuid[];
  leaves   bytea[];
  prevs    bytea[];
  used_of  bigint[];
  left_of  bigint[];
  held     record;
  last_tenant  uuid;
  last_subject text;
  body     bytea;
  i        integer;
  p        integer;
BEGIN
  echo := nonce;
  i := 0;
  FOREACH body IN ARRAY bodies LOOP -- before the locks: another server may hold them
    i := i + 1;
    leaves[i] := sha256('\x00'::bytea || body);
  END LOOP;

  i := 1;
  FOR held IN SELECT h.tenant_id, h.epoch, h.size, h.chain FROM avouch.audit_head h WHERE h.tenant_id = ANY(tenants) ORDER BY h.tenant_id FOR UPDATE LOOP
    WHILE tenants[i] <> held.tenant_id LOOP i := i + 1; END LOOP;
    epoch_of[i] := held.epoch; size_of[i] := held.size; chain_of[i] := held.chain;
  END LOOP;
  first_of := size_of;
  FOR i IN 1..cardinality(items) LOOP
    IF epoch_of[places[i]] IS DISTINCT FROM epochs[i] THEN bad[items[i]] := true; END IF;
  END LOOP;

  -- Counters are locked after their tenants' heads, and by nobody who has not locked those. An item is not good either if
  -- the batch asks more of its counter than is left. Of asks that differ in limit or period one gets the counter. A period
  -- never goes back: a server whose clock is behind counts in the new one.
  IF cardinality(spend_items) > 0 THEN
    kind := 1;
    FOR held IN SELECT k.tenant_id, k.subject, w.c, w.most, CASE WHEN k.period < w.period THEN 0 ELSE k.used END AS used
      FROM unnest(counter_places, counter_subjects, counter_periods, counter_limits) WITH ORDINALITY AS w(place, subject, period, most, c)
      JOIN avouch.counter k ON k.tenant_id = tenants[w.place] AND k.subject = w.subject
      WHERE epoch_of[w.place] IS NOT NULL ORDER BY k.tenant_id, k.subject, w.c FOR UPDATE OF k LOOP
      CONTINUE WHEN (held.tenant_id, held.subject) = (last_tenant, last_subject);
      last_tenant := held.tenant_id; last_subject := held.subject;
      left_of[held.c] := held.most - held.used; used_of[held.c] := held.used;
      place := held.c; a := held.used; b := held.most; n := 0;
      RETURN NEXT;
    END LOOP;
    FOREACH p IN ARRAY spend_counters LOOP left_of[p] := left_of[p] - 1; END LOOP;
    FOR i IN 1..cardinality(spend_items) LOOP
      IF left_of[spend_counters[i]] >= 0 THEN CONTINUE; END IF; -- NULL: not held
      bad[spend_items[i]] := true;
    END LOOP;
    FOR i IN 1..cardinality(spend_items) LOOP
      CONTINUE WHEN bad[spend_items[i]];
      p := spend_counters[i]; used_of[p] := used_of[p] + 1;
    END LOOP;
    FOR c IN 1..cardinality(counter_limits) LOOP
      UPDATE avouch.counter k SET used = used_of[c], period = greatest(k.period, counter_periods[c])
      WHERE k.tenant_id = tenants[counter_places[c]] AND k.subject = counter_subjects[c] AND used_of[c] IS NOT NULL;
    END LOOP;
  END IF;

  FOR i IN 1..cardinality(items) LOOP
    IF bad[items[i]] THEN
      logs[i] := NULL; seqs[i] := NULL; prevs[i] := NULL; -- unnest is to find a place for each
      CONTINUE;
    END IF;
    p := places[i]; -- by subscript throughout: unnest does not know of bounds that an array may have
    logs[i] := tenants[p]; seqs[i] := size_of[p]; prevs[i] := chain_of[p];
    size_of[p] := size_of[p] + 1;
    chain_of[p] := sha256(E'avouch/link/v1\n'::bytea || chain_of[p] || leaves[i]);
  END LOOP;
  INSERT INTO avouch.audit_entry (tenant_id, seq, entry_id, request_id, body, leaf, prev, sealed)
  SELECT x.log, x.seq, x.entry, x.request, x.body, x.leaf, x.prev, nullif(x.seal, '')
  FROM unnest(logs, seqs, entries, requests, bodies, leaves, prevs, seals) AS x(log, seq, entry, request, body, leaf, prev, seal)
  WHERE x.seq IS NOT NULL;

  kind := 0;
  FOR t IN 1..cardinality(tenants) LOOP
    CONTINUE WHEN epoch_of[t] IS NULL;
    place := t; a := epoch_of[t]; b := first_of[t]; n := size_of[t] - b;
    IF n > 0 THEN
      UPDATE avouch.audit_head h SET size = size_of[t], chain = chain_of[t], epoch = CASE WHEN moves[t] THEN avouch.new_epoch() ELSE a END
      WHERE h.tenant_id = tenants[t];
    END IF;
    RETURN NEXT;
  END LOOP;
END $function$;

CREATE OR REPLACE FUNCTION avouch.lock_heads(tenants uuid[], fence boolean, OUT tenant_id uuid, OUT log_id uuid, OUT epoch bigint, OUT size bigint)
 RETURNS SETOF record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
BEGIN
  RETURN QUERY SELECT h.tenant_id, h.log_id, h.epoch, h.size FROM avouch.audit_head h WHERE h.tenant_id = ANY(tenants) ORDER BY h.tenant_id FOR UPDATE;
  IF fence THEN
    UPDATE avouch.audit_head h SET epoch = avouch.new_epoch() WHERE h.tenant_id = ANY(tenants);
  END IF;
END $function$;

CREATE OR REPLACE FUNCTION avouch.free_heads(tenants uuid[])
 RETURNS SETOF uuid
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$SELECT h.tenant_id FROM avouch.audit_head h WHERE h.tenant_id = ANY(tenants) ORDER BY h.tenant_id FOR UPDATE SKIP LOCKED$function$;

CREATE OR REPLACE FUNCTION avouch.find_entries(tenant uuid, first bigint, entries uuid[], OUT entry_id uuid, OUT seq bigint)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$SELECT e.entry_id, e.seq FROM avouch.audit_entry e WHERE e.tenant_id = tenant AND e.seq >= first AND e.entry_id = ANY(entries)$function$;

CREATE OR REPLACE FUNCTION avouch.move_epochs(excepted uuid)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
WITH l AS MATERIALIZED (SELECT h.tenant_id FROM avouch.audit_head h WHERE h.tenant_id <> excepted ORDER BY h.tenant_id FOR UPDATE)
UPDATE avouch.audit_head h SET epoch = avouch.new_epoch() FROM l WHERE h.tenant_id = l.tenant_id
$function$;

CREATE TABLE avouch.signing_key (
  tenant_id uuid NOT NULL,
  kid text NOT NULL,
  algorithm text NOT NULL,
  use text NOT NULL,
  public_key bytea NOT NULL,
  private_key bytea,
  created_at timestamp with time zone NOT NULL,
  signs_from timestamp with time zone NOT NULL,
  retires_at timestamp with time zone,
  revoked_at timestamp with time zone
);

CREATE TABLE avouch.scope (
  tenant_id uuid NOT NULL,
  name text NOT NULL,
  risk text NOT NULL,
  description text NOT NULL,
  created_at timestamp with time zone NOT NULL
);

CREATE TABLE avouch.api_key (
  tenant_id uuid NOT NULL,
  key_id text NOT NULL,
  kind text NOT NULL,
  live boolean NOT NULL,
  name text NOT NULL,
  hint text NOT NULL,
  scopes text[] NOT NULL,
  resources text[] DEFAULT '{}'::text[] NOT NULL,
  owners uuid[] DEFAULT '{}'::uuid[] NOT NULL,
  metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
  monthly_quota bigint,
  created_at timestamp with time zone NOT NULL,
  expires_at timestamp with time zone,
  disabled_at timestamp with time zone,
  revoked_at timestamp with time zone,
  version bigint DEFAULT 1 NOT NULL,
  owner text DEFAULT ''::text NOT NULL,
  not_before timestamp with time zone,
  max_uses bigint,
  allowed_cidrs cidr[] DEFAULT '{}'::cidr[] NOT NULL,
  rate_limits jsonb DEFAULT '[]'::jsonb NOT NULL,
  shares text[] DEFAULT '{}'::text[] NOT NULL,
  replaces text,
  replaced_by text,
  first_id text,
  leaked_at timestamp with time zone,
  noticed smallint,
  made_by text,
  life_us bigint,
  family text GENERATED ALWAYS AS (COALESCE(first_id, key_id)) STORED NOT NULL
);

CREATE TABLE avouch.api_key_verifier (
  tenant_id uuid NOT NULL,
  key_id text NOT NULL,
  digest bytea NOT NULL,
  issued_at_ns bigint NOT NULL,
  tenant_version integer NOT NULL,
  platform_version integer NOT NULL
);

CREATE TABLE avouch.agent (
  tenant_id uuid NOT NULL,
  agent_id uuid NOT NULL,
  name text NOT NULL,
  description text DEFAULT ''::text NOT NULL,
  scopes text[] NOT NULL,
  visibility text DEFAULT 'all'::text NOT NULL,
  visible_to uuid[] DEFAULT '{}'::uuid[] NOT NULL,
  created_at timestamp with time zone NOT NULL,
  suspended_at timestamp with time zone,
  revoked_at timestamp with time zone,
  generation bigint DEFAULT 1 NOT NULL,
  version bigint DEFAULT 1 NOT NULL
);

CREATE TABLE avouch.agent_key (
  tenant_id uuid NOT NULL,
  agent_id uuid NOT NULL,
  kid text NOT NULL,
  use text NOT NULL,
  algorithm text NOT NULL,
  public_key bytea NOT NULL,
  created_at timestamp with time zone NOT NULL
);

CREATE TABLE avouch.agent_token (
  tenant_id uuid NOT NULL,
  jti uuid NOT NULL,
  agent_id uuid NOT NULL,
  generation bigint NOT NULL,
  issued_at timestamp with time zone NOT NULL,
  expires_at timestamp with time zone NOT NULL,
  resources text[] DEFAULT '{}'::text[] NOT NULL,
  max_uses bigint,
  revoked_at timestamp with time zone
);

CREATE OR REPLACE FUNCTION avouch.lookup_key(wanted text, OUT tenant_id uuid, OUT digest bytea, OUT issued_at_ns bigint, OUT tenant_version integer, OUT platform_version integer)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$SELECT CASE WHEN n.key_id = wanted THEN n.tenant_id END, CASE WHEN n.key_id = wanted THEN n.digest END, CASE WHEN n.key_id = wanted THEN n.issued_at_ns END,
      CASE WHEN n.key_id = wanted THEN n.tenant_version END, CASE WHEN n.key_id = wanted THEN n.platform_version END
    FROM (SELECT * FROM avouch.api_key_verifier v WHERE v.key_id >= wanted ORDER BY v.key_id LIMIT 1) n$function$;

CREATE OR REPLACE FUNCTION avouch.lookup_agent(wanted uuid)
 RETURNS uuid
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$SELECT a.tenant_id FROM avouch.agent a WHERE a.agent_id = wanted$function$;

CREATE TABLE avouch.api_key_finder (
  tenant_id uuid NOT NULL,
  finder bytea NOT NULL,
  key_id text NOT NULL,
  tenant_version integer NOT NULL,
  platform_version integer NOT NULL
);

CREATE TABLE avouch.api_identity (
  tenant_id uuid NOT NULL,
  owner text NOT NULL,
  max_keys integer,
  rate_limits jsonb DEFAULT '[]'::jsonb NOT NULL,
  metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
  created_at timestamp with time zone NOT NULL,
  version bigint DEFAULT 1 NOT NULL
);

CREATE TABLE avouch.api_key_use (
  tenant_id uuid NOT NULL,
  key_id text NOT NULL,
  used_at timestamp with time zone,
  client bytea,
  refused bigint DEFAULT 0 NOT NULL
) WITH (fillfactor=50);

CREATE OR REPLACE FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[], items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], spend_items integer[], spend_counters integer[], spend_amounts bigint[], counter_places integer[], counter_subjects text[], counter_periods bigint[], counter_windows bigint[], counter_limits bigint[], OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint)
 RETURNS SETOF record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
  epoch_of bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(tenants)]);
  size_of  bigint[] := epoch_of;
  first_of bigint[];
  chain_of bytea[] := array_fill(NULL::bytea, ARRAY[cardinality(tenants)]);
  bad      boolean[];
  seqs     bigint[];
  logs     uuid[];
  leaves   bytea[];
  prevs    bytea[];
  used_of  bigint[];
  left_of  bigint[];
  period_of bigint[];
  taken    boolean[];
  held     record;
  last_tenant  uuid;
  last_subject text;
  body     bytea;
  i        integer;
  p        integer;
BEGIN
  echo := nonce;
  i := 0;
  FOREACH body IN ARRAY bodies LOOP -- before the locks: another server may hold them
    i := i + 1;
    leaves[i] := sha256('\x00'::bytea || body);
  END LOOP;

  i := 1;
  FOR held IN SELECT h.tenant_id, h.epoch, h.size, h.chain FROM avouch.audit_head h WHERE h.tenant_id = ANY(tenants) ORDER BY h.tenant_id FOR UPDATE LOOP
    WHILE tenants[i] <> held.tenant_id LOOP i := i + 1; END LOOP;
    epoch_of[i] := held.epoch; size_of[i] := held.size; chain_of[i] := held.chain;
  END LOOP;
  first_of := size_of;
  FOR i IN 1..cardinality(items) LOOP
    IF epoch_of[places[i]] IS DISTINCT FROM epochs[i] THEN bad[items[i]] := true; END IF;
  END LOOP;

  -- Counters are locked after their tenants' heads, and by nobody who has not locked those. An item is not good either if
  -- the batch asks more of its counter than is left. Of asks that differ in limit, period or window one gets the counter. A
  -- counter starts anew when its period is a window or more behind; it never goes back: a server whose clock is behind
  -- counts in the new one.
  IF cardinality(spend_items) > 0 THEN
    kind := 1;
    FOR held IN SELECT k.tenant_id, k.subject, w.c, w.most, s.anew, CASE WHEN s.anew THEN 0 ELSE k.used END AS used, CASE WHEN s.anew THEN w.period ELSE k.period END AS period
      FROM unnest(counter_places, counter_subjects, counter_periods, counter_windows, counter_limits) WITH ORDINALITY AS w(place, subject, period, span, most, c)
      JOIN avouch.counter k ON k.tenant_id = tenants[w.place] AND k.subject = w.subject
      CROSS JOIN LATERAL (SELECT k.period + w.span <= w.period AS anew) s
      WHERE epoch_of[w.place] IS NOT NULL ORDER BY k.tenant_id, k.subject, w.c FOR UPDATE OF k LOOP
      CONTINUE WHEN (held.tenant_id, held.subject) = (last_tenant, last_subject);
      last_tenant := held.tenant_id; last_subject := held.subject;
      left_of[held.c] := held.most - held.used; used_of[held.c] := held.used; period_of[held.c] := held.period;
      place := held.c; a := held.used; b := held.most; n := held.period;
      RETURN NEXT;
    END LOOP;
    FOR i IN 1..cardinality(spend_items) LOOP
      p := spend_counters[i]; left_of[p] := left_of[p] - spend_amounts[i];
    END LOOP;
    FOR i IN 1..cardinality(spend_items) LOOP
      IF left_of[spend_counters[i]] >= 0 OR spend_amounts[i] = 0 THEN CONTINUE; END IF; -- NULL: not held
      bad[spend_items[i]] := true;
    END LOOP;
    FOR i IN 1..cardinality(spend_items) LOOP
      CONTINUE WHEN bad[spend_items[i]] OR spend_amounts[i] = 0;
      p := spend_counters[i]; used_of[p] := used_of[p] + spend_amounts[i]; taken[p] := true;
    END LOOP;
    FOR c IN 1..cardinality(counter_limits) LOOP
      CONTINUE WHEN taken[c] IS NOT TRUE; -- what was refused, or only looked, starts no window
      UPDATE avouch.counter k SET used = used_of[c], period = period_of[c]
      WHERE k.tenant_id = tenants[counter_places[c]] AND k.subject = counter_subjects[c];
    END LOOP;
  END IF;

  FOR i IN 1..cardinality(items) LOOP
    IF bad[items[i]] THEN
      logs[i] := NULL; seqs[i] := NULL; prevs[i] := NULL; -- unnest is to find a place for each
      CONTINUE;
    END IF;
    p := places[i]; -- by subscript throughout: unnest does not know of bounds that an array may have
    logs[i] := tenants[p]; seqs[i] := size_of[p]; prevs[i] := chain_of[p];
    size_of[p] := size_of[p] + 1;
    chain_of[p] := sha256(E'avouch/link/v1\n'::bytea || chain_of[p] || leaves[i]);
  END LOOP;
  INSERT INTO avouch.audit_entry (tenant_id, seq, entry_id, request_id, body, leaf, prev, sealed)
  SELECT x.log, x.seq, x.entry, x.request, x.body, x.leaf, x.prev, nullif(x.seal, '')
  FROM unnest(logs, seqs, entries, requests, bodies, leaves, prevs, seals) AS x(log, seq, entry, request, body, leaf, prev, seal)
  WHERE x.seq IS NOT NULL;

  kind := 0;
  FOR t IN 1..cardinality(tenants) LOOP
    CONTINUE WHEN epoch_of[t] IS NULL;
    place := t; a := epoch_of[t]; b := first_of[t]; n := size_of[t] - b;
    IF n > 0 THEN
      UPDATE avouch.audit_head h SET size = size_of[t], chain = chain_of[t], epoch = CASE WHEN moves[t] THEN avouch.new_epoch() ELSE a END
      WHERE h.tenant_id = tenants[t];
    END IF;
    RETURN NEXT;
  END LOOP;
END $function$;

CREATE TABLE avouch.schema_serves (
  oldest integer NOT NULL
);
CREATE TYPE avouch_jobs.river_job_state AS ENUM ('available', 'cancelled', 'completed', 'discarded', 'pending', 'retryable', 'running', 'scheduled');
CREATE SEQUENCE avouch_jobs.river_job_id_seq AS bigint START 1 INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 CACHE 1;

CREATE TABLE avouch_jobs.river_job (
  id bigint DEFAULT nextval('avouch_jobs.river_job_id_seq'::regclass) NOT NULL,
  state avouch_jobs.river_job_state DEFAULT 'available'::avouch_jobs.river_job_state NOT NULL,
  attempt smallint DEFAULT 0 NOT NULL,
  max_attempts smallint DEFAULT 25 NOT NULL,
  attempted_at timestamp with time zone,
  created_at timestamp with time zone DEFAULT now() NOT NULL,
  finalized_at timestamp with time zone,
  scheduled_at timestamp with time zone DEFAULT now() NOT NULL,
  priority smallint DEFAULT 1 NOT NULL,
  args jsonb NOT NULL,
  attempted_by text[],
  errors jsonb[],
  kind text NOT NULL,
  metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
  queue text DEFAULT 'default'::text NOT NULL,
  tags character varying(255)[] DEFAULT '{}'::character varying[] NOT NULL,
  unique_key bytea,
  unique_states bit(8)
);

CREATE UNLOGGED TABLE avouch_jobs.river_leader (
  elected_at timestamp with time zone NOT NULL,
  expires_at timestamp with time zone NOT NULL,
  leader_id text NOT NULL,
  name text DEFAULT 'default'::text NOT NULL
);

CREATE TABLE avouch_jobs.river_queue (
  name text NOT NULL,
  created_at timestamp with time zone DEFAULT now() NOT NULL,
  metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
  paused_at timestamp with time zone,
  updated_at timestamp with time zone DEFAULT CURRENT_TIMESTAMP NOT NULL
);

CREATE TABLE avouch_jobs.river_migration (
  line text NOT NULL,
  version bigint NOT NULL,
  created_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE OR REPLACE FUNCTION avouch_jobs.river_job_state_in_bitmask(bitmask bit, state avouch_jobs.river_job_state)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
AS $function$
    SELECT CASE state
        WHEN 'available' THEN get_bit(bitmask, 7)
        WHEN 'cancelled' THEN get_bit(bitmask, 6)
        WHEN 'completed' THEN get_bit(bitmask, 5)
        WHEN 'discarded' THEN get_bit(bitmask, 4)
        WHEN 'pending'   THEN get_bit(bitmask, 3)
        WHEN 'retryable' THEN get_bit(bitmask, 2)
        WHEN 'running'   THEN get_bit(bitmask, 1)
        WHEN 'scheduled' THEN get_bit(bitmask, 0)
        ELSE 0
    END = 1;
$function$;
CREATE SEQUENCE avouch_jobs.river_notification_id_seq AS bigint START 1 INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 CACHE 1;

CREATE TABLE avouch_jobs.river_notification (
  id bigint DEFAULT nextval('avouch_jobs.river_notification_id_seq'::regclass) NOT NULL,
  created_at timestamp with time zone DEFAULT now() NOT NULL,
  payload text NOT NULL,
  topic text NOT NULL
);

ALTER TABLE avouch.audit_entry ALTER body SET STORAGE EXTERNAL;
ALTER TABLE avouch.audit_entry ALTER leaf SET STORAGE EXTERNAL;
ALTER TABLE avouch.audit_entry ALTER prev SET STORAGE EXTERNAL;
ALTER TABLE avouch.audit_entry ALTER sealed SET STORAGE EXTERNAL;
ALTER SEQUENCE avouch_jobs.river_job_id_seq OWNED BY avouch_jobs.river_job.id;
ALTER SEQUENCE avouch_jobs.river_notification_id_seq OWNED BY avouch_jobs.river_notification.id;

ALTER TABLE avouch.agent ADD CONSTRAINT agent_description_check CHECK ((length(description) <= 2000));
ALTER TABLE avouch.agent ADD CONSTRAINT agent_name_check CHECK (((length(name) >= 1) AND (length(name) <= 200)));
ALTER TABLE avouch.agent ADD CONSTRAINT agent_pkey PRIMARY KEY (tenant_id, agent_id);
ALTER TABLE avouch.agent ADD CONSTRAINT agent_visibility_check CHECK ((visibility = ANY (ARRAY['all'::text, 'listed'::text, 'none'::text])));
ALTER TABLE avouch.agent_key ADD CONSTRAINT agent_key_kid_check CHECK (((length(kid) >= 1) AND (length(kid) <= 64)));
ALTER TABLE avouch.agent_key ADD CONSTRAINT agent_key_pkey PRIMARY KEY (tenant_id, agent_id, kid);
ALTER TABLE avouch.agent_key ADD CONSTRAINT agent_key_use_check CHECK (((length(use) >= 1) AND (length(use) <= 32)));
ALTER TABLE avouch.agent_token ADD CONSTRAINT agent_token_max_uses_check CHECK ((max_uses > 0));
ALTER TABLE avouch.agent_token ADD CONSTRAINT agent_token_pkey PRIMARY KEY (tenant_id, jti);
ALTER TABLE avouch.api_identity ADD CONSTRAINT api_identity_max_keys_check CHECK ((max_keys > 0));
ALTER TABLE avouch.api_identity ADD CONSTRAINT api_identity_owner_check CHECK (((length(owner) >= 1) AND (length(owner) <= 200)));
ALTER TABLE avouch.api_identity ADD CONSTRAINT api_identity_pkey PRIMARY KEY (tenant_id, owner);
ALTER TABLE avouch.api_key ADD CONSTRAINT api_key_key_id_check CHECK ((length(key_id) = 11));
ALTER TABLE avouch.api_key ADD CONSTRAINT api_key_kind_check CHECK ((kind = ANY (ARRAY['owner'::text, 'service'::text, 'data'::text])));
ALTER TABLE avouch.api_key ADD CONSTRAINT api_key_max_uses_check CHECK ((max_uses > 0));
ALTER TABLE avouch.api_key ADD CONSTRAINT api_key_monthly_quota_check CHECK ((monthly_quota >= 0));
ALTER TABLE avouch.api_key ADD CONSTRAINT api_key_name_check CHECK (((length(name) >= 1) AND (length(name) <= 200)));
ALTER TABLE avouch.api_key ADD CONSTRAINT api_key_owner_check CHECK ((length(owner) <= 200));
ALTER TABLE avouch.api_key ADD CONSTRAINT api_key_pkey PRIMARY KEY (tenant_id, key_id);
ALTER TABLE avouch.api_key_finder ADD CONSTRAINT api_key_finder_finder_check CHECK ((length(finder) = 32));
ALTER TABLE avouch.api_key_finder ADD CONSTRAINT api_key_finder_pkey PRIMARY KEY (tenant_id, finder);
ALTER TABLE avouch.api_key_finder ADD CONSTRAINT api_key_finder_tenant_id_key_id_key UNIQUE (tenant_id, key_id);
ALTER TABLE avouch.api_key_use ADD CONSTRAINT api_key_use_pkey PRIMARY KEY (tenant_id, key_id);
ALTER TABLE avouch.api_key_verifier ADD CONSTRAINT api_key_verifier_digest_check CHECK ((length(digest) = 32));
ALTER TABLE avouch.api_key_verifier ADD CONSTRAINT api_key_verifier_pkey PRIMARY KEY (tenant_id, key_id);
ALTER TABLE avouch.audit_entry ADD CONSTRAINT audit_entry_body_check CHECK ((length(body) <= 16384));
ALTER TABLE avouch.audit_entry ADD CONSTRAINT audit_entry_pkey PRIMARY KEY (tenant_id, seq, written_at);
ALTER TABLE avouch.audit_head ADD CONSTRAINT audit_head_pkey PRIMARY KEY (tenant_id);
ALTER TABLE avouch.counter ADD CONSTRAINT counter_pkey PRIMARY KEY (tenant_id, subject);
ALTER TABLE avouch.counter ADD CONSTRAINT counter_subject_check CHECK ((length(subject) <= 64));
ALTER TABLE avouch.idempotency ADD CONSTRAINT idempotency_key_check CHECK (((length(key) >= 1) AND (length(key) <= 255)));
ALTER TABLE avouch.idempotency ADD CONSTRAINT idempotency_pkey PRIMARY KEY (tenant_id, actor, key);
ALTER TABLE avouch.incident ADD CONSTRAINT incident_pkey PRIMARY KEY (tenant_id, incident_id);
ALTER TABLE avouch.installation ADD CONSTRAINT installation_pkey PRIMARY KEY (tenant_id);
ALTER TABLE avouch.organisation ADD CONSTRAINT organisation_live_tokens_check CHECK ((live_tokens > 0));
ALTER TABLE avouch.organisation ADD CONSTRAINT organisation_monthly_quota_check CHECK ((monthly_quota >= 0));
ALTER TABLE avouch.organisation ADD CONSTRAINT organisation_name_check CHECK (((length(name) >= 1) AND (length(name) <= 200)));
ALTER TABLE avouch.organisation ADD CONSTRAINT organisation_pkey PRIMARY KEY (tenant_id);
ALTER TABLE avouch.organisation ADD CONSTRAINT organisation_token_lifetime_check CHECK (((token_lifetime >= '00:05:00'::interval) AND (token_lifetime <= '24:00:00'::interval)));
ALTER TABLE avouch.scope ADD CONSTRAINT scope_description_check CHECK ((length(description) <= 500));
ALTER TABLE avouch.scope ADD CONSTRAINT scope_name_check CHECK (((length(name) >= 1) AND (length(name) <= 64)));
ALTER TABLE avouch.scope ADD CONSTRAINT scope_pkey PRIMARY KEY (tenant_id, name);
ALTER TABLE avouch.scope ADD CONSTRAINT scope_risk_check CHECK ((risk = ANY (ARRAY['low'::text, 'medium'::text, 'high'::text])));
ALTER TABLE avouch.signing_key ADD CONSTRAINT signing_key_kid_check CHECK (((length(kid) >= 1) AND (length(kid) <= 64)));
ALTER TABLE avouch.signing_key ADD CONSTRAINT signing_key_pkey PRIMARY KEY (tenant_id, kid);
ALTER TABLE avouch_jobs.river_job ADD CONSTRAINT finalized_or_finalized_at_null CHECK ((((finalized_at IS NULL) AND (state <> ALL (ARRAY['cancelled'::avouch_jobs.river_job_state, 'completed'::avouch_jobs.river_job_state, 'discarded'::avouch_jobs.river_job_state]))) OR ((finalized_at IS NOT NULL) AND (state = ANY (ARRAY['cancelled'::avouch_jobs.river_job_state, 'completed'::avouch_jobs.river_job_state, 'discarded'::avouch_jobs.river_job_state])))));
ALTER TABLE avouch_jobs.river_job ADD CONSTRAINT kind_length CHECK (((char_length(kind) > 0) AND (char_length(kind) < 128)));
ALTER TABLE avouch_jobs.river_job ADD CONSTRAINT max_attempts_is_positive CHECK ((max_attempts > 0));
ALTER TABLE avouch_jobs.river_job ADD CONSTRAINT priority_in_range CHECK (((priority >= 1) AND (priority <= 4)));
ALTER TABLE avouch_jobs.river_job ADD CONSTRAINT queue_length CHECK (((char_length(queue) > 0) AND (char_length(queue) < 128)));
ALTER TABLE avouch_jobs.river_job ADD CONSTRAINT river_job_pkey PRIMARY KEY (id);
ALTER TABLE avouch_jobs.river_leader ADD CONSTRAINT leader_id_length CHECK (((char_length(leader_id) > 0) AND (char_length(leader_id) < 128)));
ALTER TABLE avouch_jobs.river_leader ADD CONSTRAINT name_length CHECK ((name = 'default'::text));
ALTER TABLE avouch_jobs.river_leader ADD CONSTRAINT river_leader_pkey PRIMARY KEY (name);
ALTER TABLE avouch_jobs.river_migration ADD CONSTRAINT line_length CHECK (((char_length(line) > 0) AND (char_length(line) < 128)));
ALTER TABLE avouch_jobs.river_migration ADD CONSTRAINT river_migration_pkey1 PRIMARY KEY (line, version);
ALTER TABLE avouch_jobs.river_migration ADD CONSTRAINT version_gte_1 CHECK ((version >= 1));
ALTER TABLE avouch_jobs.river_notification ADD CONSTRAINT river_notification_pkey PRIMARY KEY (id);
ALTER TABLE avouch_jobs.river_notification ADD CONSTRAINT topic_length CHECK (((length(topic) > 0) AND (length(topic) < 128)));
ALTER TABLE avouch_jobs.river_queue ADD CONSTRAINT river_queue_pkey PRIMARY KEY (name);

ALTER TABLE avouch.agent ADD CONSTRAINT agent_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.agent_key ADD CONSTRAINT agent_key_tenant_id_agent_id_fkey FOREIGN KEY (tenant_id, agent_id) REFERENCES avouch.agent(tenant_id, agent_id);
ALTER TABLE avouch.agent_token ADD CONSTRAINT agent_token_tenant_id_agent_id_fkey FOREIGN KEY (tenant_id, agent_id) REFERENCES avouch.agent(tenant_id, agent_id);
ALTER TABLE avouch.api_identity ADD CONSTRAINT api_identity_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.api_key ADD CONSTRAINT api_key_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.api_key_finder ADD CONSTRAINT api_key_finder_tenant_id_key_id_fkey FOREIGN KEY (tenant_id, key_id) REFERENCES avouch.api_key(tenant_id, key_id);
ALTER TABLE avouch.api_key_use ADD CONSTRAINT api_key_use_tenant_id_key_id_fkey FOREIGN KEY (tenant_id, key_id) REFERENCES avouch.api_key(tenant_id, key_id);
ALTER TABLE avouch.api_key_verifier ADD CONSTRAINT api_key_verifier_tenant_id_key_id_fkey FOREIGN KEY (tenant_id, key_id) REFERENCES avouch.api_key(tenant_id, key_id);
ALTER TABLE avouch.counter ADD CONSTRAINT counter_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.idempotency ADD CONSTRAINT idempotency_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.incident ADD CONSTRAINT incident_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.installation ADD CONSTRAINT installation_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.organisation ADD CONSTRAINT organisation_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.audit_head(tenant_id);
ALTER TABLE avouch.scope ADD CONSTRAINT scope_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.signing_key ADD CONSTRAINT signing_key_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);

CREATE INDEX agent_by_id ON avouch.agent USING btree (agent_id);
CREATE INDEX agent_token_live ON avouch.agent_token USING btree (tenant_id, agent_id, expires_at) WHERE (revoked_at IS NULL);
CREATE INDEX agent_token_newest ON avouch.agent_token USING btree (tenant_id, agent_id, jti);
CREATE INDEX agent_token_revoked ON avouch.agent_token USING btree (tenant_id, agent_id, expires_at) WHERE (revoked_at IS NOT NULL);
CREATE INDEX api_key_end ON avouch.api_key USING btree (tenant_id, expires_at) WHERE ((revoked_at IS NULL) AND (expires_at IS NOT NULL));
CREATE INDEX api_key_family ON avouch.api_key USING btree (tenant_id, family);
CREATE INDEX api_key_maker ON avouch.api_key USING btree (tenant_id, made_by) WHERE (made_by IS NOT NULL);
CREATE INDEX api_key_newest ON avouch.api_key USING btree (tenant_id, created_at DESC, key_id);
CREATE INDEX api_key_owner ON avouch.api_key USING btree (tenant_id, owner) WHERE (revoked_at IS NULL);
CREATE INDEX api_key_present ON avouch.api_key USING btree (tenant_id, family) WHERE (replaced_by IS NULL);
CREATE INDEX api_key_finder_versions ON avouch.api_key_finder USING btree (tenant_id, tenant_version, platform_version);
CREATE INDEX api_key_verifier_key ON avouch.api_key_verifier USING btree (key_id);
CREATE INDEX audit_entry_request ON avouch.audit_entry USING btree (tenant_id, request_id);
CREATE INDEX incident_open ON avouch.incident USING btree (tenant_id, kind, subject) WHERE (resolved_at IS NULL);
CREATE INDEX river_job_args_index ON avouch_jobs.river_job USING gin (args);
CREATE INDEX river_job_kind ON avouch_jobs.river_job USING btree (kind);
CREATE INDEX river_job_metadata_index ON avouch_jobs.river_job USING gin (metadata);
CREATE INDEX river_job_prioritized_fetching_index ON avouch_jobs.river_job USING btree (state, queue, priority, scheduled_at, id);
CREATE INDEX river_job_state_and_finalized_at_index ON avouch_jobs.river_job USING btree (state, finalized_at) WHERE (finalized_at IS NOT NULL);
CREATE UNIQUE INDEX river_job_unique_idx ON avouch_jobs.river_job USING btree (unique_key) WHERE ((unique_key IS NOT NULL) AND (unique_states IS NOT NULL) AND avouch_jobs.river_job_state_in_bitmask(unique_states, state));
CREATE INDEX river_notification_created_at_idx ON avouch_jobs.river_notification USING btree (created_at);
CREATE INDEX river_notification_topic_id_idx ON avouch_jobs.river_notification USING btree (topic, id);

CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.agent FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.agent DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.agent_key FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.agent_key DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.agent_token FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.agent_token DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.api_identity FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.api_identity DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.api_key FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.api_key DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.api_key_finder FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.api_key_finder DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.api_key_use FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.api_key_verifier FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.api_key_verifier DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER insert_only BEFORE DELETE OR UPDATE ON avouch.audit_entry FOR EACH ROW EXECUTE FUNCTION avouch.log_is_insert_only();
CREATE TRIGGER insert_only_truncate BEFORE TRUNCATE ON avouch.audit_entry FOR EACH STATEMENT EXECUTE FUNCTION avouch.log_is_insert_only();
CREATE TRIGGER insert_only_truncate BEFORE TRUNCATE ON avouch.audit_entry_default FOR EACH STATEMENT EXECUTE FUNCTION avouch.log_is_insert_only();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.audit_head FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.counter FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.idempotency FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.incident FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.incident DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.installation FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.installation DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.organisation FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.organisation DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.scope FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.scope DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.signing_key FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.signing_key DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
ALTER TABLE avouch.agent ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.agent ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.agent_key ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.agent_key ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.agent_token ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.agent_token ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.api_identity ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.api_identity ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.api_key ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.api_key ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.api_key_finder ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.api_key_finder ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.api_key_use ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.api_key_verifier ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.api_key_verifier ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.audit_entry ENABLE ALWAYS TRIGGER insert_only;
ALTER TABLE avouch.audit_entry ENABLE ALWAYS TRIGGER insert_only_truncate;
ALTER TABLE avouch.audit_entry_default ENABLE ALWAYS TRIGGER insert_only;
ALTER TABLE avouch.audit_entry_default ENABLE ALWAYS TRIGGER insert_only_truncate;
ALTER TABLE avouch.audit_head ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.counter ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.idempotency ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.incident ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.incident ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.installation ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.installation ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.organisation ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.organisation ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.scope ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.scope ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.signing_key ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.signing_key ENABLE ALWAYS TRIGGER require_entry;

ALTER TABLE avouch.agent ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.agent_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.agent_token ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_identity ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_key_finder ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_key_use ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_key_verifier ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.audit_entry ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.audit_entry_default ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.audit_head ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.counter ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.idempotency ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.incident ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.installation ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.organisation ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.scope ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.signing_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.agent FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.agent_key FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.agent_token FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_identity FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_key FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_key_finder FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_key_use FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_key_verifier FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.audit_entry FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.audit_entry_default FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.audit_head FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.counter FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.idempotency FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.incident FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.installation FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.organisation FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.scope FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.signing_key FORCE ROW LEVEL SECURITY;
CREATE POLICY lookup ON avouch.agent FOR SELECT TO avouch_lookup USING ((CURRENT_USER = 'avouch_lookup'::name));
CREATE POLICY tenant ON avouch.agent FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.agent_key FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.agent_token FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.api_identity FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.api_key FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.api_key_finder FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.api_key_use FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY lookup ON avouch.api_key_verifier FOR SELECT TO avouch_lookup USING ((CURRENT_USER = 'avouch_lookup'::name));
CREATE POLICY tenant ON avouch.api_key_verifier FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY append ON avouch.audit_entry FOR ALL TO avouch_log USING ((CURRENT_USER = 'avouch_log'::name)) WITH CHECK ((CURRENT_USER = 'avouch_log'::name));
CREATE POLICY tenant ON avouch.audit_entry FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY append ON avouch.audit_entry_default FOR ALL TO avouch_log USING ((CURRENT_USER = 'avouch_log'::name)) WITH CHECK ((CURRENT_USER = 'avouch_log'::name));
CREATE POLICY tenant ON avouch.audit_entry_default FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY append ON avouch.audit_head FOR ALL TO avouch_log USING ((CURRENT_USER = 'avouch_log'::name)) WITH CHECK ((CURRENT_USER = 'avouch_log'::name));
CREATE POLICY tenant ON avouch.audit_head FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY append ON avouch.counter FOR ALL TO avouch_log USING ((CURRENT_USER = 'avouch_log'::name)) WITH CHECK ((CURRENT_USER = 'avouch_log'::name));
CREATE POLICY tenant ON avouch.counter FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.idempotency FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.incident FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.installation FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY lookup ON avouch.organisation FOR SELECT TO avouch_lookup USING ((CURRENT_USER = 'avouch_lookup'::name));
CREATE POLICY tenant ON avouch.organisation FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.scope FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.signing_key FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));

ALTER SCHEMA avouch OWNER TO avouch_owner;
ALTER SCHEMA avouch_jobs OWNER TO avouch_owner;
ALTER TABLE avouch.agent OWNER TO avouch_owner;
ALTER TABLE avouch.agent_key OWNER TO avouch_owner;
ALTER TABLE avouch.agent_token OWNER TO avouch_owner;
ALTER TABLE avouch.api_identity OWNER TO avouch_owner;
ALTER TABLE avouch.api_key OWNER TO avouch_owner;
ALTER TABLE avouch.api_key_finder OWNER TO avouch_owner;
ALTER TABLE avouch.api_key_use OWNER TO avouch_owner;
ALTER TABLE avouch.api_key_verifier OWNER TO avouch_owner;
ALTER TABLE avouch.audit_entry OWNER TO avouch_owner;
ALTER TABLE avouch.audit_entry_default OWNER TO avouch_owner;
ALTER TABLE avouch.audit_head OWNER TO avouch_owner;
ALTER TABLE avouch.counter OWNER TO avouch_owner;
ALTER TABLE avouch.idempotency OWNER TO avouch_owner;
ALTER TABLE avouch.incident OWNER TO avouch_owner;
ALTER TABLE avouch.installation OWNER TO avouch_owner;
ALTER TABLE avouch.organisation OWNER TO avouch_owner;
ALTER TABLE avouch.scope OWNER TO avouch_owner;
ALTER TABLE avouch.signing_key OWNER TO avouch_owner;
ALTER FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[], items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], spend_items integer[], spend_counters integer[], counter_places integer[], counter_subjects text[], counter_periods integer[], counter_limits bigint[], OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint) OWNER TO avouch_log;
ALTER FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[], items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], spend_items integer[], spend_counters integer[], spend_amounts bigint[], counter_places integer[], counter_subjects text[], counter_periods bigint[], counter_windows bigint[], counter_limits bigint[], OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint) OWNER TO avouch_log;
ALTER FUNCTION avouch.ensure_partitions() OWNER TO avouch_owner;
ALTER FUNCTION avouch.find_entries(tenant uuid, first bigint, entries uuid[], OUT entry_id uuid, OUT seq bigint) OWNER TO avouch_log;
ALTER FUNCTION avouch.free_heads(tenants uuid[]) OWNER TO avouch_log;
ALTER FUNCTION avouch.lock_heads(tenants uuid[], fence boolean, OUT tenant_id uuid, OUT log_id uuid, OUT epoch bigint, OUT size bigint) OWNER TO avouch_log;
ALTER FUNCTION avouch.log_is_insert_only() OWNER TO avouch_owner;
ALTER FUNCTION avouch.lookup_agent(wanted uuid) OWNER TO avouch_lookup;
ALTER FUNCTION avouch.lookup_key(wanted text, OUT tenant_id uuid, OUT digest bytea, OUT issued_at_ns bigint, OUT tenant_version integer, OUT platform_version integer) OWNER TO avouch_lookup;
ALTER FUNCTION avouch.lookup_tenants(after uuid, most integer) OWNER TO avouch_lookup;
ALTER FUNCTION avouch.move_epochs(excepted uuid) OWNER TO avouch_log;
ALTER FUNCTION avouch.new_epoch() OWNER TO avouch_owner;
ALTER FUNCTION avouch.protect_log(tbl regclass) OWNER TO avouch_owner;
ALTER FUNCTION avouch.refuse_truncate() OWNER TO avouch_owner;
ALTER FUNCTION avouch.require_entry() OWNER TO avouch_owner;
ALTER FUNCTION avouch.tenant() OWNER TO avouch_owner;
ALTER PROCEDURE avouch.protect(IN tbl regclass, IN audited boolean) OWNER TO avouch_owner;

REVOKE ALL ON FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[], items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], spend_items integer[], spend_counters integer[], counter_places integer[], counter_subjects text[], counter_periods integer[], counter_limits bigint[], OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[], items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], spend_items integer[], spend_counters integer[], spend_amounts bigint[], counter_places integer[], counter_subjects text[], counter_periods bigint[], counter_windows bigint[], counter_limits bigint[], OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.ensure_partitions() FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.find_entries(tenant uuid, first bigint, entries uuid[], OUT entry_id uuid, OUT seq bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.free_heads(tenants uuid[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.lock_heads(tenants uuid[], fence boolean, OUT tenant_id uuid, OUT log_id uuid, OUT epoch bigint, OUT size bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.log_is_insert_only() FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.lookup_agent(wanted uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.lookup_key(wanted text, OUT tenant_id uuid, OUT digest bytea, OUT issued_at_ns bigint, OUT tenant_version integer, OUT platform_version integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.lookup_tenants(after uuid, most integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.move_epochs(excepted uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.new_epoch() FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.protect_log(tbl regclass) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.refuse_truncate() FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.require_entry() FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.tenant() FROM PUBLIC;
REVOKE ALL ON PROCEDURE avouch.protect(IN tbl regclass, IN audited boolean) FROM PUBLIC;
GRANT USAGE ON SCHEMA avouch_jobs TO avouch_server;
GRANT USAGE ON SCHEMA avouch TO avouch_log;
GRANT USAGE ON SCHEMA avouch TO avouch_lookup;
GRANT USAGE ON SCHEMA avouch TO avouch_server;
GRANT USAGE ON SEQUENCE avouch_jobs.river_job_id_seq TO avouch_server;
GRANT USAGE ON SEQUENCE avouch_jobs.river_notification_id_seq TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.agent_key TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.agent_token TO avouch_server;
GRANT SELECT (agent_id), SELECT (tenant_id) ON TABLE avouch.agent TO avouch_lookup;
GRANT INSERT, SELECT, UPDATE ON TABLE avouch.agent TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.api_identity TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.api_key_finder TO avouch_server;
GRANT INSERT, SELECT, UPDATE ON TABLE avouch.api_key_use TO avouch_server;
GRANT SELECT ON TABLE avouch.api_key_verifier TO avouch_lookup;
GRANT INSERT, SELECT (key_id), SELECT (platform_version), SELECT (tenant_id), SELECT (tenant_version), UPDATE (digest), UPDATE (platform_version), UPDATE (tenant_version) ON TABLE avouch.api_key_verifier TO avouch_server;
GRANT INSERT, SELECT, UPDATE ON TABLE avouch.api_key TO avouch_server;
GRANT INSERT, SELECT (entry_id), SELECT (seq), SELECT (tenant_id) ON TABLE avouch.audit_entry TO avouch_log;
GRANT SELECT ON TABLE avouch.audit_entry TO avouch_server;
GRANT SELECT, UPDATE (chain), UPDATE (epoch), UPDATE (size) ON TABLE avouch.audit_head TO avouch_log;
GRANT INSERT (epoch), INSERT (log_id), INSERT (tenant_id), SELECT ON TABLE avouch.audit_head TO avouch_server;
GRANT SELECT, UPDATE (period), UPDATE (used) ON TABLE avouch.counter TO avouch_log;
GRANT DELETE, INSERT, SELECT ON TABLE avouch.counter TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.idempotency TO avouch_server;
GRANT INSERT, SELECT, UPDATE ON TABLE avouch.incident TO avouch_server;
GRANT INSERT, SELECT ON TABLE avouch.installation TO avouch_server;
GRANT SELECT (suspended_at), SELECT (tenant_id) ON TABLE avouch.organisation TO avouch_lookup;
GRANT INSERT, SELECT, UPDATE ON TABLE avouch.organisation TO avouch_server;
GRANT SELECT ON TABLE avouch.schema_serves TO avouch_server;
GRANT SELECT ON TABLE avouch.schema_version TO avouch_server;
GRANT INSERT, SELECT, UPDATE ON TABLE avouch.scope TO avouch_server;
GRANT INSERT, SELECT, UPDATE ON TABLE avouch.signing_key TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch_jobs.river_job TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch_jobs.river_leader TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch_jobs.river_migration TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch_jobs.river_notification TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch_jobs.river_queue TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[], items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], spend_items integer[], spend_counters integer[], counter_places integer[], counter_subjects text[], counter_periods integer[], counter_limits bigint[], OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[], items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], spend_items integer[], spend_counters integer[], spend_amounts bigint[], counter_places integer[], counter_subjects text[], counter_periods bigint[], counter_windows bigint[], counter_limits bigint[], OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.ensure_partitions() TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.find_entries(tenant uuid, first bigint, entries uuid[], OUT entry_id uuid, OUT seq bigint) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.free_heads(tenants uuid[]) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.lock_heads(tenants uuid[], fence boolean, OUT tenant_id uuid, OUT log_id uuid, OUT epoch bigint, OUT size bigint) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.log_is_insert_only() TO avouch_log;
GRANT EXECUTE ON FUNCTION avouch.log_is_insert_only() TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.lookup_agent(wanted uuid) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.lookup_key(wanted text, OUT tenant_id uuid, OUT digest bytea, OUT issued_at_ns bigint, OUT tenant_version integer, OUT platform_version integer) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.lookup_tenants(after uuid, most integer) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.move_epochs(excepted uuid) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.new_epoch() TO avouch_log;
GRANT EXECUTE ON FUNCTION avouch.refuse_truncate() TO avouch_log;
GRANT EXECUTE ON FUNCTION avouch.refuse_truncate() TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.require_entry() TO avouch_log;
GRANT EXECUTE ON FUNCTION avouch.require_entry() TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.tenant() TO avouch_log;
GRANT EXECUTE ON FUNCTION avouch.tenant() TO avouch_lookup;
GRANT EXECUTE ON FUNCTION avouch.tenant() TO avouch_server;

COMMENT ON COLUMN avouch.agent.generation IS 'tokens of earlier generations are revoked';
COMMENT ON COLUMN avouch.agent.visible_to IS 'the tenants that may verify the agent when visibility is listed';
COMMENT ON TABLE avouch.api_identity IS 'somebody to whom an organisation gives keys, and the limits that these share';
COMMENT ON COLUMN avouch.api_key.owner IS 'to whom the organisation gave the key, in its own words; keys of one owner may share limits (api_identity)';
COMMENT ON COLUMN avouch.api_key.shares IS 'families of keys that made this one: it spends their limits and monthly quotas too';
COMMENT ON COLUMN avouch.api_key.noticed IS 'how many days before its end the owner was told last';
COMMENT ON COLUMN avouch.api_key.made_by IS 'the key that asked for this one; a successor keeps its predecessor''s';
COMMENT ON COLUMN avouch.api_key.life_us IS 'how long the key was to live, in microseconds, if the key that rotated it ends sooner; 0 is for ever';
COMMENT ON COLUMN avouch.api_key.family IS 'the first generation''s id: generations share what meters them';
COMMENT ON COLUMN avouch.api_key.resources IS 'what the key may ask about; empty is anything';
COMMENT ON COLUMN avouch.api_key.owners IS 'whose agents the key may verify, by tenant; empty is anybody''s';
COMMENT ON COLUMN avouch.api_key_use.client IS 'from where and with what, sealed by the keyring';
COMMENT ON COLUMN avouch.api_key_use.refused IS 'how often it was presented after it was revoked';
COMMENT ON TABLE avouch.api_key_verifier IS 'written by the server, read by nobody but lookup_key';
COMMENT ON COLUMN avouch.audit_head.epoch IS 'random, replaced by every change that can alter a decision';
COMMENT ON COLUMN avouch.counter.period IS 'what is counted in: a month, or the beginning of a window in Unix milliseconds';
COMMENT ON COLUMN avouch.organisation.contact IS 'e-mail address for notices, sealed by the keyring';
COMMENT ON COLUMN avouch.organisation.live_tokens IS 'how many unexpired, unrevoked tokens an agent may have';
COMMENT ON COLUMN avouch.organisation.monthly_quota IS 'verifications a month; NULL is unlimited';
COMMENT ON COLUMN avouch.organisation.badge IS 'whether /verified shows when this organisation last verified an agent';
COMMENT ON TABLE avouch.schema_serves IS 'servers that know fewer migrations than this must not run on the schema';
COMMENT ON TABLE avouch.scope IS 'the scopes that a tenant added to the catalogue';
COMMENT ON COLUMN avouch.signing_key.public_key IS 'PKIX, DER';
COMMENT ON COLUMN avouch.signing_key.private_key IS 'PKCS #8 sealed under the platform key; NULL once destroyed';
