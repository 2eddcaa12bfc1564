-- Rotation of organisations' own keys: how far each is, so that whoever goes on with one knows.
SET LOCAL lock_timeout = '5s';
SET LOCAL ROLE avouch_owner;

CREATE TABLE avouch.key_rotation (
  tenant_id    uuid NOT NULL REFERENCES avouch.organisation,
  rotation_id  uuid NOT NULL,
  wrap         integer NOT NULL CHECK (wrap > 1),
  subjects     integer NOT NULL CHECK (subjects > 1),
  asked_by     text NOT NULL,
  begun_at     timestamptz NOT NULL,
  made_at      timestamptz,
  pass_at      timestamptz,
  place        text NOT NULL DEFAULT '',
  after        text[] NOT NULL DEFAULT '{}',
  found        bigint NOT NULL DEFAULT 0,
  failed       bigint NOT NULL DEFAULT 0,
  rows         bigint NOT NULL DEFAULT 0,
  keys         bigint NOT NULL DEFAULT 0,
  clean_at     timestamptz,
  looked_at    timestamptz,
  due_at       timestamptz NOT NULL,
  ending_at    timestamptz,
  finished_at  timestamptz,
  worker       uuid,
  leased_until timestamptz,
  PRIMARY KEY (tenant_id, rotation_id),
  CHECK ((worker IS NULL) = (leased_until IS NULL) AND (finished_at IS NULL OR worker IS NULL))
);
COMMENT ON COLUMN avouch.key_rotation.wrap IS 'the version of the key that it makes; with subjects, it ends the versions before them';
COMMENT ON COLUMN avouch.key_rotation.pass_at IS 'when the pass under way, or the last, began; place and after say how far it is, found what it found under older versions';
COMMENT ON COLUMN avouch.key_rotation.clean_at IS 'since when nothing is under an older version, as far as the last look of looked_at knows';
COMMENT ON COLUMN avouch.key_rotation.ending_at IS 'since when the older versions are being destroyed';
CREATE INDEX key_rotation_open ON avouch.key_rotation (tenant_id) WHERE finished_at IS NULL;
CALL avouch.protect('avouch.key_rotation', audited => false);
GRANT SELECT, INSERT, UPDATE, DELETE ON avouch.key_rotation TO avouch_server;
RESET ROLE;
