-- Trained models, their posts, and the history that they learn from.

-- name: champion()
-- Which model predictions are made by, and the hash that its body must have.
SELECT m.id, m.sha256 FROM perdure.model_posts p JOIN perdure.models m ON m.id = p.champion;

-- name: body(id)
-- The body of a model.
SELECT m.body FROM perdure.models m WHERE m.id = :id;

-- name: models(id)
-- All models or one, the newest first, each with what it does; without their bodies.
SELECT m.id, m.made_at, m.made_by, m.sha256, m.kind, m.trained_from, m.trained_to, m.moments, m.failures, m.facts, m.replaced, m.why,
    CASE m.id WHEN p.champion THEN 'champion' WHEN p.shadow THEN 'shadow' ELSE CASE WHEN m.retired_at IS NULL THEN 'candidate' ELSE 'retired' END END AS state,
    CASE m.id WHEN p.champion THEN p.champion_since WHEN p.shadow THEN p.shadow_since ELSE coalesce(m.retired_at, m.made_at) END AS since
FROM perdure.models m CROSS JOIN perdure.model_posts p
WHERE :id::integer IS NULL OR m.id = :id ORDER BY m.id DESC;

-- name: add(body, sha256, kind, trained_from, trained_to, moments, failures, facts, why, actor, reason)
-- Keep a model.
WITH added AS (
    INSERT INTO perdure.models (body, sha256, kind, trained_from, trained_to, moments, failures, facts, why, made_by)
    VALUES (:body, :sha256, :kind, :trained_from, :trained_to, :moments, :failures, :facts::jsonb, :why, :actor) RETURNING id
), events AS (
    INSERT INTO perdure.job_events (event, actor, reason, detail)
    SELECT 'model_trained', :actor, :reason::text, jsonb_build_object('model', a.id, 'sha256', :sha256) FROM added a
)
SELECT a.id FROM added a;

-- name: shade(id, why, actor, reason)
-- Have a model be compared with the champion; another one that was is retired.
WITH before AS (
    SELECT p.shadow FROM perdure.model_posts p
    WHERE p.champion IS DISTINCT FROM :id AND EXISTS (SELECT FROM perdure.models m WHERE m.id = :id) FOR UPDATE
), retired AS (
    UPDATE perdure.models m SET retired_at = now(), why = format('model %s took its place', :id::integer)
    FROM before b WHERE m.id = b.shadow AND m.id <> :id
), chosen AS (
    UPDATE perdure.models m SET retired_at = NULL, why = :why FROM before b WHERE m.id = :id RETURNING m.id
), events AS (
    INSERT INTO perdure.job_events (event, actor, reason, detail)
    SELECT 'model_shadowed', :actor, :reason::text, jsonb_build_object('model', c.id, 'why', :why::text) FROM chosen c
)
UPDATE perdure.model_posts p SET shadow = c.id, shadow_since = now() FROM chosen c RETURNING p.shadow AS id;

-- name: promote(id, why, actor, reason)
-- Have predictions be made by a model; the champion before it is retired, and remembered for a roll-back.
WITH before AS (
    SELECT p.champion FROM perdure.model_posts p
    WHERE p.champion IS DISTINCT FROM :id AND EXISTS (SELECT FROM perdure.models m WHERE m.id = :id) FOR UPDATE
), retired AS (
    UPDATE perdure.models m SET retired_at = now(), why = format('model %s took its place', :id::integer) FROM before b WHERE m.id = b.champion
), chosen AS (
    UPDATE perdure.models m SET retired_at = NULL, replaced = b.champion, why = :why FROM before b WHERE m.id = :id RETURNING m.id
), events AS (
    INSERT INTO perdure.job_events (event, actor, reason, detail)
    SELECT 'model_promoted', :actor, :reason::text, jsonb_build_object('model', c.id, 'replaces', b.champion, 'why', :why::text) FROM chosen c, before b
)
UPDATE perdure.model_posts p SET champion = c.id, champion_since = now(), shadow = nullif(p.shadow, c.id),
    shadow_since = CASE WHEN p.shadow <> c.id THEN p.shadow_since END
FROM chosen c RETURNING p.champion AS id;

-- name: roll_back(id, why, actor, reason)
-- Have predictions be made by the champion before this one, or without a model where there was none.
WITH gone AS (
    SELECT m.id, m.replaced FROM perdure.model_posts p JOIN perdure.models m ON m.id = p.champion WHERE m.id = :id FOR UPDATE OF p
), retired AS (
    UPDATE perdure.models m SET retired_at = now(), why = :why FROM gone g WHERE m.id = g.id
), back AS (
    UPDATE perdure.models m SET retired_at = NULL, why = format('model %s was rolled back', g.id) FROM gone g WHERE m.id = g.replaced RETURNING m.id
), events AS (
    INSERT INTO perdure.job_events (event, actor, reason, detail)
    SELECT 'model_rolled_back', :actor, :reason::text, jsonb_build_object('model', g.id, 'back_to', g.replaced, 'why', :why::text) FROM gone g
)
UPDATE perdure.model_posts p SET champion = (SELECT b.id FROM back b), champion_since = CASE WHEN EXISTS (SELECT FROM back) THEN now() END,
    shadow = nullif(p.shadow, g.replaced), shadow_since = CASE WHEN p.shadow IS DISTINCT FROM g.replaced THEN p.shadow_since END
FROM gone g RETURNING g.id, g.replaced;

-- name: retire(id, why)
-- A shadow was not good enough.
WITH gone AS (
    UPDATE perdure.model_posts p SET shadow = NULL, shadow_since = NULL WHERE p.shadow = :id RETURNING :id::integer AS id
)
UPDATE perdure.models m SET retired_at = now(), why = :why FROM gone g WHERE m.id = g.id RETURNING m.id;

-- name: forget(keep)
-- Delete old models that do nothing and that no champion goes back to; the newest stay.
DELETE FROM perdure.models m USING perdure.model_posts p
WHERE m.id IS DISTINCT FROM p.champion AND m.id IS DISTINCT FROM p.shadow
    AND m.id NOT IN (SELECT n.id FROM perdure.models n ORDER BY n.id DESC LIMIT :keep)
    AND NOT EXISTS (SELECT FROM perdure.models c WHERE c.replaced = m.id AND c.id = p.champion)
RETURNING m.id;

-- name: look(every_ms)
-- Take the turn to look after the models, if nobody has for so long.
UPDATE perdure.model_posts p SET looked_at = now()
WHERE p.looked_at < now() - :every_ms::bigint * interval '1 millisecond' RETURNING p.looked_at;

-- name: note(found)
-- What came of the last look.
UPDATE perdure.model_posts p SET found = :found;

-- name: found()
-- When a leader looked after the models last, and what came of it.
SELECT nullif(p.looked_at, '-infinity') AS looked_at, p.found FROM perdure.model_posts p;

-- name: lives()
-- Workers in an order that says nothing of how they fared, each with its end; a death while most of the fleet was silent is none of its own.
SELECT w.id, coalesce(w.stopped_at, now()) AS until, w.state = 'dead' AND NOT EXISTS (
        SELECT FROM perdure.job_events e WHERE e.event = 'fleet_silent' AND e.at BETWEEN w.stopped_at - interval '5 minutes' AND w.stopped_at
    ) AS died
FROM perdure.workers w ORDER BY md5(w.id::text);

-- name: samples(worker_id, most)
-- The newest samples of a worker, oldest first.
SELECT n.* FROM (
    SELECT s.* FROM perdure.worker_samples s WHERE s.worker_id = :worker_id ORDER BY s.at DESC LIMIT :most
) n ORDER BY n.at;

-- name: warnings()
-- What was done about workers, and when most of the fleet was silent, in order.
SELECT e.worker_id, e.event, e.at FROM perdure.job_events e
WHERE e.event IN ('worker_sick', 'worker_healthy', 'worker_evacuating', 'fleet_silent') AND coalesce(e.detail ->> 'shadow', '') <> 'true'
ORDER BY e.at;
