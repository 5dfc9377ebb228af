-- Halting apart from adopting, so that who may do the one need not be able to do the other.

-- Open the epoch after `seen`, in which nothing runs until somebody adopts it.
CREATE FUNCTION perdure.halt(seen integer, cause text, opener text) RETURNS integer LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT perdure.open_epoch(seen, cause, opener, NULL, NULL) $$;

REVOKE EXECUTE ON FUNCTION perdure.halt(integer, text, text) FROM PUBLIC;
