-- API keys in full: what narrows and meters them, their generations, imports, who they are given to, when they were used.
-- Run as a member of avouch_owner. Forward only.
SET LOCAL lock_timeout = '5s';
SET LOCAL ROLE avouch_owner;

-- Counters get amounts, and windows that begin with the first use after the last has ended.
ALTER TABLE avouch.counter ALTER period TYPE bigint;
COMMENT ON COLUMN avouch.counter.period IS 'what is counted in: a month, or the beginning of a window in Unix milliseconds';

ALTER TABLE avouch.api_key DROP CONSTRAINT api_key_kind_check;
ALTER TABLE avouch.api_key
  ADD CONSTRAINT api_key_kind_check CHECK (kind IN ('owner', 'service', 'data')),
  ADD owner         text NOT NULL DEFAULT '' CHECK (length(owner) <= 200),
  ADD not_before    timestamptz,
  ADD max_uses      bigint CHECK (max_uses > 0),
  ADD allowed_cidrs cidr[] NOT NULL DEFAULT '{}',
  ADD rate_limits   jsonb NOT NULL DEFAULT '[]',
  ADD shares        text[] NOT NULL DEFAULT '{}',
  ADD replaces      text,
  ADD replaced_by   text,
  ADD first_id      text,
  ADD leaked_at     timestamptz,
  ADD noticed       smallint,
  ADD made_by       text,
  ADD life_us       bigint,
  ADD family        text NOT NULL GENERATED ALWAYS AS (coalesce(first_id, key_id)) STORED;
COMMENT ON COLUMN avouch.api_key.owner IS 'to whom the organisation gave the key, in its own words; keys of one owner may share limits (api_identity)';
COMMENT ON COLUMN avouch.api_key.shares IS 'families of keys that made this one: it spends their limits and monthly quotas too';
COMMENT ON COLUMN avouch.api_key.made_by IS 'the key that asked for this one; a successor keeps its predecessor''s';
COMMENT ON COLUMN avouch.api_key.life_us IS 'how long the key was to live, in microseconds, if the key that rotated it ends sooner; 0 is for ever';
COMMENT ON COLUMN avouch.api_key.family IS 'the first generation''s id: generations share what meters them';
COMMENT ON COLUMN avouch.api_key.noticed IS 'how many days before its end the owner was told last';
CREATE INDEX api_key_family ON avouch.api_key (tenant_id, family);
CREATE INDEX api_key_present ON avouch.api_key (tenant_id, family) WHERE replaced_by IS NULL;
CREATE INDEX api_key_maker ON avouch.api_key (tenant_id, made_by) WHERE made_by IS NOT NULL;
CREATE INDEX api_key_owner ON avouch.api_key (tenant_id, owner) WHERE revoked_at IS NULL;
CREATE INDEX api_key_end ON avouch.api_key (tenant_id, expires_at) WHERE revoked_at IS NULL AND expires_at IS NOT NULL;

-- Keys that were made elsewhere carry no id. They are found by a digest that takes the same secrets as their verifier does.
CREATE TABLE avouch.api_key_finder (
  tenant_id        uuid NOT NULL,
  finder           bytea NOT NULL CHECK (length(finder) = 32),
  key_id           text NOT NULL,
  tenant_version   integer NOT NULL,
  platform_version integer NOT NULL,
  PRIMARY KEY (tenant_id, finder),
  UNIQUE (tenant_id, key_id),
  FOREIGN KEY (tenant_id, key_id) REFERENCES avouch.api_key
);
CREATE INDEX api_key_finder_versions ON avouch.api_key_finder (tenant_id, tenant_version, platform_version);
CALL avouch.protect('avouch.api_key_finder');

CREATE TABLE avouch.api_identity (
  tenant_id   uuid NOT NULL REFERENCES avouch.organisation,
  owner       text NOT NULL CHECK (length(owner) BETWEEN 1 AND 200),
  max_keys    integer CHECK (max_keys > 0),
  rate_limits jsonb NOT NULL DEFAULT '[]',
  metadata    jsonb NOT NULL DEFAULT '{}',
  created_at  timestamptz NOT NULL,
  version     bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (tenant_id, owner)
);
COMMENT ON TABLE avouch.api_identity IS 'somebody to whom an organisation gives keys, and the limits that these share';
CALL avouch.protect('avouch.api_identity');

CREATE TABLE avouch.api_key_use (
  tenant_id uuid NOT NULL,
  key_id    text NOT NULL,
  used_at   timestamptz,
  client    bytea,
  refused   bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, key_id),
  FOREIGN KEY (tenant_id, key_id) REFERENCES avouch.api_key
) WITH (fillfactor = 50);
COMMENT ON COLUMN avouch.api_key_use.client IS 'from where and with what, sealed by the keyring';
COMMENT ON COLUMN avouch.api_key_use.refused IS 'how often it was presented after it was revoked';
CALL avouch.protect('avouch.api_key_use', audited => false);

GRANT SELECT, INSERT, UPDATE ON avouch.api_identity, avouch.api_key_use TO avouch_server;
GRANT SELECT, INSERT, UPDATE, DELETE ON avouch.api_key_finder TO avouch_server;
GRANT DELETE ON avouch.api_identity TO avouch_server;
GRANT SELECT (tenant_version, platform_version) ON avouch.api_key_verifier TO avouch_server;

-- append writes a batch of entries, as 001 says; each spend has an amount, and each counter a window. The function of 001,
-- with fewer parameters, is for servers of an earlier release, which run beside new ones for a while.
CREATE FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[],
  items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[],
  spend_items integer[], spend_counters integer[], spend_amounts bigint[],
  counter_places integer[], counter_subjects text[], counter_periods bigint[], counter_windows bigint[], counter_limits bigint[],
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
END $$;


RESET ROLE;
ALTER FUNCTION avouch.append(bigint, uuid[], boolean[], integer[], integer[], bigint[], uuid[], uuid[], bytea[], bytea[], integer[], integer[], bigint[], integer[], text[], bigint[], bigint[], bigint[]) OWNER TO avouch_log;
REVOKE EXECUTE ON FUNCTION avouch.append(bigint, uuid[], boolean[], integer[], integer[], bigint[], uuid[], uuid[], bytea[], bytea[], integer[], integer[], bigint[], integer[], text[], bigint[], bigint[], bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION avouch.append(bigint, uuid[], boolean[], integer[], integer[], bigint[], uuid[], uuid[], bytea[], bytea[], integer[], integer[], bigint[], integer[], text[], bigint[], bigint[], bigint[]) TO avouch_server;

-- lookup_key of 002, which now reads a row also for an id that nobody has (the next one's, unless there is none above), and
-- answers with one, of nulls, so that the time it takes does not say which ids there are.
CREATE OR REPLACE FUNCTION avouch.lookup_key(wanted text, OUT tenant_id uuid, OUT digest bytea, OUT issued_at_ns bigint, OUT tenant_version integer, OUT platform_version integer)
  RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'SELECT CASE WHEN n.key_id = wanted THEN n.tenant_id END, CASE WHEN n.key_id = wanted THEN n.digest END, CASE WHEN n.key_id = wanted THEN n.issued_at_ns END,
      CASE WHEN n.key_id = wanted THEN n.tenant_version END, CASE WHEN n.key_id = wanted THEN n.platform_version END
    FROM (SELECT * FROM avouch.api_key_verifier v WHERE v.key_id >= wanted ORDER BY v.key_id LIMIT 1) n';
