-- Claims are a statement again, which processes of before bring along.
DROP FUNCTION perdure.claim(integer[], smallint[], bigint[], bigint, integer, integer, uuid, integer, boolean, integer, bytea);
DROP FUNCTION perdure.take_turn();
