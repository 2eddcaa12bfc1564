-- Deleting an organisation takes two owners, where there are two or were lately.
-- Run as a member of avouch_owner. Forward only.
SET LOCAL lock_timeout = '5s';
SET LOCAL ROLE avouch_owner;

ALTER TABLE avouch.person ADD owner_since timestamptz, ADD owner_until timestamptz;
COMMENT ON COLUMN avouch.person.owner_since IS 'when the person became an owner; null is before anybody wrote that down';
COMMENT ON COLUMN avouch.person.owner_until IS 'when the person ceased to be an owner who can act: for some days nobody deletes the organisation alone';

RESET ROLE;
