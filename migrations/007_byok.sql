-- Organisations whose keys are under a key management of their own.
-- Run as a member of avouch_owner. Forward only.
SET LOCAL lock_timeout = '5s';
SET LOCAL ROLE avouch_owner;

CREATE TABLE avouch.own_kms (
  tenant_id  uuid NOT NULL REFERENCES avouch.organisation,
  setting_id uuid NOT NULL,
  kind       text NOT NULL CHECK (length(kind) BETWEEN 1 AND 32),
  key_id     text NOT NULL CHECK (length(key_id) BETWEEN 1 AND 255),
  settings   bytea NOT NULL,
  state      text NOT NULL CHECK (state IN ('begun', 'current', 'leaving')),
  set_by     text NOT NULL,
  set_at     timestamptz NOT NULL,
  version    bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (tenant_id, setting_id)
);
COMMENT ON TABLE avouch.own_kms IS 'how an organisation''s own key management is reached; the own file of the key store names the row';
COMMENT ON COLUMN avouch.own_kms.settings IS 'sealed under the keys of the installation''s own organisation, since it is read while this one''s are closed';
COMMENT ON COLUMN avouch.own_kms.state IS 'begun: keys are on their way there; leaving: on their way back to the platform';
CALL avouch.protect('avouch.own_kms');

GRANT SELECT, INSERT, UPDATE, DELETE ON avouch.own_kms TO avouch_server;

RESET ROLE;
