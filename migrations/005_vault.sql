-- The vault: secrets that people and agents use without seeing, who may, and what the log says of them.
-- Run as a member of avouch_owner. Forward only.
SET LOCAL lock_timeout = '5s';
SET LOCAL ROLE avouch_owner;

-- Two things that entries are looked up by: the one that they are about, where a room asks for it, and the person who acted.
-- Both are in the entry too, and the verification pass compares them: a look-up misses nothing that the log holds.
ALTER TABLE avouch.audit_entry ADD about uuid, ADD person uuid;
COMMENT ON COLUMN avouch.audit_entry.about IS 'what the entry is about: of the vault an item, its uses, a grant or a request; or the deletion of the organisation';
COMMENT ON COLUMN avouch.audit_entry.person IS 'the person who acted, if the entry is about something of the vault';
CREATE INDEX audit_entry_about ON avouch.audit_entry (tenant_id, about, seq) WHERE about IS NOT NULL;
CREATE INDEX audit_entry_person ON avouch.audit_entry (tenant_id, person, seq) WHERE person IS NOT NULL;

CREATE TABLE avouch.vault_item (
  tenant_id      uuid NOT NULL REFERENCES avouch.organisation,
  item_id        uuid NOT NULL,
  kind           text NOT NULL CHECK (kind IN ('totp', 'hotp', 'steam', 'codes', 'secret')),
  about          bytea NOT NULL,
  secret         bytea NOT NULL,
  secret_version bigint NOT NULL DEFAULT 1 CHECK (secret_version > 0),
  counter        bigint NOT NULL DEFAULT 0 CHECK (counter >= 0),
  taken          integer[] NOT NULL DEFAULT '{}',
  policy         jsonb NOT NULL DEFAULT '{}',
  listed         boolean NOT NULL DEFAULT false,
  creator_kind   text NOT NULL CHECK (creator_kind IN ('person', 'key', 'system')),
  creator        text NOT NULL CHECK (length(creator) <= 64),
  created_at     timestamptz NOT NULL,
  version        bigint NOT NULL DEFAULT 1,
  mark           bytea,
  PRIMARY KEY (tenant_id, item_id)
);
COMMENT ON COLUMN avouch.vault_item.about IS 'name, issuer, account, folder, tags, notes, icon; sealed by the keyring';
COMMENT ON COLUMN avouch.vault_item.secret IS 'the seed and its scheme, the recovery codes, or the text; sealed by the keyring';
COMMENT ON COLUMN avouch.vault_item.secret_version IS 'of the secret; with the hash of its ciphertext it is in the entry of its last change';
COMMENT ON COLUMN avouch.vault_item.counter IS 'of the next code, for HOTP';
COMMENT ON COLUMN avouch.vault_item.taken IS 'which of the recovery codes were taken, from 1';
COMMENT ON COLUMN avouch.vault_item.listed IS 'whether every member may know that it is there, and ask for it';
COMMENT ON COLUMN avouch.vault_item.mark IS 'names its seed, by a key of the key store: equal where an authenticator app of a person has the same (factor.mark)';
CREATE INDEX vault_item_mark ON avouch.vault_item (tenant_id, mark) WHERE mark IS NOT NULL;
CALL avouch.protect('avouch.vault_item');

-- One of before has none until its next code.
ALTER TABLE avouch.factor ADD mark bytea;
COMMENT ON COLUMN avouch.factor.mark IS 'names the seed of an authenticator app, by a key of the key store (vault_item.mark)';

CREATE TABLE avouch.vault_grant (
  tenant_id  uuid NOT NULL,
  grant_id   uuid NOT NULL,
  item_id    uuid NOT NULL,
  kind       text NOT NULL CHECK (kind IN ('person', 'group', 'agent', 'key')),
  grantee    text NOT NULL CHECK (length(grantee) <= 64),
  level      text NOT NULL CHECK (level IN ('code', 'seed')),
  granted_by text NOT NULL,
  granted_at timestamptz NOT NULL,
  expires_at timestamptz,
  ended_at   timestamptz,
  ended_by   text,
  PRIMARY KEY (tenant_id, grant_id),
  FOREIGN KEY (tenant_id, item_id) REFERENCES avouch.vault_item ON DELETE CASCADE
);
CREATE INDEX vault_grant_item ON avouch.vault_grant (tenant_id, item_id);
CREATE INDEX vault_grant_grantee ON avouch.vault_grant (tenant_id, kind, grantee);
CREATE UNIQUE INDEX vault_grant_live ON avouch.vault_grant (tenant_id, item_id, kind, grantee) WHERE ended_at IS NULL;
CALL avouch.protect('avouch.vault_grant');

-- Somebody asks to use an item for a while: because it has not been granted to them, or because its policy wants a second person.
CREATE TABLE avouch.vault_request (
  tenant_id  uuid NOT NULL,
  request_id uuid NOT NULL,
  item_id    uuid NOT NULL,
  kind       text NOT NULL CHECK (kind IN ('person', 'agent', 'key')),
  asker      text NOT NULL CHECK (length(asker) <= 64),
  level      text NOT NULL CHECK (level IN ('code', 'seed')),
  reason     bytea NOT NULL,
  seconds    integer NOT NULL CHECK (seconds > 0),
  granted    boolean NOT NULL,
  asked_at   timestamptz NOT NULL,
  due_at     timestamptz NOT NULL,
  decided_by text,
  decided_at timestamptz,
  outcome    text CHECK (outcome IN ('approved', 'refused', 'withdrawn')),
  until      timestamptz,
  ended_at   timestamptz,
  PRIMARY KEY (tenant_id, request_id),
  FOREIGN KEY (tenant_id, item_id) REFERENCES avouch.vault_item ON DELETE CASCADE,
  CHECK (decided_by <> asker OR outcome = 'withdrawn'),
  CHECK ((outcome IS NULL) = (decided_at IS NULL) AND (until IS NULL) = (outcome IS DISTINCT FROM 'approved'))
);
COMMENT ON COLUMN avouch.vault_request.reason IS 'sealed by the keyring, under the key of the person who asks';
COMMENT ON COLUMN avouch.vault_request.granted IS 'whether the item was granted to the asker already: then the grant must last too';
CREATE INDEX vault_request_item ON avouch.vault_request (tenant_id, item_id, asked_at);
CREATE INDEX vault_request_open ON avouch.vault_request (tenant_id, request_id) WHERE outcome IS NULL;
CALL avouch.protect('avouch.vault_request');

-- What a fetch got that moved something: the same again if it is tried again.
CREATE TABLE avouch.vault_fetch (
  tenant_id  uuid NOT NULL,
  item_id    uuid NOT NULL,
  digest     bytea NOT NULL CHECK (length(digest) = 32),
  fetched_by text NOT NULL CHECK (length(fetched_by) <= 80),
  place      bigint NOT NULL,
  version    bigint NOT NULL,
  fetched_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, item_id, digest),
  FOREIGN KEY (tenant_id, item_id) REFERENCES avouch.vault_item ON DELETE CASCADE
);
COMMENT ON COLUMN avouch.vault_fetch.digest IS 'SHA-256 of who fetched and the Idempotency-Key';
COMMENT ON COLUMN avouch.vault_fetch.place IS 'the counter of the code, or the number of the recovery code';
CREATE INDEX vault_fetch_old ON avouch.vault_fetch (tenant_id, fetched_at);
CALL avouch.protect('avouch.vault_fetch', audited => false);

GRANT SELECT, INSERT, UPDATE, DELETE ON avouch.vault_item, avouch.vault_grant, avouch.vault_request, avouch.vault_fetch TO avouch_server;

-- append writes a batch of entries, as 003 says; each with what it is looked up by, or the UUID of zeros. Its counters are found one by
-- one by their keys: the planner, which cannot know how few a batch has, would read all there are.
CREATE FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[],
  items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[], abouts uuid[], people uuid[],
  spend_items integer[], spend_counters integer[], spend_amounts bigint[],
  counter_places integer[], counter_subjects text[], counter_periods bigint[], counter_windows bigint[], counter_limits bigint[],
  OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint)
  RETURNS SETOF record LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
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
END $$;

RESET ROLE;
ALTER FUNCTION avouch.append(bigint, uuid[], boolean[], integer[], integer[], bigint[], uuid[], uuid[], bytea[], bytea[], uuid[], uuid[], integer[], integer[], bigint[], integer[], text[], bigint[], bigint[], bigint[]) OWNER TO avouch_log;
REVOKE EXECUTE ON FUNCTION avouch.append(bigint, uuid[], boolean[], integer[], integer[], bigint[], uuid[], uuid[], bytea[], bytea[], uuid[], uuid[], integer[], integer[], bigint[], integer[], text[], bigint[], bigint[], bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION avouch.append(bigint, uuid[], boolean[], integer[], integer[], bigint[], uuid[], uuid[], bytea[], bytea[], uuid[], uuid[], integer[], integer[], bigint[], integer[], text[], bigint[], bigint[], bigint[]) TO avouch_server;

-- That of 003 is for servers of the release before, which know of no look-ups.
CREATE OR REPLACE FUNCTION avouch.append(nonce bigint, tenants uuid[], moves boolean[],
  items integer[], places integer[], epochs bigint[], entries uuid[], requests uuid[], bodies bytea[], seals bytea[],
  spend_items integer[], spend_counters integer[], spend_amounts bigint[],
  counter_places integer[], counter_subjects text[], counter_periods bigint[], counter_windows bigint[], counter_limits bigint[],
  OUT echo bigint, OUT kind integer, OUT place integer, OUT a bigint, OUT b bigint, OUT n bigint)
  RETURNS SETOF record LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT w.echo, w.kind, w.place, w.a, w.b, w.n FROM avouch.append(nonce, tenants, moves, items, places, epochs, entries, requests, bodies, seals,
    NULL::uuid[], NULL::uuid[], spend_items, spend_counters, spend_amounts, counter_places, counter_subjects, counter_periods, counter_windows, counter_limits) w
$$;
