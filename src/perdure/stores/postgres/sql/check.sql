-- The promises, checked from the history. All statements read one snapshot; each gives, per promise and kind of violation,
-- how often it was found and up to ten examples in words. The order of events is the order of transaction ids: a claim gets its
-- id after it has seen the row that it takes, so the id of whatever made that row available is smaller, whoever wrote it.

-- name: room_to_sort()
-- Sort and hash a million rows in memory; holds until the end of the transaction.
SELECT set_config('work_mem', '256MB', true), set_config('enable_partitionwise_aggregate', 'off', true);

-- name: sizes()
-- How many rows each promise is judged by.
SELECT now() AS taken_at, b.bodies, b.keyed, e.executions, e.leased, e.slotted, l.live, l.running, l.slots,
    (SELECT count(*) FROM perdure.job_dependencies) AS edges,
    (SELECT count(*) FROM perdure.dead_letter_queue) AS letters,
    (SELECT count(*) FROM perdure.unique_keys) AS keys
FROM (SELECT count(*) AS bodies, count(unique_key) AS keyed FROM perdure.jobs) b
CROSS JOIN (SELECT count(*) AS executions, count(token) AS leased, count(slot) AS slotted FROM perdure.job_executions) e
CROSS JOIN (
    SELECT count(*) + (SELECT count(*) FROM perdure.blocked_jobs) + (SELECT count(*) FROM perdure.scheduled_jobs)
            + (SELECT count(*) FROM perdure.available_jobs) + (SELECT count(*) FROM perdure.parked_jobs) AS live,
        count(*) AS running, count(slot) AS slots
    FROM perdure.leases
) l;

-- name: places()
-- S1: each body is live in exactly one place, or its newest run has exactly one end.
WITH horizon AS (
    SELECT coalesce(min(to_timestamp(right(c.relname, 8), 'YYYYMMDD')), '-infinity') AS day
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'perdure.job_executions'::regclass AND c.relname ~ '_\d{8}$'
), live AS (
    SELECT job_id, run, 'blocked' AS place FROM perdure.blocked_jobs
    UNION ALL SELECT job_id, run, 'scheduled' FROM perdure.scheduled_jobs
    UNION ALL SELECT job_id, run, 'available' FROM perdure.available_jobs
    UNION ALL SELECT job_id, run, 'parked' FROM perdure.parked_jobs
    UNION ALL SELECT job_id, run, 'leased' FROM perdure.leases
), alive AS (
    SELECT job_id, count(*) AS places, min(run) AS run, string_agg(place, ' and ' ORDER BY place) AS place FROM live GROUP BY job_id
), newest AS MATERIALIZED (
    SELECT job_id, max(run) AS run, max(run) FILTER (WHERE state IN ('completed', 'cancelled', 'discarded')) AS ended_run,
        count(*) FILTER (WHERE state IN ('completed', 'cancelled', 'discarded')) AS ends,
        max(state) FILTER (WHERE state IN ('completed', 'cancelled', 'discarded')) AS state
    FROM perdure.job_executions GROUP BY job_id
), ended AS (
    SELECT n.job_id, n.run, CASE WHEN n.ends = 1 THEN n.state ELSE (
        SELECT max(e.state) FROM perdure.job_executions e
        WHERE e.job_id = n.job_id AND e.run = n.run AND e.state IN ('completed', 'cancelled', 'discarded')
    ) END AS state
    FROM newest n WHERE n.ended_run = n.run AND (n.ends > 1 OR n.state = 'discarded')
), opened AS (
    SELECT v.job_id, max((v.detail ->> 'run')::integer) AS run FROM perdure.job_events v
    WHERE v.event IN ('retried', 'replayed') AND v.job_id IS NOT NULL GROUP BY v.job_id
), letters AS (
    SELECT coalesce(d.job_id, e.job_id) AS job_id, d.run, d.job_id IS NOT NULL AS has_letter,
        e.state IS NOT DISTINCT FROM 'discarded' AND (d.run IS NULL OR d.run = e.run)
            AND NOT EXISTS (SELECT FROM alive a WHERE a.job_id = coalesce(d.job_id, e.job_id)) AS is_dead
    FROM perdure.dead_letter_queue d FULL JOIN (SELECT * FROM ended WHERE state = 'discarded') e ON e.job_id = d.job_id
), bad AS (
    SELECT CASE
            WHEN a.places > 1 THEN 'a job stands in several places'
            WHEN a.job_id IS NULL AND o.run > coalesce(n.run, 0) THEN 'a run that was opened has vanished'
            WHEN a.job_id IS NULL AND n.job_id IS NULL THEN 'a job is nowhere'
            WHEN a.job_id IS NULL THEN 'a run has neither ended nor a live row'
            WHEN a.run <= n.ended_run THEN 'a job is live in a run that has ended'
            ELSE 'a job is live in a run older than its newest'
        END AS clause,
        CASE
            WHEN a.job_id IS NULL AND o.run > coalesce(n.run, 0) THEN
                format('job %s: run %s was opened by an operator, and no table and no history knows it', j.id, o.run)
            WHEN a.job_id IS NULL AND n.job_id IS NULL THEN format('job %s is in no table and has no history', j.id)
            WHEN a.job_id IS NULL THEN format('job %s: run %s was begun, has no end, and no table holds the job', j.id, n.run)
            ELSE format('job %s is %s in run %s; its history knows run %s, ended: %s',
                j.id, a.place, a.run, coalesce(n.run::text, 'none'), coalesce(n.ended_run::text, 'none'))
        END AS words
    FROM perdure.jobs j CROSS JOIN horizon h
    LEFT JOIN alive a ON a.job_id = j.id
    LEFT JOIN newest n ON n.job_id = j.id
    LEFT JOIN opened o ON o.job_id = j.id
    WHERE a.places > 1 OR a.run <= n.ended_run OR a.run < n.run
        OR (a.job_id IS NULL AND (n.ended_run IS DISTINCT FROM n.run OR o.run > coalesce(n.run, 0)))
        OR (a.job_id IS NULL AND n.job_id IS NULL AND j.enqueued_at >= h.day)
    UNION ALL
    SELECT 'a run has several ends', format('job %s: run %s ended %s times', e.job_id, e.run, count(*))
    FROM perdure.job_executions e
    WHERE e.state IN ('completed', 'cancelled', 'discarded') AND e.job_id IN (SELECT n.job_id FROM newest n WHERE n.ends > 1)
    GROUP BY e.job_id, e.run HAVING count(*) > 1
    UNION ALL
    SELECT 'a discarded job has no dead letter', format('job %s is discarded, has no dead letter, and nobody acknowledged it', l.job_id)
    FROM letters l
    WHERE NOT l.has_letter AND l.is_dead
        AND NOT EXISTS (SELECT FROM perdure.job_events v WHERE v.job_id = l.job_id AND v.event = 'dead_letter_discarded')
    UNION ALL
    SELECT 'a dead letter of a job that is not discarded', format('job %s has a dead letter of run %s but is not discarded in it', l.job_id, l.run)
    FROM letters l WHERE l.has_letter AND NOT l.is_dead
)
SELECT 'S1' AS promise, b.clause, count(*) AS violations, array_agg(b.words) FILTER (WHERE b.number <= 10) AS examples
FROM (SELECT bad.*, row_number() OVER (PARTITION BY clause) AS number FROM bad) b GROUP BY b.clause ORDER BY b.clause;

-- name: orphans()
-- S1: whatever names a job names one that is there. History and edges of days whose bodies were dropped are beyond the horizon.
WITH days AS (
    SELECT to_timestamp(right(c.relname, 8), 'YYYYMMDD') AS day
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'perdure.jobs'::regclass AND c.relname ~ '_\d{8}$'
), named AS (
    SELECT job_id, 'blocked job' AS thing FROM perdure.blocked_jobs
    UNION ALL SELECT job_id, 'scheduled job' FROM perdure.scheduled_jobs
    UNION ALL SELECT job_id, 'available job' FROM perdure.available_jobs
    UNION ALL SELECT job_id, 'parked job' FROM perdure.parked_jobs
    UNION ALL SELECT job_id, 'lease' FROM perdure.leases
    UNION ALL SELECT job_id, 'dead letter' FROM perdure.dead_letter_queue
    UNION ALL SELECT job_id, 'unique key' FROM perdure.unique_keys
    UNION ALL SELECT job_id, 'request to cancel' FROM perdure.cancel_requests
    UNION ALL SELECT job_id, 'report of progress' FROM perdure.job_progress
    UNION ALL SELECT child_id, 'edge to a parent' FROM perdure.job_dependencies
    UNION ALL SELECT parent_id, 'edge to a child' FROM perdure.job_dependencies
    UNION ALL SELECT job_id, 'row of history' FROM perdure.job_executions
), missing AS MATERIALIZED (
    SELECT n.job_id, n.thing FROM named n WHERE NOT EXISTS (SELECT FROM perdure.jobs j WHERE j.id = n.job_id)
), bad AS (
    SELECT m.thing || ' without a body' AS clause, format('job %s has a %s but no body', m.job_id, m.thing) AS words
    FROM missing m
    WHERE m.thing NOT IN ('row of history', 'edge to a parent', 'edge to a child')
        OR date_trunc('day', perdure.made_at(m.job_id)) IN (SELECT d.day FROM days d)
)
SELECT 'S1' AS promise, b.clause, count(*) AS violations, array_agg(b.words) FILTER (WHERE b.number <= 10) AS examples
FROM (SELECT bad.*, row_number() OVER (PARTITION BY clause) AS number FROM bad) b GROUP BY b.clause ORDER BY b.clause;

-- name: leases_in_order()
-- S2, S3 and the counts of S4: the leases of each job in the order of their claims, those that stand included.
WITH held AS NOT MATERIALIZED (
    SELECT job_id, token, run, perdure.in_order(claim_xid) AS claim_xid, perdure.in_order(settle_xid) AS settle_xid, attempt, crashes,
        interruptions, outcome, state
    FROM perdure.job_executions WHERE token IS NOT NULL
    UNION ALL
    SELECT job_id, token, run, perdure.in_order(claim_xid), NULL, attempt, crashes, interruptions, NULL, NULL FROM perdure.leases
), pairs AS MATERIALIZED (
    SELECT * FROM (SELECT job_id, token, run, claim_xid, attempt, crashes, interruptions, outcome,
        lag(token) OVER w AS token_before, lag(run) OVER w AS run_before, lag(settle_xid) OVER w AS settled_before,
        lag(attempt) OVER w AS attempt_before, lag(crashes) OVER w AS crashes_before,
        lag(interruptions) OVER w AS interruptions_before, lag(outcome) OVER w AS outcome_before, lag(state) OVER w AS state_before
    FROM held WINDOW w AS (PARTITION BY job_id ORDER BY claim_xid, settle_xid)) p WHERE token_before IS NOT NULL
), bad AS (
    SELECT 'S2' AS promise, 'two leases of a job overlap' AS clause,
        format('job %s: lease %s was claimed by transaction %s before lease %s had ended (%s)', p.job_id, p.token, p.claim_xid,
            p.token_before, coalesce('transaction ' || p.settled_before::text, 'it still stands')) AS words
    FROM pairs p WHERE p.settled_before IS NULL OR p.settled_before >= p.claim_xid
    UNION ALL
    SELECT 'S2', 'a lease was never claimed', format('job %s: lease %s has no transaction of its claim', h.job_id, h.token)
    FROM held h WHERE h.claim_xid IS NULL
    UNION ALL
    SELECT 'S2', 'a token was issued twice', format('token %s belongs to %s leases of %s', h.token, count(*), string_agg(DISTINCT h.job_id::text, ', '))
    FROM held h JOIN (SELECT token FROM held GROUP BY token HAVING count(*) > 1) t USING (token) GROUP BY h.token
    UNION ALL
    SELECT 'S3', 'an outcome was accepted after a later claim',
        format('job %s: lease %s was settled by transaction %s, but lease %s had been claimed by transaction %s', p.job_id, p.token_before,
            p.settled_before, p.token, p.claim_xid)
    FROM pairs p WHERE p.settled_before > p.claim_xid
    UNION ALL
    SELECT 'S3', 'an attempt follows the accepted end of its run',
        format('job %s: lease %s was claimed in run %s, which lease %s had already left %s', p.job_id, p.token, p.run, p.token_before, p.state_before)
    FROM pairs p WHERE p.run_before >= p.run AND p.state_before IN ('completed', 'cancelled', 'discarded')
    UNION ALL
    SELECT 'S4', 'an attempt is misnumbered',
        format('job %s: attempt %s follows attempt %s, which %s', p.job_id, p.attempt, p.attempt_before, p.outcome_before)
    FROM pairs p WHERE p.run_before = p.run
        AND p.attempt <> p.attempt_before + CASE WHEN p.outcome_before IN ('failed', 'timed_out') THEN 1 ELSE 0 END
    UNION ALL
    SELECT 'S4', 'crashes or interruptions are miscounted',
        format('job %s: attempt %s ends %s with %s crashes and %s interruptions after %s and %s', p.job_id, p.attempt,
            coalesce(p.outcome::text, 'not yet'), p.crashes, p.interruptions, p.crashes_before, p.interruptions_before)
    FROM pairs p WHERE p.run_before = p.run AND (
        p.crashes - p.crashes_before NOT BETWEEN 0 AND (p.outcome IS NOT DISTINCT FROM 'crashed')::int
        OR p.interruptions - p.interruptions_before <> (p.outcome IS NOT DISTINCT FROM 'interrupted')::int)
)
SELECT b.promise, b.clause, count(*) AS violations, array_agg(b.words) FILTER (WHERE b.number <= 10) AS examples
FROM (SELECT bad.*, row_number() OVER (PARTITION BY promise, clause) AS number FROM bad) b
GROUP BY b.promise, b.clause ORDER BY b.promise, b.clause;

-- name: limits(crash_limit, interruption_limit)
-- S4: what each run used up, against what its job allows. Runs that began before the oldest day of history are counted from there.
WITH horizon AS (
    SELECT coalesce(min(to_timestamp(right(c.relname, 8), 'YYYYMMDD')), '-infinity') AS day
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'perdure.job_executions'::regclass AND c.relname ~ '_\d{8}$'
), used AS MATERIALIZED (
    SELECT e.job_id, e.run, count(*) FILTER (WHERE e.outcome IN ('failed', 'timed_out')) AS failures, max(e.crashes) AS crashes,
        max(e.interruptions) AS interruptions, count(*) FILTER (WHERE e.outcome = 'interrupted') AS interrupted,
        count(*) FILTER (WHERE e.outcome = 'crashed') AS crashed, min(e.attempt) AS first, max(e.attempt) AS last
    FROM perdure.job_executions e WHERE e.token IS NOT NULL GROUP BY e.job_id, e.run
), bases AS MATERIALIZED (
    -- A run that a restore opened goes on from the counts of the cut, which its first record carries.
    SELECT e.job_id, e.run, max(e.attempt) AS attempt, max(e.crashes) AS crashes, max(e.interruptions) AS interruptions
    FROM perdure.job_executions e WHERE e.token IS NULL AND e.outcome = 'released' GROUP BY e.job_id, e.run
), waiting AS (
    SELECT job_id, run, attempt, crashes, interruptions FROM perdure.scheduled_jobs
    UNION ALL SELECT job_id, run, attempt, crashes, interruptions FROM perdure.available_jobs
    UNION ALL SELECT job_id, run, attempt, crashes, interruptions FROM perdure.parked_jobs
    UNION ALL SELECT job_id, run, (attempt - 1)::smallint, crashes, interruptions FROM perdure.leases
), over AS MATERIALIZED (
    SELECT u.*, j.max_attempts, coalesce(j.crash_limit, :crash_limit::integer) AS crash_limit, j.enqueued_at >= h.day AS whole,
        coalesce(b.attempt, 0) AS attempts_before, coalesce(b.crashes, 0) AS crashes_before, coalesce(b.interruptions, 0) AS interruptions_before
    FROM used u JOIN perdure.jobs j ON j.id = u.job_id CROSS JOIN horizon h
    LEFT JOIN bases b ON b.job_id = u.job_id AND b.run = u.run
    WHERE u.failures + coalesce(b.attempt, 0) > j.max_attempts OR u.last > j.max_attempts
        OR u.crashes > coalesce(j.crash_limit, :crash_limit::integer)
        OR greatest(u.interruptions, u.interrupted + coalesce(b.interruptions, 0)) > :interruption_limit::integer
        OR j.enqueued_at >= h.day AND (u.first <> 1 + coalesce(b.attempt, 0) OR u.crashes > u.crashed + coalesce(b.crashes, 0)
            OR u.interruptions <> u.interrupted + coalesce(b.interruptions, 0))
), bad AS (
    SELECT c.clause, format('job %s, run %s: %s', o.job_id, o.run, c.words) AS words
    FROM over o
    CROSS JOIN LATERAL (VALUES
        (o.failures + o.attempts_before > o.max_attempts OR o.last > o.max_attempts, 'more failures than attempts allowed',
            format('%s failures and attempt %s, %s allowed', o.failures + o.attempts_before, o.last, o.max_attempts)),
        (o.crashes > o.crash_limit, 'more crashes alone than allowed', format('%s crashes alone, %s allowed', o.crashes, o.crash_limit)),
        (greatest(o.interruptions, o.interrupted + o.interruptions_before) > :interruption_limit::integer, 'more interruptions than allowed',
            format('%s interruptions, %s allowed', greatest(o.interruptions, o.interrupted + o.interruptions_before), :interruption_limit::integer)),
        (o.whole AND o.first <> 1 + o.attempts_before, 'an attempt is misnumbered', format('the first attempt has number %s', o.first)),
        (o.whole AND (o.crashes > o.crashed + o.crashes_before OR o.interruptions <> o.interrupted + o.interruptions_before),
            'crashes or interruptions are miscounted', format('counted %s crashes and %s interruptions; the history has %s and %s', o.crashes,
                o.interruptions, o.crashed + o.crashes_before, o.interrupted + o.interruptions_before))
    ) AS c (wrong, clause, words)
    WHERE c.wrong
    UNION ALL
    SELECT 'a live row miscounts', format('job %s, run %s: its row says %s failures, %s crashes, %s interruptions; its history %s, %s, %s',
        w.job_id, w.run, w.attempt, w.crashes, w.interruptions, c.failures, c.crashes, c.interruptions)
    FROM waiting w JOIN perdure.jobs j ON j.id = w.job_id CROSS JOIN horizon h
    LEFT JOIN used u ON u.job_id = w.job_id AND u.run = w.run
    LEFT JOIN bases b ON b.job_id = w.job_id AND b.run = w.run
    CROSS JOIN LATERAL (
        SELECT coalesce(u.failures, 0) + coalesce(b.attempt, 0) AS failures, coalesce(u.crashes, b.crashes, 0) AS crashes,
            coalesce(u.interrupted, 0) + coalesce(b.interruptions, 0) AS interruptions
    ) c
    WHERE j.enqueued_at >= h.day AND (w.attempt, w.crashes, w.interruptions) <> (c.failures, c.crashes, c.interruptions)
)
SELECT 'S4' AS promise, b.clause, count(*) AS violations, array_agg(b.words) FILTER (WHERE b.number <= 10) AS examples
FROM (SELECT bad.*, row_number() OVER (PARTITION BY clause) AS number FROM bad) b GROUP BY b.clause ORDER BY b.clause;

-- name: edges()
-- S5: a child's first claim comes after an end of each parent that its edge permits; and what a pending job waits for is what its
-- edges say.
WITH horizon AS (
    SELECT coalesce(min(to_timestamp(right(c.relname, 8), 'YYYYMMDD')), '-infinity') AS day
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'perdure.job_executions'::regclass AND c.relname ~ '_\d{8}$'
), starts AS (
    SELECT s.job_id, min(s.claim_xid) AS claim_xid FROM (
        SELECT e.job_id, perdure.in_order(e.claim_xid) AS claim_xid FROM perdure.job_executions e WHERE e.token IS NOT NULL
        UNION ALL SELECT l.job_id, perdure.in_order(l.claim_xid) FROM perdure.leases l
    ) s
    WHERE s.job_id IN (SELECT d.child_id FROM perdure.job_dependencies d) GROUP BY s.job_id
), ends AS (
    SELECT e.job_id, min(perdure.in_order(e.settle_xid)) AS ended,
        min(perdure.in_order(e.settle_xid)) FILTER (WHERE e.state = 'completed') AS completed
    FROM perdure.job_executions e
    WHERE e.state IN ('completed', 'cancelled', 'discarded') AND e.job_id IN (SELECT d.parent_id FROM perdure.job_dependencies d)
    GROUP BY e.job_id
), edges AS MATERIALIZED (
    SELECT d.child_id, d.parent_id, d.on_failure, d.state, s.claim_xid, p.enqueued_at >= h.day AS known,
        CASE WHEN d.on_failure = 'run' THEN e.ended ELSE e.completed END AS permitted
    FROM perdure.job_dependencies d CROSS JOIN horizon h
    JOIN perdure.jobs p ON p.id = d.parent_id
    LEFT JOIN starts s ON s.job_id = d.child_id
    LEFT JOIN ends e ON e.job_id = d.parent_id
), open AS (
    SELECT d.child_id, count(*) AS edges FROM perdure.job_dependencies d WHERE d.state = 'waiting' GROUP BY d.child_id
), bad AS (
    SELECT 'a child started before its parent' AS clause,
        format('job %s was claimed by transaction %s; its parent %s (on failure: %s) %s', e.child_id, e.claim_xid, e.parent_id, e.on_failure,
            coalesce('permitted that only with transaction ' || e.permitted::text, 'has never permitted that')) AS words
    FROM edges e
    WHERE e.claim_xid IS NOT NULL AND e.known AND (e.permitted IS NULL OR e.permitted >= e.claim_xid)
    UNION ALL
    SELECT 'an edge is satisfied without cause', format('job %s: its edge from %s is satisfied, but the parent has not ended so', e.child_id, e.parent_id)
    FROM edges e WHERE e.state = 'satisfied' AND e.known AND e.permitted IS NULL
    UNION ALL
    SELECT 'a pending job waits for a wrong number of parents',
        format('job %s waits for %s parents, but %s of its edges are open', b.job_id, b.waiting, coalesce(o.edges, 0))
    FROM perdure.blocked_jobs b LEFT JOIN open o ON o.child_id = b.job_id WHERE b.waiting <> coalesce(o.edges, 0) OR b.waiting = 0
    UNION ALL
    SELECT 'a pending job waits for a parent that has ended',
        format('job %s waits for %s, which has ended as its edge permits', e.child_id, e.parent_id)
    FROM edges e JOIN perdure.blocked_jobs b ON b.job_id = e.child_id
    WHERE e.state = 'waiting' AND b.verified AND e.permitted IS NOT NULL
        -- A restore may have opened the parent again; its child waits for that run.
        AND EXISTS (SELECT FROM perdure.endings(ARRAY[e.parent_id]))
)
SELECT 'S5' AS promise, b.clause, count(*) AS violations, array_agg(b.words) FILTER (WHERE b.number <= 10) AS examples
FROM (SELECT bad.*, row_number() OVER (PARTITION BY clause) AS number FROM bad) b GROUP BY b.clause ORDER BY b.clause;

-- name: slots()
-- S6: no two leases hold the same slot of a key at once, and every lease of a job with a key holds a slot within its limit.
WITH held AS (
    SELECT job_id, token, concurrency_key, slot, perdure.in_order(claim_xid) AS claim_xid, perdure.in_order(settle_xid) AS settle_xid
    FROM perdure.job_executions WHERE token IS NOT NULL
    UNION ALL
    SELECT job_id, token, concurrency_key, slot, perdure.in_order(claim_xid), NULL FROM perdure.leases
), pairs AS (
    SELECT job_id, token, concurrency_key, slot, claim_xid, lag(token) OVER w AS token_before, lag(job_id) OVER w AS job_before,
        lag(settle_xid) OVER w AS settled_before
    FROM held WHERE concurrency_key IS NOT NULL WINDOW w AS (PARTITION BY concurrency_key, slot ORDER BY claim_xid, settle_xid)
), bad AS (
    SELECT 'two leases hold one slot' AS clause,
        format('slot %s of key %s was claimed for job %s by transaction %s while job %s held it (%s)', p.slot, p.concurrency_key, p.job_id,
            p.claim_xid, p.job_before, coalesce('until transaction ' || p.settled_before::text, 'still')) AS words
    FROM pairs p WHERE p.token_before IS NOT NULL AND (p.settled_before IS NULL OR p.settled_before >= p.claim_xid)
    UNION ALL
    SELECT 'a lease is outside its limit', format('job %s ran in slot %s of key %s; its limit is %s of key %s', h.job_id,
        coalesce(h.slot::text, 'none'), coalesce(h.concurrency_key, 'none'), coalesce(j.concurrency_limit::text, 'none'),
        coalesce(j.concurrency_key, 'none'))
    FROM perdure.jobs j JOIN held h ON h.job_id = j.id
    WHERE (j.concurrency_key IS NOT NULL OR h.concurrency_key IS NOT NULL)
        AND (h.concurrency_key IS DISTINCT FROM j.concurrency_key OR h.slot IS NULL OR h.slot NOT BETWEEN 1 AND j.concurrency_limit)
)
SELECT 'S6' AS promise, b.clause, count(*) AS violations, array_agg(b.words) FILTER (WHERE b.number <= 10) AS examples
FROM (SELECT bad.*, row_number() OVER (PARTITION BY clause) AS number FROM bad) b GROUP BY b.clause ORDER BY b.clause;

-- name: keys()
-- S7: every job that its unique key counts now holds the key, so that there is one at most; and no two jobs whose key counts
-- running ones were at work at once, from the first claim of a run to its end.
WITH bodies AS MATERIALIZED (
    SELECT j.id, j.unique_key, j.unique_states, j.unique_until FROM perdure.jobs j WHERE j.unique_key IS NOT NULL
), live AS (
    SELECT job_id, 'pending'::perdure.job_state AS state, run FROM perdure.blocked_jobs
    UNION ALL SELECT job_id, (CASE WHEN retry THEN 'retryable' ELSE 'scheduled' END)::perdure.job_state, run FROM perdure.scheduled_jobs
    UNION ALL SELECT job_id, 'available', run FROM perdure.available_jobs
    UNION ALL SELECT job_id, 'available', run FROM perdure.parked_jobs
    UNION ALL SELECT job_id, 'running', run FROM perdure.leases
), ends AS (
    SELECT DISTINCT ON (e.job_id) e.job_id, e.state FROM perdure.job_executions e
    WHERE e.state IN ('completed', 'cancelled', 'discarded') AND e.job_id IN (SELECT b.id FROM bodies b)
    ORDER BY e.job_id, e.run DESC
), present AS MATERIALIZED (
    SELECT b.*, coalesce(l.state, e.state) AS state, l.run,
        coalesce(perdure.counts_in(b.unique_states, coalesce(l.state, e.state)), false) AS counts
    FROM bodies b LEFT JOIN live l ON l.job_id = b.id LEFT JOIN ends e ON e.job_id = b.id
), spans AS (
    SELECT s.job_id, b.unique_key, s.run, min(s.claim_xid) AS begun,
        CASE WHEN bool_or(p.run = s.run) THEN NULL
            ELSE max(s.settle_xid) FILTER (WHERE s.state IN ('completed', 'cancelled', 'discarded')) END AS ended
    FROM (
        SELECT e.job_id, e.run, perdure.in_order(e.claim_xid) AS claim_xid, perdure.in_order(e.settle_xid) AS settle_xid, e.state
        FROM perdure.job_executions e
        UNION ALL SELECT l.job_id, l.run, perdure.in_order(l.claim_xid), NULL, NULL FROM perdure.leases l
    ) s
    JOIN bodies b ON b.id = s.job_id AND b.unique_until IS NULL AND perdure.counts_in(b.unique_states, 'running')
    LEFT JOIN present p ON p.id = s.job_id
    GROUP BY s.job_id, b.unique_key, s.run
), neighbours AS (
    SELECT s.*, lag(s.job_id) OVER w AS job_before, lag(s.ended) OVER w AS ended_before
    FROM spans s WHERE s.begun IS NOT NULL WINDOW w AS (PARTITION BY s.unique_key ORDER BY s.begun, s.ended)
), bad AS (
    SELECT 'a job that counts does not hold its key' AS clause,
        format('job %s is %s, which key %s counts, but %s', p.id, p.state, p.unique_key,
            coalesce('job ' || k.job_id::text || ' holds it', 'nobody holds it')) AS words
    FROM present p LEFT JOIN perdure.unique_keys k ON k.key = p.unique_key
    WHERE p.counts AND (p.unique_until IS NULL OR p.unique_until > now()) AND k.job_id IS DISTINCT FROM p.id
    UNION ALL
    SELECT 'a key is held by a job that does not count', format('job %s holds key %s but is %s, which does not count', k.job_id, k.key, p.state)
    FROM perdure.unique_keys k JOIN present p ON p.id = k.job_id
    WHERE (NOT p.counts OR p.unique_key <> k.key) AND (k.expires_at IS NULL OR k.expires_at > now())
    UNION ALL
    SELECT 'two jobs of one key were at work at once', format('jobs %s and %s of key %s: the second was claimed by transaction %s, %s',
        o.job_before, o.job_id, o.unique_key, o.begun, coalesce('the first ended with transaction ' || o.ended_before::text, 'the first is still live'))
    FROM neighbours o WHERE o.job_before <> o.job_id AND (o.ended_before IS NULL OR o.ended_before >= o.begun)
)
SELECT 'S7' AS promise, b.clause, count(*) AS violations, array_agg(b.words) FILTER (WHERE b.number <= 10) AS examples
FROM (SELECT bad.*, row_number() OVER (PARTITION BY clause) AS number FROM bad) b GROUP BY b.clause ORDER BY b.clause;

-- name: left_over()
-- L1: what is live although nothing holds it back. A job is held by a time that has not come, and by an open edge from a parent
-- that has ended or is held itself.
WITH RECURSIVE live AS (
    SELECT job_id, 'pending' AS state, run_at FROM perdure.blocked_jobs
    UNION ALL SELECT job_id, CASE WHEN retry THEN 'retryable' ELSE 'scheduled' END, run_at FROM perdure.scheduled_jobs
    UNION ALL SELECT job_id, 'available', NULL FROM perdure.available_jobs
    UNION ALL SELECT job_id, 'available', NULL FROM perdure.parked_jobs
    UNION ALL SELECT job_id, 'running', NULL FROM perdure.leases
), held AS (
    SELECT l.job_id FROM live l WHERE l.run_at > now()
    UNION
    SELECT d.child_id FROM perdure.job_dependencies d
    WHERE d.state = 'waiting' AND NOT EXISTS (SELECT FROM live p WHERE p.job_id = d.parent_id)
        AND EXISTS (SELECT FROM perdure.job_executions e WHERE e.job_id = d.parent_id AND e.state IN ('completed', 'cancelled', 'discarded'))
    UNION
    SELECT d.child_id FROM perdure.job_dependencies d JOIN held h ON h.job_id = d.parent_id WHERE d.state = 'waiting'
), bad AS (
    SELECT CASE WHEN l.state = 'running' THEN 'a lease is left over' ELSE 'a job is left over' END AS clause,
        format('job %s is still %s and nothing holds it back', l.job_id, l.state) AS words
    FROM live l WHERE l.state = 'running' OR NOT EXISTS (SELECT FROM held h WHERE h.job_id = l.job_id)
)
SELECT 'L1' AS promise, b.clause, count(*) AS violations, array_agg(b.words) FILTER (WHERE b.number <= 10) AS examples
FROM (SELECT bad.*, row_number() OVER (PARTITION BY clause) AS number FROM bad) b GROUP BY b.clause ORDER BY b.clause;

-- name: live()
-- How many jobs are live, by state.
SELECT 'pending' AS state, count(*) AS jobs FROM perdure.blocked_jobs
UNION ALL SELECT CASE WHEN s.retry THEN 'retryable' ELSE 'scheduled' END, count(*) FROM perdure.scheduled_jobs s GROUP BY s.retry
UNION ALL SELECT 'available', (SELECT count(*) FROM perdure.available_jobs) + (SELECT count(*) FROM perdure.parked_jobs)
UNION ALL SELECT 'running', count(*) FROM perdure.leases;
