-- Flows: jobs that hang together by their dependencies.

-- name: neighbours(ids, most)
-- The edges of some jobs, whichever way they lead; `most` and one more for each job and direction.
SELECT e.parent_id, e.child_id, e.state AS edge, e.on_failure
FROM unnest(:ids::uuid[]) AS u (id)
CROSS JOIN LATERAL (
    (SELECT d.* FROM perdure.job_dependencies d WHERE d.child_id = u.id ORDER BY d.parent_id LIMIT :most::integer + 1)
    UNION ALL
    (SELECT d.* FROM perdure.job_dependencies d WHERE d.parent_id = u.id ORDER BY d.child_id LIMIT :most::integer + 1)
) e;

-- name: nodes(ids)
-- What a picture shows of some jobs; one that has been pruned has no state.
SELECT u.id, n.kind, n.queue, s.state, s.attempt, j.enqueued_at, s.since
FROM unnest(:ids::uuid[]) AS u (id)
LEFT JOIN perdure.jobs j ON j.id = u.id
LEFT JOIN perdure.lanes n ON n.lane = j.lane
LEFT JOIN LATERAL perdure.standing(u.id) s ON true
ORDER BY u.id;

-- name: heads(before, most)
-- The newest jobs below `before` that others wait for and that wait for none: each begins a flow. The ids of parents are found
-- by hopping from one to the next in the index, however many children each has.
WITH RECURSIVE parents AS (
    (SELECT d.parent_id FROM perdure.job_dependencies d WHERE d.parent_id < :before::uuid ORDER BY d.parent_id DESC LIMIT 1)
    UNION ALL
    SELECT (SELECT d.parent_id FROM perdure.job_dependencies d WHERE d.parent_id < p.parent_id ORDER BY d.parent_id DESC LIMIT 1)
    FROM parents p WHERE p.parent_id IS NOT NULL
)
SELECT p.parent_id AS id FROM parents p
WHERE p.parent_id IS NOT NULL AND NOT EXISTS (SELECT FROM perdure.job_dependencies d WHERE d.child_id = p.parent_id)
LIMIT :most;
