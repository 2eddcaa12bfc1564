-- Who registered an agent, and who issued each of its tokens: nobody is a second person for an agent that they can be.
-- Run as a member of avouch_owner. Forward only.
SET LOCAL lock_timeout = '5s';
SET LOCAL ROLE avouch_owner;

ALTER TABLE avouch.agent ADD registered_by text;
COMMENT ON COLUMN avouch.agent.registered_by IS 'kind and id of who registered it; null is before anybody wrote that down';
ALTER TABLE avouch.agent_token ADD issued_by text;
COMMENT ON COLUMN avouch.agent_token.issued_by IS 'kind and id of who issued it; null is before anybody wrote that down, and may have been anybody';

RESET ROLE;
