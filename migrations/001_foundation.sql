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
  size      bigint NOT NULL DEFAULT 0 CHECK (size >= 0),
  chain     bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex') CHECK (length(chain) = 32),
  epoch     bigint NOT NULL,
  entry_xid xid8 NOT NULL DEFAULT pg_current_xact_id()
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON COLUMN avouch.audit_head.epoch IS 'random, replaced by every change that can alter a decision';
COMMENT ON COLUMN avouch.audit_head.entry_xid IS 'the transaction that appended last: what require_entry compares';

-- No foreign key to the head: the statement that inserts has locked it, and a check for each row would lock it again.
CREATE TABLE avouch.audit_entry (
  tenant_id  uuid NOT NULL,
  seq        bigint NOT NULL,
  written_at timestamptz NOT NULL DEFAULT now(),
  entry_id   uuid NOT NULL,
  request_id uuid NOT NULL,
  body       bytea NOT NULL CHECK (length(body) <= 16384),
  leaf       bytea NOT NULL CHECK (length(leaf) = 32),
  prev       bytea NOT NULL CHECK (length(prev) = 32),
  sealed     bytea,
  PRIMARY KEY (tenant_id, seq, written_at)
) PARTITION BY RANGE (written_at);
CREATE INDEX audit_entry_request ON avouch.audit_entry (tenant_id, request_id);
-- SHA-256 does not compress, and looking whether it does costs time under the head's lock.
ALTER TABLE avouch.audit_entry ALTER body SET STORAGE EXTERNAL, ALTER leaf SET STORAGE EXTERNAL,
  ALTER prev SET STORAGE EXTERNAL, ALTER sealed SET STORAGE EXTERNAL;

-- link_i = SHA-256("avouch/link/v1\n" || link_{i-1} || leaf_i): package audit has the same rule, and the vectors hold both.
CREATE FUNCTION avouch.link_step(state bytea, start bytea, leaf bytea) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN sha256(E'avouch/link/v1\n'::bytea || coalesce(state, start) || leaf);
CREATE AGGREGATE avouch.link(start bytea, leaf bytea) (SFUNC = avouch.link_step, STYPE = bytea, PARALLEL = SAFE);

CREATE FUNCTION avouch.log_is_insert_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit log is insert-only: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;

-- Refuses to commit a transaction that changed a tenant's table and appended no entry to that tenant's log.
CREATE FUNCTION avouch.require_entry() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  t uuid := CASE TG_OP WHEN 'DELETE' THEN OLD.tenant_id ELSE NEW.tenant_id END;
BEGIN
  IF NOT EXISTS (SELECT FROM avouch.audit_head h WHERE h.tenant_id = t AND h.entry_xid = pg_current_xact_id()) THEN
    RAISE EXCEPTION 'table % of a tenant changed without an audit entry', TG_TABLE_NAME
      USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION avouch.refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
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
ALTER DEFAULT PRIVILEGES IN SCHEMA avouch REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
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
GRANT EXECUTE ON FUNCTION avouch.link(bytea, bytea), avouch.link_step(bytea, bytea, bytea), avouch.require_entry() TO avouch_server, avouch_log;
GRANT EXECUTE ON FUNCTION avouch.log_is_insert_only(), avouch.refuse_truncate() TO avouch_server, avouch_log;
GRANT EXECUTE ON FUNCTION avouch.ensure_partitions() TO avouch_server;

GRANT SELECT, INSERT ON avouch.audit_head TO avouch_server;
GRANT UPDATE (size, chain, epoch, entry_xid) ON avouch.audit_head TO avouch_server;
GRANT SELECT, INSERT ON avouch.audit_entry TO avouch_server;
GRANT SELECT, UPDATE (size, chain, epoch, entry_xid) ON avouch.audit_head TO avouch_log;
GRANT INSERT, SELECT (tenant_id, seq, entry_id) ON avouch.audit_entry TO avouch_log;
GRANT SELECT, UPDATE (period, used) ON avouch.counter TO avouch_log;
GRANT SELECT, INSERT, UPDATE ON avouch.organisation, avouch.counter, avouch.incident TO avouch_server;
GRANT SELECT, INSERT, UPDATE, DELETE ON avouch.idempotency TO avouch_server;
GRANT SELECT, INSERT ON avouch.installation TO avouch_server;

RESET ROLE;
ALTER FUNCTION avouch.lookup_tenants(uuid, integer) OWNER TO avouch_lookup;
REVOKE EXECUTE ON FUNCTION avouch.lookup_tenants(uuid, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION avouch.lookup_tenants(uuid, integer) TO avouch_server;
