-- Avouch API keys inside your own PostgreSQL, 15 or newer: plain, Supabase, PostgREST.
--
--   avouch pg install        or        psql -v ON_ERROR_STOP=1 -f avouch.sql        or paste it into an SQL editor
--
-- A request with an API key runs as its owner, under the row-level security that a signed-in request of that owner runs
-- under, with no change to any policy. Run it again to upgrade; uninstall.sql takes it away. docs/postgres.md explains it.
--
-- Who may do what: nobody but avouch_keys_owner, who cannot log in, reads or writes a table of this schema. Everybody else
-- calls functions: those of the table entrance, and only roles that admit() let in; EXECUTE is revoked from PUBLIC on each.
-- Whoever can run any SQL as a role of the application can choose the claims he has, and is the user that they name, here as
-- everywhere with PostgREST: he may do with that user's keys what that user may, rotate one for instance, and then has the new
-- one. What he cannot do is present a key whose secret he has not. No extension is needed.
BEGIN;
-- First of all: in the path that whoever installs this came with, somebody may have put functions and operators that fit better.
SET LOCAL search_path = pg_catalog, pg_temp;

DO $$
DECLARE
  was_there CONSTANT boolean := EXISTS (SELECT FROM pg_namespace WHERE nspname = 'avouch_keys');
  members   text;
BEGIN
  IF current_setting('server_version_num')::integer < 150000 THEN
    RAISE EXCEPTION 'avouch_keys needs PostgreSQL 15 or newer';
  END IF;
  PERFORM pg_advisory_xact_lock(hashtext('avouch_keys'));
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'avouch_keys_owner') THEN
    BEGIN
      CREATE ROLE avouch_keys_owner NOLOGIN;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; -- another database's installation was faster
    END;
  END IF;
  IF current_setting('server_version_num')::integer >= 160000 THEN
    -- From 16 on, who made a role is a member that may neither inherit from it nor become it, until he says so.
    IF NOT pg_has_role('avouch_keys_owner', 'SET') OR NOT pg_has_role('avouch_keys_owner', 'USAGE') THEN
      EXECUTE format('GRANT avouch_keys_owner TO %I WITH INHERIT TRUE, SET TRUE', current_user);
    END IF;
  ELSIF NOT pg_has_role('avouch_keys_owner', 'USAGE') THEN
    EXECUTE format('GRANT avouch_keys_owner TO %I', current_user);
  END IF;
  IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'avouch_keys') THEN
    CREATE SCHEMA avouch_keys AUTHORIZATION avouch_keys_owner;
  END IF;
  IF EXISTS (SELECT FROM pg_namespace WHERE nspname = 'avouch_keys' AND nspowner <> 'avouch_keys_owner'::regrole) THEN
    RAISE EXCEPTION 'the schema avouch_keys is somebody else''s, who could change what is in it';
  END IF;
  -- Who may become the owner can have left code in tables that are written below, which gets from the owner back to a superuser.
  members := (SELECT string_agg(quote_ident(m.rolname), ', ') FROM pg_roles m WHERE NOT m.rolsuper AND m.rolname <> 'avouch_keys_owner' AND pg_has_role(m.oid, 'avouch_keys_owner', 'MEMBER'));
  IF was_there AND members IS NOT NULL AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    RAISE EXCEPTION 'a superuser would run what % may have changed here', members USING HINT = 'Have one of them upgrade, or take avouch_keys_owner from them first.';
  END IF;
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'avouch_keys_owner' AND (rolcanlogin OR rolsuper OR rolcreaterole OR rolbypassrls OR rolreplication)) THEN
    RAISE EXCEPTION 'the role avouch_keys_owner may do more than own: somebody else has made or changed it';
  END IF;
END $$;

-- What is made from here on belongs to the owner, whoever installs it.
SET LOCAL ROLE avouch_keys_owner;
SET LOCAL search_path = avouch_keys, pg_temp;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- What is installed and what it is set to. One row.
CREATE TABLE IF NOT EXISTS installation (
  only_one  boolean PRIMARY KEY DEFAULT true CHECK (only_one),
  version   integer NOT NULL,
  id        uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
  signed_in name NOT NULL DEFAULT 'authenticated',                             -- the role that requests with a key run as
  most_keys integer NOT NULL DEFAULT 25 CHECK (most_keys > 0),                 -- active ones of an owner
  life      interval NOT NULL DEFAULT '90 days' CHECK (life > '0'),            -- of a key that is not told how long to live
  claims_by text NOT NULL DEFAULT 'owner' CHECK (claims_by IN ('owner', 'admin')), -- who sets the claims of keys
  model     bigint NOT NULL DEFAULT 0 -- counts what changed in who may do what
);
DO $$
BEGIN
  IF (SELECT version FROM avouch_keys.installation) > 1 THEN
    RAISE EXCEPTION 'a newer version of avouch_keys is installed: this file would take it back';
  END IF;
END $$;

-- The secrets that digests take: two keys of HMAC-SHA-512 of 32 bytes, each as its inner and its outer block of 128. With
-- another source than 'table' (docs/postgres.md) they are not here, and a dump holds none.
CREATE TABLE IF NOT EXISTS pepper (
  version      integer PRIMARY KEY,
  source       text NOT NULL CHECK (source IN ('table', 'vault', 'file')),
  blocks       bytea CHECK (length(blocks) = 512),
  installation uuid NOT NULL REFERENCES installation (id),
  newest       boolean NOT NULL DEFAULT true, -- what new keys are digested with
  retired_at   timestamptz,                   -- when it was no longer that
  CHECK ((source = 'table') = (blocks IS NOT NULL))
);
CREATE UNIQUE INDEX IF NOT EXISTS pepper_newest ON pepper (newest) WHERE newest;

-- Permissions, roles and groups are rows: an application adds its own. The member '*' is everybody who is signed in.
CREATE TABLE IF NOT EXISTS permission (
  name          text PRIMARY KEY CHECK (name <> '' AND length(name) <= 128),
  description   text NOT NULL DEFAULT '',
  permission_id uuid NOT NULL UNIQUE DEFAULT gen_random_uuid()
);
CREATE TABLE IF NOT EXISTS user_group (
  group_id    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  name        text NOT NULL UNIQUE CHECK (name <> '' AND length(name) <= 200),
  description text NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS user_role (
  role_id     uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  group_id    uuid NOT NULL REFERENCES user_group ON DELETE CASCADE,
  name        text NOT NULL CHECK (name <> '' AND length(name) <= 200),
  description text NOT NULL DEFAULT '',
  kind        text NOT NULL DEFAULT 'user',
  UNIQUE (group_id, name)
);
CREATE TABLE IF NOT EXISTS role_permission (
  role_id    uuid REFERENCES user_role ON DELETE CASCADE,
  permission text REFERENCES permission ON DELETE CASCADE ON UPDATE CASCADE,
  PRIMARY KEY (role_id, permission)
);
CREATE TABLE IF NOT EXISTS membership (
  user_id text NOT NULL CHECK (user_id <> ''),
  role_id uuid NOT NULL REFERENCES user_role ON DELETE CASCADE,
  PRIMARY KEY (user_id, role_id)
);

-- A scope is a name for what a key may do at most.
CREATE TABLE IF NOT EXISTS scope (
  scope_id    uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
  name        text PRIMARY KEY CHECK (name <> '' AND length(name) <= 128),
  description text NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS scope_permission (
  scope      text REFERENCES scope ON DELETE CASCADE ON UPDATE CASCADE,
  permission text REFERENCES permission ON DELETE CASCADE ON UPDATE CASCADE,
  PRIMARY KEY (scope, permission)
);

CREATE TABLE IF NOT EXISTS api_key (
  key_id     text PRIMARY KEY CHECK (length(key_id) = 11), -- public
  uid        uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
  owner      text NOT NULL CHECK (owner <> ''), -- the sub of his sessions
  name       text NOT NULL CHECK (length(name) <= 255),
  live       boolean NOT NULL DEFAULT true,
  hint       text NOT NULL,
  scope      text REFERENCES scope ON UPDATE CASCADE, -- none: no permissions
  claims     jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(claims) = 'object' AND length(claims::text) <= 4096),
  created_at timestamptz NOT NULL,
  expires_at timestamptz,                      -- none: never
  life       interval,                         -- what a rotated key gets anew; none: never
  revoked_at timestamptz,
  replaces   text UNIQUE REFERENCES api_key,   -- the key that this one was rotated from
  made_by    text REFERENCES api_key,          -- the key that asked for this one; none: a session did
  noticed    integer,                          -- days before its end of which its owner was told last
  facts      jsonb NOT NULL,                   -- what verifying it tells, but for the permissions of a scope
  changed    bigint NOT NULL                   -- counts its changes
);
CREATE INDEX IF NOT EXISTS api_key_owner ON api_key (owner, created_at);
CREATE INDEX IF NOT EXISTS api_key_maker ON api_key (made_by) WHERE made_by IS NOT NULL;
CREATE INDEX IF NOT EXISTS api_key_end ON api_key (expires_at) WHERE revoked_at IS NULL;

-- All that a key is checked with, in one row: the four blocks of its pepper, the inner ones with what is known beforehand of
-- what they hash; null if the pepper is elsewhere. What a key's use writes is here too, so that no request, however long, holds
-- up a revocation, which writes api_key.
CREATE TABLE IF NOT EXISTS verifier (
  key_id       text PRIMARY KEY REFERENCES api_key,
  digest       bytea NOT NULL CHECK (length(digest) = 32),
  issued_at_ns bigint NOT NULL UNIQUE,
  pepper       integer NOT NULL REFERENCES pepper,
  inner1       bytea,
  outer1       bytea,
  inner2       bytea,
  outer2       bytea,
  last_used_at timestamptz,
  told         jsonb,  -- what verifying it tells
  model        bigint, -- the count of the model that this is of
  changed      bigint  -- and that of the key
) WITH (fillfactor = 80);

-- The log: hash = SHA-256(the hash before | body), from 32 zero bytes on. body is what is hashed, byte for byte.
CREATE TABLE IF NOT EXISTS log (
  seq    bigint PRIMARY KEY,
  at     timestamptz NOT NULL,
  actor  text NOT NULL,
  action text NOT NULL,
  target text NOT NULL,
  data   jsonb NOT NULL,
  body   bytea NOT NULL,
  prev   bytea NOT NULL,
  hash   bytea NOT NULL
);
-- One row, which everything that changes a key locks first: changes happen one after the other, and nothing is counted twice.
CREATE TABLE IF NOT EXISTS head (
  only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
  size     bigint NOT NULL DEFAULT 0,
  hash     bytea NOT NULL DEFAULT '\x0000000000000000000000000000000000000000000000000000000000000000',
  last_ns  bigint NOT NULL DEFAULT 0 -- issued_at_ns of the newest key
);

-- What others than the owner may call or read, and from which level on; and the roles that admit() let in.
CREATE TABLE IF NOT EXISTS entrance (
  thing text PRIMARY KEY, -- schema.name of a function or a view
  level text NOT NULL CHECK (level IN ('visitor', 'user', 'admin'))
);
CREATE TABLE IF NOT EXISTS admitted (
  role  name PRIMARY KEY,
  level text NOT NULL CHECK (level IN ('none', 'visitor', 'user', 'admin'))
);

-- Without a policy, for those who may read or write all tables of a database: to them, these are empty.
ALTER TABLE pepper ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE verifier ENABLE ROW LEVEL SECURITY;
ALTER TABLE log ENABLE ROW LEVEL SECURITY;

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'avouch_keys.log is only added to' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE OR REPLACE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON log FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE OR REPLACE TRIGGER refuse_truncate BEFORE TRUNCATE ON log FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE log ENABLE ALWAYS TRIGGER refuse_change;
ALTER TABLE log ENABLE ALWAYS TRIGGER refuse_truncate;

CREATE OR REPLACE FUNCTION log_body(installation uuid, seq bigint, at timestamptz, actor text, action text, target text, data jsonb) RETURNS bytea
LANGUAGE sql STABLE SET search_path = avouch_keys, pg_temp
RETURN convert_to(jsonb_build_array('avouch_keys/log/v1', installation, seq, (extract(epoch FROM at) * 1000000)::bigint, actor, action, target, data)::text, 'UTF8');

CREATE OR REPLACE FUNCTION log_that(actor text, action text, target text, data jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  h    head;
  at   timestamptz := clock_timestamp();
  body bytea;
BEGIN
  SELECT * INTO STRICT h FROM head FOR UPDATE;
  body := log_body((SELECT i.id FROM installation i), h.size, at, actor, action, target, data);
  INSERT INTO log VALUES (h.size, at, actor, action, target, data, body, h.hash, sha256(h.hash || body));
  UPDATE head SET size = h.size + 1, hash = sha256(h.hash || body);
END $$;

-- check_log is the first entry that is not as it was written, or not there; nothing if all are. A size and a hash from
-- before, kept elsewhere, show what whoever owns the database has rewritten since. Such a one can rewrite this function too:
-- `avouch pg check` computes the same outside the database.
CREATE OR REPLACE FUNCTION check_log(known_size bigint DEFAULT 0, known_hash bytea DEFAULT NULL) RETURNS TABLE (bad_seq bigint, why text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  h    head;
  e    log;
  hash bytea := decode(repeat('00', 32), 'hex');
  next bigint := 0;
  id   uuid := (SELECT i.id FROM installation i);
BEGIN
  SELECT * INTO STRICT h FROM head;
  FOR e IN SELECT * FROM log ORDER BY seq LOOP
    IF e.seq <> next THEN RETURN QUERY SELECT next, 'is not there'; RETURN; END IF;
    IF e.prev <> hash OR e.hash <> sha256(hash || e.body) THEN RETURN QUERY SELECT next, 'is not what was chained'; RETURN; END IF;
    IF log_body(id, e.seq, e.at, e.actor, e.action, e.target, e.data) <> e.body THEN RETURN QUERY SELECT next, 'does not say what was hashed'; RETURN; END IF;
    hash := e.hash; next := next + 1;
    IF next = known_size AND hash <> known_hash THEN RETURN QUERY SELECT next - 1, 'is not what you knew'; RETURN; END IF;
  END LOOP;
  IF next <> h.size OR hash <> h.hash OR next < known_size THEN RETURN QUERY SELECT next, 'is not there'; END IF;
END $$;

-- gen_random_uuid has 122 bits from the operating system; five of them fill what SHA-512 gives.
CREATE OR REPLACE FUNCTION random_bytes(n integer) RETURNS bytea LANGUAGE sql VOLATILE SET search_path = avouch_keys, pg_temp
RETURN substr(sha512(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) ||
  uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 1, n);

-- new_pepper makes the blocks of a pepper, for the vault or a file as hexadecimal digits.
CREATE OR REPLACE FUNCTION new_pepper() RETURNS bytea LANGUAGE plpgsql VOLATILE SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  secret bytea := random_bytes(64);
  blocks bytea := decode(repeat(repeat('36', 128) || repeat('5c', 128), 2), 'hex');
BEGIN
  FOR stage IN 0..1 LOOP
    FOR i IN 0..31 LOOP
      blocks := set_byte(blocks, stage * 256 + i, get_byte(secret, stage * 32 + i) # 54);
      blocks := set_byte(blocks, stage * 256 + 128 + i, get_byte(secret, stage * 32 + i) # 92);
    END LOOP;
  END LOOP;
  RETURN blocks;
END $$;

-- Base62 of a number of bytes, most significant digit first, padded with zeros.
CREATE OR REPLACE FUNCTION base62(b bytea, digits integer) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  n   numeric := 0;
  out text := '';
BEGIN
  FOR i IN 0..length(b) - 1 LOOP n := n * 256 + get_byte(b, i); END LOOP;
  FOR i IN 1..digits LOOP
    out := substr('0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz', (n % 62)::integer + 1, 1) || out;
    n := div(n, 62);
  END LOOP;
  RETURN out;
END $$;

-- checksum is CRC-32 (IEEE 802.3), which PostgreSQL has from 18 on, in Base62; undamaged reports whether 70 bytes have a
-- key's checksum, reading digits from their places in the alphabet. With few expressions and no call of another function,
-- for both cost more here, in each transaction, than going round a loop.
DO $do$
DECLARE
  c     bigint;
  steps bigint[] := '{}';
  crc   text := 'c := pg_catalog.crc32(substr(b, 1, 64));';
BEGIN
  IF to_regprocedure('pg_catalog.crc32(bytea)') IS NULL THEN
    FOR i IN 0..255 LOOP
      c := i;
      FOR j IN 1..8 LOOP c := (c >> 1) # ((c & 1) * 3988292384); END LOOP;
      steps := steps || c;
    END LOOP;
    crc := format('FOR i IN 0..63 LOOP c := (c >> 8) # (%L::bigint[])[((c # get_byte(b, i)) & 255) + 1]; END LOOP; c := c # 4294967295;', steps);
  END IF;
  EXECUTE format($f$ CREATE OR REPLACE FUNCTION avouch_keys.undamaged(b bytea) RETURNS boolean LANGUAGE plpgsql IMMUTABLE STRICT AS $body$
DECLARE
  c bigint := 4294967295;
  n bigint := 0;
BEGIN
  %s
  FOR i IN 65..70 LOOP
    n := n * 62 + position(substr(b, i, 1) IN '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'::bytea) - 1;
  END LOOP;
  RETURN n = c;
END $body$ $f$, crc);
  EXECUTE format($f$ CREATE OR REPLACE FUNCTION avouch_keys.checksum(b bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = avouch_keys, pg_temp AS $body$
DECLARE
  c bigint := 4294967295;
BEGIN
  %s
  RETURN base62(substr(int8send(c), 5), 6);
END $body$ $f$, crc);
END $do$;

-- pepper_elsewhere reads one that is not in the table. A file has the installation's name too: the databases of a server have
-- one directory.
CREATE OR REPLACE FUNCTION pepper_elsewhere(version integer, source text) RETURNS bytea LANGUAGE plpgsql STABLE SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  found text;
BEGIN
  IF source = 'vault' THEN
    EXECUTE 'SELECT decrypted_secret FROM vault.decrypted_secrets WHERE name = $1' INTO found USING 'avouch_keys_pepper_' || version;
  ELSIF source = 'file' THEN
    found := pg_read_file(format('avouch_keys_pepper_%s_%s', (SELECT i.id FROM installation i), version));
  END IF;
  found := btrim(found, E' \n\r\t');
  IF found IS NULL OR length(found) <> 1024 OR found !~ '^[0-9a-fA-F]+$' THEN
    RAISE EXCEPTION 'avouch_keys: pepper % cannot be read', version USING ERRCODE = 'config_file_error';
  END IF;
  RETURN decode(found, 'hex');
END $$;

CREATE OR REPLACE FUNCTION pepper_of(version integer) RETURNS bytea LANGUAGE plpgsql STABLE SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  p pepper;
BEGIN
  SELECT * INTO STRICT p FROM pepper x WHERE x.version = pepper_of.version;
  RETURN coalesce(p.blocks, pepper_elsewhere(p.version, p.source));
END $$;

-- prepared is a verifier with the blocks of a pepper: what its digest is computed with.
CREATE OR REPLACE FUNCTION prepared(v verifier, version integer) RETURNS verifier LANGUAGE plpgsql STABLE SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  p      pepper;
  blocks bytea := pepper_of(version);
BEGIN
  SELECT * INTO STRICT p FROM pepper x WHERE x.version = prepared.version;
  v.pepper := version;
  v.inner1 := substr(blocks, 1, 128) || convert_to('apikey/v1/s1' || v.key_id, 'UTF8') || int8send(v.issued_at_ns);
  v.outer1 := substr(blocks, 129, 128);
  v.inner2 := substr(blocks, 257, 128) || convert_to('apikey/v1/s2', 'UTF8') || uuid_send(p.installation);
  v.outer2 := substr(blocks, 385, 128);
  RETURN v;
END $$;

-- stored is a prepared verifier with the digest of a key, as it is written down: without the blocks if their pepper is not here.
-- The digest is that of the server's keys, with the installation in the tenant's place: SHA-256 of HMAC-SHA-512 of HMAC-SHA-512.
CREATE OR REPLACE FUNCTION stored(v verifier, presented text) RETURNS verifier LANGUAGE plpgsql STABLE SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  v.digest := sha256(sha512(v.outer2 || sha512(v.inner2 || sha512(v.outer1 || sha512(v.inner1 || sha256(convert_to(presented, 'UTF8')))))));
  IF (SELECT p.blocks IS NULL FROM pepper p WHERE p.version = v.pepper) THEN
    v.inner1 := NULL; v.outer1 := NULL; v.inner2 := NULL; v.outer2 := NULL;
  END IF;
  RETURN v;
END $$;

-- used writes down when a key was used last, to the minute, and what it may do, and digests it with the newest pepper. It waits
-- for nobody: another request of the same key does it then. Where it cannot write, it does nothing. No variable holds
-- what a pepper made, here as in mint: a caller may have the plans of statements printed, with the values of variables.
CREATE OR REPLACE FUNCTION used(id text, presented text) RETURNS void LANGUAGE plpgsql SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  newest integer := (SELECT p.version FROM pepper p WHERE p.newest);
  was    integer;
BEGIN
  IF current_setting('transaction_read_only') = 'on' OR current_setting('transaction_isolation') = 'serializable' THEN RETURN; END IF;
  SELECT x.pepper INTO was FROM verifier x WHERE x.key_id = id FOR NO KEY UPDATE SKIP LOCKED;
  IF was IS NULL THEN RETURN; END IF;
  UPDATE verifier x SET last_used_at = clock_timestamp(), told = described(k), model = i.model, changed = k.changed FROM api_key k, installation i
  WHERE x.key_id = used.id AND k.key_id = used.id;
  IF was <> newest THEN
    UPDATE verifier x SET digest = n.digest, pepper = n.pepper, inner1 = n.inner1, outer1 = n.outer1, inner2 = n.inner2, outer2 = n.outer2
    FROM verifier o, stored(prepared(o, newest), presented) n WHERE x.key_id = used.id AND o.key_id = used.id;
  END IF;
EXCEPTION WHEN serialization_failure THEN NULL; -- in a repeatable-read transaction: another request has written it down
END $$;

-- What a user may do, and what a key may: what its scope names of what its owner may himself at this moment.
CREATE OR REPLACE FUNCTION permissions_of_user(id text) RETURNS text[] LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN (SELECT coalesce(array_agg(DISTINCT p.permission ORDER BY p.permission), '{}') FROM avouch_keys.membership m JOIN avouch_keys.role_permission p USING (role_id)
    WHERE m.user_id IN (id, '*') AND id IS NOT NULL);
END $$;

CREATE OR REPLACE FUNCTION permissions_of_key(owner text, scope text) RETURNS text[] LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN (SELECT coalesce(array_agg(s.permission ORDER BY s.permission), '{}') FROM avouch_keys.scope_permission s WHERE s.scope = permissions_of_key.scope AND
    EXISTS (SELECT FROM avouch_keys.role_permission p JOIN avouch_keys.membership m USING (role_id) WHERE p.permission = s.permission AND m.user_id IN (permissions_of_key.owner, '*')));
END $$;

CREATE OR REPLACE FUNCTION told_permissions(k api_key) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN CASE WHEN k.scope IS NOT NULL THEN jsonb_build_object('permissions', avouch_keys.permissions_of_key(k.owner, k.scope)) END;
END $$;

-- What is told of a key is written down beforehand: all but the permissions when the key changes, and all, with the counts of
-- the changes that it is of, when it is used.
CREATE OR REPLACE FUNCTION described(k api_key) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN k.facts || coalesce(avouch_keys.told_permissions(k), '{}');
END $$;

CREATE OR REPLACE FUNCTION state_facts() RETURNS trigger LANGUAGE plpgsql SET search_path = avouch_keys, pg_temp SET timezone = 'UTC' AS $$
BEGIN
  NEW.facts := jsonb_build_object('key_id', NEW.key_id, 'uid', NEW.uid, 'owner', NEW.owner, 'name', NEW.name, 'live', NEW.live, 'scope', NEW.scope,
    'claims', NEW.claims, 'permissions', '[]'::jsonb, 'expires_at', NEW.expires_at);
  NEW.changed := CASE TG_OP WHEN 'INSERT' THEN 0 ELSE OLD.changed + 1 END;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER state_facts BEFORE INSERT OR UPDATE ON api_key FOR EACH ROW EXECUTE FUNCTION state_facts();
ALTER TABLE api_key ENABLE ALWAYS TRIGGER state_facts;

CREATE OR REPLACE FUNCTION count_model() RETURNS trigger LANGUAGE plpgsql SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  UPDATE installation SET model = model + 1;
  RETURN NULL;
END $$;

-- count_members counts new members for whose keys it matters: a user who signs up has none, and waits for nobody.
CREATE OR REPLACE FUNCTION count_members() RETURNS trigger LANGUAGE plpgsql SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM added a WHERE a.user_id = '*' OR EXISTS (SELECT FROM api_key k WHERE k.owner = a.user_id)) THEN
    UPDATE installation SET model = model + 1;
  END IF;
  RETURN NULL;
END $$;
DO $$
DECLARE
  t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['membership', 'role_permission', 'scope_permission'] LOOP
    EXECUTE format('CREATE OR REPLACE TRIGGER count_model AFTER ' || CASE t WHEN 'membership' THEN '' ELSE 'INSERT OR ' END || 'UPDATE OR DELETE OR TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION count_model()', t);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER count_model', t);
  END LOOP;
  CREATE OR REPLACE TRIGGER count_members AFTER INSERT ON membership REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_members();
  ALTER TABLE membership ENABLE ALWAYS TRIGGER count_members;
END $$;

-- The user of this request: of its session, or the owner of its key. In the order in which Supabase's auth.uid() looks.
CREATE OR REPLACE FUNCTION current_user_id() RETURNS text LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  RETURN coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', ''));
END $$;

-- The proof that this transaction presented a key's secret: nobody can make it who does not know the pepper, and no other
-- connection can use it, nor this one at another time.
CREATE OR REPLACE FUNCTION proof_of(id text, version integer) RETURNS text LANGUAGE plpgsql STABLE SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  blocks bytea := pepper_of(version);
BEGIN
  RETURN id || '.' || version || '.' || encode(substr(sha512(substr(blocks, 385, 128) || sha512(substr(blocks, 257, 128) || convert_to(format('avouch_keys/proof/v1 %s %s %s',
    id, pg_backend_pid(), (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint), 'UTF8'))), 1, 32), 'hex');
END $$;

-- proves_now reports whether proofs are made with a pepper: the newest, or one that was that when this transaction began, or
-- within the minute before, in which the rotation may not have been committed yet.
CREATE OR REPLACE FUNCTION proves_now(version integer) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN EXISTS (SELECT FROM avouch_keys.pepper p WHERE p.version = proves_now.version AND (p.newest OR p.retired_at > transaction_timestamp() - interval '1 minute'));
END $$;

-- presented_key is the key of this request: only if its secret was verified, in this transaction. Of one that has ended since,
-- nothing is true any more, least of all that there is none.
CREATE OR REPLACE FUNCTION presented_key() RETURNS api_key LANGUAGE plpgsql STABLE SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  k     api_key;
  proof CONSTANT text := current_setting('avouch_keys.proof', true);
BEGIN
  IF proof IS NULL OR proof = '' THEN RETURN NULL; END IF;
  IF proof !~ '^[0-9A-Za-z]{11}[.][0-9]{1,9}[.][0-9a-f]{64}$' OR NOT proves_now(split_part(proof, '.', 2)::integer) OR proof <> proof_of(split_part(proof, '.', 1), split_part(proof, '.', 2)::integer) THEN
    RAISE EXCEPTION 'avouch_keys.proof was not set by avouch_keys' USING ERRCODE = 'insufficient_privilege';
  END IF;
  SELECT * INTO k FROM api_key x WHERE x.key_id = split_part(proof, '.', 1);
  IF k.revoked_at IS NOT NULL OR k.expires_at <= clock_timestamp() THEN
    RAISE SQLSTATE 'PT401' USING MESSAGE = 'The API key is no longer in force.';
  END IF;
  RETURN k;
END $$;

-- Two functions that an application may replace by its own; an upgrade leaves them. session_claims is what a user's session
-- says beside sub and role, for policies that read it, or nothing if there is no such user any more: then his keys work no
-- longer. claimed_permissions is what the token of a session lets its user do beside his roles here.
DO $$
BEGIN
  IF to_regprocedure('avouch_keys.session_claims(text)') IS NULL THEN
    CREATE FUNCTION session_claims(user_id text) RETURNS jsonb LANGUAGE sql STABLE AS $f$ SELECT '{}'::jsonb $f$; -- costs nothing
  END IF;
  IF to_regprocedure('avouch_keys.claimed_permissions()') IS NULL THEN
    CREATE FUNCTION claimed_permissions() RETURNS text[] LANGUAGE plpgsql STABLE AS $f$ BEGIN RETURN '{}'; END $f$;
  END IF;
END $$;

-- proves reports whether a key's secret is right. For an id that nobody has it does the work all the same.
CREATE OR REPLACE FUNCTION proves(presented text) RETURNS boolean LANGUAGE plpgsql SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  v verifier;
BEGIN
  SELECT * INTO v FROM verifier x WHERE x.key_id = substr(presented, 10, 11);
  IF v.key_id IS NULL THEN
    v.key_id := substr(presented, 10, 11); v.issued_at_ns := 0; v.pepper := (SELECT p.version FROM pepper p WHERE p.newest);
  END IF;
  RETURN coalesce((stored(CASE WHEN v.inner1 IS NULL THEN prepared(v, v.pepper) ELSE v END, presented)).digest = v.digest, false);
END $$;

-- look_closely is verify_key where one look is not enough: nothing of the key is known beforehand, or its use is to be written down.
CREATE OR REPLACE FUNCTION look_closely(presented text) RETURNS jsonb LANGUAGE plpgsql SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  proven CONSTANT boolean := proves(presented);
  k      api_key;
BEGIN
  SELECT * INTO k FROM api_key x WHERE x.key_id = substr(presented, 10, 11);
  IF (proven AND k.revoked_at IS NULL AND coalesce(k.expires_at > clock_timestamp(), true) AND session_claims(k.owner) IS NOT NULL) IS NOT TRUE THEN RETURN NULL; END IF;
  PERFORM used(k.key_id, presented);
  RETURN described(k);
END $$;

-- verify_key tells of a key what its request could do, and nothing of what is none: it changes nothing of the request. What is
-- damaged costs no look-up; unknown ids are worked on as wrong secrets are. Mostly one statement answers, which says itself what
-- stored says too, for statements and calls of functions are most of what this costs; TestDigest would see a difference.
CREATE OR REPLACE FUNCTION verify_key(presented text) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  told jsonb;
BEGIN
  IF (octet_length(presented) = 70 AND undamaged(convert_to(presented, 'UTF8'))) IS NOT TRUE THEN RETURN NULL; END IF;
  SELECT CASE WHEN sha256(sha512(v.outer2 || sha512(v.inner2 || sha512(v.outer1 || sha512(v.inner1 || sha256(convert_to(presented, 'UTF8'))))))) = v.digest
      AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp()) AND v.last_used_at > clock_timestamp() - interval '1 minute'
      AND session_claims(k.owner) IS NOT NULL THEN CASE WHEN k.scope IS NULL THEN k.facts WHEN v.model = i.model AND v.changed = k.changed THEN v.told END END
  INTO told FROM installation i, verifier v JOIN api_key k ON k.key_id = v.key_id WHERE v.key_id = substr(presented, 10, 11);
  IF told IS NULL THEN RETURN look_closely(presented); END IF;
  RETURN told;
END $$;

-- open_key verifies a key and tells what its request is to be set to.
CREATE OR REPLACE FUNCTION open_key(presented text, OUT claims jsonb, OUT role name, OUT proof text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  k CONSTANT jsonb := verify_key(presented);
BEGIN
  IF k IS NULL THEN RETURN; END IF;
  role := (SELECT i.signed_in FROM installation i);
  claims := session_claims(k ->> 'owner') || jsonb_build_object('sub', k ->> 'owner', 'role', role);
  proof := proof_of(k ->> 'key_id', (SELECT p.version FROM pepper p WHERE p.newest));
END $$;

-- authenticate makes the rest of this transaction a request of a key's owner, or fails.
CREATE OR REPLACE FUNCTION authenticate(presented text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found record := avouch_keys.open_key(presented);
BEGIN
  IF found.proof IS NULL THEN
    RAISE SQLSTATE 'PT401' USING MESSAGE = 'The API key proves nothing: it is damaged, unknown, or no longer in force.';
  END IF;
  IF avouch_keys.current_user_id() <> found.claims ->> 'sub' THEN
    RAISE SQLSTATE 'PT401' USING MESSAGE = 'The API key and the session are of two users: send one of them.';
  END IF;
  PERFORM set_config('avouch_keys.proof', found.proof, true), set_config('request.jwt.claims', found.claims::text, true),
    set_config('request.jwt.claim.sub', found.claims ->> 'sub', true), set_config('request.jwt.claim.role', found.role, true),
    set_config('request.jwt.claim.email', coalesce(found.claims ->> 'email', ''), true);
  PERFORM set_config('role', found.role, true);
END $$;

-- pre_request is for PostgREST's db-pre-request. A request without x-api-key goes on as it came.
CREATE OR REPLACE FUNCTION pre_request() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  presented text := nullif(current_setting('request.headers', true), '')::json ->> 'x-api-key';
BEGIN
  PERFORM set_config('avouch_keys.proof', '', true); -- whatever the connection was left with
  IF presented IS NOT NULL THEN PERFORM avouch_keys.authenticate(presented); END IF;
END $$;

CREATE OR REPLACE FUNCTION current_api_key() RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  k api_key := presented_key();
BEGIN
  IF k.key_id IS NULL THEN RETURN NULL; END IF;
  RETURN described(k);
END $$;

CREATE OR REPLACE FUNCTION current_key_claims() RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  RETURN (presented_key()).claims;
END $$;

-- A key never has more than its scope; a session has its user's roles and what its token says.
CREATE OR REPLACE FUNCTION current_permissions() RETURNS text[] LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  k api_key := presented_key();
BEGIN
  IF k.key_id IS NOT NULL THEN RETURN permissions_of_key(k.owner, k.scope); END IF;
  IF current_user_id() IS NULL THEN RETURN '{}'; END IF;
  RETURN permissions_of_user(current_user_id()) || claimed_permissions();
END $$;

CREATE OR REPLACE FUNCTION has_permission(permission text) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  RETURN coalesce(permission = ANY (current_permissions()), false);
END $$;

-- asking says who asks: a signed-in user, or one of his keys.
CREATE OR REPLACE FUNCTION asking(OUT owner text, OUT key api_key, OUT name text) LANGUAGE plpgsql STABLE SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  key := presented_key();
  owner := coalesce((key).owner, current_user_id());
  name := CASE WHEN (key).key_id IS NULL THEN 'user:' || owner ELSE 'key:' || (key).key_id END;
  IF owner IS NULL THEN
    RAISE SQLSTATE 'PT401' USING MESSAGE = 'Sign in first, or send an API key.';
  END IF;
END $$;

-- acting is for those who change something. Changes happen one after the other, so a key that was revoked since this
-- transaction began is seen here.
CREATE OR REPLACE FUNCTION acting(OUT owner text, OUT key api_key, OUT name text) LANGUAGE plpgsql SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  who record;
BEGIN
  PERFORM FROM head FOR UPDATE;
  who := asking();
  owner := who.owner; key := who.key; name := who.name;
END $$;

-- mint makes a key's secret, its public id and its digest, and returns the whole key once.
CREATE OR REPLACE FUNCTION mint(k api_key) RETURNS text LANGUAGE plpgsql SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  v    verifier;
  made text;
BEGIN
  UPDATE head SET last_ns = greatest(last_ns + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000) RETURNING last_ns INTO STRICT v.issued_at_ns;
  k.key_id := base62(random_bytes(8), 11);
  made := CASE WHEN k.live THEN 'avd_live_' ELSE 'avd_test_' END || k.key_id || '_' || base62(random_bytes(32), 43);
  made := made || checksum(convert_to(made, 'UTF8'));
  k.hint := left(made, 20) || '_...' || right(made, 4);
  v.key_id := k.key_id;
  INSERT INTO api_key SELECT k.*;
  INSERT INTO verifier SELECT n.* FROM pepper p, stored(prepared(v, p.version), made) n WHERE p.newest; -- in no variable: see used
  RETURN made;
END $$;

-- narrowed is a child as its parent may have it: no more permissions, no longer life, the same claims.
CREATE OR REPLACE FUNCTION narrowed(child api_key, parent api_key, own_claims boolean) RETURNS api_key LANGUAGE plpgsql STABLE SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  IF child.scope IS DISTINCT FROM parent.scope AND (child.scope IS NULL OR parent.scope IS NULL OR
    NOT EXISTS (SELECT FROM scope_permission s WHERE s.scope = child.scope) OR -- what it means, only the application knows
    EXISTS (SELECT s.permission FROM scope_permission s WHERE s.scope = child.scope EXCEPT SELECT s.permission FROM scope_permission s WHERE s.scope = parent.scope)) THEN
    RAISE EXCEPTION 'A key makes only keys that may do no more than itself.' USING ERRCODE = 'insufficient_privilege';
  END IF;
  IF own_claims AND child.claims <> parent.claims THEN
    RAISE EXCEPTION 'A key gives its own claims to those that it makes.' USING ERRCODE = 'insufficient_privilege';
  END IF;
  IF parent.expires_at IS NOT NULL AND coalesce(child.expires_at > parent.expires_at, true) THEN
    child.expires_at := parent.expires_at;
  END IF;
  IF parent.life IS NOT NULL AND coalesce(child.life > parent.life, true) THEN child.life := parent.life; END IF;
  child.live := child.live AND parent.live;
  child.claims := parent.claims;
  child.made_by := parent.key_id;
  RETURN child;
END $$;

-- claims_allowed refuses claims to those who may not set any.
CREATE OR REPLACE FUNCTION claims_allowed(by text) RETURNS void LANGUAGE plpgsql SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  IF (SELECT i.claims_by FROM installation i) = 'admin' THEN PERFORM administrator('manage_key_claims', by); END IF;
END $$;

-- create_key makes a key of the user, or a child of the key that asks. The key is in the answer, and nowhere else. A key in
-- the overlap of its rotation is not counted beside the one that took its place.
CREATE OR REPLACE FUNCTION create_key(name text, scope text DEFAULT NULL, expires_at timestamptz DEFAULT NULL, never_expires boolean DEFAULT false,
  claims jsonb DEFAULT NULL, test boolean DEFAULT false, OUT key text, OUT key_id text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  who  record := acting();
  here installation;
  k    api_key;
BEGIN
  SELECT * INTO STRICT here FROM installation;
  IF name IS NULL OR length(name) > 255 THEN RAISE EXCEPTION 'A name has at most 255 characters.' USING ERRCODE = 'invalid_parameter_value'; END IF;
  IF scope IS NOT NULL AND NOT EXISTS (SELECT FROM scope s WHERE s.name = scope) THEN
    RAISE EXCEPTION 'There is no scope %.', quote_literal(scope) USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF never_expires AND expires_at IS NOT NULL OR expires_at <= clock_timestamp() OR expires_at = 'infinity' THEN
    RAISE EXCEPTION 'A key expires in the future, or never.' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF claims IS NOT NULL AND (who.key).key_id IS NULL THEN PERFORM claims_allowed(NULL); END IF;
  k.uid := gen_random_uuid(); k.owner := who.owner; k.name := name; k.live := NOT coalesce(test, false); k.scope := scope; k.claims := coalesce(claims, '{}');
  k.created_at := clock_timestamp();
  IF NOT coalesce(never_expires, false) THEN
    k.expires_at := coalesce(expires_at, k.created_at + here.life);
    k.life := coalesce(expires_at - k.created_at, here.life);
  END IF;
  IF (who.key).key_id IS NOT NULL THEN
    k := narrowed(k, who.key, claims IS NOT NULL);
  END IF;
  IF (SELECT count(*) FROM api_key a WHERE a.owner = k.owner AND a.revoked_at IS NULL AND coalesce(a.expires_at > clock_timestamp(), true)
    AND NOT EXISTS (SELECT FROM api_key n WHERE n.replaces = a.key_id AND n.revoked_at IS NULL AND coalesce(n.expires_at > clock_timestamp(), true))) >= here.most_keys THEN
    RAISE SQLSTATE 'PT409' USING MESSAGE = format('You have %s active keys, which is as many as one may have.', here.most_keys);
  END IF;
  key := mint(k);
  key_id := substr(key, 10, 11);
  PERFORM log_that(who.name, 'key.created', key_id, jsonb_build_object('owner', k.owner, 'name', name, 'scope', scope, 'claims', k.claims, 'expires_at', k.expires_at));
END $$;

-- An administrator is a role of the database that was admitted as one, or a user with the permission; a key never is one.
-- PostgreSQL alone knows the role that calls a function, and only outside of those that have the owner's rights: the session's
-- user and the setting role are a superuser's in his ANALYZE, which runs what the owners of tables put into their indexes. So
-- functions that administrators call have a last argument whose default, administering(), is computed as who calls: a ticket,
-- if that role may execute admin_ticket. It is a proof, as for keys, of a role that may in place of a key's id.
--
-- What runs with the owner's rights runs for anybody: the owner has no ticket. Nobody has one while others than administrators
-- may execute admin_ticket, as after a grant on everything. An administrator can have the log name another one.
CREATE OR REPLACE FUNCTION admin_ticket(role name) RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  this CONSTANT regprocedure := 'avouch_keys.admin_ticket(name)';
BEGIN
  IF NOT has_function_privilege(role, this, 'EXECUTE') OR EXISTS (
    SELECT FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g WHERE p.oid = this AND g.grantee <> p.proowner
      AND NOT EXISTS (SELECT FROM admitted a JOIN pg_roles r ON r.rolname = a.role WHERE a.level = 'admin' AND r.oid = g.grantee)) THEN RETURN NULL; END IF;
  RETURN proof_of('admin:' || role, (SELECT p.version FROM pepper p WHERE p.newest));
END $$;

CREATE OR REPLACE FUNCTION administering() RETURNS text LANGUAGE plpgsql STABLE SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  IF current_user = 'avouch_keys_owner' OR NOT has_function_privilege('avouch_keys.admin_ticket(name)', 'EXECUTE') THEN RETURN NULL; END IF;
  RETURN admin_ticket(current_user);
END $$;

-- administrating_role is the role of a ticket, if there is one.
CREATE OR REPLACE FUNCTION administrating_role(by text) RETURNS text LANGUAGE plpgsql STABLE SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  parts CONSTANT text[] := regexp_match(by, '^admin:(.*)[.]([0-9]{1,9})[.][0-9a-f]{64}$');
BEGIN
  IF by IS NULL THEN RETURN NULL; END IF;
  IF (proves_now(parts[2]::integer) AND by = proof_of('admin:' || parts[1], parts[2]::integer)) IS NOT TRUE THEN
    RAISE EXCEPTION 'The argument "by" is not yours to give: leave it out.' USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN parts[1];
END $$;

CREATE OR REPLACE FUNCTION is_administrator(permission text, by text) RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  RETURN presented_key() IS NULL AND (administrating_role(by) IS NOT NULL OR coalesce(permission = ANY (current_permissions()), false));
END $$;

-- administrator lets those go on who may, and names them.
CREATE OR REPLACE FUNCTION administrator(permission text, by text) RETURNS text LANGUAGE plpgsql STABLE SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  IF NOT is_administrator(permission, by) THEN
    RAISE EXCEPTION 'This takes the permission %.', permission USING ERRCODE = 'insufficient_privilege',
      HINT = 'Or a role that was admitted as admin. If yours was, something was granted on avouch_keys by hand: install it again.';
  END IF;
  RETURN coalesce('role:' || administrating_role(by), 'user:' || current_user_id());
END $$;

-- administrating is for those who change something: before anything else, in the one order in which all take their locks.
CREATE OR REPLACE FUNCTION administrating(permission text, by text) RETURNS text LANGUAGE plpgsql SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  PERFORM FROM head FOR UPDATE;
  RETURN administrator(permission, by);
END $$;

-- own_key is a key that whoever acts may change: his own; with anybody, for who may administer, anybody's. A key changes
-- none but itself.
CREATE OR REPLACE FUNCTION own_key(id text, anybody boolean, by text, OUT k api_key, OUT owner text, OUT key api_key, OUT name text)
LANGUAGE plpgsql SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  who   record;
  admin boolean := false;
BEGIN
  PERFORM FROM head FOR UPDATE;
  IF anybody AND presented_key() IS NULL AND is_administrator('manage_all_api_keys', by) THEN
    admin := true;
    name := administrator('manage_all_api_keys', by);
  ELSE
    who := acting();
    owner := who.owner; key := who.key; name := who.name;
    IF (key).key_id <> id THEN
      RAISE EXCEPTION 'A key does that to no other key: sign in.' USING ERRCODE = 'insufficient_privilege';
    END IF;
  END IF;
  SELECT * INTO k FROM api_key a WHERE a.key_id = id FOR NO KEY UPDATE;
  IF k.key_id IS NULL OR NOT admin AND k.owner <> own_key.owner THEN
    RAISE SQLSTATE 'PT404' USING MESSAGE = 'You have no such key.';
  END IF;
END $$;

-- end_keys ends keys now. Their verifiers go with them, unless a request is about to write down its use: expiring_keys
-- takes those away.
CREATE OR REPLACE FUNCTION end_keys(ids text[]) RETURNS void LANGUAGE plpgsql SET search_path = avouch_keys, pg_temp AS $$
BEGIN
  UPDATE api_key a SET revoked_at = clock_timestamp() WHERE a.key_id = ANY (ids) AND a.revoked_at IS NULL;
  DELETE FROM verifier v WHERE v.key_id IN (SELECT x.key_id FROM verifier x WHERE x.key_id = ANY (ids) FOR UPDATE SKIP LOCKED);
END $$;

-- revoke_key ends a key for good, and the keys that it made, and those that they made, unless only_this: whoever stole a key
-- may have made more. What begins after that is committed cannot use them. It is false if all had ended before.
CREATE OR REPLACE FUNCTION revoke_key(key_id text, only_this boolean DEFAULT false, by text DEFAULT avouch_keys.administering()) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  mine record := own_key(key_id, true, by);
  ids  text[];
BEGIN
  WITH RECURSIVE line AS (
    SELECT (mine.k).key_id AS id UNION SELECT a.key_id FROM api_key a JOIN line ON a.made_by = line.id WHERE revoke_key.only_this IS NOT TRUE
  ) SELECT array_agg(a.key_id ORDER BY a.key_id) INTO ids FROM line JOIN api_key a ON a.key_id = line.id WHERE a.revoked_at IS NULL;
  IF ids IS NULL THEN RETURN false; END IF;
  PERFORM end_keys(ids);
  PERFORM log_that(mine.name, 'key.revoked', (mine.k).key_id, jsonb_build_object('owner', (mine.k).owner, 'keys', ids));
  RETURN true;
END $$;

-- revoke_keys_of ends all keys of a user, and is how many there were: call it when you delete one.
CREATE OR REPLACE FUNCTION revoke_keys_of(owner text, by text DEFAULT avouch_keys.administering()) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  who text := administrating('manage_all_api_keys', by);
  ids text[];
BEGIN
  ids := (SELECT array_agg(a.key_id ORDER BY a.key_id) FROM api_key a WHERE a.owner = revoke_keys_of.owner AND a.revoked_at IS NULL);
  IF ids IS NULL THEN RETURN 0; END IF;
  PERFORM end_keys(ids);
  PERFORM log_that(who, 'keys.revoked', owner, jsonb_build_object('keys', ids));
  RETURN cardinality(ids);
END $$;

-- rotate_key makes a key that is like another one, which ends after the overlap, of at most 30 days. A key that rotates
-- itself does not live on by that.
CREATE OR REPLACE FUNCTION rotate_key(key_id text, overlap interval DEFAULT '0', OUT key text, OUT new_key_id text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
#variable_conflict use_column
DECLARE
  mine record := own_key(rotate_key.key_id, false, NULL);
  k    api_key := mine.k;
  next api_key := mine.k;
BEGIN
  IF k.revoked_at IS NOT NULL OR k.expires_at <= clock_timestamp() THEN
    RAISE SQLSTATE 'PT409' USING MESSAGE = 'The key is no longer in force: make a new one.';
  END IF;
  IF overlap IS NULL OR overlap < '0' OR overlap > '30 days' THEN
    RAISE EXCEPTION 'An overlap is at most 30 days.' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF EXISTS (SELECT FROM api_key a WHERE a.replaces = k.key_id) THEN
    RAISE SQLSTATE 'PT409' USING MESSAGE = format('The key has been rotated already, by %s.', (SELECT a.key_id FROM api_key a WHERE a.replaces = k.key_id));
  END IF;
  IF k.replaces IS NOT NULL THEN PERFORM end_keys(ARRAY[k.replaces]); END IF; -- two generations live at once, not three
  next.uid := gen_random_uuid(); next.created_at := clock_timestamp(); next.noticed := NULL; next.replaces := k.key_id;
  IF (mine.key).key_id IS NULL THEN
    next.expires_at := clock_timestamp() + k.life; -- of none, none
  ELSE
    next.made_by := k.key_id;
  END IF;
  key := mint(next);
  new_key_id := substr(key, 10, 11);
  IF overlap = '0' THEN
    PERFORM end_keys(ARRAY[k.key_id]);
  ELSE
    UPDATE api_key a SET expires_at = least(a.expires_at, clock_timestamp() + overlap) WHERE a.key_id = k.key_id;
  END IF;
  PERFORM log_that(mine.name, 'key.rotated', k.key_id, jsonb_build_object('owner', k.owner, 'to', new_key_id, 'overlap_seconds', extract(epoch FROM overlap)::bigint));
END $$;

-- update_key changes a name, or the claims. A key changes neither, not even its own.
CREATE OR REPLACE FUNCTION update_key(key_id text, name text DEFAULT NULL, claims jsonb DEFAULT NULL, by text DEFAULT avouch_keys.administering()) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  mine record := own_key(key_id, true, by);
BEGIN
  IF (mine.key).key_id IS NOT NULL THEN
    RAISE EXCEPTION 'A key does not change itself: sign in.' USING ERRCODE = 'insufficient_privilege';
  END IF;
  IF claims IS NOT NULL THEN PERFORM claims_allowed(by); END IF;
  UPDATE api_key a SET name = coalesce(update_key.name, a.name), claims = coalesce(update_key.claims, a.claims) WHERE a.key_id = (mine.k).key_id;
  PERFORM log_that(mine.name, 'key.updated', key_id, jsonb_build_object('owner', (mine.k).owner, 'name', name, 'claims', claims));
END $$;

-- list_my_keys shows a user his keys, the newest first, and a key itself.
CREATE OR REPLACE FUNCTION list_my_keys() RETURNS TABLE (key_id text, uid uuid, name text, hint text, live boolean, scope text, claims jsonb, status text,
  created_at timestamptz, expires_at timestamptz, revoked_at timestamptz, last_used_at timestamptz, replaces text, made_by text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  who record := asking();
BEGIN
  RETURN QUERY SELECT a.key_id, a.uid, a.name, a.hint, a.live, a.scope, a.claims,
    CASE WHEN a.revoked_at IS NOT NULL THEN 'revoked' WHEN a.expires_at <= clock_timestamp() THEN 'expired' ELSE 'active' END,
    a.created_at, a.expires_at, a.revoked_at, v.last_used_at, a.replaces, a.made_by
  FROM api_key a LEFT JOIN verifier v ON v.key_id = a.key_id
  WHERE a.owner = who.owner AND coalesce((who.key).key_id = a.key_id, true) ORDER BY a.created_at DESC, a.key_id;
END $$;

-- What an application's permissions, scopes, groups and roles are. Defining one again changes it.
CREATE OR REPLACE FUNCTION define_permission(name text, description text DEFAULT '', by text DEFAULT avouch_keys.administering()) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  who text := administrating('manage_permissions', by);
BEGIN
  INSERT INTO permission AS p VALUES (name, description) ON CONFLICT ON CONSTRAINT permission_pkey DO UPDATE SET description = excluded.description;
  PERFORM log_that(who, 'permission.defined', name, '{}');
END $$;

CREATE OR REPLACE FUNCTION define_scope(name text, permissions text[], description text DEFAULT '', by text DEFAULT avouch_keys.administering()) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  who text := administrating('manage_scopes', by);
  id  uuid;
BEGIN
  INSERT INTO scope AS s (name, description) VALUES (name, description)
  ON CONFLICT ON CONSTRAINT scope_pkey DO UPDATE SET description = excluded.description RETURNING s.scope_id INTO id;
  DELETE FROM scope_permission s WHERE s.scope = name;
  INSERT INTO scope_permission SELECT DISTINCT name, p FROM unnest(permissions) AS p;
  PERFORM log_that(who, 'scope.defined', name, jsonb_build_object('permissions', permissions));
  RETURN id;
END $$;

CREATE OR REPLACE FUNCTION define_group(name text, description text DEFAULT '', by text DEFAULT avouch_keys.administering()) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  who text := administrating('manage_groups', by);
  id  uuid;
BEGIN
  INSERT INTO user_group AS g (name, description) VALUES (name, description)
  ON CONFLICT ON CONSTRAINT user_group_name_key DO UPDATE SET description = excluded.description RETURNING g.group_id INTO id;
  PERFORM log_that(who, 'group.defined', name, '{}');
  RETURN id;
END $$;

CREATE OR REPLACE FUNCTION define_role(group_id uuid, name text, permissions text[], description text DEFAULT '', kind text DEFAULT 'user', by text DEFAULT avouch_keys.administering()) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  who text := administrating('manage_roles', by);
  id  uuid;
BEGIN
  INSERT INTO user_role AS r (group_id, name, description, kind) VALUES (group_id, name, description, kind)
  ON CONFLICT ON CONSTRAINT user_role_group_id_name_key DO UPDATE SET description = excluded.description, kind = excluded.kind RETURNING r.role_id INTO id;
  DELETE FROM role_permission p WHERE p.role_id = id;
  INSERT INTO role_permission SELECT DISTINCT id, p FROM unnest(permissions) AS p;
  PERFORM log_that(who, 'role.defined', id::text, jsonb_build_object('name', name, 'kind', kind, 'permissions', permissions));
  RETURN id;
END $$;

-- give_role gives a role to a user, or to everybody who is signed in if the user is '*'.
CREATE OR REPLACE FUNCTION give_role(user_id text, role_id uuid, by text DEFAULT avouch_keys.administering()) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  who text := administrating('manage_roles', by);
BEGIN
  INSERT INTO membership VALUES (user_id, role_id) ON CONFLICT DO NOTHING;
  PERFORM log_that(who, 'role.given', role_id::text, jsonb_build_object('user', user_id));
END $$;

CREATE OR REPLACE FUNCTION take_role(user_id text, role_id uuid, by text DEFAULT avouch_keys.administering()) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  who text := administrating('manage_roles', by);
BEGIN
  DELETE FROM membership m WHERE m.user_id = take_role.user_id AND m.role_id = take_role.role_id;
  PERFORM log_that(who, 'role.taken', role_id::text, jsonb_build_object('user', user_id));
END $$;

-- undefine takes one away, and with it what named it. A scope that keys have stays.
CREATE OR REPLACE FUNCTION undefine(what text, name text, by text DEFAULT avouch_keys.administering()) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  who  text;
  gone bigint;
BEGIN
  IF what IS NULL OR what NOT IN ('permission', 'scope', 'group', 'role') THEN
    RAISE EXCEPTION 'What to undefine is a permission, scope, group or role.' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  who := administrating('manage_' || what || 's', by);
  CASE what
    WHEN 'permission' THEN DELETE FROM permission p WHERE p.name = undefine.name;
    WHEN 'scope' THEN DELETE FROM scope s WHERE s.name = undefine.name;
    WHEN 'group' THEN DELETE FROM user_group g WHERE g.name = undefine.name;
    WHEN 'role' THEN DELETE FROM user_role r WHERE r.role_id::text = undefine.name;
  END CASE;
  GET DIAGNOSTICS gone = ROW_COUNT;
  PERFORM log_that(who, what || '.undefined', name, jsonb_build_object('was_there', gone > 0));
  RETURN gone > 0;
END $$;

-- configure changes settings: those that are given.
CREATE OR REPLACE FUNCTION configure(signed_in name DEFAULT NULL, most_keys integer DEFAULT NULL, life interval DEFAULT NULL, claims_by text DEFAULT NULL, by text DEFAULT avouch_keys.administering()) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  who  text := administrating('manage_installation', by);
  said jsonb;
BEGIN
  UPDATE installation i SET signed_in = coalesce(configure.signed_in, i.signed_in), most_keys = coalesce(configure.most_keys, i.most_keys),
    life = coalesce(configure.life, i.life), claims_by = coalesce(configure.claims_by, i.claims_by)
  RETURNING to_jsonb(i) - 'only_one' INTO said;
  PERFORM log_that(who, 'installation.configured', said ->> 'id', said);
  RETURN said;
END $$;

-- grant_entrances gives a role what its level may call, and takes the rest.
CREATE OR REPLACE FUNCTION grant_entrances(role name, level text) RETURNS void LANGUAGE plpgsql SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  levels CONSTANT text[] := '{visitor,user,admin}';
  t      record;
BEGIN
  FOR t IN SELECT DISTINCT n.nspname FROM entrance e JOIN pg_namespace n ON n.nspname = split_part(e.thing, '.', 1) LOOP
    EXECUTE format(CASE level WHEN 'none' THEN 'REVOKE USAGE ON SCHEMA %I FROM %I' ELSE 'GRANT USAGE ON SCHEMA %I TO %I' END, t.nspname, role);
  END LOOP;
  FOR t IN
    SELECT p.oid::regprocedure::text AS thing, 'EXECUTE ON ROUTINE' AS what, e.level FROM entrance e JOIN pg_namespace n ON n.nspname = split_part(e.thing, '.', 1)
      JOIN pg_proc p ON p.pronamespace = n.oid AND p.proname = split_part(e.thing, '.', 2)
    UNION ALL SELECT c.oid::regclass::text, 'SELECT ON', e.level FROM entrance e JOIN pg_namespace n ON n.nspname = split_part(e.thing, '.', 1)
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = split_part(e.thing, '.', 2) AND c.relkind = 'v'
  LOOP
    IF array_position(levels, t.level) <= coalesce(array_position(levels, grant_entrances.level), 0) THEN
      EXECUTE format('GRANT %s %s TO %I', t.what, t.thing, role);
    ELSE
      EXECUTE format('REVOKE %s %s FROM %I', t.what, t.thing, role);
    END IF;
  END LOOP;
END $$;

-- admit lets a role of the database in: as 'visitor', who may present a key; as 'user', who may manage his own; as 'admin'; or
-- as 'none', no longer.
CREATE OR REPLACE FUNCTION admit(role name, level text, by text DEFAULT avouch_keys.administering()) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  who text := administrating('manage_installation', by);
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = admit.role) THEN
    RAISE EXCEPTION 'There is no role %.', quote_literal(role) USING ERRCODE = 'undefined_object';
  END IF;
  INSERT INTO admitted AS a VALUES (role, level) ON CONFLICT ON CONSTRAINT admitted_pkey DO UPDATE SET level = excluded.level;
  PERFORM grant_entrances(role, level);
  PERFORM log_that(who, 'role.admitted', role, jsonb_build_object('level', level));
END $$;

-- rotate_pepper has keys digested with a new secret, each when it is next used by a transaction that may write. Of another
-- source than 'table', somebody has put it there before. keys_with_old_pepper are those that were not yet; drop_pepper takes
-- an old secret away, and with it the keys that still need it.
CREATE OR REPLACE FUNCTION rotate_pepper(source text DEFAULT 'table', by text DEFAULT avouch_keys.administering()) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  who     text := administrating('manage_pepper', by);
  version integer;
BEGIN
  UPDATE pepper p SET newest = false, retired_at = clock_timestamp() WHERE p.newest;
  INSERT INTO pepper AS p SELECT max(o.version) + 1, source, CASE source WHEN 'table' THEN new_pepper() END, i.id FROM pepper o, installation i GROUP BY i.id
  RETURNING p.version INTO STRICT version;
  PERFORM pepper_of(version);
  PERFORM log_that(who, 'pepper.rotated', version::text, jsonb_build_object('source', source));
  RETURN version;
END $$;

CREATE OR REPLACE FUNCTION keys_with_old_pepper(by text DEFAULT avouch_keys.administering()) RETURNS TABLE (key_id text, owner text, pepper integer, last_used_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM administrator('manage_pepper', by);
  RETURN QUERY SELECT a.key_id, a.owner, v.pepper, v.last_used_at FROM verifier v JOIN api_key a USING (key_id)
    WHERE v.pepper <> (SELECT p.version FROM pepper p WHERE p.newest) AND a.revoked_at IS NULL ORDER BY v.last_used_at NULLS FIRST;
END $$;

CREATE OR REPLACE FUNCTION drop_pepper(version integer, by text DEFAULT avouch_keys.administering()) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
DECLARE
  who text := administrating('manage_pepper', by);
  ids text[];
BEGIN
  IF EXISTS (SELECT FROM pepper p WHERE p.newest AND p.version = drop_pepper.version) THEN
    RAISE SQLSTATE 'PT409' USING MESSAGE = 'That pepper is in use: rotate it first.';
  END IF;
  ids := (SELECT coalesce(array_agg(v.key_id ORDER BY v.key_id), '{}') FROM verifier v WHERE v.pepper = drop_pepper.version);
  UPDATE api_key a SET revoked_at = clock_timestamp() WHERE a.key_id = ANY (ids) AND a.revoked_at IS NULL;
  DELETE FROM verifier v WHERE v.pepper = drop_pepper.version;
  DELETE FROM pepper p WHERE p.version = drop_pepper.version;
  PERFORM log_that(who, 'pepper.dropped', version::text, jsonb_build_object('keys', ids));
  RETURN cardinality(ids);
END $$;

-- expiring_keys tells of each key once at 30, 7 and 1 days before its end, if it had longer to live when it was made and none
-- has taken its place: in its rows. To whoever listens on channel avouch_keys, as any role may, it says only that there are some.
-- Have pg_cron or a job of yours call it every hour.
CREATE OR REPLACE FUNCTION expiring_keys(at timestamptz DEFAULT clock_timestamp()) RETURNS TABLE (key_id text, owner text, name text, expires_at timestamptz, days integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = avouch_keys, pg_temp AS $$
#variable_conflict use_column
DECLARE
  told record;
BEGIN
  DELETE FROM verifier v WHERE v.key_id IN (SELECT x.key_id FROM verifier x JOIN api_key a USING (key_id) WHERE a.revoked_at IS NOT NULL FOR UPDATE OF x SKIP LOCKED);
  FOR told IN
    WITH due AS (
      SELECT a.key_id, min(d.days) AS days FROM api_key a
        JOIN (VALUES (30), (7), (1)) AS d(days) ON a.expires_at <= at + make_interval(days => d.days) AND a.expires_at > a.created_at + make_interval(days => d.days)
      WHERE a.revoked_at IS NULL AND a.expires_at > at AND NOT EXISTS (SELECT FROM api_key n WHERE n.replaces = a.key_id) GROUP BY a.key_id
    )
    UPDATE api_key a SET noticed = due.days FROM due WHERE a.key_id = due.key_id AND (a.noticed IS NULL OR a.noticed > due.days)
    RETURNING a.key_id, a.owner, a.name, a.expires_at, due.days
  LOOP
    PERFORM pg_notify('avouch_keys', '');
    key_id := told.key_id; owner := told.owner; name := told.name; expires_at := told.expires_at; days := told.days;
    RETURN NEXT;
  END LOOP;
END $$;

INSERT INTO entrance SELECT 'avouch_keys.' || f, 'visitor' FROM unnest(ARRAY['verify_key', 'open_key', 'authenticate', 'pre_request', 'current_user_id',
  'current_api_key', 'current_key_claims', 'current_permissions', 'has_permission']) AS f ON CONFLICT (thing) DO UPDATE SET level = excluded.level;
INSERT INTO entrance SELECT 'avouch_keys.' || f, 'user' FROM unnest(ARRAY['create_key', 'revoke_key', 'rotate_key', 'update_key', 'list_my_keys',
  'define_permission', 'define_scope', 'define_group', 'define_role', 'give_role', 'take_role', 'undefine', 'administering']) AS f ON CONFLICT (thing) DO UPDATE SET level = excluded.level;
INSERT INTO entrance SELECT 'avouch_keys.' || f, 'admin' FROM unnest(ARRAY['revoke_keys_of', 'configure', 'admit', 'rotate_pepper', 'keys_with_old_pepper',
  'drop_pepper', 'new_pepper', 'expiring_keys', 'check_log', 'admin_ticket']) AS f ON CONFLICT (thing) DO UPDATE SET level = excluded.level;

INSERT INTO head DEFAULT VALUES ON CONFLICT DO NOTHING;
INSERT INTO installation (version) VALUES (1) ON CONFLICT (only_one) DO UPDATE SET version = excluded.version;
INSERT INTO pepper SELECT 1, 'table', new_pepper(), i.id FROM installation i WHERE NOT EXISTS (SELECT FROM pepper);
RESET ROLE;

-- On Supabase, session_claims asks auth.users, as whoever installs this and may read it: a user who was deleted or banned has
-- no key that works. Another auth.users, whose owner would run what he likes as whoever installs this, is none of that.
DO $$
DECLARE
  users oid := (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'auth' AND c.relname = 'users');
  known boolean;
BEGIN
  SELECT c.relkind = 'r' AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = users AND a.attname = 'id' AND a.atttypid = 'uuid'::regtype)
    AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = users AND a.attname = 'raw_app_meta_data')
    AND NOT EXISTS (SELECT FROM pg_roles o WHERE o.oid IN (c.relowner, n.nspowner) AND NOT o.rolsuper AND o.rolname NOT IN ('supabase_auth_admin', 'supabase_admin', current_user))
  INTO known FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = users;
  IF NOT known THEN
    RAISE NOTICE 'auth.users is not Supabase''s: keys of users who are deleted there go on working, until you end them with avouch_keys.revoke_keys_of';
    RETURN;
  END IF;
  IF users IS NULL OR (SELECT prosecdef FROM pg_proc WHERE oid = to_regprocedure('avouch_keys.session_claims(text)')) OR
    (SELECT prosrc FROM pg_proc WHERE oid = to_regprocedure('avouch_keys.session_claims(text)')) <> $f$ SELECT '{}'::jsonb $f$ THEN
    RETURN;
  END IF;
  IF NOT has_schema_privilege('auth', 'USAGE') OR NOT has_table_privilege(users, 'SELECT') THEN
    RAISE WARNING 'auth.users cannot be read: keys of users who are deleted there go on working';
    RETURN;
  END IF;
  DROP FUNCTION avouch_keys.session_claims(text);
  CREATE FUNCTION avouch_keys.session_claims(user_id text) RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  DECLARE
    u jsonb;
  BEGIN
    IF user_id !~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' THEN RETURN NULL; END IF;
    SELECT to_jsonb(x) INTO u FROM auth.users x WHERE x.id = user_id::uuid;
    IF u IS NULL OR u ->> 'deleted_at' IS NOT NULL OR (u ->> 'banned_until')::timestamptz > now() THEN RETURN NULL; END IF;
    RETURN jsonb_strip_nulls(jsonb_build_object('aud', 'authenticated', 'email', u -> 'email', 'phone', u -> 'phone',
      'app_metadata', u -> 'raw_app_meta_data', 'user_metadata', u -> 'raw_user_meta_data', 'is_anonymous', u -> 'is_anonymous'));
  END $f$;
  GRANT EXECUTE ON FUNCTION avouch_keys.session_claims(text) TO avouch_keys_owner;
END $$;

-- A dump that was restored without privileges, a GRANT on everything in a schema, or default privileges of whoever installs this
-- may have opened what is not an entrance: all is taken back, from everybody, before the entrances are opened.
DO $$
DECLARE
  o record;
BEGIN
  FOR o IN
    WITH ours AS (SELECT * FROM pg_namespace WHERE nspname IN ('avouch_keys', 'keyhippo', 'keyhippo_rbac', 'keyhippo_impersonation')), thing AS (
      SELECT 'SCHEMA' AS kind, format('%I', nspname) AS name, nspowner AS owner, coalesce(nspacl, acldefault('n', nspowner)) AS acl FROM ours
      UNION ALL SELECT 'ROUTINE', p.oid::regprocedure::text, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner)) FROM pg_proc p JOIN ours n ON n.oid = p.pronamespace
      UNION ALL SELECT 'TABLE', c.oid::regclass::text, c.relowner, coalesce(c.relacl, acldefault('r', c.relowner)) FROM pg_class c JOIN ours n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'v')
    )
    SELECT DISTINCT t.kind, t.name, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS who FROM thing t, aclexplode(t.acl) a
    WHERE a.grantee NOT IN (t.owner, 'avouch_keys_owner'::regrole) AND pg_has_role(t.owner, 'USAGE')
  LOOP
    EXECUTE format('REVOKE ALL ON %s %s FROM %s CASCADE', o.kind, o.name, o.who);
  END LOOP;
END $$;
SET LOCAL ROLE avouch_keys_owner;

-- PostgREST's roles by their usual names: anon presents keys, authenticated has them too. Its requests as others, which
-- pre_request looks at too, go on as they did. Roles that come later are let in with admit().
DO $$
DECLARE
  r      record;
  others text;
BEGIN
  FOR r IN
    SELECT rolname AS role, coalesce(usual.level, 'visitor') AS level, usual.level IS NULL AS other
    FROM pg_roles p LEFT JOIN (VALUES ('anon', 'visitor'), ('authenticated', 'user'), ('service_role', 'admin')) AS usual(role, level) ON rolname = role
    WHERE NOT EXISTS (SELECT FROM admitted a WHERE a.role = rolname) AND (usual.level IS NOT NULL OR rolname NOT IN ('authenticator', 'avouch_keys_owner') AND rolname !~ '^pg_' AND NOT rolsuper
      AND EXISTS (SELECT FROM pg_roles a WHERE a.rolname = 'authenticator' AND NOT a.rolsuper AND pg_has_role(a.oid, p.oid, 'MEMBER')))
    ORDER BY rolname
  LOOP
    INSERT INTO admitted VALUES (r.role, r.level);
    PERFORM log_that('role:' || session_user, 'role.admitted', r.role, jsonb_build_object('level', r.level));
    IF r.other THEN others := concat_ws(', ', others, r.role); END IF;
  END LOOP;
  IF others IS NOT NULL THEN
    RAISE NOTICE 'authenticator may become %: they may present keys now; those who are to have keys of their own, admit as ''user''', others;
  END IF;
  FOR r IN SELECT a.role, a.level FROM admitted a JOIN pg_roles ON rolname = a.role LOOP PERFORM grant_entrances(r.role, r.level); END LOOP;
  PERFORM log_that('role:' || session_user, 'installation.installed', i.id::text, jsonb_build_object('version', i.version)) FROM installation i;
END $$;

RESET ROLE;

-- PostgREST is told, in this database, to let pre_request look at each request first.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'authenticator') THEN
    RAISE NOTICE 'there is no role authenticator: set db-pre-request of your PostgREST to avouch_keys.pre_request';
  ELSIF EXISTS (SELECT FROM pg_db_role_setting d JOIN pg_roles a ON a.oid = d.setrole, unnest(d.setconfig) AS c
    WHERE a.rolname = 'authenticator' AND d.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
      AND c LIKE 'pgrst.db_pre_request=%' AND c <> 'pgrst.db_pre_request=avouch_keys.pre_request') THEN
    RAISE NOTICE 'authenticator has a pgrst.db_pre_request already: have it call avouch_keys.pre_request()';
  ELSE
    EXECUTE format('ALTER ROLE authenticator IN DATABASE %I SET pgrst.db_pre_request = %L', current_database(), 'avouch_keys.pre_request');
    NOTIFY pgrst, 'reload config';
  END IF;
EXCEPTION WHEN insufficient_privilege THEN
  RAISE NOTICE 'you may not alter the role authenticator: set db-pre-request of your PostgREST to avouch_keys.pre_request';
END $$;

COMMIT;
