-- Time-outs and retry delays that follow the advice on their kind.

-- name: wish(kinds, timeouts_least_ms, timeouts_most_ms, retries_most_ms)
-- Write down what kinds follow. Who wishes the same as before changes nothing within an hour.
INSERT INTO perdure.followed_advice AS f (kind, timeout_least_ms, timeout_most_ms, retry_most_ms)
SELECT w.* FROM unnest(:kinds::text[], :timeouts_least_ms::bigint[], :timeouts_most_ms::bigint[], :retries_most_ms::bigint[]) AS w
ORDER BY 1
ON CONFLICT (kind) DO UPDATE SET timeout_least_ms = excluded.timeout_least_ms, timeout_most_ms = excluded.timeout_most_ms,
    retry_most_ms = excluded.retry_most_ms, wished_at = now()
WHERE f.wished_at < now() - interval '1 hour'
    OR (f.timeout_least_ms, f.timeout_most_ms, f.retry_most_ms) IS DISTINCT FROM
        (excluded.timeout_least_ms, excluded.timeout_most_ms, excluded.retry_most_ms);

-- name: in_force(kinds)
-- What kinds go by, those only that have anything of their own changed.
SELECT f.kind, f.timeout_ms, f.retry_ms FROM perdure.followed_advice f
WHERE f.kind = ANY (:kinds::text[]) AND (f.timeout_ms IS NOT NULL OR f.retry_ms IS NOT NULL);

-- name: due(every_ms, forgotten_ms)
-- The kind that was looked at longest ago, if that is long enough, and whose workers are not gone for good.
SELECT f.*, extract(epoch FROM now() - f.changed_at)::float8 AS stood_s FROM perdure.followed_advice f
WHERE (f.looked_at IS NULL OR f.looked_at < now() - :every_ms::bigint * interval '1 millisecond')
    AND f.wished_at >= now() - :forgotten_ms::bigint * interval '1 millisecond'
ORDER BY f.looked_at NULLS FIRST LIMIT 1;

-- name: looked(kind)
-- Remember that a kind was looked at.
UPDATE perdure.followed_advice SET looked_at = now() WHERE kind = :kind RETURNING kind;

-- name: change(kind, timeout_ms, retry_ms, ran_out, ran_out_of, why, was_timeout_ms, was_retry_ms, actor)
-- Put other values in force and record it, unless somebody else has changed them meanwhile.
WITH changed AS (
    UPDATE perdure.followed_advice f SET timeout_ms = :timeout_ms, retry_ms = :retry_ms, ran_out = :ran_out, ran_out_of = :ran_out_of,
        why = :why, changed_at = now(), looked_at = now()
    WHERE f.kind = :kind AND f.timeout_ms IS NOT DISTINCT FROM :was_timeout_ms::bigint AND f.retry_ms IS NOT DISTINCT FROM :was_retry_ms::bigint
    RETURNING f.kind, f.timeout_ms, f.retry_ms, f.why
)
INSERT INTO perdure.job_events (event, actor, reason, detail)
SELECT 'advice_followed', :actor::text, c.why, jsonb_build_object('kind', c.kind, 'timeout_ms', jsonb_build_array(:was_timeout_ms, c.timeout_ms),
    'retry_ms', jsonb_build_array(:was_retry_ms, c.retry_ms))
FROM changed c
RETURNING at;

-- name: of_kind(kind)
-- What a kind follows and goes by.
SELECT f.*, extract(epoch FROM now() - f.changed_at)::float8 AS stood_s FROM perdure.followed_advice f WHERE f.kind = :kind;
