-- Arguments that are no object are refused where they come in, by their first character, and no longer by a domain, which is prepared anew for
-- each statement and asked for each row that is copied (docs/decisions/0035-a-ring-apart.md). No row is written anew.
ALTER TABLE perdure.jobs ALTER args TYPE jsonb;
DROP DOMAIN perdure.arguments;
