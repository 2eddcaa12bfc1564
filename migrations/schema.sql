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
  sealed bytea,
  about uuid,
  person uuid
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
  version bigint DEFAULT 1 NOT NULL,
  rules jsonb DEFAULT '{}'::jsonb NOT NULL,
  region text DEFAULT ''::text NOT NULL,
  deleted_at timestamp with time zone,
  shredded_at timestamp with time zone
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
  family text GENERATED ALWAYS AS (COALESCE(first_id, key_id)) STORED NOT NULL,
  person uuid
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
  version bigint DEFAULT 1 NOT NULL,
  registered_by text
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
  revoked_at timestamp with time zone,
  issued_by text
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
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
  SELECT w.echo, w.kind, w.place, w.a, w.b, w.n FROM avouch.append(nonce, tenants, moves, items, places, epochs, entries, requests, bodies, seals,
    NULL::uuid[], NULL::uuid[], spend_items, spend_counters, spend_amounts, counter_places, counter_subjects, counter_periods, counter_windows, counter_limits) w
$function$;

CREATE TABLE avouch.person (
  tenant_id uuid NOT NULL,
  person_id uuid NOT NULL,
  profile bytea NOT NULL,
  address text NOT NULL,
  external text,
  managed_by uuid,
  roles text[] DEFAULT '{}'::text[] NOT NULL,
  created_at timestamp with time zone NOT NULL,
  verified_at timestamp with time zone,
  suspended_at timestamp with time zone,
  directory_suspended_at timestamp with time zone,
  removed_at timestamp with time zone,
  version bigint DEFAULT 1 NOT NULL,
  owner_since timestamp with time zone,
  owner_until timestamp with time zone
);

CREATE TABLE avouch.role (
  tenant_id uuid NOT NULL,
  name text NOT NULL,
  description text DEFAULT ''::text NOT NULL,
  capabilities text[] NOT NULL,
  created_at timestamp with time zone NOT NULL,
  version bigint DEFAULT 1 NOT NULL
);

CREATE TABLE avouch.person_group (
  tenant_id uuid NOT NULL,
  group_id uuid NOT NULL,
  name text NOT NULL,
  roles text[] DEFAULT '{}'::text[] NOT NULL,
  external text,
  managed_by uuid,
  created_at timestamp with time zone NOT NULL,
  version bigint DEFAULT 1 NOT NULL
);

CREATE TABLE avouch.group_member (
  tenant_id uuid NOT NULL,
  group_id uuid NOT NULL,
  person_id uuid NOT NULL
);

CREATE TABLE avouch.invitation (
  tenant_id uuid NOT NULL,
  invitation_id uuid NOT NULL,
  profile bytea NOT NULL,
  address text NOT NULL,
  roles text[] NOT NULL,
  groups uuid[] DEFAULT '{}'::uuid[] NOT NULL,
  invited_by text NOT NULL,
  created_at timestamp with time zone NOT NULL,
  sent_at timestamp with time zone NOT NULL,
  expires_at timestamp with time zone NOT NULL,
  accepted_at timestamp with time zone,
  revoked_at timestamp with time zone
);

CREATE TABLE avouch.link (
  tenant_id uuid NOT NULL,
  link_id uuid NOT NULL,
  digest bytea NOT NULL,
  purpose text NOT NULL,
  subject uuid NOT NULL,
  data bytea,
  created_at timestamp with time zone NOT NULL,
  expires_at timestamp with time zone NOT NULL,
  spent_at timestamp with time zone
);

CREATE TABLE avouch.pending_change (
  tenant_id uuid NOT NULL,
  change_id uuid NOT NULL,
  body jsonb NOT NULL,
  asked_by text NOT NULL,
  asked_at timestamp with time zone NOT NULL,
  due_at timestamp with time zone NOT NULL,
  ended_at timestamp with time zone,
  outcome text
);

CREATE TABLE avouch.offboarding (
  tenant_id uuid NOT NULL,
  person_id uuid NOT NULL,
  removed_by text NOT NULL,
  removed_at timestamp with time zone NOT NULL,
  request_id uuid NOT NULL,
  ended jsonb NOT NULL
);

CREATE TABLE avouch.password (
  tenant_id uuid NOT NULL,
  person_id uuid NOT NULL,
  hash bytea NOT NULL,
  changed_at timestamp with time zone NOT NULL,
  version bigint DEFAULT 1 NOT NULL
);

CREATE TABLE avouch.factor (
  tenant_id uuid NOT NULL,
  factor_id uuid NOT NULL,
  person_id uuid NOT NULL,
  kind text NOT NULL,
  secret bytea NOT NULL,
  credential bytea,
  hardware boolean DEFAULT false NOT NULL,
  counter bigint DEFAULT 0 NOT NULL,
  created_at timestamp with time zone NOT NULL,
  confirmed_at timestamp with time zone,
  used_at timestamp with time zone,
  version bigint DEFAULT 1 NOT NULL,
  mark bytea
);

CREATE TABLE avouch.recovery_code (
  tenant_id uuid NOT NULL,
  person_id uuid NOT NULL,
  digest bytea NOT NULL,
  used_at timestamp with time zone
);

CREATE TABLE avouch.attempt (
  tenant_id uuid NOT NULL,
  digest bytea NOT NULL,
  person_id uuid,
  session_id uuid,
  purpose text NOT NULL,
  proofs text[] DEFAULT '{}'::text[] NOT NULL,
  state bytea,
  tries integer DEFAULT 0 NOT NULL,
  sends integer DEFAULT 0 NOT NULL,
  sent_at timestamp with time zone,
  via uuid,
  until timestamp with time zone,
  proved_at timestamp with time zone,
  created_at timestamp with time zone NOT NULL,
  expires_at timestamp with time zone NOT NULL
);

CREATE TABLE avouch.session (
  tenant_id uuid NOT NULL,
  session_id uuid NOT NULL,
  person_id uuid NOT NULL,
  kind text NOT NULL,
  digest bytea NOT NULL,
  generation integer DEFAULT 1 NOT NULL,
  rotated_at timestamp with time zone,
  client bytea,
  description bytea NOT NULL,
  methods text[] NOT NULL,
  via uuid,
  created_at timestamp with time zone NOT NULL,
  proved_at timestamp with time zone NOT NULL,
  held text[] NOT NULL,
  expires_at timestamp with time zone NOT NULL,
  idle_seconds integer NOT NULL,
  ended_at timestamp with time zone,
  ended_why text,
  mac bytea NOT NULL
);

CREATE TABLE avouch.session_use (
  tenant_id uuid NOT NULL,
  session_id uuid NOT NULL,
  seen_at timestamp with time zone NOT NULL
) WITH (fillfactor=50);

CREATE TABLE avouch.device (
  tenant_id uuid NOT NULL,
  person_id uuid NOT NULL,
  digest bytea NOT NULL,
  created_at timestamp with time zone NOT NULL,
  expires_at timestamp with time zone NOT NULL
);

CREATE TABLE avouch.spent (
  tenant_id uuid NOT NULL,
  kind text NOT NULL,
  value bytea NOT NULL,
  expires_at timestamp with time zone NOT NULL
);

CREATE TABLE avouch.connection (
  tenant_id uuid NOT NULL,
  connection_id uuid NOT NULL,
  kind text NOT NULL,
  name text NOT NULL,
  config bytea NOT NULL,
  enabled boolean DEFAULT false NOT NULL,
  configured_by text NOT NULL,
  created_at timestamp with time zone NOT NULL,
  version bigint DEFAULT 1 NOT NULL
);

CREATE TABLE avouch.domain (
  tenant_id uuid NOT NULL,
  domain text NOT NULL,
  token text NOT NULL,
  connection_id uuid,
  required boolean DEFAULT false NOT NULL,
  created_at timestamp with time zone NOT NULL,
  proved_at timestamp with time zone,
  checked_at timestamp with time zone,
  lapsed_at timestamp with time zone
);

CREATE TABLE avouch.identity (
  tenant_id uuid NOT NULL,
  connection_id uuid NOT NULL,
  subject text NOT NULL,
  person_id uuid NOT NULL,
  created_at timestamp with time zone NOT NULL
);

CREATE TABLE avouch.break_glass (
  tenant_id uuid NOT NULL,
  use_id uuid NOT NULL,
  person_id uuid,
  operator text,
  capabilities text[] NOT NULL,
  reason bytea NOT NULL,
  life_seconds integer NOT NULL,
  approval text NOT NULL,
  asked_at timestamp with time zone NOT NULL,
  due_at timestamp with time zone NOT NULL,
  decided_by text,
  decided_at timestamp with time zone,
  opened_at timestamp with time zone,
  expires_at timestamp with time zone,
  closed_at timestamp with time zone,
  outcome text,
  reviewed_by text,
  reviewed_at timestamp with time zone,
  remark bytea,
  version bigint DEFAULT 1 NOT NULL
);

CREATE TABLE avouch.glass_hook (
  tenant_id uuid NOT NULL,
  secret bytea NOT NULL,
  set_by text NOT NULL,
  set_at timestamp with time zone NOT NULL
);

CREATE TABLE avouch.glass_review (
  tenant_id uuid NOT NULL,
  week date NOT NULL,
  uses integer NOT NULL,
  text bytea NOT NULL,
  signed_by text NOT NULL,
  signed_at timestamp with time zone NOT NULL
);

CREATE OR REPLACE FUNCTION avouch.lookup_people(wanted text, most integer, OUT tenant_id uuid, OUT person_id uuid)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$SELECT p.tenant_id, p.person_id FROM avouch.person p JOIN avouch.organisation o ON o.tenant_id = p.tenant_id
    WHERE p.address = wanted AND p.removed_at IS NULL AND o.deleted_at IS NULL
    ORDER BY (SELECT max(s.created_at) FROM avouch.session s WHERE s.tenant_id = p.tenant_id AND s.person_id = p.person_id) DESC NULLS LAST, p.person_id DESC LIMIT most$function$;

CREATE OR REPLACE FUNCTION avouch.lookup_link(wanted bytea, for_what text)
 RETURNS uuid
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$SELECT l.tenant_id FROM avouch.link l WHERE l.digest = wanted AND l.purpose = for_what$function$;

CREATE OR REPLACE FUNCTION avouch.lookup_attempt(wanted bytea)
 RETURNS uuid
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$SELECT a.tenant_id FROM avouch.attempt a WHERE a.digest = wanted$function$;

CREATE OR REPLACE FUNCTION avouch.lookup_session(wanted bytea, OUT tenant_id uuid, OUT session_id uuid)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$SELECT s.tenant_id, s.session_id FROM avouch.session s WHERE s.digest = wanted$function$;

CREATE OR REPLACE FUNCTION avouch.lookup_session_id(wanted uuid)
 RETURNS uuid
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$SELECT s.tenant_id FROM avouch.session s WHERE s.session_id = wanted$function$;

CREATE OR REPLACE FUNCTION avouch.lookup_passkey(wanted bytea, OUT tenant_id uuid, OUT person_id uuid, OUT factor_id uuid)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$SELECT f.tenant_id, f.person_id, f.factor_id FROM avouch.factor f WHERE f.credential = wanted$function$;

CREATE OR REPLACE FUNCTION avouch.lookup_connection(wanted uuid)
 RETURNS uuid
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$SELECT c.tenant_id FROM avouch.connection c WHERE c.connection_id = wanted$function$;

CREATE OR REPLACE FUNCTION avouch.lookup_domain(wanted text, OUT tenant_id uuid, OUT connection_id uuid, OUT required boolean)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$SELECT d.tenant_id, d.connection_id, d.required FROM avouch.domain d JOIN avouch.organisation o ON o.tenant_id = d.tenant_id
    WHERE d.domain = wanted AND d.proved_at IS NOT NULL AND o.deleted_at IS NULL ORDER BY d.proved_at, d.tenant_id LIMIT 1$function$;

CREATE OR REPLACE FUNCTION avouch.lookup_break_glass(wanted uuid)
 RETURNS uuid
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$SELECT b.tenant_id FROM avouch.break_glass b WHERE b.use_id = wanted$function$;

CREATE TABLE avouch.vault_item (
  tenant_id uuid NOT NULL,
  item_id uuid NOT NULL,
  kind text NOT NULL,
  about bytea NOT NULL,
  secret bytea NOT NULL,
  secret_version bigint DEFAULT 1 NOT NULL,
  counter bigint DEFAULT 0 NOT NULL,
  taken integer[] DEFAULT '{}'::integer[] NOT NULL,
  policy jsonb DEFAULT '{}'::jsonb NOT NULL,
  listed boolean DEFAULT false NOT NULL,
  creator_kind text NOT NULL,
  creator text NOT NULL,
  created_at timestamp with time zone NOT NULL,
  version bigint DEFAULT 1 NOT NULL,
  mark bytea
);

CREATE TABLE avouch.vault_grant (
  tenant_id uuid NOT NULL,
  grant_id uuid NOT NULL,
  item_id uuid NOT NULL,
  kind text NOT NULL,
  grantee text NOT NULL,
  level text NOT NULL,
  granted_by text NOT NULL,
  granted_at timestamp with time zone NOT NULL,
  expires_at timestamp with time zone,
  ended_at timestamp with time zone,
  ended_by text
);

CREATE TABLE avouch.vault_request (
  tenant_id uuid NOT NULL,
  request_id uuid NOT NULL,
  item_id uuid NOT NULL,
  kind text NOT NULL,
  asker text NOT NULL,
  level text NOT NULL,
  reason bytea NOT NULL,
  seconds integer NOT NULL,
  granted boolean NOT NULL,
  asked_at timestamp with time zone NOT NULL,
  due_at timestamp with time zone NOT NULL,
  decided_by text,
  decided_at timestamp with time zone,
  outcome text,
  until timestamp with time zone,
  ended_at timestamp with time zone
);

CREATE TABLE avouch.vault_fetch (
  tenant_id uuid NOT NULL,
  item_id uuid NOT NULL,
  digest bytea NOT NULL,
  fetched_by text NOT NULL,
  place bigint NOT NULL,
  version bigint NOT NULL,
  fetched_at timestamp with time zone NOT NULL
);

CREATE OR REPLACE FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[], items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], abouts uuid[], people uuid[], spend_items integer[], spend_counters integer[], spend_amounts bigint[], counter_places integer[], counter_subjects text[], counter_periods bigint[], counter_windows bigint[], counter_limits bigint[], OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint)
 RETURNS SETOF record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_seqscan TO 'off'
AS $function$
DECLARE
  nobody   CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
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
  INSERT INTO avouch.audit_entry (tenant_id, seq, entry_id, request_id, body, leaf, prev, sealed, about, person)
  SELECT x.log, x.seq, x.entry, x.request, x.body, x.leaf, x.prev, nullif(x.seal, ''), nullif(x.about, nobody), nullif(x.person, nobody)
  FROM unnest(logs, seqs, entries, requests, bodies, leaves, prevs, seals, abouts, people) AS x(log, seq, entry, request, body, leaf, prev, seal, about, person)
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

CREATE TABLE avouch.key_rotation (
  tenant_id uuid NOT NULL,
  rotation_id uuid NOT NULL,
  wrap integer NOT NULL,
  subjects integer NOT NULL,
  asked_by text NOT NULL,
  begun_at timestamp with time zone NOT NULL,
  made_at timestamp with time zone,
  pass_at timestamp with time zone,
  place text DEFAULT ''::text NOT NULL,
  after text[] DEFAULT '{}'::text[] NOT NULL,
  found bigint DEFAULT 0 NOT NULL,
  failed bigint DEFAULT 0 NOT NULL,
  rows bigint DEFAULT 0 NOT NULL,
  keys bigint DEFAULT 0 NOT NULL,
  clean_at timestamp with time zone,
  looked_at timestamp with time zone,
  due_at timestamp with time zone NOT NULL,
  ending_at timestamp with time zone,
  finished_at timestamp with time zone,
  worker uuid,
  leased_until timestamp with time zone
);

CREATE TABLE avouch.own_kms (
  tenant_id uuid NOT NULL,
  setting_id uuid NOT NULL,
  kind text NOT NULL,
  key_id text NOT NULL,
  settings bytea NOT NULL,
  state text NOT NULL,
  set_by text NOT NULL,
  set_at timestamp with time zone NOT NULL,
  version bigint DEFAULT 1 NOT NULL
);

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
ALTER TABLE avouch.attempt ADD CONSTRAINT attempt_digest_check CHECK ((length(digest) = 32));
ALTER TABLE avouch.attempt ADD CONSTRAINT attempt_pkey PRIMARY KEY (tenant_id, digest);
ALTER TABLE avouch.attempt ADD CONSTRAINT attempt_purpose_check CHECK ((length(purpose) <= 32));
ALTER TABLE avouch.audit_entry ADD CONSTRAINT audit_entry_body_check CHECK ((length(body) <= 16384));
ALTER TABLE avouch.audit_entry ADD CONSTRAINT audit_entry_pkey PRIMARY KEY (tenant_id, seq, written_at);
ALTER TABLE avouch.audit_head ADD CONSTRAINT audit_head_pkey PRIMARY KEY (tenant_id);
ALTER TABLE avouch.break_glass ADD CONSTRAINT break_glass_approval_check CHECK ((approval = ANY (ARRAY['person'::text, 'delay'::text, 'external'::text, 'operator'::text])));
ALTER TABLE avouch.break_glass ADD CONSTRAINT break_glass_capabilities_check CHECK (('*'::text <> ALL (capabilities)));
ALTER TABLE avouch.break_glass ADD CONSTRAINT break_glass_check CHECK ((((person_id IS NULL) <> (operator IS NULL)) AND ((operator IS NULL) = (approval <> 'operator'::text))));
ALTER TABLE avouch.break_glass ADD CONSTRAINT break_glass_check1 CHECK (((decided_by <> (person_id)::text) AND (reviewed_by <> (person_id)::text)));
ALTER TABLE avouch.break_glass ADD CONSTRAINT break_glass_check2 CHECK ((((opened_at IS NULL) = (expires_at IS NULL)) AND ((closed_at IS NULL) = (outcome IS NULL))));
ALTER TABLE avouch.break_glass ADD CONSTRAINT break_glass_check3 CHECK (((reviewed_at IS NULL) OR ((opened_at IS NOT NULL) AND (closed_at IS NOT NULL) AND (reviewed_by IS NOT NULL))));
ALTER TABLE avouch.break_glass ADD CONSTRAINT break_glass_life_seconds_check CHECK ((life_seconds > 0));
ALTER TABLE avouch.break_glass ADD CONSTRAINT break_glass_operator_check CHECK ((operator ~ '^[a-z0-9][a-z0-9._-]{0,31}$'::text));
ALTER TABLE avouch.break_glass ADD CONSTRAINT break_glass_outcome_check CHECK ((outcome = ANY (ARRAY['refused'::text, 'lapsed'::text, 'ended'::text, 'expired'::text])));
ALTER TABLE avouch.break_glass ADD CONSTRAINT break_glass_pkey PRIMARY KEY (tenant_id, use_id);
ALTER TABLE avouch.connection ADD CONSTRAINT connection_kind_check CHECK ((kind = ANY (ARRAY['oidc'::text, 'saml'::text])));
ALTER TABLE avouch.connection ADD CONSTRAINT connection_name_check CHECK (((length(name) >= 1) AND (length(name) <= 200)));
ALTER TABLE avouch.connection ADD CONSTRAINT connection_pkey PRIMARY KEY (tenant_id, connection_id);
ALTER TABLE avouch.counter ADD CONSTRAINT counter_pkey PRIMARY KEY (tenant_id, subject);
ALTER TABLE avouch.counter ADD CONSTRAINT counter_subject_check CHECK ((length(subject) <= 64));
ALTER TABLE avouch.device ADD CONSTRAINT device_digest_check CHECK ((length(digest) = 32));
ALTER TABLE avouch.device ADD CONSTRAINT device_pkey PRIMARY KEY (tenant_id, person_id, digest);
ALTER TABLE avouch.domain ADD CONSTRAINT domain_domain_check CHECK (((length(domain) >= 3) AND (length(domain) <= 253)));
ALTER TABLE avouch.domain ADD CONSTRAINT domain_pkey PRIMARY KEY (tenant_id, domain);
ALTER TABLE avouch.factor ADD CONSTRAINT factor_credential_check CHECK ((length(credential) = 32));
ALTER TABLE avouch.factor ADD CONSTRAINT factor_kind_check CHECK ((kind = ANY (ARRAY['totp'::text, 'email'::text, 'sms'::text, 'passkey'::text])));
ALTER TABLE avouch.factor ADD CONSTRAINT factor_pkey PRIMARY KEY (tenant_id, factor_id);
ALTER TABLE avouch.glass_hook ADD CONSTRAINT glass_hook_pkey PRIMARY KEY (tenant_id);
ALTER TABLE avouch.glass_review ADD CONSTRAINT glass_review_pkey PRIMARY KEY (tenant_id, week);
ALTER TABLE avouch.group_member ADD CONSTRAINT group_member_pkey PRIMARY KEY (tenant_id, group_id, person_id);
ALTER TABLE avouch.idempotency ADD CONSTRAINT idempotency_key_check CHECK (((length(key) >= 1) AND (length(key) <= 255)));
ALTER TABLE avouch.idempotency ADD CONSTRAINT idempotency_pkey PRIMARY KEY (tenant_id, actor, key);
ALTER TABLE avouch.identity ADD CONSTRAINT identity_pkey PRIMARY KEY (tenant_id, connection_id, subject);
ALTER TABLE avouch.identity ADD CONSTRAINT identity_subject_check CHECK ((length(subject) = 26));
ALTER TABLE avouch.incident ADD CONSTRAINT incident_pkey PRIMARY KEY (tenant_id, incident_id);
ALTER TABLE avouch.installation ADD CONSTRAINT installation_pkey PRIMARY KEY (tenant_id);
ALTER TABLE avouch.invitation ADD CONSTRAINT invitation_address_check CHECK ((length(address) = 26));
ALTER TABLE avouch.invitation ADD CONSTRAINT invitation_pkey PRIMARY KEY (tenant_id, invitation_id);
ALTER TABLE avouch.key_rotation ADD CONSTRAINT key_rotation_check CHECK ((((worker IS NULL) = (leased_until IS NULL)) AND ((finished_at IS NULL) OR (worker IS NULL))));
ALTER TABLE avouch.key_rotation ADD CONSTRAINT key_rotation_pkey PRIMARY KEY (tenant_id, rotation_id);
ALTER TABLE avouch.key_rotation ADD CONSTRAINT key_rotation_subjects_check CHECK ((subjects > 1));
ALTER TABLE avouch.key_rotation ADD CONSTRAINT key_rotation_wrap_check CHECK ((wrap > 1));
ALTER TABLE avouch.link ADD CONSTRAINT link_digest_check CHECK ((length(digest) = 32));
ALTER TABLE avouch.link ADD CONSTRAINT link_pkey PRIMARY KEY (tenant_id, link_id);
ALTER TABLE avouch.link ADD CONSTRAINT link_purpose_check CHECK ((purpose = ANY (ARRAY['join'::text, 'recover'::text, 'address'::text])));
ALTER TABLE avouch.offboarding ADD CONSTRAINT offboarding_pkey PRIMARY KEY (tenant_id, person_id);
ALTER TABLE avouch.organisation ADD CONSTRAINT organisation_live_tokens_check CHECK ((live_tokens > 0));
ALTER TABLE avouch.organisation ADD CONSTRAINT organisation_monthly_quota_check CHECK ((monthly_quota >= 0));
ALTER TABLE avouch.organisation ADD CONSTRAINT organisation_name_check CHECK (((length(name) >= 1) AND (length(name) <= 200)));
ALTER TABLE avouch.organisation ADD CONSTRAINT organisation_pkey PRIMARY KEY (tenant_id);
ALTER TABLE avouch.organisation ADD CONSTRAINT organisation_region_check CHECK ((length(region) <= 32));
ALTER TABLE avouch.organisation ADD CONSTRAINT organisation_token_lifetime_check CHECK (((token_lifetime >= '00:05:00'::interval) AND (token_lifetime <= '24:00:00'::interval)));
ALTER TABLE avouch.own_kms ADD CONSTRAINT own_kms_key_id_check CHECK (((length(key_id) >= 1) AND (length(key_id) <= 255)));
ALTER TABLE avouch.own_kms ADD CONSTRAINT own_kms_kind_check CHECK (((length(kind) >= 1) AND (length(kind) <= 32)));
ALTER TABLE avouch.own_kms ADD CONSTRAINT own_kms_pkey PRIMARY KEY (tenant_id, setting_id);
ALTER TABLE avouch.own_kms ADD CONSTRAINT own_kms_state_check CHECK ((state = ANY (ARRAY['begun'::text, 'current'::text, 'leaving'::text])));
ALTER TABLE avouch.password ADD CONSTRAINT password_pkey PRIMARY KEY (tenant_id, person_id);
ALTER TABLE avouch.pending_change ADD CONSTRAINT pending_change_outcome_check CHECK ((outcome = ANY (ARRAY['applied'::text, 'cancelled'::text])));
ALTER TABLE avouch.pending_change ADD CONSTRAINT pending_change_pkey PRIMARY KEY (tenant_id, change_id);
ALTER TABLE avouch.person ADD CONSTRAINT person_address_check CHECK ((length(address) = 26));
ALTER TABLE avouch.person ADD CONSTRAINT person_external_check CHECK ((length(external) = 26));
ALTER TABLE avouch.person ADD CONSTRAINT person_pkey PRIMARY KEY (tenant_id, person_id);
ALTER TABLE avouch.person_group ADD CONSTRAINT person_group_external_check CHECK ((length(external) <= 200));
ALTER TABLE avouch.person_group ADD CONSTRAINT person_group_name_check CHECK (((length(name) >= 1) AND (length(name) <= 200)));
ALTER TABLE avouch.person_group ADD CONSTRAINT person_group_pkey PRIMARY KEY (tenant_id, group_id);
ALTER TABLE avouch.person_group ADD CONSTRAINT person_group_roles_check CHECK ((NOT ('owner'::text = ANY (roles))));
ALTER TABLE avouch.person_group ADD CONSTRAINT person_group_tenant_id_name_key UNIQUE (tenant_id, name);
ALTER TABLE avouch.recovery_code ADD CONSTRAINT recovery_code_digest_check CHECK ((length(digest) = 32));
ALTER TABLE avouch.recovery_code ADD CONSTRAINT recovery_code_pkey PRIMARY KEY (tenant_id, person_id, digest);
ALTER TABLE avouch.role ADD CONSTRAINT role_capabilities_check CHECK ((NOT ('*'::text = ANY (capabilities))));
ALTER TABLE avouch.role ADD CONSTRAINT role_description_check CHECK ((length(description) <= 500));
ALTER TABLE avouch.role ADD CONSTRAINT role_name_check CHECK (((length(name) >= 1) AND (length(name) <= 64)));
ALTER TABLE avouch.role ADD CONSTRAINT role_pkey PRIMARY KEY (tenant_id, name);
ALTER TABLE avouch.scope ADD CONSTRAINT scope_description_check CHECK ((length(description) <= 500));
ALTER TABLE avouch.scope ADD CONSTRAINT scope_name_check CHECK (((length(name) >= 1) AND (length(name) <= 64)));
ALTER TABLE avouch.scope ADD CONSTRAINT scope_pkey PRIMARY KEY (tenant_id, name);
ALTER TABLE avouch.scope ADD CONSTRAINT scope_risk_check CHECK ((risk = ANY (ARRAY['low'::text, 'medium'::text, 'high'::text])));
ALTER TABLE avouch.session ADD CONSTRAINT session_digest_check CHECK ((length(digest) = 32));
ALTER TABLE avouch.session ADD CONSTRAINT session_idle_seconds_check CHECK ((idle_seconds > 0));
ALTER TABLE avouch.session ADD CONSTRAINT session_kind_check CHECK ((kind = ANY (ARRAY['browser'::text, 'program'::text])));
ALTER TABLE avouch.session ADD CONSTRAINT session_mac_check CHECK ((length(mac) = 32));
ALTER TABLE avouch.session ADD CONSTRAINT session_pkey PRIMARY KEY (tenant_id, session_id);
ALTER TABLE avouch.session_use ADD CONSTRAINT session_use_pkey PRIMARY KEY (tenant_id, session_id);
ALTER TABLE avouch.signing_key ADD CONSTRAINT signing_key_kid_check CHECK (((length(kid) >= 1) AND (length(kid) <= 64)));
ALTER TABLE avouch.signing_key ADD CONSTRAINT signing_key_pkey PRIMARY KEY (tenant_id, kid);
ALTER TABLE avouch.spent ADD CONSTRAINT spent_kind_check CHECK ((length(kind) <= 32));
ALTER TABLE avouch.spent ADD CONSTRAINT spent_pkey PRIMARY KEY (tenant_id, kind, value);
ALTER TABLE avouch.spent ADD CONSTRAINT spent_value_check CHECK ((length(value) = 32));
ALTER TABLE avouch.vault_fetch ADD CONSTRAINT vault_fetch_digest_check CHECK ((length(digest) = 32));
ALTER TABLE avouch.vault_fetch ADD CONSTRAINT vault_fetch_fetched_by_check CHECK ((length(fetched_by) <= 80));
ALTER TABLE avouch.vault_fetch ADD CONSTRAINT vault_fetch_pkey PRIMARY KEY (tenant_id, item_id, digest);
ALTER TABLE avouch.vault_grant ADD CONSTRAINT vault_grant_grantee_check CHECK ((length(grantee) <= 64));
ALTER TABLE avouch.vault_grant ADD CONSTRAINT vault_grant_kind_check CHECK ((kind = ANY (ARRAY['person'::text, 'group'::text, 'agent'::text, 'key'::text])));
ALTER TABLE avouch.vault_grant ADD CONSTRAINT vault_grant_level_check CHECK ((level = ANY (ARRAY['code'::text, 'seed'::text])));
ALTER TABLE avouch.vault_grant ADD CONSTRAINT vault_grant_pkey PRIMARY KEY (tenant_id, grant_id);
ALTER TABLE avouch.vault_item ADD CONSTRAINT vault_item_counter_check CHECK ((counter >= 0));
ALTER TABLE avouch.vault_item ADD CONSTRAINT vault_item_creator_check CHECK ((length(creator) <= 64));
ALTER TABLE avouch.vault_item ADD CONSTRAINT vault_item_creator_kind_check CHECK ((creator_kind = ANY (ARRAY['person'::text, 'key'::text, 'system'::text])));
ALTER TABLE avouch.vault_item ADD CONSTRAINT vault_item_kind_check CHECK ((kind = ANY (ARRAY['totp'::text, 'hotp'::text, 'steam'::text, 'codes'::text, 'secret'::text])));
ALTER TABLE avouch.vault_item ADD CONSTRAINT vault_item_pkey PRIMARY KEY (tenant_id, item_id);
ALTER TABLE avouch.vault_item ADD CONSTRAINT vault_item_secret_version_check CHECK ((secret_version > 0));
ALTER TABLE avouch.vault_request ADD CONSTRAINT vault_request_asker_check CHECK ((length(asker) <= 64));
ALTER TABLE avouch.vault_request ADD CONSTRAINT vault_request_check CHECK (((decided_by <> asker) OR (outcome = 'withdrawn'::text)));
ALTER TABLE avouch.vault_request ADD CONSTRAINT vault_request_check1 CHECK ((((outcome IS NULL) = (decided_at IS NULL)) AND ((until IS NULL) = (outcome IS DISTINCT FROM 'approved'::text))));
ALTER TABLE avouch.vault_request ADD CONSTRAINT vault_request_kind_check CHECK ((kind = ANY (ARRAY['person'::text, 'agent'::text, 'key'::text])));
ALTER TABLE avouch.vault_request ADD CONSTRAINT vault_request_level_check CHECK ((level = ANY (ARRAY['code'::text, 'seed'::text])));
ALTER TABLE avouch.vault_request ADD CONSTRAINT vault_request_outcome_check CHECK ((outcome = ANY (ARRAY['approved'::text, 'refused'::text, 'withdrawn'::text])));
ALTER TABLE avouch.vault_request ADD CONSTRAINT vault_request_pkey PRIMARY KEY (tenant_id, request_id);
ALTER TABLE avouch.vault_request ADD CONSTRAINT vault_request_seconds_check CHECK ((seconds > 0));
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
ALTER TABLE avouch.attempt ADD CONSTRAINT attempt_tenant_id_person_id_fkey FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person(tenant_id, person_id);
ALTER TABLE avouch.break_glass ADD CONSTRAINT break_glass_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.break_glass ADD CONSTRAINT break_glass_tenant_id_person_id_fkey FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person(tenant_id, person_id);
ALTER TABLE avouch.connection ADD CONSTRAINT connection_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.counter ADD CONSTRAINT counter_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.device ADD CONSTRAINT device_tenant_id_person_id_fkey FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person(tenant_id, person_id);
ALTER TABLE avouch.domain ADD CONSTRAINT domain_tenant_id_connection_id_fkey FOREIGN KEY (tenant_id, connection_id) REFERENCES avouch.connection(tenant_id, connection_id);
ALTER TABLE avouch.domain ADD CONSTRAINT domain_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.factor ADD CONSTRAINT factor_tenant_id_person_id_fkey FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person(tenant_id, person_id);
ALTER TABLE avouch.glass_hook ADD CONSTRAINT glass_hook_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.glass_review ADD CONSTRAINT glass_review_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.group_member ADD CONSTRAINT group_member_tenant_id_group_id_fkey FOREIGN KEY (tenant_id, group_id) REFERENCES avouch.person_group(tenant_id, group_id);
ALTER TABLE avouch.group_member ADD CONSTRAINT group_member_tenant_id_person_id_fkey FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person(tenant_id, person_id);
ALTER TABLE avouch.idempotency ADD CONSTRAINT idempotency_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.identity ADD CONSTRAINT identity_tenant_id_connection_id_fkey FOREIGN KEY (tenant_id, connection_id) REFERENCES avouch.connection(tenant_id, connection_id);
ALTER TABLE avouch.identity ADD CONSTRAINT identity_tenant_id_person_id_fkey FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person(tenant_id, person_id);
ALTER TABLE avouch.incident ADD CONSTRAINT incident_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.installation ADD CONSTRAINT installation_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.invitation ADD CONSTRAINT invitation_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.key_rotation ADD CONSTRAINT key_rotation_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.link ADD CONSTRAINT link_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.offboarding ADD CONSTRAINT offboarding_tenant_id_person_id_fkey FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person(tenant_id, person_id);
ALTER TABLE avouch.organisation ADD CONSTRAINT organisation_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.audit_head(tenant_id);
ALTER TABLE avouch.own_kms ADD CONSTRAINT own_kms_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.password ADD CONSTRAINT password_tenant_id_person_id_fkey FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person(tenant_id, person_id);
ALTER TABLE avouch.pending_change ADD CONSTRAINT pending_change_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.person ADD CONSTRAINT person_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.person_group ADD CONSTRAINT person_group_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.recovery_code ADD CONSTRAINT recovery_code_tenant_id_person_id_fkey FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person(tenant_id, person_id);
ALTER TABLE avouch.role ADD CONSTRAINT role_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.scope ADD CONSTRAINT scope_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.session ADD CONSTRAINT session_tenant_id_person_id_fkey FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person(tenant_id, person_id);
ALTER TABLE avouch.session_use ADD CONSTRAINT session_use_tenant_id_session_id_fkey FOREIGN KEY (tenant_id, session_id) REFERENCES avouch.session(tenant_id, session_id);
ALTER TABLE avouch.signing_key ADD CONSTRAINT signing_key_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.spent ADD CONSTRAINT spent_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.vault_fetch ADD CONSTRAINT vault_fetch_tenant_id_item_id_fkey FOREIGN KEY (tenant_id, item_id) REFERENCES avouch.vault_item(tenant_id, item_id) ON DELETE CASCADE;
ALTER TABLE avouch.vault_grant ADD CONSTRAINT vault_grant_tenant_id_item_id_fkey FOREIGN KEY (tenant_id, item_id) REFERENCES avouch.vault_item(tenant_id, item_id) ON DELETE CASCADE;
ALTER TABLE avouch.vault_item ADD CONSTRAINT vault_item_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES avouch.organisation(tenant_id);
ALTER TABLE avouch.vault_request ADD CONSTRAINT vault_request_tenant_id_item_id_fkey FOREIGN KEY (tenant_id, item_id) REFERENCES avouch.vault_item(tenant_id, item_id) ON DELETE CASCADE;

CREATE INDEX agent_by_id ON avouch.agent USING btree (agent_id);
CREATE INDEX agent_token_live ON avouch.agent_token USING btree (tenant_id, agent_id, expires_at) WHERE (revoked_at IS NULL);
CREATE INDEX agent_token_newest ON avouch.agent_token USING btree (tenant_id, agent_id, jti);
CREATE INDEX agent_token_revoked ON avouch.agent_token USING btree (tenant_id, agent_id, expires_at) WHERE (revoked_at IS NOT NULL);
CREATE INDEX api_key_end ON avouch.api_key USING btree (tenant_id, expires_at) WHERE ((revoked_at IS NULL) AND (expires_at IS NOT NULL));
CREATE INDEX api_key_family ON avouch.api_key USING btree (tenant_id, family);
CREATE INDEX api_key_maker ON avouch.api_key USING btree (tenant_id, made_by) WHERE (made_by IS NOT NULL);
CREATE INDEX api_key_newest ON avouch.api_key USING btree (tenant_id, created_at DESC, key_id);
CREATE INDEX api_key_owner ON avouch.api_key USING btree (tenant_id, owner) WHERE (revoked_at IS NULL);
CREATE INDEX api_key_person ON avouch.api_key USING btree (tenant_id, person) WHERE ((person IS NOT NULL) AND (revoked_at IS NULL));
CREATE INDEX api_key_present ON avouch.api_key USING btree (tenant_id, family) WHERE (replaced_by IS NULL);
CREATE INDEX api_key_finder_versions ON avouch.api_key_finder USING btree (tenant_id, tenant_version, platform_version);
CREATE INDEX api_key_verifier_key ON avouch.api_key_verifier USING btree (key_id);
CREATE INDEX attempt_digest ON avouch.attempt USING btree (digest);
CREATE INDEX attempt_person ON avouch.attempt USING btree (tenant_id, person_id);
CREATE INDEX audit_entry_about ON avouch.audit_entry USING btree (tenant_id, about, seq) WHERE (about IS NOT NULL);
CREATE INDEX audit_entry_person ON avouch.audit_entry USING btree (tenant_id, person, seq) WHERE (person IS NOT NULL);
CREATE INDEX audit_entry_request ON avouch.audit_entry USING btree (tenant_id, request_id);
CREATE INDEX break_glass_asked ON avouch.break_glass USING btree (tenant_id, asked_at DESC);
CREATE INDEX break_glass_by_id ON avouch.break_glass USING btree (use_id);
CREATE INDEX break_glass_live ON avouch.break_glass USING btree (tenant_id, person_id) WHERE (closed_at IS NULL);
CREATE INDEX break_glass_opened ON avouch.break_glass USING btree (tenant_id, opened_at) WHERE (opened_at IS NOT NULL);
CREATE INDEX connection_by_id ON avouch.connection USING btree (connection_id);
CREATE INDEX domain_proved ON avouch.domain USING btree (domain, proved_at) WHERE (proved_at IS NOT NULL);
CREATE INDEX factor_credential ON avouch.factor USING btree (credential) WHERE (credential IS NOT NULL);
CREATE INDEX factor_person ON avouch.factor USING btree (tenant_id, person_id);
CREATE INDEX group_member_person ON avouch.group_member USING btree (tenant_id, person_id);
CREATE INDEX identity_person ON avouch.identity USING btree (tenant_id, person_id);
CREATE INDEX incident_open ON avouch.incident USING btree (tenant_id, kind, subject) WHERE (resolved_at IS NULL);
CREATE UNIQUE INDEX invitation_open ON avouch.invitation USING btree (tenant_id, address) WHERE ((accepted_at IS NULL) AND (revoked_at IS NULL));
CREATE INDEX key_rotation_open ON avouch.key_rotation USING btree (tenant_id) WHERE (finished_at IS NULL);
CREATE INDEX link_digest ON avouch.link USING btree (digest);
CREATE INDEX link_subject ON avouch.link USING btree (tenant_id, subject);
CREATE UNIQUE INDEX person_address ON avouch.person USING btree (tenant_id, address) WHERE (removed_at IS NULL);
CREATE INDEX person_by_address ON avouch.person USING btree (address) WHERE (removed_at IS NULL);
CREATE UNIQUE INDEX person_external ON avouch.person USING btree (tenant_id, external) WHERE (removed_at IS NULL);
CREATE INDEX session_digest ON avouch.session USING btree (digest);
CREATE INDEX session_id ON avouch.session USING btree (session_id);
CREATE INDEX session_person ON avouch.session USING btree (tenant_id, person_id);
CREATE INDEX vault_fetch_old ON avouch.vault_fetch USING btree (tenant_id, fetched_at);
CREATE INDEX vault_grant_grantee ON avouch.vault_grant USING btree (tenant_id, kind, grantee);
CREATE INDEX vault_grant_item ON avouch.vault_grant USING btree (tenant_id, item_id);
CREATE UNIQUE INDEX vault_grant_live ON avouch.vault_grant USING btree (tenant_id, item_id, kind, grantee) WHERE (ended_at IS NULL);
CREATE INDEX vault_item_mark ON avouch.vault_item USING btree (tenant_id, mark) WHERE (mark IS NOT NULL);
CREATE INDEX vault_request_item ON avouch.vault_request USING btree (tenant_id, item_id, asked_at);
CREATE INDEX vault_request_open ON avouch.vault_request USING btree (tenant_id, request_id) WHERE (outcome IS NULL);
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
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.attempt FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE TRIGGER insert_only BEFORE DELETE OR UPDATE ON avouch.audit_entry FOR EACH ROW EXECUTE FUNCTION avouch.log_is_insert_only();
CREATE TRIGGER insert_only_truncate BEFORE TRUNCATE ON avouch.audit_entry FOR EACH STATEMENT EXECUTE FUNCTION avouch.log_is_insert_only();
CREATE TRIGGER insert_only_truncate BEFORE TRUNCATE ON avouch.audit_entry_default FOR EACH STATEMENT EXECUTE FUNCTION avouch.log_is_insert_only();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.audit_head FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.break_glass FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.break_glass DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.connection FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.connection DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.counter FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.device FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.domain FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.domain DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.factor FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.factor DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.glass_hook FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.glass_hook DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.glass_review FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.glass_review DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.group_member FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.group_member DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.idempotency FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.identity FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.identity DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.incident FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.incident DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.installation FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.installation DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.invitation FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.invitation DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.key_rotation FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.link FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.link DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.offboarding FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.offboarding DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.organisation FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.organisation DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.own_kms FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.own_kms DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.password FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.password DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.pending_change FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.pending_change DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.person FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.person DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.person_group FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.person_group DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.recovery_code FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.recovery_code DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.role FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.role DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.scope FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.scope DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.session FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.session DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.session_use FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.signing_key FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.signing_key DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.spent FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.vault_fetch FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.vault_grant FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.vault_grant DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.vault_item FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.vault_item DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON avouch.vault_request FOR EACH STATEMENT EXECUTE FUNCTION avouch.refuse_truncate();
CREATE CONSTRAINT TRIGGER require_entry AFTER INSERT OR DELETE OR UPDATE ON avouch.vault_request DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION avouch.require_entry();
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
ALTER TABLE avouch.attempt ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.audit_entry ENABLE ALWAYS TRIGGER insert_only;
ALTER TABLE avouch.audit_entry ENABLE ALWAYS TRIGGER insert_only_truncate;
ALTER TABLE avouch.audit_entry_default ENABLE ALWAYS TRIGGER insert_only;
ALTER TABLE avouch.audit_entry_default ENABLE ALWAYS TRIGGER insert_only_truncate;
ALTER TABLE avouch.audit_head ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.break_glass ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.break_glass ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.connection ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.connection ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.counter ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.device ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.domain ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.domain ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.factor ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.factor ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.glass_hook ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.glass_hook ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.glass_review ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.glass_review ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.group_member ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.group_member ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.idempotency ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.identity ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.identity ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.incident ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.incident ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.installation ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.installation ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.invitation ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.invitation ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.key_rotation ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.link ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.link ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.offboarding ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.offboarding ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.organisation ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.organisation ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.own_kms ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.own_kms ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.password ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.password ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.pending_change ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.pending_change ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.person ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.person ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.person_group ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.person_group ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.recovery_code ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.recovery_code ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.role ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.role ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.scope ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.scope ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.session ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.session ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.session_use ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.signing_key ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.signing_key ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.spent ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.vault_fetch ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.vault_grant ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.vault_grant ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.vault_item ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.vault_item ENABLE ALWAYS TRIGGER require_entry;
ALTER TABLE avouch.vault_request ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE avouch.vault_request ENABLE ALWAYS TRIGGER require_entry;

ALTER TABLE avouch.agent ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.agent_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.agent_token ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_identity ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_key_finder ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_key_use ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_key_verifier ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.attempt ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.audit_entry ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.audit_entry_default ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.audit_head ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.break_glass ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.connection ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.counter ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.device ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.domain ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.factor ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.glass_hook ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.glass_review ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.group_member ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.idempotency ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.identity ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.incident ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.installation ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.invitation ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.key_rotation ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.link ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.offboarding ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.organisation ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.own_kms ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.password ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.pending_change ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.person ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.person_group ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.recovery_code ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.role ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.scope ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.session ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.session_use ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.signing_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.spent ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.vault_fetch ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.vault_grant ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.vault_item ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.vault_request ENABLE ROW LEVEL SECURITY;
ALTER TABLE avouch.agent FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.agent_key FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.agent_token FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_identity FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_key FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_key_finder FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_key_use FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.api_key_verifier FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.attempt FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.audit_entry FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.audit_entry_default FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.audit_head FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.break_glass FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.connection FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.counter FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.device FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.domain FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.factor FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.glass_hook FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.glass_review FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.group_member FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.idempotency FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.identity FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.incident FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.installation FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.invitation FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.key_rotation FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.link FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.offboarding FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.organisation FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.own_kms FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.password FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.pending_change FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.person FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.person_group FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.recovery_code FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.role FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.scope FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.session FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.session_use FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.signing_key FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.spent FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.vault_fetch FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.vault_grant FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.vault_item FORCE ROW LEVEL SECURITY;
ALTER TABLE avouch.vault_request FORCE ROW LEVEL SECURITY;
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
CREATE POLICY lookup ON avouch.attempt FOR SELECT TO avouch_lookup USING ((CURRENT_USER = 'avouch_lookup'::name));
CREATE POLICY tenant ON avouch.attempt FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY append ON avouch.audit_entry FOR ALL TO avouch_log USING ((CURRENT_USER = 'avouch_log'::name)) WITH CHECK ((CURRENT_USER = 'avouch_log'::name));
CREATE POLICY tenant ON avouch.audit_entry FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY append ON avouch.audit_entry_default FOR ALL TO avouch_log USING ((CURRENT_USER = 'avouch_log'::name)) WITH CHECK ((CURRENT_USER = 'avouch_log'::name));
CREATE POLICY tenant ON avouch.audit_entry_default FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY append ON avouch.audit_head FOR ALL TO avouch_log USING ((CURRENT_USER = 'avouch_log'::name)) WITH CHECK ((CURRENT_USER = 'avouch_log'::name));
CREATE POLICY tenant ON avouch.audit_head FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY lookup ON avouch.break_glass FOR SELECT TO avouch_lookup USING ((CURRENT_USER = 'avouch_lookup'::name));
CREATE POLICY tenant ON avouch.break_glass FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY lookup ON avouch.connection FOR SELECT TO avouch_lookup USING ((CURRENT_USER = 'avouch_lookup'::name));
CREATE POLICY tenant ON avouch.connection FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY append ON avouch.counter FOR ALL TO avouch_log USING ((CURRENT_USER = 'avouch_log'::name)) WITH CHECK ((CURRENT_USER = 'avouch_log'::name));
CREATE POLICY tenant ON avouch.counter FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.device FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY lookup ON avouch.domain FOR SELECT TO avouch_lookup USING ((CURRENT_USER = 'avouch_lookup'::name));
CREATE POLICY tenant ON avouch.domain FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY lookup ON avouch.factor FOR SELECT TO avouch_lookup USING ((CURRENT_USER = 'avouch_lookup'::name));
CREATE POLICY tenant ON avouch.factor FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.glass_hook FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.glass_review FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.group_member FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.idempotency FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.identity FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.incident FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.installation FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.invitation FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.key_rotation FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY lookup ON avouch.link FOR SELECT TO avouch_lookup USING ((CURRENT_USER = 'avouch_lookup'::name));
CREATE POLICY tenant ON avouch.link FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.offboarding FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY lookup ON avouch.organisation FOR SELECT TO avouch_lookup USING ((CURRENT_USER = 'avouch_lookup'::name));
CREATE POLICY tenant ON avouch.organisation FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.own_kms FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.password FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.pending_change FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY lookup ON avouch.person FOR SELECT TO avouch_lookup USING ((CURRENT_USER = 'avouch_lookup'::name));
CREATE POLICY tenant ON avouch.person FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.person_group FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.recovery_code FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.role FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.scope FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY lookup ON avouch.session FOR SELECT TO avouch_lookup USING ((CURRENT_USER = 'avouch_lookup'::name));
CREATE POLICY tenant ON avouch.session FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.session_use FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.signing_key FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.spent FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.vault_fetch FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.vault_grant FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.vault_item FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));
CREATE POLICY tenant ON avouch.vault_request FOR ALL TO PUBLIC USING ((tenant_id = avouch.tenant())) WITH CHECK ((tenant_id = avouch.tenant()));

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
ALTER TABLE avouch.attempt OWNER TO avouch_owner;
ALTER TABLE avouch.audit_entry OWNER TO avouch_owner;
ALTER TABLE avouch.audit_entry_default OWNER TO avouch_owner;
ALTER TABLE avouch.audit_head OWNER TO avouch_owner;
ALTER TABLE avouch.break_glass OWNER TO avouch_owner;
ALTER TABLE avouch.connection OWNER TO avouch_owner;
ALTER TABLE avouch.counter OWNER TO avouch_owner;
ALTER TABLE avouch.device OWNER TO avouch_owner;
ALTER TABLE avouch.domain OWNER TO avouch_owner;
ALTER TABLE avouch.factor OWNER TO avouch_owner;
ALTER TABLE avouch.glass_hook OWNER TO avouch_owner;
ALTER TABLE avouch.glass_review OWNER TO avouch_owner;
ALTER TABLE avouch.group_member OWNER TO avouch_owner;
ALTER TABLE avouch.idempotency OWNER TO avouch_owner;
ALTER TABLE avouch.identity OWNER TO avouch_owner;
ALTER TABLE avouch.incident OWNER TO avouch_owner;
ALTER TABLE avouch.installation OWNER TO avouch_owner;
ALTER TABLE avouch.invitation OWNER TO avouch_owner;
ALTER TABLE avouch.key_rotation OWNER TO avouch_owner;
ALTER TABLE avouch.link OWNER TO avouch_owner;
ALTER TABLE avouch.offboarding OWNER TO avouch_owner;
ALTER TABLE avouch.organisation OWNER TO avouch_owner;
ALTER TABLE avouch.own_kms OWNER TO avouch_owner;
ALTER TABLE avouch.password OWNER TO avouch_owner;
ALTER TABLE avouch.pending_change OWNER TO avouch_owner;
ALTER TABLE avouch.person OWNER TO avouch_owner;
ALTER TABLE avouch.person_group OWNER TO avouch_owner;
ALTER TABLE avouch.recovery_code OWNER TO avouch_owner;
ALTER TABLE avouch.role OWNER TO avouch_owner;
ALTER TABLE avouch.scope OWNER TO avouch_owner;
ALTER TABLE avouch.session OWNER TO avouch_owner;
ALTER TABLE avouch.session_use OWNER TO avouch_owner;
ALTER TABLE avouch.signing_key OWNER TO avouch_owner;
ALTER TABLE avouch.spent OWNER TO avouch_owner;
ALTER TABLE avouch.vault_fetch OWNER TO avouch_owner;
ALTER TABLE avouch.vault_grant OWNER TO avouch_owner;
ALTER TABLE avouch.vault_item OWNER TO avouch_owner;
ALTER TABLE avouch.vault_request OWNER TO avouch_owner;
ALTER FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[], items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], abouts uuid[], people uuid[], spend_items integer[], spend_counters integer[], spend_amounts bigint[], counter_places integer[], counter_subjects text[], counter_periods bigint[], counter_windows bigint[], counter_limits bigint[], OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint) OWNER TO avouch_log;
ALTER FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[], items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], spend_items integer[], spend_counters integer[], counter_places integer[], counter_subjects text[], counter_periods integer[], counter_limits bigint[], OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint) OWNER TO avouch_log;
ALTER FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[], items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], spend_items integer[], spend_counters integer[], spend_amounts bigint[], counter_places integer[], counter_subjects text[], counter_periods bigint[], counter_windows bigint[], counter_limits bigint[], OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint) OWNER TO avouch_log;
ALTER FUNCTION avouch.ensure_partitions() OWNER TO avouch_owner;
ALTER FUNCTION avouch.find_entries(tenant uuid, first bigint, entries uuid[], OUT entry_id uuid, OUT seq bigint) OWNER TO avouch_log;
ALTER FUNCTION avouch.free_heads(tenants uuid[]) OWNER TO avouch_log;
ALTER FUNCTION avouch.lock_heads(tenants uuid[], fence boolean, OUT tenant_id uuid, OUT log_id uuid, OUT epoch bigint, OUT size bigint) OWNER TO avouch_log;
ALTER FUNCTION avouch.log_is_insert_only() OWNER TO avouch_owner;
ALTER FUNCTION avouch.lookup_agent(wanted uuid) OWNER TO avouch_lookup;
ALTER FUNCTION avouch.lookup_attempt(wanted bytea) OWNER TO avouch_lookup;
ALTER FUNCTION avouch.lookup_break_glass(wanted uuid) OWNER TO avouch_lookup;
ALTER FUNCTION avouch.lookup_connection(wanted uuid) OWNER TO avouch_lookup;
ALTER FUNCTION avouch.lookup_domain(wanted text, OUT tenant_id uuid, OUT connection_id uuid, OUT required boolean) OWNER TO avouch_lookup;
ALTER FUNCTION avouch.lookup_key(wanted text, OUT tenant_id uuid, OUT digest bytea, OUT issued_at_ns bigint, OUT tenant_version integer, OUT platform_version integer) OWNER TO avouch_lookup;
ALTER FUNCTION avouch.lookup_link(wanted bytea, for_what text) OWNER TO avouch_lookup;
ALTER FUNCTION avouch.lookup_passkey(wanted bytea, OUT tenant_id uuid, OUT person_id uuid, OUT factor_id uuid) OWNER TO avouch_lookup;
ALTER FUNCTION avouch.lookup_people(wanted text, most integer, OUT tenant_id uuid, OUT person_id uuid) OWNER TO avouch_lookup;
ALTER FUNCTION avouch.lookup_session(wanted bytea, OUT tenant_id uuid, OUT session_id uuid) OWNER TO avouch_lookup;
ALTER FUNCTION avouch.lookup_session_id(wanted uuid) OWNER TO avouch_lookup;
ALTER FUNCTION avouch.lookup_tenants(after uuid, most integer) OWNER TO avouch_lookup;
ALTER FUNCTION avouch.move_epochs(excepted uuid) OWNER TO avouch_log;
ALTER FUNCTION avouch.new_epoch() OWNER TO avouch_owner;
ALTER FUNCTION avouch.protect_log(tbl regclass) OWNER TO avouch_owner;
ALTER FUNCTION avouch.refuse_truncate() OWNER TO avouch_owner;
ALTER FUNCTION avouch.require_entry() OWNER TO avouch_owner;
ALTER FUNCTION avouch.tenant() OWNER TO avouch_owner;
ALTER PROCEDURE avouch.protect(IN tbl regclass, IN audited boolean) OWNER TO avouch_owner;

REVOKE ALL ON FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[], items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], abouts uuid[], people uuid[], spend_items integer[], spend_counters integer[], spend_amounts bigint[], counter_places integer[], counter_subjects text[], counter_periods bigint[], counter_windows bigint[], counter_limits bigint[], OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[], items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], spend_items integer[], spend_counters integer[], counter_places integer[], counter_subjects text[], counter_periods integer[], counter_limits bigint[], OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[], items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], spend_items integer[], spend_counters integer[], spend_amounts bigint[], counter_places integer[], counter_subjects text[], counter_periods bigint[], counter_windows bigint[], counter_limits bigint[], OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.ensure_partitions() FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.find_entries(tenant uuid, first bigint, entries uuid[], OUT entry_id uuid, OUT seq bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.free_heads(tenants uuid[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.lock_heads(tenants uuid[], fence boolean, OUT tenant_id uuid, OUT log_id uuid, OUT epoch bigint, OUT size bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.log_is_insert_only() FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.lookup_agent(wanted uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.lookup_attempt(wanted bytea) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.lookup_break_glass(wanted uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.lookup_connection(wanted uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.lookup_domain(wanted text, OUT tenant_id uuid, OUT connection_id uuid, OUT required boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.lookup_key(wanted text, OUT tenant_id uuid, OUT digest bytea, OUT issued_at_ns bigint, OUT tenant_version integer, OUT platform_version integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.lookup_link(wanted bytea, for_what text) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.lookup_passkey(wanted bytea, OUT tenant_id uuid, OUT person_id uuid, OUT factor_id uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.lookup_people(wanted text, most integer, OUT tenant_id uuid, OUT person_id uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.lookup_session(wanted bytea, OUT tenant_id uuid, OUT session_id uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION avouch.lookup_session_id(wanted uuid) FROM PUBLIC;
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
GRANT SELECT (digest), SELECT (tenant_id) ON TABLE avouch.attempt TO avouch_lookup;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.attempt TO avouch_server;
GRANT INSERT, SELECT (entry_id), SELECT (seq), SELECT (tenant_id) ON TABLE avouch.audit_entry TO avouch_log;
GRANT SELECT ON TABLE avouch.audit_entry TO avouch_server;
GRANT SELECT, UPDATE (chain), UPDATE (epoch), UPDATE (size) ON TABLE avouch.audit_head TO avouch_log;
GRANT INSERT (epoch), INSERT (log_id), INSERT (tenant_id), SELECT ON TABLE avouch.audit_head TO avouch_server;
GRANT SELECT (tenant_id), SELECT (use_id) ON TABLE avouch.break_glass TO avouch_lookup;
GRANT INSERT, SELECT, UPDATE ON TABLE avouch.break_glass TO avouch_server;
GRANT SELECT (connection_id), SELECT (tenant_id) ON TABLE avouch.connection TO avouch_lookup;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.connection TO avouch_server;
GRANT SELECT, UPDATE (period), UPDATE (used) ON TABLE avouch.counter TO avouch_log;
GRANT DELETE, INSERT, SELECT ON TABLE avouch.counter TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.device TO avouch_server;
GRANT SELECT (connection_id), SELECT (domain), SELECT (proved_at), SELECT (required), SELECT (tenant_id) ON TABLE avouch.domain TO avouch_lookup;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.domain TO avouch_server;
GRANT SELECT (credential), SELECT (factor_id), SELECT (person_id), SELECT (tenant_id) ON TABLE avouch.factor TO avouch_lookup;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.factor TO avouch_server;
GRANT INSERT, SELECT, UPDATE ON TABLE avouch.glass_hook TO avouch_server;
GRANT INSERT, SELECT ON TABLE avouch.glass_review TO avouch_server;
GRANT DELETE, INSERT, SELECT ON TABLE avouch.group_member TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.idempotency TO avouch_server;
GRANT DELETE, INSERT, SELECT ON TABLE avouch.identity TO avouch_server;
GRANT INSERT, SELECT, UPDATE ON TABLE avouch.incident TO avouch_server;
GRANT INSERT, SELECT ON TABLE avouch.installation TO avouch_server;
GRANT INSERT, SELECT, UPDATE ON TABLE avouch.invitation TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.key_rotation TO avouch_server;
GRANT SELECT (digest), SELECT (purpose), SELECT (tenant_id) ON TABLE avouch.link TO avouch_lookup;
GRANT INSERT, SELECT, UPDATE ON TABLE avouch.link TO avouch_server;
GRANT INSERT, SELECT ON TABLE avouch.offboarding TO avouch_server;
GRANT SELECT (deleted_at), SELECT (suspended_at), SELECT (tenant_id) ON TABLE avouch.organisation TO avouch_lookup;
GRANT INSERT, SELECT, UPDATE ON TABLE avouch.organisation TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.own_kms TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.password TO avouch_server;
GRANT INSERT, SELECT, UPDATE ON TABLE avouch.pending_change TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.person_group TO avouch_server;
GRANT SELECT (address), SELECT (person_id), SELECT (removed_at), SELECT (tenant_id) ON TABLE avouch.person TO avouch_lookup;
GRANT INSERT, SELECT, UPDATE ON TABLE avouch.person TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.recovery_code TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.role TO avouch_server;
GRANT SELECT ON TABLE avouch.schema_serves TO avouch_server;
GRANT SELECT ON TABLE avouch.schema_version TO avouch_server;
GRANT INSERT, SELECT, UPDATE ON TABLE avouch.scope TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.session_use TO avouch_server;
GRANT SELECT (created_at), SELECT (digest), SELECT (person_id), SELECT (session_id), SELECT (tenant_id) ON TABLE avouch.session TO avouch_lookup;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.session TO avouch_server;
GRANT INSERT, SELECT, UPDATE ON TABLE avouch.signing_key TO avouch_server;
GRANT DELETE, INSERT, SELECT ON TABLE avouch.spent TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.vault_fetch TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.vault_grant TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.vault_item TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch.vault_request TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch_jobs.river_job TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch_jobs.river_leader TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch_jobs.river_migration TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch_jobs.river_notification TO avouch_server;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE avouch_jobs.river_queue TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[], items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], abouts uuid[], people uuid[], spend_items integer[], spend_counters integer[], spend_amounts bigint[], counter_places integer[], counter_subjects text[], counter_periods bigint[], counter_windows bigint[], counter_limits bigint[], OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[], items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], spend_items integer[], spend_counters integer[], counter_places integer[], counter_subjects text[], counter_periods integer[], counter_limits bigint[], OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[], items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], spend_items integer[], spend_counters integer[], spend_amounts bigint[], counter_places integer[], counter_subjects text[], counter_periods bigint[], counter_windows bigint[], counter_limits bigint[], OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.ensure_partitions() TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.find_entries(tenant uuid, first bigint, entries uuid[], OUT entry_id uuid, OUT seq bigint) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.free_heads(tenants uuid[]) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.lock_heads(tenants uuid[], fence boolean, OUT tenant_id uuid, OUT log_id uuid, OUT epoch bigint, OUT size bigint) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.log_is_insert_only() TO avouch_log;
GRANT EXECUTE ON FUNCTION avouch.log_is_insert_only() TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.lookup_agent(wanted uuid) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.lookup_attempt(wanted bytea) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.lookup_break_glass(wanted uuid) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.lookup_connection(wanted uuid) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.lookup_domain(wanted text, OUT tenant_id uuid, OUT connection_id uuid, OUT required boolean) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.lookup_key(wanted text, OUT tenant_id uuid, OUT digest bytea, OUT issued_at_ns bigint, OUT tenant_version integer, OUT platform_version integer) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.lookup_link(wanted bytea, for_what text) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.lookup_passkey(wanted bytea, OUT tenant_id uuid, OUT person_id uuid, OUT factor_id uuid) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.lookup_people(wanted text, most integer, OUT tenant_id uuid, OUT person_id uuid) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.lookup_session(wanted bytea, OUT tenant_id uuid, OUT session_id uuid) TO avouch_server;
GRANT EXECUTE ON FUNCTION avouch.lookup_session_id(wanted uuid) TO avouch_server;
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
COMMENT ON COLUMN avouch.agent.registered_by IS 'kind and id of who registered it; null is before anybody wrote that down';
COMMENT ON COLUMN avouch.agent.visible_to IS 'the tenants that may verify the agent when visibility is listed';
COMMENT ON COLUMN avouch.agent_token.issued_by IS 'kind and id of who issued it; null is before anybody wrote that down, and may have been anybody';
COMMENT ON TABLE avouch.api_identity IS 'somebody to whom an organisation gives keys, and the limits that these share';
COMMENT ON COLUMN avouch.api_key.owner IS 'to whom the organisation gave the key, in its own words; keys of one owner may share limits (api_identity)';
COMMENT ON COLUMN avouch.api_key.shares IS 'families of keys that made this one: it spends their limits and monthly quotas too';
COMMENT ON COLUMN avouch.api_key.noticed IS 'how many days before its end the owner was told last';
COMMENT ON COLUMN avouch.api_key.made_by IS 'the key that asked for this one; a successor keeps its predecessor''s';
COMMENT ON COLUMN avouch.api_key.life_us IS 'how long the key was to live, in microseconds, if the key that rotated it ends sooner; 0 is for ever';
COMMENT ON COLUMN avouch.api_key.family IS 'the first generation''s id: generations share what meters them';
COMMENT ON COLUMN avouch.api_key.person IS 'who made the key, or the key that it came from; a successor keeps its predecessor''s';
COMMENT ON COLUMN avouch.api_key.resources IS 'what the key may ask about; empty is anything';
COMMENT ON COLUMN avouch.api_key.owners IS 'whose agents the key may verify, by tenant; empty is anybody''s';
COMMENT ON COLUMN avouch.api_key_use.client IS 'from where and with what, sealed by the keyring';
COMMENT ON COLUMN avouch.api_key_use.refused IS 'how often it was presented after it was revoked';
COMMENT ON TABLE avouch.api_key_verifier IS 'written by the server, read by nobody but lookup_key';
COMMENT ON COLUMN avouch.attempt.via IS 'the connection that proved the person';
COMMENT ON COLUMN avouch.attempt.until IS 'when the provider''s own session ends';
COMMENT ON COLUMN avouch.attempt.state IS 'the challenge or the digest of the code that was sent, sealed by the keyring';
COMMENT ON COLUMN avouch.audit_entry.about IS 'what the entry is about: of the vault an item, its uses, a grant or a request; or the deletion of the organisation';
COMMENT ON COLUMN avouch.audit_entry.person IS 'the person who acted, if the entry is about something of the vault';
COMMENT ON COLUMN avouch.audit_head.epoch IS 'random, replaced by every change that can alter a decision';
COMMENT ON COLUMN avouch.break_glass.due_at IS 'what waits opens then by itself if approval is delay, and lapses else';
COMMENT ON COLUMN avouch.break_glass.remark IS 'what the review says, sealed like the reason';
COMMENT ON COLUMN avouch.break_glass.reason IS 'sealed by the keyring, under the person''s key';
COMMENT ON COLUMN avouch.connection.config IS 'the provider''s addresses, keys and rules of admission, sealed by the keyring';
COMMENT ON COLUMN avouch.counter.period IS 'what is counted in: a month, or the beginning of a window in Unix milliseconds';
COMMENT ON COLUMN avouch.domain.required IS 'people of the domain sign in by the connection alone';
COMMENT ON COLUMN avouch.domain.lapsed_at IS 'since when the record that proved it was not found any more';
COMMENT ON COLUMN avouch.factor.mark IS 'names the seed of an authenticator app, by a key of the key store (vault_item.mark)';
COMMENT ON COLUMN avouch.factor.secret IS 'name, and what the kind needs: seed, number, passkey; sealed by the keyring';
COMMENT ON COLUMN avouch.factor.credential IS 'SHA-256 of a passkey''s credential id: whoever signs in without a name is found by it';
COMMENT ON COLUMN avouch.factor.counter IS 'the last TOTP step that was accepted, or a passkey''s sign count';
COMMENT ON COLUMN avouch.glass_hook.secret IS 'what the external approval system and Avouch sign with, sealed by the keyring';
COMMENT ON TABLE avouch.glass_review IS 'weekly lists of what was opened, each signed off by a person; week is its Monday';
COMMENT ON COLUMN avouch.identity.subject IS 'pseudonym of the provider''s name for the person';
COMMENT ON COLUMN avouch.invitation.profile IS 'name and e-mail address, sealed by the keyring';
COMMENT ON COLUMN avouch.key_rotation.clean_at IS 'since when nothing is under an older version, as far as the last look of looked_at knows';
COMMENT ON COLUMN avouch.key_rotation.ending_at IS 'since when the older versions are being destroyed';
COMMENT ON COLUMN avouch.key_rotation.wrap IS 'the version of the key that it makes; with subjects, it ends the versions before them';
COMMENT ON COLUMN avouch.key_rotation.pass_at IS 'when the pass under way, or the last, began; place and after say how far it is, found what it found under older versions';
COMMENT ON COLUMN avouch.link.digest IS 'SHA-256 of the secret, which is derived from link_id by a key of the organisation';
COMMENT ON COLUMN avouch.link.subject IS 'the invitation or the person';
COMMENT ON COLUMN avouch.offboarding.ended IS 'how many sessions, keys, groups, factors ... ended, by name';
COMMENT ON COLUMN avouch.organisation.rules IS 'what holds for its people: factors, sessions, addresses, break-glass (org.Rules)';
COMMENT ON COLUMN avouch.organisation.region IS 'where its data may be sent; empty is anywhere';
COMMENT ON COLUMN avouch.organisation.deleted_at IS 'access ended then, with suspended_at; its keys are destroyed later';
COMMENT ON COLUMN avouch.organisation.shredded_at IS 'its keys are destroyed: nothing brings it back';
COMMENT ON COLUMN avouch.organisation.contact IS 'e-mail address for notices, sealed by the keyring';
COMMENT ON COLUMN avouch.organisation.live_tokens IS 'how many unexpired, unrevoked tokens an agent may have';
COMMENT ON COLUMN avouch.organisation.monthly_quota IS 'verifications a month; NULL is unlimited';
COMMENT ON COLUMN avouch.organisation.badge IS 'whether /verified shows when this organisation last verified an agent';
COMMENT ON TABLE avouch.own_kms IS 'how an organisation''s own key management is reached; the own file of the key store names the row';
COMMENT ON COLUMN avouch.own_kms.settings IS 'sealed under the keys of the installation''s own organisation, since it is read while this one''s are closed';
COMMENT ON COLUMN avouch.own_kms.state IS 'begun: keys are on their way there; leaving: on their way back to the platform';
COMMENT ON COLUMN avouch.password.hash IS 'PHC string, sealed by the keyring';
COMMENT ON COLUMN avouch.person.directory_suspended_at IS 'suspended_at, if the directory suspended the person: only then may it resume them';
COMMENT ON COLUMN avouch.person.owner_since IS 'when the person became an owner; null is before anybody wrote that down';
COMMENT ON COLUMN avouch.person.owner_until IS 'when the person ceased to be an owner who can act: for some days nobody deletes the organisation alone';
COMMENT ON COLUMN avouch.person.profile IS 'name, e-mail address and external id, sealed by the keyring';
COMMENT ON COLUMN avouch.person.address IS 'pseudonym of the e-mail address, the same in every organisation (signin.Address)';
COMMENT ON COLUMN avouch.person.external IS 'pseudonym of the id that the organisation''s directory gave, for SCIM';
COMMENT ON COLUMN avouch.person.managed_by IS 'the connection whose directory decides about the person';
COMMENT ON COLUMN avouch.person_group.managed_by IS 'the connection whose directory decides who is in the group';
COMMENT ON TABLE avouch.role IS 'the roles that a tenant made beside the built-in ones';
COMMENT ON TABLE avouch.schema_serves IS 'servers that know fewer migrations than this must not run on the schema';
COMMENT ON TABLE avouch.scope IS 'the scopes that a tenant added to the catalogue';
COMMENT ON COLUMN avouch.session.methods IS 'how the person was proved';
COMMENT ON COLUMN avouch.session.proved_at IS 'when a factor was proved last: dangerous acts want that to be recent';
COMMENT ON COLUMN avouch.session.held IS 'what the person could do then: a session gains nothing without a proof, which rotates it';
COMMENT ON COLUMN avouch.session.mac IS 'over whose it is, and what was proved, by a key that is not in the database: a row that was only written here is no session';
COMMENT ON COLUMN avouch.session.digest IS 'SHA-256 of the cookie or of the present refresh token';
COMMENT ON COLUMN avouch.session.generation IS 'counts the refresh tokens of the family';
COMMENT ON COLUMN avouch.session.client IS 'what a refresh token is bound to, hashed';
COMMENT ON COLUMN avouch.session.description IS 'device name, program and address, sealed by the keyring';
COMMENT ON COLUMN avouch.signing_key.public_key IS 'PKIX, DER';
COMMENT ON COLUMN avouch.signing_key.private_key IS 'PKCS #8 sealed under the platform key; NULL once destroyed';
COMMENT ON COLUMN avouch.vault_fetch.digest IS 'SHA-256 of who fetched and the Idempotency-Key';
COMMENT ON COLUMN avouch.vault_fetch.place IS 'the counter of the code, or the number of the recovery code';
COMMENT ON COLUMN avouch.vault_item.listed IS 'whether every member may know that it is there, and ask for it';
COMMENT ON COLUMN avouch.vault_item.mark IS 'names its seed, by a key of the key store: equal where an authenticator app of a person has the same (factor.mark)';
COMMENT ON COLUMN avouch.vault_item.about IS 'name, issuer, account, folder, tags, notes, icon; sealed by the keyring';
COMMENT ON COLUMN avouch.vault_item.secret IS 'the seed and its scheme, the recovery codes, or the text; sealed by the keyring';
COMMENT ON COLUMN avouch.vault_item.secret_version IS 'of the secret; with the hash of its ciphertext it is in the entry of its last change';
COMMENT ON COLUMN avouch.vault_item.counter IS 'of the next code, for HOTP';
COMMENT ON COLUMN avouch.vault_item.taken IS 'which of the recovery codes were taken, from 1';
COMMENT ON COLUMN avouch.vault_request.reason IS 'sealed by the keyring, under the key of the person who asks';
COMMENT ON COLUMN avouch.vault_request.granted IS 'whether the item was granted to the asker already: then the grant must last too';
