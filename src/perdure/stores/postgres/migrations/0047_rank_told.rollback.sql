DROP PROCEDURE perdure.enqueue_and_ring(uuid, jsonb, integer, smallint, smallint, integer, smallint, bigint, smallint, text, text);
