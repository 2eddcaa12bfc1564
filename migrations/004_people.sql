-- People: who belongs to an organisation, how they sign in, what their sessions may do, and when the glass is broken.
-- Run as a member of avouch_owner. Forward only.
SET LOCAL lock_timeout = '5s';
SET LOCAL ROLE avouch_owner;

ALTER TABLE avouch.organisation
  ADD rules      jsonb NOT NULL DEFAULT '{}',
  ADD region     text NOT NULL DEFAULT '' CHECK (length(region) <= 32),
  ADD deleted_at timestamptz,
  ADD shredded_at timestamptz;
COMMENT ON COLUMN avouch.organisation.rules IS 'what holds for its people: factors, sessions, addresses, break-glass (org.Rules)';
COMMENT ON COLUMN avouch.organisation.region IS 'where its data may be sent; empty is anywhere';
COMMENT ON COLUMN avouch.organisation.deleted_at IS 'access ended then, with suspended_at; its keys are destroyed later';
COMMENT ON COLUMN avouch.organisation.shredded_at IS 'its keys are destroyed: nothing brings it back';

-- Keys that a person made end when the person leaves.
ALTER TABLE avouch.api_key ADD person uuid;
COMMENT ON COLUMN avouch.api_key.person IS 'who made the key, or the key that it came from; a successor keeps its predecessor''s';
CREATE INDEX api_key_person ON avouch.api_key (tenant_id, person) WHERE person IS NOT NULL AND revoked_at IS NULL;

CREATE TABLE avouch.person (
  tenant_id    uuid NOT NULL REFERENCES avouch.organisation,
  person_id    uuid NOT NULL,
  profile      bytea NOT NULL,
  address      text NOT NULL CHECK (length(address) = 26),
  external     text CHECK (length(external) = 26),
  managed_by   uuid,
  roles        text[] NOT NULL DEFAULT '{}',
  created_at   timestamptz NOT NULL,
  verified_at  timestamptz,
  suspended_at timestamptz,
  directory_suspended_at timestamptz,
  removed_at   timestamptz,
  version      bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (tenant_id, person_id)
);
COMMENT ON COLUMN avouch.person.profile IS 'name, e-mail address and external id, sealed by the keyring';
COMMENT ON COLUMN avouch.person.address IS 'pseudonym of the e-mail address, the same in every organisation (signin.Address)';
COMMENT ON COLUMN avouch.person.external IS 'pseudonym of the id that the organisation''s directory gave, for SCIM';
COMMENT ON COLUMN avouch.person.directory_suspended_at IS 'suspended_at, if the directory suspended the person: only then may it resume them';
COMMENT ON COLUMN avouch.person.managed_by IS 'the connection whose directory decides about the person';
CREATE UNIQUE INDEX person_address ON avouch.person (tenant_id, address) WHERE removed_at IS NULL;
CREATE INDEX person_by_address ON avouch.person (address) WHERE removed_at IS NULL;
CREATE UNIQUE INDEX person_external ON avouch.person (tenant_id, external) WHERE removed_at IS NULL;
CALL avouch.protect('avouch.person');

CREATE TABLE avouch.role (
  tenant_id    uuid NOT NULL REFERENCES avouch.organisation,
  name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
  description  text NOT NULL DEFAULT '' CHECK (length(description) <= 500),
  capabilities text[] NOT NULL CHECK (NOT '*' = ANY (capabilities)),
  created_at   timestamptz NOT NULL,
  version      bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (tenant_id, name)
);
COMMENT ON TABLE avouch.role IS 'the roles that a tenant made beside the built-in ones';
CALL avouch.protect('avouch.role');

CREATE TABLE avouch.person_group (
  tenant_id   uuid NOT NULL REFERENCES avouch.organisation,
  group_id    uuid NOT NULL,
  name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  roles       text[] NOT NULL DEFAULT '{}' CHECK (NOT 'owner' = ANY (roles)),
  external    text CHECK (length(external) <= 200),
  managed_by  uuid,
  created_at  timestamptz NOT NULL,
  version     bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (tenant_id, group_id),
  UNIQUE (tenant_id, name)
);
COMMENT ON COLUMN avouch.person_group.managed_by IS 'the connection whose directory decides who is in the group';
CALL avouch.protect('avouch.person_group');

CREATE TABLE avouch.group_member (
  tenant_id uuid NOT NULL,
  group_id  uuid NOT NULL,
  person_id uuid NOT NULL,
  PRIMARY KEY (tenant_id, group_id, person_id),
  FOREIGN KEY (tenant_id, group_id) REFERENCES avouch.person_group,
  FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person
);
CREATE INDEX group_member_person ON avouch.group_member (tenant_id, person_id);
CALL avouch.protect('avouch.group_member');

CREATE TABLE avouch.invitation (
  tenant_id     uuid NOT NULL REFERENCES avouch.organisation,
  invitation_id uuid NOT NULL,
  profile       bytea NOT NULL,
  address       text NOT NULL CHECK (length(address) = 26),
  roles         text[] NOT NULL,
  groups        uuid[] NOT NULL DEFAULT '{}',
  invited_by    text NOT NULL,
  created_at    timestamptz NOT NULL,
  sent_at       timestamptz NOT NULL,
  expires_at    timestamptz NOT NULL,
  accepted_at   timestamptz,
  revoked_at    timestamptz,
  PRIMARY KEY (tenant_id, invitation_id)
);
COMMENT ON COLUMN avouch.invitation.profile IS 'name and e-mail address, sealed by the keyring';
CREATE UNIQUE INDEX invitation_open ON avouch.invitation (tenant_id, address) WHERE accepted_at IS NULL AND revoked_at IS NULL;
CALL avouch.protect('avouch.invitation');

-- A secret that was mailed: to join, to recover, to change an address. The secret itself is nowhere.
CREATE TABLE avouch.link (
  tenant_id  uuid NOT NULL REFERENCES avouch.organisation,
  link_id    uuid NOT NULL,
  digest     bytea NOT NULL CHECK (length(digest) = 32),
  purpose    text NOT NULL CHECK (purpose IN ('join', 'recover', 'address')),
  subject    uuid NOT NULL,
  data       bytea,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  spent_at   timestamptz,
  PRIMARY KEY (tenant_id, link_id)
);
COMMENT ON COLUMN avouch.link.digest IS 'SHA-256 of the secret, which is derived from link_id by a key of the organisation';
COMMENT ON COLUMN avouch.link.subject IS 'the invitation or the person';
CREATE INDEX link_digest ON avouch.link (digest);
CREATE INDEX link_subject ON avouch.link (tenant_id, subject);
CALL avouch.protect('avouch.link');

-- A change of the rules that lowers what protects everybody: it waits, and every owner is told.
CREATE TABLE avouch.pending_change (
  tenant_id    uuid NOT NULL REFERENCES avouch.organisation,
  change_id    uuid NOT NULL,
  body         jsonb NOT NULL,
  asked_by     text NOT NULL,
  asked_at     timestamptz NOT NULL,
  due_at       timestamptz NOT NULL,
  ended_at     timestamptz,
  outcome      text CHECK (outcome IN ('applied', 'cancelled')),
  PRIMARY KEY (tenant_id, change_id)
);
CALL avouch.protect('avouch.pending_change');

-- What ended when a person left: the report of an offboarding.
CREATE TABLE avouch.offboarding (
  tenant_id  uuid NOT NULL,
  person_id  uuid NOT NULL,
  removed_by text NOT NULL,
  removed_at timestamptz NOT NULL,
  request_id uuid NOT NULL,
  ended      jsonb NOT NULL,
  PRIMARY KEY (tenant_id, person_id),
  FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person
);
COMMENT ON COLUMN avouch.offboarding.ended IS 'how many sessions, keys, groups, factors ... ended, by name';
CALL avouch.protect('avouch.offboarding');

CREATE TABLE avouch.password (
  tenant_id  uuid NOT NULL,
  person_id  uuid NOT NULL,
  hash       bytea NOT NULL,
  changed_at timestamptz NOT NULL,
  version    bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (tenant_id, person_id),
  FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person
);
COMMENT ON COLUMN avouch.password.hash IS 'PHC string, sealed by the keyring';
CALL avouch.protect('avouch.password');

CREATE TABLE avouch.factor (
  tenant_id    uuid NOT NULL,
  factor_id    uuid NOT NULL,
  person_id    uuid NOT NULL,
  kind         text NOT NULL CHECK (kind IN ('totp', 'email', 'sms', 'passkey')),
  secret       bytea NOT NULL,
  credential   bytea CHECK (length(credential) = 32),
  hardware     boolean NOT NULL DEFAULT false,
  counter      bigint NOT NULL DEFAULT 0,
  created_at   timestamptz NOT NULL,
  confirmed_at timestamptz,
  used_at      timestamptz,
  version      bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (tenant_id, factor_id),
  FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person
);
COMMENT ON COLUMN avouch.factor.secret IS 'name, and what the kind needs: seed, number, passkey; sealed by the keyring';
COMMENT ON COLUMN avouch.factor.credential IS 'SHA-256 of a passkey''s credential id: whoever signs in without a name is found by it';
COMMENT ON COLUMN avouch.factor.counter IS 'the last TOTP step that was accepted, or a passkey''s sign count';
CREATE INDEX factor_person ON avouch.factor (tenant_id, person_id);
CREATE INDEX factor_credential ON avouch.factor (credential) WHERE credential IS NOT NULL;
CALL avouch.protect('avouch.factor');

CREATE TABLE avouch.recovery_code (
  tenant_id uuid NOT NULL,
  person_id uuid NOT NULL,
  digest    bytea NOT NULL CHECK (length(digest) = 32),
  used_at   timestamptz,
  PRIMARY KEY (tenant_id, person_id, digest),
  FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person
);
CALL avouch.protect('avouch.recovery_code');

-- A sign-in, or a fresh proof within a session, that is under way: what was proved so far, and what was asked.
CREATE TABLE avouch.attempt (
  tenant_id  uuid NOT NULL,
  digest     bytea NOT NULL CHECK (length(digest) = 32),
  person_id  uuid,
  session_id uuid,
  purpose    text NOT NULL CHECK (length(purpose) <= 32),
  proofs     text[] NOT NULL DEFAULT '{}',
  state      bytea,
  tries      integer NOT NULL DEFAULT 0,
  sends      integer NOT NULL DEFAULT 0,
  sent_at    timestamptz,
  via        uuid,
  until      timestamptz,
  proved_at  timestamptz,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, digest),
  FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person
);
COMMENT ON COLUMN avouch.attempt.state IS 'the challenge or the digest of the code that was sent, sealed by the keyring';
COMMENT ON COLUMN avouch.attempt.via IS 'the connection that proved the person';
COMMENT ON COLUMN avouch.attempt.until IS 'when the provider''s own session ends';
CREATE INDEX attempt_person ON avouch.attempt (tenant_id, person_id);
CREATE INDEX attempt_digest ON avouch.attempt (digest);
CALL avouch.protect('avouch.attempt', audited => false);

CREATE TABLE avouch.session (
  tenant_id     uuid NOT NULL,
  session_id    uuid NOT NULL,
  person_id     uuid NOT NULL,
  kind          text NOT NULL CHECK (kind IN ('browser', 'program')),
  digest        bytea NOT NULL CHECK (length(digest) = 32),
  generation    integer NOT NULL DEFAULT 1,
  rotated_at    timestamptz,
  client        bytea,
  description   bytea NOT NULL,
  methods       text[] NOT NULL,
  via           uuid,
  created_at    timestamptz NOT NULL,
  proved_at     timestamptz NOT NULL,
  held          text[] NOT NULL,
  expires_at    timestamptz NOT NULL,
  idle_seconds  integer NOT NULL CHECK (idle_seconds > 0),
  ended_at      timestamptz,
  ended_why     text,
  mac           bytea NOT NULL CHECK (length(mac) = 32),
  PRIMARY KEY (tenant_id, session_id),
  FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person
);
COMMENT ON COLUMN avouch.session.digest IS 'SHA-256 of the cookie or of the present refresh token';
COMMENT ON COLUMN avouch.session.generation IS 'counts the refresh tokens of the family';
COMMENT ON COLUMN avouch.session.client IS 'what a refresh token is bound to, hashed';
COMMENT ON COLUMN avouch.session.description IS 'device name, program and address, sealed by the keyring';
COMMENT ON COLUMN avouch.session.mac IS 'over whose it is, and what was proved, by a key that is not in the database: a row that was only written here is no session';
COMMENT ON COLUMN avouch.session.held IS 'what the person could do then: a session gains nothing without a proof, which rotates it';
COMMENT ON COLUMN avouch.session.methods IS 'how the person was proved';
COMMENT ON COLUMN avouch.session.proved_at IS 'when a factor was proved last: dangerous acts want that to be recent';
CREATE INDEX session_person ON avouch.session (tenant_id, person_id);
CREATE INDEX session_digest ON avouch.session (digest);
CREATE INDEX session_id ON avouch.session (session_id);
CALL avouch.protect('avouch.session');

CREATE TABLE avouch.session_use (
  tenant_id  uuid NOT NULL,
  session_id uuid NOT NULL,
  seen_at    timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, session_id),
  FOREIGN KEY (tenant_id, session_id) REFERENCES avouch.session
) WITH (fillfactor = 50);
CALL avouch.protect('avouch.session_use', audited => false);

-- Devices from which somebody signed in before: a flood of guesses does not keep those out.
CREATE TABLE avouch.device (
  tenant_id  uuid NOT NULL,
  person_id  uuid NOT NULL,
  digest     bytea NOT NULL CHECK (length(digest) = 32),
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, person_id, digest),
  FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person
);
CALL avouch.protect('avouch.device', audited => false);

-- Values that count once, on all servers: assertion ids, challenges, codes.
CREATE TABLE avouch.spent (
  tenant_id  uuid NOT NULL REFERENCES avouch.organisation,
  kind       text NOT NULL CHECK (length(kind) <= 32),
  value      bytea NOT NULL CHECK (length(value) = 32),
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, kind, value)
);
CALL avouch.protect('avouch.spent', audited => false);

CREATE TABLE avouch.connection (
  tenant_id     uuid NOT NULL REFERENCES avouch.organisation,
  connection_id uuid NOT NULL,
  kind          text NOT NULL CHECK (kind IN ('oidc', 'saml')),
  name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  config        bytea NOT NULL,
  enabled       boolean NOT NULL DEFAULT false,
  configured_by text NOT NULL,
  created_at    timestamptz NOT NULL,
  version       bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (tenant_id, connection_id)
);
COMMENT ON COLUMN avouch.connection.config IS 'the provider''s addresses, keys and rules of admission, sealed by the keyring';
CREATE INDEX connection_by_id ON avouch.connection (connection_id);
CALL avouch.protect('avouch.connection');

CREATE TABLE avouch.domain (
  tenant_id     uuid NOT NULL REFERENCES avouch.organisation,
  domain        text NOT NULL CHECK (length(domain) BETWEEN 3 AND 253),
  token         text NOT NULL,
  connection_id uuid,
  required      boolean NOT NULL DEFAULT false,
  created_at    timestamptz NOT NULL,
  proved_at     timestamptz,
  checked_at    timestamptz,
  lapsed_at     timestamptz,
  PRIMARY KEY (tenant_id, domain),
  FOREIGN KEY (tenant_id, connection_id) REFERENCES avouch.connection
);
COMMENT ON COLUMN avouch.domain.required IS 'people of the domain sign in by the connection alone';
COMMENT ON COLUMN avouch.domain.lapsed_at IS 'since when the record that proved it was not found any more';
CREATE INDEX domain_proved ON avouch.domain (domain, proved_at) WHERE proved_at IS NOT NULL;
CALL avouch.protect('avouch.domain');

CREATE TABLE avouch.identity (
  tenant_id     uuid NOT NULL,
  connection_id uuid NOT NULL,
  subject       text NOT NULL CHECK (length(subject) = 26),
  person_id     uuid NOT NULL,
  created_at    timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, connection_id, subject),
  FOREIGN KEY (tenant_id, connection_id) REFERENCES avouch.connection,
  FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person
);
COMMENT ON COLUMN avouch.identity.subject IS 'pseudonym of the provider''s name for the person';
CREATE INDEX identity_person ON avouch.identity (tenant_id, person_id);
CALL avouch.protect('avouch.identity');

-- A breaking of the glass: by a person of the tenant, to whom capabilities are lent for a while, or by an operator of the
-- installation, who has a shell. Whoever opens it is never who lets them, nor who looks at it afterwards.
CREATE TABLE avouch.break_glass (
  tenant_id    uuid NOT NULL REFERENCES avouch.organisation,
  use_id       uuid NOT NULL,
  person_id    uuid,
  operator     text CHECK (operator ~ '^[a-z0-9][a-z0-9._-]{0,31}$'),
  capabilities text[] NOT NULL CHECK ('*' <> ALL (capabilities)),
  reason       bytea NOT NULL,
  life_seconds integer NOT NULL CHECK (life_seconds > 0),
  approval     text NOT NULL CHECK (approval IN ('person', 'delay', 'external', 'operator')),
  asked_at     timestamptz NOT NULL,
  due_at       timestamptz NOT NULL,
  decided_by   text,
  decided_at   timestamptz,
  opened_at    timestamptz,
  expires_at   timestamptz,
  closed_at    timestamptz,
  outcome      text CHECK (outcome IN ('refused', 'lapsed', 'ended', 'expired')),
  reviewed_by  text,
  reviewed_at  timestamptz,
  remark       bytea,
  version      bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (tenant_id, use_id),
  FOREIGN KEY (tenant_id, person_id) REFERENCES avouch.person,
  CHECK ((person_id IS NULL) <> (operator IS NULL) AND (operator IS NULL) = (approval <> 'operator')),
  CHECK (decided_by <> person_id::text AND reviewed_by <> person_id::text),
  CHECK ((opened_at IS NULL) = (expires_at IS NULL) AND (closed_at IS NULL) = (outcome IS NULL)),
  CHECK (reviewed_at IS NULL OR opened_at IS NOT NULL AND closed_at IS NOT NULL AND reviewed_by IS NOT NULL)
);
COMMENT ON COLUMN avouch.break_glass.reason IS 'sealed by the keyring, under the person''s key';
COMMENT ON COLUMN avouch.break_glass.remark IS 'what the review says, sealed like the reason';
COMMENT ON COLUMN avouch.break_glass.due_at IS 'what waits opens then by itself if approval is delay, and lapses else';
CREATE INDEX break_glass_live ON avouch.break_glass (tenant_id, person_id) WHERE closed_at IS NULL;
CREATE INDEX break_glass_asked ON avouch.break_glass (tenant_id, asked_at DESC);
CREATE INDEX break_glass_opened ON avouch.break_glass (tenant_id, opened_at) WHERE opened_at IS NOT NULL;
CREATE INDEX break_glass_by_id ON avouch.break_glass (use_id);
CALL avouch.protect('avouch.break_glass');

CREATE TABLE avouch.glass_hook (
  tenant_id uuid PRIMARY KEY REFERENCES avouch.organisation,
  secret    bytea NOT NULL,
  set_by    text NOT NULL,
  set_at    timestamptz NOT NULL
);
COMMENT ON COLUMN avouch.glass_hook.secret IS 'what the external approval system and Avouch sign with, sealed by the keyring';
CALL avouch.protect('avouch.glass_hook');

CREATE TABLE avouch.glass_review (
  tenant_id  uuid NOT NULL REFERENCES avouch.organisation,
  week       date NOT NULL,
  uses       integer NOT NULL,
  text       bytea NOT NULL,
  signed_by  text NOT NULL,
  signed_at  timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, week)
);
COMMENT ON TABLE avouch.glass_review IS 'weekly lists of what was opened, each signed off by a person; week is its Monday';
CALL avouch.protect('avouch.glass_review');

GRANT SELECT, INSERT, UPDATE ON avouch.person, avouch.invitation, avouch.link, avouch.pending_change, avouch.break_glass, avouch.glass_hook TO avouch_server;
GRANT SELECT, INSERT ON avouch.glass_review, avouch.offboarding TO avouch_server;
GRANT SELECT, INSERT, DELETE ON avouch.group_member, avouch.spent, avouch.identity TO avouch_server;
GRANT SELECT, INSERT, UPDATE, DELETE ON avouch.role, avouch.person_group, avouch.password, avouch.factor, avouch.recovery_code,
  avouch.attempt, avouch.session, avouch.session_use, avouch.device, avouch.connection, avouch.domain TO avouch_server;

-- Look-ups before the tenant is known (docs/threat-model.md).
GRANT SELECT (tenant_id, person_id, address, removed_at) ON avouch.person TO avouch_lookup;
GRANT SELECT (deleted_at) ON avouch.organisation TO avouch_lookup;
GRANT SELECT (tenant_id, digest, purpose) ON avouch.link TO avouch_lookup;
GRANT SELECT (tenant_id, digest) ON avouch.attempt TO avouch_lookup;
GRANT SELECT (tenant_id, session_id, person_id, digest, created_at) ON avouch.session TO avouch_lookup;
GRANT SELECT (tenant_id, factor_id, person_id, credential) ON avouch.factor TO avouch_lookup;
GRANT SELECT (tenant_id, connection_id) ON avouch.connection TO avouch_lookup;
GRANT SELECT (tenant_id, domain, connection_id, required, proved_at) ON avouch.domain TO avouch_lookup;
GRANT SELECT (tenant_id, use_id) ON avouch.break_glass TO avouch_lookup;
DO $$
DECLARE
  t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['person', 'link', 'attempt', 'session', 'factor', 'connection', 'domain', 'break_glass'] LOOP
    EXECUTE format('CREATE POLICY lookup ON avouch.%I FOR SELECT TO avouch_lookup USING (current_user = ''avouch_lookup'')', t);
  END LOOP;
END $$;
-- The accounts of an e-mail address, that which was signed in to last before the others. Those of organisations that are deleted
-- are nobody's: their keys may be destroyed, and must be in nobody's way.
CREATE FUNCTION avouch.lookup_people(wanted text, most integer, OUT tenant_id uuid, OUT person_id uuid)
  RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'SELECT p.tenant_id, p.person_id FROM avouch.person p JOIN avouch.organisation o ON o.tenant_id = p.tenant_id
    WHERE p.address = wanted AND p.removed_at IS NULL AND o.deleted_at IS NULL
    ORDER BY (SELECT max(s.created_at) FROM avouch.session s WHERE s.tenant_id = p.tenant_id AND s.person_id = p.person_id) DESC NULLS LAST, p.person_id DESC LIMIT most';
CREATE FUNCTION avouch.lookup_link(wanted bytea, for_what text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'SELECT l.tenant_id FROM avouch.link l WHERE l.digest = wanted AND l.purpose = for_what';
CREATE FUNCTION avouch.lookup_attempt(wanted bytea) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'SELECT a.tenant_id FROM avouch.attempt a WHERE a.digest = wanted';
CREATE FUNCTION avouch.lookup_session(wanted bytea, OUT tenant_id uuid, OUT session_id uuid)
  RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'SELECT s.tenant_id, s.session_id FROM avouch.session s WHERE s.digest = wanted';
CREATE FUNCTION avouch.lookup_session_id(wanted uuid) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'SELECT s.tenant_id FROM avouch.session s WHERE s.session_id = wanted';
CREATE FUNCTION avouch.lookup_passkey(wanted bytea, OUT tenant_id uuid, OUT person_id uuid, OUT factor_id uuid)
  RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'SELECT f.tenant_id, f.person_id, f.factor_id FROM avouch.factor f WHERE f.credential = wanted';
CREATE FUNCTION avouch.lookup_connection(wanted uuid) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'SELECT c.tenant_id FROM avouch.connection c WHERE c.connection_id = wanted';
-- Whoever proved a domain first has it, until their organisation is deleted.
CREATE FUNCTION avouch.lookup_domain(wanted text, OUT tenant_id uuid, OUT connection_id uuid, OUT required boolean)
  RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'SELECT d.tenant_id, d.connection_id, d.required FROM avouch.domain d JOIN avouch.organisation o ON o.tenant_id = d.tenant_id
    WHERE d.domain = wanted AND d.proved_at IS NOT NULL AND o.deleted_at IS NULL ORDER BY d.proved_at, d.tenant_id LIMIT 1';
CREATE FUNCTION avouch.lookup_break_glass(wanted uuid) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'SELECT b.tenant_id FROM avouch.break_glass b WHERE b.use_id = wanted';

RESET ROLE;
DO $$
DECLARE
  f text;
BEGIN
  FOREACH f IN ARRAY ARRAY['lookup_people(text, integer)', 'lookup_link(bytea, text)', 'lookup_attempt(bytea)', 'lookup_session(bytea)', 'lookup_session_id(uuid)',
    'lookup_passkey(bytea)', 'lookup_connection(uuid)', 'lookup_domain(text)', 'lookup_break_glass(uuid)'] LOOP
    EXECUTE format('ALTER FUNCTION avouch.%s OWNER TO avouch_lookup', f);
    EXECUTE format('REVOKE EXECUTE ON FUNCTION avouch.%s FROM PUBLIC', f);
    EXECUTE format('GRANT EXECUTE ON FUNCTION avouch.%s TO avouch_server', f);
  END LOOP;
END $$;
