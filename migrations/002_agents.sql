-- Keys of owners and services, agents and their tokens, scopes, signing keys.
SET LOCAL lock_timeout = '5s';
SET LOCAL ROLE avouch_owner;

CREATE TABLE avouch.signing_key (
  tenant_id   uuid NOT NULL REFERENCES avouch.organisation,
  kid         text NOT NULL CHECK (length(kid) BETWEEN 1 AND 64),
  algorithm   text NOT NULL,
  use         text NOT NULL,
  public_key  bytea NOT NULL,
  private_key bytea,
  created_at  timestamptz NOT NULL,
  signs_from  timestamptz NOT NULL,
  retires_at  timestamptz,
  revoked_at  timestamptz,
  PRIMARY KEY (tenant_id, kid)
);
COMMENT ON COLUMN avouch.signing_key.public_key IS 'PKIX, DER';
COMMENT ON COLUMN avouch.signing_key.private_key IS 'PKCS #8 sealed under the platform key; NULL once destroyed';
CALL avouch.protect('avouch.signing_key');

CREATE TABLE avouch.scope (
  tenant_id   uuid NOT NULL REFERENCES avouch.organisation,
  name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
  risk        text NOT NULL CHECK (risk IN ('low', 'medium', 'high')),
  description text NOT NULL CHECK (length(description) <= 500),
  created_at  timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, name)
);
COMMENT ON TABLE avouch.scope IS 'the scopes that a tenant added to the catalogue';
CALL avouch.protect('avouch.scope');

CREATE TABLE avouch.api_key (
  tenant_id     uuid NOT NULL REFERENCES avouch.organisation,
  key_id        text NOT NULL CHECK (length(key_id) = 11),
  kind          text NOT NULL CHECK (kind IN ('owner', 'service')),
  live          boolean NOT NULL,
  name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  hint          text NOT NULL,
  scopes        text[] NOT NULL,
  resources     text[] NOT NULL DEFAULT '{}',
  owners        uuid[] NOT NULL DEFAULT '{}',
  metadata      jsonb NOT NULL DEFAULT '{}',
  monthly_quota bigint CHECK (monthly_quota >= 0),
  created_at    timestamptz NOT NULL,
  expires_at    timestamptz,
  disabled_at   timestamptz,
  revoked_at    timestamptz,
  version       bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (tenant_id, key_id)
);
COMMENT ON COLUMN avouch.api_key.resources IS 'what the key may ask about; empty is anything';
COMMENT ON COLUMN avouch.api_key.owners IS 'whose agents the key may verify, by tenant; empty is anybody''s';
CALL avouch.protect('avouch.api_key');
CREATE INDEX api_key_newest ON avouch.api_key (tenant_id, created_at DESC, key_id);

CREATE TABLE avouch.api_key_verifier (
  tenant_id        uuid NOT NULL,
  key_id           text NOT NULL,
  digest           bytea NOT NULL CHECK (length(digest) = 32),
  issued_at_ns     bigint NOT NULL,
  tenant_version   integer NOT NULL,
  platform_version integer NOT NULL,
  PRIMARY KEY (tenant_id, key_id),
  FOREIGN KEY (tenant_id, key_id) REFERENCES avouch.api_key
);
COMMENT ON TABLE avouch.api_key_verifier IS 'written by the server, read by nobody but lookup_key';
CREATE INDEX api_key_verifier_key ON avouch.api_key_verifier (key_id);
CALL avouch.protect('avouch.api_key_verifier');

CREATE TABLE avouch.agent (
  tenant_id    uuid NOT NULL REFERENCES avouch.organisation,
  agent_id     uuid NOT NULL,
  name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  description  text NOT NULL DEFAULT '' CHECK (length(description) <= 2000),
  scopes       text[] NOT NULL,
  visibility   text NOT NULL DEFAULT 'all' CHECK (visibility IN ('all', 'listed', 'none')),
  visible_to   uuid[] NOT NULL DEFAULT '{}',
  created_at   timestamptz NOT NULL,
  suspended_at timestamptz,
  revoked_at   timestamptz,
  generation   bigint NOT NULL DEFAULT 1,
  version      bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (tenant_id, agent_id)
);
COMMENT ON COLUMN avouch.agent.visible_to IS 'the tenants that may verify the agent when visibility is listed';
COMMENT ON COLUMN avouch.agent.generation IS 'tokens of earlier generations are revoked';
CALL avouch.protect('avouch.agent');
CREATE INDEX agent_by_id ON avouch.agent (agent_id);

CREATE TABLE avouch.agent_key (
  tenant_id  uuid NOT NULL,
  agent_id   uuid NOT NULL,
  kid        text NOT NULL CHECK (length(kid) BETWEEN 1 AND 64),
  use        text NOT NULL CHECK (length(use) BETWEEN 1 AND 32),
  algorithm  text NOT NULL,
  public_key bytea NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, agent_id, kid),
  FOREIGN KEY (tenant_id, agent_id) REFERENCES avouch.agent
);
CALL avouch.protect('avouch.agent_key');

CREATE TABLE avouch.agent_token (
  tenant_id  uuid NOT NULL,
  jti        uuid NOT NULL,
  agent_id   uuid NOT NULL,
  generation bigint NOT NULL,
  issued_at  timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  resources  text[] NOT NULL DEFAULT '{}',
  max_uses   bigint CHECK (max_uses > 0),
  revoked_at timestamptz,
  PRIMARY KEY (tenant_id, jti),
  FOREIGN KEY (tenant_id, agent_id) REFERENCES avouch.agent
);
CALL avouch.protect('avouch.agent_token');
CREATE INDEX agent_token_live ON avouch.agent_token (tenant_id, agent_id, expires_at) WHERE revoked_at IS NULL;
CREATE INDEX agent_token_revoked ON avouch.agent_token (tenant_id, agent_id, expires_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX agent_token_newest ON avouch.agent_token (tenant_id, agent_id, jti);

GRANT SELECT, INSERT, UPDATE ON avouch.signing_key, avouch.scope, avouch.api_key, avouch.agent TO avouch_server;
GRANT SELECT, INSERT, UPDATE, DELETE ON avouch.agent_key, avouch.agent_token TO avouch_server;
GRANT DELETE ON avouch.counter TO avouch_server;
GRANT INSERT ON avouch.api_key_verifier TO avouch_server;
GRANT UPDATE (digest, tenant_version, platform_version) ON avouch.api_key_verifier TO avouch_server;
GRANT SELECT (tenant_id, key_id) ON avouch.api_key_verifier TO avouch_server;

GRANT SELECT ON avouch.api_key_verifier TO avouch_lookup;
CREATE POLICY lookup ON avouch.api_key_verifier FOR SELECT TO avouch_lookup USING (current_user = 'avouch_lookup');
CREATE FUNCTION avouch.lookup_key(wanted text, OUT tenant_id uuid, OUT digest bytea, OUT issued_at_ns bigint, OUT tenant_version integer, OUT platform_version integer)
  RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'SELECT v.tenant_id, v.digest, v.issued_at_ns, v.tenant_version, v.platform_version FROM avouch.api_key_verifier v WHERE v.key_id = wanted';

GRANT SELECT (tenant_id, agent_id) ON avouch.agent TO avouch_lookup;
CREATE POLICY lookup ON avouch.agent FOR SELECT TO avouch_lookup USING (current_user = 'avouch_lookup');
CREATE FUNCTION avouch.lookup_agent(wanted uuid) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'SELECT a.tenant_id FROM avouch.agent a WHERE a.agent_id = wanted';

RESET ROLE;
ALTER FUNCTION avouch.lookup_key(text) OWNER TO avouch_lookup;
ALTER FUNCTION avouch.lookup_agent(uuid) OWNER TO avouch_lookup;
REVOKE EXECUTE ON FUNCTION avouch.lookup_key(text), avouch.lookup_agent(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION avouch.lookup_key(text), avouch.lookup_agent(uuid) TO avouch_server;
