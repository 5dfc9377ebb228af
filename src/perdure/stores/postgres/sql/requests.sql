-- Answers of the HTTP API by the keys that its callers gave.

-- name: take(actor, key, digest, stale_ms)
-- Begin a request under a key; one that was begun long ago and never answered is begun again. No row: the key is in use.
INSERT INTO perdure.request_keys AS k (actor, key, digest) VALUES (:actor, :key, :digest)
ON CONFLICT (actor, key) DO UPDATE SET at = now()
WHERE k.status IS NULL AND k.digest = excluded.digest AND k.at < now() - :stale_ms::bigint * interval '1 millisecond'
RETURNING k.key;

-- name: answer_of(actor, key)
-- What became of the request under a key.
SELECT k.digest, k.status, k.answer FROM perdure.request_keys k WHERE k.actor = :actor AND k.key = :key;

-- name: answer(actor, key, status, body)
-- Keep the answer of a request.
UPDATE perdure.request_keys SET status = :status::smallint, answer = :body::bytea WHERE actor = :actor AND key = :key;

-- name: let_go(actor, key)
-- Forget a request that failed before it did anything, so that it can be repeated.
DELETE FROM perdure.request_keys WHERE actor = :actor AND key = :key AND status IS NULL;

-- name: sweep_answers(older_ms, most)
-- Forget old answers, a bounded number at a time.
DELETE FROM perdure.request_keys k
WHERE (k.actor, k.key) IN (
    SELECT o.actor, o.key FROM perdure.request_keys o WHERE o.at < now() - :older_ms::bigint * interval '1 millisecond' ORDER BY o.at LIMIT :most
);
