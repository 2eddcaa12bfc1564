-- The door's own tables: organisations, their log heads, the log, counters; and the rules that every later table follows.
-- Run as a member of avouch_owner; the roles exist (see Bootstrap). Forward only.
SET LOCAL lock_timeout = '5s';
SET LOCAL ROLE avouch_owner;

-- The tenant that the present transaction works for; NULL outside one. On a pooled connection that was used before, the
-- setting is '' and not NULL: a bare cast would raise instead of showing nothing.
CREATE FUNCTION avouch.tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
RETURN NULLIF(current_setting('avouch.tenant', true), '')::uuid;

-- Each tenant's serialization point: see ARCHITECTURE.md, "the one idea".
CREATE TABLE avouch.audit_head (
  tenant_id uuid PRIMARY KEY,
  log_id    uuid NOT NULL,
  size      bigint NOT NULL DEFAULT 0,
  chain     bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
  epoch     bigint NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON COLUMN avouch.audit_head.epoch IS 'random, replaced by every change that can alter a decision';

-- No foreign key to the head: the statement that inserts has locked it, and a check for each row would lock it again.
CREATE TABLE avouch.audit_entry (
  tenant_id  uuid NOT NULL,
  seq        bigint NOT NULL,
  written_at timestamptz NOT NULL DEFAULT now(),
  entry_id   uuid NOT NULL,
  request_id uuid NOT NULL,
  body       bytea NOT NULL CHECK (length(body) <= 16384),
  leaf       bytea NOT NULL,
  prev       bytea NOT NULL,
  sealed     bytea,
  PRIMARY KEY (tenant_id, seq, written_at)
) PARTITION BY RANGE (written_at);
CREATE INDEX audit_entry_request ON avouch.audit_entry (tenant_id, request_id);
-- SHA-256 does not compress, and looking whether it does costs time under the head's lock.
ALTER TABLE avouch.audit_entry ALTER body SET STORAGE EXTERNAL, ALTER leaf SET STORAGE EXTERNAL,
  ALTER prev SET STORAGE EXTERNAL, ALTER sealed SET STORAGE EXTERNAL;

-- A search_path of its own for each function that guards something: whoever may make a temporary type could else give the
-- words in it another meaning.
CREATE FUNCTION avouch.log_is_insert_only() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'the audit log is insert-only: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;

-- Refuses to commit a transaction that changed a tenant's table and appended no entry to that tenant's log: the log's last
-- entry must be this transaction's. Whoever holds the head appends, so no other's can follow it before the commit.
CREATE FUNCTION avouch.require_entry() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
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
END $$;

CREATE FUNCTION avouch.refuse_truncate() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'table % cannot be truncated', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;

-- What every tenant table gets. The catalogue test lists the tables that lack any of it.
CREATE PROCEDURE avouch.protect(tbl regclass, audited boolean DEFAULT true) LANGUAGE plpgsql AS $$
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
END $$;

-- What every table of the log gets, the parent and each partition: a partition read directly ignores its parent's policy.
-- A policy TO a role holds for members that inherit it too, and the server is a member: so it asks who it is now.
CREATE FUNCTION avouch.protect_log(tbl regclass) RETURNS void LANGUAGE plpgsql AS $$
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
END $$;
SELECT avouch.protect_log('avouch.audit_head');
SELECT avouch.protect_log('avouch.audit_entry');
CREATE TABLE avouch.audit_entry_default PARTITION OF avouch.audit_entry DEFAULT;
SELECT avouch.protect_log('avouch.audit_entry_default');

-- The server may ask for months and choose nothing about them. Returns how many were made.
CREATE FUNCTION avouch.ensure_partitions() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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
END $$;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA avouch FROM PUBLIC;
REVOKE EXECUTE ON ALL PROCEDURES IN SCHEMA avouch FROM PUBLIC;
SELECT avouch.ensure_partitions();

-- The organisations: the tenants. The platform itself is one of them, with a log of its own.
CREATE TABLE avouch.organisation (
  tenant_id      uuid PRIMARY KEY REFERENCES avouch.audit_head,
  name           text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  contact        bytea,
  created_at     timestamptz NOT NULL,
  suspended_at   timestamptz,
  token_lifetime interval NOT NULL DEFAULT '24 hours' CHECK (token_lifetime BETWEEN '5 minutes' AND '24 hours'),
  live_tokens    integer NOT NULL DEFAULT 1000 CHECK (live_tokens > 0),
  monthly_quota  bigint CHECK (monthly_quota >= 0),
  badge          boolean NOT NULL DEFAULT false,
  version        bigint NOT NULL DEFAULT 1
);
COMMENT ON COLUMN avouch.organisation.contact IS 'e-mail address for notices, sealed by the keyring';
COMMENT ON COLUMN avouch.organisation.live_tokens IS 'how many unexpired, unrevoked tokens an agent may have';
COMMENT ON COLUMN avouch.organisation.monthly_quota IS 'verifications a month; NULL is unlimited';
COMMENT ON COLUMN avouch.organisation.badge IS 'whether /verified shows when this organisation last verified an agent';
CALL avouch.protect('avouch.organisation');

-- Counters that must never be exceeded on any number of servers: quotas by month, uses of a token. They move in the
-- statement that appends the entry of what they count, under the lock of that tenant's head.
CREATE TABLE avouch.counter (
  tenant_id uuid NOT NULL REFERENCES avouch.organisation,
  subject   text NOT NULL CHECK (length(subject) <= 64),
  period    integer NOT NULL DEFAULT 0,
  used      bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, subject)
) WITH (fillfactor = 50);
CALL avouch.protect('avouch.counter', audited => false);
CREATE POLICY append ON avouch.counter TO avouch_log USING (current_user = 'avouch_log') WITH CHECK (current_user = 'avouch_log');

-- Answers to creates that carried an Idempotency-Key; sealed, since some show a secret once.
CREATE TABLE avouch.idempotency (
  tenant_id  uuid NOT NULL REFERENCES avouch.organisation,
  actor      text NOT NULL,
  key        text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
  request    bytea NOT NULL,
  answer     bytea,
  status     integer,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, actor, key)
);
CALL avouch.protect('avouch.idempotency', audited => false);

-- What fixes an installation at its first start: a row of the platform's.
CREATE TABLE avouch.installation (
  tenant_id uuid PRIMARY KEY REFERENCES avouch.organisation,
  issuer    text NOT NULL
);
CALL avouch.protect('avouch.installation');

CREATE TABLE avouch.incident (
  tenant_id   uuid NOT NULL REFERENCES avouch.organisation,
  incident_id uuid NOT NULL,
  kind        text NOT NULL,
  subject     text NOT NULL DEFAULT '',
  detail      text NOT NULL,
  opened_at   timestamptz NOT NULL,
  resolved_at timestamptz,
  PRIMARY KEY (tenant_id, incident_id)
);
CALL avouch.protect('avouch.incident');
CREATE INDEX incident_open ON avouch.incident (tenant_id, kind, subject) WHERE resolved_at IS NULL;

-- Look-ups before the tenant is known: functions of a role that sees these columns and nothing else.
GRANT SELECT (tenant_id, suspended_at) ON avouch.organisation TO avouch_lookup;
CREATE POLICY lookup ON avouch.organisation FOR SELECT TO avouch_lookup USING (current_user = 'avouch_lookup');
CREATE FUNCTION avouch.lookup_tenants(after uuid, most integer) RETURNS SETOF uuid
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'SELECT o.tenant_id FROM avouch.organisation o WHERE o.tenant_id > after ORDER BY o.tenant_id LIMIT most';
GRANT EXECUTE ON FUNCTION avouch.tenant() TO avouch_server, avouch_log, avouch_lookup;
GRANT EXECUTE ON FUNCTION avouch.require_entry(), avouch.log_is_insert_only(), avouch.refuse_truncate() TO avouch_server, avouch_log;
GRANT EXECUTE ON FUNCTION avouch.ensure_partitions() TO avouch_server;

GRANT SELECT, INSERT (tenant_id, log_id, epoch) ON avouch.audit_head TO avouch_server;
GRANT SELECT ON avouch.audit_entry TO avouch_server;
GRANT SELECT, UPDATE (size, chain, epoch) ON avouch.audit_head TO avouch_log;
GRANT INSERT, SELECT (tenant_id, seq, entry_id) ON avouch.audit_entry TO avouch_log;
GRANT SELECT, UPDATE (period, used) ON avouch.counter TO avouch_log;
GRANT SELECT, INSERT, UPDATE ON avouch.organisation, avouch.incident TO avouch_server;
GRANT SELECT, INSERT ON avouch.counter TO avouch_server;
GRANT SELECT, INSERT, UPDATE, DELETE ON avouch.idempotency TO avouch_server;
GRANT SELECT, INSERT ON avouch.installation TO avouch_server;

-- Random, so that no epoch comes back, also after a failover to a database that lost some; and made here, so that nobody
-- can ask for one that was.
CREATE FUNCTION avouch.new_epoch() RETURNS bigint LANGUAGE sql VOLATILE
RETURN hashtextextended(gen_random_uuid()::text, 0);
REVOKE EXECUTE ON FUNCTION avouch.new_epoch() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION avouch.new_epoch() TO avouch_log;

-- The log's writer: nobody but these functions, which belong to a role that nobody has, appends an entry or moves a head.
-- So SQL as the server's role can append what is not true, and cannot fork a log, renumber it or put its epoch back.

-- append writes a batch of entries; tenantdb/sql.go says what its parameters are. One row comes back for each tenant that
-- was locked (kind 0: its place, its epoch, its size before, the entries written) and for each counter (kind 1: its place,
-- used before, limit, 0); echo is the nonce.
--
-- The order is the argument. The heads are locked in the order of tenants, so that two servers cannot wait for each
-- other, and are the latest committed (a locking read follows a row's update chain). An entry is good if its tenant's
-- epoch is still the one that it was decided at; an item is good if all its entries are, so that the two logs of a
-- verification get both entries or none. Good entries are numbered from the locked head's size and chained from its link:
-- link_i = SHA-256("avouch/link/v1\n" || link_{i-1} || leaf_i), leaf = SHA-256(0x00 || body), as in package audit.
--
-- A loop over arrays and two statements, because one statement that does the same takes about twice as long: its CTEs
-- cost more than its rows (docs/decisions/0008).
CREATE FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[],
  items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[],
  spend_items integer[], spend_counters integer[],
  counter_places integer[], counter_subjects text[], counter_periods integer[], counter_limits bigint[],
  OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint)
  RETURNS SETOF record LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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
END $$;

-- Locks heads in order, for a transaction that will append to them; a fence gives them new epochs, which refuse whatever
-- was decided before.
CREATE FUNCTION avouch.lock_heads(tenants uuid[], fence boolean, OUT tenant_id uuid, OUT log_id uuid, OUT epoch bigint, OUT size bigint)
  RETURNS SETOF record LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY SELECT h.tenant_id, h.log_id, h.epoch, h.size FROM avouch.audit_head h WHERE h.tenant_id = ANY(tenants) ORDER BY h.tenant_id FOR UPDATE;
  IF fence THEN
    UPDATE avouch.audit_head h SET epoch = avouch.new_epoch() WHERE h.tenant_id = ANY(tenants);
  END IF;
END $$;

-- Those of the heads that nobody holds.
CREATE FUNCTION avouch.free_heads(tenants uuid[]) RETURNS SETOF uuid LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'SELECT h.tenant_id FROM avouch.audit_head h WHERE h.tenant_id = ANY(tenants) ORDER BY h.tenant_id FOR UPDATE SKIP LOCKED';

-- Where entries stand, by their ids.
CREATE FUNCTION avouch.find_entries(tenant uuid, first bigint, entries uuid[], OUT entry_id uuid, OUT seq bigint)
  RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'SELECT e.entry_id, e.seq FROM avouch.audit_entry e WHERE e.tenant_id = tenant AND e.seq >= first AND e.entry_id = ANY(entries)';

-- Gives every tenant but one a new epoch.
CREATE FUNCTION avouch.move_epochs(excepted uuid) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
WITH l AS MATERIALIZED (SELECT h.tenant_id FROM avouch.audit_head h WHERE h.tenant_id <> excepted ORDER BY h.tenant_id FOR UPDATE)
UPDATE avouch.audit_head h SET epoch = avouch.new_epoch() FROM l WHERE h.tenant_id = l.tenant_id
$$;

RESET ROLE;
DO $$
DECLARE
  f record;
BEGIN
  FOR f IN SELECT * FROM (VALUES ('lookup_tenants(uuid, integer)', 'avouch_lookup'),
    ('append(bigint, uuid[], boolean[], integer[], integer[], bigint[], uuid[], uuid[], bytea[], bytea[], integer[], integer[], integer[], text[], integer[], bigint[])', 'avouch_log'),
    ('lock_heads(uuid[], boolean)', 'avouch_log'), ('free_heads(uuid[])', 'avouch_log'), ('find_entries(uuid, bigint, uuid[])', 'avouch_log'),
    ('move_epochs(uuid)', 'avouch_log')) v(name, owner) LOOP
    EXECUTE format('ALTER FUNCTION avouch.%s OWNER TO %I', f.name, f.owner);
    EXECUTE format('REVOKE EXECUTE ON FUNCTION avouch.%s FROM PUBLIC', f.name);
    EXECUTE format('GRANT EXECUTE ON FUNCTION avouch.%s TO avouch_server', f.name);
  END LOOP;
END $$;
