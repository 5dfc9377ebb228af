-- A lone job is stored and announced by two statements that its producer sends at once, each in a transaction of its own: what became of
-- the first is told before the second runs (docs/decisions/0035-a-ring-apart.md). So nothing has to commit in the middle any more.
DROP PROCEDURE perdure.enqueue_and_ring(uuid, jsonb, integer, smallint, smallint, integer, smallint, text, bigint);
DROP PROCEDURE perdure.enqueue_and_ring(uuid, jsonb, integer, smallint, smallint, integer, smallint, text, text, bigint);
DROP PROCEDURE perdure.enqueue_and_ring(uuid, jsonb, integer, smallint, smallint, integer, smallint, bigint, smallint, text, text);
